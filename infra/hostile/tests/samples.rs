//! The samples of `events/`, the corpus, and mutations of both, through every parser.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mutations;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use hostile::TARGETS;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

/// What each parser is fed in one run. The whole takes about ten seconds.
const CASES: u32 = 300;

fn folder(path: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The seeds of a parser: its own, and for that of events the samples.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let own = folder(&format!("corpus/{name}"));
    match name {
        "events" => [own, folder("../../events"), folder("../../events/rejected")].concat(),
        _ => own,
    }
}

#[test]
fn every_parser_has_seeds_and_stands_all_seeds_of_all() {
    let all: Vec<Vec<u8>> = TARGETS.iter().flat_map(|(name, _)| seeds(name)).collect();
    for (name, target) in TARGETS {
        assert!(!seeds(name).is_empty(), "{name} has no seeds");
        all.iter().for_each(|seed| target(seed));
    }
}

/// Documents keep their form and lose, gain or change parts; other bytes are cut, doubled and turned.
#[test]
fn every_parser_stands_mutations_of_its_seeds() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let mutated = select(seeds(name)).prop_flat_map(mutations::of);
        let ran = runner.run(&mutated, |data| {
            // Shrinking needs to hear of it, and the hook to say where it was.
            catch_unwind(|| target(&data)).map_err(|_| TestCaseError::fail("it panicked"))
        });
        failed.extend(ran.err().map(|error| format!("{name}: {error}")));
    }
    assert_eq!(failed, Vec::<String>::new());
}

/// The mutations reach what is behind the parsers: a good part of them is still read.
#[test]
fn the_mutations_are_still_events() {
    // A share of random mutations is asserted, so they are the same ones in every run.
    let mut runner = TestRunner::deterministic();
    let mut read = 0;
    for _ in 0..200 {
        let tree = select(seeds("events")).prop_flat_map(mutations::of).new_tree(&mut runner).unwrap();
        let event = serde_json::from_slice(&tree.current()).unwrap_or_default();
        read += usize::from(shared::events::read(&event).is_ok());
    }
    assert!(read > 40, "only {read} of 200 are read");
}
