//! A fake machine: its containers start slowly, and it does once what it is told twice.

use std::collections::{BTreeMap, BTreeSet};

use clunk_core::id::ImageId;

use crate::message::{Epoch, FromMachine, LEASE, ReplicaNo, Reported, ToMachine, Try};
use crate::plan::{End, Plan};
use crate::rng::Rng;
use crate::schedule::{MILLISECOND, Micros};

/// A pull is this many cold starts.
const PULL_FACTOR: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    Stopping,
}

#[derive(Debug)]
pub struct Container {
    pub function: usize,
    pub phase: Phase,
    /// With the life of the control plane that sent it.
    pub inputs: BTreeMap<Try, Epoch>,
    /// Those it was given or told to cancel: nothing is begun twice.
    heard: BTreeSet<Try>,
}

#[derive(Debug, Clone)]
pub enum Timer {
    Started { replica: ReplicaNo },
    Finished { replica: ReplicaNo, what: Try },
    Stopped { replica: ReplicaNo },
    LeaseEnds,
}

/// What a machine does when it was told something.
#[derive(Debug)]
pub enum Effect {
    Say(Epoch, FromMachine),
    Later(Micros, Timer),
    /// How an attempt truly ended.
    Truth(Epoch, Try, End),
}

#[derive(Debug, Default)]
pub struct Machine {
    pub alive: bool,
    /// Counts its lives: timers of a former one are not heard.
    pub boot: u64,
    pub containers: BTreeMap<ReplicaNo, Container>,
    epoch: Option<Epoch>,
    leased_until: Micros,
    /// What was stopped, perhaps before it was started.
    buried: BTreeSet<ReplicaNo>,
    images: BTreeSet<ImageId>,
    /// Breaks the rule that a machine without a lease stops.
    ignores_lease: bool,
}

impl Machine {
    pub fn new(ignores_lease: bool) -> Self {
        Self { alive: true, ignores_lease, ..Self::default() }
    }

    pub fn die(&mut self) {
        self.alive = false;
        self.boot += 1;
        self.leased_until = 0;
        self.buried.extend(self.containers.keys());
        self.containers.clear();
    }

    pub fn hear(
        &mut self,
        now: Micros,
        epoch: Epoch,
        message: ToMachine,
        plan: &Plan,
        rng: &mut Rng,
    ) -> Vec<Effect> {
        if self.epoch.is_some_and(|current| epoch < current) {
            return Vec::new();
        }
        self.epoch = Some(epoch);
        match message {
            ToMachine::Start { replica, function } => self.start(now, replica, function, plan, rng),
            ToMachine::Input { replica, what } => self.input(epoch, replica, what, plan),
            ToMachine::Cancel { replica, what } => self.cancel(epoch, replica, what),
            ToMachine::Stop { replica } => self.stop(epoch, replica, rng),
            ToMachine::Poll { sent, renew } => self.poll(now, epoch, sent, renew),
        }
    }

    fn start(
        &mut self,
        now: Micros,
        replica: ReplicaNo,
        function: usize,
        plan: &Plan,
        rng: &mut Rng,
    ) -> Vec<Effect> {
        let leased = now < self.leased_until || self.ignores_lease;
        if !leased || self.buried.contains(&replica) || self.containers.contains_key(&replica) {
            return Vec::new();
        }
        let (inputs, heard) = Default::default();
        self.containers.insert(replica, Container { function, phase: Phase::Starting, inputs, heard });
        let function = &plan.functions[function];
        let pull = if self.images.contains(&function.image) { 1 } else { PULL_FACTOR };
        let takes = rng.between(function.cold_start / 2, function.cold_start * 2) * pull;
        vec![Effect::Later(takes, Timer::Started { replica })]
    }

    fn input(&mut self, epoch: Epoch, replica: ReplicaNo, what: Try, plan: &Plan) -> Vec<Effect> {
        let Some(container) = self.containers.get_mut(&replica) else { return Vec::new() };
        if container.phase != Phase::Ready || !container.heard.insert(what) {
            return Vec::new();
        }
        container.inputs.insert(what, epoch);
        let call = &plan.calls[what.call.0 as usize];
        if call.end(what.attempt) == End::Hangs {
            return Vec::new();
        }
        vec![Effect::Later(call.service, Timer::Finished { replica, what })]
    }

