//! `/dev`, `/proc` and `/sys` of a container, made as detached mount trees before its root file system is known.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::HelperConfig;

pub(crate) struct Skeleton {
    pub proc: OwnedFd,
    pub sys: OwnedFd,
    pub dev: OwnedFd,
}

/// Device nodes every program may expect, with their numbers.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Files that tell of the host or reach into it; they read as empty.
const MASKED_FILES: [&str; 10] = [
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/latency_stats",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/interrupts",
    "proc/kallsyms",
    "proc/kmsg",
];
/// Directories likewise.
const MASKED_DIRECTORIES: [&str; 7] = [
    "proc/acpi",
    "proc/asound",
    "proc/scsi",
    "proc/driver",
    "sys/firmware",
    "sys/devices/virtual/powercap",
    "sys/kernel/security",
];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// `/dev` holds nodes and links only.
const DEV_OPTIONS: &std::ffi::CStr = c"mode=0755,size=1m";

impl Skeleton {
    /// Must run in the pid, network and IPC namespaces of the container: its `/proc`, `/sys` and queues show those.
    pub(crate) fn make(config: &HelperConfig, show_cgroup: bool) -> Result<Skeleton, Failure> {
        let home = fs::File::open("/proc/self/ns/mnt").step("skeleton")?;
        let base = config.state_dir.join("attach/root");
        // Built in a mount namespace that vanishes when it is left; only the detached copies stay.
        sys::unshare(libc::CLONE_NEWNS).step("skeleton")?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .step("skeleton")?;
        rustix::mount::mount("tmpfs", &base, "tmpfs", SAFE, c"mode=0755").step("skeleton")?;
        for name in ["proc", "sys", "dev"] {
            fs::create_dir(base.join(name)).step("skeleton")?;
        }
        make_proc_and_sys(&base, show_cgroup)?;
        make_dev(&base.join("dev"), config)?;
        mask(&base)?;
        let detached = |name: &str| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            rustix::mount::open_tree(rustix::fs::CWD, base.join(name), flags).step("skeleton")
        };
        let skeleton = Skeleton { proc: detached("proc")?, sys: detached("sys")?, dev: detached("dev")? };
        sys::setns(home.as_fd(), libc::CLONE_NEWNS).step("skeleton")?;
        Ok(skeleton)
    }
}

fn make_proc_and_sys(base: &Path, show_cgroup: bool) -> Result<(), Failure> {
    rustix::mount::mount("proc", base.join("proc"), "proc", SAFE, None).step("mount /proc")?;
    let read_only = SAFE | MountFlags::RDONLY;
    rustix::mount::mount("sysfs", base.join("sys"), "sysfs", read_only, None).step("mount /sys")?;
    if show_cgroup {
        let target = base.join("sys/fs/cgroup");
        rustix::mount::mount("cgroup2", target, "cgroup2", read_only, None).step("mount /sys/fs/cgroup")?;
    }
    Ok(())
}

fn make_dev(dev: &Path, config: &HelperConfig) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", dev, "tmpfs", flags, DEV_OPTIONS).step("mount /dev")?;
    give(dev, config).step("mount /dev")?;
    for (name, major, minor) in NODES {
        let path = dev.join(name);
        if config.rootless {
            // Nodes cannot be made in a user namespace; the host's are lent.
            fs::File::create(&path).step("mount /dev")?;
            rustix::mount::mount_bind(Path::new("/dev").join(name), &path).step("mount /dev")?;
            continue;
        }
        let number = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, mode, number)
            .step("mount /dev")?;
        rustix::fs::chmod(&path, mode).step("mount /dev")?;
        give(&path, config).step("mount /dev")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).step("mount /dev")?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name)).step("mount /dev")?;
    }
    // Group 5 is `tty` in every distribution; with a single id there is no such group.
    let group = if config.ids > 5 { format!(",gid={}", config.base + 5) } else { String::new() };
    let options = format!("newinstance,ptmxmode=0666,mode=0620{group}");
    let options = std::ffi::CString::new(options).expect("no zero bytes");
    rustix::mount::mount("devpts", dev.join("pts"), "devpts", flags, options.as_c_str())
        .step("mount /dev/pts")?;
    rustix::mount::mount("mqueue", dev.join("mqueue"), "mqueue", SAFE, None).step("mount /dev/mqueue")
}

fn give(path: &Path, config: &HelperConfig) -> io::Result<()> {
    chown(path, Some(config.base), Some(config.base))
}

fn mask(base: &Path) -> Result<(), Failure> {
    let null = base.join("dev/null");
    for file in MASKED_FILES.map(|file| base.join(file)) {
        if file.exists() {
            rustix::mount::mount_bind(&null, &file).step("mask")?;
        }
    }
    for directory in MASKED_DIRECTORIES.map(|directory| base.join(directory)) {
        if directory.is_dir() {
            let flags = SAFE | MountFlags::RDONLY;
            rustix::mount::mount("tmpfs", &directory, "tmpfs", flags, c"mode=0755,size=4k").step("mask")?;
        }
    }
    for path in READ_ONLY.map(|path| base.join(path)) {
        if !path.exists() {
            continue;
        }
        rustix::mount::mount_bind(&path, &path).step("mask")?;
        let flags = MountFlags::BIND | SAFE | MountFlags::RDONLY;
        rustix::mount::mount_remount(&path, flags, c"").step("mask")?;
    }
    Ok(())
}

/// Lets go of everything that is not below the new root, which is the working directory.
pub(crate) fn enter_root() -> io::Result<()> {
    // Both arguments name the new root: the old one ends up mounted on top of it, out of reach of no path, and the
    // unmount takes it away.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
