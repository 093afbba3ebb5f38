//! Tasks of services, as far as a failure leaves them behind.

use serde_json::{Value, json};

use super::{Ecs, last_part, merge};
use crate::world::tagging::page;
use crate::world::wire::Refusal;
use crate::world::{ACCOUNT, REGION};

/// For how long ECS shows a task that has stopped.
const STOPPED_FOR_SECS: f64 = 3600.0;

/// What tests set up.
impl Ecs {
    /// A task of the newest deployment of `service` has stopped: its ARN. The fields of `extra` reach into those that
    /// every such task has; lists are replaced.
    pub fn stop_task(&mut self, service: &str, extra: &Value) -> String {
        let now = self.now();
        let newest = self.service_deployment(service).clone();
        let (cluster, name) = service.split_once('/').unwrap();
        let number: usize = self.tasks.values().map(Vec::len).sum();
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{:032x}", number + 0x7a5c);
        let definition = &self.revision(&newest.revision).unwrap()["taskDefinition"];
        let containers = definition["containerDefinitions"].as_array().cloned().unwrap_or_default();
        let stopped = |container: Value| json!({"name": container["name"], "image": container["image"], "taskArn": arn, "lastStatus": "STOPPED"});
        let containers: Vec<Value> = containers.into_iter().map(stopped).collect();
        let mut task = json!({
            "taskArn": arn, "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{cluster}"),
            "taskDefinitionArn": newest.revision, "startedBy": newest.deployment, "group": format!("service:{name}"),
            "desiredStatus": "STOPPED", "lastStatus": "STOPPED", "launchType": "FARGATE", "version": 5,
            "createdAt": now - 30.0, "startedAt": now - 20.0, "stoppingAt": now - 5.0, "stoppedAt": now,
            "stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
            "containers": containers,
        });
        merge(&mut task, extra);
        self.tasks.entry(service.into()).or_default().push(task);
        arn
    }
}

/// The API.
impl Ecs {
    pub(in crate::world) fn list_tasks(&self, body: &Value) -> Result<Value, Refusal> {
        const KNOWN: [&str; 7] =
            ["cluster", "serviceName", "containerInstance", "desiredStatus", "startedBy", "nextToken", "maxResults"];
        let unknown = body.as_object().unwrap().keys().find(|name| !KNOWN.contains(&name.as_str()));
        assert_eq!(unknown, None, "a listing of tasks with it");
        let cluster = self.cluster(body)?;
        let started_by = body.get("startedBy");
        if started_by.is_some() && (body.get("serviceName").is_some() || body.get("desiredStatus").is_some()) {
            return Err(("InvalidParameterException", json!({"message": "startedBy must be the only filter"})));
        }
        let service = body.get("serviceName").map(|name| format!("{cluster}/{}", last_part(name)));
        if service.as_ref().is_some_and(|service| !self.services.contains_key(service)) {
            return Err(("ServiceNotFoundException", Value::Null));
        }
        let status = body["desiredStatus"].as_str().unwrap_or("RUNNING");
        let found = self.tasks_of(&cluster).filter(|(of, task)| {
            service.as_ref().is_none_or(|service| service == *of)
                && task["desiredStatus"] == status
                && body.get("containerInstance").is_none_or(|instance| task["containerInstanceArn"] == *instance)
                && started_by.is_none_or(|by| task["startedBy"] == *by)
        });
        let arns = found.map(|(_, task)| task["taskArn"].clone()).collect();
        let (page, token) = page(arns, &body["maxResults"], (100, 100), &body["nextToken"])?;
        Ok(json!({"taskArns": page, "nextToken": token}))
    }

    pub(in crate::world) fn describe_tasks(&self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let ids = body["tasks"].as_array().unwrap();
        if !(1..=100).contains(&ids.len()) {
            return Err(("InvalidParameterException", Value::Null));
        }
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for id in ids {
            match self.tasks_of(&cluster).find(|(_, task)| last_part(&task["taskArn"]) == last_part(id)) {
                Some((_, task)) => tasks.push(task.clone()),
                None => failures.push(json!({"arn": id, "reason": "MISSING"})),
            }
        }
        Ok(json!({"tasks": tasks, "failures": failures}))
    }

    /// The tasks of a cluster that ECS still shows, each with its service.
    pub(super) fn tasks_of(&self, cluster: &str) -> impl Iterator<Item = (&String, &Value)> {
        let tasks = self.tasks.iter().flat_map(|(service, tasks)| tasks.iter().map(move |task| (service, task)));
        let oldest = self.now() - STOPPED_FOR_SECS;
        let prefix = format!("{cluster}/");
        tasks.filter(move |(service, task)| {
            service.starts_with(&prefix) && task["stoppedAt"].as_f64().is_none_or(|stopped| oldest < stopped)
        })
    }
}
