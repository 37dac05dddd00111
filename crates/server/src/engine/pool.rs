//! One function version's replicas and the calls that wait for them.
//!
//! A call is given to a replica only when that replica is free. Whoever holds a [`Lease`] has the replica; dropping it
//! before the call ended kills the replica, because the user's code may still be running there.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clunk_agent::{
    AppLog, Blame, DialPlace, Dispatch, Ended, Payload, Raised, Replica, ReplicaOwner, ReplicaSpec,
};
use clunk_core::api::ContainerRecord;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, CallId, ContainerId, FunctionId, ReplicaId};
use clunk_runtime::Usage;
use tokio::sync::{oneshot, watch};

use super::app::{App, Haste};
use super::compose::Template;
use super::record::Record;
use super::{Engine, capacity};

/// Containers that one function starts at the same time, for each core: more would only wait for each other, and short
/// calls are done by the first ones before the last ones are up.
const STARTING_PER_CORE: usize = 4;

/// Calls that may wait for one function.
const MAX_WAITING: usize = 2000;

pub struct Pool {
    pub id: FunctionId,
    pub spec: FunctionSpec,
    template: Template,
    pub(super) app: AppId,
    log: Arc<AppLog>,
    pub(super) engine: Arc<Engine>,
    state: Mutex<State>,
    /// Number of replicas, for whoever waits until there are none.
    size: watch::Sender<usize>,
    /// Who waits for the calls that replicas have.
    answers: Mutex<HashMap<(ReplicaId, u64), oneshot::Sender<CallEnd>>>,
    last_call: AtomicU64,
}

/// How a call ended.
#[derive(Debug)]
pub enum CallEnd {
    Returned(Payload),
    Raised(Raised),
    Failed(ErrorBody),
    /// The replica had ended before; the call never reached it.
    Refused,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<oneshot::Sender<Grant>>,
    replicas: HashMap<ReplicaId, Slot>,
    /// Free replicas, the one used last on top: the others may be let go.
    idle: Vec<ReplicaId>,
    closed: Option<Haste>,
    reaping: bool,
}

struct Slot {
    replica: Arc<Replica>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    Idle { since: Instant },
    Busy,
    Ending,
}

type Grant = Result<Lease, Refusal>;

/// Why no replica will come.
#[derive(Debug, Clone)]
enum Refusal {
    Raised(Raised),
    Error(ErrorBody),
}

/// A replica that is the holder's alone.
struct Lease {
    pool: Arc<Pool>,
    replica: Arc<Replica>,
    running: bool,
    armed: bool,
}

/// A call that has ended.
pub struct Finished {
    pub id: CallId,
    pub end: CallEnd,
    /// Log events it has on the app's event stream.
    pub logged: u64,
}

impl Pool {
    pub(super) fn new(
        id: FunctionId,
        spec: FunctionSpec,
        template: Template,
        app: &App,
        engine: Arc<Engine>,
    ) -> Arc<Self> {
        let (state, size) = (Mutex::default(), watch::Sender::new(0));
        let (answers, last_call) = (Mutex::default(), AtomicU64::new(0));
        let (app, log) = (app.id, app.log.clone());
        Arc::new(Self { id, spec, template, app, log, engine, state, size, answers, last_call })
    }

    /// Runs one call to its end. Dropping the future cancels the call.
    pub async fn call(self: &Arc<Self>, id: CallId, format: &'static str, arguments: Payload) -> Finished {
        let mut record = Record::new(self, id);
        let end = self.attempt(&mut record, format, arguments).await;
        record.finish(&end);
        Finished { id, end, logged: record.logged.load(Ordering::Relaxed) }
    }

    async fn attempt(
        self: &Arc<Self>,
        record: &mut Record,
        format: &'static str,
        arguments: Payload,
    ) -> CallEnd {
        let id = record.id();
        let control = clunk_agent::frame::control([("id", id.to_string().as_str()), ("format", format)]);
        loop {
            let mut lease = match self.replica().await {
                Ok(lease) => lease,
                Err(Refusal::Raised(raised)) => return CallEnd::Raised(raised),
                Err(Refusal::Error(error)) => return CallEnd::Failed(error),
            };
            record.started();
            let limit = Duration::from_secs(self.spec.policy.timeout_s);
            match tokio::time::timeout(limit, lease.call(id, &control, &arguments, record.logged.clone()))
                .await
            {
                // It went away before the call reached it: another one will do.
                Ok(CallEnd::Refused) => record.refused(),
                Ok(end) => return end,
                // Dropping the lease stops the code.
                Err(_) => return CallEnd::Failed(timeout_error(limit)),
            }
        }
    }

