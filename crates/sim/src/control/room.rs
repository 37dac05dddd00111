//! Who gets room, and who makes it.

use clunk_core::ErrorCode;
use clunk_core::fairness::Claim;
use clunk_core::placement::{Fleet, NoRoom};

use super::{Control, Phase, Timer};
use crate::message::ReplicaNo;
use crate::schedule::{MILLISECOND, Micros};

/// Every machine is looked at, so others are asked to yield no more often than this.
const ASK_EVERY: Micros = 100 * MILLISECOND;

/// A machine on which room is being made for a function: others get none of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reservation {
    pool: usize,
    machine: usize,
}

impl Control {
    /// Places replicas for those that want more, one by one in the order of fairness, while there is room.
    pub(super) fn make_room(&mut self) {
        if !self.recovered {
            return;
        }
        let may_ask = self.now >= self.ask_again;
        let mut left: Vec<usize> = self.hungry.iter().copied().collect();
        while let Some(pool) = self.next_claim(&left) {
            if !self.may_start(pool) {
                left.retain(|&other| other != pool);
                continue;
            }
            match self.place(pool) {
                Ok(()) => {}
                Err(NoRoom::Now) => {
                    left.retain(|&other| other != pool);
                    if may_ask {
                        self.ask_again = self.now + ASK_EVERY;
                        self.ask_others_to_yield(pool);
                    }
                    self.timers.insert((self.ask_again, Timer::AskAgain));
                }
                Err(NoRoom::Never(_)) => {
                    left.retain(|&other| other != pool);
                    self.refuse_queued(pool, ErrorCode::CannotPlace);
                }
            }
        }
    }

    /// Calls that wait come before replicas that are only to be kept ready.
    fn next_claim(&self, pools: &[usize]) -> Option<usize> {
        let claim = |&index: &usize| {
            let pool = &self.pools[index];
            let oldest = pool.queue.first().and_then(|(_, _, call)| self.calls.get(call));
            let waiting_ms = oldest.map_or(0, |call| (self.now - call.arrived) / MILLISECOND);
            Claim { workspace: &self.plan.functions[index].workspace, waiting_ms, index }
        };
        let waits = |index: &&usize| !self.pools[**index].queue.is_empty();
        let waiting: Vec<Claim> = pools.iter().filter(waits).map(claim).collect();
        let kept: Vec<Claim> = pools.iter().map(claim).collect();
        self.shares.next(&waiting).or_else(|| self.shares.next(&kept))
    }

    fn place(&mut self, pool: usize) -> Result<(), NoRoom> {
        let plan = self.plan.clone();
        let function = &plan.functions[pool];
        let reserved = self.reserved.filter(|reserved| reserved.pool == pool);
        if let Some(reserved) = reserved {
            self.set_schedulable(reserved.machine, true);
        }
        let placed = self.fleet.place(&function.ask, function.image);
        match &placed {
            Ok(_) => self.forget_reservation(pool),
            Err(_) => reserved.into_iter().for_each(|reserved| self.set_schedulable(reserved.machine, false)),
        }
        self.start(pool, placed?);
        Ok(())
    }

    /// Idle replicas of others give way to calls that wait, and a workspace with too large a share gives way to one with a
    /// smaller: its replicas finish what they have. On one machine at a time, which is kept for the one that waits.
    fn ask_others_to_yield(&mut self, pool: usize) {
        if self.reserved.is_some() || self.pools[pool].queue.is_empty() {
            return;
        }
        let plan = self.plan.clone();
        let ask = &plan.functions[pool].ask;
        let debtor = self.shares.yields_to(&plan.functions[pool].workspace, ask).map(str::to_owned);
        for machine in 0..self.machines.len() {
            if !self.machines[machine].joined {
                continue;
            }
            let yielding = self.yielding(pool, machine, debtor.as_deref());
            if yielding.is_empty() {
                continue;
            }
            let Some(node) = self.fleet.get(plan.machines[machine].id) else { continue };
            let mut scratch = Fleet::new();
            scratch.add(node.clone());
            let mut gone = Vec::new();
            for name in yielding {
                let replica = &self.replicas[&name];
                scratch.release(&replica.placed, &plan.functions[replica.pool].ask);
                gone.push(name);
                if scratch.place(ask, plan.functions[pool].image).is_ok() {
                    self.reserve(pool, machine, &gone);
                    return;
                }
            }
        }
    }

    /// Replicas on a machine that can be asked to go: those that go anyway, the idle ones, then the busy ones of the
    /// workspace that holds too much.
    fn yielding(&self, pool: usize, machine: usize, debtor: Option<&str>) -> Vec<ReplicaNo> {
        let mut found: Vec<(u8, usize, ReplicaNo)> = Vec::new();
        for &name in &self.machines[machine].replicas {
            let replica = &self.replicas[&name];
            let in_debt = debtor == Some(self.plan.functions[replica.pool].workspace.as_str());
            let idle = replica.phase == Phase::Ready && replica.inputs.is_empty();
            let rank = match replica.phase {
                Phase::Draining | Phase::Stopping => 0,
                // Stopped before it has served, two functions would stop each other's for ever.
                Phase::Starting => continue,
                Phase::Ready if replica.pool == pool => continue,
                Phase::Ready if idle => 1,
                Phase::Ready if in_debt => 2,
                Phase::Ready => continue,
            };
            found.push((rank, replica.inputs.len(), name));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, name)| name).collect()
    }

    fn reserve(&mut self, pool: usize, machine: usize, going: &[ReplicaNo]) {
        self.reserved = Some(Reservation { pool, machine });
        self.set_schedulable(machine, false);
        for &name in going {
            let Some(replica) = self.replicas.get_mut(&name) else { continue };
            match replica.phase {
                Phase::Draining | Phase::Stopping => {}
                Phase::Starting | Phase::Ready if replica.inputs.is_empty() => self.stop(name),
                Phase::Starting | Phase::Ready => {
                    replica.phase = Phase::Draining;
                    self.refresh(name);
                }
            }
        }
    }

    pub(super) fn forget_reservation(&mut self, pool: usize) {
        if let Some(reserved) = self.reserved.take_if(|reserved| reserved.pool == pool) {
            self.set_schedulable(reserved.machine, self.machines[reserved.machine].joined);
            self.look_for_room = true;
        }
    }

    pub(super) fn forget_machine(&mut self, machine: usize) {
        self.reserved.take_if(|reserved| reserved.machine == machine);
        self.set_schedulable(machine, false);
    }

    pub(super) fn set_schedulable(&mut self, machine: usize, schedulable: bool) {
        if let Some(mut node) = self.fleet.get_mut(self.plan.machines[machine].id) {
            node.schedulable = schedulable;
        }
    }
}
