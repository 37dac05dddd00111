//! A replica: one container that serves one function version. One task owns it.
//!
//! ```text
//!   starting --READY--> ready --(STOP, kill, exit, broken link)--> ended
//!       \---START_FAILED, exit, time-out---------------------------^
//! ```

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clunk_core::api::{AppEvent, LogEvent};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, CallId, ReplicaId};
use clunk_runtime::{ContainerSpec, Control, Exit, ExitReason, Runtime, RuntimeError, Usage};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::frame::{self, Kind};
use crate::link::{Frame, Link, LinkError, LinkReader};
use crate::logs::AppLog;
use crate::payload::Payload;
use crate::pipes::Pipes;
use crate::reason::{exit_error, start_error, stopped_error};

/// How long a replica that was asked to stop may take before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What a replica is made from.
pub struct ReplicaSpec {
    pub id: ReplicaId,
    pub app: AppId,
    /// The function's name, for logs.
    pub function: String,
    pub container: ContainerSpec,
    /// Control text of the START frame.
    pub start: String,
    pub startup_timeout: Duration,
    pub log: Arc<AppLog>,
}

/// Told what becomes of a replica; each method is called at most once, `ended` last and always.
pub trait ReplicaOwner: Send + Sync + 'static {
    fn ready(&self, replica: ReplicaId);
    fn ended(&self, replica: ReplicaId, ended: Ended);
}

/// Why a replica is no more.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It never became ready: the user's code raised while it was imported.
    Raised(Raised),
    /// It never became ready, for another reason.
    NotStarted(ErrorBody),
    /// It was ready, and went away by itself.
    Crashed(ErrorBody),
}

/// An exception of user code.
#[derive(Debug, Clone)]
pub struct Raised {
    pub kind: String,
    pub message: String,
    pub traceback: String,
    /// The exception package of the runner protocol.
    pub package: Payload,
}

/// How a call on a replica ended.
#[derive(Debug)]
pub enum CallEnd {
    Returned(Payload),
    Raised(Raised),
    Failed(ErrorBody),
    /// The replica had ended before; the call never reached it.
    Refused,
}

/// A running replica; its task ends it when told to, never when this is dropped.
pub struct Replica {
    pub id: ReplicaId,
    pub app: AppId,
    pub function: String,
    pub started_ms: u64,
    link: OnceLock<Arc<Link>>,
    control: OnceLock<Arc<dyn Control>>,
    calls: Mutex<Calls>,
    last_call: AtomicU64,
    stop: Notify,
    kill: Notify,
}

struct Running {
    id: CallId,
    /// Log events of the call so far.
    logged: Arc<AtomicU64>,
    answer: oneshot::Sender<CallEnd>,
}

#[derive(Default)]
struct Calls {
    running: HashMap<u64, Running>,
    /// Nothing can run here any more.
    ended: bool,
}

impl Replica {
    /// Starts a container and the task that owns it. Returns at once.
    pub fn start(spec: ReplicaSpec, runtime: Arc<dyn Runtime>, owner: Arc<dyn ReplicaOwner>) -> Arc<Self> {
        let replica = Arc::new(Self {
            id: spec.id,
            app: spec.app,
            function: spec.function.clone(),
            started_ms: now_ms(),
            link: OnceLock::new(),
            control: OnceLock::new(),
            calls: Mutex::default(),
            last_call: AtomicU64::new(0),
            stop: Notify::new(),
            kill: Notify::new(),
        });
        let task = Task { replica: replica.clone(), owner: owner.clone(), log: spec.log.clone() };
        let running = tokio::spawn(task.run(spec, runtime));
        tokio::spawn(survive(running, replica.clone(), owner));
        replica
    }

