//! Traces of arrivals under an autoscaler: what it costs, and how long calls wait.
//!
//! Each function is alone and there is always room, so that only the decisions differ.

mod knative;
mod ours;
mod trace;

use std::collections::{BTreeSet, VecDeque};

pub use knative::Knative;
pub use ours::Ours;
pub use trace::{FunctionTrace, Trace};

use crate::rng::Rng;
use crate::schedule::{Micros, SECOND, Schedule};

/// Columns of the plot.
const SAMPLES: usize = 96;
/// A replica is ready after its function's cold start, give or take this share of it.
const COLD_START_SPREAD: f64 = 0.3;

/// What an autoscaler sees of one function.
#[derive(Debug)]
pub struct View<'a> {
    pub now: Micros,
    pub queued: usize,
    pub running: usize,
    pub ready: usize,
    pub starting: usize,
    pub slots: u32,
    /// Since when the input runs that runs longest.
    pub oldest: Option<Micros>,
    /// Since when the idle replicas are idle, the longest idle first.
    pub idle: &'a BTreeSet<(Micros, usize)>,
}

/// What it decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Orders {
    pub start: usize,
    /// So many of the idle ones, the longest idle first.
    pub stop_idle: usize,
    /// So many are to stop when they become idle.
    pub retire: usize,
    pub wake_at: Option<Micros>,
}

/// An autoscaler of one function.
pub trait Scaler {
    /// Something has changed, or it is the time it asked for.
    fn decide(&mut self, view: &View) -> Orders;
    fn arrived(&mut self, _now: Micros) {}
    fn served(&mut self, _held: Micros) {}
    fn became_ready(&mut self, _took: Micros) {}
}

/// What one trace was like under one autoscaler.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub replica_s: f64,
    pub starts: u64,
    /// Microseconds from arrival to the start of each call, sorted.
    pub waits: Vec<Micros>,
    /// Replicas over time.
    pub replicas: Vec<f64>,
    pub events: u64,
}

impl Outcome {
    /// The wait in milliseconds that `share` (0 to 1) of the calls do not exceed.
    pub fn wait_ms(&self, share: f64) -> f64 {
        let at = ((self.waits.len() as f64 * share) as usize).min(self.waits.len().saturating_sub(1));
        self.waits.get(at).map_or(0.0, |&wait| wait as f64 / 1000.0)
    }
}

/// Replays all functions of a trace, each under an autoscaler of its own.
pub fn replay(trace: &Trace, make: impl Fn() -> Box<dyn Scaler>) -> Outcome {
    let mut total = Outcome { replicas: vec![0.0; SAMPLES], ..Outcome::default() };
    for (number, function) in trace.functions.iter().enumerate() {
        let rng = Rng::new(trace.seed ^ number as u64);
        let pool = Pool::new(function, make(), rng, trace.lasts / SAMPLES as u64);
        let one = pool.run(trace.lasts);
        total.replica_s += one.replica_s;
        total.starts += one.starts;
        total.events += one.events;
        total.waits.extend(one.waits);
        total.replicas.iter_mut().zip(one.replicas).for_each(|(sum, count)| *sum += count);
    }
    total.waits.sort_unstable();
    total
}

#[derive(Debug)]
enum Event {
    Arrive(usize),
    Ready(usize),
    /// The replica, and since when the input ran.
    Done(usize, Micros),
    Wake,
    Sample,
}

#[derive(Debug)]
struct Replica {
    began: Micros,
    ready: bool,
    inputs: u32,
}

struct Pool<'a> {
    function: &'a FunctionTrace,
    scaler: Box<dyn Scaler>,
    rng: Rng,
    schedule: Schedule<Event>,
    queue: VecDeque<usize>,
    /// A stopped one is none; its place is not used again.
    replicas: Vec<Option<Replica>>,
    /// With a free slot: by when last used, so that the rest can become idle.
    free: BTreeSet<(Micros, usize)>,
    idle: BTreeSet<(Micros, usize)>,
    running: BTreeSet<(Micros, usize)>,
    used: Vec<Micros>,
    starting: usize,
    ready: usize,
    retire: usize,
    wake_at: Option<Micros>,
    every: Micros,
    outcome: Outcome,
}

impl<'a> Pool<'a> {
    fn new(function: &'a FunctionTrace, scaler: Box<dyn Scaler>, rng: Rng, every: Micros) -> Self {
        let mut schedule = Schedule::default();
        if let Some(&(at, _)) = function.calls.first() {
            schedule.at(at, Event::Arrive(0));
        }
        schedule.at(0, Event::Sample);
        Self {
            function,
            scaler,
            rng,
            schedule,
            queue: VecDeque::new(),
            replicas: Vec::new(),
            free: BTreeSet::new(),
            idle: BTreeSet::new(),
            running: BTreeSet::new(),
            used: Vec::new(),
            starting: 0,
            ready: 0,
            retire: 0,
            wake_at: None,
            every,
            outcome: Outcome::default(),
        }
    }

