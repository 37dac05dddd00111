use proptest::prelude::*;

use super::*;

const WINDOW_MS: u64 = 60_000;
const FREE: Bounds = Bounds { min: 0, max: 10_000, buffer: 0, scaledown_window_ms: WINDOW_MS };

fn demand() -> Demand {
    Demand { slots: 1, target: 1, ..Demand::default() }
}

fn known(service_ms: f64, cold_start_ms: f64) -> Demand {
    Demand { service_ms: Some(service_ms), cold_start_ms: Some(cold_start_ms), ..demand() }
}

fn wanted(demand: Demand) -> u32 {
    decide(&demand, &FREE).wanted
}

#[test]
fn nothing_to_do_is_no_replica() {
    let nothing = Decision { wanted: 0, stop_idle: 0, wake_in_ms: None };
    assert_eq!(decide(&demand(), &FREE), nothing);
}

#[test]
fn from_zero_at_once_and_a_burst_is_one_decision() {
    assert_eq!(wanted(Demand { queued: 1, ..demand() }), 1);
    assert_eq!(wanted(Demand { queued: 100, ..demand() }), 100);
    assert_eq!(wanted(Demand { queued: 100, ..known(60_000.0, 500.0) }), 100);
    assert_eq!(wanted(Demand { queued: 100, ready: 2, running: 2, ..demand() }), 102);
}

#[test]
fn several_inputs_share_a_replica_up_to_the_target() {
    assert_eq!(wanted(Demand { queued: 100, slots: 10, target: 8, ..demand() }), 13);
    let over = Demand { running: 4, ready: 1, slots: 4, target: 2, ..known(10_000.0, 500.0) };
    assert_eq!(wanted(over), 2);
}

#[test]
fn short_calls_do_not_start_what_comes_too_late() {
    // One replica begins 50 inputs of 10 ms in the 500 ms that another would take to be ready.
    assert_eq!(wanted(Demand { queued: 40, running: 1, ready: 1, ..known(10.0, 500.0) }), 1);
    assert_eq!(wanted(Demand { queued: 60, running: 1, ready: 1, ..known(10.0, 500.0) }), 2);
    // From zero: as many as work it off in one more cold start.
    assert_eq!(wanted(Demand { queued: 1000, ..known(10.0, 500.0) }), 20);
    assert_eq!(wanted(Demand { queued: 1, running: 1, ready: 1, ..known(400.0, 500.0) }), 1);
    assert_eq!(wanted(Demand { queued: 1, running: 1, ready: 1, ..known(5000.0, 500.0) }), 2);
}

#[test]
fn inputs_that_hold_their_slots_for_long_are_worked_around() {
    let short = Demand { queued: 5, running: 2, ready: 2, oldest_running_ms: 20.0, ..known(10.0, 500.0) };
    let decision = decide(&short, &FREE);
    assert_eq!((decision.wanted, decision.wake_in_ms), (2, Some(520)));
    let stuck = Demand { oldest_running_ms: 540.0, ..short };
    assert_eq!(decide(&stuck, &FREE), Decision { wanted: 3, stop_idle: 0, wake_in_ms: None });
}

#[test]
fn steady_arrivals_have_the_replicas_that_they_keep_busy() {
    let steady =
        Demand { arrivals_per_s: 300.0, slots: 4, target: 2, ready: 1, running: 4, ..known(10.0, 500.0) };
    assert_eq!(wanted(steady), 2);
}

#[test]
fn idle_replicas_stop_after_their_window_and_not_before() {
    let idle = |idle_ms: Vec<u64>| Demand { ready: count(idle_ms.len()), idle_ms, ..demand() };
    let decision = decide(&idle(vec![59_000, 59_999]), &FREE);
    assert_eq!(decision, Decision { wanted: 2, stop_idle: 0, wake_in_ms: Some(1) });
    let decision = decide(&idle(vec![59_000, 60_000]), &FREE);
    assert_eq!(decision, Decision { wanted: 1, stop_idle: 1, wake_in_ms: Some(1000) });
    let decision = decide(&idle(vec![70_000, 60_000]), &Bounds { min: 1, ..FREE });
    assert_eq!(decision, Decision { wanted: 1, stop_idle: 1, wake_in_ms: None });
}

