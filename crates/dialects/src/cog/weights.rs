//! `weights`: files that are kept apart from the code.

use std::collections::{BTreeMap, HashSet};

use clunk_core::recipe::{Download, Step};
use serde::Serialize;

use super::project::{Found, MAX_LISTED, Project, clean};
use super::read::{Reader, found_words};
use super::yaml::{At, Kind, Node};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weight {
    pub name: String,
    /// The folder in the container.
    pub target: String,
    pub source: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    pub uri: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

const SCHEMES: &[&str] = &["hf", "file", "https"];

pub fn read(reader: &mut Reader<'_>, node: &Node) -> Vec<Weight> {
    let items = reader.list("weights", node).unwrap_or_default();
    let (mut weights, mut names) = (Vec::<Weight>::new(), HashSet::new());
    for item in items {
        let Some(weight) = one(reader, item) else { continue };
        if !names.insert(weight.name.clone()) {
            let hint = "give each of them its own name";
            reader.invalid(item.at, "weights.name", &weight.name, "it is there twice", hint);
            continue;
        }
        let inside = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
        let clash =
            |other: &&Weight| inside(&weight.target, &other.target) || inside(&other.target, &weight.target);
        if let Some(other) = weights.iter().find(clash) {
            let message = format!("it overlaps {} of `{}`", other.target, other.name);
            reader.invalid(item.at, "weights.target", &weight.target, &message, "give each its own folder");
            continue;
        }
        weights.push(weight);
    }
    weights
}

/// Each source becomes a layer of its own.
pub fn steps(weights: &[Weight]) -> impl Iterator<Item = Step> {
    let sources = weights.iter().flat_map(|weight| weight.source.iter().map(move |source| (weight, source)));
    let fetched = sources.filter(|(_, source)| scheme(&source.uri).is_some_and(|scheme| scheme != "file"));
    fetched.map(|(weight, source)| {
        Step::Download(Download {
            uri: source.uri.clone(),
            target: weight.target.clone(),
            include: source.include.clone(),
            exclude: source.exclude.clone(),
        })
    })
}

fn scheme(uri: &str) -> Option<&str> {
    uri.split_once("://").map(|(scheme, _)| scheme)
}

fn one(reader: &mut Reader<'_>, node: &Node) -> Option<Weight> {
    let table = reader.table("weights", node, &["name", "target", "source"])?;
    let mut needed = |key: &str| match table.get(key) {
        Some(value) => Some(value),
        None => {
            reader.problems.error(node.at, format!("missing \"weights.{key}\""), format!("add `{key}:`"));
            None
        }
    };
    let (name, target, source) = (needed("name"), needed("target"), needed("source"));
    let name = name.and_then(|value| name_of(reader, value));
    let target = target.and_then(|value| target_of(reader, value));
    let source = source.map(|value| sources(reader, value));
    let weight = Weight { name: name?, target: target?, source: source? };
    for source in &weight.source {
        let at = table.get("source").map_or(node.at, |value| value.at);
        check_local(reader, source, at);
    }
    Some(weight)
}

/// The path of a source that lies in the project.
fn local(source: &Source) -> Option<&str> {
    match scheme(&source.uri) {
        Some("file") => Some(&source.uri["file://".len()..]),
        Some(_) => None,
        None => Some(&source.uri),
    }
}

/// What a local source must be: something of the project, and not too much of it.
fn check_local(reader: &mut Reader<'_>, source: &Source, at: At) {
    let Some(path) = local(source) else { return };
    let wrong = match clean(path).map(|path| (reader.project.look(&path), path)) {
        None | Some((Found::Outside, _)) => found_words(Found::Outside).to_string(),
        Some((Found::Nothing, _)) => "there is no such file or folder".into(),
        Some((Found::File, _)) => return,
        Some((Found::Folder, path)) => match reader.project.list(&path) {
            None => format!("it has more than {MAX_LISTED} files"),
            Some(files) if files.iter().any(|file| chosen(source, &path, file)) => return,
            _ => "no file of it is chosen by `include` and `exclude`".into(),
        },
    };
    let hint = "name a file or folder beneath the folder of cog.yaml";
    reader.invalid(at, "weights.source.uri", &source.uri, &wrong, hint);
}

/// Places in the image of weights that lie in the project.
pub fn files(weights: &[Weight], project: &dyn Project) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (weight, source) in weights.iter().flat_map(|weight| weight.source.iter().map(move |s| (weight, s))) {
        let Some(path) = local(source).and_then(clean) else { continue };
        if project.look(&path) == Found::File {
            let name = path.rsplit('/').next().unwrap_or(&path);
            files.insert(format!("{}/{name}", weight.target), path);
            continue;
        }
        for file in project.list(&path).into_iter().flatten().filter(|file| chosen(source, &path, file)) {
            files.insert(format!("{}/{}", weight.target, below(&path, &file)), file);
        }
    }
    files
}

