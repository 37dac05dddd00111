//! The replicas of each function: how many there should be, started and stopped.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use clunk_core::ErrorCode;
use clunk_core::autoscaler::{Demand, decide};
use clunk_core::call::{Blame, Event};
use clunk_core::measure::{Average, Rate};
use clunk_core::placement::Placed;

use super::calls::QueueKey;
use super::{Control, Mutation, Phase, Replica, Timer};
use crate::message::{ReplicaNo, ToMachine, Try};
use crate::schedule::{MILLISECOND, Micros, SECOND};

/// First and longest pause before code that could not be set up is tried again.
const FIRST_BACK_OFF: Micros = SECOND;
const LONGEST_BACK_OFF: Micros = 60 * SECOND;

/// How a replica counts in its pool; one that is silent or on its way out does not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Listed {
    starting: u32,
    ready: u32,
    running: u32,
    free: Option<Micros>,
    idle: Option<Micros>,
    busy: Option<Micros>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) queue: BTreeSet<QueueKey>,
    pub(super) replicas: BTreeSet<ReplicaNo>,
    /// With a free slot: the one used last is used next, so that the others can stop.
    pub(super) free: BTreeSet<(Reverse<Micros>, ReplicaNo)>,
    /// By since when.
    idle: BTreeSet<(Micros, ReplicaNo)>,
    /// By when the oldest input was sent.
    busy: BTreeSet<(Micros, ReplicaNo)>,
    starting: u32,
    ready: u32,
    running: u32,
    pub(super) wanted: u32,
    service_ms: Average,
    cold_start_ms: Average,
    rate: Rate,
    back_off_until: Micros,
    failed_starts: u32,
    wake_at: Option<Micros>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            replicas: BTreeSet::new(),
            free: BTreeSet::new(),
            idle: BTreeSet::new(),
            busy: BTreeSet::new(),
            starting: 0,
            ready: 0,
            running: 0,
            wanted: 0,
            service_ms: Average::default(),
            cold_start_ms: Average::default(),
            rate: Rate::default(),
            back_off_until: 0,
            failed_starts: 0,
            wake_at: None,
        }
    }

    pub(super) fn arrived(&mut self, now: Micros) {
        self.rate.arrived(ms(now));
    }

    fn list(&mut self, name: ReplicaNo, listed: &Listed) {
        self.starting += listed.starting;
        self.ready += listed.ready;
        self.running += listed.running;
        self.free.extend(listed.free.map(|at| (Reverse(at), name)));
        self.idle.extend(listed.idle.map(|at| (at, name)));
        self.busy.extend(listed.busy.map(|at| (at, name)));
    }

    fn unlist(&mut self, name: ReplicaNo, listed: &Listed) {
        self.starting -= listed.starting;
        self.ready -= listed.ready;
        self.running -= listed.running;
        listed.free.into_iter().for_each(|at| _ = self.free.remove(&(Reverse(at), name)));
        listed.idle.into_iter().for_each(|at| _ = self.idle.remove(&(at, name)));
        listed.busy.into_iter().for_each(|at| _ = self.busy.remove(&(at, name)));
    }
}

fn ms(micros: Micros) -> f64 {
    micros as f64 / MILLISECOND as f64
}

impl Control {
    /// Asks the autoscaler, and stops what it says. What it wants more is started as there is room.
    pub(super) fn scale(&mut self, number: usize) {
        let plan = self.plan.clone();
        let function = &plan.functions[number];
        let pool = &self.pools[number];
        let oldest = pool.busy.first().map_or(self.now, |&(sent, _)| sent);
        let demand = Demand {
            queued: pool.queue.len() as u64,
            running: pool.running,
            ready: pool.ready,
            starting: pool.starting,
            slots: function.slots,
            target: function.target,
            service_ms: pool.service_ms.get(),
            oldest_running_ms: ms(self.now - oldest),
            cold_start_ms: pool.cold_start_ms.get(),
            arrivals_per_s: pool.rate.per_s(ms(self.now)),
            idle_ms: pool.idle.iter().map(|&(since, _)| (self.now - since) / MILLISECOND).collect(),
        };
        let mut decision = decide(&demand, &function.bounds);
        if self.mutation == Mutation::IgnoreMax && demand.queued > 0 {
            decision.wanted = decision.wanted.max(demand.ready + demand.starting + 1);
        }
        if self.mutation == Mutation::KeepIdle {
            decision.stop_idle = 0;
        }
        for _ in 0..decision.stop_idle {
            let Some(&(_, name)) = self.pools[number].idle.first() else { break };
            self.stop(name);
        }
        // A millisecond more: ages are in whole ones.
        self.wake(number, decision.wake_in_ms.map(|in_ms| self.now + (in_ms + 1) * MILLISECOND));
        self.set_wanted(number, decision.wanted);
    }

    fn set_wanted(&mut self, number: usize, wanted: u32) {
        let pool = &mut self.pools[number];
        let have = pool.starting + pool.ready;
        let more = wanted > pool.wanted;
        pool.wanted = wanted;
        if wanted > have && self.now >= pool.back_off_until {
            self.look_for_room |= self.hungry.insert(number) || more;
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
        let below_max = pool.replicas.len() < max || self.mutation == Mutation::IgnoreMax;
        below_max && pool.starting + pool.ready < pool.wanted
    }

    /// Counts a replica in its pool as it is now.
    pub(super) fn refresh(&mut self, name: ReplicaNo) {
        let Some(replica) = self.replicas.get_mut(&name) else { return };
        let pool = &mut self.pools[replica.pool];
        pool.unlist(name, &replica.listed);
        let slots = self.plan.functions[replica.pool].slots as usize;
        // On a silent machine it may be gone; what it has is not counted on, nor against the others.
        let phase = Some(replica.phase).filter(|_| !self.machines[replica.machine].silent);
        replica.listed = match phase {
            Some(Phase::Starting) => Listed { starting: 1, ..Listed::default() },
            Some(Phase::Ready) => Listed {
                starting: 0,
                ready: 1,
                running: replica.inputs.len() as u32,
                free: Some(replica.idle_since).filter(|_| replica.inputs.len() < slots),
                idle: Some(replica.idle_since).filter(|_| replica.inputs.is_empty()),
                busy: replica.inputs.values().copied().min(),
            },
            Some(Phase::Draining | Phase::Stopping) | None => Listed::default(),
        };
        pool.list(name, &replica.listed);
        self.dirty.insert(replica.pool);
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
            listed: Listed::default(),
        };
        self.replicas.insert(name, replica);
        self.pools[number].replicas.insert(name);
        self.machines[machine].replicas.insert(name);
        self.refresh(name);
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
        pool.cold_start_ms.add(ms(self.now - replica.told));
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
            pool.service_ms.add(ms(self.now - sent));
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
        let Some(replica) = self.replicas.remove(&name) else { return };
        let number = replica.pool;
        let function = &self.plan.functions[number];
        self.pools[number].unlist(name, &replica.listed);
        self.pools[number].replicas.remove(&name);
        self.look_for_room = true;
        self.machines[replica.machine].replicas.remove(&name);
        if self.mutation != Mutation::ForgetRoom {
            self.fleet.release(&replica.placed, &function.ask);
        }
        self.shares.remove(&function.workspace, &function.ask, &self.fleet.totals());
        self.dirty.insert(number);
        for &what in replica.inputs.keys() {
            let (attempt, code) = (what.attempt, ErrorCode::ContainerCrashed);
            self.apply(what.call, Event::Lose { attempt, code, blame: blame(what) });
        }
    }
}