    /// Runs one call and returns how it ended; counts its log events meanwhile. Dropping the future forgets the call;
    /// it does not stop it.
    pub async fn call(
        &self,
        id: CallId,
        control: &str,
        arguments: &Payload,
        logged: Arc<AtomicU64>,
    ) -> CallEnd {
        let number = self.last_call.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, end) = oneshot::channel();
        {
            let mut calls = self.calls.lock().expect("no panic while locked");
            if calls.ended {
                return CallEnd::Refused;
            }
            calls.running.insert(number, Running { id, logged, answer });
        }
        let sent = match self.link.get() {
            Some(link) => link.send(Kind::Call, number, control, arguments),
            None => Err(LinkError::Closed),
        };
        if let Err(error) = sent {
            tracing::warn!(replica = %self.id, %error, "could not send a call");
            self.kill();
        }
        let failed = || CallEnd::Failed(ErrorBody::new(ErrorCode::Internal, "the replica forgot the call"));
        end.await.unwrap_or_else(|_| failed())
    }

    /// Asks it to finish what runs and end; kills it after a grace period.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Ends every process of it at once.
    pub fn kill(&self) {
        self.kill.notify_one();
    }

    /// The host's process id of the container, once it runs.
    pub fn pid(&self) -> Option<u32> {
        self.control.get().map(|control| control.pid())
    }

    pub fn usage(&self) -> Usage {
        self.control.get().map(|control| control.usage()).unwrap_or_default()
    }

    fn take(&self, number: u64) -> Option<Running> {
        self.calls.lock().expect("no panic while locked").running.remove(&number)
    }

    /// The call in a frame's header, or the only one that runs when the output does not say. One more event of it is
    /// about to be logged.
    fn logging_call(&self, number: u64) -> Option<CallId> {
        let calls = self.calls.lock().expect("no panic while locked");
        let running = match calls.running.get(&number) {
            None if number == 0 && calls.running.len() == 1 => calls.running.values().next(),
            found => found,
        }?;
        running.logged.fetch_add(1, Ordering::Relaxed);
        Some(running.id)
    }

    fn fail_all(&self, error: &ErrorBody) {
        let running = {
            let mut calls = self.calls.lock().expect("no panic while locked");
            calls.ended = true;
            std::mem::take(&mut calls.running)
        };
        for call in running.into_values() {
            let _ = call.answer.send(CallEnd::Failed(error.clone()));
        }
    }
}

/// Whatever happens to a replica's task, its calls are answered and its owner hears of its end.
async fn survive(running: JoinHandle<()>, replica: Arc<Replica>, owner: Arc<dyn ReplicaOwner>) {
    let Err(panic) = running.await else { return };
    tracing::error!(replica = %replica.id, %panic, "a replica's task panicked");
    if let Some(control) = replica.control.get() {
        control.signal(rustix::process::Signal::KILL.as_raw());
    }
    let error = ErrorBody::new(ErrorCode::Internal, "the server lost track of the container; this is a bug");
    replica.fail_all(&error);
    owner.ended(replica.id, Ended::Crashed(error));
}

/// What made the serving loop end.
enum Cause {
    Exited(Exit),
    Asked,
    Killed,
    StartTimeout(Duration),
    Raised(Raised),
    Broken(LinkError),
}

struct Task {
    replica: Arc<Replica>,
    owner: Arc<dyn ReplicaOwner>,
    log: Arc<AppLog>,
}

impl Task {
    async fn run(self, spec: ReplicaSpec, runtime: Arc<dyn Runtime>) {
        self.event("starting", "");
        let (ended, answer) = match self.launch(spec, runtime).await {
            Ok(ended) => ended,
            Err(error) => {
                let error = start_error(&error);
                (Ended::NotStarted(error.clone()), error)
            }
        };
        self.replica.fail_all(&answer);
        match &ended {
            Ended::Stopped => self.event("stopped", ""),
            Ended::Raised(raised) => self.event("failed", &format!("{}: {}", raised.kind, raised.message)),
            Ended::NotStarted(error) | Ended::Crashed(error) => self.event("failed", &error.message),
        }
        self.owner.ended(self.replica.id, ended);
    }

