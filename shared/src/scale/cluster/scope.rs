//! Which clusters an event is about.

use std::collections::BTreeSet;

use super::decide::{Hook, Leaving};
use super::tags::ClusterTags;
use super::{ClusterScaler, is_gone};
use crate::clusters::Cluster;
use crate::error::Error;
use crate::events::{AlarmFired, InstanceLeaving};

/// Which clusters to look at, of those that have opted in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// By name or ARN.
    Named(BTreeSet<String>),
    /// By the names of their groups.
    OfGroups(BTreeSet<String>),
    /// The one that has this instance.
    WithInstance(String),
}

impl Scope {
    /// Whom an alarm is about. One that names no dimension at all may be made of others: it is about everybody.
    pub(super) fn of_alarm(alarm: &AlarmFired) -> Option<Self> {
        let of = |name: &str| alarm.dimension(name).map(str::to_owned).collect::<BTreeSet<String>>();
        let (clusters, groups) = (of("ClusterName"), of("AutoScalingGroupName"));
        match (alarm.dimensions.is_empty(), clusters.is_empty(), groups.is_empty()) {
            (true, ..) => Some(Self::All),
            (_, false, _) => Some(Self::Named(clusters)),
            (_, _, false) => Some(Self::OfGroups(groups)),
            _ => None,
        }
    }

    /// The cluster of an instance that leaves, and what the decision is to know of it.
    pub(super) fn of_leaving(InstanceLeaving { instance, action }: InstanceLeaving) -> (Self, Leaving) {
        let hook = action.map(|action| Hook { group: action.group, name: action.hook, token: action.token });
        let scope = match &hook {
            Some(hook) => Self::OfGroups(BTreeSet::from([hook.group.clone()])),
            None => Self::WithInstance(instance.clone()),
        };
        (scope, Leaving { instance, hook })
    }
}

impl ClusterScaler {
    /// Those of the clusters that are meant.
    pub(super) async fn chosen<'a>(&self, all: &'a [Cluster], scope: &Scope) -> Result<Vec<&'a Cluster>, Error> {
        let is_of = |cluster: &Cluster, groups: &BTreeSet<String>| {
            ClusterTags::read(&cluster.tags).group.is_some_and(|group| groups.contains(&group))
        };
        let is_named =
            |cluster: &Cluster, names: &BTreeSet<String>| names.contains(&cluster.name) || names.contains(&cluster.arn);
        Ok(match scope {
            Scope::All => all.iter().collect(),
            Scope::Named(names) => all.iter().filter(|cluster| is_named(cluster, names)).collect(),
            Scope::OfGroups(groups) => all.iter().filter(|cluster| is_of(cluster, groups)).collect(),
            Scope::WithInstance(instance) => self.with_instance(all, instance).await?,
        })
    }

    async fn with_instance<'a>(&self, all: &'a [Cluster], instance: &str) -> Result<Vec<&'a Cluster>, Error> {
        // Nothing else belongs into the filter.
        if !instance.chars().all(|character| character.is_ascii_alphanumeric() || character == '-') {
            return Err(Error::Input(format!("`{instance}` is no id of an EC2 instance")));
        }
        let filter = format!("ec2InstanceId in ['{instance}']");
        for cluster in all {
            match self.ecs.list_container_instances(&cluster.name, Some(&filter)).await {
                Ok(found) if !found.is_empty() => return Ok(vec![cluster]),
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(Vec::new())
    }
}
