//! Lines of a Dockerfile: the part of the language that a build step can mean.

mod words;

use clunk_core::Digest;

use crate::ImageError;

pub(crate) use words::{expand, split};

/// One instruction, with its continuation lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Of its first line, counted from 1.
    pub line: usize,
    /// As written, on one line.
    pub text: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Run(Form),
    Cmd(Form),
    Entrypoint(Form),
    Shell(Vec<String>),
    /// Names and values, which are still to be expanded, as are all texts below.
    Env(Vec<(String, String)>),
    Arg {
        name: String,
        default: Option<String>,
    },
    Workdir(String),
    User(String),
    Copy(Copy),
    /// Says something that builds do not need.
    Nothing,
}

/// How a command is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// For the shell.
    Shell(String),
    /// Words for the kernel.
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub sources: Vec<String>,
    pub target: String,
    pub owner: Option<String>,
    pub mode: Option<u32>,
}

const KNOWN: &[&str] = &[
    "RUN",
    "CMD",
    "ENTRYPOINT",
    "SHELL",
    "ENV",
    "ARG",
    "WORKDIR",
    "USER",
    "COPY",
    "ADD",
    "LABEL",
    "EXPOSE",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "MAINTAINER",
    "FROM",
    "ONBUILD",
];

/// What is wrong with an instruction, and how to mend it.
struct Complaint(String, String);

type Parsed<T> = Result<T, Complaint>;

fn complain<T>(what: impl Into<String>, mend: impl Into<String>) -> Parsed<T> {
    Err(Complaint(what.into(), mend.into()))
}

/// Reads the lines; each may hold several.
pub(crate) fn parse(lines: &[String]) -> Result<Vec<Instruction>, ImageError> {
    let text = lines.join("\n");
    let mut instructions = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, first)) = lines.next() {
        let line = at + 1;
        let Some(mut joined) = content(first).map(str::to_string) else { continue };
        while let Some(head) = joined.strip_suffix('\\') {
            joined = head.to_string();
            // Comments and empty lines within an instruction count for nothing.
            match lines.by_ref().map(|(_, next)| next).find_map(content) {
                Some(next) => joined += next,
                None => break,
            }
        }
        let refuse = |Complaint(what, mend): Complaint| ImageError::BadRecipe {
            message: format!("Dockerfile line {line}: `{}`: {what}", shorten(&joined)),
            hint: mend,
        };
        if let Some(kind) = heredoc(&joined, &mut lines).transpose().map_err(refuse)? {
            let Kind::Run(Form::Shell(body)) = &kind else { continue };
            let text = format!("{} {}", joined.trim(), Digest::of(body).short());
            instructions.push(Instruction { line, text, kind });
            continue;
        }
        let kind = instruction(joined.trim()).map_err(refuse)?;
        instructions.push(Instruction { line, text: joined.trim().into(), kind });
    }
    Ok(instructions)
}

/// The line without its end's blanks, unless it is empty or a comment.
fn content(line: &str) -> Option<&str> {
    let start = line.trim_start();
    (!start.is_empty() && !start.starts_with('#')).then(|| line.trim_end())
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// `RUN <<WORD`: the lines up to WORD are a script.
fn heredoc<'a>(line: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<Parsed<Kind>> {
    let (name, rest) = line.trim().split_once(char::is_whitespace)?;
    let marker = rest.trim().strip_prefix("<<")?;
    if !name.eq_ignore_ascii_case("RUN") {
        return Some(complain(
            "a text in place of a file is not supported",
            "write the file with RUN, or send it with the context",
        ));
    }
    let (tabs, word) = match marker.strip_prefix('-') {
        Some(word) => (true, word),
        None => (false, marker),
    };
    let word = word.trim_matches(['"', '\'']);
    if word.is_empty() || word.contains(char::is_whitespace) {
        return Some(complain(
            "only a script for the shell can follow RUN <<",
            "write `RUN <<EOF`, the commands, then `EOF`",
        ));
    }
    let mut body = String::new();
    for (_, line) in lines {
        let line = if tabs { line.trim_start_matches('\t') } else { line };
        if line == word {
            return Some(Ok(Kind::Run(Form::Shell(body))));
        }
        body = body + line + "\n";
    }
    Some(complain(
        format!("the script has no end `{word}`"),
        format!("write `{word}` on a line of its own after it"),
    ))
}

