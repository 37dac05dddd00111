//! The list of a suite's packages.

use std::collections::HashMap;
use std::io::{self, BufRead};

use clunk_core::Digest;

use super::version;

/// A package as the index describes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub name: String,
    pub version: String,
    pub essential: bool,
    /// Depends and Pre-Depends.
    pub depends: Vec<Dependency>,
    pub pre_depends: Vec<Dependency>,
    pub provides: Vec<Relation>,
    /// `required` counts 0, `extra` 4.
    pub priority: u8,
    /// Where the file is.
    pub url: String,
    pub size: u64,
    pub sha256: Option<Digest>,
}

/// Alternatives, the preferred first.
pub(crate) type Dependency = Vec<Relation>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub name: String,
    /// Operator and version.
    pub version: Option<(String, String)>,
}

/// The newest version of each package, over several suites.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub packages: HashMap<String, Package>,
    /// Who provides a name, with the version provided if one is.
    pub providers: HashMap<String, Vec<(String, Option<String>)>>,
}

impl Index {
    /// Adds the stanzas of a `Packages` file; `base` is the address its file names are relative to.
    pub fn read(&mut self, mut reader: impl BufRead, base: &str) -> io::Result<()> {
        let mut package = Package::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line)?;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() {
                if !package.name.is_empty() {
                    self.add(std::mem::take(&mut package));
                }
                if count == 0 {
                    return Ok(());
                }
            } else if !text.starts_with([' ', '\t'])
                && let Some((key, value)) = text.split_once(':')
            {
                package.set(key, value.trim(), base);
            }
        }
    }

    fn add(&mut self, package: Package) {
        match self.packages.get(&package.name) {
            Some(known) if version::compare(&known.version, &package.version).is_ge() => {}
            _ => {
                self.packages.insert(package.name.clone(), package);
            }
        }
    }

    /// Fills `providers`; call once after all suites were read.
    pub fn link(&mut self) {
        for package in self.packages.values() {
            for provided in &package.provides {
                let version = provided.version.as_ref().map(|(_, version)| version.clone());
                self.providers
                    .entry(provided.name.clone())
                    .or_default()
                    .push((package.name.clone(), version));
            }
        }
        for list in self.providers.values_mut() {
            list.sort_by_key(|(name, _)| (self.packages[name].priority, name.clone()));
        }
    }
}

impl Package {
    fn set(&mut self, key: &str, value: &str, base: &str) {
        match key {
            "Package" => self.name = value.into(),
            "Version" => self.version = value.into(),
            "Essential" => self.essential = value == "yes",
            "Depends" => self.depends = dependencies(value),
            "Pre-Depends" => self.pre_depends = dependencies(value),
            "Provides" => self.provides = dependencies(value).into_iter().flatten().collect(),
            "Filename" => self.url = format!("{base}/{value}"),
            "Size" => self.size = value.parse().unwrap_or(0),
            "SHA256" => self.sha256 = value.parse().ok(),
            "Priority" => {
                let order = ["required", "important", "standard", "optional"];
                self.priority = order.iter().position(|&name| name == value).unwrap_or(order.len()) as u8;
            }
            _ => {}
        }
    }
}

/// `a (>= 1) | b, c:any`
fn dependencies(text: &str) -> Vec<Dependency> {
    text.split(',')
        .map(|group| group.split('|').filter_map(relation).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

fn relation(text: &str) -> Option<Relation> {
    let text = text.trim();
    let (name, constraint) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.split(')').next()?.trim())),
        None => (text.split_whitespace().next()?, None),
    };
    let name = name.trim().split(':').next()?.to_string();
    let version = constraint.and_then(|text| {
        let at = text.find(|c: char| !"<>=".contains(c))?;
        Some((text[..at].to_string(), text[at..].trim().to_string()))
    });
    (!name.is_empty()).then_some(Relation { name, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_and_relations() {
        let text = "Package: a\nVersion: 1.0\nPriority: required\nEssential: yes\nDepends: b (>= 2~) | c:any, d [linux-any]\n\
            Provides: awk, x (= 3)\nDescription: one\n more: text\nFilename: pool/a.deb\nSize: 7\n\n\
            Package: a\nVersion: 1.1\nFilename: pool/a11.deb";
        let mut index = Index::default();
        index.read(text.as_bytes(), "http://m.example/debian").unwrap();
        assert_eq!(index.packages["a"].url, "http://m.example/debian/pool/a11.deb");
        let relations = dependencies("b (>= 2~) | c:any, d [linux-any]");
        assert_eq!(relations.len(), 2);
        assert_eq!(relations[0][0].version, Some((">=".into(), "2~".into())));
        assert_eq!((relations[0][1].name.as_str(), relations[1][0].name.as_str()), ("c", "d"));
    }
}
