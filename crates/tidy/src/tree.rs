//! The files of a checkout: what git tracks, and what is new and not ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct TreeFile {
    /// Relative to the root.
    pub path: String,
    pub bytes: u64,
    /// None when it is not text.
    pub text: Option<String>,
}

impl TreeFile {
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

pub struct Tree {
    pub root: PathBuf,
    pub files: Vec<TreeFile>,
}

impl Tree {
    /// This checkout, or the one that `CLUNK_TIDY_ROOT` names.
    pub fn load() -> Self {
        let root = other_root().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        let root = root.canonicalize().expect("the checkout exists");
        let mut paths = tracked(&root).unwrap_or_else(|| walk(&root));
        paths.sort();
        let files = paths.into_iter().filter_map(|path| read(&root, path)).collect();
        Self { root, files }
    }

    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let found = self.files.iter().filter(move |file| file.has_extension(extension));
        found.filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// Names of the folders in `crates`.
    pub fn crates(&self) -> Vec<&str> {
        let manifests = self.files.iter().filter_map(|file| file.path.strip_prefix("crates/"));
        manifests.filter_map(|path| path.strip_suffix("/Cargo.toml")).collect()
    }
}

pub fn other_root() -> Option<PathBuf> {
    std::env::var_os("CLUNK_TIDY_ROOT").map(PathBuf::from)
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let paths: Vec<_> = text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

/// For an unpacked archive, which has no git.
fn walk(root: &Path) -> Vec<String> {
    const NOT_OURS: [&str; 6] = [".git", "target", "dist", ".venv", "__pycache__", ".pytest_cache"];
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                continue;
            } else if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.display().to_string());
            }
        }
    }
    found
}

fn read(root: &Path, path: String) -> Option<TreeFile> {
    let content = std::fs::read(root.join(&path)).ok()?;
    let bytes = content.len() as u64;
    let text = if content.contains(&0) { None } else { String::from_utf8(content).ok() };
    Some(TreeFile { path, bytes, text })
}