    fn cancel(&mut self, epoch: Epoch, replica: ReplicaNo, what: Try) -> Vec<Effect> {
        let Some(container) = self.containers.get_mut(&replica) else { return Vec::new() };
        container.heard.insert(what);
        container.inputs.remove(&what);
        vec![Effect::Say(epoch, FromMachine::Done { replica, what, end: None })]
    }

    fn stop(&mut self, epoch: Epoch, replica: ReplicaNo, rng: &mut Rng) -> Vec<Effect> {
        self.buried.insert(replica);
        match self.containers.get_mut(&replica) {
            None => vec![gone(epoch, replica, Vec::new(), false)],
            Some(container) if container.phase == Phase::Stopping => Vec::new(),
            Some(container) => {
                container.phase = Phase::Stopping;
                let takes = rng.between(MILLISECOND, 500 * MILLISECOND);
                vec![Effect::Later(takes, Timer::Stopped { replica })]
            }
        }
    }

    fn poll(&mut self, now: Micros, epoch: Epoch, sent: Micros, renew: bool) -> Vec<Effect> {
        let replicas = self.containers.iter().map(|(&replica, container)| Reported {
            replica,
            ready: container.phase == Phase::Ready,
            inputs: container.inputs.keys().copied().collect(),
        });
        let mut effects =
            vec![Effect::Say(epoch, FromMachine::Report { sent, replicas: replicas.collect() })];
        if renew {
            self.leased_until = now + LEASE;
            effects.push(Effect::Later(LEASE, Timer::LeaseEnds));
        }
        effects
    }

    pub fn tick(&mut self, now: Micros, timer: Timer, plan: &Plan) -> Vec<Effect> {
        let epoch = self.epoch.unwrap_or(Epoch(0));
        match timer {
            Timer::LeaseEnds if now >= self.leased_until && !self.ignores_lease => {
                self.buried.extend(self.containers.keys());
                self.containers.clear();
                Vec::new()
            }
            Timer::LeaseEnds => Vec::new(),
            Timer::Started { replica } => self.started(epoch, replica, plan),
            Timer::Finished { replica, what } => self.finished(replica, what, plan),
            Timer::Stopped { replica } => {
                let container = self.containers.remove(&replica);
                let inputs = container.map(|container| container.inputs.into_keys().collect());
                inputs.map(|inputs| gone(epoch, replica, inputs, false)).into_iter().collect()
            }
        }
    }

    fn started(&mut self, epoch: Epoch, replica: ReplicaNo, plan: &Plan) -> Vec<Effect> {
        let Some(container) = self.containers.get_mut(&replica) else { return Vec::new() };
        if container.phase != Phase::Starting {
            return Vec::new();
        }
        let function = &plan.functions[container.function];
        self.images.insert(function.image);
        if function.broken {
            self.buried.insert(replica);
            self.containers.remove(&replica);
            return vec![Effect::Say(epoch, FromMachine::StartFailed { replica })];
        }
        container.phase = Phase::Ready;
        vec![Effect::Say(epoch, FromMachine::Ready { replica })]
    }

    fn finished(&mut self, replica: ReplicaNo, what: Try, plan: &Plan) -> Vec<Effect> {
        let Some(container) = self.containers.get_mut(&replica) else { return Vec::new() };
        let Some(epoch) = container.inputs.remove(&what) else { return Vec::new() };
        let end = plan.calls[what.call.0 as usize].end(what.attempt);
        let truth = Effect::Truth(epoch, what, end);
        if end != End::Crashes {
            return vec![truth, Effect::Say(epoch, FromMachine::Done { replica, what, end: Some(end) })];
        }
        let mut inputs: Vec<Try> = container.inputs.keys().copied().collect();
        inputs.push(what);
        self.buried.insert(replica);
        self.containers.remove(&replica);
        vec![truth, gone(epoch, replica, inputs, true)]
    }
}

fn gone(epoch: Epoch, replica: ReplicaNo, inputs: Vec<Try>, crashed: bool) -> Effect {
    Effect::Say(epoch, FromMachine::Gone { replica, inputs, crashed })
}
