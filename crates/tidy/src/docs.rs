//! Rules over documents.

use std::path::{Component, Path, PathBuf};

use crate::{Offence, Tree};

/// A page shorter than this says nothing.
const PAGE_LINES_LEAST: usize = 4;
const CODES: &str = "crates/core/src/error.rs";

/// Links to files that are not there.
pub fn broken_links(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    for (path, text) in tree.with_extension("md") {
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            for target in links(line).filter(|_| !fenced) {
                let file = target.split('#').next().unwrap_or_default();
                let foreign = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
                if !foreign && !tree.root.join(normal(&folder.join(file))).exists() {
                    found.push(Offence::new(
                        path,
                        number + 1,
                        target,
                        format!("the link `{target}` leads nowhere"),
                    ));
                }
            }
        }
    }
    found
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::trim)
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Each crate has its line in the map of the house.
pub fn crates_without_mention(tree: &Tree) -> Vec<Offence> {
    let map = tree.text("ARCHITECTURE.md").unwrap_or_default();
    let missing = tree.crates().into_iter().filter(|name| !map.contains(&format!("crates/{name}`")));
    missing
        .map(|name| Offence::new("ARCHITECTURE.md", 0, name, format!("`crates/{name}` is not in the table")))
        .collect()
}

/// Each error code has a page that says something, each page a code.
pub fn error_pages(tree: &Tree) -> Vec<Offence> {
    let mut found = Vec::new();
    let codes: Vec<_> = tree.text(CODES).into_iter().flat_map(codes).collect();
    for code in &codes {
        let path = format!("docs/errors/{code}.md");
        let page = tree.text(&path).unwrap_or_default();
        let wrong = |text: &str| Offence::new(&path, 0, code, text);
        let summary = page.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default();
        if page.lines().count() < PAGE_LINES_LEAST {
            found.push(wrong("the page of an error says what it means, its cause and its mend"));
        } else if page.lines().next() != Some(&format!("# {code}")) {
            found.push(wrong("the first line is not the code as a title"));
        } else if !summary.ends_with('.') {
            found.push(wrong("the summary is not one sentence on one line: `clunk explain` shows it"));
        }
        for part in ["## Cause", "## Mend"].iter().filter(|part| !page.lines().any(|line| line == **part)) {
            found.push(wrong(&format!("no part `{part}`")));
        }
    }
    let pages = tree.files.iter().filter_map(|file| file.path.strip_prefix("docs/errors/"));
    for page in pages.filter_map(|page| page.strip_suffix(".md")) {
        if page != "README" && !codes.contains(&page) {
            let path = format!("docs/errors/{page}.md");
            found.push(Offence::new(&path, 0, page, format!("no code `{page}` in {CODES}")));
        }
    }
    found
}

/// Lines `Name = "code";` of the table of codes.
fn codes(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\";")?.split_once(" = \""))
        .map(|(_, code)| code)
}
