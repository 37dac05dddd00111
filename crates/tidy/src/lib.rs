//! Rules over the tree that no other tool checks. Each rule is a function from the tree to offences; the tests hold them
//! against the exceptions in [`exceptions`].
//!
//! `CLUNK_TIDY_ROOT=FOLDER cargo test -p clunk-tidy` checks another checkout by the same rules.

pub mod docs;
pub mod exceptions;
pub mod files;
pub mod rust;
pub mod source;
pub mod tree;

pub use tree::{Tree, TreeFile};

/// Something that a rule does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    pub path: String,
    /// From 1; 0 when it is about the whole file.
    pub line: usize,
    /// What exceptions name: a function, a pattern.
    pub item: String,
    pub text: String,
}

impl Offence {
    pub fn new(path: &str, line: usize, item: &str, text: impl Into<String>) -> Self {
        Self { path: path.into(), line, item: item.into(), text: text.into() }
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}