    async fn replica(self: &Arc<Self>) -> Grant {
        let wait = {
            let mut state = self.state.lock().expect("no panic while locked");
            if state.closed.is_some() {
                return Err(Refusal::Error(app_stopped()));
            }
            if let Some(lease) = self.take_idle(&mut state) {
                return Ok(lease);
            }
            if state.waiting.len() >= MAX_WAITING {
                state.waiting.retain(|grant| !grant.is_closed());
            }
            if state.waiting.len() >= MAX_WAITING {
                let text = format!("{MAX_WAITING} calls wait for function `{}` already", self.spec.name);
                return Err(Refusal::Error(
                    ErrorBody::new(ErrorCode::QueueFull, text).hint("try again in a second"),
                ));
            }
            let (grant, wait) = oneshot::channel();
            state.waiting.push_back(grant);
            self.scale_locked(&mut state);
            wait
        };
        wait.await.unwrap_or_else(|_| Err(Refusal::Error(app_stopped())))
    }

    fn take_idle(self: &Arc<Self>, state: &mut State) -> Option<Lease> {
        let id = state.idle.pop()?;
        let slot = state.replicas.get_mut(&id)?;
        slot.phase = Phase::Busy;
        Some(Lease { pool: self.clone(), replica: slot.replica.clone(), running: false, armed: true })
    }

    /// Starts what is missing: one replica for each waiting call, within the limits.
    pub fn scale(self: &Arc<Self>) {
        self.scale_locked(&mut self.state.lock().expect("no panic while locked"));
    }

    fn scale_locked(self: &Arc<Self>, state: &mut State) {
        if state.closed.is_some() {
            return;
        }
        state.waiting.retain(|grant| !grant.is_closed());
        let starting = state.replicas.values().filter(|slot| slot.phase == Phase::Starting).count();
        let alive = state.replicas.values().filter(|slot| slot.phase != Phase::Ending).count();
        let policy = &self.spec.policy;
        let floor = (policy.min_containers as usize).saturating_sub(alive);
        let wanted = state.waiting.len().saturating_sub(starting).max(floor);
        let room = policy.max_containers.map_or(usize::MAX, |max| (max as usize).saturating_sub(alive));
        let wave = (STARTING_PER_CORE * self.engine.capacity.cores()).saturating_sub(starting);
        for _ in 0..wanted.min(room).min(wave) {
            if !self.engine.capacity.reserve(capacity::memory_of(&self.spec)) {
                break;
            }
            self.start_replica(state);
        }
    }

    fn start_replica(self: &Arc<Self>, state: &mut State) {
        let id = ReplicaId::fresh();
        let policy = &self.spec.policy;
        let startup = Duration::from_secs(policy.startup_timeout_s.unwrap_or(policy.timeout_s));
        let spec = ReplicaSpec {
            id,
            app: self.app,
            function: self.spec.name.clone(),
            container: self.template.container(ContainerId::fresh(), id),
            start: self.template.start(self, self.app, id),
            startup_timeout: startup,
            log: self.log.clone(),
            concurrency: 1,
            workers: 0,
        };
        let owner = Arc::new(Owner(self.clone()));
        let replica = Replica::start(spec, self.engine.runtime.clone(), owner);
        state.replicas.insert(id, Slot { replica, phase: Phase::Starting });
        self.size.send_replace(state.replicas.len());
    }

    /// A replica is free: the next waiting call gets it.
    fn offer(self: &Arc<Self>, id: ReplicaId) {
        let mut state = self.state.lock().expect("no panic while locked");
        let Some(slot) = state.replicas.get(&id) else { return };
        let replica = slot.replica.clone();
        if slot.phase == Phase::Ending {
            return;
        }
        let mut lease = Lease { pool: self.clone(), replica, running: false, armed: true };
        while let Some(grant) = state.waiting.pop_front() {
            match grant.send(Ok(lease)) {
                Ok(()) => return set_phase(&mut state, id, Phase::Busy),
                // That call was given up; the lease must not be dropped while the lock is held.
                Err(Ok(back)) => lease = back,
                Err(Err(_)) => return,
            }
        }
        lease.armed = false;
        set_phase(&mut state, id, Phase::Idle { since: Instant::now() });
        state.idle.push(id);
        if !std::mem::replace(&mut state.reaping, true) {
            tokio::spawn(reap(self.clone()));
        }
    }

