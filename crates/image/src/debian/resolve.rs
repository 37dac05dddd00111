//! From wanted packages to all packages.
//!
//! Not apt's solver, only what a fresh system needs: nothing is installed yet, so a choice is the first alternative
//! that exists. Dependencies that something already chosen satisfies are settled last, so that a choice is never
//! made where a later certainty makes it.

use std::collections::{BTreeSet, VecDeque};

use super::index::{Dependency, Index, Relation};
use super::version;
use crate::ImageError;

/// The names of all packages that the wanted ones need, themselves included.
pub(crate) fn closure(
    index: &Index,
    wanted: impl IntoIterator<Item = String>,
    only_pre_depends: bool,
) -> Result<BTreeSet<String>, ImageError> {
    let mut chosen = BTreeSet::new();
    let mut certain: VecDeque<(String, String)> =
        wanted.into_iter().map(|name| (name, "the base image".to_string())).collect();
    let mut open: VecDeque<(Dependency, String)> = VecDeque::new();
    loop {
        while let Some((name, wanted_by)) = certain.pop_front() {
            if chosen.contains(&name) {
                continue;
            }
            let Some(package) = index.packages.get(&name) else {
                return Err(ImageError::Unresolvable { wanted: name, wanted_by });
            };
            chosen.insert(name.clone());
            let depends = if only_pre_depends { &[][..] } else { &package.depends[..] };
            for dependency in package.pre_depends.iter().chain(depends) {
                match dependency.as_slice() {
                    [one] if real(index, one) => certain.push_back((one.name.clone(), name.clone())),
                    _ => open.push_back((dependency.clone(), name.clone())),
                }
            }
        }
        let Some((dependency, wanted_by)) = open.pop_front() else { return Ok(chosen) };
        if dependency.iter().any(|relation| satisfied(index, &chosen, relation)) {
            continue;
        }
        let choice = dependency.iter().find_map(|relation| candidate(index, relation));
        let Some(choice) = choice else {
            let names: Vec<_> = dependency.iter().map(|relation| relation.name.as_str()).collect();
            return Err(ImageError::Unresolvable { wanted: names.join(" | "), wanted_by });
        };
        certain.push_back((choice, wanted_by));
    }
}

/// Whether the package of that very name will do.
fn real(index: &Index, relation: &Relation) -> bool {
    index.packages.get(&relation.name).is_some_and(|package| fits(Some(&package.version), relation))
}

fn fits(version: Option<&str>, relation: &Relation) -> bool {
    match (&relation.version, version) {
        (None, _) => true,
        (Some((operator, wanted)), Some(version)) => version::satisfies(version, operator, wanted),
        (Some(_), None) => false,
    }
}

impl Relation {
    fn providers<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = &'a str> {
        let all = index.providers.get(&self.name).into_iter().flatten();
        all.filter(|(_, version)| fits(version.as_deref(), self)).map(|(name, _)| name.as_str())
    }
}

fn satisfied(index: &Index, chosen: &BTreeSet<String>, relation: &Relation) -> bool {
    (chosen.contains(&relation.name) && real(index, relation))
        || relation.providers(index).any(|name| chosen.contains(name))
}

fn candidate(index: &Index, relation: &Relation) -> Option<String> {
    if real(index, relation) {
        return Some(relation.name.clone());
    }
    relation.providers(index).next().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Index {
        let mut index = Index::default();
        index.read(text.as_bytes(), "").unwrap();
        index.link();
        index
    }

    fn names(index: &Index, wanted: &[&str]) -> Result<Vec<String>, ImageError> {
        let wanted = wanted.iter().map(|name| name.to_string());
        closure(index, wanted, false).map(|set| set.into_iter().collect())
    }

    #[test]
    fn alternatives_prefer_what_is_chosen_anyway() {
        let index = index(
            "Package: a\nVersion: 1\nDepends: big | small, b\n\nPackage: b\nVersion: 1\nDepends: small\n\n\
             Package: big\nVersion: 1\n\nPackage: small\nVersion: 1\n",
        );
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "b", "small"]);
    }

    #[test]
    fn virtual_packages_take_the_most_important_provider() {
        let index = index(
            "Package: base\nVersion: 1\nPre-Depends: awk\n\nPackage: gawk\nVersion: 1\nPriority: optional\nProvides: awk\n\n\
             Package: mawk\nVersion: 1\nPriority: required\nProvides: awk\n",
        );
        assert_eq!(names(&index, &["base"]).unwrap(), ["base", "mawk"]);
    }

    #[test]
    fn versions_count_and_what_is_missing_is_named() {
        let index = index(
            "Package: a\nVersion: 1\nDepends: b (>= 2) | c (= 1)\n\nPackage: b\nVersion: 1\n\nPackage: p\nVersion: 9\n\
             Provides: c (= 1)\n\nPackage: z\nVersion: 1\nDepends: b (>= 2)\n",
        );
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "p"]);
        let error = names(&index, &["z"]).unwrap_err().to_string();
        assert!(error.contains("`b`") && error.contains("z needs"), "{error}");
    }

    #[test]
    fn circles_end() {
        let index = index("Package: a\nVersion: 1\nDepends: b\n\nPackage: b\nVersion: 1\nDepends: a\n");
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "b"]);
    }
}
