//! Our autoscaler, as the engine asks it: whenever something changes.

use clunk_core::autoscaler::{Bounds, Demand, decide};
use clunk_core::measure::{Average, Rate};

use super::{Orders, Scaler, View};
use crate::schedule::{MILLISECOND, Micros};

pub struct Ours {
    bounds: Bounds,
    service_ms: Average,
    cold_start_ms: Average,
    rate: Rate,
}

impl Ours {
    pub fn new(scaledown_window: Micros) -> Self {
        let scaledown_window_ms = scaledown_window / MILLISECOND;
        let bounds = Bounds { min: 0, max: u32::MAX, buffer: 0, scaledown_window_ms };
        let (service_ms, cold_start_ms, rate) = Default::default();
        Self { bounds, service_ms, cold_start_ms, rate }
    }
}

fn ms(micros: Micros) -> f64 {
    micros as f64 / MILLISECOND as f64
}

impl Scaler for Ours {
    fn decide(&mut self, view: &View) -> Orders {
        let demand = Demand {
            queued: view.queued as u64,
            running: view.running as u32,
            ready: view.ready as u32,
            starting: view.starting as u32,
            slots: view.slots,
            target: view.slots,
            service_ms: self.service_ms.get(),
            oldest_running_ms: view.oldest.map_or(0.0, |since| ms(view.now.saturating_sub(since))),
            cold_start_ms: self.cold_start_ms.get(),
            arrivals_per_s: self.rate.per_s(ms(view.now)),
            idle_ms: view.idle.iter().map(|&(since, _)| (view.now - since) / MILLISECOND).collect(),
        };
        let decision = decide(&demand, &self.bounds);
        Orders {
            start: (decision.wanted as usize).saturating_sub(view.ready + view.starting),
            stop_idle: decision.stop_idle as usize,
            retire: 0,
            // Ages are in whole milliseconds.
            wake_at: decision.wake_in_ms.map(|in_ms| view.now + (in_ms + 1) * MILLISECOND),
        }
    }

    fn arrived(&mut self, now: Micros) {
        self.rate.arrived(ms(now));
    }

    fn served(&mut self, held: Micros) {
        self.service_ms.add(ms(held));
    }

    fn became_ready(&mut self, took: Micros) {
        self.cold_start_ms.add(ms(took));
    }
}
