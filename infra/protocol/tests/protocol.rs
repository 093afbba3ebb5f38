//! The protocol holds, and each line of it is needed.

use protocol::{Bug, Protocol};

#[test]
fn it_holds_in_every_situation() {
    let found = Protocol::shipped().check();
    assert_eq!(found.broken, []);
    // A model in which little can happen proves little.
    assert!(found.states > 1_000_000, "only {} situations", found.states);
}

#[test]
fn every_bug_breaks_what_it_should() {
    let harm = Bug::ALL.map(|bug| {
        let found = Protocol::with(bug).check();
        (bug, found.shortest().map_or("nothing", |(broken, _)| *broken))
    });
    let (i1, undone) = ("I1 an older push never replaces a newer one", "I3 a rollback undoes no newer deployment");
    let ends = "I1 left alone, everything ends well";
    let expected = [
        (Bug::DeployUnfenced, i1),
        (Bug::RollbackUnfenced, undone),
        (Bug::IntentionAfterEffect, "I2 no rollout without an intention"),
        (Bug::LeaseIgnored, i1),
        (Bug::LeaseForEver, ends),
        (Bug::LeaseUnchecked, i1),
        (Bug::LeaseRenewedUnfenced, i1),
        (Bug::HistoryAfterEcr, i1),
        (Bug::StaleViewTrusted, "I3 a digest in quarantine is not deployed"),
        (Bug::QuarantineForgotten, ends),
        (Bug::UnprovenTaken, "I3 what is brought back was proven good"),
        (Bug::NothingAdopted, ends),
        (Bug::OutcomesRepeated, "I4 a record has one outcome"),
    ];
    assert_eq!(harm, expected);
}

#[test]
fn a_second_line_may_be_taken_away() {
    for bug in Bug::SECOND_LINES {
        assert_eq!(Protocol::with(bug).check().broken, [], "{bug:?}");
    }
}

/// The longer a handler may stand still, the more it may do: two crashes instead of one, and two stalls, with fewer
/// pushes.
#[test]
fn more_faults_with_fewer_pushes_change_nothing() {
    let faulty = Protocol { pushes: 2, crashes: 2, stalls: 2, bug: None };
    assert_eq!(faulty.check().broken, []);
}
