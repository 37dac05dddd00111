//! Many seeds against the invariants. `CLUNK_SIM_SEED=N` plays one; `CLUNK_SIM_SEEDS=N` plays the first N.

use clunk_sim::{Mutation, Plan, run};

/// So many play in some seconds without optimisation.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn no_seed_breaks_an_invariant() {
    let seeds = match number("CLUNK_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CLUNK_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut ended, mut succeeded) = (0, 0);
    for seed in seeds {
        match run(Plan::from_seed(seed), Mutation::None) {
            Ok(summary) => {
                ended += summary.ended;
                succeeded += summary.succeeded;
            }
            Err(violation) => panic!("{violation}"),
        }
    }
    assert!(
        succeeded * 4 > ended,
        "of {ended} calls only {succeeded} succeeded: the faults leave nothing to see"
    );
}

#[test]
fn a_seed_gives_the_same_play_again() {
    for seed in [3, 14, 159] {
        let play = || run(Plan::from_seed(seed), Mutation::None).map_err(|violation| violation.to_string());
        assert_eq!(play(), play());
    }
}
