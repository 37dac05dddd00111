//! One instruction of a Dockerfile.

use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::tree::{Tree, TreeFile};

use super::{files, run};
use crate::ImageError;
use crate::beneath::Meta;
use crate::dockerfile::{Copy, Form, Instruction, Kind, expand};
use crate::image::Chain;
use crate::images::Inner;
use crate::plan::Change;
use crate::progress::Progress;
use crate::stack::Stack;
use crate::trees::{self, Placed};

/// Where the files that COPY may name are in their tree.
const CONTEXT: &str = "/context/";

pub(crate) async fn line(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    step: Digest,
    instruction: Instruction,
    context: Option<Digest>,
    progress: &mut Progress<'_>,
) -> Result<(), ImageError> {
    let title = instruction.text.as_str();
    let refuse = |what: String, hint: &str| ImageError::BadRecipe {
        message: format!("Dockerfile line {}: `{title}`: {what}", instruction.line),
        hint: hint.into(),
    };
    let mut key = chain.next_key(step, None);
    match instruction.kind {
        Kind::Run(form) => {
            // Arguments count: the same words mean something else with others.
            key = chain.next_key(step, Some(Digest::of_json(&(&progress.args, &progress.shell))));
            let argv = words(form, &progress.shell);
            let env =
                progress.args.clone().into_iter().filter(|(name, _)| !chain.config.env.contains_key(name));
            let program = run::Program { argv, env: env.collect(), secrets: Vec::new() };
            return run::run(inner, chain, key, program, title, progress).await;
        }
        Kind::Copy(copy) => {
            let context = context.ok_or_else(|| {
                refuse("there are no files to copy".into(), "give the build a context folder")
            })?;
            let tree = inner.context.blobs.tree(context).await.ok_or(ImageError::TreeMissing(context))?;
            let stack = Stack::new(inner.context.paths(&chain.stack));
            let copy = expand_copy(copy, chain, progress);
            let (chosen, placed) =
                place(&copy, &tree, chain, &stack).map_err(|(what, hint)| refuse(what, hint))?;
            key = chain.next_key(step, Some(Digest::of_json(&chosen)));
            return files::place(inner, chain, key, placed, title, progress).await;
        }
        Kind::Workdir(path) => {
            let path = chain.config.absolute(&expand_here(&path, chain, progress));
            files::workdir(inner, chain, key, &path, title, progress).await?;
            chain.config.apply(Change::Workdir(path));
            chain.key = key;
            return Ok(());
        }
        Kind::User(user) => {
            let user = expand_here(&user, chain, progress);
            if !matches!(user.split(':').next(), Some("root" | "0")) {
                return Err(refuse(
                    "only root builds and runs here".into(),
                    "leave the line out: the container's root has no power outside of it",
                ));
            }
            chain.config.user = None;
        }
        Kind::Env(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), expand_here(value, chain, progress)));
            let vars = pairs.collect();
            chain.config.apply(Change::Env(vars));
        }
        Kind::Arg { name, default } => {
            if let Some(default) = default {
                let value = expand_here(&default, chain, progress);
                progress.args.insert(name, value);
            }
        }
        Kind::Cmd(form) => chain.config.apply(Change::Cmd(words(form, &progress.shell))),
        Kind::Entrypoint(form) => chain.config.apply(Change::Entrypoint(words(form, &progress.shell))),
        Kind::Shell(shell) => progress.shell = shell,
        Kind::Nothing => {}
    }
    chain.key = key;
    progress.announce(title, true).await;
    Ok(())
}

fn expand_here(text: &str, chain: &Chain, progress: &Progress<'_>) -> String {
    // ENV wins over ARG, as Docker has it.
    expand(text, &|name| chain.config.env.get(name).or_else(|| progress.args.get(name)).cloned())
}

fn expand_copy(copy: Copy, chain: &Chain, progress: &Progress<'_>) -> Copy {
    let expand = |word: &String| expand_here(word, chain, progress);
    Copy {
        sources: copy.sources.iter().map(expand).collect(),
        target: expand(&copy.target),
        owner: copy.owner.as_ref().map(expand),
        mode: copy.mode,
    }
}

fn words(form: Form, shell: &[String]) -> Vec<String> {
    match form {
        Form::Exec(words) => words,
        Form::Shell(text) if shell.is_empty() => vec!["/bin/sh".into(), "-c".into(), text],
        Form::Shell(text) => shell.iter().cloned().chain([text]).collect(),
    }
}

