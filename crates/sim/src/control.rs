//! A control plane over many machines: the reconciling rules around the pure core, without I/O. It is told the time and
//! what came in, and says what to send, write and answer.
//!
//! The rules that keep its promises when messages are lost, doubled or late:
//!
//! - A call's result counts only under the attempt that is the current one.
//! - A slot, a container's place and a machine's room are free again only when the machine has said so, or when its lease
//!   has certainly run out.
//! - What a report does not have, although it was sent long before, is lost; what it has and we do not know is stopped.
//! - A machine takes part when it has reported that it is empty; after a restart nothing starts before all have, or their
//!   leases are over.
//! - A durable call is accepted, and ended, when that is on disk.

mod calls;
mod machines;
mod pools;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use clunk_core::call::Outcome;
use clunk_core::fairness::Shares;
use clunk_core::placement::{Fleet, Placed};

use crate::message::{CallNo, Epoch, LARGEST_LAG, LEASE, ReplicaNo, ToMachine, Try};
use crate::plan::Plan;
use crate::schedule::Micros;
use calls::Call;
use machines::MachineView;
use pools::{Listed, Pool};
use room::Reservation;

/// A rule to break, to see that the invariants notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// Take what a dead attempt says as said by the current one.
    IgnoreFence,
    /// Never queue a call again that is to be tried again.
    ForgetRetry,
    /// Ask for more replicas than the function may have.
    IgnoreMax,
    /// Say that a call is accepted before it is on disk.
    AcceptBeforeDisk,
    /// Take a slot as free when its input was told to stop.
    FreeSlotEarly,
    /// Never stop what is idle.
    KeepIdle,
    /// Machines go on without a lease.
    IgnoreLease,
    /// Set nothing aside for what was placed.
    ForgetRoom,
    /// Never serve one of the workspaces.
    StarveOne,
}

/// What goes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Accept(CallNo),
    End { call: CallNo, outcome: Outcome, attempts: u32, epoch: Epoch },
}

#[derive(Debug)]
pub enum Output {
    Tell(usize, ToMachine),
    Write(Record),
    /// The end of a call that is not durable.
    Answer {
        call: CallNo,
        outcome: Outcome,
        attempts: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Retry(CallNo),
    TimeOut(Try),
    Expire(CallNo),
    Scale(usize),
    Poll(usize),
    AskAgain,
    Recovered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    /// Finishes what it has, to make room.
    Draining,
    Stopping,
}

#[derive(Debug)]
struct Replica {
    pool: usize,
    machine: usize,
    placed: Placed,
    phase: Phase,
    /// When its start was sent.
    told: Micros,
    /// With when each was sent; those told to stop too, until they have.
    inputs: BTreeMap<Try, Micros>,
    idle_since: Micros,
    /// As its pool counts it.
    listed: Listed,
}

pub struct Control {
    pub epoch: Epoch,
    plan: Rc<Plan>,
    mutation: Mutation,
    now: Micros,
    calls: BTreeMap<CallNo, Call>,
    arrivals: u64,
    pools: Vec<Pool>,
    replicas: BTreeMap<ReplicaNo, Replica>,
    replicas_made: u64,
    machines: Vec<MachineView>,
    fleet: Fleet,
    shares: Shares,
    recovered: bool,
    /// Pools that changed, and pools that want more than they have.
    dirty: BTreeSet<usize>,
    hungry: BTreeSet<usize>,
    reserved: Option<Reservation>,
    /// There may be room that was not there when it was last looked for.
    look_for_room: bool,
    /// Others are not asked to yield before.
    ask_again: Micros,
    timers: BTreeSet<(Micros, Timer)>,
    out: Vec<Output>,
}

impl Control {
    /// A new life, with the calls that are on disk and have not ended.
    pub fn new(plan: Rc<Plan>, epoch: Epoch, now: Micros, accepted: &[CallNo], mutation: Mutation) -> Self {
        let mut fleet = Fleet::new();
        plan.machines.iter().for_each(|node| fleet.add(node.clone()));
        let mut control = Self {
            epoch,
            mutation,
            now,
            calls: BTreeMap::new(),
            arrivals: 0,
            pools: plan.functions.iter().map(|_| Pool::new()).collect(),
            replicas: BTreeMap::new(),
            replicas_made: 0,
            machines: plan.machines.iter().map(|_| MachineView::new(now)).collect(),
            fleet,
            shares: Shares::default(),
            recovered: false,
            dirty: (0..plan.functions.len()).collect(),
            hungry: BTreeSet::new(),
            reserved: None,
            look_for_room: true,
            ask_again: 0,
            timers: BTreeSet::new(),
            out: Vec::new(),
            plan,
        };
        control.timers.insert((now + LEASE + LARGEST_LAG, Timer::Recovered));
        for machine in 0..control.machines.len() {
            // Spread over the period, as they would be after a while.
            control.timers.insert((now + machine as u64 % machines::POLL_EVERY, Timer::Poll(machine)));
        }
        accepted.iter().for_each(|&call| control.enter(call));
        control
    }

    /// When it has to be woken next.
    pub fn next_timer(&self) -> Option<Micros> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Does what is due, and what follows from all that came in; then what to send and write.
    pub fn turn(&mut self, now: Micros) -> Vec<Output> {
        self.now = now;
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Retry(call) => self.retry(call),
                Timer::TimeOut(what) => self.time_out(what),
                Timer::Expire(call) => self.expire(call),
                Timer::Scale(pool) => {
                    self.dirty.insert(pool);
                }
                Timer::Poll(machine) => self.poll(machine),
                Timer::AskAgain => self.look_for_room = true,
                Timer::Recovered => self.recover(),
            }
        }
        // A dispatch or a refusal changes a pool again; it settles because each takes a call off a queue.
        loop {
            if let Some(pool) = self.dirty.pop_first() {
                self.dispatch(pool);
                self.scale(pool);
            } else if std::mem::take(&mut self.look_for_room) {
                self.make_room();
            } else {
                break;
            }
        }
        std::mem::take(&mut self.out)
    }

    /// It is told of what happens at this time.
    pub fn set_time(&mut self, now: Micros) {
        self.now = now;
    }

    fn tell(&mut self, machine: usize, message: ToMachine) {
        self.out.push(Output::Tell(machine, message));
    }

    /// Calls that it knows.
    pub fn knows(&self, call: CallNo) -> bool {
        self.calls.contains_key(&call)
    }

    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// What is set aside although nothing is there, in words.
    pub fn leftovers(&self) -> Option<String> {
        let kept: usize = self.plan.functions.iter().map(|function| function.bounds.min as usize).sum();
        if self.replicas.len() > kept {
            return Some(format!("{} replicas are known, {kept} are to be kept", self.replicas.len()));
        }
        let held: u32 = self.fleet.nodes().map(|node| node.replicas).sum();
        (held as usize != self.replicas.len())
            .then(|| format!("room is set aside for {held} replicas, {} are known", self.replicas.len()))
    }

    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }
}
