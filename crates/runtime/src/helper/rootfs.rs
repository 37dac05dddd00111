//! The container's root: overlay, mounts over it, and the places they are mounted on.
//!
//! What lies in the layers is hostile: every path below the new root is resolved by the kernel with the root as its
//! end (`RESOLVE_IN_ROOT`), and links are never followed by us.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{Bind, HelperConfig, Plan};

/// Attributes of every mount a tenant can write to: no devices, no set-user-id.
const TENANT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV.union(MountAttrFlags::MOUNT_ATTR_NOSUID);
/// Longest chain of links we look through for a file to mount over.
const LINKS_MAX: usize = 8;

/// The merged file system, not attached anywhere yet.
pub(crate) fn overlay(plan: &Plan, config: &HelperConfig) -> Result<OwnedFd, Failure> {
    let layers = Layers::open(plan, config).step("root file system")?;
    match layers.mount_by_parts(plan, config) {
        // Before Linux 6.8 there is no `lowerdir+`; layers then have to fit in one page of options.
        Err(rustix::io::Errno::INVAL) => layers.mount_at_once(plan, config).step("root file system"),
        other => other.step("root file system"),
    }
}

/// Open layer directories. The kernel is told `/proc/self/fd/N`: short, so that many fit, and it is what the mount
/// table inside the container shows instead of the host's paths.
struct Layers {
    lowers: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
}

fn by_number(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Layers {
    fn open(plan: &Plan, config: &HelperConfig) -> io::Result<Layers> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(
                |error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display())),
            )
        };
        make_upper(plan, config)?;
        let placeholders = config.state_dir.join("points");
        let lowers = plan.lowers.iter().map(PathBuf::as_path).chain([placeholders.as_path()]);
        Ok(Layers {
            lowers: lowers.map(open).collect::<io::Result<_>>()?,
            upper: open(&plan.upper)?,
            work: open(&plan.work)?,
        })
    }

    fn mount_by_parts(&self, plan: &Plan, config: &HelperConfig) -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context.as_fd(), key, value);
        for lower in &self.lowers {
            set("lowerdir+", &by_number(lower))?;
        }
        set("upperdir", &by_number(&self.upper))?;
        set("workdir", &by_number(&self.work))?;
        for (key, value) in OPTIONS {
            set(key, value)?;
        }
        for flag in flags(plan, config) {
            rustix::mount::fsconfig_set_flag(context.as_fd(), flag)?;
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, TENANT)
    }

    fn mount_at_once(&self, plan: &Plan, config: &HelperConfig) -> io::Result<OwnedFd> {
        let lowers = self.lowers.iter().map(by_number).collect::<Vec<_>>().join(":");
        let mut options = format!(
            "lowerdir={lowers},upperdir={},workdir={}",
            by_number(&self.upper),
            by_number(&self.work)
        );
        for (key, value) in OPTIONS {
            options += &format!(",{key}={value}");
        }
        for flag in flags(plan, config) {
            options += &format!(",{flag}");
        }
        const PAGE: usize = 4096;
        if options.len() >= PAGE {
            return Err(io::Error::other(format!(
                "{} layers are too many for this kernel; Linux 6.8 takes any number",
                self.lowers.len() - 1
            )));
        }
        let target = config.state_dir.join("attach/root");
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        let mount_flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOSUID;
        rustix::mount::mount("overlay", &target, "overlay", mount_flags, options.as_c_str())?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(CWD, &target, clone)?)
    }
}

/// Nothing that ties an upper directory to this mount, so that a kept one is a plain layer; and nothing in a hostile
/// layer's attributes that points elsewhere is followed.
const OPTIONS: [(&str, &str); 4] =
    [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

fn flags(plan: &Plan, config: &HelperConfig) -> Vec<&'static str> {
    let mut flags = Vec::new();
    if !plan.keep {
        // What is thrown away need not reach the disk.
        flags.push("volatile");
    }
    if config.rootless {
        flags.push("userxattr");
    }
    flags
}

