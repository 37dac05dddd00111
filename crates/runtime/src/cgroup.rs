//! Control groups: limits, use and out-of-memory counts, on version 2, version 1 and hosts with both.
//!
//! Groups of one state directory lie in `clunk_<instance>` below the helper's own group (version 1), or below the
//! nearest group from which controllers can be handed down (version 2), so that the limits of parents hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::port::Usage;
use crate::wire::PlanLimits;

const ROOT: &str = "/sys/fs/cgroup";
/// One period of the CPU quota. Shorter ones throttle smoothly but cost timer interrupts; this is the kernel's own.
const PERIOD_US: u64 = 100_000;
const LEAST_QUOTA_US: u64 = 1_000;
/// Longest wait for killed processes to leave a group.
const EMPTY_WAIT: Duration = Duration::from_secs(5);

/// Where containers' groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    base: Group,
    pub mode: &'static str,
    pub missing: Vec<String>,
}

/// One container's directories, or those above all containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Version 2: one directory for everything.
    unified: Option<PathBuf>,
    /// Version 1: one directory per controller.
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
}

impl Layout {
    /// Finds and makes the parent of all groups of this instance.
    pub(crate) fn prepare(instance: &str) -> Layout {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::prepare_from(&mounts, &own, &format!("clunk_{instance}"))
    }

    fn prepare_from(mounts: &str, own: &str, name: &str) -> Layout {
        let mut base = Group::default();
        for controller in ["cpu", "cpuacct", "memory", "pids"] {
            let Some(parent) = v1_directory(mounts, own, controller) else { continue };
            let dir = parent.join(name);
            if made(&dir) {
                *base.slot(controller) = Some(dir);
            }
        }
        let has_v1 = base != Group::default();
        if !has_v1 {
            base.unified = v2_directory(mounts, own).and_then(|(root, own)| v2_base(&root, &own, name));
        }
        let controllers =
            base.unified.as_ref().map(|dir| read(dir, "cgroup.controllers").unwrap_or_default());
        let missing = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|&controller| match &controllers {
                Some(listed) => !listed.split_whitespace().any(|word| word == controller),
                None => base.slot(controller).is_none(),
            })
            .map(str::to_owned)
            .collect();
        let mode = match (has_v1, mounts.contains(" - cgroup2 "), base.unified.is_some()) {
            (true, true, _) => "hybrid",
            (true, false, _) => "v1",
            (false, _, true) => "v2",
            (false, _, false) => "none",
        };
        Layout { base, mode, missing }
    }

    /// No groups at all: containers run without limits.
    pub(crate) fn none() -> Layout {
        Layout { base: Group::default(), mode: "none", missing: Vec::new() }
    }

    /// The directories of a group, which need not exist.
    pub(crate) fn group(&self, name: &str) -> Group {
        self.base.map(|dir| dir.join(name))
    }

    /// Every group below, with or without a container.
    pub(crate) fn leftovers(&self) -> Vec<Group> {
        let mut names: Vec<_> = self
            .base
            .directories()
            .into_iter()
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| self.group(&name)).collect()
    }

    /// Removes the parent itself; fails while containers are below it.
    pub(crate) fn remove(&self) {
        let _ = self.base.remove_directories();
    }
}

impl Group {
    fn slot(&mut self, controller: &str) -> &mut Option<PathBuf> {
        match controller {
            "cpu" => &mut self.cpu,
            "cpuacct" => &mut self.cpuacct,
            "memory" => &mut self.memory,
            _ => &mut self.pids,
        }
    }

    fn map(&self, change: impl Fn(&Path) -> PathBuf) -> Group {
        let change = |dir: &Option<PathBuf>| dir.as_deref().map(&change);
        Group {
            unified: change(&self.unified),
            cpu: change(&self.cpu),
            cpuacct: change(&self.cpuacct),
            memory: change(&self.memory),
            pids: change(&self.pids),
        }
    }

