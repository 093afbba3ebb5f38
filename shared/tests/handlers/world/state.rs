//! What the world is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{Call, Fate, Fates, Hook, autoscaling, dynamodb, ecr, ecs, limits, logs, metering, queues};

/// `OK`, `ALARM` or `INSUFFICIENT_DATA` by the alarm's name.
pub(super) type Alarms = BTreeMap<String, String>;

pub(crate) struct State {
    pub(crate) calls: Vec<Call>,
    pub(super) fates: Fates,
    pub(crate) ecs: ecs::Ecs,
    pub(crate) ecr: ecr::Ecr,
    pub(crate) groups: autoscaling::Groups,
    pub(crate) metered: metering::Metered,
    pub(crate) queues: queues::Queues,
    pub(crate) targets: queues::Targets,
    pub(crate) table: dynamodb::Table,
    pub(crate) alarms: Alarms,
    pub(crate) composite_alarms: Alarms,
    /// Since when they are in their states, in seconds since the epoch, where that is known.
    pub(crate) alarms_since: BTreeMap<String, f64>,
    /// Roles by name.
    pub(crate) roles: BTreeSet<String>,
    /// Secrets by the id that they are asked for with, name or ARN, and whether they are scheduled for deletion.
    pub(crate) secrets: BTreeMap<String, bool>,
    /// Parameters by name. The secrets of the sinks are not among them: they are there for `GetParameter` alone.
    pub(crate) parameters: BTreeSet<String>,
    /// What the Parameter Store has by name, where that is not the secret that a sink wants.
    pub(crate) secrets_by_name: BTreeMap<String, String>,
    pub(crate) logs: logs::Logs,
    pub(crate) rejects: Vec<Value>,
    /// What the queue of ticks was sent, each with the seconds after which it comes.
    pub(crate) ticks: Vec<(i64, Value)>,
    /// What the topic of the outcomes was told.
    pub(crate) published: Vec<Value>,
    /// What other topics were told, by ARN.
    pub(crate) chat: BTreeMap<String, Vec<Value>>,
    /// What EventBridge has taken, each `Detail` as JSON.
    pub(crate) events: Vec<Value>,
    /// The error code with which EventBridge refuses every entry, though it answers 200.
    pub(crate) events_refused: Option<&'static str>,
    /// Messages by their `ts`, each with all its versions. Replies in threads are not among them.
    pub(crate) slack: BTreeMap<String, Vec<Value>>,
    /// Replies by the `ts` of the message that they are replies to, then as `slack`.
    pub(crate) slack_threads: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
    pub(crate) slack_secret: String,
    /// What New Relic has taken: whole requests.
    pub(crate) newrelic: Vec<Value>,
    pub(crate) newrelic_key: String,
    /// The message of an error with which New Relic refuses everything, though it answers 200.
    pub(crate) newrelic_refuses: Option<&'static str>,
    /// What the webhook has taken.
    pub(crate) hooks: Vec<Hook>,
    pub(crate) hook_secret: String,
    /// Whether there are sinks beside Slack and the topic.
    pub(crate) other_sinks: bool,
    /// Documents of the embedded metric format.
    pub(crate) metrics: Vec<Value>,
    /// Whether ECS's rate limits are in force.
    pub(crate) limits_on: bool,
    pub(crate) limits: limits::Limits,
    /// How many calls the rate limits refused.
    pub(crate) throttled: usize,
    /// How long an invocation may take.
    pub(crate) time_out: Duration,
    /// How many invocations were killed because they took longer.
    pub(crate) timed_out: usize,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            calls: Vec::new(),
            fates: Box::new(|_, _| Fate::Answered),
            ecs: ecs::Ecs::default(),
            ecr: ecr::Ecr::default(),
            groups: autoscaling::Groups::default(),
            metered: metering::Metered::default(),
            queues: queues::Queues::new(),
            targets: queues::Targets::new(),
            ticks: Vec::new(),
            table: dynamodb::Table::default(),
            alarms: Alarms::new(),
            composite_alarms: Alarms::new(),
            alarms_since: BTreeMap::new(),
            roles: BTreeSet::new(),
            secrets: BTreeMap::new(),
            parameters: BTreeSet::new(),
            secrets_by_name: BTreeMap::new(),
            logs: logs::Logs::new(),
            rejects: Vec::new(),
            published: Vec::new(),
            chat: BTreeMap::new(),
            events: Vec::new(),
            events_refused: None,
            slack: BTreeMap::new(),
            slack_threads: BTreeMap::new(),
            slack_secret: "xoxb-secret".into(),
            newrelic: Vec::new(),
            newrelic_key: "NRAK-secret".into(),
            newrelic_refuses: None,
            hooks: Vec::new(),
            hook_secret: "whsec_dGlkZWdhdGUncyBzZWNyZXQgb2YgdGhlIHRlc3Rz".into(),
            other_sinks: false,
            metrics: Vec::new(),
            limits_on: true,
            limits: limits::Limits::default(),
            throttled: 0,
            time_out: Duration::from_secs(120),
            timed_out: 0,
        }
    }
}
