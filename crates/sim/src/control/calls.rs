//! The calls: events to the state machine, and its actions done.

use std::cmp::Reverse;

use clunk_core::ErrorCode;
use clunk_core::call::{Action, CallState, Event, Outcome, Rejected};

use super::{Control, Mutation, Output, Record, Timer};
use crate::message::{CallNo, ReplicaNo, ToMachine, Try};
use crate::schedule::{MILLISECOND, Micros};

/// Higher priorities first, then in order of arrival.
pub(super) type QueueKey = (Reverse<i32>, u64, CallNo);

#[derive(Debug)]
pub(super) struct Call {
    state: CallState,
    replica: Option<ReplicaNo>,
    arrival: u64,
    pub(super) arrived: Micros,
}

impl Control {
    /// A client sends a call; sent again it is the same call.
    pub fn submit(&mut self, call: CallNo) {
        if self.calls.contains_key(&call) {
            return;
        }
        if self.plan.calls[call.0 as usize].durable {
            self.out.push(Output::Write(Record::Accept(call)));
        } else {
            self.enter(call);
        }
    }

    /// A call is accepted.
    pub fn enter(&mut self, call: CallNo) {
        if self.calls.contains_key(&call) {
            return;
        }
        self.arrivals += 1;
        let entry = Call { state: CallState::NEW, replica: None, arrival: self.arrivals, arrived: self.now };
        self.calls.insert(call, entry);
        let plan = self.plan.clone();
        let planned = &plan.calls[call.0 as usize];
        if let Some(after) = planned.expires_after {
            self.timers.insert((self.now + after, Timer::Expire(call)));
        }
        self.pools[planned.function].arrived(self.now);
        self.enqueue(call);
    }

    pub fn cancel(&mut self, call: CallNo) {
        self.apply(call, Event::Cancel);
    }

    pub(super) fn expire(&mut self, call: CallNo) {
        // What was tried once is worth its time.
        if self.calls.get(&call).is_some_and(|entry| entry.state.attempts() == 0) {
            self.apply(call, Event::Expire);
        }
    }

    pub(super) fn time_out(&mut self, what: Try) {
        self.apply(what.call, Event::TimeOut { attempt: what.attempt });
    }

    pub(super) fn retry(&mut self, call: CallNo) {
        if self.calls.get(&call).is_some_and(|entry| matches!(entry.state, CallState::Queued { .. })) {
            self.enqueue(call);
        }
    }

    pub(super) fn refuse_queued(&mut self, pool: usize, code: ErrorCode) {
        let queued: Vec<CallNo> = self.pools[pool].queue.iter().map(|&(_, _, call)| call).collect();
        for call in queued {
            self.apply(call, Event::Refuse { code });
        }
    }

    fn pool_of(&self, call: CallNo) -> usize {
        self.plan.calls[call.0 as usize].function
    }

    fn queue_key(&self, call: CallNo) -> QueueKey {
        let arrival = self.calls.get(&call).map_or(0, |entry| entry.arrival);
        (Reverse(self.plan.calls[call.0 as usize].priority), arrival, call)
    }

    fn enqueue(&mut self, call: CallNo) {
        let (pool, key) = (self.pool_of(call), self.queue_key(call));
        // A pool that was only kept warm has other claims with a call that waits.
        self.look_for_room |= self.pools[pool].queue.is_empty();
        self.pools[pool].queue.insert(key);
        self.dirty.insert(pool);
    }

    /// Takes an event to a call, and does what follows. Gives the attempt to send, if there is one.
    pub(super) fn apply(&mut self, call: CallNo, event: Event) -> Option<u32> {
        let retries = self.plan.functions[self.pool_of(call)].retries;
        let entry = self.calls.get_mut(&call)?;
        let before = entry.state;
        let applied = match before.apply(&retries, event) {
            Err(Rejected::Stale { current, .. }) if self.mutation == Mutation::IgnoreFence => {
                before.apply(&retries, as_if_current(event, current))
            }
            other => other,
        };
        let (state, actions) = applied.ok()?;
        entry.state = state;
        let replica = entry.replica.take_if(|_| !matches!(state, CallState::Running { .. }));
        let (pool, key) = (self.pool_of(call), self.queue_key(call));
        self.pools[pool].queue.remove(&key);
        self.dirty.insert(pool);
        let mut send = None;
        for action in actions {
            match action {
                Action::Send { attempt } => send = Some(attempt),
                Action::Enqueue { .. } if self.mutation == Mutation::ForgetRetry => {}
                Action::Enqueue { delay_ms: 0 } => self.enqueue(call),
                Action::Enqueue { delay_ms } => {
                    self.timers.insert((self.now + delay_ms * MILLISECOND, Timer::Retry(call)));
                }
                Action::Stop { attempt } => self.stop_input(replica, Try { call, attempt }),
                Action::Answer(outcome) => self.answer(call, outcome, state.attempts()),
            }
        }
        send
    }

    fn answer(&mut self, call: CallNo, outcome: Outcome, attempts: u32) {
        self.calls.remove(&call);
        self.out.push(if self.plan.calls[call.0 as usize].durable {
            Output::Write(Record::End { call, outcome, attempts, epoch: self.epoch })
        } else {
            Output::Answer { call, outcome, attempts }
        });
    }

    /// The slot stays taken until the machine says that the input has stopped.
    fn stop_input(&mut self, replica: Option<ReplicaNo>, what: Try) {
        let Some((number, replica)) =
            replica.and_then(|number| Some((number, self.replicas.get_mut(&number)?)))
        else {
            return;
        };
        let machine = replica.machine;
        if self.mutation == Mutation::FreeSlotEarly {
            replica.inputs.remove(&what);
            self.refresh(number);
        }
        self.tell(machine, ToMachine::Cancel { replica: number, what });
    }

    /// Gives queued calls to free slots.
    pub(super) fn dispatch(&mut self, pool: usize) {
        let plan = self.plan.clone();
        let function = &plan.functions[pool];
        if self.mutation == Mutation::StarveOne && function.workspace == "red" {
            return;
        }
        loop {
            let (queued, free) = (self.pools[pool].queue.first(), self.pools[pool].free.first());
            let (Some(&(_, _, call)), Some(&(_, number))) = (queued, free) else { return };
            let Some(attempt) = self.apply(call, Event::Dispatch) else { return };
            let what = Try { call, attempt };
            if let Some(entry) = self.calls.get_mut(&call) {
                entry.replica = Some(number);
            }
            let Some(replica) = self.replicas.get_mut(&number) else { return };
            let machine = replica.machine;
            replica.inputs.insert(what, self.now);
            self.refresh(number);
            self.timers.insert((self.now + function.timeout, Timer::TimeOut(what)));
            self.tell(machine, ToMachine::Input { replica: number, what });
        }
    }

    /// Whether this attempt is the one that runs.
    pub(super) fn is_current(&self, what: Try) -> bool {
        let entry = self.calls.get(&what.call);
        entry.is_some_and(
            |entry| matches!(entry.state, CallState::Running { attempt, .. } if attempt == what.attempt),
        )
    }
}

fn as_if_current(event: Event, current: u32) -> Event {
    match event {
        Event::Return { .. } => Event::Return { attempt: current },
        Event::Raise { .. } => Event::Raise { attempt: current },
        Event::TimeOut { .. } => Event::TimeOut { attempt: current },
        Event::Lose { code, blame, .. } => Event::Lose { attempt: current, code, blame },
        Event::Dispatch | Event::Refuse { .. } | Event::Cancel | Event::Expire => event,
    }
}