    /// Each directory once: `cpu` and `cpuacct` are often the same.
    pub(crate) fn directories(&self) -> Vec<&Path> {
        let all = [&self.unified, &self.cpu, &self.cpuacct, &self.memory, &self.pids];
        let mut directories: Vec<&Path> = all.into_iter().flatten().map(PathBuf::as_path).collect();
        directories.dedup();
        directories
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        self.directories().into_iter().try_for_each(|dir| match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })
    }

    /// Moves a process in; 0 is the caller.
    pub(crate) fn join(&self, pid: i32) -> io::Result<()> {
        self.directories()
            .into_iter()
            .try_for_each(|dir| fs::write(dir.join("cgroup.procs"), pid.to_string()))
    }

    pub(crate) fn limit(&self, limits: &PlanLimits) -> io::Result<()> {
        if let Some(millis) = limits.cpu_millis {
            let quota = (millis * PERIOD_US / 1000).max(LEAST_QUOTA_US);
            self.limit_cpu(quota, millis)?;
        }
        if let Some(bytes) = limits.memory_bytes {
            self.limit_memory(bytes)?;
        }
        if let Some(pids) = limits.pids {
            // One more for the container's own first process.
            let dir =
                self.pids.as_deref().or(self.unified.as_deref()).ok_or_else(|| no_controller("pids"))?;
            fs::write(dir.join("pids.max"), (pids + 1).to_string())?;
        }
        Ok(())
    }

    fn limit_cpu(&self, quota: u64, millis: u64) -> io::Result<()> {
        if let Some(dir) = &self.unified {
            // A weight of 100 is the kernel's middle; here it stands for one core.
            let weight = (millis / 10).clamp(1, 10_000);
            fs::write(dir.join("cpu.weight"), weight.to_string())?;
            return fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD_US}"));
        }
        let dir = self.cpu.as_ref().ok_or_else(|| no_controller("cpu"))?;
        let shares = (millis * 1024 / 1000).clamp(2, 262_144);
        fs::write(dir.join("cpu.shares"), shares.to_string())?;
        fs::write(dir.join("cpu.cfs_quota_us"), quota.to_string())
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        if let Some(dir) = &self.unified {
            optional(fs::write(dir.join("memory.swap.max"), "0"))?;
            return fs::write(dir.join("memory.max"), bytes.to_string());
        }
        let dir = self.memory.as_ref().ok_or_else(|| no_controller("memory"))?;
        fs::write(dir.join("memory.limit_in_bytes"), bytes.to_string())?;
        // Memory and swap together; absent when the kernel does not count swap.
        optional(fs::write(dir.join("memory.memsw.limit_in_bytes"), bytes.to_string()))
    }

    pub(crate) fn usage(&self) -> Usage {
        let number = |dir: &Option<PathBuf>, file| {
            dir.as_deref().and_then(|dir| read(dir, file)?.trim().parse::<u64>().ok()).unwrap_or_default()
        };
        if let Some(dir) = &self.unified {
            return Usage {
                cpu: Duration::from_micros(keyed(dir, "cpu.stat", "usage_usec").unwrap_or_default()),
                memory_bytes: number(&self.unified, "memory.current"),
                memory_peak_bytes: number(&self.unified, "memory.peak"),
                pids: number(&self.unified, "pids.current"),
            };
        }
        Usage {
            cpu: Duration::from_nanos(number(&self.cpuacct, "cpuacct.usage")),
            memory_bytes: number(&self.memory, "memory.usage_in_bytes"),
            memory_peak_bytes: number(&self.memory, "memory.max_usage_in_bytes"),
            pids: number(&self.pids, "pids.current"),
        }
    }

    /// Whether the kernel killed a process in it for memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let unified = self.unified.as_deref().and_then(|dir| keyed(dir, "memory.events", "oom_kill"));
        let v1 = self.memory.as_deref().and_then(|dir| keyed(dir, "memory.oom_control", "oom_kill"));
        unified.or(v1).unwrap_or_default() > 0
    }

    fn processes(&self) -> Vec<i32> {
        let read = |dir: &Path| fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let mut all: Vec<i32> = self
            .directories()
            .into_iter()
            .flat_map(|dir| read(dir).lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .filter(|&pid| pid > 0)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Kills what is left inside, waits until it is gone and removes the directories.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_WAIT;
        loop {
            match self.remove_directories() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    for pid in self.processes() {
                        let _ = crate::sys::kill(pid, libc::SIGKILL);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return other,
            }
        }
    }

    fn remove_directories(&self) -> io::Result<()> {
        self.directories().into_iter().try_for_each(|dir| match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
    }
}

fn no_controller(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this machine gives us no {name} controller"))
}

fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn made(dir: &Path) -> bool {
    fs::create_dir(dir).is_ok() || dir.is_dir()
}

fn read(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    read(dir, file)?.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// Mount point and root of the first mount that `wanted(file system, super options)` accepts (proc_pid_mountinfo(5)).
fn mount_of(mounts: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        wanted(kind, options).then(|| (PathBuf::from(point), PathBuf::from(root)))
    })
}

