//! What tasks need of an instance, and how many of them have no place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use serde_json::{Map, Value};

use super::decide::Resources;
use crate::ecs::{ClusterService, Ecs, Room, number, reserved_memory};
use crate::error::Error;

/// More revisions than this are not remembered: those of one cluster are few, and it has to end somewhere.
const REVISIONS_MAX: usize = 5000;

/// What a task of each revision needs. A revision never changes, so an environment that stays warm reads each once.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    known: Arc<Mutex<BTreeMap<String, Resources>>>,
}

impl Needs {
    /// What a task of each of these revisions needs. One that was deleted is absent.
    ///
    /// # Errors
    /// As [`Ecs::describe_task_definition`].
    pub(super) async fn of(&self, ecs: &Ecs, arns: &BTreeSet<String>) -> Result<BTreeMap<String, Resources>, Error> {
        let mut needs = self.remembered(arns);
        let unknown = arns.iter().filter(|arn| !needs.contains_key(*arn));
        let read = unknown.map(|arn| async move {
            let definition = ecs.describe_task_definition(arn).await?;
            Ok(definition.map(|definition| (arn.clone(), of_definition(definition.body()))))
        });
        let read: Vec<(String, Resources)> = try_join_all(read).await?.into_iter().flatten().collect();
        self.remember(&read);
        needs.extend(read);
        Ok(needs)
    }

    fn remembered(&self, arns: &BTreeSet<String>) -> BTreeMap<String, Resources> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        arns.iter().filter_map(|arn| Some((arn.clone(), known.get(arn)?.clone()))).collect()
    }

    fn remember(&self, read: &[(String, Resources)]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + read.len() > REVISIONS_MAX {
            known.clear();
        }
        known.extend(read.iter().cloned());
    }
}

impl From<Room> for Resources {
    fn from(Room { cpu, memory, gpus, ports }: Room) -> Self {
        Self { cpu, memory, gpus, ports }
    }
}

/// What a task of this [task definition](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html)
/// needs: what it asks for itself, or else what its containers ask for together. Ports are those that it must have on
/// the host; any others ECS chooses.
pub(super) fn of_definition(definition: &Map<String, Value>) -> Resources {
    let whole = Value::Object(definition.clone());
    let containers = || definition.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
    let sum = |of: fn(&Value) -> i64| containers().map(of).fold(0, i64::saturating_add);
    let mode = definition.get("networkMode").and_then(Value::as_str).unwrap_or("bridge");
    let port = |mapping: &Value| {
        let given = |field| number(mapping, field).and_then(|port| u16::try_from(port).ok());
        match mode {
            "bridge" => given("hostPort"),
            // On the host's own network a container has its port there.
            "host" => given("hostPort").or_else(|| given("containerPort")),
            _ => None,
        }
    };
    let mappings = containers().filter_map(|container| container.get("portMappings")?.as_array()).flatten();
    Resources {
        cpu: number(&whole, "cpu").unwrap_or_else(|| sum(|container| number(container, "cpu").unwrap_or_default())),
        memory: number(&whole, "memory").unwrap_or_else(|| sum(reserved_memory)),
        gpus: sum(gpus),
        ports: mappings.filter_map(port).collect(),
    }
}

fn gpus(container: &Value) -> i64 {
    let wanted = container.get("resourceRequirements").and_then(Value::as_array).into_iter().flatten();
    let of_gpus = wanted.filter(|wanted| wanted.get("type").and_then(Value::as_str) == Some("GPU"));
    of_gpus.filter_map(|wanted| number(wanted, "value")).fold(0, i64::saturating_add)
}

/// How many tasks of a service ECS would start now if there was a place for them: what its PRIMARY deployment lacks, as
/// far as `maximumPercent` lets it have them beside those of older deployments.
pub(super) fn lacking(service: &ClusterService) -> u32 {
    if service.is_daemon || service.status != "ACTIVE" {
        return 0;
    }
    let Some(primary) = service.primary() else { return 0 };
    let lacks = primary.desired_count.saturating_sub(primary.running_count).saturating_sub(primary.pending_count);
    let most = service.desired.saturating_mul(service.maximum_percent) / 100;
    let may = most.saturating_sub(service.running).saturating_sub(service.pending);
    u32::try_from(lacks.min(may)).unwrap_or_default()
}