fn below<'a>(folder: &str, file: &'a str) -> &'a str {
    file.strip_prefix(folder).map_or(file, |rest| rest.trim_start_matches('/'))
}

fn chosen(source: &Source, folder: &str, file: &str) -> bool {
    let name = below(folder, file);
    let fits = |pattern: &String| match pattern.strip_suffix('/') {
        Some(folder) => fits(&format!("{folder}/*"), name),
        None => fits(pattern, name),
    };
    (source.include.is_empty() || source.include.iter().any(fits)) && !source.exclude.iter().any(fits)
}

/// Whether a name is of a pattern; `*` stands for any characters, `?` for one.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

fn name_of(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text("weights.name", node)?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let doubled = text.as_bytes().windows(2).any(|pair| pair.iter().all(|byte| b"._-".contains(byte)));
    if !text.chars().all(inner) || !edge(text.chars().next()) || !edge(text.chars().last()) || doubled {
        let message = "small letters and digits, with single `.`, `_` or `-` between them";
        reader.invalid(node.at, "weights.name", &text, message, "rename it");
        return None;
    }
    Some(text)
}

fn target_of(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text("weights.target", node)?;
    let path = text.trim_end_matches('/');
    let parts_good = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !path.starts_with('/') || !parts_good {
        let message = "it must be an absolute path of a folder, not `/`";
        reader.invalid(node.at, "weights.target", &text, message, "write for example /src/weights");
        return None;
    }
    Some(path.to_string())
}

fn sources(reader: &mut Reader<'_>, node: &Node) -> Vec<Source> {
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        reader.problems.error(node.at, "missing \"weights.source\"", "add `- uri:`");
    }
    items.iter().filter_map(|item| source(reader, item)).collect()
}

fn source(reader: &mut Reader<'_>, node: &Node) -> Option<Source> {
    let table = reader.table("weights.source", node, &["uri", "include", "exclude"])?;
    let Some(at) = table.get("uri") else {
        reader.problems.error(node.at, "missing \"weights.source.uri\"", "add `uri:`");
        return None;
    };
    let uri = reader.text("weights.source.uri", at)?;
    if scheme(&uri).is_some_and(|scheme| !SCHEMES.contains(&scheme)) {
        let message = "it must start with hf://, file:// or https://, or be a path";
        reader.invalid(at.at, "weights.source.uri", &uri, message, "take one of these");
        return None;
    }
    let mut globs = |key: &str| {
        let field = format!("weights.source.{key}");
        let mut patterns = table.get(key).map(|node| reader.texts(&field, node)).unwrap_or_default();
        patterns.retain(|pattern| {
            let good = !pattern.text.contains(['!', '\\']);
            if !good {
                let message = "a pattern has neither `!` nor `\\`";
                reader.invalid(pattern.at, &field, &pattern.text, message, "use include and exclude instead");
            }
            good
        });
        patterns.into_iter().map(|pattern| pattern.text).collect::<Vec<_>>()
    };
    let (include, exclude) = (globs("include"), globs("exclude"));
    Some(Source { uri, include, exclude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose() {
        let source = |include: &[&str], exclude: &[&str]| Source {
            uri: "w".into(),
            include: include.iter().map(ToString::to_string).collect(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
        };
        let cases = [
            (source(&[], &[]), true),
            (source(&["*.bin"], &[]), true),
            (source(&["*.json"], &[]), false),
            (source(&["a/"], &[]), true),
            (source(&["a/?.b*"], &[]), true),
            (source(&["*"], &["a/"]), false),
            (source(&["*"], &["b/"]), true),
        ];
        for (source, expected) in cases {
            assert_eq!(chosen(&source, "w", "w/a/x.bin"), expected, "{source:?}");
        }
    }
}
