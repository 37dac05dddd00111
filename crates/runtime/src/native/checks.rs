//! What `clunk doctor` says about containers on this machine.

use std::fs;
use std::path::Path;

use crate::native::users::Users;
use crate::native::{NativeConfig, resolver};
use crate::port::{Check, Verdict};
use crate::wire::HostReport;

/// How a user gets control groups of its own; needs version 2 of them.
const HAND_OVER: &str =
    "; where systemd runs: `systemd-run --user --scope --property=Delegate=yes clunk up --foreground`";
/// Below this, images and scratch files soon fill the disk.
const LOW_DISK_BYTES: u64 = 5 << 30;
/// First with everything this runtime calls: `mount_setattr`, `close_range`, pidfds in `setns`.
const KERNEL_LEAST: (u32, u32) = (5, 12);
/// First with overlays of any number of layers.
const KERNEL_LAYERS: (u32, u32) = (6, 8);

pub(super) fn all(config: &NativeConfig, users: &Users, helper: Result<HostReport, String>) -> Vec<Check> {
    let mut checks = vec![
        kernel(),
        privileges(users),
        user_namespaces(),
        overlay(),
        seccomp(),
        resolver_check(),
        disk(&config.state_dir),
        crate::gpu::check(&config.driver_root),
    ];
    match helper {
        Ok(report) => checks.extend([helper_runs(), cgroups(&report, users), network(&report)]),
        Err(reason) => checks.push(check("helper", Verdict::Failure, reason)),
    }
    checks
}

fn check(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { name, verdict, detail: detail.into() }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version < KERNEL_LEAST {
        return check("kernel", Verdict::Failure, format!("Linux {release}; containers need 5.12 or newer"));
    }
    if version < KERNEL_LAYERS {
        let detail = format!("Linux {release}; images of more than about 200 layers need 6.8 or newer");
        return check("kernel", Verdict::Warning, detail);
    }
    check("kernel", Verdict::Ok, format!("Linux {release}"))
}

fn privileges(users: &Users) -> Check {
    const NAME: &str = "privileges";
    match users {
        Users::Root => check(NAME, Verdict::Ok, "root; containers run as users of their own"),
        Users::SubIds { .. } => check(
            NAME,
            Verdict::Warning,
            "not root: limits hold only where control groups are handed to this user; files of a registry image all \
             belong to its root",
        ),
        Users::One { reason, .. } => {
            let lost = "not root: limits hold only where control groups are handed to this user, and containers have \
                        no user but root";
            check(NAME, Verdict::Warning, format!("{lost} ({reason})"))
        }
    }
}

fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    if !Path::new("/proc/self/ns/user").exists() {
        return check(NAME, Verdict::Failure, "this kernel is built without them (CONFIG_USER_NS)");
    }
    let most = read("/proc/sys/user/max_user_namespaces");
    if most == "0" {
        return check(
            NAME,
            Verdict::Failure,
            "switched off: set the sysctl user.max_user_namespaces above 0",
        );
    }
    let root = rustix::process::geteuid().is_root();
    if !root && read("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return check(
            NAME,
            Verdict::Failure,
            "only for root: set the sysctl kernel.unprivileged_userns_clone to 1",
        );
    }
    if !root && read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        let detail =
            "AppArmor may refuse them: set kernel.apparmor_restrict_unprivileged_userns to 0, or run as root";
        return check(NAME, Verdict::Warning, detail);
    }
    check(NAME, Verdict::Ok, format!("up to {most}"))
}

fn overlay() -> Check {
    let known =
        read("/proc/filesystems").lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    if known {
        return check("overlayfs", Verdict::Ok, "in the kernel");
    }
    check("overlayfs", Verdict::Failure, "not in the kernel: run `modprobe overlay`")
}

fn seccomp() -> Check {
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        return check("seccomp", Verdict::Ok, "system calls of containers are filtered");
    }
    check("seccomp", Verdict::Failure, "this kernel cannot filter system calls (CONFIG_SECCOMP_FILTER)")
}

fn resolver_check() -> Check {
    let found = resolver::find();
    let servers = found.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if found.substituted {
        let detail = format!(
            "the host's name servers are on its loopback, where containers cannot go; they use {servers}"
        );
        return check("name servers", Verdict::Warning, detail);
    }
    check("name servers", Verdict::Ok, servers)
}

fn disk(state_dir: &Path) -> Check {
    let Ok(found) = rustix::fs::statvfs(state_dir) else {
        return check("disk", Verdict::Failure, format!("{} cannot be read", state_dir.display()));
    };
    let free = found.f_bavail * found.f_frsize;
    let detail = format!("{:.1} GB free in {}", free as f64 / 1e9, state_dir.display());
    check("disk", if free < LOW_DISK_BYTES { Verdict::Warning } else { Verdict::Ok }, detail)
}

fn helper_runs() -> Check {
    check("helper", Verdict::Ok, "containers can be made")
}

fn cgroups(report: &HostReport, users: &Users) -> Check {
    let mode = &report.cgroup_mode;
    if report.missing_controllers.is_empty() {
        return check("control groups", Verdict::Ok, format!("{mode}: cpu, memory, pids"));
    }
    let missing = report.missing_controllers.join(", ");
    let lost = format!("{mode}: containers cannot be limited in {missing}");
    let mend = if users.rootless() { HAND_OVER } else { "" };
    check("control groups", Verdict::Warning, format!("{lost}{mend}"))
}

fn network(report: &HostReport) -> Check {
    match (&report.network_error, &report.subnet) {
        (None, Some(subnet)) => {
            check("network", Verdict::Ok, format!("{subnet} behind NAT; net.ipv4.ip_forward is on for it"))
        }
        (Some(error), _) => check("network", Verdict::Warning, format!("containers have none: {error}")),
        (None, None) => check("network", Verdict::Warning, "containers have none"),
    }
}
