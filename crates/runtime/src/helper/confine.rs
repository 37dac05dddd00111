//! A half-made container becomes a container: steps 6 to 14 of docs/containers.md, in their order.

mod gpu;

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::fdpass;
use crate::helper::program::{self, Files};
use crate::helper::rootfs::{self, Kind, Places};
use crate::helper::stub::Prepared;
use crate::helper::{init, skeleton};
use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{Event, Plan, StubEvent};

/// The largest plan read; argument lists and environments are bounded by the kernel well below.
const PLAN_MAX: u64 = 16 << 20;

/// Capabilities by number (capabilities(7)).
mod capability {
    pub(super) const FUNCTION: u64 =
        CHOWN | DAC_OVERRIDE | FOWNER | FSETID | KILL | SETGID | SETUID | BIND | CHROOT;
    /// What dpkg and maintainer scripts use beside that: file capabilities, dropping their own, and audit records.
    pub(super) const BUILD: u64 = FUNCTION | SETPCAP | SETFCAP | AUDIT_WRITE | MKNOD;
    const CHOWN: u64 = 1 << 0;
    const DAC_OVERRIDE: u64 = 1 << 1;
    const FOWNER: u64 = 1 << 3;
    const FSETID: u64 = 1 << 4;
    const KILL: u64 = 1 << 5;
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    const SETPCAP: u64 = 1 << 8;
    const BIND: u64 = 1 << 10;
    const CHROOT: u64 = 1 << 18;
    const MKNOD: u64 = 1 << 27;
    const AUDIT_WRITE: u64 = 1 << 29;
    const SETFCAP: u64 = 1 << 31;
}

pub(crate) fn capabilities(build_profile: bool) -> u64 {
    if build_profile { capability::BUILD } else { capability::FUNCTION }
}

/// Becomes the container's first process; never returns.
pub(crate) fn run(prepared: Prepared<'_>, fds: Vec<OwnedFd>) -> ! {
    let mut fds = fds.into_iter();
    let (Some(plan), Some(control)) = (fds.next(), fds.next()) else { sys::exit(1) };
    let outcome = read_plan(plan).and_then(|plan: Plan| {
        let files = Files::take(&plan.program, fds)?;
        start(&prepared, &plan, files)
    });
    match outcome {
        Ok(running) => {
            let beside: Vec<_> = running.terminal.iter().map(AsFd::as_fd).collect();
            let started = Event::Started { pid: 0 };
            if fdpass::send(&control, &started, &beside).is_err() {
                sys::exit(1);
            }
            drop(beside);
            init::run(running.pid, control, prepared.helper, prepared.filters)
        }
        Err(Failure { step, reason, errno }) => {
            let _ = fdpass::send(&control, &Event::Failed { step, reason, errno }, &[]);
            sys::exit(1)
        }
    }
}

