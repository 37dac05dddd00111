//! An autoscaler by the algorithm that Knative publishes: the average concurrency of a stable and of a panic window,
//! against a target for each replica, every two seconds.

use std::collections::VecDeque;

use super::{Orders, Scaler, View};
use crate::schedule::{Micros, SECOND};

const TICK: Micros = 2 * SECOND;
/// Seconds of the windows.
const STABLE: usize = 60;
const PANIC: usize = 6;
/// Panic begins when the panic window wants this many times what is there.
const PANIC_FROM: f64 = 2.0;
/// Share of a replica's slots to aim at.
const UTILISATION: f64 = 0.7;
/// In one decision at most so many times more, and at most this many times fewer.
const MOST_UP: f64 = 1000.0;
const MOST_DOWN: f64 = 2.0;

#[derive(Debug, Default)]
pub struct Knative {
    /// Average concurrency of each second, the newest last.
    seconds: VecDeque<f64>,
    /// Of the second that has begun: input-seconds so far.
    current: f64,
    concurrency: f64,
    seen: Micros,
    decided: Option<Micros>,
    panic_until: Micros,
    desired: usize,
}

impl Knative {
    /// Counts the concurrency since it was last seen.
    fn count(&mut self, now: Micros) {
        while self.seen < now {
            let second_ends = (self.seen / SECOND + 1) * SECOND;
            let until = second_ends.min(now);
            self.current += self.concurrency * (until - self.seen) as f64 / SECOND as f64;
            self.seen = until;
            if until == second_ends {
                self.seconds.push_back(std::mem::take(&mut self.current));
                if self.seconds.len() > STABLE {
                    self.seconds.pop_front();
                }
            }
        }
    }

    fn average(&self, window: usize) -> f64 {
        let count = self.seconds.len().min(window);
        if count == 0 { 0.0 } else { self.seconds.iter().rev().take(window).sum::<f64>() / count as f64 }
    }

    fn tick(&mut self, view: &View) {
        let target = (f64::from(view.slots) * UTILISATION).max(0.01);
        let ready = view.ready.max(1) as f64;
        let (most, least) = ((MOST_UP * ready).ceil(), (ready / MOST_DOWN).floor());
        let least = if view.ready == 0 { 0.0 } else { least };
        let limit = |wanted: f64| wanted.clamp(least, most);
        let stable = limit((self.average(STABLE) / target).ceil());
        let panic = limit((self.average(PANIC) / target).ceil());
        if panic / ready >= PANIC_FROM {
            self.panic_until = view.now + STABLE as u64 * SECOND;
        }
        let wanted = if view.now < self.panic_until {
            // While it lasts nothing is taken away.
            (stable.max(panic) as usize).max(self.desired)
        } else {
            stable as usize
        };
        self.desired = wanted;
    }
}

impl Scaler for Knative {
    fn decide(&mut self, view: &View) -> Orders {
        self.count(view.now);
        self.concurrency = (view.queued + view.running) as f64;
        if self.decided.is_none_or(|at| view.now >= at + TICK) {
            self.decided = Some(view.now);
            self.tick(view);
        }
        // A request for what has no replica starts one at once.
        if view.queued > 0 && view.ready + view.starting == 0 {
            self.desired = self.desired.max(1);
        }
        let there = view.ready + view.starting;
        let over = view.ready.min(there.saturating_sub(self.desired));
        let stop_idle = over.min(view.idle.len());
        let next = self.decided.unwrap_or(0) + TICK;
        let has_something = there > 0 || self.concurrency > 0.0;
        Orders {
            start: self.desired.saturating_sub(there),
            stop_idle,
            retire: over - stop_idle,
            wake_at: has_something.then_some(next),
        }
    }
}
