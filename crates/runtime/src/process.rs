//! Plain child processes behind the [`Runtime`] port: no confinement, no image. For a model's own server, which runs inside
//! a container of somebody else, or on a developer's machine.
//!
//! What belongs to a "container" is found by a mark in its environment, which children inherit. So its end takes along
//! what daemonised itself, too: the server adopts such orphans, and reaps them.

mod proc;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio as ChildStdio};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use clunk_core::id::ContainerId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::port::{
    Check, ContainerSpec, Control, ExecSpec, Exit, ExitReason, Runtime, RuntimeError, Started, Stdio, Swept,
    Usage, Verdict,
};
use crate::sys;

/// In the environment of every process of a container.
const MARK: &str = "CLUNK_CONTAINER_ID";
/// Rounds of killing what is left: each finds what was forked during the last one.
const KILL_ROUNDS: usize = 50;
/// Between two of these rounds.
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// Runs programs as child processes. Needs an executor of tokio, which also learns of their ends.
pub struct ProcessRuntime {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// The process of this runtime is the parent of orphans, and of nobody's children but its own.
    adopts: bool,
}

#[derive(Default)]
struct State {
    /// By the first process.
    children: HashMap<i32, Child>,
    reaper: bool,
    closed: bool,
}

struct Child {
    id: ContainerId,
    /// Of a later program: not the container's first.
    later: bool,
    exit: watch::Sender<Option<Exit>>,
}

impl ProcessRuntime {
    /// For a process that has other children too: orphans of containers go to the system's first process.
    pub fn new() -> Self {
        Self { inner: Arc::default() }
    }

    /// For a process that does nothing else: it adopts orphans of its containers and reaps every child.
    pub fn adopting() -> std::io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self { inner: Arc::new(Inner { adopts: true, ..Inner::default() }) })
    }
}

