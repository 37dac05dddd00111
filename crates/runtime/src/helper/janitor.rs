//! Taking away what a container leaves on the host. Runs in forked processes, so that the helper never waits for it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

use crate::cgroup::Group;
use crate::net;

/// What one container leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remains {
    pub group: Group,
    pub slot: Option<u16>,
    pub scratch: Option<PathBuf>,
    /// A kept upper directory and what was put there only to be mounted over.
    pub placeholders: Option<(PathBuf, Vec<PathBuf>)>,
}

/// Removes everything it can, even when a part fails; the first failure is the result.
pub(crate) fn remove(instance: &str, remains: &Remains) -> io::Result<()> {
    let slot = remains.slot.map_or(Ok(()), |slot| net::remove_slot(instance, slot));
    let group = remains.group.remove();
    if let Some((upper, made)) = &remains.placeholders {
        remove_placeholders(upper, made);
    }
    let scratch = remains.scratch.as_deref().map_or(Ok(()), remove_tree);
    slot.and(group).and(scratch)
}

/// Children first; only what is still empty. The directory's content is hostile, so no link is followed.
fn remove_placeholders(upper: &Path, made: &[PathBuf]) {
    let Ok(root) = open_directory(CWD, upper) else { return };
    for path in made.iter().rev() {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(parent) = rustix::fs::openat2(&root, parent, flags, Mode::empty(), resolve) else { continue };
        let Ok(found) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let _ = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if found.st_size == 0 => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())
            }
            _ => Ok(()),
        };
    }
}

fn open_directory(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Removes a directory and all below it. A tenant can nest directories deeper than any recursion or path may go, so
/// inner directories are first moved up to the top, where one level is emptied at a time.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match open_directory(CWD, path) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0u64;
    loop {
        let mut again = false;
        for (name, is_directory) in entries(&top)? {
            if !is_directory {
                rustix::fs::unlinkat(&top, &name, AtFlags::empty())?;
                continue;
            }
            let inner = open_directory(&top, &name)?;
            for (inner_name, is_directory) in entries(&inner)? {
                if !is_directory {
                    rustix::fs::unlinkat(&inner, &inner_name, AtFlags::empty())?;
                    continue;
                }
                if rustix::fs::unlinkat(&inner, &inner_name, AtFlags::REMOVEDIR).is_ok() {
                    continue;
                }
                again = true;
                loop {
                    moved += 1;
                    let to = format!(".{moved}");
                    match rustix::fs::renameat_with(&inner, &inner_name, &top, to, RenameFlags::NOREPLACE) {
                        Err(rustix::io::Errno::EXIST) => continue,
                        other => break other?,
                    }
                }
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
        }
        if !again {
            break;
        }
    }
    fs::remove_dir(path)
}

fn entries(directory: &OwnedFd) -> io::Result<Vec<(std::ffi::CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => {
                let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(found.st_mode) == FileType::Directory
            }
            kind => kind == FileType::Directory,
        };
        found.push((name.to_owned(), is_directory));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = open_directory(CWD, &top).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "nested", Mode::RWXU).unwrap();
            at = open_directory(&at, "nested").unwrap();
        }
        std::os::unix::fs::symlink("/", top.join("link")).unwrap();
        fs::write(top.join(".1"), "in the way").unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn placeholders_go_only_while_empty_and_never_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        for made in [&upper, &outside, &upper.join("empty"), &upper.join("used"), &outside.join("empty")] {
            fs::create_dir(made).unwrap();
        }
        fs::write(upper.join("used/file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("link")).unwrap();
        remove_placeholders(&upper, &["empty".into(), "used".into(), "link/empty".into()]);
        assert!(!upper.join("empty").exists());
        assert!(upper.join("used").exists());
        assert!(outside.join("empty").exists());
    }
}
