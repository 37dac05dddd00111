//! From an event to what follows of it: another attempt, or an end that somebody is told of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_agent::Payload;
use clunk_agent::replica::now_ms;
use clunk_core::call::{Action, Blame, Event, Outcome};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::Retries;
use clunk_core::id::{CallId, ReplicaId};
use clunk_store::Change;

use super::durable;
use super::live::{End, Finished, Live, Sink, Streamed};
use super::pool::{Pool, State};

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
            Sink::Durable { .. } => return durable::ended(&self.engine, record, end, live.request.json),
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
    pub(super) fn yielded(&self, replica: ReplicaId, number: u64, value: Payload) {
        let mut state = self.lock();
        let call =
            state.replicas.get(&replica).and_then(|slot| slot.running.get(&number)).map(|one| one.call);
        let Some(live) = call.and_then(|id| state.calls.get_mut(&id)) else { return };
        live.yielded += 1;
        if let Sink::Stream(stream) = &live.sink {
            let _ = stream.try_send(Streamed::Value(value));
        }
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
