//! Without root: the helper first becomes root of a user namespace of its own, and everything else is as with root.
//!
//! A *porter* process stays outside. It asks the set-user-id programs of the `uidmap` package for the user's
//! subordinate ids, and becomes `pasta`, which carries packets between the helper's network namespace and the host's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::MountPropagationFlags;

use crate::net::netlink::Netlink;
use crate::sys;
use crate::wire::HelperConfig;

/// Longest wait for pasta to bring the network up.
const NETWORK_WAIT: Duration = Duration::from_secs(3);
/// Where the programs are looked for; the helper's environment is empty.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// pasta carries packets through it. On Debian it is open to everyone.
const TUN: &str = "/dev/net/tun";

/// Enters the namespaces. The result says why containers will have no network.
pub(crate) fn enter(config: &HelperConfig) -> io::Result<Option<String>> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let helper = std::process::id();
    let obstacle = network_obstacle();
    let (mut entered, mut tell_entered) = io::pipe()?;
    let (mut mapped, mut tell_mapped) = io::pipe()?;
    if sys::fork()?.is_none() {
        drop((tell_entered, mapped));
        let _ = sys::die_with_parent();
        let done = entered.read_exact(&mut [0]).and_then(|()| map_from_outside(config, helper, user, group));
        let word = done.map_or_else(|error| error.to_string(), |()| String::new());
        let _ = tell_mapped.write_all(word.as_bytes());
        drop((tell_mapped, entered));
        match obstacle {
            None => become_pasta(helper),
            Some(_) => sys::exit(1),
        }
    }
    drop((entered, tell_mapped));
    // Without root, the files that maps are written to are ours only while we are open.
    sys::set_dumpable(true)?;
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
    if config.ids == 1 {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    tell_entered.write_all(b"x")?;
    drop(tell_entered);
    let mut trouble = String::new();
    mapped.read_to_string(&mut trouble)?;
    if !trouble.is_empty() {
        return Err(io::Error::other(trouble));
    }
    sys::become_root(config.ids > 1)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave)?;
    // pasta enters by `/proc`; changing users may have closed it again.
    sys::set_dumpable(true)?;
    let up = wait_for_network().err().map(|error| error.to_string());
    let trouble = obstacle.or(up);
    sys::set_dumpable(false)?;
    Ok(trouble)
}

fn map_from_outside(config: &HelperConfig, helper: u32, user: u32, group: u32) -> io::Result<()> {
    let Some(start) = config.sub_ids else { return Ok(()) };
    for (program, own, first) in [("newuidmap", user, start.0), ("newgidmap", group, start.1)] {
        let numbers = [helper, 0, own, 1, 1, first, config.ids - 1].map(|number| number.to_string());
        let output = Command::new(program)
            .args(numbers)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{program} failed: {}", words.trim())));
        }
    }
    Ok(())
}

/// What stands in pasta's way before it is even started, with the mend.
fn network_obstacle() -> Option<String> {
    let is_there = |program: &str| PATH.split(':').any(|folder| Path::new(folder).join(program).exists());
    for (program, package) in [("pasta", "passt"), ("nft", "nftables")] {
        if !is_there(program) {
            return Some(format!("the program `{program}` is missing: apt-get install {package}"));
        }
    }
    let opened = fs::File::options().read(true).write(true).open(TUN);
    opened.err().map(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{TUN} is closed to this user, and pasta needs it: as root, run `chmod 666 {TUN}`")
        }
        _ => format!("{TUN} cannot be opened ({error}), and pasta needs it: as root, run `modprobe tun`"),
    })
}

/// Never returns. Without pasta there is just no network.
fn become_pasta(helper: u32) -> ! {
    let none = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    let namespaces = [format!("/proc/{helper}/ns/user"), format!("/proc/{helper}/ns/net")];
    let _ = Command::new("pasta")
        // No way to the host's own loopback, nothing but IPv4, and no ports in.
        .args(["--foreground", "--quiet", "--config-net", "--ipv4-only", "--no-map-gw"])
        .args(none)
        .args(["--userns", &namespaces[0], "--netns", &namespaces[1]])
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .exec();
    sys::exit(1)
}

fn wait_for_network() -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.set_up(1)?;
    let since = Instant::now();
    loop {
        if crate::net::way_out().is_some() {
            return Ok(());
        }
        let porter_ended = matches!(sys::reap(-1, false), Ok(Some(_)) | Err(_));
        if porter_ended || since.elapsed() > NETWORK_WAIT {
            let words = "`pasta` did not bring the network up; `pasta --config-net true` says why";
            return Err(io::Error::other(words));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
