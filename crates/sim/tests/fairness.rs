//! Who waits for whom, in plays made for it. A call that expires unserved is one that waited too long.

use clunk_core::autoscaler::Bounds;
use clunk_core::function::Retries;
use clunk_core::placement::{Ask, Node};
use clunk_sim::{CallPlan, End, FunctionPlan, MILLISECOND, Mutation, Plan, SECOND, image, machine, run};

fn function(workspace: &str, memory_mib: u64, min: u32) -> FunctionPlan {
    FunctionPlan {
        workspace: workspace.into(),
        ask: Ask { cpu_millis: 125, memory_mib, ..Ask::default() },
        image: image(0),
        bounds: Bounds { min, max: 100, buffer: 0, scaledown_window_ms: 60_000 },
        slots: 1,
        target: 1,
        retries: Retries::default(),
        timeout: 60 * SECOND,
        cold_start: 300 * MILLISECOND,
        broken: false,
    }
}

fn call(function: usize, at_s: u64, service_s: u64, expires_after_s: Option<u64>) -> CallPlan {
    CallPlan {
        function,
        at: at_s * SECOND,
        durable: true,
        priority: 0,
        service: service_s * SECOND,
        ends: vec![End::Returns],
        cancel_at: None,
        expires_after: expires_after_s.map(|seconds| seconds * SECOND),
    }
}

/// One machine of 1024 MiB; how many calls of how many succeeded.
fn play(functions: Vec<FunctionPlan>, calls: Vec<CallPlan>) -> (usize, usize) {
    let count = calls.len();
    let plan = Plan {
        seed: 1,
        machines: vec![Node { memory_mib: 1024, ..machine(0) }],
        functions,
        calls,
        duplicates: 0.0,
        stragglers: 0.0,
        deaths: Vec::new(),
        partitions: Vec::new(),
        crashes: Vec::new(),
    };
    let summary = run(plan, Mutation::None).unwrap_or_else(|violation| panic!("{violation}"));
    (summary.succeeded as usize, count)
}

#[test]
fn a_workspace_with_a_long_queue_makes_room_for_another() {
    // 500 seconds of work for the whole machine, then a little of somebody else.
    let mut calls: Vec<CallPlan> = (0..800).map(|_| call(0, 0, 5, None)).collect();
    calls.extend((0..20).map(|_| call(1, 20, 1, Some(30))));
    let (succeeded, count) = play(vec![function("red", 128, 0), function("blue", 128, 0)], calls);
    assert_eq!(succeeded, count);
}

#[test]
fn a_replica_that_needs_the_whole_machine_gets_it() {
    let mut calls: Vec<CallPlan> = (0..400).map(|_| call(0, 0, 5, None)).collect();
    calls.push(call(1, 20, 1, Some(60)));
    let (succeeded, count) = play(vec![function("red", 128, 0), function("blue", 1024, 0)], calls);
    assert_eq!(succeeded, count);
}

#[test]
fn idle_replicas_give_way_before_their_window_ends() {
    // The first function's replicas would stay for a minute after its calls.
    let mut calls: Vec<CallPlan> = (0..8).map(|_| call(0, 0, 1, None)).collect();
    calls.extend((0..4).map(|_| call(1, 10, 1, Some(20))));
    let (succeeded, count) = play(vec![function("red", 128, 0), function("red", 256, 0)], calls);
    assert_eq!(succeeded, count);
}

#[test]
fn replicas_that_are_only_kept_ready_give_way_to_calls() {
    let calls = vec![call(1, 10, 1, Some(20)), call(0, 30, 1, Some(30))];
    let (succeeded, count) = play(vec![function("red", 600, 1), function("red", 600, 0)], calls);
    assert_eq!(succeeded, count);
}
