//! A lane: the queue of one task of a model (predictions, or trainings), and the one process that works it off.

mod checking;
mod delivering;
mod owner;
mod staging;
mod starting;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use clunk_agent::{CallEnd, Dispatch, Payload, Replica};
use clunk_core::id::{AppId, CallId, ReplicaId};
use clunk_dialects::cog::validate::InputSchema;
use clunk_runtime::{ContainerSpec, Runtime};
use tokio::sync::{oneshot, watch};

use crate::counters::Counters;
use crate::health::Setup;
use crate::life::{self, Action, Change, Event, Health, Outcome, Step};
use crate::output::Files;
use crate::prediction::Prediction;
use crate::record::{Json, Record};
use crate::request::Asked;
use crate::settings::Settings;

/// Predictions that have ended and can still be asked for.
const RECENT_MAX: usize = 1000;
/// Bytes that they keep in memory together.
const RECENT_BYTES: usize = 64 << 20;

/// What a lane works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prediction,
    Training,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Training => "training",
        }
    }

    /// Where it is in addresses.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Prediction => "predictions",
            Self::Training => "trainings",
        }
    }

    /// Of the schema of its inputs.
    pub fn component(self) -> &'static str {
        match self {
            Self::Prediction => "Input",
            Self::Training => "TrainingInput",
        }
    }
}

/// How processes of a lane are made.
#[derive(Clone)]
pub struct Program {
    /// A container for a replica, and the control text of its START frame.
    pub make: Arc<dyn Fn(ReplicaId) -> (ContainerSpec, String) + Send + Sync>,
    /// Inputs that one process takes at the same time.
    pub concurrency: u32,
    /// Where processes keep their input files, of those whose folders outlive them.
    pub temporary: Option<PathBuf>,
}

impl Program {
    /// Removes the input files that a process left; blocks.
    fn clean_up(&self, replica: ReplicaId) {
        let entries = self.temporary.as_ref().and_then(|folder| std::fs::read_dir(folder).ok());
        let own = format!("inputs-{replica}-");
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&own))
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, path = %entry.path().display(), "input files could not be removed");
            }
        }
    }
}

/// Told everything that is printed: the stream, and text.
pub type Sink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What lanes are made from.
pub struct Plan {
    pub kind: Kind,
    pub name: String,
    pub program: Program,
    pub schema: Option<InputSchema>,
    /// Outputs can be followed as they come.
    pub streaming: bool,
    /// Started when something is asked of it, and stopped when all is done.
    pub on_demand: bool,
    pub version: Option<Arc<str>>,
}

pub struct Lane {
    pub plan: Plan,
    pub settings: Arc<Settings>,
    pub counters: Counters,
    files: Files,
    runtime: Arc<dyn Runtime>,
    sink: Option<Sink>,
    state: Mutex<Work>,
    /// Told of every change that somebody may wait for.
    changed: watch::Sender<()>,
    app: AppId,
    /// Calls have names for the agent's log, which a model has not.
    call: CallId,
    logged: Arc<AtomicU64>,
    last_id: AtomicU64,
}

/// What a process has.
enum Job {
    Run(Arc<Prediction>),
    Check(oneshot::Sender<CallEnd>),
}

struct Work {
    health: Health,
    replica: Option<Arc<Replica>>,
    /// Places on it.
    free: u32,
    next: u64,
    queue: VecDeque<Arc<Prediction>>,
    queued_bytes: u64,
    running: HashMap<u64, Job>,
    /// What the process has before its turn, in order; it counts as waiting.
    staged: VecDeque<(u64, Arc<Prediction>)>,
    /// The last prediction took no time worth telling.
    brisk: bool,
    /// By id: what waits, runs, and ended a short time ago.
    known: HashMap<String, Arc<Prediction>>,
    recent: VecDeque<(Arc<Prediction>, usize)>,
    recent_bytes: usize,
    setup: Setup,
    /// It is being stopped, because nothing is left to do.
    retiring: bool,
    /// The server ends.
    closed: bool,
    /// Whether the model checks its own health; None until it was asked.
    checks: Option<bool>,
    /// What the last check said.
    sick: Option<String>,
}

/// What became of something that was asked for.
pub struct Submitted {
    pub prediction: Arc<Prediction>,
    /// It is new; otherwise it was there already.
    pub created: bool,
    /// How it was before it began, for whoever does not wait for it.
    pub first: Option<Json>,
}

