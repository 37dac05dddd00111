//! The replicas of each function: how many there should be, started and stopped.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use clunk_core::ErrorCode;
use clunk_core::autoscaler::{Demand, decide};
use clunk_core::call::{Blame, Event};
use clunk_core::placement::Placed;

use super::calls::QueueKey;
use super::{Control, Mutation, Phase, Replica, Timer};
use crate::message::{ReplicaNo, ToMachine, Try};
use crate::schedule::{MILLISECOND, Micros, SECOND};

/// Weight of the newest measurement in a moving average.
const NEWEST: f64 = 0.2;
/// Arrivals are averaged over about this long.
const RATE_OVER: Micros = 10 * SECOND;
/// First and longest pause before code that could not be set up is tried again.
const FIRST_BACK_OFF: Micros = SECOND;
const LONGEST_BACK_OFF: Micros = 60 * SECOND;

#[derive(Debug)]
pub struct Pool {
    pub(super) queue: BTreeSet<QueueKey>,
    pub(super) replicas: BTreeSet<ReplicaNo>,
    pub(super) free: BTreeSet<(Reverse<Micros>, ReplicaNo)>,
    pub(super) wanted: u32,
    service_ms: Option<f64>,
    cold_start_ms: Option<f64>,
    rate_per_s: f64,
    rate_at: Micros,
    back_off_until: Micros,
    failed_starts: u32,
    wake_at: Option<Micros>,
}

impl Pool {
    pub(super) fn new(now: Micros) -> Self {
        Self {
            queue: BTreeSet::new(),
            replicas: BTreeSet::new(),
            free: BTreeSet::new(),
            wanted: 0,
            service_ms: None,
            cold_start_ms: None,
            rate_per_s: 0.0,
            rate_at: now,
            back_off_until: 0,
            failed_starts: 0,
            wake_at: None,
        }
    }

    pub(super) fn arrived(&mut self, now: Micros) {
        self.rate_per_s = self.rate(now) + SECOND as f64 / RATE_OVER as f64;
        self.rate_at = now;
    }

    fn rate(&self, now: Micros) -> f64 {
        self.rate_per_s * (-((now - self.rate_at) as f64) / RATE_OVER as f64).exp()
    }
}

fn average(before: Option<f64>, newest: f64) -> Option<f64> {
    Some(before.map_or(newest, |before| before + (newest - before) * NEWEST))
}

fn ms(micros: Micros) -> f64 {
    micros as f64 / MILLISECOND as f64
}

impl Control {
    /// Asks the autoscaler, and stops what it says. What it wants more is started as there is room.
    pub(super) fn scale(&mut self, number: usize) {
        let plan = self.plan.clone();
        let function = &plan.functions[number];
        let mut idle: Vec<(Micros, ReplicaNo)> = Vec::new();
        let (mut ready, mut starting, mut running, mut oldest) = (0, 0, 0, self.now);
        for &name in &self.pools[number].replicas {
            let replica = &self.replicas[&name];
            match replica.phase {
                // It may be gone; what it has is not counted on, nor against the others.
                _ if self.machines[replica.machine].silent => continue,
                Phase::Starting => starting += 1,
                Phase::Ready => ready += 1,
                Phase::Draining | Phase::Stopping => continue,
            }
            if replica.phase == Phase::Ready && replica.inputs.is_empty() {
                idle.push((replica.idle_since, name));
            }
            running += replica.inputs.len() as u32;
            oldest = replica.inputs.values().copied().fold(oldest, Micros::min);
        }
        let pool = &self.pools[number];
        let demand = Demand {
            queued: pool.queue.len() as u64,
            running,
            ready,
            starting,
            slots: function.slots,
            target: function.target,
            service_ms: pool.service_ms,
            oldest_running_ms: ms(self.now - oldest),
            cold_start_ms: pool.cold_start_ms,
            arrivals_per_s: pool.rate(self.now),
            idle_ms: idle.iter().map(|&(since, _)| (self.now - since) / MILLISECOND).collect(),
        };
        let mut decision = decide(&demand, &function.bounds);
        if self.mutation == Mutation::IgnoreMax && demand.queued > 0 {
            decision.wanted = decision.wanted.max(demand.ready + demand.starting + 1);
        }
        if self.mutation == Mutation::KeepIdle {
            decision.stop_idle = 0;
        }
        idle.sort_unstable();
        for &(_, name) in idle.iter().take(decision.stop_idle as usize) {
            self.stop(name);
        }
        // A millisecond more: ages are in whole ones.
        self.wake(number, decision.wake_in_ms.map(|in_ms| self.now + (in_ms + 1) * MILLISECOND));
        self.set_wanted(number, decision.wanted, ready + starting - decision.stop_idle);
    }

    fn set_wanted(&mut self, number: usize, wanted: u32, have: u32) {
        let pool = &mut self.pools[number];
        pool.wanted = wanted;
        if wanted > have && self.now >= pool.back_off_until {
            self.hungry.insert(number);
        } else {
            self.hungry.remove(&number);
            self.forget_reservation(number);
            if wanted > have {
                self.timers.insert((self.pools[number].back_off_until, Timer::Scale(number)));
            }
        }
    }

