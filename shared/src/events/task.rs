//! `ECS Task State Change`. See
//! [Amazon ECS task state change events](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html).

use serde_json::Value;

use super::{Event, ServiceRef};
use crate::diagnosis::{StoppedTask, failure_of};
use crate::error::Error;

/// A task of a service has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStopped {
    /// The service; its ARN is not in the event, and is made of the names.
    pub service: ServiceRef,
    /// ECS's id of the deployment that has started it.
    pub deployment_id: String,
}

pub(super) fn read(detail: &Value) -> Result<Event, Error> {
    let ignored = |reason: &str| Ok(Event::Ignored { reason: reason.to_owned() });
    let text = |key: &str| detail.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some(name) = text("group").strip_prefix("service:").filter(|name| !name.is_empty()) else {
        return ignored("the task belongs to no service");
    };
    let task = StoppedTask::read(detail);
    // The same stop is told several times while the task is on its way there.
    if task.last_status != "STOPPED" {
        return ignored("the task has not stopped yet");
    }
    if failure_of(&task).is_none() {
        return ignored("the task did not stop by its own fault");
    }
    let cluster_arn = text("clusterArn");
    let Some((head, cluster)) = cluster_arn.split_once(":cluster/").filter(|(_, cluster)| !cluster.is_empty()) else {
        return Err(Error::Input("the ECS task event has no clusterArn".into()));
    };
    let service = ServiceRef {
        cluster: cluster.to_owned(),
        service: name.to_owned(),
        arn: format!("{head}:service/{cluster}/{name}"),
    };
    Ok(Event::Stopped(TaskStopped { service, deployment_id: task.started_by }))
}
