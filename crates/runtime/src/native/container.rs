//! One container, or one later program in it, as its owner sees it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use clunk_core::id::ContainerId;
use tokio::sync::{oneshot, watch};

use crate::cgroup::Group;
use crate::fdpass;
use crate::native::link::{Assigned, End, Link, receive};
use crate::native::plan;
use crate::port::{
    ContainerSpec, Control, ExecSpec, Exit, ExitReason, Limits, Profile, RuntimeError, Started, Usage,
};
use crate::sys;
use crate::wire::{Event, Order, Plan, StdioPlan, ToHelper};

/// Exit code for the end of a program whose first process said nothing of it.
const KILLED: i32 = libc::SIGKILL;

pub(super) struct Container {
    id: ContainerId,
    pid: u32,
    /// Of the container's first process.
    pidfd: OwnedFd,
    group: Group,
    limits: Limits,
    common: Common,
    link: Arc<Link>,
    program: Program,
}

/// What later programs have in common with the first.
#[derive(Debug, Clone, Copy)]
struct Common {
    build: bool,
    gpu: bool,
}

/// A container's first program, or a later one.
struct Program {
    control: Arc<OwnedFd>,
    terminal: Option<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
}

/// The ends of a program's descriptors: ours, and those that travel to it.
struct Ends {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    link: Option<OwnedFd>,
    control: OwnedFd,
    travelling: Vec<OwnedFd>,
}

impl Ends {
    fn make(plan: OwnedFd, stdio: StdioPlan, with_link: bool) -> io::Result<Ends> {
        let (control, their_control) = fdpass::pair()?;
        let mut travelling = vec![plan, their_control];
        let (mut stdout, mut stderr, mut link) = (None, None, None);
        if stdio == StdioPlan::Pipes {
            for ours in [&mut stdout, &mut stderr] {
                let (reader, writer) = io::pipe()?;
                *ours = Some(reader.into());
                travelling.push(writer.into());
            }
        }
        if with_link {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            link = Some(ours.into());
            travelling.push(theirs.into());
        }
        rustix::io::ioctl_fionbio(&control, true)?;
        Ok(Ends { stdout, stderr, link, control, travelling })
    }
}

/// Kills what was started when nobody waits for it any more.
struct Unwanted<'a>(Option<&'a OwnedFd>);