    async fn launch(
        &self,
        spec: ReplicaSpec,
        runtime: Arc<dyn Runtime>,
    ) -> Result<(Ended, ErrorBody), RuntimeError> {
        let limit = spec.container.limits.memory_bytes;
        // A kill that comes meanwhile is found by the serving loop: half a start cannot be taken back.
        let started = runtime.start(spec.container).await?;
        let control = started.control;
        let _ = self.replica.control.set(control.clone());
        let socket = |error: std::io::Error| RuntimeError::Helper(error.to_string());
        let (Some(link), Some(stdout), Some(stderr)) = (started.link, started.stdout, started.stderr) else {
            control.signal(rustix::process::Signal::KILL.as_raw());
            return Err(RuntimeError::Helper("no link or no pipes".into()));
        };
        let (link, reader) = Link::new(link).map_err(socket)?;
        let pipes = Pipes::new([stdout, stderr] as [OwnedFd; 2]).map_err(socket)?;
        let _ = self.replica.link.set(link.clone());
        if let Err(error) = link.send(Kind::Start, 0, &spec.start, &Payload::from(&b""[..])) {
            tracing::debug!(%error, "the runner was gone before START");
        }
        let mut serving = Serving { task: self, link, reader, pipes, control: control.clone(), ready: false };
        let cause = serving.serve(spec.startup_timeout).await;
        let was_ready = serving.ready;
        let exit = serving.finish(&cause).await;
        Ok(verdict(cause, exit, was_ready, limit))
    }

    fn event(&self, state: &str, detail: &str) {
        self.log.write(&AppEvent::Replica {
            time_ms: now_ms(),
            replica: self.replica.id,
            function: self.replica.function.clone(),
            state: state.into(),
            detail: detail.into(),
        });
    }

    fn output(&self, call: u64, stream: &str, text: &[u8]) {
        self.log.write(&AppEvent::Log(LogEvent {
            time_ms: now_ms(),
            function: self.replica.function.clone(),
            replica: self.replica.id,
            call: self.replica.logging_call(call),
            stream: stream.into(),
            text: String::from_utf8_lossy(text).into_owned(),
        }));
    }
}

/// A replica whose container runs.
struct Serving<'a> {
    task: &'a Task,
    link: Arc<Link>,
    reader: LinkReader,
    pipes: Pipes,
    control: Arc<dyn Control>,
    ready: bool,
}

