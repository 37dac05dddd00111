//! Half-made containers: everything that does not depend on what will run, done before it is asked for.
//!
//! A *scout* process does steps 1 to 4 and ends; the first process of the new pid namespace, its sibling, does step 5
//! and waits for a plan. Making network namespaces and moving processes between control groups takes the kernel
//! milliseconds, so this is what keeps starts short.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::cgroup::Group;
use crate::fdpass;
use crate::helper::confine;
use crate::helper::skeleton::Skeleton;
use crate::net::{self, Subnet, netlink::Netlink};
use crate::seccomp::Filters;
use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{HelperConfig, StubEvent};

/// What a stub is made from.
pub(crate) struct Blueprint<'a> {
    pub config: &'a HelperConfig,
    pub filters: &'a Filters,
    pub group: Group,
    /// Its place in the network, when it gets one.
    pub slot: Option<(Subnet, u16)>,
    /// Whether control groups of version 2 are shown inside.
    pub show_cgroup: bool,
    /// For standard input, output and errors.
    pub null: BorrowedFd<'a>,
}

/// What the first process holds while it waits.
pub(crate) struct Prepared<'a> {
    pub config: &'a HelperConfig,
    pub filters: &'a Filters,
    pub group: Group,
    pub user_namespace: OwnedFd,
    pub skeleton: Skeleton,
    /// Closes when the helper dies.
    pub helper: OwnedFd,
}

/// The life of a scout; never returns.
pub(crate) fn run_scout(blueprint: Blueprint<'_>, helper: OwnedFd) -> ! {
    let _ = sys::die_with_parent();
    sys::close_all_but(&[helper.as_raw_fd()], Some(blueprint.null));
    match scout(&blueprint) {
        Ok(None) => sys::exit(0),
        Ok(Some(user_namespace)) => run_first_process(blueprint, user_namespace, helper),
        Err(Failure { step, reason, .. }) => {
            let _ = fdpass::send(&helper, &StubEvent::Failed { step, reason }, &[]);
            sys::exit(1)
        }
    }
}

/// Steps 1 to 4. `Some` in the first process of the container.
fn scout(blueprint: &Blueprint<'_>) -> Result<Option<OwnedFd>, Failure> {
    blueprint.group.make().step("control group")?;
    blueprint.group.join(0).step("control group")?;
    let user_namespace = make_user_namespace(blueprint.config).step("user namespace")?;
    let host = Netlink::open().step("network namespace")?;
    match blueprint.slot {
        None => net::enter_new().map(drop).step("network namespace")?,
        Some((subnet, slot)) => {
            net::enter_connected(host, &blueprint.config.instance, subnet, slot).step("network namespace")?
        }
    }
    let rest = libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWPID;
    sys::unshare(rest).step("namespaces")?;
    let child = sys::fork_sibling().step("namespaces")?;
    Ok(child.is_none().then_some(user_namespace))
}

/// A user namespace that nobody is in yet. It may not make further ones.
fn make_user_namespace(config: &HelperConfig) -> io::Result<OwnedFd> {
    let (mut ready, mut ready_inside) = io::pipe()?;
    let (done_inside, done) = io::pipe()?;
    let Some(child) = sys::fork()? else {
        drop(done);
        // As root of its own namespace only, the scout may write the maps of nobody who is closed to it.
        let opened = !config.rootless || sys::set_dumpable(true).is_ok();
        let made = opened && sys::unshare(libc::CLONE_NEWUSER).is_ok();
        let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
        let _ = ready_inside.write_all(&[u8::from(made)]);
        let mut done_inside = done_inside;
        let _ = done_inside.read(&mut [0]);
        sys::exit(0)
    };
    drop((ready_inside, done_inside));
    let mut made = [0];
    ready.read_exact(&mut made)?;
    let namespace = (|| {
        if made != [1] {
            return Err(io::Error::other("the kernel refused a new user namespace"));
        }
        let map = match config.sub_ids {
            // A line must lie within one line of the map above, where the user stands apart from its other ids.
            Some(_) => format!("0 0 1\n1 1 {}", config.ids - 1),
            None => format!("0 {} {}", config.base, config.ids),
        };
        fs::write(format!("/proc/{child}/uid_map"), &map)?;
        fs::write(format!("/proc/{child}/gid_map"), &map)?;
        Ok(fs::File::open(format!("/proc/{child}/ns/user"))?.into())
    })();
    drop(done);
    sys::reap(child, true)?;
    namespace
}

/// Step 5, the wait, and then the container.
fn run_first_process(blueprint: Blueprint<'_>, user_namespace: OwnedFd, helper: OwnedFd) -> ! {
    let Blueprint { config, filters, group, show_cgroup, .. } = blueprint;
    let _ = sys::die_with_parent();
    sys::set_name(c"clunk-init");
    let made = own_pid().step("namespaces").and_then(|pid| Ok((pid, Skeleton::make(config, show_cgroup)?)));
    let (pid, skeleton) = match made {
        Ok(made) => made,
        Err(Failure { step, reason, .. }) => {
            let _ = fdpass::send(&helper, &StubEvent::Failed { step, reason }, &[]);
            sys::exit(1)
        }
    };
    if fdpass::send(&helper, &StubEvent::Waiting { pid }, &[]).is_err() {
        sys::exit(1);
    }
    let Ok(Some(((), fds))) = fdpass::receive::<()>(helper.as_fd()) else { sys::exit(0) };
    confine::run(Prepared { config, filters, group, user_namespace, skeleton, helper }, fds)
}

/// The process id as the host sees it: its `/proc` is still the one mounted here.
fn own_pid() -> io::Result<u32> {
    let link = fs::read_link("/proc/self")?;
    link.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self is not a number"))
}
