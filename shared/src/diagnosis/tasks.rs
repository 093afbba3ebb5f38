//! Stopped tasks, and what ECS tells about a service: lenient views of answers of ECS.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::platform::from_seconds;

/// A task that has stopped or is about to: an element of `tasks[]` of
/// [`DescribeTasks`](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Value")]
pub struct StoppedTask {
    /// The task's ARN.
    pub arn: String,
    /// Who started it: the id of a deployment (`ecs-svc/<digits>`), where a service did.
    pub started_by: String,
    /// `STOPPED`, or where it is on the way there.
    pub last_status: String,
    /// `TaskFailedToStart`, `EssentialContainerExited`, `ServiceSchedulerInitiated` and others.
    pub stop_code: String,
    /// ECS's words about why it stopped.
    pub stopped_reason: String,
    /// When it stopped.
    pub stopped_at: Option<DateTime<Utc>>,
    /// Its containers.
    pub containers: Vec<StoppedContainer>,
}

/// A container of a stopped task. See
/// [Container](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Container.html).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoppedContainer {
    /// Its name in the task definition.
    pub name: String,
    /// Its image; absent for containers that AWS has added.
    pub image: String,
    /// The exit code; absent where it never ran.
    pub exit_code: Option<i64>,
    /// ECS's words about this container.
    pub reason: String,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health_status: String,
}

impl StoppedTask {
    /// Reads a task. What is absent, or not of the type it should be, is empty.
    #[must_use]
    pub fn read(task: &Value) -> Self {
        let containers = task.get("containers").and_then(Value::as_array);
        Self {
            arn: text(task, "taskArn"),
            started_by: text(task, "startedBy"),
            last_status: text(task, "lastStatus"),
            stop_code: text(task, "stopCode"),
            stopped_reason: text(task, "stoppedReason"),
            stopped_at: task.get("stoppedAt").and_then(time),
            containers: containers.into_iter().flatten().map(StoppedContainer::read).collect(),
        }
    }

    /// Whether this deployment has started it.
    #[must_use]
    pub fn is_of(&self, deployment_id: &str) -> bool {
        !deployment_id.is_empty() && self.started_by == deployment_id
    }

    /// Whether it has stopped, or is about to. In a task that runs, a container may have done its work and ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.last_status == "STOPPED" || !self.stop_code.is_empty() || !self.stopped_reason.is_empty()
    }

    /// The task's id, the end of its ARN.
    #[must_use]
    pub fn id(&self) -> &str {
        self.arn.rsplit_once('/').map_or(&self.arn, |(_, id)| id)
    }

    /// The containers that ended by themselves, as far as their exit codes tell: when an essential container ends, ECS
    /// stops the others, and they end with 143 (SIGTERM), 137 (SIGKILL) or, if they listen, 0. So a container with
    /// another code, or with words of ECS about it, is meant. Where there is none, it could be each that ran, the
    /// likeliest first.
    #[must_use]
    pub fn culprits(&self) -> Vec<&StoppedContainer> {
        let mut ranked: Vec<(u8, &StoppedContainer)> =
            self.containers.iter().filter_map(|container| Some((container.innocence()?, container))).collect();
        // Stable: equals stay in ECS's order.
        ranked.sort_by_key(|(innocence, _)| *innocence);
        if ranked.first().is_some_and(|(innocence, _)| *innocence == 0) {
            ranked.retain(|(innocence, _)| *innocence == 0);
        }
        ranked.into_iter().map(|(_, container)| container).collect()
    }
}

impl From<Value> for StoppedTask {
    fn from(task: Value) -> Self {
        Self::read(&task)
    }
}

impl StoppedContainer {
    fn read(container: &Value) -> Self {
        Self {
            name: text(container, "name"),
            image: text(container, "image"),
            exit_code: container.get("exitCode").and_then(Value::as_i64),
            reason: text(container, "reason"),
            health_status: text(container, "healthStatus"),
        }
    }

    fn innocence(&self) -> Option<u8> {
        match self.exit_code {
            _ if !self.reason.is_empty() => Some(0),
            None => None,
            Some(0) => Some(1),
            Some(137) => Some(2),
            Some(143) => Some(3),
            Some(_) => Some(0),
        }
    }
}

/// What ECS tells about a service: an element of `events[]` of
/// [`DescribeServices`](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceEvent.html). The health of
/// targets is told here only.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    /// When it happened: seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
    /// ECS's words.
    #[serde(default)]
    pub message: String,
}

impl ServiceEvent {
    /// When it happened.
    #[must_use]
    pub fn created(&self) -> Option<DateTime<Utc>> {
        from_seconds(self.created_at)
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// ECS's API writes seconds since 1970, its events RFC 3339.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::String(text) => text.parse().ok(),
        number => from_seconds(number.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_is_read_as_far_as_it_can_be() {
        let task = StoppedTask::read(&json!({
            "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/production/0f1e2d3c", "startedBy": "ecs-svc/1",
            "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "stoppedReason": null,
            "stoppedAt": 1_794_822_877.5, "version": 4,
            "containers": [{"name": "web", "exitCode": 1, "image": 7, "networkInterfaces": []}, "odd"],
        }));
        assert_eq!((task.id(), task.stopped_reason.as_str()), ("0f1e2d3c", ""));
        assert_eq!(task.stopped_at, Some("2026-11-16T09:54:37.500Z".parse().unwrap()));
        assert_eq!((task.containers[0].exit_code, task.containers[0].image.as_str()), (Some(1), ""));
        assert!(task.is_of("ecs-svc/1") && !task.is_of("ecs-svc/12") && !StoppedTask::default().is_of(""));

        let of_event = StoppedTask::read(&json!({"stoppedAt": "2026-11-16T09:54:37.500Z"}));
        assert_eq!(of_event.stopped_at, task.stopped_at);
        assert_eq!(serde_json::from_str::<StoppedTask>("[]").unwrap(), StoppedTask::default());
    }

    #[test]
    fn containers_that_were_stopped_with_the_culprit_are_none() {
        let container = |(name, code, reason): &(&str, Option<i64>, &str)| StoppedContainer {
            name: (*name).into(),
            exit_code: *code,
            reason: (*reason).into(),
            ..StoppedContainer::default()
        };
        for (containers, expected) in [
            (vec![("web", Some(1), ""), ("proxy", Some(143), ""), ("agent", Some(137), "")], vec!["web"]),
            (vec![("proxy", Some(0), ""), ("web", Some(139), "")], vec!["web"]),
            (vec![("proxy", Some(137), ""), ("web", Some(137), "OutOfMemoryError: Container killed")], vec!["web"]),
            (vec![("web", None, "CannotPullContainerError: not found"), ("proxy", None, "")], vec!["web"]),
            (vec![("web", Some(1), ""), ("worker", Some(2), "")], vec!["web", "worker"]),
            (vec![("proxy", Some(137), ""), ("web", Some(0), "")], vec!["web", "proxy"]),
            (vec![("proxy", Some(143), ""), ("web", Some(137), "")], vec!["web", "proxy"]),
            (vec![("web", None, "")], vec![]),
        ] {
            let containers: Vec<_> = containers.iter().map(container).collect();
            let task = StoppedTask { containers, ..StoppedTask::default() };
            let culprits: Vec<&str> = task.culprits().iter().map(|culprit| culprit.name.as_str()).collect();
            assert_eq!(culprits, expected);
        }
    }
}
