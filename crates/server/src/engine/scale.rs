//! How many replicas a function has: reads what is, asks the autoscaler, starts and stops.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_agent::replica::now_ms;
use clunk_agent::{CallEnd, DialPlace, Ended, Metric, Replica, ReplicaOwner, ReplicaSpec, Value};
use clunk_core::api::Scaling;
use clunk_core::autoscaler::{self, Bounds, Decision, Demand};
use clunk_core::call::{Blame, Event};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{ContainerId, ReplicaId};
use clunk_core::placement::NoRoom;

use super::app::Haste;
use super::fleet::Reserved;
use super::live::End;
use super::pool::{Phase, Pool, Slot, State, app_stopped};

/// Containers that one function starts at the same time, for each core: more would only wait for each other, and short
/// calls are done by the first ones before the last ones are up.
const STARTING_PER_CORE: usize = 4;
/// Starts that the machine spoiled, one after the other, before the waiting calls are told.
const MAX_SPOILED_STARTS: u32 = 5;
/// Pause after the first failed start; doubled by each further one.
const BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

impl Pool {
    pub fn scaling(&self) -> Scaling {
        let (policy, changed) = (&self.spec.policy, self.lock().scaling);
        Scaling {
            min_containers: changed.min_containers.or(Some(policy.min_containers)),
            max_containers: changed.max_containers.or(policy.max_containers),
            buffer_containers: changed.buffer_containers.or(Some(policy.buffer_containers)),
            scaledown_window_s: changed.scaledown_window_s.or(Some(policy.scaledown_window_s)),
        }
    }

