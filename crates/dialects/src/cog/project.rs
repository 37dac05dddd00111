//! The files of a project, as far as its settings name them.

use std::collections::BTreeMap;

/// A text that settings name is not longer.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Files of one folder that settings name; a repository of weights has some dozens.
pub const MAX_LISTED: usize = 10_000;

/// The folder of a `cog.yaml`. Paths are relative to it, with `/` between their parts.
pub trait Project {
    /// What is at a path.
    fn look(&self, path: &str) -> Found;

    /// Paths of all files below a folder. None: there are more than [`MAX_LISTED`].
    fn list(&self, path: &str) -> Option<Vec<String>>;

    /// A text of at most [`MAX_TEXT_BYTES`].
    fn read(&self, path: &str) -> Result<String, Unreadable>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    File,
    Folder,
    Nothing,
    /// A link or `..` leads out of the project.
    Outside,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// No file is there.
    Missing(Found),
    TooLarge,
    /// Number of the first byte that is not UTF-8, and what is in front of it.
    NotText {
        line: usize,
    },
    Failed(String),
}

/// A relative path without `.`; None when it is absolute or leads out of its folder.
pub fn clean(path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// [`clean`] for a path that stands in the file `from`.
pub fn beside(from: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    match from.rsplit_once('/') {
        Some((folder, _)) => clean(&format!("{folder}/{path}")),
        None => clean(path),
    }
}

/// A project in memory.
#[derive(Default)]
pub struct InMemory(pub BTreeMap<String, String>);

impl Project for InMemory {
    fn look(&self, path: &str) -> Found {
        match self.0.contains_key(path) {
            true => Found::File,
            false if self.0.keys().any(|key| key.starts_with(&format!("{path}/"))) => Found::Folder,
            false => Found::Nothing,
        }
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let below = format!("{path}/");
        Some(self.0.keys().filter(|key| key.starts_with(&below)).cloned().collect())
    }

    fn read(&self, path: &str) -> Result<String, Unreadable> {
        self.0.get(path).cloned().ok_or_else(|| Unreadable::Missing(self.look(path)))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let cases = [
            ("a/b", Some("a/b")),
            ("./a//b/../c", Some("a/c")),
            ("../a", None),
            ("a/../..", None),
            ("/etc/passwd", None),
            ("", None),
        ];
        for (path, cleaned) in cases {
            assert_eq!(clean(path).as_deref(), cleaned, "{path}");
        }
        assert_eq!(beside("deps/base.txt", "../wheels/a.whl").as_deref(), Some("wheels/a.whl"));
        assert_eq!(beside("base.txt", "../a.whl"), None);
    }
}
