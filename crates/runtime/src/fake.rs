//! A runtime without containers, for the tests of other crates: a script plays each program.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use clunk_core::id::ContainerId;
use tokio::sync::{mpsc, watch};

use crate::port::{
    Check, ContainerSpec, Control, ExecSpec, Exit, ExitReason, Runtime, RuntimeError, Started, Stdio, Swept,
    Usage, Verdict,
};

/// What a script gets: the container as its program would see it.
pub struct FakeContainer {
    /// For a later program, with that program's words, environment, directory and stdio.
    pub spec: ContainerSpec,
    pub stdout: Option<PipeWriter>,
    pub stderr: Option<PipeWriter>,
    /// The program's end of the link, when the specification wants one.
    pub link: Option<UnixStream>,
    /// The program's end of its terminal: here a socket.
    pub terminal: Option<UnixStream>,
    /// Signals other than SIGKILL, which ends the script.
    pub signals: mpsc::Receiver<i32>,
    /// Rows and columns.
    pub size: watch::Receiver<(u16, u16)>,
}

impl FakeContainer {
    /// Writes to standard output; like a program, it does not mind that nobody reads.
    pub fn print(&mut self, text: &str) {
        if let Some(stdout) = &mut self.stdout {
            let _ = stdout.write_all(text.as_bytes());
        }
    }

    /// Writes to standard error.
    pub fn print_error(&mut self, text: &str) {
        if let Some(stderr) = &mut self.stderr {
            let _ = stderr.write_all(text.as_bytes());
        }
    }
}

type Play = Pin<Box<dyn Future<Output = ExitReason> + Send>>;
type Script = Arc<dyn Fn(FakeContainer) -> Play + Send + Sync>;

/// Signals a script may leave unread.
const SIGNALS_MAX: usize = 64;

#[derive(Default)]
struct State {
    running: HashMap<ContainerId, Arc<FakeControl>>,
    failures: VecDeque<RuntimeError>,
    started: Vec<ContainerSpec>,
    next_pid: u32,
}

/// Plays the given script for each container.
#[derive(Clone)]
pub struct FakeRuntime {
    script: Script,
    state: Arc<Mutex<State>>,
}

impl FakeRuntime {
    /// The script's result is how the container ends.
    pub fn new<F, P>(script: F) -> Self
    where
        F: Fn(FakeContainer) -> P + Send + Sync + 'static,
        P: Future<Output = ExitReason> + Send + 'static,
    {
        let script: Script = Arc::new(move |container| Box::pin(script(container)));
        Self { script, state: Arc::default() }
    }

    /// Every container ends at once with this code.
    pub fn exiting(code: i32) -> Self {
        Self::new(move |_| async move { ExitReason::Code(code) })
    }

    /// The next start fails like this; can be called several times.
    pub fn fail_next_start(&self, error: RuntimeError) {
        self.state().failures.push_back(error);
    }

    /// Every specification that was started, in order.
    pub fn started(&self) -> Vec<ContainerSpec> {
        self.state().started.clone()
    }

