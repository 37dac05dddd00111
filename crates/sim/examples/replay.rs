//! Replays traces under our autoscaler and a Knative-style one: a table and plots, or with `--json` one line for each.
//!
//! `cargo run --release -p clunk-sim --example replay -- [SEED] [--json]`

#![allow(clippy::print_stdout)]

use clunk_sim::SECOND;
use clunk_sim::plot::area;
use clunk_sim::replay::{Knative, Ours, Outcome, Trace, replay};

/// The default of a function.
const SCALEDOWN_WINDOW_S: u64 = 60;

fn row(trace: &str, policy: &str, outcome: &Outcome) {
    println!(
        "{trace:<8} {policy:<8} {:>12.0} {:>10.1} {:>10.1} {:>10.1} {:>8}",
        outcome.replica_s,
        outcome.wait_ms(0.5),
        outcome.wait_ms(0.99),
        outcome.wait_ms(0.999),
        outcome.starts
    );
}

fn json(trace: &str, policy: &str, outcome: &Outcome) {
    println!(
        r#"{{"trace":"{trace}","policy":"{policy}","calls":{},"replica_s":{:.1},"p50_ms":{:.3},"p99_ms":{:.3},"starts":{}}}"#,
        outcome.waits.len(),
        outcome.replica_s,
        outcome.wait_ms(0.5),
        outcome.wait_ms(0.99),
        outcome.starts
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let seed = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    if !as_json {
        println!(
            "trace    policy      replica-s   p50 wait   p99 wait p99.9 wait   starts   (waits in ms, seed {seed})"
        );
    }
    let mut plots = Vec::new();
    for trace in Trace::all(seed) {
        let ours = replay(&trace, || Box::new(Ours::new(SCALEDOWN_WINDOW_S * SECOND)));
        let knative = replay(&trace, || Box::<Knative>::default());
        for (policy, outcome) in [("ours", &ours), ("knative", &knative)] {
            if as_json { json(trace.name, policy, outcome) } else { row(trace.name, policy, outcome) }
        }
        plots.push((trace, ours, knative));
    }
    for (trace, ours, knative) in plots.iter().filter(|_| !as_json) {
        let top = ours.replicas.iter().chain(&knative.replicas).copied().fold(0.0, f64::max);
        for (policy, outcome) in [("ours", ours), ("knative", knative)] {
            println!("\n{}, {} calls in an hour: replicas under {policy}", trace.name, trace.calls());
            area(&outcome.replicas, top, 4).iter().for_each(|line| println!("  {line}"));
        }
    }
}