/// Where our own group shows below a mount whose root may itself be a group.
fn own_directory(point: &Path, root: &Path, own: &str) -> PathBuf {
    let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
    point.join(below)
}

fn v1_directory(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let names = |list: &str| list.split(',').any(|name| name == controller);
    let (point, root) = mount_of(mounts, |kind, options| kind == "cgroup" && names(options))?;
    let own = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (list, path) = rest.split_once(':')?;
        names(list).then_some(path)
    })?;
    Some(own_directory(&point, &root, own))
}

/// The version 2 mount and our own group in it.
fn v2_directory(mounts: &str, own: &str) -> Option<(PathBuf, PathBuf)> {
    let (point, root) = mount_of(mounts, |kind, _| kind == "cgroup2")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let dir = own_directory(&point, &root, own);
    (dir.starts_with(ROOT)).then_some((point, dir))
}

/// Makes the parent group as near to our own as controllers can be handed down. A group that holds processes cannot
/// hand down controllers, so this is usually the slice above the service.
fn v2_base(root: &Path, own: &Path, name: &str) -> Option<PathBuf> {
    let hand_down = |dir: &Path| {
        for controller in ["+memory", "+pids", "+cpu"] {
            let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
        }
        read(dir, "cgroup.subtree_control").is_some_and(|list| {
            ["memory", "pids"].iter().all(|&want| list.split_whitespace().any(|c| c == want))
        })
    };
    for parent in own.ancestors().take_while(|dir| dir.starts_with(root)) {
        let dir = parent.join(name);
        if hand_down(parent) && made(&dir) {
            if hand_down(&dir) {
                return Some(dir);
            }
            let _ = fs::remove_dir(&dir);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 25 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn version_1_directories_lie_below_our_own_group() {
        let own = "4:memory:/system.slice/a\n3:cpu,cpuacct:/b\n0::/c\n";
        let directory = |controller| v1_directory(HYBRID, own, controller);
        assert_eq!(directory("memory"), Some("/sys/fs/cgroup/memory/system.slice/a".into()));
        assert_eq!(directory("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct/b".into()));
        assert_eq!(directory("cpuset"), None);
        assert_eq!(directory("pids"), None);
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_is_seen_through() {
        let mounts = "40 31 0:30 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = v1_directory(mounts, "4:memory:/outer/inner\n", "memory");
        assert_eq!(found, Some("/sys/fs/cgroup/memory/inner".into()));
    }

    #[test]
    fn version_2_has_one_mount() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = v2_directory(mounts, "0::/user.slice/session-1.scope\n");
        let own = PathBuf::from("/sys/fs/cgroup/user.slice/session-1.scope");
        assert_eq!(found, Some((PathBuf::from("/sys/fs/cgroup"), own)));
    }

    #[test]
    fn co_mounted_controllers_are_one_directory() {
        let both = Some(PathBuf::from("/x"));
        let group = Group { cpu: both.clone(), cpuacct: both, ..Group::default() };
        assert_eq!(group.directories(), [Path::new("/x")]);
    }
}
