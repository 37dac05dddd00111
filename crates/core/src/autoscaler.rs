//! How many replicas a function should have: one decision from what is seen now, without memory of the ones before.
//!
//! Calls that wait are worth a replica each, unless those that are there would have begun them all before a new one could
//! be ready. Decisions do not flap because a start under way counts like a replica that is there, and because only
//! time without work stops one.

/// What is asked of a function, and what it has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Demand {
    /// Inputs that wait for a slot.
    pub queued: u64,
    /// Inputs that are on replicas.
    pub running: u32,
    pub ready: u32,
    pub starting: u32,
    /// Inputs that one replica takes at a time.
    pub slots: u32,
    /// Inputs per replica to aim at; at most `slots`.
    pub target: u32,
    /// Moving average of how long an input holds its slot. None: nothing has ended yet.
    pub service_ms: Option<f64>,
    /// How long the input that runs longest has been running.
    pub oldest_running_ms: f64,
    /// How long a replica takes from the decision to being ready. None: none was started yet.
    pub cold_start_ms: Option<f64>,
    pub arrivals_per_s: f64,
    /// How long each idle replica has been idle, in any order.
    pub idle_ms: Vec<u64>,
}

/// What the function's policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
    pub buffer: u32,
    pub scaledown_window_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Replicas, starting or ready, that there should be. More than there are: start the difference. Fewer: a start that
    /// has not begun need not begin.
    pub wanted: u32,
    /// How many of those that are idle to stop now, the longest idle first.
    pub stop_idle: u32,
    /// After this time the answer is another one although nothing else has changed.
    pub wake_in_ms: Option<u64>,
}

/// Before the first start was measured: some images start sooner, but one replica too many costs less than a late one.
const ASSUMED_COLD_START_MS: f64 = 1000.0;
/// An input that has held its slot for this many averages, and a cold start, does not end soon: its like may hold others.
const STUCK_AFTER_AVERAGES: f64 = 4.0;
/// Shorter measurements are noise of the clock, and they are divided by.
const SHORTEST_MS: f64 = 0.001;
/// Share of a replica by which steady demand may exceed the replicas before it is worth one more: arrivals are estimated.
const STEADY_TOLERANCE: f64 = 0.1;

pub fn decide(demand: &Demand, bounds: &Bounds) -> Decision {
    let (needed, reconsider_in_ms) = needed(demand);
    let work = demand.queued > 0 || demand.running > 0;
    let buffer = if work { bounds.buffer } else { 0 };
    let floor = needed.saturating_add(buffer).max(bounds.min).min(bounds.max);
    let (stop_idle, window_ends_in_ms) = idle_to_stop(demand, bounds, floor);
    Decision {
        wanted: floor.max(demand.ready - stop_idle.min(demand.ready)).min(bounds.max),
        stop_idle,
        wake_in_ms: [reconsider_in_ms, window_ends_in_ms].into_iter().flatten().min(),
    }
}

/// Replicas for the work that is there, and when to look again at work that is not worth a replica yet.
fn needed(demand: &Demand) -> (u32, Option<u64>) {
    let target = f64::from(demand.target.max(1));
    let busy = demand.ready.saturating_sub(count(demand.idle_ms.len()));
    // One slot for each input: no burst asks for more.
    let ceiling = whole((demand.queued as f64 + f64::from(demand.running)) / target);
    let Some(service_ms) = demand.service_ms.map(|service_ms| service_ms.max(SHORTEST_MS)) else {
        return (ceiling.max(busy), None);
    };
    let cold_start_ms = demand.cold_start_ms.unwrap_or(ASSUMED_COLD_START_MS).max(SHORTEST_MS);
    let arrivals_per_ms = demand.arrivals_per_s.max(0.0) / 1000.0;
    // Inputs in service at a time, by Little's law.
    let steady = whole(arrivals_per_ms * service_ms / target - STEADY_TOLERANCE).min(ceiling);

    let slots = f64::from(demand.ready) * f64::from(demand.slots.max(1));
    let above_target = (f64::from(demand.running) - f64::from(demand.ready) * target).max(0.0);
    let pressing = demand.queued as f64 + above_target;
    let stuck_after_ms = cold_start_ms + STUCK_AFTER_AVERAGES * service_ms;
    let is_stuck = demand.oldest_running_ms >= stuck_after_ms;
    let turning = if is_stuck { (slots - f64::from(demand.running)).max(0.0) } else { slots };
    // Inputs that still wait when a replica that is started now is ready.
    let left = pressing + (arrivals_per_ms - turning / service_ms) * cold_start_ms;
    if pressing <= 0.0 || left <= 0.0 {
        let look_again = pressing > 0.0 && !is_stuck && demand.running > 0;
        let in_ms = (stuck_after_ms - demand.oldest_running_ms).ceil() as u64;
        return (busy.max(steady), look_again.then_some(in_ms));
    }
    // As many as work off in one more cold start what is left: with fewer it waits longer than it must, with more they
    // would hardly have begun when it is done.
    let more = whole(left * service_ms / cold_start_ms / target).max(1);
    (demand.ready.saturating_add(more).min(ceiling).max(steady).max(busy), None)
}

/// How many idle replicas to stop, and when the window of the next one ends.
fn idle_to_stop(demand: &Demand, bounds: &Bounds, floor: u32) -> (u32, Option<u64>) {
    let idle = count(demand.idle_ms.len());
    let above_max = demand.ready.saturating_sub(bounds.max);
    let spare = demand.ready.saturating_sub(floor);
    let over = demand.idle_ms.iter().filter(|&&age_ms| age_ms >= bounds.scaledown_window_ms).count();
    let stop = count(over).min(spare).max(above_max).min(idle);
    // Those that stop are the oldest; while some are spare, the ones that are left are within their window.
    let next = demand.idle_ms.iter().copied().filter(|&age_ms| age_ms < bounds.scaledown_window_ms).max();
    let wake = next.filter(|_| spare > stop).map(|age_ms| bounds.scaledown_window_ms - age_ms);
    (stop, wake)
}

/// The next whole number, within what a count can be.
fn whole(number: f64) -> u32 {
    number.max(0.0).ceil() as u32
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