impl Drop for Unwanted<'_> {
    fn drop(&mut self) {
        if let Some(pidfd) = self.0 {
            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

impl Container {
    pub(super) async fn start(
        link: Arc<Link>,
        spec: &ContainerSpec,
        plan: &Plan,
        message: ToHelper,
    ) -> Result<Started, RuntimeError> {
        let id = spec.id;
        let failed = |step: &str, reason: String| RuntimeError::Start { id, step: step.into(), reason };
        let ends = plan::file(plan)
            .and_then(|file| Ends::make(file, plan.program.stdio, spec.link))
            .map_err(|error| failed("descriptors", error.to_string()))?;
        let tickets = link.enter(id)?;
        let travelling: Vec<_> = ends.travelling.iter().map(AsFd::as_fd).collect();
        if let Err(error) = link.send(&message, &travelling).await {
            link.leave(id);
            return Err(error);
        }
        drop(travelling);
        let Ends { stdout, stderr, link: runner_link, control, travelling } = ends;
        drop(travelling);
        let Assigned { pid, group, pidfd } = match tickets.assigned.await {
            Ok(Ok(assigned)) => assigned,
            Ok(Err((step, reason))) => return Err(failed(&step, reason)),
            Err(_) => return Err(RuntimeError::Helper("it ended during the start".into())),
        };
        let mut unwanted = Unwanted(Some(&pidfd));
        let mut ended = tickets.ended;
        let control = Arc::new(control);
        let limit_bytes = spec.limits.memory_bytes.unwrap_or_default();
        let (program, started) = Program::watch(control, move |exited| async move {
            let end = ended.wait_for(Option::is_some).await.map(|end| *end);
            container_exit(exited, end.ok().flatten().unwrap_or(End::Lost), limit_bytes)
        });
        let terminal = match started.await {
            Ok(Ok((_, terminal))) => terminal,
            Ok(Err((step, reason, errno))) => {
                let mut exit = program.exit;
                let _ = exit.wait_for(Option::is_some).await;
                return Err(start_error(id, step, reason, errno));
            }
            Err(_) => {
                let mut exit = program.exit;
                let reason = match exit.wait_for(Option::is_some).await.as_deref() {
                    Ok(Some(Exit { reason: ExitReason::OutOfMemory { .. }, .. })) => {
                        "its memory limit is too small"
                    }
                    _ => "its first process was killed during set-up",
                };
                return Err(failed("program", reason.into()));
            }
        };
        unwanted.0 = None;
        drop(unwanted);
        let terminal_copy = copy(terminal.as_ref());
        let program = Program { terminal: terminal_copy, ..program };
        let common = Common { build: spec.profile == Profile::Build, gpu: !spec.gpus.is_empty() };
        let limits = spec.limits;
        let control = Arc::new(Container { id, pid, pidfd, group, limits, common, link, program });
        Ok(Started { control, stdout, stderr, terminal, link: runner_link })
    }
}

fn copy(fd: Option<&OwnedFd>) -> Option<OwnedFd> {
    fd.and_then(|fd| fd.try_clone().ok())
}

fn start_error(id: ContainerId, step: String, reason: String, errno: i32) -> RuntimeError {
    match errno {
        libc::ENOSPC | libc::EDQUOT => RuntimeError::DiskFull(format!("{step}: {reason}")),
        _ => RuntimeError::Start { id, step, reason },
    }
}

fn container_exit(exited: Option<ExitReason>, end: End, limit_bytes: u64) -> Exit {
    let End::Cleaned { usage, out_of_memory } = end else {
        return Exit { reason: ExitReason::Lost, usage: Usage::default() };
    };
    let reason = match exited {
        Some(ExitReason::Code(0)) => ExitReason::Code(0),
        _ if out_of_memory => ExitReason::OutOfMemory { limit_bytes },
        Some(reason) => reason,
        // The first process was killed and could not say.
        None => ExitReason::Signal(KILLED),
    };
    Exit { reason, usage }
}

type StartResult = Result<(u32, Option<OwnedFd>), (String, String, i32)>;

impl Program {
    /// Follows a program's control socket: the start goes to the receiver, the end to `Program::exit`.
    fn watch<F, E>(control: Arc<OwnedFd>, finish: F) -> (Program, oneshot::Receiver<StartResult>)
    where
        F: FnOnce(Option<ExitReason>) -> E + Send + 'static,
        E: Future<Output = Exit> + Send,
    {
        let (started, start) = oneshot::channel();
        let (exit_sender, exit) = watch::channel(None);
        let socket = control.clone();
        // Ends with the program; owners that went away do not matter to it.
        tokio::spawn(async move {
            let exited = follow(socket, started).await;
            exit_sender.send_replace(Some(finish(exited).await));
        });
        (Program { control, terminal: None, exit }, start)
    }

    fn order(&self, order: &Order) {
        // A full socket means that hundreds of signals wait already.
        let _ = fdpass::try_send(&*self.control, order, &[]);
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = sys::set_terminal_size(terminal.as_fd(), rows, columns);
        }
    }

    async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit { reason: ExitReason::Lost, usage: Usage::default() }),
            Err(_) => Exit { reason: ExitReason::Lost, usage: Usage::default() },
        }
    }
}

