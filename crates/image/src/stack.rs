//! Looking into a stack of layers the way overlayfs shows it, from the host and without mounting it.
//!
//! Layers are hostile: no link is ever followed by the kernel here. Each part of a path is looked up by itself and
//! links are walked beneath the root, as a container would see them.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// A file read from an image, such as its list of users.
const MAX_READ_BYTES: u64 = 1 << 20;

pub(crate) struct Stack {
    /// The topmost first.
    layers: Vec<PathBuf>,
}

type Parts = Vec<Vec<u8>>;

impl Stack {
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self { layers }
    }

    /// The path with every link in it resolved, the last part too when `last` is set. Parts that do not exist stay as
    /// they are. `None`: links that go in circles.
    pub fn resolve(&self, path: &[u8], last: bool) -> Option<Vec<u8>> {
        let mut todo: VecDeque<Vec<u8>> = path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
        let mut done: Parts = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            done.push(part);
            let is_last = todo.iter().all(|part| part.is_empty());
            if is_last && !last {
                continue;
            }
            let Some((_, file)) = self.find(&done).filter(|(meta, _)| meta.is_symlink()) else { continue };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = std::fs::read_link(file).ok()?.into_os_string().into_vec();
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            for part in target.split(|&byte| byte == b'/').rev() {
                todo.push_front(part.to_vec());
            }
        }
        Some(done.iter().flat_map(|part| [b"/", part.as_slice()].concat()).collect())
    }

    /// What is at the path, links followed; the metadata has the host's owner numbers.
    pub fn stat(&self, path: &[u8]) -> Option<(Metadata, PathBuf)> {
        let resolved = self.resolve(path, true)?;
        self.find(&split(&resolved))
    }

    /// What is at the path itself, links in its folders not followed either.
    pub fn stat_plain(&self, path: &[u8]) -> Option<Metadata> {
        self.find(&split(path)).map(|(meta, _)| meta)
    }

    pub fn is_folder(&self, path: &[u8]) -> bool {
        path.iter().all(|&byte| byte == b'/') || self.stat(path).is_some_and(|(meta, _)| meta.is_dir())
    }

    /// A small text file.
    pub fn read(&self, path: &str) -> Option<String> {
        let (meta, file) = self.stat(path.as_bytes())?;
        let text = (meta.is_file() && meta.len() <= MAX_READ_BYTES).then(|| std::fs::read(file).ok())??;
        String::from_utf8(text).ok()
    }

    /// The first of the programs found on a PATH, as an absolute path.
    pub fn program(&self, path: &str, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| {
            path.split(':').filter(|folder| folder.starts_with('/')).find_map(|folder| {
                let full = format!("{}/{name}", folder.trim_end_matches('/'));
                self.stat(full.as_bytes())
                    .is_some_and(|(meta, _)| meta.is_file() && meta.mode() & 0o111 != 0)
                    .then_some(full)
            })
        })
    }

    /// Where the topmost layer that has the path keeps it. The path has no links in its folders.
    fn find(&self, parts: &[Vec<u8>]) -> Option<(Metadata, PathBuf)> {
        for layer in &self.layers {
            let mut here = layer.clone();
            let mut hides = false;
            let mut found = None;
            for (at, part) in parts.iter().enumerate() {
                here.push(OsStr::from_bytes(part));
                let Ok(meta) = here.symlink_metadata() else { break };
                if is_whiteout(&meta) {
                    return None;
                }
                if at + 1 == parts.len() {
                    found = Some((meta, here.clone()));
                } else if !meta.is_dir() {
                    return None;
                } else {
                    hides |= is_opaque(&here);
                }
            }
            if found.is_some() {
                return found;
            }
            if hides {
                return None;
            }
        }
        None
    }
}

fn split(path: &[u8]) -> Parts {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

pub(crate) fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

pub(crate) fn is_opaque(folder: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::lgetxattr(folder, *name, &mut value[..]).is_ok_and(|size| size == 1 && value[0] == b'y')
    })
}

/// Marks a folder so; for tests of both halves.
#[allow(dead_code)]
pub(crate) fn mark_opaque(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::lsetxattr(folder, "user.overlay.opaque", b"y", XattrFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn stack() -> (tempfile::TempDir, Stack) {
        let folder = tempfile::tempdir().unwrap();
        let (low, high) = (folder.path().join("low"), folder.path().join("high"));
        std::fs::create_dir_all(low.join("usr/bin")).unwrap();
        std::fs::create_dir_all(low.join("data")).unwrap();
        std::fs::create_dir_all(high.join("data")).unwrap();
        std::fs::write(low.join("usr/bin/tool"), "x").unwrap();
        std::fs::write(low.join("data/old"), "x").unwrap();
        std::fs::write(high.join("data/new"), "x").unwrap();
        symlink("usr/bin", low.join("bin")).unwrap();
        symlink("/../../etc/passwd", low.join("escape")).unwrap();
        symlink("loop", low.join("loop")).unwrap();
        (folder, Stack::new(vec![high, low]))
    }

    #[test]
    fn links_resolve_beneath_the_root() {
        let (_folder, stack) = stack();
        assert_eq!(stack.resolve(b"/bin/tool", true).unwrap(), b"/usr/bin/tool");
        assert_eq!(stack.resolve(b"/bin/not/yet", true).unwrap(), b"/usr/bin/not/yet");
        assert_eq!(stack.resolve(b"/escape", true).unwrap(), b"/etc/passwd");
        assert!(stack.stat(b"/escape").is_none());
        assert_eq!(stack.resolve(b"/loop", true), None);
    }

    #[test]
    fn opaque_folders_hide_what_is_below() {
        let (_folder, stack) = stack();
        assert!(stack.stat(b"/data/old").is_some());
        if mark_opaque(&stack.layers[0].join("data")).is_ok() {
            assert!(stack.stat(b"/data/old").is_none());
            assert!(stack.stat(b"/data/new").is_some());
        }
    }
}
