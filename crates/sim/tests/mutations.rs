//! The invariants are worth something: with any one rule broken, some seed notices, by the invariant that is meant to.

use clunk_sim::{Mutation, Plan, run};

/// More than each of the broken rules needs.
const SEEDS: u64 = 50;

/// Plays seeds until one says it in these words.
fn noticed(mutation: Mutation, words: &str) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        match run(Plan::from_seed(seed), mutation) {
            Err(violation) if violation.text.contains(words) => return,
            Err(violation) => others.push(violation.text),
            Ok(_) => {}
        }
    }
    panic!("{mutation:?} breaks nothing of `{words}`, but {others:?}");
}

macro_rules! mutations {
    ($($name:ident: $mutation:ident, $words:literal;)*) => {$(
        #[test]
        fn $name() {
            noticed(Mutation::$mutation, $words);
        }
    )*};
}

mutations! {
    a_fence_that_is_ignored: IgnoreFence, "in truth";
    calls_that_are_not_tried_again: ForgetRetry, "never ended";
    more_containers_than_the_function_may_have: IgnoreMax, "containers of";
    accepted_before_it_is_on_disk: AcceptBeforeDisk, "is not on disk";
    slots_freed_too_early: FreeSlotEarly, "inputs in a container of";
    idle_replicas_that_stay: KeepIdle, "is left after quiet";
    machines_that_run_on_without_a_lease: IgnoreLease, "containers";
    room_that_is_given_twice: ForgetRoom, "holds";
    a_workspace_that_is_never_served: StarveOne, "never ended";
}