/// A connection that waits for a prediction, or is told of it.
pub struct Attached {
    pub prediction: Arc<Prediction>,
    lane: Arc<Lane>,
}

impl Attached {
    /// None: that many others do so already.
    pub fn new(lane: &Arc<Lane>, prediction: Arc<Prediction>, most: u32) -> Option<Self> {
        prediction.attach(most).then(|| Self { prediction, lane: lane.clone() })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.prediction.leave() {
            self.lane.cancel(&self.prediction);
        }
    }
}

/// Why something is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The model is not there; why, and whether it may be later.
    NotReady {
        reason: String,
        later: bool,
    },
    Full,
    /// Another one with its id waits or runs.
    Taken,
}

impl Lane {
    pub fn new(
        plan: Plan,
        settings: Arc<Settings>,
        files: Files,
        runtime: Arc<dyn Runtime>,
        sink: Option<Sink>,
    ) -> Arc<Self> {
        let state = Work {
            health: Health::Cold,
            replica: None,
            free: 0,
            next: 1,
            queue: VecDeque::new(),
            queued_bytes: 0,
            running: HashMap::new(),
            staged: VecDeque::new(),
            brisk: false,
            known: HashMap::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            setup: Setup::default(),
            retiring: false,
            closed: false,
            checks: None,
            sick: None,
        };
        Arc::new(Self {
            plan,
            settings,
            counters: Counters::default(),
            files,
            runtime,
            sink,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            app: AppId::fresh(),
            call: CallId::fresh(),
            logged: Arc::default(),
            last_id: AtomicU64::new(0),
        })
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.state.lock().expect("no panic while locked")
    }

    pub fn concurrency(&self) -> u32 {
        self.plan.program.concurrency.max(1)
    }

    /// Takes a prediction. One with the same id that is known already is the answer instead; the flag says which.
    pub fn submit(self: &Arc<Self>, mut asked: Asked, detached: bool) -> Result<Submitted, Refusal> {
        let payload = asked.arguments().map_err(|error| Refusal::NotReady {
            reason: format!("could not keep the input: {error}"),
            later: true,
        })?;
        let mut work = self.work();
        if let Some(known) = asked.id.as_ref().and_then(|id| work.known.get(id))
            && (!known.is_ended() || (asked.idempotent && known.is_of(&asked)))
        {
            if !asked.idempotent && !known.is_of(&asked) {
                return Err(Refusal::Taken);
            }
            return Ok(Submitted { prediction: known.clone(), created: false, first: None });
        }
        self.admit(&mut work)?;
        if work.waiting() >= self.settings.queue_max
            || work.queued_bytes + payload.len() > self.settings.queue_bytes_max
        {
            self.counters.refused();
            return Err(Refusal::Full);
        }
        let id = asked.id.clone().unwrap_or_else(|| self.fresh_id());
        let history = if self.plan.streaming { self.settings.history } else { 0 };
        work.queued_bytes += payload.len();
        let prediction =
            Prediction::new(id.clone(), &asked, payload, history, self.plan.version.clone(), detached);
        let first = detached.then(|| prediction.json());
        work.known.insert(id, prediction.clone());
        work.queue.push_back(prediction.clone());
        self.pump(&mut work);
        Ok(Submitted { prediction, created: true, first })
    }

    /// Whether anything is taken now; wakes a lane that waits for its first task.
    fn admit(self: &Arc<Self>, work: &mut Work) -> Result<(), Refusal> {
        let refuse = |reason: &str, later| Err(Refusal::NotReady { reason: reason.into(), later });
        if work.closed {
            return refuse("the server is shutting down", true);
        }
        if self.plan.on_demand {
            if matches!(work.health, Health::SetupFailed | Health::Defunct) {
                work.health = Health::Cold;
            }
            if !work.retiring {
                self.step(work, Change::Wanted);
            }
            return Ok(());
        }
        match work.health {
            Health::Up | Health::Restarting { .. } => Ok(()),
            Health::Cold | Health::Starting => refuse(
                "Setup has not finished yet. Wait until it has finished, or GET /health-check for status.",
                true,
            ),
            Health::SetupFailed => {
                let last = work.setup.last_line();
                refuse(&format!("Setup has failed: {last}; GET /health-check has all that it said"), false)
            }
            Health::Defunct => {
                self.step(work, Change::Wanted);
                Ok(())
            }
        }
    }

