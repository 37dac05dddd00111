//! Ten thousand machines: how long one placement takes, and how many events a second the simulator plays.
//!
//! `cargo run --release -p clunk-sim --example fleet -- [MACHINES] [REPLICAS]` prints one line of JSON.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use clunk_core::function::Retries;
use clunk_core::placement::{Ask, Fleet, GpuGroup, Node, Placed};
use clunk_core::{autoscaler::Bounds, id::ImageId};
use clunk_sim::{CallPlan, End, FunctionPlan, MILLISECOND, Plan, Rng, SECOND, image, machine, run_large};

const MACHINES: usize = 10_000;
const REPLICAS: usize = 100_000;
const IMAGES: usize = 200;
/// Decisions that are measured with the fleet full to that point.
const DECISIONS: usize = 50_000;
/// Of the large play.
const FUNCTIONS: usize = 500;
/// For each machine: bursts that fill two thirds of them. With too little room one would measure who yields to whom.
const CALLS: usize = 20;
/// The invariants look at everything, so they are checked now and then.
const CHECK_EVERY: u64 = 200_000;

fn some_machine(rng: &mut Rng, index: usize) -> Node {
    let cores = *rng.pick(&[8, 16, 64]);
    let mut node = Node {
        cpu_millis: cores * 1000,
        cpu_overcommit: 1.0,
        memory_mib: cores * 4096,
        max_replicas: 512,
        schedulable: true,
        ..machine(index)
    };
    if rng.chance(0.2) {
        let kind = rng.pick(&["H100", "A100-80GB", "L4", "T4"]).to_string();
        node.gpus = vec![GpuGroup { kind, total: 8, used: 0 }];
    }
    node
}

fn some_ask(rng: &mut Rng) -> Ask {
    let gpus: &[&str] = match rng.below(10) {
        0 => &["h100", "a100"],
        1 => &["any:2"],
        _ => &[],
    };
    Ask {
        cpu_millis: *rng.pick(&[125, 500, 1000, 2000, 4000]),
        memory_mib: *rng.pick(&[128, 512, 2048, 8192]),
        disk_mib: *rng.pick(&[0, 0, 1000]),
        gpus: gpus.iter().map(|gpu| gpu.parse().expect("a kind that is known")).collect(),
    }
}

struct Placements {
    held: usize,
    p50_us: f64,
    p99_us: f64,
    worst_us: f64,
    refused: usize,
}

/// Fills the fleet, then measures decisions while as many replicas leave as come.
fn placements(machines: usize, replicas: usize) -> Placements {
    let mut rng = Rng::new(1);
    let mut fleet = Fleet::new();
    for index in 0..machines {
        let node = some_machine(&mut rng, index);
        let id = node.id;
        fleet.add(node);
        (0..5).for_each(|_| fleet.add_image(id, image(rng.below(IMAGES))));
    }
    let some_image = |rng: &mut Rng| -> ImageId { image((rng.unit() * rng.unit() * IMAGES as f64) as usize) };
    let mut held: Vec<(Placed, Ask)> = Vec::new();
    let mut tries = 0;
    while held.len() < replicas && tries < replicas * 2 {
        tries += 1;
        let (ask, image) = (some_ask(&mut rng), some_image(&mut rng));
        held.extend(fleet.place(&ask, image).ok().map(|placed| (placed, ask)));
    }
    let (mut took_us, mut refused) = (Vec::with_capacity(DECISIONS), 0);
    for _ in 0..DECISIONS {
        let (ask, image) = (some_ask(&mut rng), some_image(&mut rng));
        let began = Instant::now();
        let placed = fleet.place(&ask, image);
        took_us.push(began.elapsed().as_secs_f64() * 1e6);
        match placed {
            Ok(placed) => held.push((placed, ask)),
            Err(_) => refused += 1,
        }
        if held.len() > replicas {
            let (placed, ask) = held.swap_remove(rng.below(held.len()));
            fleet.release(&placed, &ask);
        }
    }
    took_us.sort_unstable_by(f64::total_cmp);
    let share = |share: f64| took_us[((took_us.len() - 1) as f64 * share) as usize];
    Placements { held: held.len(), p50_us: share(0.5), p99_us: share(0.99), worst_us: share(1.0), refused }
}

/// A play with that many machines: bursts of calls on functions of three workspaces.
fn large(machines: usize) -> Plan {
    let mut rng = Rng::new(2);
    let bounds = Bounds { min: 0, max: 1000, buffer: 0, scaledown_window_ms: 10_000 };
    let function = |rng: &mut Rng| FunctionPlan {
        workspace: rng.pick(&["red", "green", "blue"]).to_string(),
        ask: Ask { cpu_millis: 500, memory_mib: 512, ..Ask::default() },
        image: image(rng.below(IMAGES)),
        bounds,
        slots: 1,
        target: 1,
        retries: Retries::default(),
        timeout: 60 * SECOND,
        cold_start: 500 * MILLISECOND,
        broken: false,
    };
    let call = |rng: &mut Rng| CallPlan {
        function: rng.below(FUNCTIONS),
        at: rng.between(0, 6) * 5 * SECOND + rng.between(0, SECOND),
        durable: true,
        priority: 0,
        service: rng.exponential(5e6) as u64 + 1,
        ends: vec![End::Returns],
        cancel_at: None,
        expires_after: None,
    };
    Plan {
        seed: 2,
        machines: (0..machines).map(machine).collect(),
        functions: (0..FUNCTIONS).map(|_| function(&mut rng)).collect(),
        calls: (0..machines * CALLS).map(|_| call(&mut rng)).collect(),
        duplicates: 0.05,
        stragglers: 0.05,
        deaths: Vec::new(),
        partitions: Vec::new(),
        crashes: Vec::new(),
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let machines = numbers.next().unwrap_or(MACHINES);
    let replicas = numbers.next().unwrap_or(REPLICAS);
    let placed = placements(machines, replicas);
    let began = Instant::now();
    let summary = run_large(large(machines), CHECK_EVERY).unwrap_or_else(|violation| panic!("{violation}"));
    let took_s = began.elapsed().as_secs_f64();
    println!(
        r#"{{"machines":{machines},"replicas":{},"place_p50_us":{:.2},"place_p99_us":{:.2},"place_worst_us":{:.2},"refused":{},"events":{},"events_per_s":{:.0},"calls":{},"most_replicas":{},"virtual_s":{}}}"#,
        placed.held,
        placed.p50_us,
        placed.p99_us,
        placed.worst_us,
        placed.refused,
        summary.events,
        summary.events as f64 / took_s,
        summary.ended,
        summary.most_replicas,
        summary.virtual_s
    );
}
