//! Everything around the control plane: the clock, the network, the machines, the disk, and the clients.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use clunk_core::call::Outcome;

use crate::check::Violation;
use crate::control::{Control, Mutation, Output, Record};
use crate::machine::{Effect, Machine, Timer};
use crate::message::{CallNo, Epoch, FromMachine, LARGEST_LAG, ToMachine, Try};
use crate::plan::{End, FAULTS_END, Outage, Plan};
use crate::rng::Rng;
use crate::schedule::{MILLISECOND, Micros, SECOND, Schedule};

/// How many events a violation tells.
const TOLD: usize = 60;
/// Everything has to have come to rest after this much virtual time.
const REST_BY: Micros = FAULTS_END + 3 * 3600 * SECOND;
/// A client that got no answer to a durable call sends it again.
const SEND_AGAIN: Micros = SECOND;
/// A commit takes up to this long.
const COMMIT: Micros = 20 * MILLISECOND;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Submit(CallNo),
    Cancel(CallNo),
    Tell { machine: usize, epoch: Epoch, message: ToMachine },
    Hear { machine: usize, epoch: Epoch, message: FromMachine },
    Machine { machine: usize, boot: u64, timer: Timer },
    Commit { epoch: Epoch, record: Record },
    Die(Outage),
    Boot(usize),
    Cut(Outage),
    Crash(Micros),
    Restart,
    Wake,
}

/// What a client knows of its call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Client {
    pub accepted: bool,
    pub ended: bool,
    /// Its connection broke with the control plane, and it was not durable.
    pub dropped: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub events: u64,
    pub succeeded: u64,
    pub ended: u64,
    pub dropped: u64,
    pub most_replicas: usize,
    pub virtual_s: u64,
}

/// What is durable.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub accepted: BTreeSet<CallNo>,
    pub ended: BTreeMap<CallNo, Outcome>,
}

pub(crate) struct World {
    pub plan: Rc<Plan>,
    pub schedule: Schedule<Event>,
    pub machines: Vec<Machine>,
    pub control: Option<Control>,
    pub disk: Disk,
    pub clients: Vec<Client>,
    /// How each attempt truly ended.
    pub truth: BTreeMap<(Epoch, Try), End>,
    /// Ends that are on their way to the disk.
    pub ending: BTreeSet<CallNo>,
    pub summary: Summary,
    rng: Rng,
    epoch: Epoch,
    mutation: Mutation,
    /// Until when a machine is cut off, and whether only what it says is lost.
    cut: Vec<(Micros, bool)>,
    wake_at: Option<Micros>,
    told: VecDeque<(Micros, Event)>,
    check_every: u64,
    look_for_rest: Micros,
}

/// Plays a plan to the end, and checks the invariants after every event.
pub fn run(plan: Plan, mutation: Mutation) -> Result<Summary, Box<Violation>> {
    World::new(plan, mutation, 1).run()
}

/// As [`run`], with the invariants checked after every `check_every` events: they look at everything.
pub fn run_large(plan: Plan, check_every: u64) -> Result<Summary, Box<Violation>> {
    World::new(plan, Mutation::None, check_every).run()
}

impl World {
    fn new(plan: Plan, mutation: Mutation, check_every: u64) -> Self {
        let plan = Rc::new(plan);
        let ignores_lease = mutation == Mutation::IgnoreLease;
        let machine = |_| Machine::new(ignores_lease);
        let mut schedule = Schedule::default();
        for (index, call) in plan.calls.iter().enumerate() {
            let number = CallNo(index as u32);
            schedule.at(call.at, Event::Submit(number));
            call.cancel_at.into_iter().for_each(|at| schedule.at(at, Event::Cancel(number)));
        }
        plan.deaths.iter().for_each(|outage| schedule.at(outage.at, Event::Die(*outage)));
        plan.partitions.iter().for_each(|outage| schedule.at(outage.at, Event::Cut(*outage)));
        plan.crashes.iter().for_each(|outage| schedule.at(outage.at, Event::Crash(outage.lasts)));
        schedule.at(0, Event::Restart);
        Self {
            machines: plan.machines.iter().map(machine).collect(),
            control: None,
            disk: Disk::default(),
            clients: vec![Client::default(); plan.calls.len()],
            truth: BTreeMap::new(),
            ending: BTreeSet::new(),
            summary: Summary::default(),
            rng: Rng::new(plan.seed ^ 0x5eed),
            epoch: Epoch(0),
            mutation,
            cut: vec![(0, false); plan.machines.len()],
            wake_at: None,
            told: VecDeque::new(),
            check_every,
            look_for_rest: FAULTS_END + SECOND,
            schedule,
            plan,
        }
    }

