//! Container instances, services and tasks, as far as the capacity of a cluster is concerned with them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::service::{Deployment, read_all};
use crate::diagnosis::ServiceEvent;
use crate::platform::from_seconds;

/// What an instance has, or a task holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Room {
    /// CPU units: 1024 are one vCPU.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory: i64,
    /// GPUs.
    pub gpus: i64,
    /// Host ports that are taken, by TCP or by UDP.
    pub ports: BTreeSet<u16>,
}

impl Room {
    /// Reads a list of [`Resource`](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Resource.html).
    fn read(list: Option<&Value>) -> Self {
        let resources: Vec<Resource> = read_all(list);
        let mut room = Self::default();
        for Resource { name, integer_value, string_set_value } in resources {
            match name.as_str() {
                "CPU" => room.cpu = integer_value,
                "MEMORY" => room.memory = integer_value,
                "GPU" => room.gpus = i64::try_from(string_set_value.len()).unwrap_or_default(),
                "PORTS" | "PORTS_UDP" => {
                    room.ports.extend(string_set_value.iter().filter_map(|port| port.parse::<u16>().ok()));
                }
                _ => {}
            }
        }
        room
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Resource {
    name: String,
    integer_value: i64,
    string_set_value: Vec<String>,
}

/// A [container instance](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerInstance.html) on EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInstance {
    /// Its ARN.
    pub arn: String,
    /// EC2's id of the instance.
    pub ec2_id: String,
    /// `ACTIVE`, `DRAINING`, `REGISTERING`, `DEREGISTERING` or `REGISTRATION_FAILED`.
    pub status: String,
    /// Whether its agent is connected. Agents connect anew several times an hour.
    pub is_connected: bool,
    /// Since when the cluster has it.
    pub registered_at: Option<DateTime<Utc>>,
    /// What it has. The ports are those that no task can have.
    pub registered: Room,
    /// What of it is free. The ports are those that are taken.
    pub remaining: Room,
}

impl ContainerInstance {
    pub(super) fn read(instance: &Value) -> Option<Self> {
        let ec2_id = text(instance, "ec2InstanceId");
        // Those that somebody has registered from outside of EC2 have ids of Systems Manager.
        ec2_id.starts_with("i-").then(|| Self {
            arn: text(instance, "containerInstanceArn"),
            ec2_id,
            status: text(instance, "status"),
            is_connected: instance.get("agentConnected") == Some(&Value::Bool(true)),
            registered_at: instance.get("registeredAt").and_then(Value::as_f64).and_then(from_seconds),
            registered: Room::read(instance.get("registeredResources")),
            remaining: Room::read(instance.get("remainingResources")),
        })
    }
}

/// A [task](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Task.html).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTask {
    /// Its ARN.
    pub arn: String,
    /// Name of its service; `None` where somebody has run it by itself.
    pub service: Option<String>,
    /// ARN of the container instance; `None` where it has no place yet, or none that is an instance.
    pub instance: Option<String>,
    /// Name of the capacity provider, where it has one.
    pub capacity_provider: Option<String>,
    /// ARN of its revision.
    pub task_definition: String,
    /// `PROVISIONING`, `PENDING`, `RUNNING`, …, `STOPPED`.
    pub last_status: String,
    /// What its document says that it holds; ports are not in it.
    pub holds: Room,
}

impl ClusterTask {
    pub(super) fn read(task: &Value) -> Option<Self> {
        let arn = text(task, "taskArn");
        let group = text(task, "group");
        let given = |field| Some(text(task, field)).filter(|text| !text.is_empty());
        let containers: Vec<Value> = read_all(task.get("containers"));
        let sum = |of: fn(&Value) -> i64| containers.iter().map(of).fold(0, i64::saturating_add);
        let gpus = |container: &Value| {
            let ids = container.get("gpuIds").and_then(Value::as_array).map_or(0, Vec::len);
            i64::try_from(ids).unwrap_or_default()
        };
        let holds = Room {
            cpu: number(task, "cpu").unwrap_or_else(|| sum(|container| number(container, "cpu").unwrap_or_default())),
            memory: number(task, "memory").unwrap_or_else(|| sum(reserved_memory)),
            gpus: sum(gpus),
            ports: BTreeSet::new(),
        };
        (!arn.is_empty()).then(|| Self {
            service: group.strip_prefix("service:").map(str::to_owned),
            instance: given("containerInstanceArn"),
            capacity_provider: given("capacityProviderName"),
            task_definition: text(task, "taskDefinitionArn"),
            last_status: text(task, "lastStatus"),
            holds,
            arn,
        })
    }
}

