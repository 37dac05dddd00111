//! What will happen: machines, functions, calls and faults, made from a seed.

use clunk_core::Digest;
use clunk_core::autoscaler::Bounds;
use clunk_core::function::Retries;
use clunk_core::id::{ImageId, NodeId};
use clunk_core::placement::{Ask, GpuGroup, Node};

use crate::rng::Rng;
use crate::schedule::{MILLISECOND, Micros, SECOND};

/// Faults and new calls end here; then everything has to come to rest.
pub const FAULTS_END: Micros = 60 * SECOND;

/// How an attempt ends if nothing comes between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Returns,
    Raises,
    /// Takes its container with it.
    Crashes,
    /// Runs until it is stopped.
    Hangs,
}

#[derive(Debug, Clone)]
pub struct FunctionPlan {
    pub workspace: String,
    pub ask: Ask,
    pub image: ImageId,
    pub bounds: Bounds,
    pub slots: u32,
    pub target: u32,
    pub retries: Retries,
    pub timeout: Micros,
    pub cold_start: Micros,
    /// Its code cannot be imported.
    pub broken: bool,
}

#[derive(Debug, Clone)]
pub struct CallPlan {
    pub function: usize,
    pub at: Micros,
    /// Outlives the control plane.
    pub durable: bool,
    pub priority: i32,
    pub service: Micros,
    /// The end of each attempt; the last one goes for all that follow.
    pub ends: Vec<End>,
    pub cancel_at: Option<Micros>,
    /// How long it may wait before its first attempt.
    pub expires_after: Option<Micros>,
}

impl CallPlan {
    pub fn end(&self, attempt: u32) -> End {
        let at = (attempt as usize).saturating_sub(1).min(self.ends.len() - 1);
        self.ends[at]
    }
}

/// From when, how long, and of a machine which one.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub at: Micros,
    pub lasts: Micros,
    pub machine: usize,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub machines: Vec<Node>,
    pub functions: Vec<FunctionPlan>,
    pub calls: Vec<CallPlan>,
    /// Of messages, how many come twice.
    pub duplicates: f64,
    /// Of messages, how many come late.
    pub stragglers: f64,
    pub deaths: Vec<Outage>,
    pub partitions: Vec<Outage>,
    pub crashes: Vec<Outage>,
}

pub fn machine(index: usize) -> Node {
    Node {
        id: NodeId::from_parts(index as u64, [0; 10]),
        cpu_millis: 4000,
        cpu_overcommit: 4.0,
        cpu_used_millis: 0,
        memory_mib: 4096,
        memory_used_mib: 0,
        disk_mib: 100_000,
        disk_used_mib: 0,
        gpus: Vec::new(),
        replicas: 0,
        max_replicas: 32,
        schedulable: false,
    }
}

pub fn image(index: usize) -> ImageId {
    ImageId::of(Digest::of(index.to_le_bytes()))
}

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let machines: Vec<Node> = (0..1 + rng.below(6)).map(|index| some_machine(&mut rng, index)).collect();
        let functions: Vec<FunctionPlan> = (0..1 + rng.below(5)).map(|_| some_function(&mut rng)).collect();
        let calls = (0..20 + rng.below(180)).map(|_| some_call(&mut rng, &functions)).collect();
        let mut outages = |most: usize, longest: Micros| {
            let outage = |rng: &mut Rng| Outage {
                at: rng.between(0, FAULTS_END),
                lasts: rng.between(MILLISECOND, longest),
                machine: rng.below(machines.len()),
            };
            (0..rng.below(most + 1)).map(|_| outage(&mut rng)).collect::<Vec<_>>()
        };
        let deaths = outages(3, 20 * SECOND);
        let partitions = outages(3, 30 * SECOND);
        let crashes = outages(2, 30 * SECOND);
        let (duplicates, stragglers) = (rng.unit() * 0.3, rng.unit() * 0.2);
        Self { seed, machines, functions, calls, duplicates, stragglers, deaths, partitions, crashes }
    }
}

fn some_machine(rng: &mut Rng, index: usize) -> Node {
    let mut node = machine(index);
    node.memory_mib = *rng.pick(&[512, 1024, 4096]);
    node.cpu_overcommit = *rng.pick(&[1.0, 4.0]);
    node.max_replicas = *rng.pick(&[2, 8, 32]);
    if rng.chance(0.3) {
        node.gpus = vec![GpuGroup { kind: rng.pick(&["H100", "A10G"]).to_string(), total: 2, used: 0 }];
    }
    node
}

fn some_function(rng: &mut Rng) -> FunctionPlan {
    let slots = *rng.pick(&[1, 1, 1, 4, 10]);
    let gpus = match rng.below(10) {
        0 => vec!["H100:2".parse(), "any".parse()],
        1 => vec!["A10".parse()],
        _ => Vec::new(),
    };
    FunctionPlan {
        workspace: rng.pick(&["red", "green", "blue"]).to_string(),
        ask: Ask {
            cpu_millis: *rng.pick(&[125, 125, 1000, 3000]),
            memory_mib: *rng.pick(&[128, 128, 256, 500, 4000]),
            disk_mib: 0,
            gpus: gpus.into_iter().map(|gpu| gpu.expect("a kind that is known")).collect(),
        },
        image: image(rng.below(3)),
        bounds: Bounds {
            min: if rng.chance(0.15) { 1 } else { 0 },
            max: *rng.pick(&[1, 2, 5, 100]),
            buffer: if rng.chance(0.2) { 1 } else { 0 },
            scaledown_window_ms: *rng.pick(&[1000, 5000, 60_000]),
        },
        slots,
        target: (slots * 3).div_ceil(4),
        retries: Retries { max_retries: rng.between(0, 4) as u32, ..Retries::default() },
        timeout: rng.between(2, 20) * SECOND,
        cold_start: *rng.pick(&[50, 300, 3000]) * MILLISECOND,
        broken: rng.chance(0.05),
    }
}

fn some_call(rng: &mut Rng, functions: &[FunctionPlan]) -> CallPlan {
    let function = rng.below(functions.len());
    let at = if rng.chance(0.5) { rng.between(0, FAULTS_END) } else { rng.between(0, 4) * 10 * SECOND };
    let end = |rng: &mut Rng| match rng.below(20) {
        0 | 1 => End::Raises,
        2 => End::Crashes,
        3 => End::Hangs,
        _ => End::Returns,
    };
    CallPlan {
        function,
        at,
        durable: rng.chance(0.7),
        priority: rng.between(0, 3) as i32 - 1,
        service: (rng.exponential(rng.clone().between(1, 4000) as f64) * 1000.0) as Micros + 1,
        ends: (0..4).map(|_| end(rng)).collect(),
        cancel_at: rng.chance(0.1).then(|| at + rng.between(0, 10 * SECOND)),
        expires_after: rng.chance(0.05).then(|| rng.between(SECOND, 10 * SECOND)),
    }
}