    fn run(mut self) -> Result<Summary, Box<Violation>> {
        while let Some(event) = self.schedule.next() {
            self.summary.events += 1;
            if self.check_every == 1 {
                self.told.push_back((self.schedule.now, event.clone()));
                if self.told.len() > TOLD {
                    self.told.pop_front();
                }
            }
            let result = self.happen(event).and_then(|()| {
                self.follow()?;
                if self.summary.events.is_multiple_of(self.check_every) { self.check() } else { Ok(()) }
            });
            result.map_err(|text| self.violation(text))?;
            if self.schedule.now >= self.look_for_rest {
                self.look_for_rest = self.schedule.now + SECOND;
                if self.rest().is_ok() {
                    break;
                }
            }
            if self.schedule.now > REST_BY {
                break;
            }
        }
        self.rest().map_err(|text| self.violation(text))?;
        self.summary.virtual_s = self.schedule.now / SECOND;
        Ok(self.summary)
    }

    fn violation(&self, text: String) -> Box<Violation> {
        let last = self.told.iter().map(|(at, event)| format!("{:>12.3} ms  {event:?}", *at as f64 / 1000.0));
        Box::new(Violation { seed: self.plan.seed, at: self.schedule.now, text, last: last.collect() })
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.schedule.now;
        if let Some(control) = &mut self.control {
            control.set_time(now);
        }
        match event {
            Event::Submit(call) => self.submit(call),
            Event::Cancel(call) => {
                if self.clients[call.0 as usize].accepted {
                    self.control.iter_mut().for_each(|control| control.cancel(call));
                }
            }
            Event::Tell { machine, epoch, message } => {
                if self.machines[machine].alive && !self.is_cut(machine, false) {
                    let plan = self.plan.clone();
                    let effects = self.machines[machine].hear(now, epoch, message, &plan, &mut self.rng);
                    self.take_effect(machine, effects);
                }
            }
            Event::Hear { machine, epoch, message } => {
                if !self.is_cut(machine, true) {
                    self.control.iter_mut().for_each(|control| control.hear(machine, epoch, message.clone()));
                }
            }
            Event::Machine { machine, boot, timer } => {
                if self.machines[machine].boot == boot && self.machines[machine].alive {
                    let effects = self.machines[machine].tick(now, timer, &self.plan);
                    self.take_effect(machine, effects);
                }
            }
            Event::Commit { epoch, record } => return self.commit(epoch, record),
            Event::Die(outage) => {
                self.machines[outage.machine].die();
                self.schedule.after(outage.lasts, Event::Boot(outage.machine));
            }
            Event::Boot(machine) => self.machines[machine].alive = true,
            Event::Cut(outage) => self.cut[outage.machine] = (now + outage.lasts, outage.lasts % 2 == 1),
            Event::Crash(lasts) => self.crash(lasts),
            Event::Restart => self.restart(),
            // One that was planned before an earlier one has nothing to do.
            Event::Wake => _ = self.wake_at.take_if(|at| *at == now),
        }
        Ok(())
    }

    fn submit(&mut self, call: CallNo) {
        let client = &mut self.clients[call.0 as usize];
        if client.accepted {
            return;
        }
        if let Some(control) = &mut self.control {
            control.submit(call);
            client.accepted =
                !self.plan.calls[call.0 as usize].durable || self.mutation == Mutation::AcceptBeforeDisk;
        }
        if !client.accepted {
            self.schedule.after(SEND_AGAIN, Event::Submit(call));
        }
    }

