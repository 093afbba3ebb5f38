//! What minutes that are over teach: how long a task works on a message.
//!
//! In flight, divided by what is done, is no measure of it: messages that have failed are in flight too, until they show
//! again, and a few of them would multiply the estimate. So it is measured only while every task has enough to do. At
//! other times that quotient is no more than an upper bound.

use chrono::{DateTime, TimeDelta, Utc};

use super::state::State;
use super::{Goal, Minute, count, is_fresh};

/// How much a measurement counts.
const MEASURED_WEIGHT: f64 = 0.3;
/// How much an upper bound does.
const BOUND_WEIGHT: f64 = 0.2;
/// How far apart the numbers of running tasks may be for their mean to be used.
const STEADY: f64 = 0.1;
/// How many minutes an upper bound takes, how many of them must be known, and how many messages they must hold.
const BOUND_MINUTES: TimeDelta = TimeDelta::minutes(15);
const BOUND_MINUTES_MIN: usize = 10;
const BOUND_MESSAGES_MIN: f64 = 50.0;
/// Tasks that get less than this done, of what they should, are slow.
const SLOW: f64 = 0.5;
/// For so many minutes in a row, they are held up by something that more tasks would not help.
pub(super) const SLOW_MINUTES: u32 = 5;
/// Messages are late when they have been for so many minutes.
const LATE_MINUTES: usize = 3;

/// Learns from the minutes that have come since the last look, each once.
pub(super) fn learn(state: &mut State, minutes: &[Minute], goal: &Goal, now: DateTime<Utc>) {
    let mut new: Vec<&Minute> = minutes.iter().filter(|minute| minute.end <= now).collect();
    new.retain(|minute| state.learnt_until.is_none_or(|until| minute.end > until));
    new.sort_by_key(|minute| minute.end);
    for minute in new {
        let service_time = state.service_time(goal);
        match (measured(state, minute, goal), upper_bound(minutes, minute.end)) {
            (Some(measured), _) => {
                let is_slow = goal.service_time.min(service_time) < SLOW * measured;
                state.slow_minutes = if is_slow { state.slow_minutes.saturating_add(1) } else { 0 };
                state.learnt = Some(service_time + MEASURED_WEIGHT * (measured - service_time));
            }
            (None, Some(bound)) if bound < service_time => {
                state.slow_minutes = 0;
                state.learnt = Some(service_time + BOUND_WEIGHT * (bound - service_time));
            }
            _ => state.slow_minutes = 0,
        }
        state.learnt = Some(state.service_time(goal));
        state.learnt_until = Some(minute.end);
    }
}

/// How long a task has worked on a message in a minute in which, and in the one before, all tasks had enough to do.
fn measured(state: &State, minute: &Minute, goal: &Goal) -> Option<f64> {
    let done = minute.deleted.and_then(count).filter(|done| *done > 0.0)?;
    let within = |end: DateTime<Utc>| {
        let start = end - TimeDelta::minutes(1);
        let mut looks = state.samples.iter().filter(move |sample| start < sample.at && sample.at <= end).peekable();
        looks.peek().is_some().then_some(looks)
    };
    let looks: Vec<_> = within(minute.end - TimeDelta::minutes(1))?.chain(within(minute.end)?).collect();
    let slots = |running: u32| f64::from(running) * goal.concurrency;
    let is_saturated = looks.iter().all(|sample| sample.running > 0 && sample.visible >= slots(sample.running));
    let most = looks.iter().map(|sample| sample.running).max()?;
    let fewest = looks.iter().map(|sample| sample.running).min()?;
    let is_steady = f64::from(most - fewest) <= STEADY * f64::from(most);
    let mean = f64::midpoint(slots(most), slots(fewest));
    (is_saturated && is_steady).then(|| 60.0 * mean / done)
}

/// What a task works on a message at most, by [Little's law](https://doi.org/10.1287/opre.9.3.383), with room for chance.
fn upper_bound(minutes: &[Minute], end: DateTime<Utc>) -> Option<f64> {
    let within = minutes.iter().filter(|minute| minute.end <= end && end - minute.end < BOUND_MINUTES);
    let known = within.filter_map(|minute| Some((minute.in_flight.and_then(count)?, minute.deleted.and_then(count)?)));
    let (number, in_flight, done) = known.fold((0, 0.0, 0.0), |(number, flying, done), (more_flying, more_done)| {
        (number + 1, flying + more_flying, done + more_done)
    });
    let is_enough = number >= BOUND_MINUTES_MIN && in_flight >= BOUND_MESSAGES_MIN && done >= BOUND_MESSAGES_MIN;
    is_enough.then(|| 60.0 * in_flight / done * (1.0 + 2.0 / f64::sqrt(in_flight)))
}

/// Whether the oldest message has waited for longer than it may, for some minutes. SQS leaves out messages that were
/// [received three times](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html),
/// so this is a report and sizes nothing.
pub(super) fn is_late(minutes: &[Minute], target_wait: f64, now: DateTime<Utc>) -> bool {
    let mut known: Vec<&Minute> = minutes.iter().filter(|minute| minute.end <= now).collect();
    known.sort_by_key(|minute| std::cmp::Reverse(minute.end));
    let is_late = |minute: &&&Minute| minute.age.and_then(count).is_some_and(|age| age > target_wait);
    let is_current = known.first().is_some_and(|minute| is_fresh(minute, now));
    is_current && known.iter().take(LATE_MINUTES).filter(is_late).count() == LATE_MINUTES
}
