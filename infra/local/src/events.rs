//! Publishes the events that AWS would, from the journal that the emulator's launcher keeps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, REGION, service_arn};
use crate::http::Background;
use crate::json::text;

/// How long to wait for what belongs to a failed deployment: the start of its rollback, written just after it.
const GRACE: Duration = Duration::from_millis(50);

/// EventBridge takes so many events in a call.
const ENTRIES_PER_CALL_MAX: usize = 10;

/// The publisher, which ends when it is dropped.
#[derive(Debug)]
pub struct Publisher {
    aws: Aws,
    log: Arc<Log>,
    _task: Background,
}

/// What the publisher has published, and what it shall not.
#[derive(Debug, Default)]
struct Log {
    published: Mutex<Vec<Value>>,
    lost: Mutex<Vec<String>>,
}

impl Log {
    fn published(&self) -> MutexGuard<'_, Vec<Value>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Vec<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self, event: &Value) -> bool {
        let event = event.to_string();
        self.lost().iter().any(|about| event.contains(about))
    }
}

impl Publisher {
    /// Starts publishing what happens in the emulator from now on.
    pub fn start(aws: Aws, on_problem: impl Fn(&str) + Send + 'static) -> Self {
        let log = Arc::<Log>::default();
        let (client, published) = (aws.clone(), Arc::clone(&log));
        let task = Background::start(async move {
            let mut journal = Journal::default();
            loop {
                let outcome = match journal.read(&client).await {
                    Ok(mut events) => {
                        events.retain(|event| !published.is_lost(event));
                        publish(&client, &published, &events).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = outcome {
                    on_problem(&format!("the publisher of AWS's events is stuck: {error:#}"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
        Self { aws, log, _task: task }
    }

    /// Publishes one more event: an object with `source`, `detail-type`, `resources` and `detail`.
    pub async fn publish(&self, event: &Value) -> Result<()> {
        publish(&self.aws, &self.log, std::slice::from_ref(event)).await
    }

    /// Loses what would be published about this (a digest, say) from now on, as AWS may: it sends the events of ECR and
    /// of tags on a best effort basis.
    pub fn lose(&self, about: &str) {
        self.log.lost().push(about.to_owned());
    }

    /// The events published so far, as EventBridge delivered them.
    pub fn published(&self) -> Vec<Value> {
        self.log.published().clone()
    }
}

async fn publish(aws: &Aws, log: &Log, events: &[Value]) -> Result<()> {
    for events in events.chunks(ENTRIES_PER_CALL_MAX) {
        let entries: Vec<Value> = events.iter().map(entry).collect();
        let answer = aws.events("PutEvents", &json!({ "Entries": entries })).await?;
        for (at, event) in events.iter().enumerate() {
            let Some(id) = answer["Entries"][at].get("EventId") else {
                bail!("EventBridge refused an event: {answer}");
            };
            log.published().push(delivered(event, id));
        }
    }
    Ok(())
}

fn entry(event: &Value) -> Value {
    json!({
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Resources": event.get("resources").unwrap_or(&json!([])),
        "Detail": event["detail"].to_string(),
    })
}

/// The event as EventBridge delivers it.
fn delivered(event: &Value, id: &Value) -> Value {
    let mut event = event.clone();
    event["version"] = json!("0");
    event["id"] = id.clone();
    event["account"] = json!(ACCOUNT);
    event["region"] = json!(REGION);
    if let Some((seconds, _)) = event["time"].as_str().and_then(|time| time.split_once('.')) {
        event["time"] = json!(format!("{seconds}Z"));
    }
    event
}

/// What the launcher wrote down after the first `read` entries. Waits up to a second for something.
pub async fn journal(aws: &Aws, read: usize) -> Result<Vec<Value>> {
    let url = format!("{}/_tidegate/journal?after={read}", aws.endpoint());
    let response = aws.http.send(Method::GET, &url, &[], "").await?;
    serde_json::from_slice(&response.body).with_context(|| format!("not a journal: {}", response.text()))
}

/// The emulator's journal, read entry by entry.
#[derive(Debug, Default)]
struct Journal {
    read: usize,
}

impl Journal {
    /// Waits up to a second for new entries and returns their events.
    async fn read(&mut self, aws: &Aws) -> Result<Vec<Value>> {
        let mut entries = self.fetch(aws).await?;
        if (0..entries.len()).any(|at| is_failure(&entries, at) && next_of_service(&entries, at).is_none()) {
            tokio::time::sleep(GRACE).await;
            entries.extend(self.fetch(aws).await?);
        }
        put_failures_after_rollbacks(&mut entries);
        Ok(entries.iter().flat_map(events_of).collect())
    }

    async fn fetch(&mut self, aws: &Aws) -> Result<Vec<Value>> {
        let entries = journal(aws, self.read).await?;
        self.read += entries.len();
        Ok(entries)
    }
}

/// On AWS the failure of a deployment is announced after the start of its rollback; the emulator notes it before.
fn put_failures_after_rollbacks(entries: &mut [Value]) {
    for at in (0..entries.len()).rev() {
        if let Some(next) = next_of_service(entries, at)
            && is_failure(entries, at)
            && text(&entries[next], "state") == "IN_PROGRESS"
        {
            entries[at..=next].rotate_left(1);
        }
    }
}

fn is_failure(entries: &[Value], at: usize) -> bool {
    text(&entries[at], "state") == "FAILED"
}

/// Where the next entry about the same service is.
fn next_of_service(entries: &[Value], at: usize) -> Option<usize> {
    let service = |entry: &Value| (entry["kind"].clone(), entry["cluster"].clone(), entry["service"].clone());
    (at + 1..entries.len()).find(|&later| service(&entries[later]) == service(&entries[at]))
}

fn events_of(entry: &Value) -> Vec<Value> {
    match text(entry, "kind") {
        "push" => vec![push(entry)],
        "deployment" if text(entry, "state") == "COMPLETED" => vec![deployment(entry), steady_state(entry)],
        "deployment" => vec![deployment(entry)],
        "tags" => vec![tag_change(entry)],
        "task" => vec![stopped_task(entry)],
        "alarm" => vec![alarm(entry)],
        "unplaced" => vec![unplaced(entry)],
        "instance" => vec![instance(entry)],
        "lifecycle" => vec![lifecycle_action(entry)],
        _ => Vec::new(),
    }
}

/// The shape of the Amazon ECS developer guide, "Amazon ECS service deployment state change events".
fn deployment(entry: &Value) -> Value {
    let state = text(entry, "state");
    ecs_event(
        entry,
        "ECS Deployment State Change",
        json!({
            "eventType": if state == "FAILED" { "ERROR" } else { "INFO" },
            "eventName": format!("SERVICE_DEPLOYMENT_{state}"),
            "clusterArn": cluster_arn(entry),
            "deploymentId": entry["id"],
            "updatedAt": entry["at"],
            "reason": entry["reason"],
        }),
    )
}

/// The shape of the Amazon ECS developer guide, "Amazon ECS service action events".
fn steady_state(entry: &Value) -> Value {
    ecs_event(
        entry,
        "ECS Service Action",
        json!({
            "eventType": "INFO",
            "eventName": "SERVICE_STEADY_STATE",
            "clusterArn": cluster_arn(entry),
            "createdAt": entry["at"],
        }),
    )
}

/// The same guide's sample of a task that finds no place.
fn unplaced(entry: &Value) -> Value {
    ecs_event(
        entry,
        "ECS Service Action",
        json!({
            "eventType": "ERROR",
            "eventName": "SERVICE_TASK_PLACEMENT_FAILURE",
            "clusterArn": cluster_arn(entry),
            "reason": "RESOURCE:CPU",
            "createdAt": entry["at"],
        }),
    )
}

/// The shape of the Amazon ECS developer guide, "Amazon ECS container instance state change events". Not of each task
/// that starts or ends on an instance.
fn instance(entry: &Value) -> Value {
    let instance = &entry["instance"];
    json!({
        "source": "aws.ecs",
        "detail-type": "ECS Container Instance State Change",
        "time": entry["at"],
        "resources": [instance["containerInstanceArn"]],
        "detail": instance,
    })
}

/// The shape of the Amazon EC2 Auto Scaling user guide, "EC2 Instance-terminate Lifecycle Action".
fn lifecycle_action(entry: &Value) -> Value {
    json!({
        "source": "aws.autoscaling",
        "detail-type": "EC2 Instance-terminate Lifecycle Action",
        "time": entry["at"],
        "resources": [entry["groupArn"]],
        "detail": {
            "LifecycleActionToken": entry["token"],
            "AutoScalingGroupName": entry["group"],
            "LifecycleHookName": entry["hook"],
            "EC2InstanceId": entry["instance"],
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            "Origin": "AutoScalingGroup",
            "Destination": "EC2",
        },
    })
}

/// The warning that EC2 sends two minutes before it takes a Spot instance back, in the shape of the Amazon EC2 user guide,
/// "Spot Instance interruption notices".
pub fn spot_warning(instance: &str) -> Value {
    json!({
        "source": "aws.ec2",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "resources": [format!("arn:aws:ec2:{REGION}a:instance/{instance}")],
        "detail": { "instance-id": instance, "instance-action": "terminate" },
    })
}

fn ecs_event(entry: &Value, kind: &str, detail: Value) -> Value {
    let service = service_arn(text(entry, "cluster"), text(entry, "service"));
    json!({
        "source": "aws.ecs",
        "detail-type": kind,
        "time": entry["at"],
        "resources": [service],
        "detail": detail,
    })
}

/// The shape of the Amazon ECS developer guide, "Amazon ECS task state change events". Only of tasks that have stopped:
/// AWS tells each step on the way there too.
fn stopped_task(entry: &Value) -> Value {
    let task = &entry["task"];
    json!({
        "source": "aws.ecs",
        "detail-type": "ECS Task State Change",
        "time": entry["at"],
        "resources": [task["taskArn"]],
        "detail": task,
    })
}

/// The shape of the Amazon CloudWatch user guide, "Alarm events and EventBridge". Of the alarm's configuration there is its
/// metric, if it is one of a single metric.
fn alarm(entry: &Value) -> Value {
    let arn = text(entry, "arn");
    // CloudWatch writes the offset in its own way.
    let at = text(entry, "at").replace('Z', "+0000");
    json!({
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "time": entry["at"],
        "resources": [arn],
        "detail": {
            "alarmName": arn.rsplit(':').next().unwrap_or_default(),
            "state": { "value": entry["state"], "reason": entry["reason"], "timestamp": at },
            "previousState": { "value": entry["before"] },
            "configuration": { "metrics": metrics(&entry["metric"]) },
        },
    })
}

fn metrics(alarm: &Value) -> Value {
    let Some(name) = alarm.get("MetricName") else { return json!([]) };
    // PutMetricAlarm lists the dimensions, or the emulator has made a map of them.
    let dimensions: Value = match &alarm["Dimensions"] {
        Value::Array(listed) => listed.iter().map(|it| (text(it, "Name").to_owned(), it["Value"].clone())).collect(),
        map => map.clone(),
    };
    json!([{
        "id": "m1",
        "metricStat": {
            "metric": { "namespace": alarm["Namespace"], "name": name, "dimensions": dimensions },
            "period": alarm["Period"],
            "stat": alarm["Statistic"],
        },
        "returnData": true,
    }])
}

fn cluster_arn(entry: &Value) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{}", text(entry, "cluster"))
}

/// The shape of the Amazon ECR user guide, "Amazon ECR events and EventBridge", with the media types that real pushes
/// carry beyond it. An untagged manifest has an empty tag; an index has no configuration, so no artifact type.
fn push(entry: &Value) -> Value {
    let mut detail = json!({
        "result": "SUCCESS",
        "repository-name": text(entry, "repository"),
        "image-digest": text(entry, "digest"),
        "action-type": "PUSH",
        "image-tag": text(entry, "tag"),
        "manifest-media-type": text(entry, "mediaType"),
    });
    if let Some(kind) = entry.get("artifactMediaType").filter(|kind| kind.is_string()) {
        detail["artifact-media-type"] = kind.clone();
    }
    json!({
        "source": "aws.ecr",
        "detail-type": "ECR Image Action",
        "time": text(entry, "at"),
        "resources": [],
        "detail": detail,
    })
}

/// The shape of the Tag Editor user guide, "Monitor tag changes with serverless workflows and Amazon EventBridge".
fn tag_change(entry: &Value) -> Value {
    json!({
        "source": "aws.tag",
        "detail-type": "Tag Change on Resource",
        "time": entry["at"],
        "resources": [entry["arn"]],
        "detail": {
            "changed-tag-keys": entry["keys"],
            "service": "ecs",
            "resource-type": "service",
            "version": entry["version"],
            "tags": entry["tags"],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(service: &str, id: &str, state: &str) -> Value {
        json!({ "kind": "deployment", "cluster": "staging", "service": service, "id": id, "state": state })
    }

    #[test]
    fn a_rollback_is_told_in_the_order_of_aws() {
        let mut entries = [
            entry("web", "1", "COMPLETED"),
            entry("web", "2", "IN_PROGRESS"),
            entry("web", "2", "FAILED"),
            entry("worker", "8", "FAILED"),
            entry("worker", "8", "IN_PROGRESS"),
            entry("web", "1", "IN_PROGRESS"),
            entry("web", "1", "COMPLETED"),
            entry("billing", "9", "FAILED"),
        ];
        put_failures_after_rollbacks(&mut entries);
        let of = |service: &str| -> Vec<String> {
            let events = entries.iter().filter(|entry| entry["service"] == service).flat_map(events_of);
            let deployments = events.filter(|event| event["detail-type"] == "ECS Deployment State Change");
            deployments.map(|e| format!("{} {}", e["detail"]["deploymentId"], e["detail"]["eventName"])).collect()
        };
        assert_eq!(
            of("web"),
            [
                "\"1\" \"SERVICE_DEPLOYMENT_COMPLETED\"",
                "\"2\" \"SERVICE_DEPLOYMENT_IN_PROGRESS\"",
                "\"1\" \"SERVICE_DEPLOYMENT_IN_PROGRESS\"",
                "\"2\" \"SERVICE_DEPLOYMENT_FAILED\"",
                "\"1\" \"SERVICE_DEPLOYMENT_COMPLETED\"",
            ]
        );
        assert_eq!(of("billing"), ["\"9\" \"SERVICE_DEPLOYMENT_FAILED\""]);
    }

    #[test]
    fn a_change_of_tags_tells_the_keys_that_changed_and_the_tags_there_are() {
        let entry = json!({
            "kind": "tags", "arn": service_arn("staging", "web"), "version": 2,
            "keys": ["tidegate:hold"], "tags": { "team": "tides" },
        });
        let events = events_of(&entry);
        assert_eq!(events[0]["resources"], json!([service_arn("staging", "web")]));
        let detail = json!({
            "changed-tag-keys": ["tidegate:hold"], "service": "ecs", "resource-type": "service", "version": 2,
            "tags": { "team": "tides" },
        });
        assert_eq!(events[0]["detail"], detail);
    }

    #[test]
    fn a_stopped_task_and_an_alarm_are_told_as_aws_does() {
        let task = json!({ "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/staging/1", "lastStatus": "STOPPED" });
        let stopped = events_of(&json!({ "kind": "task", "at": "2026-11-02T09:14:07.123Z", "task": task }));
        assert_eq!((&stopped[0]["detail"], &stopped[0]["resources"]), (&task, &json!([task["taskArn"]])));

        let arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:web-5xx";
        let went_off = events_of(&json!({
            "kind": "alarm", "at": "2026-11-02T09:14:07.123Z", "arn": arn, "state": "ALARM", "before": "OK",
            "reason": "Threshold Crossed",
        }));
        let detail = &went_off[0]["detail"];
        assert_eq!((&detail["alarmName"], &detail["state"]["value"]), (&json!("web-5xx"), &json!("ALARM")));
        assert_eq!(detail["state"]["timestamp"], "2026-11-02T09:14:07.123+0000");
    }

    #[test]
    fn what_is_said_to_be_lost_is_lost() {
        let log = Log::default();
        log.lost().push("sha256:01".to_owned());
        let is_lost = |digest: &str| log.is_lost(&push(&json!({ "repository": "tides/web", "digest": digest })));
        assert_eq!([is_lost("sha256:01"), is_lost("sha256:02")], [true, false]);
    }

    #[test]
    fn an_index_has_no_artifact_type() {
        let index = push(&json!({ "repository": "tides/web", "tag": "develop", "artifactMediaType": null }));
        assert_eq!(index["detail"].get("artifact-media-type"), None);
        let child = push(&json!({ "repository": "tides/web", "tag": "", "artifactMediaType": "application/x" }));
        assert_eq!(child["detail"]["artifact-media-type"], "application/x");
        assert_eq!(child["detail"]["image-tag"], "");
    }
}
