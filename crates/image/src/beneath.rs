//! Writing files beneath a folder, whatever the names and links that hostile archives bring.
//!
//! A path is walked one part at a time from the folder's own descriptor, never following a link by the kernel: a
//! link met on the way is read and its target walked from the folder as if that were `/`. The folders written to
//! are private to the writer, so nothing changes between the look and the step.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use clunk_runtime::Runtime;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// Links followed for one path, as many as Linux itself follows.
const MAX_LINKS: usize = 40;

/// Parts of one path; a deeper archive is an attack on whoever walks the tree later.
const MAX_DEPTH: usize = 256;

/// Copying in smaller pieces costs measurably more system calls; larger ones gain nothing.
const COPY_BYTES: usize = 128 << 10;

/// Permissions of a file that may lie in several layers under one name each.
const SHARED_MODE: u32 = 0o644;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Who owns files on disk that belong to a user inside containers.
#[derive(Clone)]
pub(crate) struct Ids {
    runtime: Arc<dyn Runtime>,
    /// Without root the kernel refuses to give files away; the runtime then maps our own user.
    can_give: bool,
}

impl Ids {
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, can_give: rustix::process::geteuid().is_root() }
    }

    fn owner(&self, uid: u32, gid: u32) -> Option<(Uid, Gid)> {
        let raw = |id| self.runtime.host_id(id);
        // The largest number means "leave as it is" to the kernel.
        let usable = |id: u32| if id == u32::MAX { raw(0) } else { id };
        self.can_give.then(|| (Uid::from_raw(usable(raw(uid))), Gid::from_raw(usable(raw(gid)))))
    }

    /// Whom a file on disk belongs to inside containers; root, when that is nobody there.
    pub fn inside(&self, id: u32) -> u32 {
        let raw = |id| self.runtime.host_id(id);
        // Root may stand by itself; all others follow each other.
        let guess = id.wrapping_sub(raw(1)).wrapping_add(1);
        if id != raw(0) && raw(guess) == id { guess } else { 0 }
    }

    /// Gives a folder or file of our own making to the container's root.
    pub fn give_to_root(&self, path: &Path) -> io::Result<()> {
        match self.owner(0, 0) {
            Some((uid, gid)) => {
                Ok(fs::chownat(fs::CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            None => Ok(()),
        }
    }

    /// Removes a folder in the background, whichever users of containers own what is in it.
    pub fn discard(&self, path: &Path) {
        self.runtime.discard(path.to_path_buf());
    }

    /// The mode a file gets. Where containers' root is the host's root a set-user-id file would be a way for any
    /// local user to become root; containers run without new privileges, so nothing is lost by dropping the bit.
    fn file_mode(&self, mode: u32) -> Mode {
        let mask = if self.runtime.host_id(0) == 0 { 0o1777 } else { 0o7777 };
        Mode::from_raw_mode(mode & mask)
    }
}

/// Owner as the container sees it, permissions, and time in seconds since 1970 (none: now).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_s: Option<u64>,
}

impl Meta {
    pub const FOLDER: Self = Self { mode: 0o755, uid: 0, gid: 0, mtime_s: None };
}

/// A folder that is written to, and the last parent used in it.
pub(crate) struct Root {
    fd: OwnedFd,
    ids: Ids,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Root {
    pub fn open(path: &Path, ids: Ids) -> io::Result<Self> {
        Ok(Self { fd: fs::open(path, FOLDER, Mode::empty())?, ids, last: None })
    }

    /// A new file with the reader's content; replaces what is there. Returns the bytes written.
    pub fn file(&mut self, path: &[u8], meta: Meta, content: &mut impl Read) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600));
        let fd = match open() {
            Err(Errno::EXIST) => {
                remove(parent.as_fd(), &name)?;
                open()?
            }
            other => other?,
        };
        let mut file = File::from(fd);
        let written = copy(content, &mut file)?;
        self.finish_file(&file, meta)?;
        Ok(written)
    }

    fn finish_file(&self, file: &File, meta: Meta) -> io::Result<()> {
        if let Some((uid, gid)) = self.ids.owner(meta.uid, meta.gid) {
            fs::fchown(file, Some(uid), Some(gid))?;
        }
        fs::fchmod(file, self.ids.file_mode(meta.mode))?;
        if let Some(mtime) = meta.mtime_s {
            fs::futimens(file, &times(mtime))?;
        }
        Ok(())
    }

    /// A new file that shares its room on the disk with another one, which never changes: a clone where the file system
    /// makes such, else another name of it when its permissions fit. False: neither can be had, and nothing was made.
    pub fn share(&mut self, path: &[u8], meta: Meta, content: &File, source: &Path) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        remove(parent.as_fd(), &name)?;
        let file = File::from(fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600))?);
        if fs::ioctl_ficlone(&file, content).is_ok() {
            self.finish_file(&file, meta)?;
            return Ok(true);
        }
        drop(file);
        remove(parent.as_fd(), &name)?;
        // Its only other name is in a folder that containers do not see: theirs to read, nobody's to write.
        if meta.mode != SHARED_MODE || self.finish_file(content, meta).is_err() {
            return Ok(false);
        }
        Ok(fs::linkat(fs::CWD, source, &parent, &name, AtFlags::empty()).is_ok())
    }

    /// A folder with these permissions, made or already there.
    pub fn folder(&mut self, path: &[u8], meta: Meta) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        if name.is_empty() {
            return self.set_folder(parent.as_fd(), meta);
        }
        let fd = match fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => match fs::openat(&parent, &name, FOLDER, Mode::empty()) {
                Ok(fd) => fd,
                // Layers made on a merged-/usr system carry `lib/` for what is a link to a folder beside it.
                Err(Errno::NOTDIR | Errno::LOOP) if self.is_link(parent.as_fd(), &name) => return Ok(()),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    fs::unlinkat(&parent, &name, AtFlags::empty())?;
                    fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755))?;
                    fs::openat(&parent, &name, FOLDER, Mode::empty())?
                }
                Err(error) => return Err(error.into()),
            },
            made => {
                made?;
                fs::openat(&parent, &name, FOLDER, Mode::empty())?
            }
        };
        self.set_folder(fd.as_fd(), meta)
    }

    /// A folder with the owner (of the host) and permissions of another one.
    pub fn folder_like(&mut self, path: &[u8], like: &std::fs::Metadata) -> io::Result<()> {
        self.folder(path, Meta { mode: like.mode(), ..Meta::FOLDER })?;
        let (fd, _) = self.parent(&[path, b"/."].concat())?;
        if self.ids.can_give {
            fs::fchown(&fd, Some(Uid::from_raw(like.uid())), Some(Gid::from_raw(like.gid())))?;
            fs::fchmod(&fd, Mode::from_raw_mode(like.mode() & 0o7777))?;
        }
        Ok(())
    }

    fn is_link(&self, parent: BorrowedFd<'_>, name: &OsStr) -> bool {
        fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    fn set_folder(&self, fd: BorrowedFd<'_>, meta: Meta) -> io::Result<()> {
        if let Some((uid, gid)) = self.ids.owner(meta.uid, meta.gid) {
            fs::fchown(fd, Some(uid), Some(gid))?;
        }
        Ok(fs::fchmod(fd, Mode::from_raw_mode(meta.mode & 0o7777))?)
    }

    /// A symbolic link with the target as written: only containers resolve it.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], meta: Meta) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let target = OsStr::from_bytes(target);
        if let Err(error) = fs::symlinkat(target, &parent, &name) {
            if error != Errno::EXIST {
                return Err(error.into());
            }
            remove(parent.as_fd(), &name)?;
            fs::symlinkat(target, &parent, &name)?;
        }
        if let Some((uid, gid)) = self.ids.owner(meta.uid, meta.gid) {
            fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Another name for a file of this folder.
    pub fn hard_link(&mut self, path: &[u8], existing: &[u8]) -> io::Result<()> {
        let (from, from_name) = self.parent(existing)?;
        let (parent, name) = self.parent(path)?;
        let link = || fs::linkat(&from, &from_name, &parent, &name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                let stat = |fd: &OwnedFd, name: &OsStr| fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
                let (old, new) = (stat(&from, &from_name)?, stat(&parent, &name)?);
                if (old.st_ino, old.st_dev) == (new.st_ino, new.st_dev) {
                    return Ok(());
                }
                remove(parent.as_fd(), &name)?;
                Ok(link()?)
            }
            other => Ok(other?),
        }
    }

    pub fn fifo(&mut self, path: &[u8], meta: Meta) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let mode = Mode::from_raw_mode(meta.mode & 0o777);
        match fs::mknodat(&parent, &name, FileType::Fifo, mode, 0) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some((uid, gid)) = self.ids.owner(meta.uid, meta.gid) {
            fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Overlayfs' sign that a lower layer's file of this name is gone: a character device 0, 0.
    pub fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match fs::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), 0) {
            // What the same layer brings itself stays: a whiteout concerns the layers below.
            Err(Errno::EXIST) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Overlayfs' sign that nothing of the lower layers' folder of this name shows through. Both names of the
    /// attribute are written: which one counts depends on whether the mount is made inside a user namespace.
    pub fn opaque(&mut self, folder: &[u8]) -> io::Result<()> {
        let mut path = folder.to_vec();
        path.extend_from_slice(b"/.");
        let (fd, _) = self.parent(&path)?;
        let set = |name: &str| fs::fsetxattr(&fd, name, b"y", fs::XattrFlags::empty());
        match (set("user.overlay.opaque"), set("trusted.overlay.opaque")) {
            (Err(error), Err(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A user attribute of a file that was just written.
    pub fn set_xattr(&mut self, path: &[u8], name: &str, value: &[u8]) -> io::Result<()> {
        let (parent, file) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = fs::openat(&parent, &file, flags, Mode::empty())?;
        Ok(fs::fsetxattr(&fd, name, value, fs::XattrFlags::empty())?)
    }

    /// The folder a path is in, made when missing, and the path's last part (empty for the root itself).
    fn parent(&mut self, path: &[u8]) -> io::Result<(OwnedFd, OsString)> {
        if path.contains(&0) || path.len() > 4096 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a possible file name"));
        }
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        let (folder, name) = match trimmed.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&trimmed[..at], &trimmed[at + 1..]),
            None => (&b""[..], trimmed),
        };
        if matches!(name, b"" | b"." | b"..") {
            // `a/..` and the like name a folder: resolve it whole.
            return Ok((self.walk(trimmed)?, OsString::new()));
        }
        let fd = match &self.last {
            Some((last, fd)) if last == folder => fd.try_clone()?,
            _ => {
                let fd = self.walk(folder)?;
                self.last = Some((folder.to_vec(), fd.try_clone()?));
                fd
            }
        };
        Ok((fd, OsString::from_vec(name.to_vec())))
    }

    fn walk(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut todo: VecDeque<Vec<u8>> = path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
        let mut folders = vec![self.fd.try_clone()?];
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if folders.len() > 1 {
                        folders.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = OsStr::from_bytes(&part);
            let here = folders.last().expect("the root stays");
            match fs::openat(here, name, FOLDER, Mode::empty()) {
                Ok(fd) => folders.push(fd),
                Err(Errno::NOENT) => folders.push(self.make(here, name)?),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = fs::readlinkat(here, name, Vec::new())
                        .map_err(|_| io::Error::from(io::ErrorKind::NotADirectory))?
                        .into_bytes();
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        folders.truncate(1);
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                Err(error) => return Err(error.into()),
            }
            if folders.len() > MAX_DEPTH || todo.len() > MAX_DEPTH * 2 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "folders nested too deep"));
            }
        }
        Ok(folders.pop().expect("the root stays"))
    }

    fn make(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let fd = fs::openat(parent, name, FOLDER, Mode::empty())?;
        self.set_folder(fd.as_fd(), Meta::FOLDER)?;
        Ok(fd)
    }
}

fn times(mtime_s: u64) -> Timestamps {
    let at = Timespec { tv_sec: mtime_s.min(i64::MAX as u64) as i64, tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

fn copy(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    use std::io::Write;
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes a file, or a folder with all in it, following no link.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let folder = fs::openat(parent, name, FOLDER, Mode::empty())?;
            let mut names = Vec::new();
            for entry in fs::Dir::read_from(&folder)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name.to_vec()));
                }
            }
            for name in names {
                remove(folder.as_fd(), &name)?;
            }
            Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes `path` (relative) beneath a folder whose content is hostile, if it is there.
pub(crate) fn remove_beneath(folder: &Path, path: &str) -> io::Result<()> {
    let mut here = fs::open(folder, FOLDER, Mode::empty())?;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return remove(here.as_fd(), OsStr::new(part));
        }
        here = match fs::openat(&here, part, FOLDER, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}
