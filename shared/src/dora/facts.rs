//! What the records of a service say about a window, to be added up over services and measured in the end.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::frequency::frequency;
use super::times::{commit_to_live, live, push_to_live, seconds};
use super::{Counts, Day, Durations, Measures, REWORK_HOURS, Rate, Recovered, Recovery, Window};
use crate::record::{Origin, Record, Remedy, State};

const NOT_LIVE: &str = "nothing went live";
const NOTHING_TRIED: &str = "nothing went live, and nothing failed";
const NOT_TAKEN_BACK: &str = "nothing was taken back";
const NOT_RECOVERED: &str = "nothing good has been live since";
const NOT_PUSHED: &str = "of no deployment it is known when its image was pushed";
const NOT_COMMITTED: &str = "no image says when its commit was made (label tidegate.committed)";

/// The facts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Whether there is any record, inside the window or outside.
    is_known: bool,
    counts: Counts,
    /// Deployments on each day that has any, and those of others.
    by_day: BTreeMap<NaiveDate, (u64, u64)>,
    reworks: u64,
    recovered: Vec<Recovered>,
    push_to_live: Vec<u64>,
    commit_to_live: Vec<u64>,
}

impl Facts {
    /// The facts of one service's records.
    pub(super) fn of(records: &[&Record], window: &Window) -> Self {
        let mut failures: Vec<DateTime<Utc>> = records.iter().filter_map(|record| failed(record)).collect();
        failures.sort_unstable();
        let stayed = records.iter().filter(|record| record.state == State::Succeeded && !is_held(record));
        let mut successes: Vec<_> = stayed.filter_map(|record| Some((live(record)?, record.id.as_str()))).collect();
        successes.sort_unstable();

        let mut facts = Self { is_known: !records.is_empty(), ..Self::default() };
        for record in records.iter().filter(|record| ended(record).is_some_and(|at| window.has(at.date_naive()))) {
            if is_rollback(record) {
                facts.counts.brought_back += u64::from(record.state == State::Succeeded);
                continue;
            }
            match record.state {
                State::Failed => facts.counts.failed_before_serving += 1,
                State::Superseded => facts.counts.superseded += 1,
                State::Succeeded if !is_held(record) => facts.counts.succeeded += 1,
                State::Succeeded | State::RolledBack => facts.counts.rolled_back += 1,
                State::Intended | State::Rolling | State::Skipped => {}
            }
            if is_bad(record) {
                facts.recovered.push(recovered(record, &successes));
            }
            if let Some(live) = live(record) {
                facts.add_deployment(record, live, &failures);
            }
        }
        facts
    }

    fn add_deployment(&mut self, record: &Record, live: DateTime<Utc>, failures: &[DateTime<Utc>]) {
        let by_others = u64::from(record.origin == Origin::External);
        let (deployments, others) = self.by_day.entry(live.date_naive()).or_default();
        (*deployments, *others) = (*deployments + 1, *others + by_others);
        self.counts.deployments += 1;
        self.counts.by_others += by_others;
        self.reworks += u64::from(is_rework(live, failures));
        self.push_to_live.extend(push_to_live(record));
        self.commit_to_live.extend(commit_to_live(record));
    }

    /// Adds those of another service.
    pub(super) fn add(&mut self, other: Self) {
        let (mine, theirs) = (&mut self.counts, other.counts);
        mine.deployments += theirs.deployments;
        mine.by_others += theirs.by_others;
        mine.succeeded += theirs.succeeded;
        mine.rolled_back += theirs.rolled_back;
        mine.failed_before_serving += theirs.failed_before_serving;
        mine.superseded += theirs.superseded;
        mine.brought_back += theirs.brought_back;
        for (day, (more, more_by_others)) in other.by_day {
            let (deployments, by_others) = self.by_day.entry(day).or_default();
            (*deployments, *by_others) = (*deployments + more, *by_others + more_by_others);
        }
        self.is_known |= other.is_known;
        self.reworks += other.reworks;
        self.recovered.extend(other.recovered);
        self.push_to_live.extend(other.push_to_live);
        self.commit_to_live.extend(other.commit_to_live);
    }

    /// The measures.
    pub(super) fn measures(&self, window: &Window) -> Measures {
        let Counts { deployments, rolled_back, failed_before_serving: failed, .. } = self.counts;
        let by_day = window.days().map(|date| {
            let (deployments, by_others) = self.by_day.get(&date).copied().unwrap_or_default();
            Day { date, deployments, by_others }
        });
        // Why a duration is not known, where deployments there were.
        let or_not_live = |why| if deployments > 0 { why } else { NOT_LIVE };
        Measures {
            counts: self.counts,
            deployment_frequency: frequency(by_day.collect(), self.is_known),
            change_fail_rate: rate(rolled_back, deployments, NOT_LIVE),
            failed_before_serving_rate: rate(failed, failed + deployments, NOTHING_TRIED),
            recovery_time: recovery(&self.recovered),
            push_to_live: durations(&self.push_to_live, or_not_live(NOT_PUSHED)),
            change_lead_time: durations(&self.commit_to_live, or_not_live(NOT_COMMITTED)),
            rework_rate: rate(self.reworks, deployments, NOT_LIVE),
        }
    }
}

