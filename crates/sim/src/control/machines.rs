//! What the machines say, and what their silence means.

use std::collections::{BTreeMap, BTreeSet};

use clunk_core::call::{Blame, Event};

use super::{Control, Phase, Timer};
use crate::message::{Epoch, FromMachine, LARGEST_LAG, LEASE, ReplicaNo, Reported, ToMachine, Try};
use crate::plan::End;
use crate::schedule::{Micros, SECOND};

pub(super) const POLL_EVERY: Micros = SECOND;
/// After this long without a report a machine gets nothing new, and its lease is not renewed.
const SILENT_AFTER: Micros = 2 * LARGEST_LAG;

#[derive(Debug)]
pub(super) struct MachineView {
    pub(super) replicas: BTreeSet<ReplicaNo>,
    /// It has said that it is empty, and was not given up since.
    pub(super) joined: bool,
    pub(super) silent: bool,
    heard: Micros,
    /// When the poll was sent that the newest report answers.
    reported: Option<Micros>,
    renewed: Micros,
}

impl MachineView {
    pub(super) fn new(now: Micros) -> Self {
        let replicas = BTreeSet::new();
        Self { replicas, joined: false, silent: false, heard: now, reported: None, renewed: now }
    }
}

impl Control {
    pub(super) fn recover(&mut self) {
        self.recovered = true;
        self.look_for_room = true;
    }

    pub(super) fn poll(&mut self, machine: usize) {
        self.timers.insert((self.now + POLL_EVERY, Timer::Poll(machine)));
        let view = &mut self.machines[machine];
        if view.joined && !view.silent && self.now > view.heard + SILENT_AFTER {
            view.silent = true;
            self.refresh_all(machine);
        }
        let view = &self.machines[machine];
        if view.joined && view.silent && self.now > view.renewed + LARGEST_LAG + LEASE {
            self.give_up(machine);
        }
        self.send_poll(machine);
    }

    fn send_poll(&mut self, machine: usize) {
        let view = &mut self.machines[machine];
        let renew = view.joined && !view.silent;
        if renew {
            view.renewed = self.now;
        }
        self.tell(machine, ToMachine::Poll { sent: self.now, renew });
    }

    fn refresh_all(&mut self, machine: usize) {
        for name in self.machines[machine].replicas.clone() {
            self.refresh(name);
        }
    }

    /// Its lease is over: whatever it is doing, it does not run what it was given.
    fn give_up(&mut self, machine: usize) {
        self.machines[machine].joined = false;
        self.forget_machine(machine);
        for name in self.machines[machine].replicas.clone() {
            self.lose_replica(name, |_| Blame::Machine);
        }
    }

    pub fn hear(&mut self, machine: usize, epoch: Epoch, message: FromMachine) {
        if epoch != self.epoch {
            return;
        }
        match message {
            FromMachine::Ready { replica } => self.ready(replica),
            FromMachine::StartFailed { replica } => self.start_failed(replica),
            FromMachine::Done { replica, what, end } => self.done(replica, what, end),
            FromMachine::Gone { replica, inputs, crashed } => {
                // With others in the same process nobody knows who it was.
                let alone = crashed && inputs.len() == 1;
                let blame = |what| if alone && inputs[0] == what { Blame::Call } else { Blame::Machine };
                self.lose_replica(replica, blame);
            }
            FromMachine::Report { sent, replicas } => self.report(machine, sent, replicas),
        }
    }

    fn done(&mut self, replica: ReplicaNo, what: Try, end: Option<End>) {
        self.left(replica, what, end.is_some());
        let attempt = what.attempt;
        match end {
            Some(End::Returns) => self.apply(what.call, Event::Return { attempt }),
            Some(End::Raises) => self.apply(what.call, Event::Raise { attempt }),
            Some(End::Crashes | End::Hangs) | None => None,
        };
    }

    fn report(&mut self, machine: usize, sent: Micros, replicas: Vec<Reported>) {
        let view = &mut self.machines[machine];
        if view.reported.is_some_and(|newest| sent <= newest) {
            return;
        }
        view.reported = Some(sent);
        view.heard = self.now;
        let was_silent = std::mem::take(&mut view.silent);
        if !view.joined {
            return self.join(machine, replicas);
        }
        if was_silent {
            self.refresh_all(machine);
        }
        let mut reported: BTreeMap<ReplicaNo, Reported> =
            replicas.into_iter().map(|replica| (replica.replica, replica)).collect();
        for name in self.machines[machine].replicas.clone() {
            match reported.remove(&name) {
                Some(replica) => self.compare(machine, sent, &replica),
                None if self.replicas[&name].told + LARGEST_LAG < sent => {
                    self.lose_replica(name, |_| Blame::Machine)
                }
                None => {}
            }
        }
        for replica in reported.into_keys() {
            self.tell(machine, ToMachine::Stop { replica });
        }
    }

    fn join(&mut self, machine: usize, replicas: Vec<Reported>) {
        if !replicas.is_empty() {
            for replica in replicas {
                self.tell(machine, ToMachine::Stop { replica: replica.replica });
            }
            return;
        }
        self.machines[machine].joined = true;
        self.set_schedulable(machine, true);
        self.send_poll(machine);
        self.look_for_room = true;
        if !self.recovered && self.machines.iter().all(|view| view.joined) {
            self.recover();
        }
    }

    /// What the machine has of a replica against what we gave it.
    fn compare(&mut self, machine: usize, sent: Micros, reported: &Reported) {
        let name = reported.replica;
        if reported.ready {
            self.ready(name);
        }
        if self.replicas.get(&name).is_some_and(|replica| replica.phase == Phase::Stopping) {
            self.tell(machine, ToMachine::Stop { replica: name });
        }
        let Some(replica) = self.replicas.get(&name) else { return };
        let given: Vec<(Try, Micros)> = replica.inputs.iter().map(|(&what, &at)| (what, at)).collect();
        let unknown = reported.inputs.iter().filter(|what| !replica.inputs.contains_key(what));
        let mut canceled: Vec<Try> = unknown.copied().collect();
        for (what, at) in given {
            if !reported.inputs.contains(&what) {
                if at + LARGEST_LAG < sent {
                    self.left(name, what, false);
                    let code = clunk_core::ErrorCode::ContainerCrashed;
                    self.apply(what.call, Event::Lose { attempt: what.attempt, code, blame: Blame::Machine });
                }
            } else if !self.is_current(what) {
                canceled.push(what);
            }
        }
        for what in canceled {
            self.tell(machine, ToMachine::Cancel { replica: name, what });
        }
    }
}