    pub fn running(&self) -> usize {
        self.state().running.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Plays the script as one program: the container's first, or one that ends with `container`.
    fn play(
        &self,
        spec: ContainerSpec,
        container: Option<watch::Receiver<Option<Exit>>>,
    ) -> Result<(Arc<FakeControl>, Started), RuntimeError> {
        let id = spec.id;
        let failed = |error: std::io::Error| RuntimeError::Start {
            id,
            step: "descriptors".into(),
            reason: error.to_string(),
        };
        let Ends { ours, theirs, size: first_size } = Ends::make(&spec).map_err(failed)?;
        let (signals, signals_inside) = mpsc::channel(SIGNALS_MAX);
        let (size, size_inside) = watch::channel(first_size);
        let played = FakeContainer {
            spec: spec.clone(),
            stdout: theirs.stdout,
            stderr: theirs.stderr,
            link: theirs.link,
            terminal: theirs.terminal,
            signals: signals_inside,
            size: size_inside,
        };
        let (exit_sender, exit) = watch::channel(None);
        let pid = {
            let mut state = self.state();
            state.next_pid += 1;
            state.next_pid
        };
        let (kill, mut killed) = watch::channel(false);
        let control = Arc::new(FakeControl { runtime: self.clone(), spec, pid, signals, size, kill, exit });
        let (script, runtime, first) = (self.script.clone(), self.clone(), container.is_none());
        // Ends with the script, or when it is killed.
        tokio::spawn(async move {
            let reason = tokio::select! {
                reason = script(played) => reason,
                _ = killed.wait_for(|killed| *killed) => ExitReason::Signal(libc::SIGKILL),
                () = ended(container) => ExitReason::Signal(libc::SIGKILL),
            };
            if first {
                let done = runtime.state().running.remove(&id);
                drop(done);
            }
            exit_sender.send_replace(Some(Exit { reason, usage: Usage::default() }));
        });
        let started = Started {
            control: control.clone(),
            stdout: ours.stdout,
            stderr: ours.stderr,
            terminal: ours.terminal,
            link: ours.link,
        };
        Ok((control, started))
    }
}

/// Both sides of a program's descriptors.
#[derive(Default)]
struct Ends {
    ours: Ours,
    theirs: Theirs,
    size: (u16, u16),
}

#[derive(Default)]
struct Ours {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    link: Option<OwnedFd>,
}

#[derive(Default)]
struct Theirs {
    stdout: Option<PipeWriter>,
    stderr: Option<PipeWriter>,
    terminal: Option<UnixStream>,
    link: Option<UnixStream>,
}

impl Ends {
    fn make(spec: &ContainerSpec) -> std::io::Result<Ends> {
        let mut ends = Ends::default();
        match spec.stdio {
            Stdio::Pipes => {
                let (output, errors) = (std::io::pipe()?, std::io::pipe()?);
                (ends.ours.stdout, ends.theirs.stdout) = (Some(output.0.into()), Some(output.1));
                (ends.ours.stderr, ends.theirs.stderr) = (Some(errors.0.into()), Some(errors.1));
            }
            Stdio::Terminal { rows, columns } => {
                let (ours, theirs) = UnixStream::pair()?;
                (ends.ours.terminal, ends.theirs.terminal) = (Some(ours.into()), Some(theirs));
                ends.size = (rows, columns);
            }
        }
        if spec.link {
            let (ours, theirs) = UnixStream::pair()?;
            (ends.ours.link, ends.theirs.link) = (Some(ours.into()), Some(theirs));
        }
        Ok(ends)
    }
}

/// Returns when the container has ended, if there is one to wait for.
async fn ended(container: Option<watch::Receiver<Option<Exit>>>) {
    match container {
        None => std::future::pending().await,
        Some(mut exit) => drop(exit.wait_for(Option::is_some).await),
    }
}

struct FakeControl {
    runtime: FakeRuntime,
    spec: ContainerSpec,
    pid: u32,
    signals: mpsc::Sender<i32>,
    size: watch::Sender<(u16, u16)>,
    kill: watch::Sender<bool>,
    exit: watch::Receiver<Option<Exit>>,
}

#[async_trait]
impl Control for FakeControl {
    fn id(&self) -> ContainerId {
        self.spec.id
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: i32) {
        if signal == libc::SIGKILL {
            self.kill.send_replace(true);
        } else {
            // A script that reads none of them loses the ones beyond the bound.
            let _ = self.signals.try_send(signal);
        }
    }

    async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        ended.unwrap_or(Exit { reason: ExitReason::Lost, usage: Usage::default() })
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.size.send_replace((rows, columns));
    }

    async fn exec(&self, exec: ExecSpec) -> Result<Started, RuntimeError> {
        if !self.runtime.state().running.contains_key(&self.spec.id) {
            return Err(RuntimeError::Ended(self.spec.id));
        }
        let ExecSpec { argv, env, workdir, stdio } = exec;
        let spec = ContainerSpec { argv, env, workdir, stdio, link: false, ..self.spec.clone() };
        self.runtime.play(spec, Some(self.exit.clone())).map(|(_, started)| started)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let id = spec.id;
        let refuse =
            |reason: &str| Err(RuntimeError::Start { id, step: "plan".into(), reason: reason.into() });
        if let Some(failure) = self.state().failures.pop_front() {
            return Err(failure);
        }
        if spec.argv.is_empty() {
            return refuse("no program is named");
        }
        if self.state().running.contains_key(&id) {
            return refuse("a container with this id runs already");
        }
        self.state().started.push(spec.clone());
        let (control, started) = self.play(spec, None)?;
        // The script may have ended already; then there is nothing to list.
        if control.exit.borrow().is_none() {
            self.state().running.insert(id, control);
        }
        Ok(started)
    }

    async fn sweep(&self) -> Result<Swept, RuntimeError> {
        Ok(Swept::default())
    }

    async fn checks(&self) -> Vec<Check> {
        vec![Check { name: "containers", verdict: Verdict::Ok, detail: "played by a script".into() }]
    }

    fn host_id(&self, id: u32) -> u32 {
        id
    }

    async fn shutdown(&self) {
        let running: Vec<_> = self.state().running.values().cloned().collect();
        for control in &running {
            control.signal(libc::SIGKILL);
        }
        for control in &running {
            control.wait().await;
        }
    }
}
