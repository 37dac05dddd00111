//! A replica whose container runs: one loop over its links, its output, its end and what is asked of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clunk_core::error::ErrorBody;
use clunk_runtime::Control;
use tokio::time::{Instant, Sleep};

use crate::dial::Dial;
use crate::frame::{self, FrameError, Kind};
use crate::link::{Link, LinkError, Outgoing};
use crate::payload::Payload;
use crate::pipes::Pipes;
use crate::reader::{Frame, LinkReader};
use crate::reason::{Blame, stopped_error};
use crate::replica::{CallEnd, Raised};
use crate::table::Touched;
use crate::task::{Cause, Task, Verdict};
use crate::value::{self, Part};
use crate::workers::Worker;

/// How long a replica that was asked to stop may take before it is killed, and one whose link is closed until it ends.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);
/// Times in a row that links and output are looked at before everything else is: a container that never stops talking
/// must not keep its own kill from being heard.
const STREAK_MAX: u32 = 8;
/// Times that a link is read after the end: more than a socket holds, in case someone still writes.
const LAST_READS: usize = 64;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The container's program.
    First,
    Worker(usize),
}

impl Source {
    /// Where the table has the calls of that process.
    fn seat(self) -> usize {
        match self {
            Self::First => 0,
            Self::Worker(at) => at,
        }
    }
}

/// Both halves of a link.
pub(crate) struct End {
    pub link: Arc<Link>,
    pub reader: LinkReader,
}

pub(crate) struct Links {
    /// None once it is closed.
    pub first: Option<End>,
    pub workers: Vec<Worker>,
    /// The worker that is looked at first, each time another.
    turn: usize,
}

impl Links {
    /// Receives from one of them. The program's comes first: what it says of a worker is older than what that says.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Source, Result<(), LinkError>)> {
        if let Some(first) = &mut self.first
            && let Poll::Ready(filled) = first.reader.poll_fill(cx)
        {
            return Poll::Ready((Source::First, filled));
        }
        let count = self.workers.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if let Some(end) = &mut self.workers[at].end
                && let Poll::Ready(filled) = end.reader.poll_fill(cx)
            {
                self.turn = at + 1;
                return Poll::Ready((Source::Worker(at), filled));
            }
        }
        Poll::Pending
    }

    pub fn end(&mut self, source: Source) -> Option<&mut End> {
        match source {
            Source::First => self.first.as_mut(),
            Source::Worker(at) => self.workers[at].end.as_mut(),
        }
    }
}

/// One timer for the nearest of several times.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    at: Option<Instant>,
}

