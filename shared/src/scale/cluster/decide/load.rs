//! How busy the cluster is, by the minutes of CloudWatch.
//!
//! `CPUUtilization` and `MemoryUtilization` of a cluster are what its tasks use of what its instances have registered, see
//! [Amazon ECS CloudWatch metrics](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html).

use chrono::{DateTime, TimeDelta, Utc};

use super::seen::Minute;

/// A minute that is older is no evidence any more.
const FRESH: TimeDelta = TimeDelta::minutes(4);
/// Two minutes whose ends are further apart are not two in a row.
const IN_A_ROW: TimeDelta = TimeDelta::seconds(90);
/// What is above, in percent, is a mistake of somebody.
const ABSURD: f64 = 200.0;

/// What is used of one resource, newest first: when a minute ended, and percent. Only what is fresh and makes sense.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Load {
    minutes: Vec<(DateTime<Utc>, f64)>,
}

impl Load {
    /// What the minutes say. Missing or stale ones are no load at all, which is not a load of zero.
    pub(super) fn of(minutes: &[Minute], now: DateTime<Utc>, value: fn(&Minute) -> Option<f64>) -> Self {
        let known = minutes.iter().filter_map(|minute| Some((minute.end, value(minute)?)));
        let sane = known.filter(|(end, percent)| *end <= now && (0.0..=ABSURD).contains(percent));
        let mut minutes: Vec<_> = sane.collect();
        minutes.sort_by_key(|minute| std::cmp::Reverse(minute.0));
        minutes.dedup_by_key(|minute| minute.0);
        match minutes.first() {
            Some((newest, _)) if now - *newest <= FRESH => Self { minutes },
            _ => Self::default(),
        }
    }

    /// Percent that are used, in the newest minute.
    pub(super) fn newest(&self) -> Option<f64> {
        self.minutes.first().map(|minute| minute.1)
    }

    /// When the newest minute began.
    pub(super) fn began(&self) -> Option<DateTime<Utc>> {
        self.minutes.first().map(|minute| minute.0 - TimeDelta::minutes(1))
    }

    /// The newest minute, where it and the one before are both above this many percent: when it began, and what was used.
    pub(super) fn above(&self, percent: f64) -> Option<(DateTime<Utc>, f64)> {
        let (newest, before) = (self.minutes.first()?, self.minutes.get(1)?);
        let is_lasting = newest.1 > percent && before.1 > percent && newest.0 - before.0 <= IN_A_ROW;
        self.began().filter(|_| is_lasting).map(|began| (began, newest.1))
    }
}

/// How many instances it takes for this load of `instances` to be `target` percent: a proportion, as AWS's target tracking
/// has it. No more than `most`.
pub(super) fn instances_for(instances: u32, percent: f64, target: f64, most: u32) -> u32 {
    let load = f64::from(instances) * percent;
    // Counted, not divided: there is no way from f64 to u32 that loses nothing. A thousandth is for rounding.
    let suffices = |count: &u32| f64::from(*count) * target + 0.001 >= load;
    (0..most).find(suffices).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::NowForTests;

    fn load(minutes: &[(i64, Option<f64>)]) -> Load {
        let now = Utc::now_for_tests();
        let minute = |(second, cpu): &(i64, Option<f64>)| Minute {
            end: now + TimeDelta::seconds(*second),
            cpu: *cpu,
            memory: None,
        };
        let minutes: Vec<Minute> = minutes.iter().map(minute).collect();
        Load::of(&minutes, now, |minute| minute.cpu)
    }

    /// What the minutes are, the minutes, what was used in the newest, and whether it is above 85 %.
    type Case = (&'static str, &'static [(i64, Option<f64>)], Option<f64>, bool);

    #[test]
    fn only_fresh_minutes_that_make_sense_count() {
        let cases: [Case; 12] = [
            ("nothing", &[], None, false),
            ("two above", &[(-120, Some(86.0)), (-60, Some(90.0))], Some(90.0), true),
            ("in any order", &[(-60, Some(90.0)), (-120, Some(86.0))], Some(90.0), true),
            ("at the threshold", &[(-120, Some(85.0)), (-60, Some(90.0))], Some(90.0), false),
            ("one of them", &[(-60, Some(90.0))], Some(90.0), false),
            ("the same twice", &[(-60, Some(90.0)), (-60, Some(90.0))], Some(90.0), false),
            ("a hole between", &[(-180, Some(90.0)), (-120, None), (-60, Some(90.0))], Some(90.0), false),
            ("just fresh", &[(-300, Some(90.0)), (-240, Some(90.0))], Some(90.0), true),
            ("stale", &[(-301, Some(90.0)), (-241, Some(90.0))], None, false),
            ("to come", &[(-60, Some(10.0)), (60, Some(90.0)), (120, Some(90.0))], Some(10.0), false),
            ("no numbers", &[(-120, Some(f64::NAN)), (-60, Some(f64::INFINITY))], None, false),
            ("absurd", &[(-120, Some(-1.0)), (-60, Some(1e9))], None, false),
        ];
        for (what, minutes, newest, is_above) in cases {
            let load = load(minutes);
            assert_eq!((load.newest(), load.above(85.0).is_some()), (newest, is_above), "{what}");
        }
    }

    #[test]
    fn the_size_is_in_proportion() {
        let cases = [
            ((10, 91.0, 70.0, 99), 13),
            ((10, 70.0, 70.0, 99), 10),
            ((0, 91.0, 70.0, 99), 0),
            ((3, 100.0, 70.0, 99), 5),
            ((3, 100.0, 70.0, 4), 4),
            ((3, 0.0, 70.0, 99), 0),
            ((3, 100.0, 0.0, 7), 7),
        ];
        for ((instances, percent, target, most), expected) in cases {
            assert_eq!(instances_for(instances, percent, target, most), expected, "{instances} at {percent}");
        }
    }
}
