//! Metrics of CloudWatch, minute by minute.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime as SdkTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, ScanBy};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::error::{Error, from_sdk};

/// Most metrics that one `GetMetricData` call takes. See
/// [GetMetricData](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html).
pub const METRICS_PER_CALL_MAX: usize = 500;
const MINUTE: TimeDelta = TimeDelta::minutes(1);

/// A metric and how its minutes are summed up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Namespace, such as `AWS/SQS`.
    pub namespace: &'static str,
    /// Name.
    pub metric: &'static str,
    /// Dimensions, as name and value.
    pub dimensions: Vec<(&'static str, String)>,
    /// `Sum`, `Average` or `Maximum`.
    pub statistic: &'static str,
}

/// The minutes of a metric that are over, by when they ended.
pub type Minutes = BTreeMap<DateTime<Utc>, f64>;

/// CloudWatch's API.
#[derive(Debug, Clone)]
pub struct Metering {
    client: Client,
}

impl Metering {
    /// CloudWatch through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The minutes of each metric, those that ended in the `window` before `now`; in the order in which they are asked
    /// for. One call for every five hundred. A minute that CloudWatch does not know is absent.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn minutes(&self, asked: &[Asked], now: DateTime<Utc>, window: TimeDelta) -> Result<Vec<Minutes>, Error> {
        let mut all: Vec<Minutes> = vec![Minutes::new(); asked.len()];
        let end = now.duration_trunc(MINUTE).unwrap_or(now);
        for (page, some) in asked.chunks(METRICS_PER_CALL_MAX).enumerate() {
            let first = page * METRICS_PER_CALL_MAX;
            let queries = some.iter().enumerate().map(|(at, asked)| query(first + at, asked)).collect();
            let mut answers = self
                .client
                .get_metric_data()
                .set_metric_data_queries(Some(queries))
                .start_time(SdkTime::from_secs((end - window).timestamp()))
                .end_time(SdkTime::from_secs(end.timestamp()))
                .scan_by(ScanBy::TimestampDescending)
                .into_paginator()
                .send();
            while let Some(answer) = answers.next().await {
                let answer = answer.map_err(|error| from_sdk("GetMetricData", "the metrics of scaling", &error))?;
                for result in answer.metric_data_results() {
                    let at = result.id().and_then(|id| id.strip_prefix('m')?.parse::<usize>().ok());
                    let Some(minutes) = at.and_then(|at| all.get_mut(at)) else { continue };
                    for (start, value) in result.timestamps().iter().zip(result.values()) {
                        let end = DateTime::from_timestamp(start.secs(), 0).map(|start| start + MINUTE);
                        // A minute that is not over has not all of its sum.
                        if let Some(end) = end.filter(|end| *end <= now) {
                            minutes.insert(end, *value);
                        }
                    }
                }
            }
        }
        Ok(all)
    }
}

fn query(at: usize, asked: &Asked) -> MetricDataQuery {
    let dimensions = asked.dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(value).build());
    let metric = Metric::builder().namespace(asked.namespace).metric_name(asked.metric);
    let metric = metric.set_dimensions(Some(dimensions.collect())).build();
    let stat = MetricStat::builder().metric(metric).period(60).stat(asked.statistic).build();
    MetricDataQuery::builder().id(format!("m{at}")).metric_stat(stat).return_data(true).build()
}
