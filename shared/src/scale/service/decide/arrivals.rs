//! How fast messages come.

use chrono::{DateTime, TimeDelta, Utc};

use super::state::State;
use super::{Goal, Minute, count, is_fresh};

/// A look is compared with one at least this long ago, and at most.
const LOOKS_APART: (f64, f64) = (15.0, 120.0);
/// Looks further apart are not compared.
const LOOKS_APART_MAX: TimeDelta = TimeDelta::seconds(180);
/// A backlog grows by chance, too: what is less than this many standard deviations is not told from it.
const DEVIATIONS: f64 = 2.0;

/// Messages a second by CloudWatch; `None` where its minutes are missing or old. The newest minute, or three where they
/// are higher; for long messages a longer mean: few come, and chance would rule.
pub(super) fn metered(minutes: &[Minute], service_time: f64, now: DateTime<Utc>) -> Option<f64> {
    let sent = |minute: &Minute| Some((minute.end, minute.sent.and_then(count)?));
    let known: Vec<(DateTime<Utc>, f64)> = minutes.iter().filter(|minute| minute.end <= now).filter_map(sent).collect();
    let newest = known.iter().map(|(end, _)| *end).max()?;
    let is_current = minutes.iter().any(|minute| minute.end == newest && is_fresh(minute, now));
    let mean = |length: i64| {
        let after = newest - TimeDelta::minutes(length);
        let (sum, number) = known
            .iter()
            .filter(|(end, _)| *end > after)
            .fold((0.0, 0.0), |(sum, number), (_, sent)| (sum + sent, number + 1.0));
        sum / number / 60.0
    };
    let length = minutes_of(service_time);
    is_current.then(|| if length < 3 { f64::max(mean(length), mean(3)) } else { mean(length) })
}

/// A time in whole minutes: one at least, and ten at most.
#[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
fn minutes_of(seconds: f64) -> i64 {
    (seconds / 60.0).ceil().clamp(1.0, 10.0) as i64
}

/// Messages a second by what the backlog has grown while all tasks were at work: CloudWatch would tell only minutes
/// later. `None` where it has not, or where it may be chance.
pub(super) fn surging(state: &State, goal: &Goal, now: DateTime<Utc>) -> Option<f64> {
    let service_time = state.service_time(goal);
    let (newest, earlier) = state.samples.split_last()?;
    if newest.at != now {
        return None;
    }
    let apart = seconds(service_time.clamp(LOOKS_APART.0, LOOKS_APART.1));
    let compared = earlier.iter().rev().find(|sample| now - sample.at >= apart)?;
    if now - compared.at > LOOKS_APART_MAX {
        return None;
    }
    let slots = f64::from(newest.running) * goal.concurrency;
    let seconds = f64::from(i32::try_from((now - compared.at).num_milliseconds()).unwrap_or(i32::MAX)) / 1000.0;
    let grown = newest.visible - compared.visible;
    let chance = DEVIATIONS * (slots * seconds / service_time + newest.visible).sqrt();
    let is_saturated = newest.visible >= slots;
    (is_saturated && grown > chance).then(|| grown / seconds + slots / service_time)
}

/// A time of so many seconds, to the millisecond; at most a day.
#[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
pub(super) fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds.clamp(0.0, 86_400.0) * 1000.0) as i64)
}

/// One rate of the two: the higher one, so that more messages never mean fewer tasks.
pub(super) fn combined(metered: Option<f64>, surging: Option<f64>) -> Option<f64> {
    match (metered, surging) {
        (Some(metered), Some(surging)) => Some(metered.max(surging)),
        (one, other) => one.or(other),
    }
}