    /// Refuses what makes no sense together with what stays.
    pub fn check_scaling(&self, asked: Scaling) -> Result<(), ErrorBody> {
        let mut spec = self.spec.clone();
        let (policy, now) = (&mut spec.policy, self.scaling());
        policy.min_containers = asked.min_containers.or(now.min_containers).unwrap_or(0);
        policy.max_containers = asked.max_containers.or(now.max_containers);
        policy.buffer_containers = asked.buffer_containers.or(now.buffer_containers).unwrap_or(0);
        policy.scaledown_window_s =
            asked.scaledown_window_s.or(now.scaledown_window_s).unwrap_or(policy.scaledown_window_s);
        spec.check().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))
    }

    /// Changes what is given; the rest stays.
    pub fn set_scaling(&self, asked: Scaling) {
        let mut state = self.lock();
        let now = &mut state.scaling;
        now.min_containers = asked.min_containers.or(now.min_containers);
        now.max_containers = asked.max_containers.or(now.max_containers);
        now.buffer_containers = asked.buffer_containers.or(now.buffer_containers);
        now.scaledown_window_s = asked.scaledown_window_s.or(now.scaledown_window_s);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn bounds(&self, state: &State) -> Bounds {
        let (policy, changed) = (&self.spec.policy, &state.scaling);
        let window_s = changed.scaledown_window_s.unwrap_or(policy.scaledown_window_s);
        Bounds {
            min: changed.min_containers.unwrap_or(policy.min_containers),
            max: changed.max_containers.or(policy.max_containers).unwrap_or(u32::MAX),
            buffer: changed.buffer_containers.unwrap_or(policy.buffer_containers),
            scaledown_window_ms: window_s * 1000,
        }
    }

    fn demand(&self, state: &State) -> Demand {
        let now = Instant::now();
        let (mut ready, mut starting, mut running) = (0, 0, 0);
        let (mut idle_ms, mut oldest_running_ms) = (Vec::new(), 0.0_f64);
        for slot in state.replicas.values() {
            match slot.phase {
                Phase::Starting => starting += 1,
                Phase::Ending => {}
                Phase::Ready => {
                    ready += 1;
                    running += slot.groups.len() as u32;
                    if slot.is_idle() {
                        idle_ms.push(now.duration_since(slot.used).as_millis() as u64);
                    }
                    let longest = slot.running.values().map(|one| now.duration_since(one.since)).max();
                    oldest_running_ms =
                        oldest_running_ms.max(longest.unwrap_or_default().as_secs_f64() * 1000.0);
                }
            }
        }
        let slots = self.spec.slots();
        let target = self.spec.policy.concurrency.target_inputs.unwrap_or(slots).clamp(1, slots);
        let waiting = state.queue.len();
        let per_group = self.spec.policy.batching.map_or(1, |batching| u64::from(batching.max_batch_size));
        Demand {
            queued: waiting.div_ceil(per_group),
            running,
            ready,
            starting,
            slots,
            target,
            service_ms: state.service_ms.get(),
            oldest_running_ms,
            cold_start_ms: state.cold_start_ms.get(),
            arrivals_per_s: state.arrivals.per_s(now_ms() as f64),
            idle_ms,
        }
    }

    /// Brings the number of replicas towards what the autoscaler wants. Returns when time alone changes that.
    pub(super) fn scale(self: &Arc<Self>, state: &mut State) -> Option<Instant> {
        self.scale_to(state, false)
    }

    /// `in_turn`: others who wait for room stand behind.
    fn scale_to(self: &Arc<Self>, state: &mut State, in_turn: bool) -> Option<Instant> {
        if state.closed.is_some() {
            state.starved = false;
            return None;
        }
        let now = Instant::now();
        let demand = self.demand(state);
        let decision = autoscaler::decide(&demand, &self.bounds(state));
        self.stop_idle(state, decision.stop_idle);
        self.start_missing(state, &demand, &decision, in_turn);
        let retry = state.starts.not_before.filter(|at| *at > now);
        let wake = decision.wake_in_ms.map(|ms| now + Duration::from_millis(ms));
        [retry, wake].into_iter().flatten().min()
    }

    fn start_missing(
        self: &Arc<Self>,
        state: &mut State,
        demand: &Demand,
        decision: &Decision,
        in_turn: bool,
    ) {
        state.starved = false;
        if state.starts.not_before.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let missing = decision.wanted.saturating_sub(demand.ready + demand.starting) as usize;
        let wave = (STARTING_PER_CORE * self.engine.room.cores()).saturating_sub(demand.starting as usize);
        // In turn means one at a time: the others wait as well.
        let most = if in_turn { 1 } else { usize::MAX };
        for _ in 0..missing.min(wave).min(most) {
            match self.engine.room.reserve(self, in_turn) {
                Ok(reserved) => self.start_replica(state, reserved),
                Err(NoRoom::Now) => {
                    state.starved = true;
                    if !in_turn {
                        self.engine.room.wanted();
                    }
                    return;
                }
                Err(NoRoom::Never(why)) => {
                    let error = super::fleet::never_fits(&self.spec, &why);
                    return self.refuse_waiting(state, &End::Failed(error));
                }
            }
        }
    }

    /// Stops replicas that are idle, the ones idle for longest first.
    pub(super) fn stop_idle(&self, state: &mut State, count: u32) {
        let mut idle: Vec<_> = state
            .replicas
            .values()
            .filter(|slot| slot.is_idle())
            .map(|slot| (slot.used, slot.replica.id))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(count as usize) {
            if let Some(slot) = state.replicas.get_mut(&id) {
                state.free.remove(&slot.key());
                slot.phase = Phase::Ending;
                slot.replica.stop();
            }
        }
    }

    /// What a killed server left on disk for it.
    pub(super) fn found(&self, priority: i8, pending: u64) {
        self.lock().queue.found(priority, pending);
    }

    pub(super) fn is_starved(&self) -> bool {
        self.lock().starved
    }

    /// How long its oldest call waits, in milliseconds.
    pub(super) fn longest_wait_ms(&self) -> u64 {
        let state = self.lock();
        let first = state.queue.first().and_then(|(_, id)| state.calls.get(&id));
        first.map_or(0, |live| live.queued_at.elapsed().as_millis() as u64)
    }

    /// Starts one replica, if it still wants one. False: there is no room.
    pub(super) fn scale_in_turn(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let before = state.replicas.len();
        self.scale_to(&mut state, true);
        if state.replicas.len() > before {
            // Whether it wants another is seen when it asks again.
            state.starved = false;
            self.wake.notify_one();
        }
        !state.starved
    }

    /// Since when its longest idle replica beyond the minimum has been idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        let alive = state.replicas.values().filter(|slot| slot.phase != Phase::Ending).count();
        let spare = alive > self.bounds(&state).min as usize && state.queue.in_memory() == 0;
        state.replicas.values().filter(|slot| spare && slot.is_idle()).map(|slot| slot.used).min()
    }

    /// Whether a replica of it is about to end.
    pub(super) fn is_making_room(&self) -> bool {
        self.lock().replicas.values().any(|slot| slot.retiring || slot.phase == Phase::Ending)
    }

    /// One busy replica takes no more calls, and ends with the last it has.
    pub(super) fn retire_one(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let busy = state.replicas.values_mut().filter(|slot| slot.phase == Phase::Ready && !slot.retiring);
        if let Some(slot) = busy.min_by_key(|slot| slot.running.len()) {
            state.free.remove(&slot.key());
            slot.retiring = true;
            if slot.running.is_empty() {
                slot.phase = Phase::Ending;
                slot.replica.stop();
            }
        }
    }

    /// A replica takes no more calls, and ends with the last it has.
    pub(super) fn retire(&self, state: &mut State, replica: ReplicaId) {
        if let Some(slot) = state.replicas.get_mut(&replica) {
            state.free.remove(&slot.key());
            slot.retiring = true;
        }
    }

    pub(super) fn stop_one_idle(&self) {
        self.stop_idle(&mut self.lock(), 1);
    }

    fn start_replica(self: &Arc<Self>, state: &mut State, reserved: Reserved) {
        let id = ReplicaId::fresh();
        let mut container = self.template.container(ContainerId::fresh(), id);
        container.gpus.clone_from(&reserved.gpus);
        let policy = &self.spec.policy;
        let startup = Duration::from_secs(policy.startup_timeout_s.unwrap_or(policy.timeout_s));
        let spec = ReplicaSpec {
            id,
            app: self.app,
            function: self.spec.name.clone(),
            container,
            start: self.template.start(self, self.app, id),
            startup_timeout: startup,
            log: Some(self.log.clone()),
            concurrency: policy.concurrency.max_inputs,
            workers: policy.workers,
        };
        let replica = Replica::start(spec, self.engine.runtime.clone(), Arc::new(Owner(self.clone())));
        let now = Instant::now();
        let slot = Slot {
            replica,
            phase: Phase::Starting,
            retiring: false,
            reserved,
            running: HashMap::new(),
            groups: HashMap::new(),
            next_number: 1,
            stamp: 0,
            used: now,
            metered: Default::default(),
            metered_at: now,
        };
        state.replicas.insert(id, slot);
        self.engine.metering();
        self.size.send_replace(state.replicas.len());
    }

    /// Ends what waits in memory: no replica will come for it.
    pub(super) fn refuse_waiting(self: &Arc<Self>, state: &mut State, end: &End) {
        let code = match end {
            End::Failed(error) => error.code,
            End::Raised(_) | End::Value(_) => ErrorCode::StartFailed,
        };
        let waiting: Vec<_> = state.queue.iter().map(|(_, id)| id).collect();
        for id in waiting {
            self.conclude(state, id, Event::Refuse { code }, Some(end.clone()));
        }
    }

    /// Takes no more calls and stops the replicas. `keep`: durable calls stay on disk for the next server.
    pub fn close(self: &Arc<Self>, haste: Haste, keep: bool) {
        let mut state = self.lock();
        if state.closed == Some(Haste::AtOnce) || state.closed == Some(haste) {
            return;
        }
        state.closed = Some(haste);
        state.free.clear();
        if keep {
            state.calls.retain(|_, live| !live.is_durable());
        }
        let calls: Vec<_> = state.calls.keys().copied().collect();
        for id in calls {
            self.conclude(&mut state, id, Event::Cancel, Some(End::Failed(app_stopped())));
        }
        state.queue.clear();
        state.delayed.clear();
        state.expiring.clear();
        self.room.notify_waiters();
        for slot in state.replicas.values_mut() {
            slot.phase = Phase::Ending;
            match haste {
                Haste::Orderly => slot.replica.stop(),
                Haste::AtOnce => slot.replica.kill(),
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Returns when there are no replicas.
    pub async fn emptied(&self) {
        let mut size = self.size.subscribe();
        // The sender lives as long as this pool.
        let _ = size.wait_for(|size| *size == 0).await;
    }

    fn ready(self: &Arc<Self>, replica: ReplicaId, cold_start: Duration) {
        let mut state = self.lock();
        state.cold_start_ms.add(cold_start.as_secs_f64() * 1000.0);
        state.starts = Default::default();
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        if slot.phase == Phase::Starting {
            slot.phase = Phase::Ready;
            slot.used = Instant::now();
        }
        self.refree(&mut state, replica);
        self.advance(&mut state);
        // The wave has room for another, and an idle one has a window.
        self.wake.notify_one();
    }

    /// Calls of a replica that will never be answered.
    fn lose(
        self: &Arc<Self>,
        state: &mut State,
        replica: ReplicaId,
        numbers: &[u64],
        error: &ErrorBody,
        blame: Blame,
    ) {
        for number in numbers {
            let Some(running) = self.freed(state, replica, *number) else { continue };
            let event = match state.closed {
                Some(_) => Event::Cancel,
                None => Event::Lose { attempt: running.attempt, code: error.code, blame },
            };
            // What a dead attempt left behind must not end another one.
            let current =
                state.calls.get(&running.call).is_some_and(|live| live.at == Some((replica, *number)));
            if current {
                self.conclude(state, running.call, event, Some(End::Failed(error.clone())));
            }
        }
    }

    fn ended(self: &Arc<Self>, replica: ReplicaId, ended: Ended) {
        let mut guard = self.lock();
        let state = &mut *guard;
        // By our own list, not the agent's: a call that it refused, because the replica was ending, is on ours only.
        let lost: Vec<u64> = match state.replicas.get_mut(&replica) {
            Some(slot) => {
                state.free.remove(&slot.key());
                slot.phase = Phase::Ending;
                slot.running.keys().copied().collect()
            }
            None => Vec::new(),
        };
        let stopped = || ErrorBody::new(ErrorCode::ContainerCrashed, "the container was stopped");
        match &ended {
            Ended::Stopped => self.lose(state, replica, &lost, &stopped(), Blame::Machine),
            Ended::Crashed { error, blame } => self.lose(state, replica, &lost, error, *blame),
            Ended::Raised(raised) => {
                self.failed_start(state);
                self.refuse_waiting(state, &End::Raised(raised.clone()));
            }
            Ended::NotStarted { error, blame } => {
                self.failed_start(state);
                if *blame == Blame::Call || state.starts.failures >= MAX_SPOILED_STARTS {
                    self.refuse_waiting(state, &End::Failed(error.clone()));
                }
            }
        }
        let slot = state.replicas.remove(&replica);
        if let Some(slot) = &slot {
            self.meter.replica_ended(self, slot);
            self.engine.room.release(self, &slot.reserved);
        }
        self.advance(state);
        self.size.send_replace(state.replicas.len());
        drop(guard);
        self.wake.notify_one();
    }

    fn failed_start(&self, state: &mut State) {
        state.starts.failures += 1;
        let doublings = (state.starts.failures - 1).min(16);
        state.starts.not_before = Some(Instant::now() + (BACKOFF * (1 << doublings)).min(MAX_BACKOFF));
    }
}

struct Owner(Arc<Pool>);

impl ReplicaOwner for Owner {
    fn ready(&self, replica: ReplicaId, cold_start: Duration) {
        self.0.ready(replica, cold_start);
    }

    fn answered(&self, replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64) {
        self.0.answered(replica, number, end, cpu_us);
    }

    fn yielded(&self, replica: ReplicaId, number: u64, value: Value) {
        self.0.yielded(replica, number, value);
    }

    fn printed(&self, replica: ReplicaId, number: u64, stream: &str, text: &str) {
        self.0.printed(replica, number, stream, text);
    }

    fn metric(&self, replica: ReplicaId, number: u64, metric: Metric) {
        self.0.metric(replica, number, metric);
    }

    fn lost(&self, replica: ReplicaId, numbers: Vec<u64>, error: ErrorBody, blame: Blame) {
        let pool = &self.0;
        let mut state = pool.lock();
        pool.lose(&mut state, replica, &numbers, &error, blame);
        pool.refree(&mut state, replica);
        pool.advance(&mut state);
    }

    fn connected(&self, _replica: ReplicaId, socket: UnixStream, place: DialPlace) {
        self.0.engine.knock(self.0.app, socket, place);
    }

    fn ended(&self, replica: ReplicaId, ended: Ended, _lost: Vec<u64>) {
        self.0.ended(replica, ended);
    }
}
