//! A replica's task: from the start of its container to what its owner hears of the end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use clunk_core::api::{AppEvent, LogEvent};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_runtime::{ContainerSpec, Exit, ExitReason, Runtime, RuntimeError};

use crate::link::LinkError;
use crate::logs::AppLog;
use crate::pipes::Pipes;
use crate::reason::{Blame, Fault, exit_error, start_error, stopped_error, unresponsive_error};
use crate::replica::{Ended, Raised, Replica, ReplicaOwner, ReplicaSpec, now_ms};
use crate::serving::Serving;

pub(crate) struct Task {
    pub replica: Arc<Replica>,
    pub owner: Arc<dyn ReplicaOwner>,
    pub log: Option<Arc<AppLog>>,
}

/// What made the serving loop end.
pub(crate) enum Cause {
    Exited(Exit),
    Killed,
    StartTimeout(Duration),
    Raised(Raised),
    Broken(LinkError),
    /// A canceled call did not end, and its process neither.
    Unresponsive,
    /// Workers die as fast as they are made.
    Workers(ErrorBody),
}

/// How a container ended, and what it had.
pub(crate) struct Verdict {
    pub cause: Cause,
    pub exit: Exit,
    pub was_ready: bool,
    /// It was asked to end.
    pub stopping: bool,
    pub lost: Vec<u64>,
    pub memory_limit: Option<u64>,
}

impl Task {
    pub async fn run(self, spec: ReplicaSpec, runtime: Arc<dyn Runtime>) {
        self.event("starting", "");
        let (ended, lost) = match self.launch(spec, runtime).await {
            Ok(verdict) => verdict.split(),
            Err(error) => {
                let error = start_error(&error);
                (Ended::NotStarted { error, blame: Blame::Machine }, Vec::new())
            }
        };
        self.lose_waiting();
        match &ended {
            Ended::Stopped => self.event("stopped", ""),
            Ended::Raised(raised) => self.event("failed", &format!("{}: {}", raised.kind, raised.message)),
            Ended::NotStarted { error, .. } | Ended::Crashed { error, .. } => {
                self.event("failed", &error.message)
            }
        }
        self.owner.ended(self.replica.id, ended, lost);
    }

    async fn launch(&self, spec: ReplicaSpec, runtime: Arc<dyn Runtime>) -> Result<Verdict, RuntimeError> {
        let ReplicaSpec { container, start, startup_timeout, workers, .. } = spec;
        let memory_limit = container.limits.memory_bytes;
        let (mut serving, control) = {
            let started = self.start(container, runtime).await?;
            let control = started.control.clone();
            let serving = self.serving(started, &start, startup_timeout, workers);
            // Nobody else would end it.
            let kill = |_: &RuntimeError| control.signal(rustix::process::Signal::KILL.as_raw());
            (serving.inspect_err(kill)?, control)
        };
        let cause = serving.serve(control.as_ref()).await;
        Ok(serving.finish(cause, memory_limit).await)
    }

    async fn start(
        &self,
        container: ContainerSpec,
        runtime: Arc<dyn Runtime>,
    ) -> Result<clunk_runtime::Started, RuntimeError> {
        // A kill that comes meanwhile is found by the serving loop: half a start cannot be taken back.
        let started = runtime.start(container).await?;
        let _ = self.replica.control.set(started.control.clone());
        Ok(started)
    }

    fn serving<'a>(
        &'a self,
        started: clunk_runtime::Started,
        start: &str,
        startup_timeout: Duration,
        workers: u32,
    ) -> Result<Serving<'a>, RuntimeError> {
        let failed = |error: std::io::Error| RuntimeError::Helper(error.to_string());
        let (Some(link), Some(stdout), Some(stderr)) = (started.link, started.stdout, started.stderr) else {
            return Err(RuntimeError::Helper("no link or no pipes".into()));
        };
        let pipes = Pipes::new([stdout, stderr] as [OwnedFd; 2]).map_err(failed)?;
        let mut serving =
            Serving::new(self, started.control, link, pipes, startup_timeout).map_err(failed)?;
        serving.begin(start, workers).map_err(failed)?;
        Ok(serving)
    }

    /// Tells the owner of calls that never reached a process.
    pub fn lose_waiting(&self) {
        let waiting = self.replica.table().close();
        if !waiting.is_empty() {
            self.owner.lost(self.replica.id, waiting, stopped_error(), Blame::Machine);
        }
    }

    pub fn event(&self, state: &str, detail: &str) {
        let Some(log) = &self.log else { return };
        log.write(&AppEvent::Replica {
            time_ms: now_ms(),
            replica: self.replica.id,
            function: self.replica.function.clone(),
            state: state.into(),
            detail: detail.into(),
        });
    }

    pub fn output(&self, number: u64, stream: &str, text: &[u8]) {
        let (number, call) = self.replica.table().logging_call(number).unzip();
        let text = String::from_utf8_lossy(text);
        self.owner.printed(self.replica.id, number.unwrap_or(0), stream, &text);
        let Some(log) = &self.log else { return };
        log.write(&AppEvent::Log(LogEvent {
            time_ms: now_ms(),
            function: self.replica.function.clone(),
            replica: self.replica.id,
            call,
            stream: stream.into(),
            text: text.into_owned(),
        }));
    }
}

impl Verdict {
    fn split(self) -> (Ended, Vec<u64>) {
        let Self { cause, exit, was_ready, stopping, lost, memory_limit } = self;
        if stopping {
            return (Ended::Stopped, lost);
        }
        let crashed = |error: ErrorBody, fault: Fault| match was_ready {
            true => Ended::Crashed { error, blame: fault.blame(lost.len()) },
            // No call was there: the code that was loaded did it.
            false => Ended::NotStarted { error, blame: fault.blame(1) },
        };
        let ended = match cause {
            Cause::Killed => Ended::Stopped,
            Cause::Raised(raised) => Ended::Raised(raised),
            Cause::StartTimeout(limit) => {
                let text = format!("the container was not ready after {} s", limit.as_secs());
                let hint = "raise startup_timeout=, or do less while the module is imported";
                crashed(ErrorBody::new(ErrorCode::StartFailed, text).hint(hint), Fault::Code)
            }
            Cause::Broken(error) => {
                let fault = if matches!(error, LinkError::Socket(_)) { Fault::Outside } else { Fault::Code };
                crashed(ErrorBody::new(ErrorCode::ContainerCrashed, error.to_string()), fault)
            }
            Cause::Unresponsive => crashed(unresponsive_error(), Fault::Outside),
            Cause::Workers(error) => crashed(error, Fault::Code),
            Cause::Exited(exited) => {
                let out_of_memory = matches!(exit.reason, ExitReason::OutOfMemory { .. });
                let reason = if out_of_memory { exit.reason } else { exited.reason };
                crashed(exit_error(&reason, memory_limit), Fault::of(&reason))
            }
        };
        (ended, lost)
    }
}