/// The memory that ECS reserves for a container, in MiB: the soft limit where there is one, or else the hard one.
pub(crate) fn reserved_memory(container: &Value) -> i64 {
    number(container, "memoryReservation").or_else(|| number(container, "memory")).unwrap_or_default()
}

/// A number, which ECS writes as one or as text. 0 is none.
pub(crate) fn number(document: &Value, field: &str) -> Option<i64> {
    let value = document.get(field)?;
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| *number > 0)
}

/// A service, as far as the capacity of its cluster is concerned with it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterService {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// Whether there is one task on each instance.
    pub is_daemon: bool,
    /// `EC2`, `FARGATE`, `EXTERNAL` or another; empty where capacity providers decide.
    pub launch_type: String,
    /// Names of the capacity providers of its strategy.
    pub capacity_providers: BTreeSet<String>,
    /// Tasks wanted.
    pub desired: i64,
    /// Tasks that run, of all deployments.
    pub running: i64,
    /// Tasks that are about to, of all deployments.
    pub pending: i64,
    /// Its deployments, or its task sets where another controller makes them.
    pub deployments: Vec<Deployment>,
    /// How many tasks there may be in a rollout, in percent of those wanted.
    pub maximum_percent: i64,
    /// What ECS has noted about it of late.
    pub events: Vec<ServiceEvent>,
}

/// What ECS has where nobody has said how many tasks there may be in a rollout.
const MAXIMUM_PERCENT: i64 = 200;

impl ClusterService {
    pub(super) fn read(service: &Value) -> Option<Self> {
        let count = |field| service.get(field).and_then(Value::as_i64).unwrap_or_default();
        let strategy = service.get("capacityProviderStrategy").and_then(Value::as_array).into_iter().flatten();
        let deployments: Vec<Deployment> = read_all(service.get("deployments"));
        let deployments = if deployments.is_empty() { read_all(service.get("taskSets")) } else { deployments };
        let maximum = service.pointer("/deploymentConfiguration/maximumPercent").and_then(Value::as_i64);
        Some(Self {
            name: text(service, "serviceName"),
            status: text(service, "status"),
            is_daemon: text(service, "schedulingStrategy") == "DAEMON",
            launch_type: text(service, "launchType"),
            capacity_providers: strategy.map(|one| text(one, "capacityProvider")).collect(),
            desired: count("desiredCount"),
            running: count("runningCount"),
            pending: count("pendingCount"),
            deployments,
            maximum_percent: maximum.unwrap_or(MAXIMUM_PERCENT),
            events: read_all(service.get("events")),
        })
        .filter(|service| !service.name.is_empty())
    }

    /// The deployment that ECS is bringing the service to, or has brought it to.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
    }

    /// Whether a deployment is going on.
    #[must_use]
    pub fn is_rolling_out(&self) -> bool {
        let is_on = |deployment: &Deployment| deployment.rollout_state == "IN_PROGRESS";
        self.deployments.len() > 1 || self.deployments.iter().any(is_on)
    }

    /// Since when ECS finds no place for its tasks; `None` where it has found one since, or was not in need of any.
    #[must_use]
    pub fn blocked_since(&self) -> Option<DateTime<Utc>> {
        let telling = self.events.iter().filter_map(|event| {
            let message = event.message.to_lowercase();
            let has = |part: &str| message.contains(part);
            match () {
                () if has("unable to place") => Some((event.created_at, true)),
                () if has("has started") || has("steady state") && !has("unable to reach") => {
                    Some((event.created_at, false))
                }
                () => None,
            }
        });
        // Of two at the same moment ECS lists the newer one first.
        let newest = telling.reduce(|newest, other| if other.0 > newest.0 { other } else { newest });
        newest.filter(|(_, is_blocked)| *is_blocked).and_then(|(at, _)| from_seconds(at))
    }
}

/// A capacity provider with an Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityProvider {
    /// Its name.
    pub name: String,
    /// Name of the group.
    pub group: String,
    /// Whether ECS itself scales the group.
    pub is_managed: bool,
}

