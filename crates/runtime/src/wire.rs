//! What the asynchronous side, the helper and the processes inside containers say to each other.
//!
//! Every message is one JSON object in one `SOCK_SEQPACKET` datagram, with file descriptors beside it. A plan can be
//! larger than a datagram, so it travels as an in-memory file.

use std::path::PathBuf;

use clunk_core::id::ContainerId;
use serde::{Deserialize, Serialize};

use crate::port::Usage;

/// Longest message; plans travel as files, so what is left is small.
pub(crate) const MESSAGE_MAX: usize = 64 * 1024;

/// First message to the helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HelperConfig {
    pub state_dir: PathBuf,
    /// Tells this state directory's interfaces, cgroups and tables from those of others.
    pub instance: String,
    /// Host owner of the container's user 0.
    pub base: u32,
    pub ids: u32,
    pub pool: PoolSize,
    pub resolv_conf: String,
    pub resolvers: Vec<std::net::Ipv4Addr>,
    pub rootless: bool,
    /// Without root: the first subordinate user and group id of the user, when there are enough.
    pub sub_ids: Option<(u32, u32)>,
}

/// How many containers of each kind stand half made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSize {
    pub nat: usize,
    pub isolated: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHelper {
    Configure(HelperConfig),
    /// Beside it: the plan, the control socket, then what [`Plan::files`] lists.
    Start {
        id: ContainerId,
        nat: bool,
        scratch: Option<PathBuf>,
        keep: Option<PathBuf>,
    },
    /// Remove a directory, in the background.
    Discard {
        path: PathBuf,
    },
    /// As for a start.
    Exec {
        id: ContainerId,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHelper {
    /// The host is swept and prepared.
    Ready(HostReport),
    /// A half-made container took the plan. Beside it: a pidfd of its first process.
    Assigned { id: ContainerId, pid: u32, group: crate::cgroup::Group },
    /// No container was made.
    Refused { id: ContainerId, step: String, reason: String },
    /// Every trace of it is gone.
    Ended { id: ContainerId, usage: Usage, out_of_memory: bool },
}

/// What the helper found and did at its start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HostReport {
    pub containers: usize,
    pub cgroups: usize,
    pub interfaces: usize,
    pub cgroup_mode: String,
    /// Controllers that containers cannot be limited with.
    pub missing_controllers: Vec<String>,
    /// Why containers get no network.
    pub network_error: Option<String>,
    pub subnet: Option<String>,
    /// Why nothing can run.
    pub fatal: Option<String>,
}

/// Everything a container's first process needs to know; paths are of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// The upper directory outlives the container.
    pub keep: bool,
    pub binds: Vec<Bind>,
    pub gpu: Option<GpuPlan>,
    pub hostname: String,
    pub limits: PlanLimits,
    pub program: ProgramPlan,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

/// What a container with GPUs gets of the host; sources are paths of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GpuPlan {
    /// Character devices, of which each appears by its name in `/dev`.
    pub nodes: Vec<PathBuf>,
    /// The container's folder for `lib64`.
    pub folder: String,
    pub libraries: Vec<GpuLibrary>,
    pub nvidia_smi: Option<PathBuf>,
    /// Texts below `/proc/driver/nvidia`; of each GPU by its place on the bus.
    pub proc_version: String,
    pub proc_gpus: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GpuLibrary {
    pub source: PathBuf,
    pub name: String,
    /// Further names, by which programs look for it.
    pub links: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct PlanLimits {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    pub tmp_bytes: u64,
}

/// A program to run inside a container: its first, or one started later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgramPlan {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub workdir: String,
    pub build_profile: bool,
    pub stdio: StdioPlan,
    pub link: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StdioPlan {
    Pipes,
    Terminal { rows: u16, columns: u16 },
}

impl ProgramPlan {
    /// How many descriptors travel with the plan after the control socket: output, errors, link.
    pub fn files(&self) -> usize {
        usize::from(self.stdio == StdioPlan::Pipes) * 2 + usize::from(self.link)
    }
}

/// From a container's first process (or the waiter of a later one) to the asynchronous side. Its sender lives in a
/// hostile place: receivers bound and check it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The program executes. Beside it: the controlling end of its terminal, when it has one.
    Started {
        pid: u32,
    },
    Failed {
        step: String,
        reason: String,
        errno: i32,
    },
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// From the asynchronous side to a container's first process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Signal(i32),
}

/// From a half-made container to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum StubEvent {
    /// Its first process waits for a plan.
    Waiting {
        pid: u32,
    },
    Failed {
        step: String,
        reason: String,
    },
    /// Empty files and directories that were put into a kept upper directory to mount over.
    Placeholders(Vec<PathBuf>),
}
