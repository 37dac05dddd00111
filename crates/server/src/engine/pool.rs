//! One function version's calls and replicas.
//!
//! ```text
//!   admit ──> queue ──dispatch──> replica ──answered──> conclude ──> deliver
//!               ^                    │                     │
//!               └──── delayed <──────┴── lost, timed out ──┘
//! ```
//!
//! Everything happens under one lock, in short steps that never wait: a replica's answer is concluded, delivered, and the
//! next call sent, on the task of that replica. What only time brings (time-outs, retries, scaling) is the keeper's.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clunk_agent::replica::now_ms;
use clunk_agent::{AppLog, Replica};
use clunk_core::api::{CallEvent, ContainerRecord, FunctionRecord, Scaling};
use clunk_core::call::CallState;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, CallId, FunctionId, ReplicaId};
use clunk_core::measure::{Average, Rate};
use clunk_core::placement::Ask;
use clunk_runtime::Usage;
use tokio::sync::{Notify, watch};

use super::Engine;
use super::app::{App, Haste};
use super::compose::Template;
use super::fleet::Reserved;
use super::live::{Live, Request, Sink};
use super::meter::Meter;
use super::observer::Observer;
use super::queue::{Place, Queue};

/// Attached calls that may wait for one function: their inputs are in memory.
pub const MAX_WAITING: usize = 2000;
/// Bytes of their inputs, and of those that run: larger inputs than a few MiB lie in files and do not count.
pub const MAX_HELD_BYTES: u64 = 512 << 20;
/// Durable calls that may wait for one function.
pub const MAX_PENDING: u64 = 1_000_000;

pub struct Pool {
    pub id: FunctionId,
    pub spec: FunctionSpec,
    /// What one replica sets aside.
    pub ask: Ask,
    pub(super) template: Template,
    pub app: AppId,
    pub(super) app_name: String,
    pub workspace: Arc<str>,
    pub(super) log: Arc<AppLog>,
    pub(super) engine: Arc<Engine>,
    pub(super) state: Mutex<State>,
    pub meter: Meter,
    /// Number of replicas, for whoever waits until there are none.
    pub(super) size: watch::Sender<usize>,
    /// Wakes the keeper.
    pub(super) wake: Notify,
    /// Wakes who waits for room in the queue.
    pub(super) room: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub calls: HashMap<CallId, Live>,
    pub queue: Queue,
    /// Of the inputs of attached calls.
    pub held_bytes: u64,
    /// Calls that wait for their next attempt.
    pub delayed: BTreeSet<(Instant, CallId)>,
    pub expiring: BTreeSet<(Instant, CallId)>,
    pub replicas: HashMap<ReplicaId, Slot>,
    /// Replicas with a free place: the least busy first, and of those the one used last, so that others may be let go.
    pub free: BTreeSet<(u32, Reverse<u64>, ReplicaId)>,
    /// Counts uses of replicas.
    pub stamp: u64,
    pub closed: Option<Haste>,
    pub scaling: Scaling,
    pub starts: Starts,
    /// How long an input holds its place. Milliseconds.
    pub service_ms: Average,
    pub cold_start_ms: Average,
    /// Calls that came.
    pub arrivals: Rate,
    /// A load of the tail is under way.
    pub loading: bool,
    /// It wants replicas for which there is no room.
    pub starved: bool,
    /// When the keeper looks again by itself.
    pub planned: Option<Instant>,
}

/// A call on its way into memory.
pub(super) struct Arrival {
    pub request: Request,
    pub sink: Sink,
    pub place: Place,
    pub call: CallState,
    /// Not before.
    pub due: Option<Instant>,
    pub created_ms: u64,
}

/// How starting replicas has gone.
#[derive(Default)]
pub(super) struct Starts {
    pub failures: u32,
    pub not_before: Option<Instant>,
}

pub(super) struct Slot {
    pub replica: Arc<Replica>,
    pub phase: Phase,
    /// It takes no more calls, and ends with the last it has.
    pub retiring: bool,
    pub reserved: Reserved,
    /// What runs, by the number it has on the replica.
    pub running: HashMap<u64, Running>,
    /// Batches that run, by their first number, and how many of each are unanswered.
    pub groups: HashMap<u64, u32>,
    pub next_number: u64,
    pub stamp: u64,
    pub used: Instant,
    pub metered: Usage,
    pub metered_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Ending,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub call: CallId,
    pub attempt: u32,
    pub since: Instant,
    pub group: u64,
}

