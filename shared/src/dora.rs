//! [DORA's measures](https://dora.dev/guides/dora-metrics/) from the records: of each service, and of all.
//!
//! * Days are those of UTC, and every day of the window counts, those without a deployment too.
//! * A deployment is a record that went live, on the day it did. What failed before it was live is kept apart, as is what
//!   a newer deployment superseded. Decisions not to deploy, and what has no outcome yet, are not counted.
//! * Deployments by others count, and are named beside.
//! * What brings a good release back is no deployment, whatever becomes of it: it ends a failure. What is bad and stays
//!   counts as taken back, for it should have been.
//! * What can't be known is `null`, with the reason. It is never 0 for lack of data.
//!
//! Records from outside the window are welcome and count for nothing by themselves: a failure on the day before makes a
//! deployment rework, a success on the day after ends a recovery. Measure a service against its own past, and not one
//! team against another.

mod facts;
mod frequency;
mod text;
pub(crate) mod times;

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use serde::Serialize;

use self::facts::Facts;
pub use self::text::text;
use crate::record::Record;

/// Names the schema of the report's JSON, which only ever grows.
const SCHEMA: &str = "tidegate.dora/1";
/// The most days that a window has. A longer one begins later than it was asked to, and says so.
const DAYS_MAX: u64 = 3653;
/// How long after a failure a deployment counts as rework.
const REWORK_HOURS: i64 = 24;

/// DORA's measures of a window of days.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `tidegate.dora/1`.
    pub schema: &'static str,
    /// The first day.
    pub from: NaiveDate,
    /// The last day; it counts.
    pub to: NaiveDate,
    /// Calendar days in the window: what frequencies are divided by.
    pub days: u64,
    /// Every service that has a record, in order of their names.
    pub services: Vec<ServiceReport>,
    /// All services together.
    pub total: Measures,
}

/// The measures of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceReport {
    /// What people call the environment.
    pub environment: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// Its measures.
    #[serde(flatten)]
    pub measures: Measures,
}

/// The measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// What was counted.
    pub counts: Counts,
    /// How often something goes live.
    pub deployment_frequency: Frequency,
    /// Taken back after it was live, of all that went live.
    pub change_fail_rate: Rate,
    /// Never went live, of all that did or should have. Not part of DORA's measures: nobody has been served by it.
    pub failed_before_serving_rate: Rate,
    /// From when a deployment turned out bad to when the next good one of the service was live, most often the release that
    /// was brought back. Rollouts that were replaced before they were live are among them; what ECS took back is not, for
    /// with that the earlier release serves again.
    pub recovery_time: Recovery,
    /// From the push of the image to live.
    pub push_to_live: Durations,
    /// From the commit to live, of images that name their commit's time.
    pub change_lead_time: Durations,
    /// Went live within 24 hours after another one of the service had failed or was taken back, of all that went live. A
    /// heuristic: nobody has said that it was a repair.
    pub rework_rate: Rate,
}

/// What was counted in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Went live: `succeeded` and `rolled_back`.
    pub deployments: u64,
    /// Those of them that others have made.
    pub by_others: u64,
    /// Went live and stayed.
    pub succeeded: u64,
    /// Went live and was taken back, or should have been, whenever that was.
    pub rolled_back: u64,
    /// Never went live.
    pub failed_before_serving: u64,
    /// Gave way to a newer deployment before it was live.
    pub superseded: u64,
    /// Good releases that Tidegate has brought back. They are no deployments.
    pub brought_back: u64,
}

/// How often something goes live.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frequency {
    /// Deployments on an average day.
    pub per_day: Option<f64>,
    /// What it was divided by.
    pub days: u64,
    /// Days on which something went live.
    pub days_with_deployments: u64,
    /// Days with deployments in the median week.
    pub median_days_per_week: Option<f64>,
    /// Weeks that it rests on: whole ones, counted back from the last day.
    pub weeks: u64,
    /// The bucket.
    pub bucket: Option<Bucket>,
    /// Why one of these is not known.
    pub unknown_because: Option<&'static str>,
    /// Every day of the window.
    pub by_day: Vec<Day>,
}

/// What went live on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The day.
    pub date: NaiveDate,
    /// How many deployments went live.
    pub deployments: u64,
    /// Those of them that others have made.
    pub by_others: u64,
}

/// The buckets of [Four Keys](https://github.com/dora-team/fourkeys/blob/main/METRICS.md), with months of 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Bucket {
    /// Anything rarer than monthly.
    Yearly,
    /// At least one deployment in the median month.
    Monthly,
    /// At least one day with deployments in the median week.
    Weekly,
    /// At least three of them.
    Daily,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// From 0 to 1.
    pub value: Option<f64>,
    /// How many it is about.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// Why it is not known.
    pub unknown_because: Option<&'static str>,
}

/// How long something takes, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Durations {
    /// Half of them are as fast.
    pub median_seconds: Option<u64>,
    /// Nine of ten are as fast (the nearest rank).
    pub p90_seconds: Option<u64>,
    /// How many deployments this rests on.
    pub of: u64,
    /// Why it is not known.
    pub unknown_because: Option<&'static str>,
}

/// How long it takes until something good is live again, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Half of them are as fast.
    pub median_seconds: Option<u64>,
    /// How many recoveries this rests on.
    pub of: u64,
    /// Every deployment that turned out bad, in order of their records.
    pub each: Vec<Recovered>,
    /// Why it is not known.
    pub unknown_because: Option<&'static str>,
}

/// A deployment that turned out bad.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Recovered {
    /// Id of its record.
    pub record: String,
    /// Id of the record of what went live after it, and stayed: a deployment, or a release that was brought back.
    pub recovered_by: Option<String>,
    /// Seconds from when it turned out bad to when that one was live.
    pub seconds: Option<u64>,
}

/// The days that a report is about.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: NaiveDate,
    to: NaiveDate,
}

impl Window {
    fn new(from: NaiveDate, to: NaiveDate) -> Self {
        let earliest = to.checked_sub_days(Days::new(DAYS_MAX - 1)).unwrap_or(NaiveDate::MIN);
        Self { from: from.max(earliest), to }
    }

    fn has(&self, day: NaiveDate) -> bool {
        (self.from..=self.to).contains(&day)
    }

    fn days(&self) -> impl Iterator<Item = NaiveDate> {
        self.from.iter_days().take_while(|day| *day <= self.to)
    }
}

/// The measures of the days from `from` to `to`, both included. The order of the records does not matter.
#[must_use]
pub fn report(records: &[Record], from: NaiveDate, to: NaiveDate) -> Report {
    let window = Window::new(from, to);
    let mut by_service: BTreeMap<_, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let service = (record.environment(), record.cluster.as_str(), record.service.as_str());
        by_service.entry(service).or_default().push(record);
    }
    let mut all = Facts::default();
    let mut services = Vec::with_capacity(by_service.len());
    for ((environment, cluster, service), records) in by_service {
        let facts = Facts::of(&records, &window);
        services.push(ServiceReport {
            environment: environment.to_owned(),
            cluster: cluster.to_owned(),
            service: service.to_owned(),
            measures: facts.measures(&window),
        });
        all.add(facts);
    }
    let total = all.measures(&window);
    Report { schema: SCHEMA, from: window.from, to, days: total.deployment_frequency.days, services, total }
}

#[cfg(test)]
mod tests;
