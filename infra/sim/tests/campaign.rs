//! A small campaign: the same seeds each time, for about a minute. `cargo run -p sim --profile sim` has the large ones.

#![expect(clippy::print_stdout, reason = "the summary is for people")]

use std::time::Duration;

use sim::campaign::{self, Summary};
use sim::case;
use sim::crashes::{self, SCENARIOS};
use sim::mutants::MUTANTS;
use sim::plan::Plan;

/// Seeds whose runs have failed once.
const REGRESSIONS: [u64; 4] = [25, 61, 669, 823];

fn check(summary: &Summary) {
    for failure in &summary.failures {
        println!("seed {}: {}", failure.seed, failure.what);
    }
    assert!(summary.failures.is_empty(), "again: cargo run -p sim --profile sim -- --seed N");
}

#[test]
fn the_invariants_hold() {
    let summary = campaign::play(0..10, Duration::from_secs(600), 2, |_| ());
    println!("{summary}");
    check(&summary);
    assert_eq!(summary.runs, 10);
}

#[test]
fn what_has_failed_once_holds() {
    for seed in REGRESSIONS {
        check(&campaign::play(seed..seed + 1, Duration::from_secs(600), 1, |_| ()));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 12] {
        assert_eq!(case::play(Plan::of(seed)), case::play(Plan::of(seed)), "seed {seed}");
    }
}

/// Each of the bugs with the seed that caught it when it was written; without the bug that run holds.
#[test]
fn deliberate_bugs_are_caught() {
    for mutant in MUTANTS {
        let caught = campaign::hunt(mutant, mutant.caught_by..mutant.caught_by + 1);
        assert!(caught.is_some(), "{}: {}", mutant.name, mutant.bug);
    }
}

#[test]
fn killed_at_any_call_the_end_is_the_same() {
    let found = crashes::enumerate(&SCENARIOS[0], 5, 4, 2);
    assert!(found.failures.is_empty(), "{}: {:#?}", found.name, found.failures);
    assert!(found.runs > 10, "{found:?}");
}
