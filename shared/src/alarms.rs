//! The CloudWatch alarms that watch a deployment.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};
use chrono::{DateTime, Utc};

use crate::error::{Error, from_sdk};

/// Most alarms that one `DescribeAlarms` call takes.
const ALARMS_PER_CALL_MAX: usize = 100;

/// What is known of some alarms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlarmStates {
    /// Those in the state ALARM.
    pub firing: BTreeSet<String>,
    /// Since when, where CloudWatch tells, and unless their actions are suppressed.
    pub since: BTreeMap<String, DateTime<Utc>>,
    /// Those that do not exist.
    pub missing: BTreeSet<String>,
    /// Why nothing could be learnt, where that is so.
    pub unknown: Option<String>,
}

impl AlarmStates {
    /// What is known of the alarms with these names.
    #[must_use]
    pub fn of(&self, names: &BTreeSet<String>) -> Self {
        let common = |some: &BTreeSet<String>| some.intersection(names).cloned().collect();
        let since = self.since.iter().filter(|(name, _)| names.contains(*name));
        Self {
            firing: common(&self.firing),
            since: since.map(|(name, since)| (name.clone(), *since)).collect(),
            missing: common(&self.missing),
            unknown: self.unknown.clone(),
        }
    }
}

/// CloudWatch's API.
#[derive(Debug, Clone)]
pub struct Alarms {
    client: Client,
}

impl Alarms {
    /// CloudWatch through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The states of the alarms with these names, metric and composite. Asks nothing where there are none. A failure is
    /// no reason to stop a deployment: the answer says what could not be learnt.
    pub async fn states(&self, names: &BTreeSet<String>) -> AlarmStates {
        match self.read(names).await {
            Ok(states) => states,
            Err(error) => AlarmStates { unknown: Some(error.to_string()), ..AlarmStates::default() },
        }
    }

    async fn read(&self, names: &BTreeSet<String>) -> Result<AlarmStates, Error> {
        let mut states = AlarmStates { missing: names.clone(), ..AlarmStates::default() };
        let names: Vec<String> = names.iter().cloned().collect();
        for page in names.chunks(ALARMS_PER_CALL_MAX) {
            let answer = self
                .client
                .describe_alarms()
                .set_alarm_names(Some(page.to_vec()))
                .alarm_types(AlarmType::MetricAlarm)
                .alarm_types(AlarmType::CompositeAlarm)
                .max_records(100)
                .send()
                .await
                .map_err(|error| from_sdk("DescribeAlarms", page.join(", "), &error))?;
            let metric = answer.metric_alarms().iter().map(|alarm| {
                let since = alarm.state_transitioned_timestamp().or(alarm.state_updated_timestamp());
                (alarm.alarm_name(), alarm.state_value(), since)
            });
            let composite = answer.composite_alarms().iter().map(|alarm| {
                let since = alarm.state_transitioned_timestamp().or(alarm.state_updated_timestamp());
                let since = since.filter(|_| alarm.actions_suppressed_by().is_none());
                (alarm.alarm_name(), alarm.state_value(), since)
            });
            for (name, state, since) in metric.chain(composite) {
                let name = name.unwrap_or_default();
                states.missing.remove(name);
                if state == Some(&StateValue::Alarm) {
                    states.firing.insert(name.to_owned());
                    let since = since.and_then(|since| DateTime::from_timestamp_millis(since.to_millis().ok()?));
                    states.since.extend(since.map(|since| (name.to_owned(), since)));
                }
            }
        }
        Ok(states)
    }
}
