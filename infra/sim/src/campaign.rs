//! Many runs on all cores: what failed, how to see it again, and what was tried in all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::case::{self, Report};
use crate::mutants::Mutant;
use crate::plan::Plan;

/// A run that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub seed: u64,
    /// The invariant, and what was seen.
    pub what: String,
}

/// What a campaign came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub runs: u64,
    pub failures: Vec<Failure>,
    pub total: Report,
}

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work` and returns what its panic said, if it had one. Nothing is printed.
///
/// # Errors
/// The panic's words and its place.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| LAST.with(|last| last.borrow().clone()))
}

/// From now on panics are kept for [`caught`], and not printed.
pub fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        let what = info.payload_as_str().unwrap_or("a panic without words");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        LAST.with(|last| *last.borrow_mut() = format!("{what} ({place})"));
    }));
}

/// Plays the runs of `seeds`, until `limit` is over, on `threads` threads, and tells of each failure at once.
#[must_use]
pub fn play(seeds: std::ops::Range<u64>, limit: Duration, threads: usize, tell: impl Fn(&Failure) + Sync) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while began.elapsed() < limit {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let played = caught(|| case::play(Plan::of(seed)));
                    if let Err(what) = &played {
                        tell(&Failure { seed, what: what.clone() });
                    }
                    summary.lock().unwrap().add(seed, played);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap();
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}

/// The first seed whose run catches a deliberate bug, and how; `None` if none of so many does.
#[must_use]
pub fn hunt(mutant: &'static Mutant, seeds: std::ops::Range<u64>) -> Option<Failure> {
    seeds.into_iter().find_map(|seed| {
        let what = caught(|| case::play_mutant(Plan::of(seed), mutant)).err()?;
        // Without the bug the very same run holds.
        let mut plan = Plan::of(seed);
        (mutant.needs)(&mut plan);
        caught(|| case::play(plan)).ok()?;
        Some(Failure { seed, what })
    })
}

impl Summary {
    fn add(&mut self, seed: u64, played: Result<Report, String>) {
        self.runs += 1;
        match played {
            Ok(report) => self.total.add(report),
            Err(what) => self.failures.push(Failure { seed, what }),
        }
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        // The order in which runs end is not theirs.
        self.trace ^= other.trace;
        self.calls += other.calls;
        self.invocations += other.invocations;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.rollouts += other.rollouts;
        self.rollbacks += other.rollbacks;
        self.scalings += other.scalings;
        self.checks += other.checks;
        self.seconds += other.seconds;
        merge(&mut self.faults, other.faults);
        merge(&mut self.deeds, other.deeds);
    }
}

fn merge<K: Ord>(into: &mut BTreeMap<K, u64>, other: BTreeMap<K, u64>) {
    for (name, count) in other {
        *into.entry(name).or_default() += count;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        writeln!(f, "scenarios        {}", self.runs)?;
        writeln!(f, "simulated        {} days", total.seconds / 86_400)?;
        writeln!(f, "calls of AWS     {}, in {} invocations", total.calls, total.invocations)?;
        writeln!(f, "rollouts         {}, rollbacks {}, scalings {}", total.rollouts, total.rollbacks, total.scalings)?;
        writeln!(f, "invariants       {} times looked at", total.checks)?;
        writeln!(f, "events           {} lost, {} repeated", total.lost, total.repeated)?;
        write!(f, "faults          ")?;
        for (name, count) in &total.faults {
            write!(f, " {name} {count},")?;
        }
        write!(f, "\ndeeds           ")?;
        for (name, count) in &total.deeds {
            write!(f, " {name} {count},")?;
        }
        writeln!(f, "\ntrace            {:016x}", total.trace)?;
        writeln!(f, "failures         {}", self.failures.len())
    }
}