    fn wake(&mut self, number: usize, at: Option<Micros>) {
        if let Some(before) = self.pools[number].wake_at.take() {
            self.timers.remove(&(before, Timer::Scale(number)));
        }
        self.pools[number].wake_at = at;
        self.timers.extend(at.map(|at| (at, Timer::Scale(number))));
    }

    /// Whether one more may start now, counting those that are on their way out.
    pub(super) fn may_start(&self, number: usize) -> bool {
        let pool = &self.pools[number];
        let max = self.plan.functions[number].bounds.max as usize;
        let serving = pool
            .replicas
            .iter()
            .filter(|name| matches!(self.replicas[name].phase, Phase::Starting | Phase::Ready));
        let below_max = pool.replicas.len() < max || self.mutation == Mutation::IgnoreMax;
        below_max && serving.count() < pool.wanted as usize
    }

    pub(super) fn start(&mut self, number: usize, placed: Placed) {
        self.replicas_made += 1;
        let name = ReplicaNo(u64::from(self.epoch.0) << 32 | self.replicas_made);
        let machine = placed.node.created_ms() as usize;
        let function = &self.plan.functions[number];
        self.shares.add(&function.workspace, &function.ask, &self.fleet.totals());
        if self.mutation == Mutation::ForgetRoom {
            self.fleet.release(&placed, &function.ask);
        }
        let replica = Replica {
            pool: number,
            machine,
            placed,
            phase: Phase::Starting,
            told: self.now,
            inputs: Default::default(),
            idle_since: self.now,
            free_key: None,
        };
        self.replicas.insert(name, replica);
        self.pools[number].replicas.insert(name);
        self.machines[machine].replicas.insert(name);
        self.tell(machine, ToMachine::Start { replica: name, function: number });
    }

    pub(super) fn ready(&mut self, name: ReplicaNo) {
        let Some(replica) = self.replicas.get_mut(&name) else { return };
        if replica.phase != Phase::Starting {
            return;
        }
        replica.phase = Phase::Ready;
        replica.idle_since = self.now;
        let (number, node) = (replica.pool, replica.placed.node);
        let pool = &mut self.pools[number];
        pool.cold_start_ms = average(pool.cold_start_ms, ms(self.now - replica.told));
        pool.failed_starts = 0;
        self.fleet.add_image(node, self.plan.functions[number].image);
        self.refresh(name);
    }

    pub(super) fn start_failed(&mut self, name: ReplicaNo) {
        let Some(number) = self.replicas.get(&name).map(|replica| replica.pool) else { return };
        self.lose_replica(name, |_| Blame::Machine);
        let pool = &mut self.pools[number];
        let pause = FIRST_BACK_OFF << pool.failed_starts.min(10);
        pool.back_off_until = self.now + pause.min(LONGEST_BACK_OFF);
        pool.failed_starts += 1;
        self.refuse_queued(number, ErrorCode::StartFailed);
    }

    /// The input has left its slot.
    pub(super) fn left(&mut self, name: ReplicaNo, what: Try, measured: bool) {
        let Some(replica) = self.replicas.get_mut(&name) else { return };
        let Some(sent) = replica.inputs.remove(&what) else { return };
        replica.idle_since = self.now;
        let drained = replica.phase == Phase::Draining && replica.inputs.is_empty();
        let pool = &mut self.pools[replica.pool];
        if measured {
            pool.service_ms = average(pool.service_ms, ms(self.now - sent));
        }
        self.refresh(name);
        if drained {
            self.stop(name);
        }
    }

    pub(super) fn stop(&mut self, name: ReplicaNo) {
        let Some(replica) = self.replicas.get_mut(&name) else { return };
        replica.phase = Phase::Stopping;
        let machine = replica.machine;
        self.refresh(name);
        self.tell(machine, ToMachine::Stop { replica: name });
    }

    /// It is certainly no more: its room is free, and its calls go elsewhere.
    pub(super) fn lose_replica(&mut self, name: ReplicaNo, blame: impl Fn(Try) -> Blame) {
        let Some(mut replica) = self.replicas.remove(&name) else { return };
        let number = replica.pool;
        let function = &self.plan.functions[number];
        if let Some(key) = replica.free_key.take() {
            self.pools[number].free.remove(&(Reverse(key), name));
        }
        self.pools[number].replicas.remove(&name);
        self.machines[replica.machine].replicas.remove(&name);
        if self.mutation != Mutation::ForgetRoom {
            self.fleet.release(&replica.placed, &function.ask);
        }
        self.shares.remove(&function.workspace, &function.ask, &self.fleet.totals());
        self.dirty.insert(number);
        if self.mutation == Mutation::ForgetLost {
            return;
        }
        for &what in replica.inputs.keys() {
            let (attempt, code) = (what.attempt, ErrorCode::ContainerCrashed);
            self.apply(what.call, Event::Lose { attempt, code, blame: blame(what) });
        }
    }
}