    /// What was not on disk when the control plane ended was never written.
    fn commit(&mut self, epoch: Epoch, record: Record) -> Result<(), String> {
        if self.control.is_none() || epoch != self.epoch {
            return Ok(());
        }
        match record {
            Record::Accept(call) => {
                if self.disk.accepted.insert(call) {
                    self.clients[call.0 as usize].accepted = true;
                    self.control.iter_mut().for_each(|control| control.enter(call));
                }
                Ok(())
            }
            Record::End { call, outcome, attempts, epoch } => {
                self.ending.remove(&call);
                if self.disk.ended.insert(call, outcome).is_some() {
                    return Err(format!("{call:?} is recorded twice"));
                }
                self.ended(call, outcome, attempts, epoch)
            }
        }
    }

    fn ended(&mut self, call: CallNo, outcome: Outcome, attempts: u32, epoch: Epoch) -> Result<(), String> {
        let client = &mut self.clients[call.0 as usize];
        if client.ended {
            return Err(format!("{call:?} was answered twice"));
        }
        client.ended = true;
        self.summary.ended += 1;
        self.summary.succeeded += u64::from(outcome == Outcome::Succeeded);
        self.check_outcome(call, outcome, attempts, epoch)
    }

    fn crash(&mut self, lasts: Micros) {
        if self.control.take().is_none() {
            return;
        }
        self.wake_at = None;
        self.ending.clear();
        for (client, call) in self.clients.iter_mut().zip(&self.plan.calls) {
            if client.accepted && !client.ended && !client.dropped && !call.durable {
                client.dropped = true;
                self.summary.dropped += 1;
            }
        }
        self.schedule.after(lasts, Event::Restart);
    }

    fn restart(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        let open: Vec<CallNo> =
            self.disk.accepted.iter().copied().filter(|call| !self.disk.ended.contains_key(call)).collect();
        let now = self.schedule.now;
        self.control = Some(Control::new(self.plan.clone(), self.epoch, now, &open, self.mutation));
    }

    /// Lets the control plane act on what happened.
    fn follow(&mut self) -> Result<(), String> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let now = self.schedule.now;
        let outputs = control.turn(now);
        self.summary.most_replicas = self.summary.most_replicas.max(control.replicas());
        let next = control.next_timer();
        if let Some(next) = next.filter(|&next| self.wake_at.is_none_or(|at| next < at)) {
            self.wake_at = Some(next);
            self.schedule.at(next, Event::Wake);
        }
        let epoch = self.epoch;
        for output in outputs {
            match output {
                Output::Tell(machine, message) => {
                    if !self.is_cut(machine, false) {
                        self.send(&Event::Tell { machine, epoch, message });
                    }
                }
                Output::Write(record) => {
                    if let Record::End { call, .. } = record {
                        self.ending.insert(call);
                    }
                    let takes = self.rng.between(MILLISECOND, COMMIT);
                    self.schedule.after(takes, Event::Commit { epoch, record });
                }
                Output::Answer { call, outcome, attempts } => {
                    self.ended(call, outcome, attempts, epoch)?;
                }
            }
        }
        Ok(())
    }

    fn take_effect(&mut self, machine: usize, effects: Vec<Effect>) {
        let boot = self.machines[machine].boot;
        for effect in effects {
            match effect {
                Effect::Say(epoch, message) => {
                    if !self.is_cut(machine, true) {
                        self.send(&Event::Hear { machine, epoch, message });
                    }
                }
                Effect::Later(delay, timer) => {
                    self.schedule.after(delay, Event::Machine { machine, boot, timer });
                }
                Effect::Truth(epoch, what, end) => {
                    self.truth.insert((epoch, what), end);
                }
            }
        }
    }

    fn is_cut(&self, machine: usize, from_machine: bool) -> bool {
        let (until, only_from) = self.cut[machine];
        self.schedule.now < until && (from_machine || !only_from)
    }

    /// The network: some late, some twice; so the order is any.
    fn send(&mut self, event: &Event) {
        let copies = 1 + u8::from(self.rng.chance(self.plan.duplicates));
        for _ in 0..copies {
            let slowest = if self.rng.chance(self.plan.stragglers) { LARGEST_LAG } else { 20 * MILLISECOND };
            let lag = self.rng.between(MILLISECOND / 10, slowest);
            self.schedule.after(lag, event.clone());
        }
    }
}
