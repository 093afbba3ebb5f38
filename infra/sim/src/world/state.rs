//! What the world is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{Call, Fate, Fates, Hook, autoscaling, changes, dynamodb, ecr, ecs, limits, logs, metering, queues};
use crate::mutants::Mutant;
use crate::permissions::Use;

/// `OK`, `ALARM` or `INSUFFICIENT_DATA` by the alarm's name.
pub(super) type Alarms = BTreeMap<String, String>;

pub struct State {
    pub calls: Vec<Call>,
    /// The permissions that all calls since the world began have needed.
    pub(super) used: BTreeSet<Use>,
    pub(super) fates: Fates,
    /// How many calls met each fate but being answered.
    pub met: BTreeMap<&'static str, u64>,
    /// A deliberate bug in the handlers.
    pub mutant: Option<&'static Mutant>,
    /// Writes that a bug holds back.
    pub(super) later: Vec<Call>,
    /// Numbers that were given out.
    pub(super) numbers: u64,
    pub ecs: ecs::Ecs,
    /// What ECS still answers to some: see [`Fate::Stale`].
    pub(super) remembered: Option<ecs::Ecs>,
    /// What was changed in ECS and Auto Scaling, as it was then.
    pub changes: Vec<changes::Change>,
    pub ecr: ecr::Ecr,
    pub groups: autoscaling::Groups,
    pub metered: metering::Metered,
    pub queues: queues::Queues,
    pub targets: queues::Targets,
    pub table: dynamodb::Table,
    pub alarms: Alarms,
    pub composite_alarms: Alarms,
    /// Since when they are in their states, in seconds since the epoch, where that is known.
    pub alarms_since: BTreeMap<String, f64>,
    /// Roles by name.
    pub roles: BTreeSet<String>,
    /// Secrets by the id that they are asked for with, name or ARN, and whether they are scheduled for deletion.
    pub secrets: BTreeMap<String, bool>,
    /// Parameters by name. The secrets of the sinks are not among them: they are there for `GetParameter` alone.
    pub parameters: BTreeSet<String>,
    /// What the Parameter Store has by name, where that is not the secret that a sink wants.
    pub secrets_by_name: BTreeMap<String, String>,
    pub logs: logs::Logs,
    pub rejects: Vec<Value>,
    /// What the queue of ticks was sent, each with the seconds after which it comes.
    pub ticks: Vec<(i64, Value)>,
    /// What the topic of the outcomes was told.
    pub published: Vec<Value>,
    /// What other topics were told, by ARN.
    pub chat: BTreeMap<String, Vec<Value>>,
    /// What EventBridge has taken, each `Detail` as JSON.
    pub events: Vec<Value>,
    /// The error code with which EventBridge refuses every entry, though it answers 200.
    pub events_refused: Option<&'static str>,
    /// Messages by their `ts`, each with all its versions. Replies in threads are not among them.
    pub slack: BTreeMap<String, Vec<Value>>,
    /// Replies by the `ts` of the message that they are replies to, then as `slack`.
    pub slack_threads: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
    pub slack_secret: String,
    /// What New Relic has taken: whole requests.
    pub newrelic: Vec<Value>,
    pub newrelic_key: String,
    /// The message of an error with which New Relic refuses everything, though it answers 200.
    pub newrelic_refuses: Option<&'static str>,
    /// What the webhook has taken.
    pub hooks: Vec<Hook>,
    pub hook_secret: String,
    /// Whether there are sinks beside Slack and the topic.
    pub other_sinks: bool,
    /// Documents of the embedded metric format.
    pub metrics: Vec<Value>,
    /// Whether ECS's rate limits are in force.
    pub limits_on: bool,
    pub limits: limits::Limits,
    /// How many calls the rate limits refused.
    pub throttled: usize,
    /// How long an invocation may take.
    pub time_out: Duration,
    /// How many invocations were killed because they took longer.
    pub timed_out: usize,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            calls: Vec::new(),
            met: BTreeMap::new(),
            mutant: None,
            later: Vec::new(),
            numbers: 0,
            used: BTreeSet::new(),
            fates: Box::new(|_, _| Fate::Answered),
            ecs: ecs::Ecs::default(),
            remembered: None,
            changes: Vec::new(),
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
