//! What became of a deployment, in words.

use chrono::{DateTime, Utc};

use super::Style;
use super::mrkdwn::words;
use super::rollback::{self, is_held};
use super::version::{Change, NAME_UNITS_MAX};
use crate::record::{Progress, Record, State, UndoneBy};

/// For sentences that are not ours, such as ECS's reason.
pub(super) const SENTENCE_UNITS_MAX: usize = 500;

/// Emoji and words for the state of `record`, all of them ours.
pub(crate) fn headline(record: &Record) -> (&'static str, String) {
    let end = record.live_at.filter(|_| record.state == State::Succeeded).or(record.finished_at);
    let after = match between(record.started_at, end) {
        Some(time) => format!(" after {time}"),
        None => String::new(),
    };
    if let Some(headline) = rollback::headline(record, &after) {
        return headline;
    }
    match record.state {
        State::Intended => (":hourglass_flowing_sand:", "about to roll out".into()),
        State::Rolling => (":hourglass_flowing_sand:", format!("rolling out{}", progress(record.progress))),
        State::Succeeded => (":white_check_mark:", format!("live{after}")),
        State::Failed if record.ecs_deployment_id.is_none() => (":x:", "not started".into()),
        State::Failed if record.undone_by == Some(UndoneBy::Others) => {
            (":x:", format!("stopped by somebody else{after}"))
        }
        State::Failed if is_overdue(record) => (":x:", format!("not done in time, given up{after}")),
        State::Failed => (":x:", format!("failed{after}")),
        State::RolledBack => (
            ":rewind:",
            match between(record.live_at.or(record.finished_at), record.rolled_back_at) {
                Some(time) => format!("rolled back, {time} after going live"),
                None => "rolled back".into(),
            },
        ),
        State::Superseded => (":fast_forward:", format!("superseded{after}")),
        State::Skipped => (":no_entry_sign:", "not deployed".into()),
    }
}

/// How far the rollout has come.
pub(super) fn progress(progress: Option<Progress>) -> String {
    let Some(Progress { running, desired, failed }) = progress.filter(|progress| progress.desired > 0) else {
        return String::new();
    };
    let tasks = if desired == 1 { "task" } else { "tasks" };
    let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!(", {running} of {desired} {tasks} running{failed}")
}

/// Whether the rollout was given up because of its deadline.
fn is_overdue(record: &Record) -> bool {
    let is_late = record.deadline_at.zip(record.finished_at).is_some_and(|(deadline, end)| end >= deadline);
    is_late && record.undone_by != Some(UndoneBy::Ecs)
}

/// Whether people may have met the deployment's fault. A rollout that failed before it served is no outage; one that
/// made an alarm go off did serve.
pub(crate) fn has_served(record: &Record) -> bool {
    let has_alarms = record.diagnosis.as_ref().is_some_and(|diagnosis| !diagnosis.alarms.is_empty());
    let by_alarm = has_alarms && matches!(record.undone_by, Some(UndoneBy::Ecs | UndoneBy::Tidegate));
    record.state == State::RolledBack || record.state == State::Failed && (record.live_at.is_some() || by_alarm)
}

/// Whether the channel is told, and not only who follows the thread: of what people may have met, and of what waits for a
/// person.
pub(crate) fn is_for_all(record: &Record) -> bool {
    has_served(record) || is_held(record)
}

/// Why it is so, where people need to know, and what serves now: a line each.
pub(crate) fn why(record: &Record, change: &Change<'_>, style: Style<'_>) -> Vec<String> {
    if let Some(lines) = rollback::why(record, style) {
        return lines;
    }
    match record.state {
        State::Intended | State::Rolling | State::Succeeded => Vec::new(),
        State::Superseded | State::Skipped => sentences([record.reason.as_str(), ""]),
        State::Failed | State::RolledBack => {
            let summary = record.diagnosis.as_ref().map_or("", |diagnosis| &diagnosis.summary);
            let mut lines = sentences([summary, &record.reason]);
            let before =
                change.before().map(|before| style.name(before, NAME_UNITS_MAX)).filter(|before| !before.is_empty());
            lines.extend(serving(record, before.as_deref()));
            lines
        }
    }
}

/// The sentences that say something, and nothing that another one says too.
pub(super) fn sentences([one, other]: [&str; 2]) -> Vec<String> {
    let kept = match (one.trim(), other.trim()) {
        (one, other) if one.contains(other) => vec![one],
        (one, other) if other.contains(one) => vec![other],
        (one, other) => vec![one, other],
    };
    kept.into_iter().map(|it| words(it, SENTENCE_UNITS_MAX)).filter(|it| !it.is_empty()).collect()
}

/// What serves now, as far as that is certain.
fn serving(record: &Record, before: Option<&str>) -> Option<String> {
    let went_back = || format!("ECS went back to {}", before.unwrap_or("what ran before"));
    match record.undone_by {
        _ if record.ecs_deployment_id.is_none() => before.map(|before| format!("{before} keeps serving")),
        Some(UndoneBy::Ecs) if has_served(record) => Some(went_back()),
        Some(UndoneBy::Ecs) => Some(before.map_or_else(went_back, |before| format!("{before} kept serving"))),
        Some(UndoneBy::Tidegate) => Some("Tidegate took it back".into()),
        Some(UndoneBy::Others) if record.state == State::RolledBack => Some("somebody else took it back".into()),
        Some(UndoneBy::Others) | None => None,
    }
}

/// The time from one moment to another one, as people write it; `None` where none has passed.
pub(crate) fn between(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<String> {
    let seconds = (to? - from?).num_seconds();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        _ if seconds <= 0 => None,
        (0, 0, 0) => Some(format!("{seconds}s")),
        (0, 0, _) => Some(format!("{minutes}m{:02}s", seconds % 60)),
        (0, _, _) => Some(format!("{hours}h{:02}m", minutes % 60)),
        _ => Some(format!("{days}d{:02}h", hours % 24)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Diagnosis;
    use crate::record::tests::record;

    #[test]
    fn times_are_as_people_write_them() {
        let start: DateTime<Utc> = "2026-11-16T09:54:37Z".parse().unwrap();
        for (seconds, written) in [(45, "45s"), (192, "3m12s"), (3900, "1h05m"), (183_600, "2d03h")] {
            let end = start + chrono::TimeDelta::seconds(seconds);
            assert_eq!(between(Some(start), Some(end)).as_deref(), Some(written));
        }
        assert_eq!(between(Some(start), Some(start)), None);
    }

    #[test]
    fn no_sentence_is_said_twice() {
        assert_eq!(sentences(["out of memory", "tasks failed"]), ["out of memory", "tasks failed"]);
        assert_eq!(sentences(["tasks failed: out of memory", "out of memory"]), ["tasks failed: out of memory"]);
        assert_eq!(sentences(["failed", "tasks failed"]), ["tasks failed"]);
        assert_eq!(sentences(["", "tasks failed"]), ["tasks failed"]);
        assert!(sentences(["", " "]).is_empty());
    }

    #[test]
    fn only_what_has_served_is_an_outage() {
        let failed = Record { undone_by: Some(UndoneBy::Ecs), ..record(State::Failed) };
        let alarms = Diagnosis { alarms: vec!["web-5xx".into()], ..Diagnosis::default() };
        assert!(!has_served(&failed));
        assert!(has_served(&Record { diagnosis: Some(alarms), ..failed.clone() }));
        assert!(has_served(&Record { live_at: failed.started_at, ..failed }));
        assert!(has_served(&record(State::RolledBack)));
        assert!(!has_served(&record(State::Succeeded)));
    }
}
