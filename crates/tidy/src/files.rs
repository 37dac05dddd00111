//! Rules over any file.

use std::process::{Command, Stdio};

use crate::{Offence, Tree};

pub const FILE_LINES_MAX: usize = 500;
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files that a tool writes.
const GENERATED: &[&str] = &["Cargo.lock", "docs/openapi.json"];

/// Hosts that an address in this tree may name. A mirror or a package index is none of them: it comes from the settings
/// of the machine, and works there.
const HOSTS: &[&str] = &["127.0.0.1", "169.254.169.254", "localhost", "www.apache.org", "sh.rustup.rs"];
/// Endings of names that are nobody's, for tests and examples.
const NOBODYS: &[&str] = &[".example", "example.com", ".invalid", ".test"];

pub fn long_files(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for (path, text) in ["rs", "py"].iter().flat_map(|extension| tree.with_extension(extension)) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(Offence::new(path, 0, "lines", format!("{lines} lines, more than {FILE_LINES_MAX}")));
        }
    }
    found
}

pub fn large_files(tree: &Tree) -> Vec<Offence> {
    let large = tree.files.iter().filter(|file| file.bytes > FILE_BYTES_MAX);
    large
        .map(|file| Offence::new(&file.path, 0, "bytes", format!("{} bytes: too large", file.bytes)))
        .collect()
}

pub fn stray_blanks(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !GENERATED.contains(&file.path.as_str())) {
        let Some(text) = &file.text else { continue };
        // What a program has written is compared byte by byte.
        if file.path.contains("/golden/") || file.path.contains("/fixtures/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                found.push(Offence::new(&file.path, number + 1, "blank", "a blank at the end of the line"));
            }
            if line.starts_with('\t') && !file.path.ends_with("Makefile") {
                found.push(Offence::new(&file.path, number + 1, "tab", "a tab at the start of the line"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            found.push(Offence::new(&file.path, 0, "end", "no newline at the end"));
        }
    }
    found
}

pub fn foreign_hosts(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.ends_with(".lock")) {
        let Some(text) = &file.text else { continue };
        for (number, line) in text.lines().enumerate() {
            for host in hosts(line).filter(|host| !is_known(host)) {
                let why =
                    format!("`{host}` is a host of somebody: take it from the settings, or add it to HOSTS");
                found.push(Offence::new(&file.path, number + 1, host, why));
            }
        }
    }
    found
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("http://").skip(1).chain(line.split("https://").skip(1));
    let end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'));
    let hosts = after.map(move |text| &text[..end(text).unwrap_or(text.len())]);
    // A name without a dot is made up, or the start of a pattern.
    hosts.filter(|host| host.contains('.'))
}

fn is_known(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    HOSTS.contains(&host) || NOBODYS.iter().any(|ending| host.ends_with(ending)) || !host.contains('.')
}

/// Python that does not parse as version 3.9. None when there is no Python to ask.
pub fn python_syntax(tree: &Tree) -> Option<Vec<Offence>> {
    const PROGRAM: &str = "import ast, sys
for path in sys.argv[1:]:
    try:
        ast.parse(open(path, encoding='utf-8').read(), path, feature_version=(3, 9))
    except SyntaxError as error:
        print(path, error.lineno or 0, error.msg, sep='\\t')";
    let paths: Vec<_> = tree.with_extension("py").map(|(path, _)| path).collect();
    let mut python = Command::new("python3");
    python.current_dir(&tree.root).args(["-I", "-c", PROGRAM]).args(paths).stdin(Stdio::null());
    let answer = python.output().ok().filter(|answer| answer.status.success())?;
    let lines = String::from_utf8_lossy(&answer.stdout).into_owned();
    let parts = lines.lines().filter_map(|line| {
        let mut parts = line.splitn(3, '\t');
        Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?))
    });
    Some(
        parts
            .map(|(path, line, text)| Offence::new(path, line, "syntax", format!("Python 3.9: {text}")))
            .collect(),
    )
}
