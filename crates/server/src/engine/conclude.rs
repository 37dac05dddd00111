//! From an event to what follows of it: another attempt, or an end that somebody is told of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_agent::frame::WINDOW;
use clunk_agent::replica::now_ms;
use clunk_agent::{Metric, OutputFile, Replica, Value};
use clunk_core::call::{Action, Blame, Event, Outcome};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::Retries;
use clunk_core::id::{CallId, ReplicaId};
use clunk_store::Change;

use super::durable;
use super::live::{End, Finished, Live, Sink, Streamed};
use super::observer::{Finish, ObservedEnd, Observer};
use super::pool::{Pool, State};

/// Values of a watched generator that are credited together.
const OBSERVED_CREDIT: u64 = WINDOW as u64 / 4;

/// Lets a generator give more when it is dropped: when what it gave has been kept.
pub struct Credit {
    replica: Arc<Replica>,
    number: u64,
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.replica.credit(self.number, OBSERVED_CREDIT as u32);
    }
}

impl Pool {
    /// Applies an event to a call and does what follows from it.
    pub(super) fn conclude(self: &Arc<Self>, state: &mut State, id: CallId, event: Event, end: Option<End>) {
        let Some(live) = state.calls.get_mut(&id) else { return };
        // A generator that has given values cannot be run again without giving them twice.
        let none = Retries::default();
        let retries = if live.is_stream() { &none } else { &self.spec.policy.retries };
        let applied = match (event, live.yielded) {
            (Event::Lose { attempt, code, .. }, 1..) => {
                live.state.apply(retries, Event::Lose { attempt, code, blame: Blame::Call })
            }
            (event, _) => live.state.apply(retries, event),
        };
        let (next, actions) = match applied {
            Ok(applied) => applied,
            Err(error) => {
                tracing::debug!(call = %id, ?event, %error, "an event came too late");
                return;
            }
        };
        live.state = next;
        if let Some(end) = end {
            live.last = Some(end);
        }
        self.engine.changed(self, live);
        for action in actions {
            match action {
                Action::Send { .. } => {}
                Action::Stop { .. } => self.stop_attempt(state, id),
                Action::Enqueue { delay_ms } => self.requeue(state, id, delay_ms),
                Action::Answer(outcome) => self.deliver(state, id, outcome),
            }
        }
    }

    fn stop_attempt(&self, state: &mut State, id: CallId) {
        let Some((replica, number)) = state.calls.get_mut(&id).and_then(|live| live.at.take()) else {
            return;
        };
        if let Some(slot) = state.replicas.get(&replica) {
            slot.replica.cancel(number);
        }
    }

    /// A call waits again.
    fn requeue(&self, state: &mut State, id: CallId, delay_ms: u64) {
        let Some(live) = state.calls.get_mut(&id) else { return };
        live.at = None;
        live.queued_at = Instant::now();
        if delay_ms == 0 {
            let place = live.place;
            return state.queue.push(place, id);
        }
        if live.is_durable() {
            durable::requeued(self, live, now_ms() + delay_ms);
        }
        state.delayed.insert((Instant::now() + Duration::from_millis(delay_ms), id));
        self.wake.notify_one();
    }

    /// Tells who waits, and writes it down.
    fn deliver(&self, state: &mut State, id: CallId, outcome: Outcome) {
        let Some(mut live) = state.calls.remove(&id) else { return };
        state.queue.remove(live.place);
        if let Some(at) = live.expires_at {
            state.expiring.remove(&(at, id));
        }
        let had_room = state.has_room();
        match live.is_durable() {
            true => state.queue.release(live.held_bytes()),
            false => state.held_bytes = state.held_bytes.saturating_sub(live.held_bytes()),
        }
        if !had_room && state.has_room() {
            self.room.notify_waiters();
        }
        self.meter.call_ended();
        self.engine.count_ended();
        let end = live.last.take().unwrap_or_else(|| End::Failed(outcome_error(outcome)));
        live.last = Some(end.clone());
        let record = live.record(self, Some(now_ms()));
        let logged = live.logged();
        match live.sink {
            Sink::Durable { .. } => {
                return match self.observer() {
                    Some(observer) => {
                        let observed = observed(&end, live.files);
                        observer.ended(
                            record.clone(),
                            observed,
                            Finish { engine: self.engine.clone(), record, end },
                        );
                    }
                    None => durable::ended(&self.engine, record, end, live.request.json),
                };
            }
            Sink::One(waiter) => {
                let _ = waiter.send(Finished { id, end, logged });
            }
            Sink::Map { outbox, index } => outbox.answer(index, end),
            // The bound of the channel is above what the runner may have under way.
            Sink::Stream(stream) => drop(stream.try_send(Streamed::End(Finished { id, end, logged }))),
        }
        self.engine.store.record(Change::Ended { record, result: None, done: None });
    }