impl Slot {
    pub fn key(&self) -> (u32, Reverse<u64>, ReplicaId) {
        (self.groups.len() as u32, Reverse(self.stamp), self.replica.id)
    }

    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Ready && self.running.is_empty()
    }
}

impl Pool {
    pub(super) fn new(
        id: FunctionId,
        spec: FunctionSpec,
        template: Template,
        app: &App,
        engine: Arc<Engine>,
    ) -> Result<Arc<Self>, ErrorBody> {
        let ask = super::fleet::ask(&spec)?;
        let pool = Arc::new(Self {
            id,
            spec,
            ask,
            template,
            app: app.id,
            app_name: app.name.clone(),
            workspace: app.workspace.clone(),
            log: app.log.clone(),
            engine,
            state: Mutex::default(),
            meter: Meter::default(),
            size: watch::Sender::new(0),
            wake: Notify::new(),
            room: Notify::new(),
        });
        tokio::spawn(super::keeper::keep(pool.clone()));
        Ok(pool)
    }

    /// Who watches its calls.
    pub(super) fn observer(&self) -> Option<&Arc<dyn Observer>> {
        self.spec.entry.cog.and_then(|_| self.engine.observer.get())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Takes a call in, and sends it on at once when a replica is free. Its sink hears of its end.
    pub fn admit(self: &Arc<Self>, request: Request, sink: Sink) -> Result<(), ErrorBody> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(app_stopped());
        }
        if self.spec.entry.cog.is_some() {
            return Err(ErrorBody::new(ErrorCode::BadRequest, "a model is not called like a function")
                .hint("make a prediction: POST /replicate/v1/predictions"));
        }
        if !state.has_room() {
            let waiting = state.queue.attached();
            let text = format!("{waiting} calls wait for function `{}` already", self.spec.name);
            return Err(ErrorBody::new(ErrorCode::QueueFull, text).hint("try again in a second"));
        }
        let place = Place::attached(request.priority, self.engine.newest_seq(), self.engine.tie());
        let (call, created_ms) = (CallState::NEW, now_ms());
        state.arrivals.arrived(created_ms as f64);
        self.insert(&mut state, Arrival { request, sink, place, call, due: None, created_ms });
        self.advance(&mut state);
        Ok(())
    }

    /// Returns when another call may be admitted.
    pub async fn has_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let state = self.lock();
                if state.closed.is_some() || state.has_room() {
                    return;
                }
            }
            room.await;
        }
    }

    /// Puts a call into memory.
    pub(super) fn insert(&self, state: &mut State, arrival: Arrival) {
        let Arrival { request, sink, place, call, due, created_ms } = arrival;
        let now = Instant::now();
        let expires_ms = request.expires_ms.or(self.spec.policy.queue_timeout_s.map(|s| s * 1000));
        let expires_at = expires_ms.map(|ms| {
            // Counted from when it was accepted, also across a restart.
            let waited = now_ms().saturating_sub(created_ms);
            now + Duration::from_millis(ms.saturating_sub(waited))
        });
        let id = request.id;
        let live = Live {
            request,
            state: call,
            place,
            created_ms,
            queued_at: now,
            started_ms: None,
            sink,
            logged: Arc::default(),
            at: None,
            expires_at,
            last: None,
            cpu_us: 0,
            yielded: 0,
            files: Vec::new(),
        };
        match live.is_durable() {
            true => state.queue.hold(live.held_bytes()),
            false => state.held_bytes += live.held_bytes(),
        }
        if let Some(at) = expires_at {
            state.expiring.insert((at, id));
            self.wake.notify_one();
        }
        match due {
            Some(at) => {
                state.delayed.insert((at, id));
                self.wake.notify_one();
            }
            None => state.queue.push(place, id),
        }
        state.calls.insert(id, live);
    }

    /// Does what can be done now: sends calls to free replicas, and asks for replicas when calls are left.
    pub(super) fn advance(self: &Arc<Self>, state: &mut State) {
        self.dispatch(state);
        let waiting = state.queue.in_memory() > 0;
        if waiting && state.replicas.is_empty() {
            // From zero at once.
            self.scale(state);
        } else if waiting || state.queue.wants().is_some() {
            self.wake.notify_one();
        }
    }

    /// The record of a call that is in memory.
    pub fn call(&self, id: CallId) -> Option<clunk_core::api::CallRecord> {
        self.lock().calls.get(&id).map(|live| live.record(self, None))
    }

    /// How many calls come before one that waits, and how many replicas are ready; None: it does not wait in memory.
    pub fn ahead(&self, id: CallId) -> Option<(usize, usize)> {
        let state = self.lock();
        let place = state.queue.iter().position(|(_, waiting)| waiting == id)?;
        let ready = state.replicas.values().filter(|slot| slot.phase == Phase::Ready).count();
        Some((place, ready))
    }

    /// Records of calls that are in memory, at most `most`.
    pub fn calls(&self, most: usize) -> Vec<clunk_core::api::CallRecord> {
        self.lock().calls.values().take(most).map(|live| live.record(self, None)).collect()
    }

    /// Replicas, running calls, waiting calls.
    pub fn counts(&self) -> (usize, usize, u64) {
        let state = self.lock();
        let running = state.replicas.values().map(|slot| slot.running.len()).sum();
        (state.replicas.len(), running, state.queue.len() + state.delayed.len() as u64)
    }

    pub fn record(&self) -> FunctionRecord {
        let (replicas, running, queued) = self.counts();
        let entry = &self.spec.entry;
        FunctionRecord {
            id: self.id,
            app: self.app,
            name: self.spec.name.clone(),
            is_generator: entry.is_generator,
            methods: entry.methods.clone(),
            scaling: self.scaling(),
            queued,
            running: running as u64,
            replicas: replicas as u32,
        }
    }

    pub fn containers(&self) -> Vec<ContainerRecord> {
        let state = self.lock();
        let slots: Vec<_> = state
            .replicas
            .values()
            .map(|slot| (slot.replica.clone(), slot.phase, slot.running.len()))
            .collect();
        drop(state);
        slots.into_iter().map(|(replica, phase, running)| self.container(&replica, phase, running)).collect()
    }

    fn container(&self, replica: &Replica, phase: Phase, running: usize) -> ContainerRecord {
        let Usage { cpu, memory_bytes, .. } = replica.usage();
        let state = match phase {
            Phase::Starting => "starting",
            Phase::Ready if running == 0 => "idle",
            Phase::Ready => "busy",
            Phase::Ending => "ending",
        };
        ContainerRecord {
            replica: replica.id,
            app: self.app,
            app_name: self.app_name.clone(),
            function: self.spec.name.clone(),
            state: state.into(),
            running: running as u32,
            pid: replica.pid().unwrap_or_default(),
            memory_bytes,
            cpu_ms: cpu.as_millis() as u64,
            started_ms: replica.started_ms,
        }
    }

    pub fn replica(&self, id: ReplicaId) -> Option<Arc<Replica>> {
        self.lock().replicas.get(&id).map(|slot| slot.replica.clone())
    }
}

impl State {
    /// Whether another attached call may come in.
    pub fn has_room(&self) -> bool {
        self.queue.attached() < MAX_WAITING && self.held_bytes < MAX_HELD_BYTES
    }

    /// An input held its place for so long.
    pub fn observe(&mut self, held: Duration) {
        self.service_ms.add(held.as_secs_f64() * 1000.0);
    }
}

pub(super) fn app_stopped() -> ErrorBody {
    ErrorBody::new(ErrorCode::AppStopped, "the app was stopped")
}

/// Gives numbers that rise.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) fn event_of(pool: &Pool, live: &Live) -> CallEvent {
    CallEvent {
        id: live.request.id,
        app: pool.app,
        function: pool.spec.name.clone(),
        state: live.state.name().into(),
        attempts: live.state.attempts(),
        time_ms: now_ms(),
    }
}