fn instruction(line: &str) -> Parsed<Kind> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let name = name.to_ascii_uppercase();
    let rest = rest.trim();
    if rest.is_empty() && KNOWN.contains(&name.as_str()) {
        return complain(
            format!("{name} says nothing"),
            format!("write something after {name}, or remove the line"),
        );
    }
    match name.as_str() {
        "RUN" => Ok(Kind::Run(form(run_options(rest)?)?)),
        "CMD" => Ok(Kind::Cmd(form(rest)?)),
        "ENTRYPOINT" => Ok(Kind::Entrypoint(form(rest)?)),
        "SHELL" => match form(rest)? {
            Form::Exec(words) if !words.is_empty() => Ok(Kind::Shell(words)),
            _ => complain("SHELL wants a list of words", r#"write SHELL ["/bin/bash", "-c"]"#),
        },
        "ENV" => env(rest),
        "ARG" => arg(rest),
        "WORKDIR" => Ok(Kind::Workdir(rest.into())),
        "USER" => Ok(Kind::User(rest.into())),
        "COPY" | "ADD" => copy(&name, rest),
        "LABEL" | "EXPOSE" | "VOLUME" | "STOPSIGNAL" | "HEALTHCHECK" | "MAINTAINER" => Ok(Kind::Nothing),
        "FROM" => complain("FROM cannot be used here", "name the base with from_registry or debian_slim"),
        "ONBUILD" => complain("ONBUILD is not supported", "write the instruction where it is to run"),
        _ => {
            let near = KNOWN.iter().min_by_key(|known| distance(&name, known)).expect("some are known");
            let mend = match distance(&name, near) {
                0..=2 => format!("did you mean {near}?"),
                _ => "a line begins with an instruction such as RUN, COPY or ENV; a long one goes on after `\\`".into(),
            };
            complain(format!("{name} is no instruction"), mend)
        }
    }
}

/// Drops what only makes builds faster; refuses what changes their meaning.
fn run_options(mut rest: &str) -> Parsed<&str> {
    while rest.starts_with("--") {
        let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let harmless = option
            .strip_prefix("--mount=")
            .is_some_and(|what| what.split(',').any(|part| part == "type=cache"))
            || matches!(option, "--network=default" | "--security=sandbox");
        if !harmless {
            return complain(
                format!("the option {option} is not supported"),
                "leave it out; files come in with COPY",
            );
        }
        rest = after.trim_start();
    }
    Ok(rest)
}

/// A list in JSON is words for the kernel; all else is for the shell.
fn form(rest: &str) -> Parsed<Form> {
    if rest.starts_with('[') {
        if let Ok(words) = serde_json::from_str::<Vec<String>>(rest) {
            return Ok(Form::Exec(words));
        }
        if rest.ends_with(']') && rest.contains('\'') {
            return complain("the list is not JSON", "use double quotes: [\"python\", \"app.py\"]");
        }
    }
    Ok(Form::Shell(rest.into()))
}

fn env(rest: &str) -> Parsed<Kind> {
    let words = split(rest).ok_or_else(|| open_quote("ENV"))?;
    if !words[0].contains('=') {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return complain("ENV wants a value", format!("write ENV {rest}=value"));
        };
        return Ok(Kind::Env(vec![(name.into(), value.trim().into())]));
    }
    let mut pairs = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => pairs.push((name.into(), value.into())),
            _ => return complain(format!("`{word}` is not NAME=value"), "put a value with blanks in quotes"),
        }
    }
    Ok(Kind::Env(pairs))
}

fn arg(rest: &str) -> Parsed<Kind> {
    let words = split(rest).ok_or_else(|| open_quote("ARG"))?;
    let [word] = words.as_slice() else {
        return complain("ARG takes one name", "write one ARG line for each");
    };
    let (name, default) = match word.split_once('=') {
        Some((name, default)) => (name, Some(default.to_string())),
        None => (word.as_str(), None),
    };
    Ok(Kind::Arg { name: name.into(), default })
}

fn open_quote(name: &str) -> Complaint {
    Complaint(format!("a quote in {name} has no end"), "close the quote".into())
}

fn copy(name: &str, mut rest: &str) -> Parsed<Kind> {
    let (mut owner, mut mode) = (None, None);
    while rest.starts_with("--") {
        let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match option.split_once('=').unwrap_or((option, "")) {
            ("--chown", value) => owner = Some(value.to_string()),
            ("--chmod", value) => match u32::from_str_radix(value, 8) {
                Ok(bits) if bits <= 0o7777 => mode = Some(bits),
                _ => {
                    return complain(
                        format!("`{value}` is no mode"),
                        "give it in octal, such as --chmod=755",
                    );
                }
            },
            ("--link", _) => {}
            ("--from", _) => {
                return complain(
                    "there are no other stages to copy from",
                    "copy from the context, or fetch the files with RUN",
                );
            }
            _ => return complain(format!("the option {option} is not supported"), "leave it out"),
        }
        rest = after.trim_start();
    }
    let words = match form(rest)? {
        Form::Exec(words) => words,
        Form::Shell(text) => split(&text).ok_or_else(|| open_quote(name))?,
    };
    let Some((target, sources)) = words.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return complain(format!("{name} wants sources and a target"), format!("write {name} file /folder/"));
    };
    if sources.len() > 1 && !target.ends_with('/') {
        return complain(
            "the target of several sources must be a folder",
            format!("write {target}/ with a slash at its end"),
        );
    }
    if name == "ADD" {
        let remote = |source: &&String| source.contains("://") || source.starts_with("git@");
        if let Some(source) = sources.iter().find(remote) {
            return complain(format!("ADD does not fetch {source}"), "fetch it with RUN and curl or python");
        }
        let archive = |source: &&String| {
            [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst"]
                .iter()
                .any(|end| source.ends_with(end))
        };
        if let Some(source) = sources.iter().find(archive) {
            return complain(format!("ADD does not unpack {source}"), "use COPY, then RUN tar -xf");
        }
    }
    Ok(Kind::Copy(Copy { sources: sources.to_vec(), target: target.clone(), owner, mode }))
}

/// Changes of one letter between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
