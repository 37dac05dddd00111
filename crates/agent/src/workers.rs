//! The forked processes of a replica: their birth, their end, and the one that follows.
//!
//! A worker whose link closed may be the first sign that the whole container ends. So its calls are given up only when
//! the program shows that it lives: it says how the worker ended, or the next one is ready.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_runtime::ExitReason;
use tokio::time::Instant;

use crate::frame::{self, Kind, control};
use crate::link::{Link, LinkError, Outgoing};
use crate::reason::{Fault, unresponsive_error, worker_error};
use crate::serving::{End, Serving, Source};
use crate::table::Touched;
use crate::task::Cause;

/// Workers that may die by themselves within [`DEATHS_WINDOW`] with no call answered in between: a crash that comes
/// with the input is over by then, one that comes with the code is not.
const DEATHS_MAX: usize = 5;
const DEATHS_WINDOW: Duration = Duration::from_secs(10);
/// How long the program may take to end a worker, or to show that it lives after one has died.
const PROGRAM_GRACE: Duration = Duration::from_secs(1);

/// A process that the program forked, or is to fork.
#[derive(Default)]
pub(crate) struct Worker {
    pub end: Option<End>,
    ready: bool,
    /// It was killed for a call that did not end; until then its link should be closed.
    killed: Option<Instant>,
    /// How it ended, said by the program before its link closed.
    reason: Option<ExitReason>,
    gone: Option<Gone>,
}

/// What a worker left.
struct Gone {
    numbers: Vec<u64>,
    error: ErrorBody,
    fault: Fault,
    /// It was killed by the agent, or its error is known without asking.
    told: bool,
    /// The owner hears of it by then. None: it will with the whole container's end.
    due: Option<Instant>,
}

impl Worker {
    /// When something has to have happened.
    pub fn due(&self) -> impl Iterator<Item = Instant> + use<> {
        self.killed.into_iter().chain(self.gone.as_ref().and_then(|gone| gone.due))
    }
}

impl Serving<'_> {
    /// Gives the program a link for a new worker.
    pub fn make_worker(&mut self, at: usize) -> std::io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let (link, reader) = Link::new(ours.into(), self.task.replica.wake.clone())?;
        let worker = &mut self.links.workers[at];
        (worker.end, worker.ready) = (Some(End { link, reader }), false);
        if let Some(first) = &self.links.first {
            let text = control([("worker", at.to_string().as_str())]);
            let socket = Some(theirs.into());
            first.link.send(Outgoing { socket, ..Outgoing::bare(Kind::Worker, 0, &text) });
        }
        Ok(())
    }

    pub fn worker_ready(&mut self, at: usize) -> Option<Cause> {
        // Before this worker was forked the program may have said how the last one ended.
        if self.links.workers[at].gone.is_some()
            && self.links.first.as_mut().is_some_and(|first| first.reader.fill_now())
            && let Some(cause) = self.frames(Source::First)
        {
            return Some(cause);
        }
        self.tell(at);
        let worker = &mut self.links.workers[at];
        let link = worker.end.as_ref().filter(|_| !worker.ready)?.link.clone();
        worker.ready = true;
        let mut touched = Touched::default();
        {
            let mut table = self.task.replica.table();
            table.seat(at, link);
            table.place_waiting(&mut touched);
        }
        touched.flush();
        None
    }

    /// The program says how a worker ended.
    pub fn worker_ended(&mut self, control: &str) {
        let Some(at) = frame::number(control, "worker").map(|at| at as usize) else { return };
        let code = frame::number(control, "code").map(|code| ExitReason::Code(code as i32));
        let signal = || frame::number(control, "signal").map(|signal| ExitReason::Signal(signal as i32));
        let (Some(worker), Some(reason)) = (self.links.workers.get_mut(at), code.or_else(signal)) else {
            return;
        };
        match &mut worker.gone {
            Some(gone) => {
                if !gone.told {
                    (gone.error, gone.fault) = (worker_error(Some(&reason)), Fault::of(&reason));
                }
                self.tell(at);
            }
            None if worker.ready => worker.reason = Some(reason),
            None => {}
        }
    }

    /// A worker's link has closed, or broke.
    pub fn worker_gone(&mut self, at: usize, error: LinkError) -> Option<Cause> {
        let now = Instant::now();
        let numbers = self.task.replica.table().unseat(at);
        let worker = &mut self.links.workers[at];
        (worker.end, worker.ready) = (None, false);
        let (killed, reason) = (worker.killed.take().is_some(), worker.reason.take());
        let broken = !killed && !matches!(error, LinkError::Closed);
        let (error, fault) = match &reason {
            _ if killed => (unresponsive_error(), Fault::Outside),
            _ if broken => (ErrorBody::new(ErrorCode::ContainerCrashed, error.to_string()), Fault::Code),
            Some(reason) => (worker_error(Some(reason)), Fault::of(reason)),
            None => (worker_error(None), Fault::Code),
        };
        let ending = self.stopping || self.links.first.is_none();
        let told = killed || broken;
        let due = (!ending).then(|| now + PROGRAM_GRACE);
        match &mut worker.gone {
            // The one before has not been told of yet; this one had no calls.
            Some(gone) => gone.numbers.extend(numbers),
            gone => *gone = Some(Gone { numbers, error: error.clone(), fault, told, due }),
        }
        if ending {
            return None;
        }
        if broken {
            self.kill_frame(at);
        }
        if reason.is_some() || told {
            self.tell(at);
        }
        if !killed && self.too_many_deaths(now) {
            return Some(Cause::Workers(error));
        }
        match self.make_worker(at) {
            Ok(()) => self.set_alarm(),
            Err(error) => return Some(Cause::Broken(LinkError::Socket(error))),
        }
        None
    }

    fn too_many_deaths(&mut self, now: Instant) -> bool {
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|first| now.duration_since(*first) > DEATHS_WINDOW) {
            self.deaths.pop_front();
        }
        self.deaths.len() > DEATHS_MAX
    }

    /// Tells the owner of the calls that a worker left.
    fn tell(&mut self, at: usize) {
        let Some(gone) = self.links.workers[at].gone.take() else { return };
        if !gone.numbers.is_empty() {
            let blame = gone.fault.blame(gone.numbers.len());
            self.task.replica.table().told(&gone.numbers);
            self.lose(gone.numbers, gone.error, blame);
        }
    }

    fn kill_frame(&self, at: usize) {
        if let Some(first) = &self.links.first {
            let text = control([("worker", at.to_string().as_str()), ("kill", "1")]);
            first.link.send_now(Outgoing::bare(Kind::Cancel, 0, &text));
        }
    }

    /// Ends a worker for a call that did not end.
    pub fn kill_worker(&mut self, at: usize) {
        if self.links.workers[at].killed.is_none() {
            self.links.workers[at].killed = Some(Instant::now() + PROGRAM_GRACE);
            self.kill_frame(at);
        }
    }

    /// Looks for workers that should have ended, and for losses that should be told.
    pub fn workers_due(&mut self, now: Instant) -> Option<Cause> {
        for at in 0..self.links.workers.len() {
            let worker = &self.links.workers[at];
            if worker.killed.is_some_and(|killed| killed <= now) {
                return Some(Cause::Unresponsive);
            }
            if worker.gone.as_ref().and_then(|gone| gone.due).is_some_and(|due| due <= now) {
                self.tell(at);
            }
        }
        None
    }
}
