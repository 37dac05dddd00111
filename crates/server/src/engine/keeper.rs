//! What only time brings: retries that fall due, calls that expire, attempts that run out of time, batches that have
//! waited long enough, replicas that are wanted no more.
//!
//! One task per function. It takes no input: woken by a signal or its own timer it looks at what is, does what is due, and
//! says when to look again. With nothing to do it has no timer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_core::call::Event;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::CallId;

use super::durable;
use super::live::End;
use super::pool::{Pool, State};

/// How long a signal waits for others: answers come faster than any decision matters.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs until the pool is closed and empty.
pub async fn keep(pool: Arc<Pool>) {
    loop {
        let (next, load, over) = {
            let mut state = pool.lock();
            let next = pool.look(&mut state);
            state.planned = next;
            let load = state.queue.wants().filter(|_| !state.loading && state.closed.is_none());
            state.loading |= load.is_some();
            (next, load, state.closed.is_some() && state.replicas.is_empty())
        };
        if let Some(load) = load {
            tokio::spawn(durable::load(pool.clone(), load));
        }
        if over {
            return;
        }
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pool.wake.notified() => tokio::time::sleep(PAUSE).await,
            () = timer => {}
        }
        if pool.engine.store.behind() {
            pool.engine.store.caught_up().await;
        }
    }
}

impl Pool {
    /// Does what is due. Returns when something else will be.
    fn look(self: &Arc<Self>, state: &mut State) -> Option<Instant> {
        let now = Instant::now();
        let retry = self.retry_due(state, now);
        let expiry = self.expire_due(state, now);
        self.dispatch(state);
        // Behind the dispatch: what has just begun has a deadline as well.
        let deadline = self.time_out_due(state, now);
        let batch = self.batch_due(state);
        let scaling = self.scale(state);
        [retry, expiry, deadline, batch, scaling].into_iter().flatten().min()
    }

    fn retry_due(&self, state: &mut State, now: Instant) -> Option<Instant> {
        while let Some((at, id)) = state.delayed.first().copied() {
            if at > now {
                return Some(at);
            }
            state.delayed.pop_first();
            if let Some(place) = state.calls.get(&id).map(|live| live.place) {
                state.queue.push(place, id);
            }
        }
        None
    }

    fn expire_due(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Instant> {
        while let Some((at, id)) = state.expiring.first().copied() {
            if at > now {
                return Some(at);
            }
            state.expiring.pop_first();
            // One that runs is not concerned.
            if state.calls.get(&id).is_some_and(|live| live.at.is_none()) {
                let text = "no container became free for the call in the time it may wait";
                let error = ErrorBody::new(ErrorCode::CallExpired, text);
                let hint = "raise max_containers=, or the limit it was submitted with";
                self.conclude(state, id, Event::Expire, Some(End::Failed(error.hint(hint))));
            }
        }
        None
    }

    fn time_out_due(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Instant> {
        let limit = Duration::from_secs(self.spec.policy.timeout_s);
        let running = state.replicas.iter().flat_map(|(replica, slot)| {
            slot.running.iter().map(move |(number, running)| (*replica, *number, running))
        });
        let mut due: Vec<(CallId, u32)> = Vec::new();
        let mut next = None;
        for (replica, number, running) in running {
            // One that was stopped already is watched by its agent.
            let current =
                state.calls.get(&running.call).is_some_and(|live| live.at == Some((replica, number)));
            if !current {
                continue;
            }
            let at = running.since + limit;
            if at <= now {
                due.push((running.call, running.attempt));
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
        for (id, attempt) in due {
            let end = End::Failed(timeout_error(limit));
            self.conclude(state, id, Event::TimeOut { attempt }, Some(end));
        }
        next
    }

    /// When the oldest batch that is not full goes on its way.
    fn batch_due(&self, state: &State) -> Option<Instant> {
        let batching = self.spec.policy.batching.filter(|_| !state.free.is_empty())?;
        let (_, first) = state.queue.first()?;
        Some(state.calls.get(&first)?.queued_at + Duration::from_millis(batching.wait_ms))
    }
}

fn timeout_error(limit: Duration) -> ErrorBody {
    let text = format!("the call ran for longer than its timeout of {} s", limit.as_secs());
    ErrorBody::new(ErrorCode::FunctionTimeout, text).hint("raise timeout= (seconds) on the function")
}
