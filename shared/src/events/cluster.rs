//! What tells of a cluster's capacity: placement failures, container instances that change, and instances that somebody
//! else takes away.
//!
//! See [service action events](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_events.html),
//! [container instance state change events](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_container_instance_events.html),
//! [lifecycle action events](https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html)
//! and [Spot interruption notices](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html).

use serde_json::Value;

use super::{Event, ServiceRef};
use crate::error::Error;

/// Something has changed in a cluster that may concern its capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterChange {
    /// The cluster's name.
    pub cluster: String,
    /// What has changed. It tells nothing about a deployment.
    pub what: String,
}

impl ClusterChange {
    /// What it means to those who look after deployments.
    #[must_use]
    pub fn tells_nothing(&self) -> String {
        format!("{}: that tells nothing about a deployment", self.what)
    }
}

/// An instance is taken away, and not by us: by EC2 (Spot), or by its group (a refresh, a zone that is rebalanced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceLeaving {
    /// EC2's id.
    pub instance: String,
    /// The lifecycle action that waits for an answer.
    pub action: Option<LifecycleAction>,
}

/// A lifecycle action that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleAction {
    /// Name of the Auto Scaling group.
    pub group: String,
    /// Name of the hook.
    pub hook: String,
    /// Its token.
    pub token: String,
}

/// A service's tasks found no place. Such events come once in a while, as long as it is so.
pub(super) fn unplaced(service_arn: Option<&str>, detail: &Value) -> Result<Event, Error> {
    let cluster_arn = text(detail, "clusterArn");
    let of_service = service_arn.and_then(|arn| ServiceRef::from_arn(arn, cluster_arn).ok());
    let cluster = cluster_arn.and_then(cluster_of).or_else(|| of_service.as_ref().map(|id| id.cluster.clone()));
    let cluster = cluster.filter(|cluster| !cluster.is_empty());
    let cluster = cluster.ok_or_else(|| Error::Input("the placement failure names no cluster".into()))?;
    let service = of_service.map_or_else(|| "a service".to_owned(), |id| id.service);
    let reason = text(detail, "reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
    Ok(Event::Cluster(ClusterChange { cluster, what: format!("tasks of {service} found no place{reason}") }))
}

/// ECS tells of every task that an instance gets or loses. Only of one that takes no more tasks do we want to know at
/// once; agents connect anew several times an hour, and what is free is looked at every minute.
pub(super) fn instance_changed(detail: &Value) -> Result<Event, Error> {
    let instance = text(detail, "ec2InstanceId").unwrap_or("a container instance");
    let status = text(detail, "status").unwrap_or_default();
    if matches!(status, "" | "ACTIVE") {
        let reason = format!("{instance} takes tasks as before; the sweep sees what is free on it");
        return Ok(Event::Ignored { reason });
    }
    let cluster = text(detail, "clusterArn").and_then(cluster_of);
    let cluster = cluster.ok_or_else(|| Error::Input("the ECS container instance event has no clusterArn".into()))?;
    Ok(Event::Cluster(ClusterChange { cluster, what: format!("{instance} is {status}") }))
}

/// A group is about to terminate an instance, and waits.
pub(super) fn terminating(detail: &Value) -> Result<Event, Error> {
    let wanted = |field: &str| {
        let lacks = || Error::Input(format!("the lifecycle action has no {field}"));
        text(detail, field).map(str::to_owned).ok_or_else(lacks)
    };
    let action = LifecycleAction {
        group: wanted("AutoScalingGroupName")?,
        hook: wanted("LifecycleHookName")?,
        token: wanted("LifecycleActionToken")?,
    };
    Ok(Event::Leaving(InstanceLeaving { instance: wanted("EC2InstanceId")?, action: Some(action) }))
}

/// EC2 takes a Spot instance back in two minutes.
pub(super) fn interrupted(detail: &Value) -> Result<Event, Error> {
    let instance = text(detail, "instance-id");
    let instance = instance.ok_or_else(|| Error::Input("the Spot interruption warning has no instance-id".into()))?;
    Ok(Event::Leaving(InstanceLeaving { instance: instance.to_owned(), action: None }))
}

fn text<'a>(detail: &'a Value, field: &str) -> Option<&'a str> {
    detail.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn cluster_of(arn: &str) -> Option<String> {
    let (_, name) = arn.split_once(":cluster/")?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}
