//! How long things took, as far as a record tells. Metrics and the report measure the same.

use chrono::{DateTime, Utc};

use crate::record::{Origin, Record, State};

/// When the deployment went live, if it ever did; it may have been taken back since.
pub(crate) fn live(record: &Record) -> Option<DateTime<Utc>> {
    let has_been_live = matches!(record.state, State::Succeeded | State::RolledBack);
    has_been_live.then(|| record.live_at.or(record.finished_at).unwrap_or(record.detected_at))
}

/// Seconds from ECS's acceptance to live. Nobody has seen the end of a rollout that took no time: it was over when it was
/// found.
pub(crate) fn rollout(record: &Record) -> Option<u64> {
    seconds(record.started_at?, live(record)?).filter(|seconds| *seconds > 0)
}

/// Seconds from the push of the image to live.
pub(crate) fn push_to_live(record: &Record) -> Option<u64> {
    seconds(record.pushed_at.filter(|_| is_new(record))?, live(record)?)
}

/// Seconds from the commit that the image names to live. Older commits that came with it have waited longer.
pub(crate) fn commit_to_live(record: &Record) -> Option<u64> {
    let committed = record.provenance.as_ref()?.committed;
    seconds(committed.filter(|_| is_new(record))?, live(record)?)
}

/// Whether an image led to the deployment, and not a change of the service's tags, a person who has released it, or a
/// rollback: these may select an image of last year.
fn is_new(record: &Record) -> bool {
    !matches!(record.origin, Origin::Tags | Origin::Release | Origin::Rollback)
}

/// Whole seconds; `None` where clocks, or what an image says of itself, make it negative.
pub(crate) fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<u64> {
    u64::try_from((to - from).num_seconds()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;
    use crate::record::tests::record;

    fn at(time: &str) -> Option<DateTime<Utc>> {
        Some(format!("2026-11-16T{time}Z").parse().unwrap())
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let provenance = Some(Provenance { committed: at("09:00:00"), ..Provenance::default() });
        let live = Record {
            pushed_at: at("09:54:34"),
            started_at: at("09:54:37"),
            live_at: at("09:57:49"),
            provenance,
            ..record(State::Succeeded)
        };
        let measured = |record: &Record| (rollout(record), push_to_live(record), commit_to_live(record));
        let all = (Some(192), Some(195), Some(3469));
        for (what, record, expected) in [
            ("all is known", live.clone(), all),
            ("taken back since", Record { state: State::RolledBack, ..live.clone() }, all),
            (
                "of before the record had live_at",
                Record { live_at: None, finished_at: at("09:57:49"), ..live.clone() },
                all,
            ),
            ("selected by the tags", Record { origin: Origin::Tags, ..live.clone() }, (Some(192), None, None)),
            ("released by a person", Record { origin: Origin::Release, ..live.clone() }, (Some(192), None, None)),
            ("brought back", Record { origin: Origin::Rollback, ..live.clone() }, (Some(192), None, None)),
            ("never live", Record { state: State::Failed, ..live.clone() }, (None, None, None)),
            (
                "found when it was over",
                Record {
                    origin: Origin::External,
                    started_at: live.live_at,
                    pushed_at: None,
                    provenance: None,
                    ..live.clone()
                },
                (None, None, None),
            ),
            (
                "committed tomorrow",
                Record {
                    provenance: Some(Provenance { committed: at("10:00:00"), ..Provenance::default() }),
                    ..live.clone()
                },
                (Some(192), Some(195), None),
            ),
        ] {
            assert_eq!(measured(&record), expected, "{what}");
        }
    }
}