#[test]
fn the_buffer_is_there_while_there_is_work() {
    let bounds = Bounds { buffer: 2, ..FREE };
    let busy = Demand { running: 3, ready: 3, ..known(1000.0, 500.0) };
    assert_eq!(decide(&busy, &bounds).wanted, 5);
    let idle = Demand { ready: 5, idle_ms: vec![WINDOW_MS; 5], ..demand() };
    assert_eq!(decide(&idle, &bounds).stop_idle, 5);
}

#[test]
fn the_largest_number_wins_over_everything() {
    let bounds = Bounds { min: 10, max: 3, buffer: 7, scaledown_window_ms: WINDOW_MS };
    assert_eq!(decide(&Demand { queued: 100, ..demand() }, &bounds).wanted, 3);
    let five = Demand { ready: 5, running: 2, idle_ms: vec![0; 3], ..demand() };
    let decision = decide(&five, &bounds);
    assert_eq!((decision.wanted, decision.stop_idle), (3, 2));
}

prop_compose! {
    fn any_demand()(
        queued in prop_oneof![Just(0), 0u64..20, 0u64..2_000_000],
        ready in 0u32..40, starting in 0u32..40,
        (slots, target) in (1u32..8).prop_flat_map(|slots| (Just(slots), 1..=slots)),
        service_ms in prop::option::of(0.0f64..100_000.0),
        cold_start_ms in prop::option::of(0.0f64..30_000.0),
        oldest_running_ms in 0.0f64..200_000.0, arrivals_per_s in 0.0f64..5000.0,
        ages in prop::collection::vec(0u64..120_000, 0..40), busy_slots in 0.0f64..=1.0,
    ) -> Demand {
        let idle_ms: Vec<u64> = ages.into_iter().take(ready as usize).collect();
        let busy = ready - count(idle_ms.len());
        let running = busy + (f64::from(busy * (slots - 1)) * busy_slots) as u32;
        Demand {
            queued, running, ready, starting, slots, target, service_ms, oldest_running_ms, cold_start_ms,
            arrivals_per_s, idle_ms,
        }
    }
}

prop_compose! {
    fn any_bounds()(min in 0u32..20, max in 1u32..200, buffer in 0u32..10, window_s in 1u64..100) -> Bounds {
        Bounds { min, max, buffer, scaledown_window_ms: window_s * 1000 }
    }
}

/// The same moment, after what was decided was done.
fn obey(demand: &Demand, decision: &Decision) -> Demand {
    let mut after = demand.clone();
    after.starting += decision.wanted.saturating_sub(demand.ready + demand.starting);
    after.ready -= decision.stop_idle;
    after.idle_ms.sort_unstable();
    after.idle_ms.truncate(after.idle_ms.len() - decision.stop_idle as usize);
    after
}

proptest! {
    #[test]
    fn limits_are_kept_and_nothing_flaps(demand in any_demand(), bounds in any_bounds()) {
        let decision = decide(&demand, &bounds);
        prop_assert!(decision.wanted <= bounds.max);
        prop_assert!(decision.wanted >= bounds.min.min(bounds.max));
        prop_assert!(decision.stop_idle as usize <= demand.idle_ms.len());
        let starts = decision.wanted > demand.ready + demand.starting;
        prop_assert!(!(starts && decision.stop_idle > 0), "starts and stops at once");
        if demand.queued > 0 {
            let coming = decision.wanted > 0 || bounds.max == 0;
            prop_assert!(coming, "calls wait and no replica is wanted");
        }
        prop_assert!(decision.wake_in_ms != Some(0), "a wake without waiting is a hot loop");

        let after = obey(&demand, &decision);
        let again = decide(&after, &bounds);
        prop_assert_eq!(again.stop_idle, 0);
        prop_assert!(again.wanted <= after.ready + after.starting, "the same moment asks for more still");
    }

    #[test]
    fn within_the_window_none_is_stopped(demand in any_demand(), bounds in any_bounds()) {
        let decision = decide(&demand, &bounds);
        let over = demand.idle_ms.iter().filter(|&&age_ms| age_ms >= bounds.scaledown_window_ms).count();
        let above_max = demand.ready.saturating_sub(bounds.max);
        prop_assert!(decision.stop_idle <= count(over).max(above_max));
    }

    #[test]
    fn after_quiet_only_the_least_number_is_left(ready in 0u32..50, bounds in any_bounds()) {
        let idle_ms = vec![bounds.scaledown_window_ms; ready as usize];
        let decision = decide(&Demand { ready, idle_ms, ..demand() }, &bounds);
        prop_assert_eq!(ready - decision.stop_idle, ready.min(bounds.min).min(bounds.max));
    }
}
