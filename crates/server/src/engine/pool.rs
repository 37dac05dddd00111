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
use clunk_agent::{AppLog, CallEnd, Dispatch, Replica};
use clunk_core::api::{CallEvent, ContainerRecord, FunctionRecord, Scaling};
use clunk_core::call::{Action, CallState, Event, Outcome};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::{FunctionSpec, Retries};
use clunk_core::id::{AppId, CallId, FunctionId, ReplicaId};
use clunk_core::placement::{Ask, Placed};
use clunk_runtime::Usage;
use tokio::sync::{Notify, watch};

use super::app::{App, Haste};
use super::compose::Template;
use super::live::{End, Finished, Live, Request, Sink, Streamed};
use super::meter::Meter;
use super::queue::{Place, Queue};
use super::{Engine, durable};

/// Attached calls that may wait for one function: their inputs are in memory.
const MAX_WAITING: usize = 2000;
/// Durable calls that may wait for one function.
pub const MAX_PENDING: u64 = 1_000_000;
/// How much a new measurement moves an average.
const AVERAGE_WEIGHT: f64 = 0.1;

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
    pub service_ms: Option<f64>,
    pub cold_start_ms: Option<f64>,
    /// A load of the tail is under way.
    pub loading: bool,
    /// It wants replicas for which there is no room.
    pub starved: bool,
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
    pub placed: Placed,
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Takes a call in, and sends it on at once when a replica is free. Its sink hears of its end.
    pub fn admit(self: &Arc<Self>, request: Request, sink: Sink) -> Result<(), ErrorBody> {
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(app_stopped());
        }
        if state.queue.in_memory() >= MAX_WAITING {
            let text = format!("{MAX_WAITING} calls wait for function `{}` already", self.spec.name);
            return Err(ErrorBody::new(ErrorCode::QueueFull, text).hint("try again in a second"));
        }
        let place = Place::attached(request.priority, self.engine.newest_seq(), self.engine.tie());
        self.insert(&mut state, request, sink, place, CallState::NEW, None, now_ms());
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
                if state.closed.is_some() || state.queue.in_memory() < MAX_WAITING {
                    return;
                }
            }
            room.await;
        }
    }

    /// Puts a call into memory.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn insert(
        &self,
        state: &mut State,
        request: Request,
        sink: Sink,
        place: Place,
        call: CallState,
        due: Option<Instant>,
        created_ms: u64,
    ) {
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
        };
        if live.is_durable() {
            state.queue.hold(live.held_bytes());
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

    /// Gives waiting calls to free replicas.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State) {
        if state.closed.is_some() {
            return;
        }
        while !state.free.is_empty() && !self.engine.store.behind() {
            let taken = self.take(state);
            if taken.is_empty() {
                return;
            }
            let Some(key) = state.free.pop_first() else { return };
            self.send(state, key.2, taken);
            if state.queue.in_memory() == MAX_WAITING - 1 {
                self.room.notify_waiters();
            }
        }
    }

    /// The next calls that go to one replica together: one, or a batch that is full or has waited long enough.
    fn take(&self, state: &mut State) -> Vec<CallId> {
        let Some((place, first)) = state.queue.first() else { return Vec::new() };
        let Some(batching) = self.spec.policy.batching else {
            state.queue.remove(place);
            return vec![first];
        };
        let json = state.calls.get(&first).is_some_and(|live| live.request.json);
        let alike = |id: &CallId| state.calls.get(id).is_some_and(|live| live.request.json == json);
        let most = batching.max_batch_size as usize;
        let taken: Vec<_> = state.queue.iter().take(most).take_while(|(_, id)| alike(id)).collect();
        let waited = state.calls.get(&first).map_or(Duration::MAX, |live| live.queued_at.elapsed());
        if taken.len() < most && waited < Duration::from_millis(batching.wait_ms) {
            self.wake.notify_one();
            return Vec::new();
        }
        for (place, _) in &taken {
            state.queue.remove(*place);
        }
        taken.into_iter().map(|(_, id)| id).collect()
    }

    /// Sends calls to a replica as one group.
    fn send(self: &Arc<Self>, state: &mut State, replica: ReplicaId, calls: Vec<CallId>) {
        let now = Instant::now();
        state.stamp += 1;
        let stamp = state.stamp;
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        let group = slot.next_number;
        let mut dispatches = Vec::with_capacity(calls.len());
        for id in &calls {
            let Some(live) = state.calls.get_mut(id) else { continue };
            let number = slot.next_number;
            slot.next_number += 1;
            if let Ok((next, _)) = live.state.apply(&self.spec.policy.retries, Event::Dispatch) {
                live.state = next;
            }
            live.started_ms = Some(now_ms());
            live.at = Some((replica, number));
            let attempt = live.state.attempts();
            slot.running.insert(number, Running { call: *id, attempt, since: now, group });
            self.engine.changed(self, live);
            match durable::payload(&self.engine, &live.request.input) {
                Ok(payload) => dispatches.push(Dispatch {
                    number,
                    id: *id,
                    control: control(live),
                    payload,
                    logged: live.logged.clone(),
                }),
                Err(error) => {
                    slot.running.remove(&number);
                    live.at = None;
                    let event = Event::Lose { attempt, code: error.code, blame: clunk_core::call::Blame::Call };
                    self.conclude(state, *id, event, Some(End::Failed(error)));
                    return self.refree(state, replica);
                }
            }
        }
        slot.groups.insert(group, dispatches.len() as u32);
        (slot.stamp, slot.used) = (stamp, now);
        let target = slot.replica.clone();
        if !target.send(&dispatches, self.spec.policy.batching.is_some()) {
            // It has ended; its owner is about to hear of it, and moves what runs there.
            tracing::debug!(%replica, "a replica had ended before its call came");
            slot.phase = Phase::Ending;
            return;
        }
        self.refree(state, replica);
    }

    /// Puts a replica where the next call finds it, if it has a place.
    pub(super) fn refree(&self, state: &mut State, replica: ReplicaId) {
        let single_use = self.spec.policy.single_use;
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        if slot.phase != Phase::Ready || slot.groups.len() as u32 >= self.spec.slots() {
            return;
        }
        if single_use && slot.next_number > 1 {
            if slot.running.is_empty() {
                slot.phase = Phase::Ending;
                slot.replica.stop();
            }
            return;
        }
        let key = slot.key();
        state.free.insert(key);
    }

    /// A replica has answered.
    pub(super) fn answered(self: &Arc<Self>, replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64) {
        let mut state = self.lock();
        let Some(running) = self.freed(&mut state, replica, number) else { return };
        state.observe(running.since.elapsed());
        let attempt = running.attempt;
        if let Some(live) = state.calls.get_mut(&running.call) {
            live.cpu_us += cpu_us;
        }
        let (event, end) = match end {
            CallEnd::Returned(payload) => (Event::Return { attempt }, End::Value(payload)),
            CallEnd::Raised(raised) => (Event::Raise { attempt }, End::Raised(raised)),
        };
        self.conclude(&mut state, running.call, event, Some(end));
        self.refree(&mut state, replica);
        self.advance(&mut state);
        if state.replicas.get(&replica).is_some_and(Slot::is_idle) {
            // Its scale-down window begins.
            self.wake.notify_one();
        }
    }

    /// Takes a number off a replica.
    pub(super) fn freed(&self, state: &mut State, replica: ReplicaId, number: u64) -> Option<Running> {
        let slot = state.replicas.get_mut(&replica)?;
        let running = slot.running.remove(&number)?;
        state.free.remove(&slot.key());
        let left = slot.groups.get_mut(&running.group)?;
        *left -= 1;
        if *left == 0 {
            slot.groups.remove(&running.group);
        }
        slot.used = Instant::now();
        Some(running)
    }

    /// Applies an event to a call and does what follows from it.
    pub(super) fn conclude(self: &Arc<Self>, state: &mut State, id: CallId, event: Event, end: Option<End>) {
        let Some(live) = state.calls.get_mut(&id) else { return };
        // A generator that has given values cannot be run again without giving them twice.
        let none = Retries::default();
        let retries = if live.is_stream() { &none } else { &self.spec.policy.retries };
        let applied = match (event, live.yielded) {
            (Event::Lose { attempt, code, .. }, 1..) => {
                live.state.apply(retries, Event::Lose { attempt, code, blame: clunk_core::call::Blame::Call })
            }
            (event, _) => live.state.apply(retries, event),
        };
        let (next, actions) = match applied {
            Ok(applied) => applied,
            Err(error) => {
                tracing::debug!(call = %id, ?event, %error, "an event came too late");
                return;
            }
        };
        live.state = next;
        if let Some(end) = end {
            live.last = Some(end);
        }
        self.engine.changed(self, live);
        for action in actions {
            match action {
                Action::Send { .. } => {}
                Action::Stop { .. } => self.stop_attempt(state, id),
                Action::Enqueue { delay_ms } => self.requeue(state, id, delay_ms),
                Action::Answer(outcome) => self.deliver(state, id, outcome),
            }
        }
    }

    fn stop_attempt(&self, state: &mut State, id: CallId) {
        let Some((replica, number)) = state.calls.get_mut(&id).and_then(|live| live.at.take()) else { return };
        if let Some(slot) = state.replicas.get(&replica) {
            slot.replica.cancel(number);
        }
    }

    /// A call waits again.
    fn requeue(&self, state: &mut State, id: CallId, delay_ms: u64) {
        let Some(live) = state.calls.get_mut(&id) else { return };
        live.at = None;
        live.queued_at = Instant::now();
        if delay_ms == 0 {
            let place = live.place;
            return state.queue.push(place, id);
        }
        if live.is_durable() {
            durable::requeued(self, live, now_ms() + delay_ms);
        }
        state.delayed.insert((Instant::now() + Duration::from_millis(delay_ms), id));
        self.wake.notify_one();
    }

    /// Tells who waits, and writes it down.
    fn deliver(&self, state: &mut State, id: CallId, outcome: Outcome) {
        let Some(live) = state.calls.remove(&id) else { return };
        state.queue.remove(live.place);
        if let Some(at) = live.expires_at {
            state.expiring.remove(&(at, id));
        }
        if live.is_durable() {
            state.queue.release(live.held_bytes());
        }
        self.meter.call_ended();
        self.engine.count_ended();
        let mut live = live;
        let end = live.last.take().unwrap_or_else(|| End::Failed(outcome_error(outcome)));
        live.last = Some(end.clone());
        let record = live.record(self, Some(now_ms()));
        let finished = |live: &Live, end| Finished { id, end, logged: live.logged() };
        match live.sink {
            Sink::Durable { .. } => return durable::ended(&self.engine, record, end, live.request.json),
            Sink::One(waiter) => {
                let finished = Finished { id, end, logged: live.logged.load(Ordering::Relaxed) };
                let _ = waiter.send(finished);
            }
            Sink::Map { ref outbox, index } => outbox.answer(index, end),
            // The bound of the channel is above what the runner may have under way.
            Sink::Stream(ref stream) => drop(stream.try_send(Streamed::End(finished(&live, end)))),
        }
        self.engine.store.record(clunk_store::Change::Ended { record, result: None, done: None });
    }

    /// A generator has given a value.
    pub(super) fn yielded(&self, replica: ReplicaId, number: u64, value: clunk_agent::Payload) {
        let mut state = self.lock();
        let call = state.replicas.get(&replica).and_then(|slot| slot.running.get(&number)).map(|one| one.call);
        let Some(live) = call.and_then(|id| state.calls.get_mut(&id)) else { return };
        live.yielded += 1;
        if let Sink::Stream(stream) = &live.sink {
            let _ = stream.try_send(Streamed::Value(value));
        }
    }

    /// The client of a generator has taken values.
    pub fn credit(&self, id: CallId, count: u32) {
        let state = self.lock();
        let at = state.calls.get(&id).and_then(|live| live.at);
        if let Some((slot, number)) = at.and_then(|(replica, number)| Some((state.replicas.get(&replica)?, number))) {
            slot.replica.credit(number, count);
        }
    }

    /// Cancels a call that is in memory. `terminate`: with the container that runs it. False: it is not here.
    pub fn cancel(self: &Arc<Self>, id: CallId, terminate: bool) -> bool {
        let mut state = self.lock();
        let Some(live) = state.calls.get(&id) else { return false };
        let at = live.at;
        let error = ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled");
        self.conclude(&mut state, id, Event::Cancel, Some(End::Failed(error)));
        if let Some(slot) = at.filter(|_| terminate).and_then(|(replica, _)| state.replicas.get(&replica)) {
            slot.replica.kill();
        }
        true
    }

    /// Cancels every call that `which` picks; says how many.
    pub fn cancel_all(self: &Arc<Self>, which: impl Fn(&Live) -> bool) -> u64 {
        let picked: Vec<_> =
            self.lock().calls.values().filter(|live| which(live)).map(|live| live.request.id).collect();
        picked.iter().filter(|id| self.cancel(**id, false)).count() as u64
    }

    /// The record of a call that is in memory.
    pub fn call(&self, id: CallId) -> Option<clunk_core::api::CallRecord> {
        self.lock().calls.get(&id).map(|live| live.record(self, None))
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
    /// An input held its place for so long.
    fn observe(&mut self, held: Duration) {
        average(&mut self.service_ms, held.as_secs_f64() * 1000.0);
    }
}

pub(super) fn average(value: &mut Option<f64>, new: f64) {
    *value = Some(value.map_or(new, |old| old + (new - old) * AVERAGE_WEIGHT));
}

/// Control text of a CALL frame.
fn control(live: &Live) -> String {
    let mut text = format!("id={}\n", live.request.id);
    if live.request.json {
        text.push_str("format=json\n");
    }
    if !live.request.method.is_empty() {
        text.push_str(&clunk_agent::frame::control([("method", live.request.method.as_ref())]));
    }
    if live.is_stream() {
        text.push_str("stream=1\n");
    }
    text
}

fn outcome_error(outcome: Outcome) -> ErrorBody {
    match outcome {
        Outcome::Canceled => ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled"),
        Outcome::Expired => ErrorBody::new(ErrorCode::CallExpired, "no container became free for the call in time"),
        Outcome::Failed { code } => ErrorBody::new(code, "the call could not be run to its end"),
        Outcome::Succeeded | Outcome::Raised | Outcome::TimedOut => {
            ErrorBody::new(ErrorCode::Internal, "the call ended without saying how")
        }
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