    /// A generator has given a value.
    pub(super) fn yielded(&self, replica: ReplicaId, number: u64, value: Value) {
        let mut state = self.lock();
        let State { replicas, calls, .. } = &mut *state;
        let Some(slot) = replicas.get(&replica) else { return };
        let Some(live) = slot.running.get(&number).and_then(|one| calls.get_mut(&one.call)) else { return };
        live.yielded += 1;
        match (&live.sink, self.observer()) {
            (Sink::Stream(stream), _) => drop(stream.try_send(Streamed::Value(value.payload))),
            (Sink::Durable { .. }, Some(observer)) => {
                let credit = (live.yielded % OBSERVED_CREDIT == 0)
                    .then(|| Credit { replica: slot.replica.clone(), number });
                observer.yielded(live.request.id, value, credit);
            }
            _ => {}
        }
    }

    /// The observer of a call that runs, with the call; None when nobody watches.
    fn observed_call(&self, replica: ReplicaId, number: u64, tell: impl FnOnce(&dyn Observer, CallId)) {
        let Some(observer) = self.observer() else { return };
        let state = self.lock();
        let running = state.replicas.get(&replica).and_then(|slot| slot.running.get(&number));
        if let Some(running) = running {
            tell(observer.as_ref(), running.call);
        }
    }

    pub(super) fn printed(&self, replica: ReplicaId, number: u64, stream: &str, text: &str) {
        self.observed_call(replica, number, |observer, call| observer.printed(call, stream, text));
    }

    pub(super) fn metric(&self, replica: ReplicaId, number: u64, metric: Metric) {
        self.observed_call(replica, number, |observer, call| observer.metric(call, metric));
    }

    /// The client of a generator has taken values.
    pub fn credit(&self, id: CallId, count: u32) {
        let state = self.lock();
        let at = state.calls.get(&id).and_then(|live| live.at);
        if let Some((slot, number)) =
            at.and_then(|(replica, number)| Some((state.replicas.get(&replica)?, number)))
        {
            slot.replica.credit(number, count);
        }
    }

    /// Cancels a call that is in memory. `terminate`: with the container that runs it. False: it is not here.
    pub fn cancel(self: &Arc<Self>, id: CallId, terminate: bool) -> bool {
        let mut state = self.lock();
        let Some(live) = state.calls.get(&id) else { return false };
        let at = live.at;
        let error = ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled");
        self.conclude(&mut state, id, Event::Cancel, Some(End::Failed(error)));
        if let Some(slot) = at.filter(|_| terminate).and_then(|(replica, _)| state.replicas.get(&replica)) {
            slot.replica.kill();
        }
        true
    }

    /// Cancels every call that `which` picks; says how many.
    pub fn cancel_all(self: &Arc<Self>, which: impl Fn(&Live) -> bool, terminate: bool) -> u64 {
        let picked: Vec<_> =
            self.lock().calls.values().filter(|live| which(live)).map(|live| live.request.id).collect();
        picked.iter().filter(|id| self.cancel(**id, terminate)).count() as u64
    }
}

fn observed(end: &End, files: Vec<OutputFile>) -> ObservedEnd {
    match end {
        End::Value(payload) => ObservedEnd::Returned(Value { payload: payload.clone(), files }),
        End::Raised(raised) => ObservedEnd::Raised(raised.clone()),
        End::Failed(error) => ObservedEnd::Failed(error.clone()),
    }
}

fn outcome_error(outcome: Outcome) -> ErrorBody {
    match outcome {
        Outcome::Canceled => ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled"),
        Outcome::Expired => {
            ErrorBody::new(ErrorCode::CallExpired, "no container became free for the call in time")
        }
        Outcome::Failed { code } => ErrorBody::new(code, "the call could not be run to its end"),
        Outcome::Succeeded | Outcome::Raised | Outcome::TimedOut => {
            ErrorBody::new(ErrorCode::Internal, "the call ended without saying how")
        }
    }
}