impl CapacityProvider {
    pub(super) fn read(provider: &Value) -> Option<Self> {
        let of_group = provider.get("autoScalingGroupProvider")?;
        let arn = text(of_group, "autoScalingGroupArn");
        // A provider may have been given the group's name in place of its ARN.
        let group = arn.rsplit_once("autoScalingGroupName/").map_or(arn.as_str(), |(_, name)| name).to_owned();
        let is_managed = of_group.pointer("/managedScaling/status").and_then(Value::as_str) == Some("ENABLED");
        let is_active = matches!(text(provider, "status").as_str(), "" | "ACTIVE");
        is_active.then(|| Self { name: text(provider, "name"), group, is_managed })
    }
}

fn text(document: &Value, field: &str) -> String {
    document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn blocked(events: &[(f64, &str)]) -> bool {
        let events: Vec<Value> =
            events.iter().map(|(at, message)| json!({"createdAt": at, "message": message})).collect();
        let service = ClusterService::read(&json!({"serviceName": "web", "events": events})).unwrap();
        service.blocked_since().is_some()
    }

    #[test]
    fn the_newest_word_of_ecs_says_whether_there_is_a_place() {
        let unable = "(service web) was unable to place a task because no container instance met all of its \
                      requirements. The closest matching (container-instance 1) has insufficient CPU units available.";
        let started = "(service web) has started 1 tasks: (task 5).";
        let steady = "(service web) has reached a steady state.";
        let other = "(service web) registered 1 targets in (target-group web)";
        for (events, expected) in [
            (&[][..], false),
            (&[(1.0, unable)], true),
            (&[(2.0, unable), (1.0, started)], true),
            (&[(1.0, started), (2.0, unable)], true),
            (&[(2.0, started), (1.0, unable)], false),
            (&[(2.0, steady), (1.0, unable)], false),
            (&[(3.0, other), (2.0, unable)], true),
            (&[(2.0, "(service web) was unable to reach steady state"), (1.0, unable)], true),
        ] {
            assert_eq!(blocked(events), expected, "{events:?}");
        }
    }

    #[test]
    fn what_an_instance_has_is_read() {
        let resources = json!([
            {"name": "CPU", "type": "INTEGER", "integerValue": 4096},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 15_860},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2376", "odd"]},
            {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": ["53"]},
            {"name": "GPU", "type": "STRINGSET", "stringSetValue": ["GPU-1", "GPU-2"]},
            {"name": "NEW", "type": "DOUBLE", "doubleValue": 0.5},
        ]);
        let room = Room::read(Some(&resources));
        assert_eq!((room.cpu, room.memory, room.gpus), (4096, 15_860, 2));
        assert_eq!(room.ports.into_iter().collect::<Vec<_>>(), [22, 53, 2376]);
    }

    #[test]
    fn what_a_task_holds_is_its_own_or_that_of_its_containers() {
        let task = json!({
            "taskArn": "t", "group": "service:web", "containers": [
                {"cpu": "256", "memory": "512", "memoryReservation": "128"}, {"cpu": "0", "memory": "64", "gpuIds": ["1"]},
            ],
        });
        let sum = ClusterTask::read(&task).unwrap();
        assert_eq!((sum.holds.cpu, sum.holds.memory, sum.holds.gpus), (256, 192, 1));
        assert_eq!(sum.service.as_deref(), Some("web"));
        let whole = json!({"taskArn": "t", "group": "family:migrate", "cpu": "1024", "memory": "2048"});
        let whole = ClusterTask::read(&whole).unwrap();
        assert_eq!((whole.holds.cpu, whole.holds.memory, whole.service), (1024, 2048, None));
    }

    #[test]
    fn the_group_of_a_capacity_provider_is_known_by_its_name() {
        let arn = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:0b5f:autoScalingGroupName/production";
        for named in [arn, "production"] {
            let provider = json!({"name": "cp", "status": "ACTIVE", "autoScalingGroupProvider": {
                "autoScalingGroupArn": named, "managedScaling": {"status": "ENABLED"},
            }});
            let provider = CapacityProvider::read(&provider).unwrap();
            assert_eq!((provider.group.as_str(), provider.is_managed), ("production", true));
        }
        assert_eq!(CapacityProvider::read(&json!({"name": "FARGATE", "status": "ACTIVE"})), None);
    }
}
