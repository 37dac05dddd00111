//! The port: what the rest of the house may ask of a container runtime.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clunk_core::id::ContainerId;
use serde::{Deserialize, Serialize};

/// Everything a container needs to start. Paths of the host are absolute; paths of the container are absolute there.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub root: RootFs,
    pub mounts: Vec<BindMount>,
    /// The GPUs it may use, by [`Gpu::minor`]; it sees no others.
    pub gpus: Vec<u32>,
    /// First the program, looked up on the PATH of `env` inside the container when it has no slash.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    pub workdir: String,
    pub hostname: String,
    pub limits: Limits,
    pub network: Network,
    pub stdio: Stdio,
    /// Give the program one end of a Unix stream socket as file descriptor 3; the other is [`Started::link`].
    pub link: bool,
    pub profile: Profile,
}

#[derive(Debug, Clone)]
pub struct RootFs {
    /// Read-only layer directories, the topmost first. At least one.
    pub lowers: Vec<PathBuf>,
    pub upper: Upper,
}

#[derive(Debug, Clone)]
pub enum Upper {
    /// A new empty directory, deleted after the container ends.
    Scratch,
    /// This directory (made when missing, with `work` beside it for overlayfs); kept after the container ends.
    /// A build step's layer is made this way.
    Keep { upper: PathBuf, work: PathBuf },
}

#[derive(Debug, Clone)]
pub struct BindMount {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

/// NVIDIA GPUs of this machine; none without a loaded driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Version of the driver.
    pub driver: String,
    pub list: Vec<Gpu>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The number in the name of its device node.
    pub minor: u32,
    /// As the driver says it: `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// Its place on the PCI bus, `0000:00:05.0`.
    pub bus: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Processes and threads together.
    pub pids: Option<u64>,
    /// Bytes of `/tmp` and `/dev/shm` each; they count towards memory as well.
    pub tmp_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Loopback only.
    None,
    /// An address of its own behind NAT: the world is reachable; the host, other containers and link-local
    /// addresses (cloud metadata) are not, except the host's resolver. Where that cannot be had, nothing starts.
    Nat,
    /// As `Nat` where containers can have it, else as `None`: [`Runtime::no_network`] says which.
    NatOrNone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Standard input is empty, output and errors are [`Started::stdout`] and [`Started::stderr`].
    Pipes,
    /// A pseudo-terminal of this size; its controlling end is [`Started::terminal`].
    Terminal { rows: u16, columns: u16 },
}

/// Which capabilities the container's root keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// User code.
    Function,
    /// Build steps: what dpkg and its maintainer scripts need beside that.
    Build,
}

/// A container that runs. Dropping it does not stop the container; the runtime does when it is dropped itself.
pub struct Started {
    pub control: Arc<dyn Control>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub link: Option<OwnedFd>,
}

/// What can be asked of a running container. All calls are harmless after it has ended.
#[async_trait]
pub trait Control: Send + Sync {
    fn id(&self) -> ContainerId;

    /// The host's process id of the container's first process.
    fn pid(&self) -> u32;

    /// Sends a signal to the program. SIGKILL ends every process of the container at once.
    fn signal(&self, signal: i32);

    /// Returns when every process has ended and the container's mounts, cgroups, network and scratch files are gone.
    /// May be called by many, and again.
    async fn wait(&self) -> Exit;

    /// What it uses now.
    fn usage(&self) -> Usage;

    /// Resizes its terminal.
    fn resize(&self, rows: u16, columns: u16);

    /// Starts another program inside the running container, in all its namespaces and limits.
    async fn exec(&self, exec: ExecSpec) -> Result<Started, RuntimeError>;
}

#[derive(Debug, Clone)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub workdir: String,
    pub stdio: Stdio,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub reason: ExitReason,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The program ended by itself with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed a process of it for passing the memory limit (bytes).
    OutOfMemory { limit_bytes: u64 },
    /// It could not be set up or its program could not be started: which step, and the system's words.
    NotStarted(String),
    /// The runtime's helper went away, and the container with it.
    Lost,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu: Duration,
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    pub pids: u64,
}

/// Runs containers on this machine.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Starts a container. Returns as soon as its program is executing, or with the reason why it never will.
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError>;

    /// Removes what containers of an earlier, killed process of this state directory left: processes, mounts,
    /// cgroups, network interfaces, scratch files. Says how many of each.
    async fn sweep(&self) -> Result<Swept, RuntimeError>;

    /// What works here and what does not, one line each.
    async fn checks(&self) -> Vec<Check>;

    /// The GPUs that containers can be given. Reads the driver's list anew.
    fn gpus(&self) -> Gpus {
        Gpus::default()
    }

    /// Why containers have no network on this machine, and the mend; `None` when they have.
    async fn no_network(&self) -> Option<String> {
        None
    }

    /// Removes a directory in the background, whichever users of containers own what is in it. May be called on any
    /// thread of the executor; what is not removed when the runtime goes away stays.
    fn discard(&self, path: PathBuf) {
        drop(std::fs::remove_dir_all(path));
    }

    /// Host owner of a file that belongs to user and group `id` inside a container: files that go into layers are
    /// given to `(host_id(uid), host_id(gid))`.
    fn host_id(&self, id: u32) -> u32;

    /// Stops every container and returns when all are gone.
    async fn shutdown(&self);
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub containers: usize,
    pub cgroups: usize,
    pub interfaces: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found; for a warning or failure also what is lost and how to mend it.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Works without, with something lost.
    Warning,
    /// Containers cannot run.
    Failure,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A step of setting the container up failed.
    #[error("could not start container {id}: {step}: {reason}")]
    Start { id: ContainerId, step: String, reason: String },
    /// The kernel or the host's settings forbid what containers need.
    #[error("this machine does not allow containers: {0}")]
    NotPermitted(String),
    /// A network was asked for; why there is none, and the mend.
    #[error("containers have no network here: {0}")]
    NoNetwork(String),
    #[error("the disk is full: {0}")]
    DiskFull(String),
    #[error("the container helper process is gone: {0}")]
    Helper(String),
    #[error("container {0} has ended")]
    Ended(ContainerId),
}