impl Default for ProcessRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        let ids: Vec<_> = {
            let mut state = self.inner.state();
            state.closed = true;
            state.children.values().map(|child| child.id).collect()
        };
        for id in ids {
            kill_marked(id);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Starts a program; the child is known before anybody can hear of its end.
    fn spawn(
        self: &Arc<Self>,
        id: ContainerId,
        program: &Program<'_>,
        later: bool,
    ) -> Result<Started, RuntimeError> {
        let failed = |step: &str, reason: String| RuntimeError::Start { id, step: step.into(), reason };
        let (Some(name), Stdio::Pipes) = (program.argv.first(), program.stdio) else {
            let reason =
                if program.argv.is_empty() { "no program is named" } else { "there are no terminals" };
            return Err(failed("plan", reason.into()));
        };
        let mut command = Command::new(name);
        command
            .args(&program.argv[1..])
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (name, value)));
        command.env(MARK, id.to_string()).current_dir(program.workdir).stdin(ChildStdio::null());
        let ends = Ends::make(program.link).map_err(|error| failed("descriptors", error.to_string()))?;
        let Ends { stdout, stderr, link, their_link } = ends;
        command.stdout(stdout.1).stderr(stderr.1);
        let (exit_sender, exit) = watch::channel(None);
        let mut state = self.state();
        if state.closed {
            return Err(RuntimeError::Helper("the runtime was shut down".into()));
        }
        if !later && state.children.values().any(|child| child.id == id && !child.later) {
            return Err(failed("plan", "a container with this id runs already".into()));
        }
        let pid = sys::spawn(&mut command, their_link.as_ref().map(AsFd::as_fd)).map_err(|error| {
            let found = Path::new(program.workdir).is_dir();
            let reason = if found { error.to_string() } else { format!("no folder {}", program.workdir) };
            failed(&format!("program {name}"), reason)
        })?;
        state.children.insert(pid, Child { id, later, exit: exit_sender });
        drop(state);
        let (stdout, stderr) = (Some(stdout.0), Some(stderr.0));
        let control = Arc::new(ProcessControl { id, pid, later, exit, inner: Arc::downgrade(self) });
        Ok(Started { control, stdout, stderr, terminal: None, link })
    }

    /// Starts the task that learns of ends, once.
    fn reap_from_now(self: &Arc<Self>) -> std::io::Result<()> {
        if std::mem::replace(&mut self.state().reaper, true) {
            return Ok(());
        }
        let mut ended = signal(SignalKind::child())?;
        let inner = Arc::downgrade(self);
        // Ends with the runtime or its executor.
        tokio::spawn(async move {
            loop {
                match inner.upgrade() {
                    Some(inner) => inner.reap(),
                    None => return,
                }
                if ended.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Takes note of every child that has ended.
    fn reap(self: &Arc<Self>) {
        let mut state = self.state();
        let pids: Vec<i32> = state.children.keys().copied().collect();
        for pid in pids {
            if !proc::is_dead(pid) {
                continue;
            }
            let usage = proc::usage(pid);
            let Ok(Some((_, status))) = sys::reap(pid, false) else { continue };
            let Some(child) = state.children.remove(&pid) else { continue };
            let reason = match status {
                sys::Status::Code(code) => ExitReason::Code(code),
                sys::Status::Signal(signal) => ExitReason::Signal(signal),
            };
            let exit = Exit { reason, usage };
            match child.later {
                true => drop(child.exit.send_replace(Some(exit))),
                // What it left behind goes first.
                false => drop(tokio::spawn(bury(child, exit))),
            }
        }
        if self.adopts {
            for orphan in proc::dead_children().into_iter().filter(|pid| !state.children.contains_key(pid)) {
                let _ = sys::reap(orphan, false);
            }
        }
    }
}

/// Ends what is left of a container whose first process has ended, and says that it is gone.
async fn bury(child: Child, exit: Exit) {
    for _ in 0..KILL_ROUNDS {
        let id = child.id;
        let left = tokio::task::spawn_blocking(move || kill_marked(id)).await.unwrap_or_default();
        if left == 0 {
            break;
        }
        tokio::time::sleep(KILL_PAUSE).await;
    }
    child.exit.send_replace(Some(exit));
}

/// Sends SIGKILL to every process of a container; how many there were.
fn kill_marked(id: ContainerId) -> usize {
    let marked = proc::marked(&format!("{MARK}={id}"));
    marked.iter().for_each(|pid| drop(sys::kill(*pid, libc::SIGKILL)));
    marked.len()
}

/// What is executed, as a container's first program and later ones have in common.
struct Program<'a> {
    argv: &'a [String],
    env: &'a [(String, String)],
    workdir: &'a str,
    stdio: Stdio,
    link: bool,
}

/// Both ends of each output, and of the link.
struct Ends {
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
    link: Option<OwnedFd>,
    their_link: Option<OwnedFd>,
}

impl Ends {
    fn make(with_link: bool) -> std::io::Result<Self> {
        let pipe = || std::io::pipe().map(|(reader, writer)| (OwnedFd::from(reader), OwnedFd::from(writer)));
        let (link, their_link) = match with_link {
            true => {
                let (ours, theirs) = UnixStream::pair()?;
                (Some(ours.into()), Some(theirs.into()))
            }
            false => (None, None),
        };
        Ok(Self { stdout: pipe()?, stderr: pipe()?, link, their_link })
    }
}

struct ProcessControl {
    id: ContainerId,
    pid: i32,
    later: bool,
    exit: watch::Receiver<Option<Exit>>,
    inner: Weak<Inner>,
}

#[async_trait]
impl Control for ProcessControl {
    fn id(&self) -> ContainerId {
        self.id
    }

    fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    fn signal(&self, signal: i32) {
        let Some(inner) = self.inner.upgrade() else { return };
        let state = inner.state();
        // A child that has not been reaped keeps its number.
        if !state.children.contains_key(&self.pid) {
            return;
        }
        if signal == libc::SIGKILL && !self.later {
            // The whole group at once; what has left it is found by its mark, as the first process ends.
            let _ = sys::kill(-self.pid, signal);
        }
        let _ = sys::kill(self.pid, signal);
    }

    async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        ended.unwrap_or(Exit { reason: ExitReason::Lost, usage: Usage::default() })
    }

    fn usage(&self) -> Usage {
        let Some(inner) = self.inner.upgrade() else { return Usage::default() };
        let runs = inner.state().children.contains_key(&self.pid);
        if runs { proc::usage(self.pid) } else { Usage::default() }
    }

    fn resize(&self, _rows: u16, _columns: u16) {}

    async fn exec(&self, exec: ExecSpec) -> Result<Started, RuntimeError> {
        let inner = self.inner.upgrade().ok_or(RuntimeError::Ended(self.id))?;
        if self.exit.borrow().is_some() {
            return Err(RuntimeError::Ended(self.id));
        }
        let ExecSpec { argv, env, workdir, stdio } = &exec;
        inner.spawn(self.id, &Program { argv, env, workdir, stdio: *stdio, link: false }, true)
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    /// Starts the program in the folder `workdir`, with the environment alone of what a specification holds.
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        self.inner.reap_from_now().map_err(|error| RuntimeError::Helper(error.to_string()))?;
        let ContainerSpec { id, argv, env, workdir, stdio, link, .. } = &spec;
        self.inner.spawn(*id, &Program { argv, env, workdir, stdio: *stdio, link: *link }, false)
    }

    /// Nothing outlives the process that made it: each child dies with its parent.
    async fn sweep(&self) -> Result<Swept, RuntimeError> {
        Ok(Swept::default())
    }

    async fn checks(&self) -> Vec<Check> {
        vec![Check { name: "containers", verdict: Verdict::Ok, detail: "plain processes".into() }]
    }

    fn host_id(&self, id: u32) -> u32 {
        id
    }

    async fn shutdown(&self) {
        let running: Vec<_> = {
            let mut state = self.inner.state();
            state.closed = true;
            let children = state.children.iter();
            children.map(|(pid, child)| (*pid, child.later, child.exit.subscribe())).collect()
        };
        for (pid, later, _) in &running {
            let _ = sys::kill(if *later { *pid } else { -*pid }, libc::SIGKILL);
        }
        for (_, _, mut exit) in running {
            let _ = exit.wait_for(Option::is_some).await;
        }
    }
}