/// Whether tasks of a service are placed on the instances of a group with these capacity providers.
pub(super) fn is_on_group(service: &ClusterService, providers: &BTreeSet<String>) -> bool {
    match service.launch_type.as_str() {
        "EC2" => true,
        "" if service.capacity_providers.is_empty() => true,
        "" => service.capacity_providers.iter().any(|provider| providers.contains(provider)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::Deployment;
    use serde_json::json;

    fn needs(definition: &Value) -> (i64, i64, i64, Vec<u16>) {
        let needs = of_definition(definition.as_object().unwrap());
        (needs.cpu, needs.memory, needs.gpus, needs.ports.into_iter().collect())
    }

    #[test]
    fn a_task_needs_what_it_asks_for_or_what_its_containers_do() {
        let containers = json!([
            {"cpu": 256, "memory": 512, "memoryReservation": 128, "resourceRequirements": [
                {"type": "GPU", "value": "2"}, {"type": "InferenceAccelerator", "value": "device_1"}]},
            {"cpu": 0, "memory": 64, "portMappings": [
                {"containerPort": 80}, {"containerPort": 443, "hostPort": 0}, {"containerPort": 53, "hostPort": 5353}]},
        ]);
        for (definition, expected) in [
            (json!({"containerDefinitions": containers}), (256, 192, 2, vec![5353])),
            (json!({"containerDefinitions": containers, "networkMode": "host"}), (256, 192, 2, vec![80, 443, 5353])),
            (json!({"containerDefinitions": containers, "networkMode": "awsvpc"}), (256, 192, 2, vec![])),
            (json!({"containerDefinitions": containers, "cpu": "1024"}), (1024, 192, 2, vec![5353])),
            (json!({"cpu": "512", "memory": "1024"}), (512, 1024, 0, vec![])),
            (json!({"cpu": "a lot", "memory": null}), (0, 0, 0, vec![])),
        ] {
            assert_eq!(needs(&definition), expected, "{definition}");
        }
    }

    fn service(desired: i64, maximum_percent: i64, deployments: &[(i64, i64, i64)]) -> ClusterService {
        let progress = |(at, (desired_count, running_count, pending_count)): (usize, &(i64, i64, i64))| Deployment {
            status: if at == 0 { "PRIMARY" } else { "ACTIVE" }.into(),
            desired_count: *desired_count,
            running_count: *running_count,
            pending_count: *pending_count,
            ..Deployment::default()
        };
        ClusterService {
            name: "web".into(),
            status: "ACTIVE".into(),
            is_daemon: false,
            launch_type: String::new(),
            capacity_providers: BTreeSet::new(),
            desired,
            running: deployments.iter().map(|(_, running, _)| running).sum(),
            pending: deployments.iter().map(|(_, _, pending)| pending).sum(),
            deployments: deployments.iter().enumerate().map(progress).collect(),
            maximum_percent,
            events: Vec::new(),
        }
    }

    #[test]
    fn what_lacks_is_what_ecs_would_start_now() {
        for (service, expected) in [
            (service(4, 200, &[(4, 4, 0)]), 0),
            (service(4, 200, &[(4, 1, 1)]), 2),
            (service(4, 200, &[(4, 0, 0), (4, 4, 0)]), 4),
            (service(4, 150, &[(4, 0, 0), (4, 4, 0)]), 2),
            (service(4, 100, &[(4, 0, 0), (4, 4, 0)]), 0),
            (service(4, 100, &[(4, 1, 0), (4, 2, 0)]), 1),
            (service(1, 150, &[(1, 0, 0), (1, 1, 0)]), 0),
            (service(2, 200, &[(2, 5, 0)]), 0),
            (service(i64::MAX, 200, &[(i64::MAX, i64::MIN, 0)]), u32::try_from(i64::MAX / 100).unwrap_or_default()),
            (service(4, 200, &[]), 0),
            (ClusterService { is_daemon: true, ..service(4, 200, &[(4, 0, 0)]) }, 0),
            (ClusterService { status: "DRAINING".into(), ..service(4, 200, &[(4, 0, 0)]) }, 0),
        ] {
            assert_eq!(lacking(&service), expected, "{service:?}");
        }
    }

    #[test]
    fn tasks_of_fargate_and_of_other_groups_do_not_count() {
        let ours = BTreeSet::from(["ours".to_owned()]);
        for (launch_type, providers, expected) in [
            ("EC2", &[][..], true),
            ("", &[], true),
            ("", &["ours"], true),
            ("", &["FARGATE_SPOT", "ours"], true),
            ("", &["FARGATE"], false),
            ("", &["theirs"], false),
            ("FARGATE", &[], false),
            ("EXTERNAL", &[], false),
        ] {
            let service = ClusterService {
                launch_type: launch_type.into(),
                capacity_providers: providers.iter().map(|name| (*name).to_owned()).collect(),
                ..service(1, 200, &[])
            };
            assert_eq!(is_on_group(&service, &ours), expected, "{launch_type} {providers:?}");
        }
    }
}