/// The upper directory is the root's own inode: it belongs to the container's root and everyone may look in.
fn make_upper(plan: &Plan, config: &HelperConfig) -> io::Result<()> {
    fs::create_dir_all(&plan.work)?;
    if plan.upper.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&plan.upper)?;
    rustix::fs::chmod(&plan.upper, Mode::from_raw_mode(0o755))?;
    std::os::unix::fs::chown(&plan.upper, Some(config.base), Some(config.base))
}

/// A new in-memory file system of a size, not attached.
pub(crate) fn tmpfs(bytes: u64, mode: &str, config: &HelperConfig) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let owner = config.base.to_string();
    for (key, value) in
        [("size", bytes.to_string().as_str()), ("mode", mode), ("uid", &owner), ("gid", &owner)]
    {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, TENANT)
}

/// A detached copy of something mounted or lying on the host.
pub(crate) fn detached(source: &Path) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, source, flags)
}

pub(crate) fn attach(mount: impl AsFd, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount.as_fd(), "", target, "", flags)
}

/// What is mounted at `source` of the host, restricted for a tenant.
pub(crate) fn open_bind(bind: &Bind) -> Result<(OwnedFd, Kind), Failure> {
    let name = format!("mount {}", bind.target);
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", bind.source.display()));
    let kind = if fs::metadata(&bind.source).map_err(told).step(&name)?.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    let mount = detached(&bind.source).map_err(io::Error::from).map_err(told).step(&name)?;
    let mut attributes = TENANT;
    if bind.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    sys::set_mount_attributes(mount.as_fd(), attributes.bits().into()).step(&name)?;
    Ok((mount, kind))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

/// Finds places to mount on below the root and makes those that are missing.
pub(crate) struct Places<'a> {
    root: BorrowedFd<'a>,
    owner: u32,
    /// What had to be made, below the root, parents first.
    pub made: Vec<PathBuf>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, owner: u32) -> Self {
        Self { root, owner, made: Vec::new() }
    }

    fn look_up(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        rustix::fs::openat2(self.root, path, flags, Mode::empty(), resolve)
    }

    /// The place at an absolute path of the container.
    pub(crate) fn get(&mut self, path: &str, kind: Kind) -> io::Result<OwnedFd> {
        self.find(Path::new(path), kind, LINKS_MAX)
    }

    fn find(&mut self, path: &Path, kind: Kind, links: usize) -> io::Result<OwnedFd> {
        let directory = if kind == Kind::Directory { OFlags::DIRECTORY } else { OFlags::empty() };
        match self.look_up(path, directory) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        let parent_fd = self.find(parent, Kind::Directory, links)?;
        match self.make(&parent_fd, Path::new(name), kind) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) if links > 0 => {
                // A link to what does not exist: make what it points at, still below the root.
                let target = rustix::fs::readlinkat(&parent_fd, name, Vec::new())?;
                let target = PathBuf::from(std::ffi::OsString::from(target.to_string_lossy().into_owned()));
                if target.components().any(|part| part == std::path::Component::ParentDir) {
                    return self.find(&flatten(&parent.join(target)), kind, links - 1);
                }
                return self.find(&parent.join(target), kind, links - 1);
            }
            Err(error) => return Err(error.into()),
        }
        self.remember(&parent_fd, name);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat2(&parent_fd, name, flags, Mode::empty(), resolve)?)
    }

    fn make(&self, parent: &OwnedFd, name: &Path, kind: Kind) -> rustix::io::Result<()> {
        match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        let owner = (rustix::fs::Uid::from_raw(self.owner), rustix::fs::Gid::from_raw(self.owner));
        rustix::fs::chownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn remember(&mut self, parent: &OwnedFd, name: &std::ffi::OsStr) {
        // The kernel's own account of where the parent is, links resolved.
        let (Ok(parent), Ok(root)) = (fs::read_link(by_number(parent)), read_root(self.root)) else { return };
        let below = parent.strip_prefix(&root).unwrap_or(&parent).to_owned();
        self.made.push(below.join(name));
    }
}

fn read_root(root: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))
}

/// Removes `..` by text. Wrong where links lie between, which at worst mounts at another place below the root.
fn flatten(path: &Path) -> PathBuf {
    let mut flat = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(flat.pop()),
            std::path::Component::Normal(name) => flat.push(name),
            _ => {}
        }
    }
    flat
}
