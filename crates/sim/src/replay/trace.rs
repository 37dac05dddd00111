//! Traces of arrivals, made from a seed: a few functions have most of the calls, as in real ones.

use std::f64::consts::TAU;

use crate::rng::Rng;
use crate::schedule::{MILLISECOND, Micros, SECOND};

/// Long enough for every window, and for an autoscaler to learn from its mistakes.
const LASTS: Micros = 3600 * SECOND;
/// Popularity falls with the rank to this power.
const ZIPF: f64 = 1.1;

/// The calls of one function.
#[derive(Debug, Clone)]
pub struct FunctionTrace {
    /// When each arrives, and how long it holds its slot; in order.
    pub calls: Vec<(Micros, Micros)>,
    pub cold_start: Micros,
    pub slots: u32,
}

#[derive(Debug, Clone)]
pub struct Trace {
    pub name: &'static str,
    pub seed: u64,
    pub lasts: Micros,
    pub functions: Vec<FunctionTrace>,
}

/// Calls per second at a time of a function whose average is `mean`.
type Shape = fn(&mut Rng, f64) -> Box<dyn Fn(Micros) -> f64>;

impl Trace {
    /// All there are: steady, diurnal, bursty, and cold and rare.
    pub fn all(seed: u64) -> Vec<Self> {
        vec![
            Self::make("steady", seed, 20, 40.0, |_, mean| Box::new(move |_| mean)),
            Self::make("diurnal", seed + 1, 20, 40.0, diurnal),
            Self::make("bursty", seed + 2, 20, 40.0, bursty),
            Self::make("rare", seed + 3, 100, 0.5, |_, mean| Box::new(move |_| mean)),
        ]
    }

    /// `per_s` calls a second over all functions.
    fn make(name: &'static str, seed: u64, functions: usize, per_s: f64, shape: Shape) -> Self {
        let mut rng = Rng::new(seed);
        let weights: Vec<f64> = (1..=functions).map(|rank| (rank as f64).powf(-ZIPF)).collect();
        let all: f64 = weights.iter().sum();
        let functions =
            weights.iter().map(|weight| function(&mut rng, per_s * weight / all, shape)).collect();
        Self { name, seed, lasts: LASTS, functions }
    }

    pub fn calls(&self) -> usize {
        self.functions.iter().map(|function| function.calls.len()).sum()
    }
}

fn function(rng: &mut Rng, mean_per_s: f64, shape: Shape) -> FunctionTrace {
    let service_ms = *rng.pick(&[20.0, 100.0, 500.0, 2000.0]);
    let cold_start = *rng.pick(&[300, 1000, 5000]) * MILLISECOND;
    let slots = *rng.pick(&[1, 1, 4]);
    let rate = shape(rng, mean_per_s);
    // By thinning: candidates at the highest rate there is, each kept with the share that its time has of it.
    let highest = (0..LASTS / SECOND).map(|second| rate(second * SECOND)).fold(0.0, f64::max);
    let mut calls = Vec::new();
    let mut at = rng.exponential(SECOND as f64 / highest);
    while at < LASTS as f64 {
        if rng.chance(rate(at as Micros) / highest) {
            let service = rng.exponential(service_ms * MILLISECOND as f64) as Micros + 1;
            calls.push((at as Micros, service));
        }
        at += rng.exponential(SECOND as f64 / highest);
    }
    FunctionTrace { calls, cold_start, slots }
}

/// A day in an hour: quiet at night, twice the average at noon.
fn diurnal(rng: &mut Rng, mean: f64) -> Box<dyn Fn(Micros) -> f64> {
    let phase = rng.unit() * 0.2;
    Box::new(move |at| mean * (1.0 - (TAU * (at as f64 / LASTS as f64 + phase)).cos()))
}

/// Nearly all calls within short bursts, minutes apart.
fn bursty(rng: &mut Rng, mean: f64) -> Box<dyn Fn(Micros) -> f64> {
    let every = rng.between(120, 400) * SECOND;
    let lasts = rng.between(1, 15) * SECOND;
    let offset = rng.between(0, every);
    let high = mean * 0.95 * every as f64 / lasts as f64;
    Box::new(move |at| if (at + offset) % every < lasts { high } else { mean * 0.05 })
}