/// When a record came to what it counts for: live, or never live. `None` before that, and where nothing was deployed.
fn ended(record: &Record) -> Option<DateTime<Utc>> {
    let never_live = matches!(record.state, State::Failed | State::Superseded);
    live(record).or_else(|| never_live.then(|| record.finished_at.unwrap_or(record.detected_at)))
}

/// Whether it brings a good release back: that is the end of a failure, and no deployment.
fn is_rollback(record: &Record) -> bool {
    record.origin == Origin::Rollback
}

/// Whether it is bad and was left where it is, for a person to see to.
fn is_held(record: &Record) -> bool {
    remedy(record) == Some(Remedy::Hold)
}

fn remedy(record: &Record) -> Option<Remedy> {
    record.recovery.as_ref().map(|recovery| recovery.remedy)
}

/// When a deployment turned out bad, before it was live or after.
fn failed(record: &Record) -> Option<DateTime<Utc>> {
    match record.state {
        _ if is_rollback(record) => None,
        State::Failed => ended(record),
        State::RolledBack => record.rolled_back_at,
        State::Succeeded if is_held(record) => record.recovery.as_ref().map(|recovery| recovery.at),
        _ => None,
    }
}

/// Whether something good has to go live again: it turned out bad after it was live, or its rollout has to be replaced.
/// What ECS takes back by itself, or is told to, is back with that: the earlier release has kept serving.
fn is_bad(record: &Record) -> bool {
    let is_replaced = record.state == State::Failed && matches!(remedy(record), Some(Remedy::Deploy | Remedy::Hold));
    record.state == State::RolledBack || is_replaced || record.state == State::Succeeded && is_held(record)
}

/// Whether the last failure before it was not long ago. `failures` are in order.
fn is_rework(live: DateTime<Utc>, failures: &[DateTime<Utc>]) -> bool {
    let before = failures.partition_point(|failure| *failure < live);
    let last = before.checked_sub(1).and_then(|last| failures.get(last));
    last.is_some_and(|failure| live - *failure <= TimeDelta::hours(REWORK_HOURS))
}

/// The first success after `record` had turned out bad. `successes` are in order of when they were live.
fn recovered(record: &Record, successes: &[(DateTime<Utc>, &str)]) -> Recovered {
    let next = failed(record).and_then(|since| {
        let next = successes.partition_point(|(live, _)| *live <= since);
        successes.get(next).map(|(live, id)| (*id, seconds(since, *live)))
    });
    Recovered {
        record: record.id.clone(),
        recovered_by: next.map(|(id, _)| id.to_owned()),
        seconds: next.and_then(|(_, seconds)| seconds),
    }
}

fn rate(count: u64, of: u64, why_unknown: &'static str) -> Rate {
    let value = (of > 0).then(|| count as f64 / of as f64);
    Rate { value, count, of, unknown_because: value.is_none().then_some(why_unknown) }
}

fn durations(seconds: &[u64], why_unknown: &'static str) -> Durations {
    let sorted = sorted(seconds.iter().copied());
    let median_seconds = median(&sorted);
    Durations {
        median_seconds,
        p90_seconds: (sorted.len() * 9).div_ceil(10).checked_sub(1).and_then(|rank| sorted.get(rank)).copied(),
        of: sorted.len() as u64,
        unknown_because: median_seconds.is_none().then_some(why_unknown),
    }
}

fn recovery(recovered: &[Recovered]) -> Recovery {
    let mut each = recovered.to_vec();
    each.sort_unstable();
    let seconds = sorted(each.iter().filter_map(|one| one.seconds));
    let median_seconds = median(&seconds);
    let why_unknown = if each.is_empty() { NOT_TAKEN_BACK } else { NOT_RECOVERED };
    Recovery {
        median_seconds,
        of: seconds.len() as u64,
        each,
        unknown_because: median_seconds.is_none().then_some(why_unknown),
    }
}

fn sorted(seconds: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sorted: Vec<u64> = seconds.collect();
    sorted.sort_unstable();
    sorted
}

/// The median of what is in order; between two, the whole second below their middle.
fn median(sorted: &[u64]) -> Option<u64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(u64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_and_a_percentile_are_whole_seconds() {
        for (seconds, expected) in [
            (vec![], (None, None)),
            (vec![7], (Some(7), Some(7))),
            (vec![4, 1], (Some(2), Some(4))),
            (vec![9, 1, 5], (Some(5), Some(9))),
            ((1..=10).collect(), (Some(5), Some(9))),
            ((1..=11).collect(), (Some(6), Some(10))),
            (vec![u64::MAX, u64::MAX], (Some(u64::MAX), Some(u64::MAX))),
        ] {
            let found = durations(&seconds, NOT_PUSHED);
            assert_eq!((found.median_seconds, found.p90_seconds), expected, "{seconds:?}");
            assert_eq!(found.unknown_because.is_some(), seconds.is_empty());
        }
    }
}
