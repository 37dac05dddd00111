//! A tree: files at absolute container paths, by content.
//!
//! User source and `add_local_*` files travel as trees. A node lays a tree out as a directory once and stacks it as
//! one more overlay layer, so a changed file costs the upload of that file and nothing else.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Files per tree; a project with more has build output in it that belongs in an ignore file.
pub const MAX_TREE_FILES: usize = 200_000;

/// Folders that are mounted over in every container.
const RESERVED: &str = "/proc, /sys, /dev, /.clunk";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tree {
    /// Sorted by path, each path once.
    pub files: Vec<TreeFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TreeFile {
    /// Absolute path in the container, normalised: no `.`, no `..`, no empty part.
    pub path: String,
    /// Whether the file may be executed; other permission bits do not travel.
    #[serde(default)]
    pub executable: bool,
    #[serde(flatten)]
    pub content: TreeContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum TreeContent {
    Blob {
        digest: Digest,
        /// Bytes.
        size: u64,
    },
    Link {
        /// Symbolic link target, as written.
        link: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error(
        "a tree holds at most {MAX_TREE_FILES} files, this one has {0}; name what to leave out in .clunkignore"
    )]
    TooManyFiles(usize),
    #[error("`{0}` is not a normal absolute path")]
    BadPath(String),
    #[error("`{0}` lies where every container has something of its own ({RESERVED}): it would not be seen")]
    Reserved(String),
    #[error("`{0}` is in the tree twice")]
    Duplicate(String),
    #[error("`{0}` is both a file and a folder in the tree")]
    FileIsFolder(String),
}

impl Tree {
    /// Checks the paths and sorts the files.
    pub fn new(mut files: Vec<TreeFile>) -> Result<Self, TreeError> {
        if files.len() > MAX_TREE_FILES {
            return Err(TreeError::TooManyFiles(files.len()));
        }
        if let Some(bad) = files.iter().find(|file| !is_normal(&file.path)) {
            return Err(TreeError::BadPath(bad.path.clone()));
        }
        let reserved = |path: &str| {
            RESERVED.split(", ").any(|root| path == root || path.starts_with(&format!("{root}/")))
        };
        if let Some(bad) = files.iter().find(|file| reserved(&file.path)) {
            return Err(TreeError::Reserved(bad.path.clone()));
        }
        files.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        for pair in files.windows(2) {
            if pair[0].path == pair[1].path {
                return Err(TreeError::Duplicate(pair[0].path.clone()));
            }
            if pair[1].path.strip_prefix(pair[0].path.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                return Err(TreeError::FileIsFolder(pair[0].path.clone()));
            }
        }
        Ok(Self { files })
    }

    /// The identity of the tree.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Digest and size of every blob the tree needs.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.files.iter().filter_map(|file| match &file.content {
            TreeContent::Blob { digest, size } => Some((*digest, *size)),
            TreeContent::Link { .. } => None,
        })
    }
}

fn is_normal(path: &str) -> bool {
    path.len() > 1
        && !path.contains('\0')
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> TreeFile {
        let content = TreeContent::Blob { digest: Digest::of(""), size: 0 };
        TreeFile { path: path.into(), executable: false, content }
    }

    #[test]
    fn order_does_not_change_the_identity() {
        let one = Tree::new(vec![file("/root/a.py"), file("/root/b/c.py")]).unwrap();
        let two = Tree::new(vec![file("/root/b/c.py"), file("/root/a.py")]).unwrap();
        assert_eq!(one.digest(), two.digest());
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["root/a", "/root/../etc/passwd", "/", "/a//b", "/a/", "/a/./b", "/a\0b"] {
            assert_eq!(Tree::new(vec![file(path)]), Err(TreeError::BadPath(path.into())));
        }
    }

    #[test]
    fn what_would_not_be_seen_is_refused() {
        for path in ["/proc/x", "/dev", "/.clunk/clunk_runner.py"] {
            assert_eq!(Tree::new(vec![file(path)]), Err(TreeError::Reserved(path.into())));
        }
        assert!(Tree::new(vec![file("/device")]).is_ok());
    }

    #[test]
    fn a_file_cannot_be_a_folder() {
        let files = vec![file("/a"), file("/a-b"), file("/a/b")];
        assert_eq!(Tree::new(files), Err(TreeError::FileIsFolder("/a".into())));
        assert_eq!(Tree::new(vec![file("/a"), file("/a")]), Err(TreeError::Duplicate("/a".into())));
    }
}