type Refusal = (String, &'static str);

/// Which files of the context are meant, and where each goes.
fn place<'a>(
    copy: &Copy,
    tree: &'a Tree,
    chain: &Chain,
    stack: &Stack,
) -> Result<(Vec<&'a TreeFile>, Vec<Placed>), Refusal> {
    let (uid, gid) = owner(copy.owner.as_deref(), stack)?;
    let target = chain.config.absolute(&copy.target);
    let into = copy.target.ends_with('/') || copy.target == "." || stack.is_folder(target.as_bytes());
    let (mut chosen, mut placed) = (Vec::new(), Vec::new());
    for source in &copy.sources {
        let pattern = normal(source);
        let before = placed.len();
        for file in &tree.files {
            let Some(path) = file.path.strip_prefix(CONTEXT) else { continue };
            let Some(rest) = matched(&pattern, path) else { continue };
            let name = match (rest, into) {
                // What lies below a named folder goes below the target.
                (Some(below), _) => format!("{target}/{below}"),
                (None, true) => format!("{target}/{}", path.rsplit('/').next().unwrap_or(path)),
                (None, false) => target.clone(),
            };
            let [mut one] = <[Placed; 1]>::try_from(trees::placed(&Tree { files: vec![file.clone()] }))
                .expect("one file is placed once");
            one.path = name.replace("//", "/").into_bytes();
            one.meta = Meta { uid, gid, mode: copy.mode.unwrap_or(one.meta.mode), mtime_s: None };
            chosen.push(file);
            placed.push(one);
        }
        if placed.len() == before {
            return Err((
                format!("no file of the context matches `{source}`"),
                "check the path, which begins at the context's folder, and .dockerignore",
            ));
        }
    }
    Ok((chosen, placed))
}

/// The pattern without `./`, `/` in front and `/` behind; empty: everything.
fn normal(source: &str) -> String {
    let parts: Vec<_> = source.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// Whether the pattern names the file (`Some(None)`) or a folder it is in (`Some(Some(path below))`).
fn matched<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    if pattern.is_empty() {
        return Some(Some(path));
    }
    let mut rest = path;
    for part in pattern.split('/') {
        let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
        if head.is_empty() || !glob(part.as_bytes(), head.as_bytes()) {
            return None;
        }
        rest = tail;
    }
    Some((!rest.is_empty()).then_some(rest))
}

/// `*`, `?`, `[a-z]` and `\` within one part of a path. On a mismatch only the last `*` tries again, which is enough
/// and keeps a hostile pattern from taking for ever.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match (name.get(n), pattern.get(p)) {
            (None, None) => return true,
            (Some(&c), Some(_)) => {
                let (matches, length) = one(&pattern[p..], c);
                if matches {
                    (p, n) = (p + length, n + 1);
                    continue;
                }
            }
            (None, Some(_)) => return false,
            (Some(_), None) => {}
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (p, n) = (after, from + 1);
    }
}

/// Whether the pattern's first element means this byte, and how long the element is.
fn one(pattern: &[u8], c: u8) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'\\', escaped, ..] => (*escaped == c, 2),
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else { return (c == b'[', 1) };
            let (not, set) = match &rest[..end] {
                [b'^' | b'!', set @ ..] => (true, set),
                set => (false, set),
            };
            let (mut at, mut inside) = (0, false);
            while at < set.len() {
                let range = at + 2 < set.len() && set[at + 1] == b'-';
                inside |= if range { (set[at]..=set[at + 2]).contains(&c) } else { set[at] == c };
                at += if range { 3 } else { 1 };
            }
            (inside != not, end + 2)
        }
        [first, ..] => (*first == c, 1),
        [] => (false, 0),
    }
}

/// `user[:group]` as numbers, names looked up in the image.
fn owner(text: Option<&str>, stack: &Stack) -> Result<(u32, u32), Refusal> {
    let Some(text) = text else { return Ok((0, 0)) };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let look = |file: &str, name: &str| -> Option<(u32, u32)> {
        let text = stack.read(file)?;
        let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap_or(0));
        Some((fields.next()?, fields.next().unwrap_or(0)))
    };
    let unknown = |name: &str| {
        (
            format!("the image has no user or group `{name}`"),
            "give its number, or create it first with RUN useradd",
        )
    };
    let (uid, own_group) = match user.parse() {
        Ok(uid) => (uid, uid),
        Err(_) => look("/etc/passwd", user).ok_or_else(|| unknown(user))?,
    };
    let gid = match group {
        "" => own_group,
        group => match group.parse() {
            Ok(gid) => gid,
            Err(_) => look("/etc/group", group).ok_or_else(|| unknown(group))?.0,
        },
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name) in [
            ("*.py", "a.py"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("*", "x"),
            ("a*b*c", "a1b2c"),
        ] {
            assert!(glob(pattern.as_bytes(), name.as_bytes()), "{pattern}");
        }
        for (pattern, name) in [("*.py", "a.pyc"), ("[a-c]x", "dx"), ("a", "ab"), ("?", "")] {
            assert!(!glob(pattern.as_bytes(), name.as_bytes()), "{pattern}");
        }
    }

    #[test]
    fn files_folders_and_everything() {
        assert_eq!(matched("a/b.py", "a/b.py"), Some(None));
        assert_eq!(matched("a", "a/b/c.py"), Some(Some("b/c.py")));
        assert_eq!(matched("*/b", "a/b/c.py"), Some(Some("c.py")));
        assert_eq!(matched("a/*.py", "a/b/c.py"), None);
        assert_eq!(matched("", "x"), Some(Some("x")));
        assert_eq!(matched("ab", "a"), None);
    }
}