    /// Takes no more calls and stops the replicas.
    pub fn close(&self, haste: Haste) {
        let (waiting, replicas) = {
            let mut state = self.state.lock().expect("no panic while locked");
            if state.closed == Some(Haste::AtOnce) || state.closed == Some(haste) {
                return;
            }
            state.closed = Some(haste);
            state.idle.clear();
            state.replicas.values_mut().for_each(|slot| slot.phase = Phase::Ending);
            let replicas: Vec<_> = state.replicas.values().map(|slot| slot.replica.clone()).collect();
            (std::mem::take(&mut state.waiting), replicas)
        };
        for grant in waiting {
            let _ = grant.send(Err(Refusal::Error(app_stopped())));
        }
        for replica in replicas {
            match haste {
                Haste::Orderly => replica.stop(),
                Haste::AtOnce => replica.kill(),
            }
        }
    }

    /// Returns when there are no replicas.
    pub async fn emptied(&self) {
        let mut size = self.size.subscribe();
        // The sender lives as long as this pool.
        let _ = size.wait_for(|size| *size == 0).await;
    }

    /// Replicas, running calls, waiting calls.
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.lock().expect("no panic while locked");
        let busy = state.replicas.values().filter(|slot| slot.phase == Phase::Busy).count();
        (state.replicas.len(), busy, state.waiting.len())
    }

    pub fn containers(&self) -> Vec<ContainerRecord> {
        let state = self.state.lock().expect("no panic while locked");
        let slots: Vec<_> = state.replicas.values().map(|slot| (slot.replica.clone(), slot.phase)).collect();
        drop(state);
        slots.into_iter().map(|(replica, phase)| self.container(&replica, phase)).collect()
    }

    fn container(&self, replica: &Replica, phase: Phase) -> ContainerRecord {
        let Usage { cpu, memory_bytes, .. } = replica.usage();
        let state = match phase {
            Phase::Starting => "starting",
            Phase::Idle { .. } => "idle",
            Phase::Busy => "busy",
            Phase::Ending => "ending",
        };
        ContainerRecord {
            replica: replica.id,
            app: self.app,
            function: self.spec.name.clone(),
            app_name: String::new(),
            running: u32::from(phase == Phase::Busy),
            state: state.into(),
            pid: replica.pid().unwrap_or_default(),
            memory_bytes,
            cpu_ms: cpu.as_millis() as u64,
            started_ms: replica.started_ms,
        }
    }
}

fn set_phase(state: &mut State, id: ReplicaId, phase: Phase) {
    if let Some(slot) = state.replicas.get_mut(&id) {
        slot.phase = phase;
    }
}

/// Stops replicas that were idle for the scale-down window; ends when none is idle.
async fn reap(pool: Arc<Pool>) {
    let window = Duration::from_secs(pool.spec.policy.scaledown_window_s);
    loop {
        let next = {
            let mut state = pool.state.lock().expect("no panic while locked");
            let now = Instant::now();
            let floor = pool.spec.policy.min_containers as usize;
            let mut spare = state.replicas.len().saturating_sub(floor);
            let mut next = None;
            for id in state.idle.clone() {
                let Some(Phase::Idle { since }) = state.replicas.get(&id).map(|slot| slot.phase) else {
                    continue;
                };
                if spare > 0 && now.duration_since(since) >= window {
                    spare -= 1;
                    state.idle.retain(|idle| *idle != id);
                    set_phase(&mut state, id, Phase::Ending);
                    if let Some(slot) = state.replicas.get(&id) {
                        slot.replica.stop();
                    }
                } else if spare > 0 {
                    next = next.into_iter().chain([since + window]).min();
                }
            }
            if next.is_none() {
                state.reaping = false;
            }
            next
        };
        match next {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => return,
        }
    }
}

struct Owner(Arc<Pool>);

