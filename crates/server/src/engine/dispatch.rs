//! From the queue to a replica, and what a replica answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_agent::payload::MAX_PAYLOAD;
use clunk_agent::replica::now_ms;
use clunk_agent::{CallEnd, Dispatch, Value};
use clunk_core::call::{Blame, Event};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{CallId, ReplicaId};

use super::durable;
use super::live::{End, Live};
use super::pool::{Phase, Pool, Running, Slot, State};

impl Pool {
    /// Gives waiting calls to free replicas.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State) {
        if state.closed.is_some() {
            return;
        }
        while !state.free.is_empty() && !self.engine.store.behind() {
            let had_room = state.has_room();
            let taken = self.take(state);
            if taken.is_empty() {
                return;
            }
            let Some(key) = state.free.pop_first() else { return };
            self.send(state, key.2, taken);
            if !had_room && state.has_room() {
                self.room.notify_waiters();
            }
        }
    }

    /// The next calls that go to one replica together: one, or a batch that is full or has waited long enough.
    fn take(&self, state: &mut State) -> Vec<CallId> {
        let Some((place, first)) = state.queue.first() else { return Vec::new() };
        let Some(batching) = self.spec.policy.batching else {
            state.queue.remove(place);
            return vec![first];
        };
        let json = state.calls.get(&first).is_some_and(|live| live.request.json);
        let alike = |id: &CallId| state.calls.get(id).is_some_and(|live| live.request.json == json);
        let most = batching.max_batch_size as usize;
        let taken: Vec<_> = state.queue.iter().take(most).take_while(|(_, id)| alike(id)).collect();
        let waited = state.calls.get(&first).map_or(Duration::MAX, |live| live.queued_at.elapsed());
        if taken.len() < most && waited < Duration::from_millis(batching.wait_ms) {
            self.wake.notify_one();
            return Vec::new();
        }
        for (place, _) in &taken {
            state.queue.remove(*place);
        }
        taken.into_iter().map(|(_, id)| id).collect()
    }

    /// Sends calls to a replica as one group.
    fn send(self: &Arc<Self>, state: &mut State, replica: ReplicaId, calls: Vec<CallId>) {
        let now = Instant::now();
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        let group = slot.next_number;
        let mut dispatches = Vec::with_capacity(calls.len());
        let mut unreadable = Vec::new();
        for id in &calls {
            let Some(live) = state.calls.get_mut(id) else { continue };
            let number = slot.next_number;
            slot.next_number += 1;
            if let Ok((next, _)) = live.state.apply(&self.spec.policy.retries, Event::Dispatch) {
                live.state = next;
            }
            let attempt = live.state.attempts();
            let payload = match durable::payload(&self.engine, &live.request.input) {
                Ok(payload) => payload,
                Err(error) => {
                    unreadable.push((*id, attempt, error));
                    continue;
                }
            };
            live.started_ms = Some(now_ms());
            live.last = None;
            live.at = Some((replica, number));
            slot.running.insert(number, Running { call: *id, attempt, since: now, group });
            self.engine.changed(self, live);
            if let Some(observer) = self.observer() {
                observer.started(*id, attempt);
            }
            let (control, logged) = (control(live), live.logged.clone());
            dispatches.push(Dispatch { number, id: *id, control, payload, logged });
        }
        if !dispatches.is_empty() {
            self.hand_over(state, replica, group, &dispatches);
        }
        for (id, attempt, error) in unreadable {
            let event = Event::Lose { attempt, code: error.code, blame: Blame::Call };
            self.conclude(state, id, event, Some(End::Failed(error)));
        }
        self.refree(state, replica);
    }

    /// Gives a group to a replica.
    fn hand_over(&self, state: &mut State, replica: ReplicaId, group: u64, dispatches: &[Dispatch]) {
        let now = Instant::now();
        state.stamp += 1;
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        slot.groups.insert(group, dispatches.len() as u32);
        let deadline = now + Duration::from_secs(self.spec.policy.timeout_s);
        if state.planned.is_none_or(|planned| planned > deadline) {
            self.wake.notify_one();
        }
        (slot.stamp, slot.used) = (state.stamp, now);
        if !slot.replica.send(dispatches, self.spec.policy.batching.is_some()) {
            // It ends; what is on its list is moved when its owner hears of that.
            slot.phase = Phase::Ending;
        }
    }

    /// Puts a replica where the next call finds it, if it has a place.
    pub(super) fn refree(&self, state: &mut State, replica: ReplicaId) {
        let single_use = self.spec.policy.single_use;
        let Some(slot) = state.replicas.get_mut(&replica) else { return };
        if slot.phase != Phase::Ready || slot.groups.len() as u32 >= self.spec.slots() {
            return;
        }
        if slot.retiring || (single_use && slot.next_number > 1) {
            if slot.running.is_empty() {
                slot.phase = Phase::Ending;
                slot.replica.stop();
            }
            return;
        }
        let key = slot.key();
        state.free.insert(key);
    }

    /// A replica has answered.
    pub(super) fn answered(self: &Arc<Self>, replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64) {
        let mut state = self.lock();
        let Some(running) = self.freed(&mut state, replica, number) else { return };
        state.observe(running.since.elapsed());
        let attempt = running.attempt;
        if let Some(live) = state.calls.get_mut(&running.call) {
            live.cpu_us += cpu_us;
        }
        let (event, end) = match end {
            CallEnd::Returned(Value { payload, .. }) if payload.len() > MAX_PAYLOAD => {
                (Event::Raise { attempt }, End::Failed(too_large(payload.len())))
            }
            CallEnd::Returned(Value { payload, files }) => {
                if let Some(live) = state.calls.get_mut(&running.call) {
                    live.files = files;
                }
                (Event::Return { attempt }, End::Value(payload))
            }
            CallEnd::Raised(mut raised) => {
                if raised.message.contains(NO_SPACE) {
                    // No later call would fare better in it.
                    self.retire(&mut state, replica);
                    raised.message += &no_space(self.template.tmp_bytes());
                }
                (Event::Raise { attempt }, End::Raised(raised))
            }
        };
        self.conclude(&mut state, running.call, event, Some(end));
        self.refree(&mut state, replica);
        self.advance(&mut state);
        if state.replicas.get(&replica).is_some_and(Slot::is_idle) {
            // Its scale-down window begins: the keeper must look when it ends.
            let ends = Instant::now() + Duration::from_millis(self.bounds(&state).scaledown_window_ms);
            if state.planned.is_none_or(|planned| planned > ends) {
                self.wake.notify_one();
            }
        }
    }

    /// Takes a number off a replica.
    pub(super) fn freed(&self, state: &mut State, replica: ReplicaId, number: u64) -> Option<Running> {
        let slot = state.replicas.get_mut(&replica)?;
        let running = slot.running.remove(&number)?;
        state.free.remove(&slot.key());
        let left = slot.groups.get_mut(&running.group)?;
        *left -= 1;
        if *left == 0 {
            slot.groups.remove(&running.group);
        }
        slot.used = Instant::now();
        Some(running)
    }
}

/// How the C library says that a disk is full.
const NO_SPACE: &str = "No space left on device";

fn no_space(tmp_bytes: u64) -> String {
    let mib = tmp_bytes >> 20;
    format!(" (a container's /tmp holds {mib} MiB; this container is replaced, with all that lay there)")
}

fn too_large(len: u64) -> ErrorBody {
    let text = format!("the result has {len} bytes; at most {} GiB are passed on", MAX_PAYLOAD >> 30);
    ErrorBody::new(ErrorCode::PayloadTooLarge, text)
        .hint("return it in parts, with a generator or several calls")
}

/// Control text of a CALL frame.
fn control(live: &Live) -> String {
    let mut text = format!("id={}\n", live.request.id);
    if live.request.json {
        text.push_str("format=json\n");
    }
    if !live.request.method.is_empty() {
        text.push_str(&clunk_agent::frame::control([("method", live.request.method.as_ref())]));
    }
    if live.is_stream() {
        text.push_str("stream=1\n");
    }
    text
}
