//! The events that AWS and people send, in the documented shapes (samples with their sources are in `events/`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::world::{ACCOUNT, REGION, World};

/// The time in the form that events have it.
#[must_use]
pub fn time(seconds: f64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis((seconds * 1000.0) as i64).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An event of `source` with this detail; `number` makes its id.
fn event(world: &World, source: &str, detail_type: &str, resources: &[String], detail: &Value) -> Value {
    json!({
        "version": "0", "id": format!("event-{}", world.number()), "detail-type": detail_type, "source": source,
        "account": ACCOUNT, "time": time(world.seconds()), "region": REGION, "resources": resources, "detail": detail,
    })
}

fn service_arn(service: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{service}")
}

/// An image was pushed.
#[must_use]
pub fn push(world: &World, repository: &str, tag: &str, digest: &str) -> Value {
    let detail = json!({
        "result": "SUCCESS", "repository-name": repository, "image-digest": digest, "action-type": "PUSH",
        "image-tag": tag,
    });
    event(world, "aws.ecr", "ECR Image Action", &[], &detail)
}

/// ECS on a deployment of a service.
#[must_use]
pub fn deployment(world: &World, service: &str, name: &str, id: &str) -> Value {
    let detail = json!({
        "eventType": if name.ends_with("FAILED") { "ERROR" } else { "INFO" }, "eventName": name, "deploymentId": id,
        "updatedAt": time(world.seconds()), "reason": "as ECS would say",
    });
    event(world, "aws.ecs", "ECS Deployment State Change", &[service_arn(service)], &detail)
}

/// A task has stopped.
#[must_use]
pub fn task(world: &World, task: &Value) -> Value {
    let mut detail = task.clone();
    for name in ["createdAt", "startedAt", "stoppingAt", "stoppedAt"] {
        detail[name] = json!(time(task[name].as_f64().unwrap_or_default()));
    }
    event(world, "aws.ecs", "ECS Task State Change", &[task["taskArn"].as_str().unwrap_or_default().into()], &detail)
}

/// An alarm has gone to ALARM.
#[must_use]
pub fn alarm(world: &World, name: &str) -> Value {
    let detail = json!({
        "alarmName": name, "previousState": {"value": "OK"},
        "state": {"value": "ALARM", "reason": "Threshold Crossed", "timestamp": time(world.seconds())},
    });
    let arn = format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}");
    event(world, "aws.cloudwatch", "CloudWatch Alarm State Change", &[arn], &detail)
}

/// Tags of a service have changed.
#[must_use]
pub fn tags(world: &World, service: &str) -> Value {
    let detail = json!({
        "changed-tag-keys": ["tidegate:hold"], "service": "ecs", "resource-type": "service", "version": 3, "tags": {},
    });
    event(world, "aws.tag", "Tag Change on Resource", &[service_arn(service)], &detail)
}

/// A person wants this service to go back.
#[must_use]
pub fn rollback(world: &World, service: &str) -> Value {
    let detail = json!({"service": service, "reason": "checkout is broken", "actor": "ana"});
    event(world, "tidegate", "Rollback", &[], &detail)
}

/// A person lets a digest, or all of them, be deployed to this service again.
#[must_use]
pub fn release(world: &World, service: &str, digest: Option<&str>) -> Value {
    let mut detail = json!({"service": service, "actor": "ana"});
    if let Some(digest) = digest {
        detail["digest"] = json!(digest);
    }
    event(world, "tidegate", "Release", &[], &detail)
}