    /// Until the trace is over and its calls have ended; what still runs then is paid until then.
    fn run(mut self, lasts: Micros) -> Outcome {
        while let Some(event) = self.schedule.next() {
            if self.schedule.now > lasts && self.queue.is_empty() && self.running.is_empty() {
                break;
            }
            self.outcome.events += 1;
            if self.happen(event, lasts) {
                self.dispatch();
                self.decide();
            }
        }
        let end = self.schedule.now.max(lasts);
        let left =
            self.replicas.iter().flatten().map(|replica| end.saturating_sub(replica.began)).sum::<Micros>();
        self.outcome.replica_s += left as f64 / SECOND as f64;
        self.outcome
    }

    /// Whether it may change the decision.
    fn happen(&mut self, event: Event, lasts: Micros) -> bool {
        let now = self.schedule.now;
        match event {
            Event::Arrive(call) => {
                self.scaler.arrived(now);
                self.queue.push_back(call);
                if let Some(&(at, _)) = self.function.calls.get(call + 1) {
                    self.schedule.at(at, Event::Arrive(call + 1));
                }
            }
            Event::Ready(number) => {
                let Some(replica) = &mut self.replicas[number] else { return false };
                replica.ready = true;
                self.scaler.became_ready(now - replica.began);
                self.starting -= 1;
                self.ready += 1;
                self.used[number] = now;
                self.idle.insert((now, number));
                self.free.insert((now, number));
            }
            Event::Done(number, since) => {
                self.scaler.served(now - since);
                self.running.remove(&(since, number));
                self.done(number);
            }
            Event::Wake if self.wake_at == Some(now) => self.wake_at = None,
            Event::Wake => return false,
            Event::Sample => {
                let alive = (self.ready + self.starting) as f64;
                self.outcome.replicas.push(alive);
                if now + self.every < lasts {
                    self.schedule.after(self.every, Event::Sample);
                }
                return false;
            }
        }
        true
    }

    fn done(&mut self, number: usize) {
        let now = self.schedule.now;
        let Some(replica) = &mut self.replicas[number] else { return };
        replica.inputs -= 1;
        let is_idle = replica.inputs == 0;
        self.free.remove(&(self.used[number], number));
        self.used[number] = now;
        self.free.insert((now, number));
        if is_idle {
            self.idle.insert((now, number));
            if self.retire > 0 {
                self.retire -= 1;
                self.stop(number);
            }
        }
    }

    fn dispatch(&mut self) {
        let now = self.schedule.now;
        while let (Some(&call), Some(&(used, number))) = (self.queue.front(), self.free.last()) {
            self.queue.pop_front();
            let (arrived, service) = self.function.calls[call];
            self.outcome.waits.push(now - arrived);
            let Some(replica) = &mut self.replicas[number] else { return };
            replica.inputs += 1;
            self.idle.remove(&(used, number));
            self.free.remove(&(used, number));
            let has_more = replica.inputs < self.function.slots;
            self.used[number] = now;
            if has_more {
                self.free.insert((now, number));
            }
            // Two inputs of one replica that begin together differ by their end.
            let mut since = now;
            while !self.running.insert((since, number)) {
                since += 1;
            }
            self.schedule.at((now + service).max(since), Event::Done(number, since));
        }
    }

    fn decide(&mut self) {
        let view = View {
            now: self.schedule.now,
            queued: self.queue.len(),
            running: self.running.len(),
            ready: self.ready,
            starting: self.starting,
            slots: self.function.slots,
            oldest: self.running.first().map(|&(since, _)| since),
            idle: &self.idle,
        };
        let orders = self.scaler.decide(&view);
        for _ in 0..orders.start {
            self.start();
        }
        for _ in 0..orders.stop_idle {
            let Some(&(_, number)) = self.idle.first() else { break };
            self.stop(number);
        }
        self.retire = orders.retire;
        if orders.wake_at != self.wake_at {
            self.wake_at = orders.wake_at;
            orders.wake_at.into_iter().for_each(|at| self.schedule.at(at, Event::Wake));
        }
    }

    fn start(&mut self) {
        let now = self.schedule.now;
        self.outcome.starts += 1;
        self.starting += 1;
        let spread = 1.0 + COLD_START_SPREAD * (self.rng.unit() * 2.0 - 1.0);
        let takes = (self.function.cold_start as f64 * spread) as Micros;
        self.schedule.after(takes, Event::Ready(self.replicas.len()));
        self.replicas.push(Some(Replica { began: now, ready: false, inputs: 0 }));
        self.used.push(now);
    }

    fn stop(&mut self, number: usize) {
        let Some(replica) = self.replicas[number].take() else { return };
        self.free.remove(&(self.used[number], number));
        self.idle.remove(&(self.used[number], number));
        self.ready -= 1;
        self.outcome.replica_s += (self.schedule.now - replica.began) as f64 / SECOND as f64;
    }
}