    /// `pred_`, and nanoseconds that no other id has.
    fn fresh_id(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let last =
            self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        let own = last.map_or(now, |last| now.max(last + 1));
        format!("pred_{own:x}")
    }

    /// Gives what waits to the process while it has places.
    fn pump(&self, work: &mut Work) {
        while work.health == Health::Up
            && !work.retiring
            && work.free > 0
            && let Some(replica) = work.replica.clone()
            && let Some(prediction) = work.queue.pop_front()
        {
            work.queued_bytes = work.queued_bytes.saturating_sub(prediction.size);
            // Without arguments it has ended while it waited.
            let Some(payload) = prediction.payload() else { continue };
            let number = work.next;
            if prediction.step(Event::Dispatched, |record| record.number = number).is_none() {
                continue;
            }
            work.next += 1;
            work.free -= 1;
            let call = self.dispatch(number, prediction.control.clone(), payload);
            work.running.insert(number, Job::Run(prediction));
            // A replica that takes no more has ended, and says so next.
            replica.send(&[call], false);
        }
        self.stage(work);
    }

    fn dispatch(&self, number: u64, control: String, payload: Payload) -> Dispatch {
        Dispatch { number, id: self.call, control, payload, logged: self.logged.clone() }
    }

    pub fn find(&self, id: &str) -> Option<Arc<Prediction>> {
        self.work().known.get(id).cloned()
    }

    /// Asks a prediction to end.
    pub fn cancel(self: &Arc<Self>, prediction: &Arc<Prediction>) {
        match self.advance(prediction, Event::CancelAsked, |_| ()) {
            Some(Action::Interrupt) => self.interrupt(prediction),
            Some(Action::Finish(_)) => {
                let mut work = self.work();
                if let Some(at) = work.queue.iter().position(|other| Arc::ptr_eq(other, prediction)) {
                    work.queue.remove(at);
                    work.queued_bytes = work.queued_bytes.saturating_sub(prediction.size);
                }
                if let Some((number, replica)) = work.staged_as(prediction) {
                    drop(work);
                    replica.cancel(number);
                }
            }
            Some(Action::Nothing | Action::Requeue) | None => {}
        }
    }

    fn interrupt(&self, prediction: &Arc<Prediction>) {
        let number = prediction.look(|record| record.number);
        let replica = {
            let work = self.work();
            work.running.contains_key(&number).then(|| work.replica.clone()).flatten()
        };
        if let Some(replica) = replica {
            replica.cancel(number);
        }
    }

    /// A step of a prediction's life, with what the lane has to do when it is the last one.
    fn advance(
        &self,
        prediction: &Arc<Prediction>,
        event: Event,
        with: impl FnOnce(&mut Record),
    ) -> Option<Action> {
        let action = prediction.step(event, with)?;
        if let Action::Finish(outcome) = action {
            self.retire(prediction, outcome);
        }
        Some(action)
    }

    fn retire(&self, prediction: &Arc<Prediction>, outcome: Outcome) {
        self.counters.ended(outcome, prediction.look(|record| record.took));
        let weight = prediction.weight();
        let mut gone = Vec::new();
        let mut work = self.work();
        work.recent_bytes += weight;
        work.recent.push_back((prediction.clone(), weight));
        while work.recent.len() > RECENT_MAX || (work.recent_bytes > RECENT_BYTES && work.recent.len() > 1) {
            let Some((old, weight)) = work.recent.pop_front() else { break };
            work.recent_bytes -= weight;
            if work.known.get(&old.id).is_some_and(|known| Arc::ptr_eq(known, &old)) {
                work.known.remove(&old.id);
            }
            gone.push(old);
        }
        drop(work);
        self.changed.send_replace(());
    }

    fn step(self: &Arc<Self>, work: &mut Work, what: Change) {
        let (health, step) = life::change(work.health, what);
        work.health = health;
        match step {
            Step::Nothing => {}
            Step::Start { failures } => self.start(work, failures),
            Step::GiveUp => self.drain_queue(work),
        }
        self.changed.send_replace(());
    }
}
