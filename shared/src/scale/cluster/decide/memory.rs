//! What is remembered of a cluster from one look to the next.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::seen::{Leaving, Resources};

/// A break between two looks that is longer than this begins the window of scale-in anew: nobody has looked meanwhile.
const BREAK: TimeDelta = TimeDelta::minutes(5);
/// How long the number of instances is remembered: longer than the minutes of CloudWatch that size the cluster.
const SIZES_KEPT: TimeDelta = TimeDelta::minutes(15);
/// How long the smallest instance is remembered after it is gone.
const SHAPE_KEPT: TimeDelta = TimeDelta::days(1);

/// What is remembered from one look to the next. Losing it is safe: all windows begin anew, and no instance goes before
/// they are over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// When the last look was.
    pub looked_at: Option<DateTime<Utc>>,
    /// The group's desired capacity, as it was seen last.
    pub desired: Option<u32>,
    /// When the cluster was last to get larger, by whomever.
    pub scaled_out_at: Option<DateTime<Utc>>,
    /// The smallest instance that was seen, without what daemons take of it.
    pub shape: Option<Shape>,
    /// How many instances were in the cluster, and since when; oldest first.
    pub sizes: Vec<Size>,
    /// Instances that boot, since when.
    pub booting: BTreeMap<String, DateTime<Utc>>,
    /// Instances whose agent ECS does not reach, since when.
    pub lost: BTreeMap<String, DateTime<Utc>>,
    /// Since when the group has had fewer instances than it is to have.
    pub short_since: Option<DateTime<Utc>>,
    /// Instances that somebody else drains and that are empty, since when.
    pub left: BTreeMap<String, DateTime<Utc>>,
    /// Since when CloudWatch has had no fresh minutes.
    pub blind_since: Option<DateTime<Utc>>,
    /// Instances that could go, since when.
    pub unneeded: BTreeMap<String, DateTime<Utc>>,
    /// Instances that we drain to be rid of them.
    pub drains: BTreeMap<String, Drain>,
    /// Instances that did not become empty in time, and when they were given up.
    pub given_up: BTreeMap<String, DateTime<Utc>>,
    /// Instances that were to go and that somebody wants to stay, or that could not go; and since when.
    pub kept: BTreeMap<String, DateTime<Utc>>,
    /// Instances that somebody else takes away.
    pub leaving: BTreeMap<String, Departure>,
    /// Services whose tasks find no place, and what was tried.
    pub in_vain: BTreeMap<String, InVain>,
}

/// A shape that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// What such an instance offers.
    pub offers: Resources,
    /// When it was seen last.
    pub at: DateTime<Utc>,
}

/// How large the cluster was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Since when.
    pub at: DateTime<Utc>,
    /// Instances that were in the cluster.
    pub instances: u32,
}

/// An instance that we drain to be rid of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether ECS has shown it as DRAINING.
    #[serde(default)]
    pub is_seen: bool,
    /// Whether it is to take tasks again.
    #[serde(default)]
    pub is_ending: bool,
    /// When the group was told to terminate it.
    #[serde(default)]
    pub terminated_at: Option<DateTime<Utc>>,
}

/// An instance that somebody else takes away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    /// As the event has told.
    pub told: Leaving,
    /// When we heard of it; of the lifecycle hook, where there is one.
    pub since: DateTime<Utc>,
    /// When ECS was last told to drain it.
    #[serde(default)]
    pub drained_at: Option<DateTime<Utc>>,
    /// When the group was last asked to wait.
    #[serde(default)]
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// When the group was told to go on.
    #[serde(default)]
    pub completed_at: Option<DateTime<Utc>>,
}

/// A service whose tasks find no place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InVain {
    /// How many tasks waited at first.
    pub tasks: u32,
    /// How many instances were in the cluster then.
    pub instances: u32,
    /// Since when there has been an instance that should have helped.
    #[serde(default)]
    pub tried_at: Option<DateTime<Utc>>,
}

impl State {
    /// The state at the begin of a look at `now`, at a group that is to have `desired` instances.
    pub(super) fn at(&self, now: DateTime<Utc>, desired: u32) -> Self {
        let mut state = self.clone();
        let is_continued = self.looked_at.is_some_and(|looked| looked <= now && now - looked <= BREAK);
        if !is_continued {
            state.unneeded.clear();
            state.in_vain.clear();
        }
        if self.desired.is_some_and(|before| before < desired) {
            state.scaled_out_at = Some(now);
        }
        state.scaled_out_at = state.scaled_out_at.map(|at| at.min(now));
        state.shape = state.shape.filter(|shape| now - shape.at <= SHAPE_KEPT);
        state.desired = Some(desired);
        state.looked_at = Some(now);
        state
    }

    /// Notes how many instances are in the cluster now.
    pub(super) fn note_size(&mut self, now: DateTime<Utc>, instances: u32) {
        self.sizes.retain(|size| size.at <= now);
        if self.sizes.last().is_none_or(|last| last.instances != instances) {
            self.sizes.push(Size { at: now, instances });
        }
        // The last one before the window is what was in force when it began.
        while self.sizes.get(1).is_some_and(|second| now - second.at > SIZES_KEPT) {
            self.sizes.remove(0);
        }
    }

    /// How many instances were in the cluster at this time, as far back as is known.
    pub(super) fn size_at(&self, time: DateTime<Utc>) -> u32 {
        let in_force = self.sizes.iter().rev().find(|size| size.at <= time);
        in_force.or(self.sizes.first()).map_or(0, |size| size.instances)
    }
}

/// Since when each of these has been so: as remembered, or now.
pub(super) fn since<'a>(
    before: &BTreeMap<String, DateTime<Utc>>,
    ids: impl IntoIterator<Item = &'a str>,
    now: DateTime<Utc>,
) -> BTreeMap<String, DateTime<Utc>> {
    ids.into_iter().map(|id| (id.to_owned(), before.get(id).map_or(now, |since| *since.min(&now)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::NowForTests;

    #[test]
    fn the_size_in_force_is_the_last_one_before() {
        let now = Utc::now_for_tests();
        let at = |minutes| now + TimeDelta::minutes(minutes);
        let mut state = State::default();
        assert_eq!(state.size_at(now), 0);
        for (minute, size) in [(0, 3), (1, 3), (5, 5), (9, 4)] {
            state.note_size(at(minute), size);
        }
        let seen: Vec<u32> = [-1, 0, 4, 5, 8, 9, 60].map(|minute| state.size_at(at(minute))).into();
        assert_eq!(seen, [3, 3, 3, 5, 5, 4, 4]);
        state.note_size(at(21), 4);
        assert_eq!(state.sizes.len(), 2, "what is older than 15 minutes is forgotten: {:?}", state.sizes);
        state.note_size(at(-30), 9);
        assert_eq!(state.sizes, [Size { at: at(-30), instances: 9 }], "a clock that was set back begins anew");
    }

    #[test]
    fn a_state_of_an_older_version_can_be_read() {
        let state: State = serde_json::from_str("{}").unwrap();
        assert_eq!(state, State::default());
        let json = r#"{"drains":{"i-1":{"since":"2026-11-16T10:00:00Z"}},"in_vain":{}}"#;
        let state: State = serde_json::from_str(json).unwrap();
        assert!(!state.drains["i-1"].is_ending);
    }
}
