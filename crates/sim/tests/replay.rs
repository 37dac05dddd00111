//! The comparison is one: the same trace, and an opponent that does what its algorithm says.

use clunk_sim::replay::{FunctionTrace, Knative, Ours, Outcome, Trace, replay};
use clunk_sim::{MILLISECOND, SECOND};

fn ours(trace: &Trace) -> Outcome {
    replay(trace, || Box::new(Ours::new(60 * SECOND)))
}

fn knative(trace: &Trace) -> Outcome {
    replay(trace, || Box::<Knative>::default())
}

/// A call of a second every `every_ms`, for ten minutes.
fn even(every_ms: u64) -> Trace {
    let lasts = 600 * SECOND;
    let calls = (1..lasts / (every_ms * MILLISECOND)).map(|index| (index * every_ms * MILLISECOND, SECOND));
    let function = FunctionTrace { calls: calls.collect(), cold_start: SECOND, slots: 1 };
    Trace { name: "even", seed: 1, lasts, functions: vec![function] }
}

#[test]
fn a_seed_gives_the_same_result_again() {
    let (first, again) = (&Trace::all(5)[2], &Trace::all(5)[2]);
    let (ours_first, ours_again) = (ours(first), ours(again));
    assert_eq!((ours_first.replica_s, &ours_first.waits), (ours_again.replica_s, &ours_again.waits));
    assert_eq!(ours_first.waits.len(), first.calls(), "every call is served");
    assert_eq!(knative(first).waits.len(), first.calls(), "every call is served");
}

#[test]
fn the_opponent_keeps_its_published_utilisation() {
    // Seven inputs at a time, at 70 % of a slot each: ten replicas.
    let outcome = knative(&even(1000 / 7));
    let late = &outcome.replicas[outcome.replicas.len() / 2..];
    assert!(late.iter().all(|&count| (10.0..=11.0).contains(&count)), "{late:?}");
}

#[test]
fn we_keep_as_many_as_are_busy() {
    let outcome = ours(&even(1000 / 7));
    let late = &outcome.replicas[outcome.replicas.len() / 2..];
    assert!(late.iter().all(|&count| (7.0..=9.0).contains(&count)), "{late:?}");
    assert!(outcome.wait_ms(0.95) < 1.0, "{}", outcome.wait_ms(0.95));
}

#[test]
fn on_no_trace_do_we_cost_more_and_wait_longer() {
    for trace in Trace::all(9) {
        let (ours, knative) = (ours(&trace), knative(&trace));
        let dearer = ours.replica_s > knative.replica_s * 1.02;
        let slower = ours.wait_ms(0.99) > knative.wait_ms(0.99) * 1.02;
        assert!(!(dearer && slower), "{}: {} and {}", trace.name, ours.replica_s, ours.wait_ms(0.99));
    }
}