pub(crate) fn read_plan<P: serde::de::DeserializeOwned>(fd: OwnedFd) -> Result<P, Failure> {
    let file = fs::File::from(fd);
    let length = file.metadata().step("plan")?.len();
    if length > PLAN_MAX {
        return Err(Failure::new("plan", "arguments and environment are too large"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).step("plan")?;
    serde_json::from_slice(&bytes).map_err(io::Error::from).step("plan")
}

fn start(prepared: &Prepared<'_>, plan: &Plan, files: Files) -> Result<program::Running, Failure> {
    // 6. limits
    if !prepared.group.directories().is_empty() || !prepared.config.rootless {
        prepared.group.limit(&plan.limits).step("limits")?;
    }
    // 7. mount namespace
    sys::unshare(libc::CLONE_NEWNS).step("mount namespace")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step("mount namespace")?;
    // 8. root file system
    let overlay = rootfs::overlay(plan, prepared.config)?;
    let root = prepared.config.state_dir.join("attach/root");
    let attached =
        rustix::fs::open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("root file system")?;
    rootfs::attach(&overlay, attached.as_fd()).step("root file system")?;
    // 9. mounts
    mount_everything(prepared, plan, &overlay)?;
    // 10. root
    rustix::process::fchdir(&overlay).step("root")?;
    skeleton::enter_root().step("root")?;
    // 11. host name
    rustix::system::sethostname(plan.hostname.as_bytes()).step("host name")?;
    // 12. user
    become_tenant(prepared.user_namespace.as_fd(), prepared.config.ids > 1)?;
    // 13. capabilities
    drop_privileges(plan.program.build_profile)?;
    // 14. program
    program::spawn(&plan.program, files, prepared.filters)
}

fn mount_everything(prepared: &Prepared<'_>, plan: &Plan, overlay: &OwnedFd) -> Result<(), Failure> {
    let Prepared { config, skeleton, .. } = prepared;
    let mut places = Places::new(overlay.as_fd(), config.base);
    let put = |mount: &OwnedFd, target: &str, kind, places: &mut Places<'_>| {
        let step = format!("mount {target}");
        let place = places.get(target, kind).step(&step)?;
        rootfs::attach(mount, place.as_fd()).step(&step)
    };
    let tmp = |mode| rootfs::tmpfs(plan.limits.tmp_bytes, mode, config).step("mount /tmp");
    put(&skeleton.proc, "/proc", Kind::Directory, &mut places)?;
    put(&skeleton.sys, "/sys", Kind::Directory, &mut places)?;
    put(&skeleton.dev, "/dev", Kind::Directory, &mut places)?;
    put(&tmp("1777")?, "/dev/shm", Kind::Directory, &mut places)?;
    // A build step finds what earlier steps left in `/tmp`, and leaves there what later ones want.
    if !plan.program.build_profile {
        put(&tmp("1777")?, "/tmp", Kind::Directory, &mut places)?;
    }
    for (target, file) in host_files(prepared, plan)? {
        put(&file, target, Kind::File, &mut places)?;
    }
    if let Some(plan) = &plan.gpu {
        for (target, mount, kind) in gpu::mounts(plan, config)? {
            put(&mount, &target, kind, &mut places)?;
        }
    }
    for bind in &plan.binds {
        let (mount, kind) = rootfs::open_bind(bind)?;
        put(&mount, &bind.target, kind, &mut places)?;
    }
    if plan.keep && !places.made.is_empty() {
        let made = std::mem::take(&mut places.made);
        fdpass::send(&prepared.helper, &StubEvent::Placeholders(made), &[]).step("mounts")?;
    }
    Ok(())
}

/// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, in memory so that they never become part of a layer.
fn host_files(prepared: &Prepared<'_>, plan: &Plan) -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    const STEP: &str = "host files";
    const SIZE: u64 = 1 << 20;
    let config = prepared.config;
    let name = &plan.hostname;
    let base = config.state_dir.join("attach/files");
    let memory = rootfs::tmpfs(SIZE, "0755", config).step(STEP)?;
    let place = rustix::fs::open(&base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(STEP)?;
    rootfs::attach(&memory, place.as_fd()).step(STEP)?;
    let hosts = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let files = [
        ("/etc/hosts", "hosts", hosts),
        ("/etc/hostname", "hostname", format!("{name}\n")),
        ("/etc/resolv.conf", "resolv.conf", config.resolv_conf.clone()),
    ];
    let made = files.into_iter().map(|(target, file, text)| {
        let path = base.join(file);
        let mut file = fs::File::create(&path).step(STEP)?;
        file.write_all(text.as_bytes()).step(STEP)?;
        std::os::unix::fs::fchown(&file, Some(config.base), Some(config.base)).step(STEP)?;
        Ok((target, rootfs::detached(&path).step(STEP)?))
    });
    made.collect()
}

/// From here on the process has no power over the namespaces it is in.
pub(crate) fn become_tenant(namespace: std::os::fd::BorrowedFd<'_>, groups: bool) -> Result<(), Failure> {
    sys::setns(namespace, libc::CLONE_NEWUSER).step("user")?;
    sys::become_root(groups).step("user")?;
    // Changing users forgot it.
    sys::die_with_parent().step("user")?;
    sys::set_dumpable(false).step("user")
}

pub(crate) fn drop_privileges(build_profile: bool) -> Result<(), Failure> {
    let keep = capabilities(build_profile);
    sys::bound_capabilities(keep).step("capabilities")?;
    sys::set_capabilities(keep).step("capabilities")?;
    sys::no_new_privileges().step("capabilities")
}

/// Descriptors that go on being used after a program was started.
pub(crate) fn numbers(fds: &[&OwnedFd]) -> Vec<i32> {
    fds.iter().map(|fd| fd.as_raw_fd()).collect()
}