async fn follow(control: Arc<OwnedFd>, started: oneshot::Sender<StartResult>) -> Option<ExitReason> {
    let mut started = Some(started);
    let socket = sys::watch(control.try_clone().ok()?).ok()?;
    loop {
        match receive::<Event>(&socket).await {
            Ok(Some((Event::Started { pid }, fds))) => {
                let terminal = fds.into_iter().next();
                started.take().map(|started| started.send(Ok((pid, terminal))));
            }
            Ok(Some((Event::Failed { step, reason, errno }, _))) => {
                let words = format!("{step}: {reason}");
                started.take().map(|started| started.send(Err((step, reason, errno))));
                return Some(ExitReason::NotStarted(words));
            }
            Ok(Some((Event::Exited { code, signal }, _))) => {
                return match (code, signal) {
                    (Some(code), _) => Some(ExitReason::Code(code)),
                    (None, Some(signal)) => Some(ExitReason::Signal(signal)),
                    (None, None) => None,
                };
            }
            Ok(None) | Err(_) => return None,
        }
    }
}

#[async_trait]
impl Control for Container {
    fn id(&self) -> ContainerId {
        self.id
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: i32) {
        if signal == libc::SIGKILL {
            // The kernel ends the whole pid namespace with its first process.
            let _ = sys::pidfd_signal(self.pidfd.as_fd(), signal);
        } else {
            self.program.order(&Order::Signal(signal));
        }
    }

    async fn wait(&self) -> Exit {
        self.program.wait().await
    }

    fn usage(&self) -> Usage {
        self.group.usage()
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.program.resize(rows, columns);
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Started, RuntimeError> {
        exec(self.id, self.common, &self.group, &self.link, &self.limits, spec).await
    }
}

async fn exec(
    id: ContainerId,
    common: Common,
    group: &Group,
    link: &Arc<Link>,
    limits: &Limits,
    spec: ExecSpec,
) -> Result<Started, RuntimeError> {
    let plan = plan::exec(id, &spec, common.build, common.gpu)?;
    let failed =
        |error: io::Error| RuntimeError::Start { id, step: "descriptors".into(), reason: error.to_string() };
    let file = plan::file(&plan).map_err(failed)?;
    let Ends { stdout, stderr, control, travelling, .. } =
        Ends::make(file, plan.stdio, false).map_err(failed)?;
    let beside: Vec<_> = travelling.iter().map(AsFd::as_fd).collect();
    link.send(&ToHelper::Exec { id }, &beside).await?;
    drop(beside);
    drop(travelling);
    let group = group.clone();
    let usage_group = group.clone();
    let (program, started) = Program::watch(Arc::new(control), move |exited| async move {
        let reason = exited.unwrap_or(ExitReason::Signal(KILLED));
        Exit { reason, usage: usage_group.usage() }
    });
    match started.await {
        Ok(Ok((pid, terminal))) => {
            let program = Program { terminal: copy(terminal.as_ref()), ..program };
            let (link, limits) = (link.clone(), *limits);
            let control = Arc::new(Executed { id, pid, group, common, link, limits, program });
            Ok(Started { control, stdout, stderr, terminal, link: None })
        }
        Ok(Err((step, reason, errno))) => Err(start_error(id, step, reason, errno)),
        // The helper knows no such container any more.
        Err(_) => Err(RuntimeError::Ended(id)),
    }
}

/// A later program: signals and the end are its own, everything else is its container's.
struct Executed {
    id: ContainerId,
    pid: u32,
    group: Group,
    common: Common,
    link: Arc<Link>,
    limits: Limits,
    program: Program,
}

#[async_trait]
impl Control for Executed {
    fn id(&self) -> ContainerId {
        self.id
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: i32) {
        self.program.order(&Order::Signal(signal));
    }

    async fn wait(&self) -> Exit {
        self.program.wait().await
    }

    fn usage(&self) -> Usage {
        self.group.usage()
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.program.resize(rows, columns);
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Started, RuntimeError> {
        exec(self.id, self.common, &self.group, &self.link, &self.limits, spec).await
    }
}