impl Alarm {
    fn set(&mut self, at: Option<Instant>) {
        self.at = at;
        if let Some(at) = at {
            self.sleep.as_mut().reset(at);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.at {
            Some(_) => self.sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// When something has to have happened.
#[derive(Default)]
pub(crate) struct Limits {
    ready: Option<Instant>,
    stopped: Option<Instant>,
    /// The link is closed, the container should end.
    exited: Option<Instant>,
}

pub(crate) struct Serving<'a> {
    pub task: &'a Task,
    pub links: Links,
    control: Arc<dyn Control>,
    pipes: Pipes,
    dial: Dial,
    /// The runner's end, until START carries it.
    dial_end: Option<OwnedFd>,
    startup_timeout: Duration,
    pub ready: bool,
    pub stopping: bool,
    limits: Limits,
    alarm: Alarm,
    streak: u32,
    /// The output that was there when the frames at hand came has been read.
    drained: bool,
    /// When workers died by themselves, since the last answer.
    pub deaths: VecDeque<Instant>,
}

impl<'a> Serving<'a> {
    pub fn new(
        task: &'a Task,
        control: Arc<dyn Control>,
        link: OwnedFd,
        pipes: Pipes,
        startup_timeout: Duration,
    ) -> std::io::Result<Self> {
        let (link, reader) = Link::new(link, task.replica.wake.clone())?;
        let (dial, dial_end) = Dial::new()?;
        let now = Instant::now();
        Ok(Self {
            task,
            links: Links { first: Some(End { link, reader }), workers: Vec::new(), turn: 0 },
            control,
            pipes,
            dial,
            dial_end: Some(dial_end),
            startup_timeout,
            ready: false,
            stopping: false,
            limits: Limits { ready: Some(now + startup_timeout), ..Limits::default() },
            alarm: Alarm { sleep: Box::pin(tokio::time::sleep_until(now)), at: None },
            streak: 0,
            drained: false,
            deaths: VecDeque::new(),
        })
    }

    /// Sends what the runner begins with.
    pub fn begin(&mut self, start: &str, workers: u32) -> std::io::Result<()> {
        if let Some(first) = &self.links.first {
            let _ = self.task.replica.first.set(first.link.clone());
            let socket = self.dial_end.take();
            first.link.send(Outgoing { socket, ..Outgoing::bare(Kind::Start, 0, start) });
        }
        for at in 0..workers as usize {
            self.links.workers.push(Worker::default());
            self.make_worker(at)?;
        }
        self.set_alarm();
        Ok(())
    }

    pub async fn serve(&mut self, control: &dyn Control) -> Cause {
        let replica = self.task.replica.clone();
        let exited = control.wait();
        tokio::pin!(exited);
        loop {
            let patient = self.streak < STREAK_MAX;
            tokio::select! {
                biased;
                (source, filled) = poll_fn(|cx| self.links.poll(cx)), if patient => {
                    self.streak += 1;
                    if let Some(cause) = self.received(source, filled) { return cause }
                }
                (stream, text) = self.pipes.next(), if patient => {
                    self.streak += 1;
                    self.task.output(0, stream, &text);
                }
                exit = &mut exited => return Cause::Exited(exit),
                () = replica.wake.notified() => if let Some(cause) = self.woken() { return cause },
                () = poll_fn(|cx| self.alarm.poll(cx)) => if let Some(cause) = self.rung() { return cause },
                (socket, place) = poll_fn(|cx| self.dial.poll_next(cx)) =>
                    self.task.owner.connected(replica.id, socket, place),
                () = std::future::ready(()), if !patient => self.streak = 0,
            }
        }
    }

    fn received(&mut self, source: Source, filled: Result<(), LinkError>) -> Option<Cause> {
        match filled {
            Ok(()) => self.frames(source),
            Err(error) => self.broken(source, error),
        }
    }

    /// Takes the frames that have arrived on a link.
    pub fn frames(&mut self, source: Source) -> Option<Cause> {
        self.drained = false;
        let link = self.links.end(source)?.link.clone();
        link.cork();
        let cause = loop {
            // A frame may have been the last of its process.
            let Some(end) = self.links.end(source) else { break None };
            let cause = match end.reader.parse() {
                Ok(Some(frame)) => self.frame(source, frame),
                Ok(None) => break None,
                Err(error) => break self.broken(source, error),
            };
            if cause.is_some() {
                break cause;
            }
        };
        link.uncork();
        cause
    }

    fn broken(&mut self, source: Source, error: LinkError) -> Option<Cause> {
        match (source, error) {
            // A closed link is seen before the exit that explains it.
            (Source::First, LinkError::Closed) => {
                self.links.first = None;
                self.limits.exited = Some(Instant::now() + STOP_GRACE);
                self.set_alarm();
                None
            }
            (Source::First, error) => Some(Cause::Broken(error)),
            (Source::Worker(at), error) => self.worker_gone(at, error),
        }
    }

    fn frame(&mut self, source: Source, frame: Frame) -> Option<Cause> {
        match frame.kind {
            Kind::Ready => match source {
                Source::First => self.program_ready(frame::number(&frame.control, "ahead").unwrap_or(0)),
                Source::Worker(at) => return self.worker_ready(at),
            },
            Kind::StartFailed if !self.ready => return Some(Cause::Raised(raised(frame))),
            // One that follows another could not begin; it ends by itself.
            Kind::StartFailed if matches!(source, Source::Worker(_)) => {
                self.task.output(0, "stderr", raised(frame).traceback.as_bytes());
            }
            Kind::Log => {
                let stream = frame::field(&frame.control, "stream").unwrap_or_else(|| "stdout".into());
                if let Payload::Memory(text) = &frame.payload {
                    self.task.output(frame.call, &stream, text);
                }
            }
            Kind::Result | Kind::Exception => return self.answer(source, frame),
            Kind::File => return self.file(source, frame),
            Kind::Interrupted => {
                self.task.replica.table().interrupted(source.seat(), frame.call, Instant::now());
                self.set_alarm();
            }
            Kind::Metric => return self.metric(source, frame),
            Kind::Yield => return self.yielded(source, frame),
            Kind::WorkerEnded if source == Source::First => self.worker_ended(&frame.control),
            Kind::Start
            | Kind::Call
            | Kind::Cancel
            | Kind::Stop
            | Kind::Credit
            | Kind::Batch
            | Kind::Worker
            | Kind::StartFailed
            | Kind::WorkerEnded => return self.broken(source, FrameError::Unexpected(frame.kind).into()),
        }
        None
    }

    fn program_ready(&mut self, ahead: u64) {
        if std::mem::replace(&mut self.ready, true) {
            return;
        }
        self.limits.ready = None;
        if let (Some(first), true) = (&self.links.first, self.links.workers.is_empty()) {
            let mut touched = Touched::default();
            let mut table = self.task.replica.table();
            table.seat(0, first.link.clone());
            table.allow_ahead(0, ahead);
            table.place_waiting(&mut touched);
            drop(table);
            touched.flush();
        }
        if !self.stopping {
            self.task.event("ready", "");
            self.task.owner.ready(self.task.replica.id, self.task.replica.born.elapsed());
        }
    }

    fn answer(&mut self, source: Source, frame: Frame) -> Option<Cause> {
        // What C code printed before the end belongs before the end.
        if !std::mem::replace(&mut self.drained, true) {
            self.drain();
        }
        let mut touched = Touched::default();
        let (mut parts, to_end) = {
            let mut table = self.task.replica.table();
            let parts = table.answer(source.seat(), frame.call)?;
            table.place_waiting(&mut touched);
            (parts, table.turn(source.seat(), Instant::now()))
        };
        touched.flush();
        if to_end {
            self.control.signal(rustix::process::Signal::USR1.as_raw());
            self.set_alarm();
        }
        self.deaths.clear();
        let (number, cpu_us) = (frame.call, frame::number(&frame.control, "cpu_us").unwrap_or(0));
        let (end, broken) = match frame.kind {
            Kind::Result => match value::value(frame.payload, &frame.control, &mut parts) {
                Ok(value) => (CallEnd::Returned(value), None),
                Err(error) => (CallEnd::Raised(unreadable(&error)), Some(error)),
            },
            _ => (CallEnd::Raised(raised(frame)), None),
        };
        self.task.owner.answered(self.task.replica.id, number, end, cpu_us);
        self.broken(source, broken?.into())
    }

    fn yielded(&mut self, source: Source, frame: Frame) -> Option<Cause> {
        let found = {
            let mut table = self.task.replica.table();
            let parts = table.yielded(source.seat(), frame.call)?;
            parts.and_then(|parts| value::value(frame.payload, &frame.control, parts))
        };
        match found {
            Ok(value) => self.task.owner.yielded(self.task.replica.id, frame.call, value),
            Err(error) => return self.broken(source, error.into()),
        }
        None
    }

    /// A file of an output, whose value follows.
    fn file(&mut self, source: Source, frame: Frame) -> Option<Cause> {
        let part = match Part::read(&frame.control, frame.payload) {
            Ok(part) => part,
            Err(error) => return self.broken(source, error.into()),
        };
        let few = self.task.replica.table().add_part(source.seat(), frame.call, part);
        if few { None } else { self.broken(source, FrameError::Files.into()) }
    }

    fn metric(&mut self, source: Source, frame: Frame) -> Option<Cause> {
        match value::metric(&frame.control, frame.payload) {
            Ok(metric) => {
                let there = self.task.replica.table().has(source.seat(), frame.call);
                if there {
                    self.task.owner.metric(self.task.replica.id, frame.call, metric);
                }
                None
            }
            Err(error) => self.broken(source, error.into()),
        }
    }

    fn drain(&mut self) {
        while let Some((stream, text)) = self.pipes.try_next() {
            self.task.output(0, stream, &text);
        }
    }

    /// Looks at what others asked.
    fn woken(&mut self) -> Option<Cause> {
        let (orders, dropped) = {
            let mut table = self.task.replica.table();
            (table.orders, std::mem::take(&mut table.dropped))
        };
        if orders.kill {
            return Some(Cause::Killed);
        }
        if !dropped.is_empty() {
            self.lose(dropped, stopped_error(), Blame::Machine);
        }
        if orders.stop && !std::mem::replace(&mut self.stopping, true) {
            self.task.lose_waiting();
            if let Some(first) = &self.links.first {
                first.link.send(Outgoing::bare(Kind::Stop, 0, ""));
            }
            self.limits.stopped = Some(Instant::now() + STOP_GRACE);
        }
        self.set_alarm();
        None
    }

    pub fn lose(&self, numbers: Vec<u64>, error: ErrorBody, blame: Blame) {
        self.task.owner.lost(self.task.replica.id, numbers, error, blame);
    }

    /// Some time has come.
    fn rung(&mut self) -> Option<Cause> {
        let now = Instant::now();
        let past = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
        if past(self.limits.stopped) {
            return Some(Cause::Killed);
        }
        if past(self.limits.exited) {
            return Some(Cause::Broken(LinkError::Closed));
        }
        if past(self.limits.ready) {
            return Some(Cause::StartTimeout(self.startup_timeout));
        }
        loop {
            let overdue = self.task.replica.table().overdue(now);
            match overdue {
                Some(_) if self.links.workers.is_empty() => return Some(Cause::Unresponsive),
                Some(worker) => self.kill_worker(worker),
                None => break,
            }
        }
        let cause = self.workers_due(now);
        self.set_alarm();
        cause
    }

    pub fn set_alarm(&mut self) {
        let cancel = self.task.replica.table().deadlines.front().map(|(due, _)| *due);
        let Limits { ready, stopped, exited } = self.limits;
        let workers = self.links.workers.iter().flat_map(Worker::due);
        self.alarm.set([cancel, ready, stopped, exited].into_iter().flatten().chain(workers).min());
    }

    /// Ends the container for the given cause, if it has not ended, and reads what it still said.
    pub async fn finish(mut self, cause: Cause, memory_limit: Option<u64>) -> Verdict {
        if !matches!(cause, Cause::Exited(_)) {
            self.control.signal(rustix::process::Signal::KILL.as_raw());
        }
        let exit = self.control.wait().await;
        let _ = self.task.replica.used.set(exit.usage);
        self.task.lose_waiting();
        let broken = matches!(cause, Cause::Broken(_));
        let workers = (0..self.links.workers.len()).map(Source::Worker);
        for source in std::iter::once(Source::First).chain(workers) {
            for _ in 0..LAST_READS {
                // Nothing that follows a broken frame can be understood.
                let more = !broken && self.links.end(source).is_some_and(|end| end.reader.fill_now());
                if !more || self.frames(source).is_some() {
                    break;
                }
            }
        }
        self.drain();
        let lost = self.task.replica.table().clear();
        let (was_ready, stopping) = (self.ready, self.stopping);
        Verdict { cause, exit, was_ready, stopping, lost, memory_limit }
    }
}

/// What a call ends with whose answer broke the protocol.
fn unreadable(error: &FrameError) -> Raised {
    let (kind, package) = ("ProtocolError".into(), Payload::from(&b""[..]));
    Raised { kind, message: error.to_string(), traceback: String::new(), package }
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
