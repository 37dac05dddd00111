//! Predictions that the process has before their turn, so that it need not wait between short ones.
//!
//! They stay what they were, waiting: they begin when the answer before theirs has come, and when their process goes away
//! they are in front of the queue again. While predictions take long, nothing is gained by it and nothing is staged.

use std::sync::Arc;
use std::time::Duration;

use clunk_agent::{AHEAD_MAX, Replica};

use super::{Job, Lane, Work};
use crate::life::{Event, Health};
use crate::prediction::Prediction;

/// A prediction that takes longer is not worth the haste: the way to the process and back is a tenth of that.
pub(super) const BRISK: Duration = Duration::from_millis(1);
/// Bytes of arguments that may lie in a socket.
const STAGED_SIZE_MAX: u64 = 16 << 10;

impl Lane {
    /// Gives what waits to the process before its turn.
    pub(super) fn stage(&self, work: &mut Work) {
        while work.brisk
            && work.free == 0
            && self.concurrency() == 1
            && work.health == Health::Up
            && !work.retiring
            && work.staged.len() < AHEAD_MAX as usize
            && work.queue.front().is_some_and(|next| next.size <= STAGED_SIZE_MAX)
            && let Some(replica) = work.replica.clone()
            && let Some(prediction) = work.queue.pop_front()
        {
            work.queued_bytes = work.queued_bytes.saturating_sub(prediction.size);
            let Some(payload) = prediction.payload() else { continue };
            let number = work.next;
            work.next += 1;
            let call = self.dispatch(number, prediction.control.clone(), payload);
            work.staged.push_back((number, prediction));
            replica.send(&[call], false);
        }
    }
}

impl Work {
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.staged.len()
    }

    /// What the process has begun with by now.
    pub(super) fn promote(&mut self) {
        while self.free > 0
            && let Some((number, prediction)) = self.staged.pop_front()
        {
            // One that was canceled meanwhile has a place until the process has answered.
            prediction.step(Event::Dispatched, |record| record.number = number);
            self.free -= 1;
            self.running.insert(number, Job::Run(prediction));
        }
    }

    /// The number under which a process has a prediction before its turn.
    pub(super) fn staged_as(&self, prediction: &Arc<Prediction>) -> Option<(u64, Arc<Replica>)> {
        let found = self.staged.iter().find(|(_, other)| Arc::ptr_eq(other, prediction));
        Some((found?.0, self.replica.clone()?))
    }

    /// The process never got these: they were canceled before.
    pub(super) fn forget_staged(&mut self, numbers: &[u64]) {
        self.staged.retain(|(number, _)| !numbers.contains(number));
    }

    /// The process is gone: what it had not begun with waits for the next.
    pub(super) fn unstage(&mut self) {
        while let Some((_, prediction)) = self.staged.pop_back() {
            if !prediction.is_ended() {
                self.queued_bytes += prediction.size;
                self.queue.push_front(prediction);
            }
        }
    }
}
