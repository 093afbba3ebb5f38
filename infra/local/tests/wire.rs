//! Faults between the real functions and AWS: a few of all those that `cargo run --package local --bin wire -- --all`
//! tries, at least one of each kind for each function.

use std::collections::BTreeSet;

use anyhow::Result;
use local::progress;
use local::wire::bench::Bench;
use local::wire::faults::Fault;
use local::wire::matrix::{self, Case, Outcome};
use local::wire::scenario::Scenario;
use local::wire::table;

/// Most of the time is spent waiting, so two clouds at once are no slower than one.
const BENCHES: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_call_goes_wrong_the_end_is_that_of_an_undisturbed_run() -> Result<()> {
    let benches = Bench::start_many(BENCHES, &progress::lines()).await?;
    let undisturbed = matrix::all_undisturbed(&benches, &Scenario::ALL).await?;
    let cases: Vec<Case> =
        undisturbed.iter().flat_map(|(scenario, found)| matrix::some(*scenario, &found.calls)).collect();
    let outcomes = matrix::run(&benches, &cases, &undisturbed, None, &|_| ()).await?;
    let bad: Vec<String> = outcomes.iter().filter(|outcome| !outcome.is_good()).map(table::line).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));

    let met = |outcome: &Outcome| (outcome.case.scenario.function(), outcome.case.fault);
    let met: BTreeSet<(&str, Fault)> = outcomes.iter().map(met).collect();
    let functions = benches.first().map_or(0, |bench| bench.cloud.functions.len());
    assert_eq!(met.len(), functions * Fault::ALL.len(), "each function, each fault: {met:?}");
    Ok(())
}
