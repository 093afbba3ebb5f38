//! What a decision about a cluster is made of.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What an instance has, or a task needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPU units: 1024 are one vCPU.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory: i64,
    /// GPUs.
    pub gpus: i64,
    /// Host ports that are taken.
    pub ports: BTreeSet<u16>,
}

/// What the cluster's tags ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Above this CPU (percent) the cluster gets instances.
    pub cpu_high: f64,
    /// Below this CPU (percent) the cluster may lose one.
    pub cpu_low: f64,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// In the group, and not yet in the cluster.
    Booting,
    /// It takes tasks.
    Active,
    /// It takes no more tasks.
    Draining,
    /// The group terminates it.
    Terminating,
    /// The cluster has it, but can't reach its agent.
    Lost,
}

/// A task on an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// The service it belongs to; `None` where somebody has run it by itself: nobody moves it.
    pub service: Option<String>,
    /// What it needs.
    pub needs: Resources,
    /// Whether there is one on each instance.
    pub is_daemon: bool,
    /// Whether it protects itself from scale-in now.
    pub is_protected: bool,
}

/// An instance of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// EC2's id.
    pub id: String,
    /// ARN of the container instance; `None` while it boots.
    pub container_instance: Option<String>,
    /// Where it is in its life.
    pub stage: Stage,
    /// The Availability Zone. The group keeps its zones even, and would terminate another instance where we take one
    /// from the wrong zone.
    pub zone: Option<String>,
    /// What it has.
    pub registered: Resources,
    /// What of it is free. The ports are those that are taken.
    pub remaining: Resources,
    /// What runs on it.
    pub tasks: Vec<Task>,
    /// Whether the group keeps it from scale-in.
    pub is_protected: bool,
}

/// Tasks of a service that wait for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The service.
    pub service: String,
    /// What each of them needs.
    pub needs: Resources,
    /// How many there are.
    pub tasks: u32,
    /// Whether ECS says that it finds no place for them.
    pub is_blocked: bool,
}

/// The Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Instances that it is to have.
    pub desired: u32,
    /// Whether an instance refresh is going on.
    pub is_refreshing: bool,
    /// Processes that somebody has suspended (`Launch`, `Terminate`, …).
    pub suspended: BTreeSet<String>,
}

/// A minute of the cluster as CloudWatch has it. Only minutes that are over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// When it ended.
    pub end: DateTime<Utc>,
    /// Percent of the cluster's CPU that is used (`CPUUtilization`, average).
    pub cpu: Option<f64>,
    /// Percent of the cluster's memory that is used (`MemoryUtilization`, average).
    pub memory: Option<f64>,
}

/// Somebody else takes an instance away: EC2 (Spot), or the group (a refresh, a zone that is rebalanced).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// EC2's id of the instance.
    pub instance: String,
    /// The lifecycle hook that waits for us.
    pub hook: Option<Hook>,
}

/// A lifecycle action that waits to be completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Name of the group.
    pub group: String,
    /// Name of the hook.
    pub name: String,
    /// Its token.
    pub token: String,
}

/// What a decision is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed<'a> {
    /// The time.
    pub now: DateTime<Utc>,
    /// What is asked for.
    pub goal: &'a Goal,
    /// The group.
    pub group: &'a Group,
    /// Its instances.
    pub instances: &'a [Instance],
    /// Tasks without a place.
    pub unplaced: &'a [Demand],
    /// What one task of each service of the cluster needs.
    pub shapes: &'a BTreeMap<String, Resources>,
    /// Whether a deployment is going on in the cluster.
    pub is_rolling_out: bool,
    /// What CloudWatch has of the cluster, oldest first; the newest 20 minutes are enough.
    pub minutes: &'a [Minute],
    /// Instances that somebody else takes away, as events have told.
    pub leaving: &'a [Leaving],
}