impl Serving<'_> {
    async fn serve(&mut self, startup_timeout: Duration) -> Cause {
        let replica = self.task.replica.clone();
        let (link, control) = (self.link.clone(), self.control.clone());
        let pump = link.pump();
        let exited = control.wait();
        let start_limit = tokio::time::sleep(startup_timeout);
        tokio::pin!(pump, exited, start_limit);
        loop {
            tokio::select! {
                biased;
                frame = self.reader.next() => match frame {
                    Ok(frame) => if let Some(cause) = self.frame(frame) { return cause },
                    // A closed link is seen before the exit that explains it.
                    Err(LinkError::Closed) => return match tokio::time::timeout(STOP_GRACE, &mut exited).await {
                        Ok(exit) => Cause::Exited(exit),
                        Err(_) => Cause::Broken(LinkError::Closed),
                    },
                    Err(error) => return Cause::Broken(error),
                },
                (stream, text) = self.pipes.next() => self.task.output(0, stream, &text),
                error = &mut pump => if !matches!(error, LinkError::Closed) { return Cause::Broken(error) },
                exit = &mut exited => return Cause::Exited(exit),
                () = replica.kill.notified() => return Cause::Killed,
                () = replica.stop.notified() => return Cause::Asked,
                () = &mut start_limit, if !self.ready => return Cause::StartTimeout(startup_timeout),
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Option<Cause> {
        match frame.kind {
            Kind::Ready => {
                self.ready = true;
                self.task.event("ready", "");
                self.task.owner.ready(self.task.replica.id);
            }
            Kind::StartFailed => return Some(Cause::Raised(raised(frame))),
            Kind::Log => {
                let stream = frame::field(&frame.control, "stream").unwrap_or_else(|| "stdout".into());
                if let Payload::Memory(text) = &frame.payload {
                    self.task.output(frame.call, &stream, text);
                }
            }
            Kind::Result | Kind::Exception => {
                // What C code printed before the end belongs before the end.
                self.drain();
                if let Some(call) = self.task.replica.take(frame.call) {
                    let end = match frame.kind {
                        Kind::Result => CallEnd::Returned(frame.payload),
                        _ => CallEnd::Raised(raised(frame)),
                    };
                    let _ = call.answer.send(end);
                }
            }
            // The runner's own words to itself.
            Kind::Start | Kind::Call | Kind::Cancel | Kind::Stop => {}
        }
        None
    }

    fn drain(&mut self) {
        while let Some((stream, text)) = self.pipes.try_next() {
            self.task.output(0, stream, &text);
        }
    }

    /// Ends the container for the given cause, if it has not ended, and reads what it still said.
    async fn finish(&mut self, cause: &Cause) -> Exit {
        let control = self.control.clone();
        if matches!(cause, Cause::Asked) {
            let _ = self.link.send(Kind::Stop, 0, "", &Payload::from(&b""[..]));
            if let Ok(exit) = tokio::time::timeout(STOP_GRACE, self.read_to_end()).await {
                return exit;
            }
        }
        if !matches!(cause, Cause::Exited(_)) {
            control.signal(rustix::process::Signal::KILL.as_raw());
        }
        let exit = control.wait().await;
        while let Ok(Ok(frame)) = tokio::time::timeout(Duration::ZERO, self.reader.next()).await {
            let _ = self.frame(frame);
        }
        self.drain();
        exit
    }

    async fn read_to_end(&mut self) -> Exit {
        let control = self.control.clone();
        let exited = control.wait();
        tokio::pin!(exited);
        let mut open = true;
        loop {
            tokio::select! {
                frame = self.reader.next(), if open => match frame {
                    Ok(frame) => { let _ = self.frame(frame); }
                    Err(_) => open = false,
                },
                (stream, text) = self.pipes.next() => self.task.output(0, stream, &text),
                exit = &mut exited => { self.drain(); return exit }
                () = self.task.replica.kill.notified() => control.signal(rustix::process::Signal::KILL.as_raw()),
            }
        }
    }
}

fn raised(frame: Frame) -> Raised {
    let field = |name| frame::field(&frame.control, name).unwrap_or_default();
    Raised {
        kind: field("type"),
        message: field("message"),
        traceback: field("traceback"),
        package: frame.payload,
    }
}

fn verdict(cause: Cause, exit: Exit, was_ready: bool, memory_limit: Option<u64>) -> (Ended, ErrorBody) {
    let crashed = |error: ErrorBody| match was_ready {
        true => (Ended::Crashed(error.clone()), error),
        false => (Ended::NotStarted(error.clone()), error),
    };
    match cause {
        Cause::Asked | Cause::Killed => (Ended::Stopped, stopped_error()),
        Cause::Raised(raised) => {
            let error =
                ErrorBody::new(ErrorCode::StartFailed, format!("{}: {}", raised.kind, raised.message));
            (Ended::Raised(raised), error)
        }
        Cause::StartTimeout(limit) => {
            let text = format!("the container was not ready after {} s", limit.as_secs());
            let hint = "raise startup_timeout=, or do less while the module is imported";
            crashed(ErrorBody::new(ErrorCode::StartFailed, text).hint(hint))
        }
        Cause::Broken(error) => crashed(ErrorBody::new(ErrorCode::ContainerCrashed, error.to_string())),
        Cause::Exited(exited) => {
            let reason = if matches!(exit.reason, ExitReason::OutOfMemory { .. }) {
                exit.reason
            } else {
                exited.reason
            };
            crashed(exit_error(&reason, memory_limit))
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