impl Owner {
    fn end(&self, replica: ReplicaId, number: u64, end: CallEnd) {
        let answer = self.0.answers.lock().expect("no panic while locked").remove(&(replica, number));
        if let Some(answer) = answer {
            let _ = answer.send(end);
        }
    }
}

impl ReplicaOwner for Owner {
    fn answered(&self, replica: ReplicaId, number: u64, end: clunk_agent::CallEnd, _cpu_us: u64) {
        let end = match end {
            clunk_agent::CallEnd::Returned(payload) => CallEnd::Returned(payload),
            clunk_agent::CallEnd::Raised(raised) => CallEnd::Raised(raised),
        };
        self.end(replica, number, end);
    }

    fn yielded(&self, _replica: ReplicaId, _number: u64, _value: Payload) {}

    fn lost(&self, replica: ReplicaId, numbers: Vec<u64>, error: ErrorBody, _blame: Blame) {
        for number in numbers {
            self.end(replica, number, CallEnd::Failed(error.clone()));
        }
    }

    fn connected(&self, _replica: ReplicaId, _socket: std::os::unix::net::UnixStream, _place: DialPlace) {}

    fn ready(&self, replica: ReplicaId, _cold_start: Duration) {
        self.0.offer(replica);
        self.0.scale();
    }

    fn ended(&self, replica: ReplicaId, ended: Ended, lost: Vec<u64>) {
        let error = match &ended {
            Ended::NotStarted { error, .. } | Ended::Crashed { error, .. } => error.clone(),
            Ended::Stopped | Ended::Raised(_) => {
                ErrorBody::new(ErrorCode::CallCanceled, "the container was stopped")
            }
        };
        self.lost(replica, lost, error, Blame::Machine);
        let pool = &self.0;
        let refused = {
            let mut state = pool.state.lock().expect("no panic while locked");
            state.replicas.remove(&replica);
            state.idle.retain(|idle| *idle != replica);
            let refusal = match ended {
                Ended::Raised(raised) => Some(Refusal::Raised(raised)),
                Ended::NotStarted { error, .. } => Some(Refusal::Error(error)),
                Ended::Stopped | Ended::Crashed { .. } => None,
            };
            refusal.map(|refusal| (refusal, std::mem::take(&mut state.waiting)))
        };
        if let Some((refusal, waiting)) = refused {
            for grant in waiting {
                let _ = grant.send(Err(refusal.clone()));
            }
        }
        pool.engine.capacity.release(capacity::memory_of(&pool.spec));
        // Room for anybody; this pool may want a replacement itself.
        pool.engine.room_was_freed();
        let state = pool.state.lock().expect("no panic while locked");
        pool.size.send_replace(state.replicas.len());
    }
}

impl Lease {
    async fn call(
        &mut self,
        id: CallId,
        control: &str,
        arguments: &Payload,
        logged: Arc<AtomicU64>,
    ) -> CallEnd {
        self.running = true;
        let number = self.pool.last_call.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, end) = oneshot::channel();
        let answers = || self.pool.answers.lock().expect("no panic while locked");
        answers().insert((self.replica.id, number), answer);
        let dispatch = Dispatch { number, id, control: control.into(), payload: arguments.clone(), logged };
        let sent = self.replica.send(&[dispatch], false);
        if !sent {
            answers().remove(&(self.replica.id, number));
        }
        let end = end.await.unwrap_or(CallEnd::Refused);
        // After a failure it is ending, and its pool hears of that from its owner.
        self.running = false;
        self.armed = !matches!(end, CallEnd::Failed(_) | CallEnd::Refused);
        end
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if self.running || self.pool.spec.policy.single_use {
            let mut state = self.pool.state.lock().expect("no panic while locked");
            set_phase(&mut state, self.replica.id, Phase::Ending);
            drop(state);
            match self.running {
                true => self.replica.kill(),
                false => self.replica.stop(),
            }
            self.pool.scale();
        } else {
            self.pool.offer(self.replica.id);
        }
    }
}

fn timeout_error(limit: Duration) -> ErrorBody {
    let text = format!("the call ran for longer than its timeout of {} s", limit.as_secs());
    ErrorBody::new(ErrorCode::FunctionTimeout, text).hint("raise timeout= (seconds) on the function")
}

fn app_stopped() -> ErrorBody {
    ErrorBody::new(ErrorCode::AppStopped, "the app was stopped")
}
