//! Queues, Auto Scaling groups and the minutes that CloudWatch has: what scaling looks at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, TimeDelta};
use serde_json::{Value, json};

use super::{Cloud, SCALE_CLUSTER, SCALE_SERVICE};
use crate::aws::elements;
use crate::engine::worker;
use crate::json::{list, text};
use crate::listeners;

/// SQS takes so many messages in a call.
const MESSAGES_PER_CALL_MAX: usize = 10;

/// An Auto Scaling group whose instances join a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Its name, and that of its launch configuration.
    pub name: &'a str,
    /// The cluster that its instances join.
    pub cluster: &'a str,
    /// What its instances are.
    pub instance_type: &'a str,
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
}

/// An instance of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// EC2's id.
    pub id: String,
    /// Where it is in its life, such as `InService`.
    pub state: String,
}

impl Cloud {
    /// Creates a queue.
    pub async fn create_queue(&self, name: &str) -> Result<()> {
        self.aws.sqs("CreateQueue", &json!({ "QueueName": name })).await?;
        Ok(())
    }

    /// Sends messages to a queue.
    pub async fn send_messages(&self, queue: &str, messages: usize) -> Result<()> {
        let url = listeners::queue_url(&self.aws, queue);
        let all: Vec<usize> = (1..=messages).collect();
        for some in all.chunks(MESSAGES_PER_CALL_MAX) {
            let entries: Vec<Value> =
                some.iter().map(|n| json!({ "Id": n.to_string(), "MessageBody": format!("job {n}") })).collect();
            let answer = self.aws.sqs("SendMessageBatch", &json!({ "QueueUrl": url, "Entries": entries })).await?;
            ensure!(list(&answer, "Failed").is_empty(), "SQS refused messages: {answer}");
        }
        Ok(())
    }

    /// Creates a queue and a service of its name, whose one task works on it and takes so many milliseconds for a message.
    pub async fn create_worker(&self, cluster: &str, name: &str, milliseconds: u32) -> Result<()> {
        self.create_queue(name).await?;
        let document = json!({
            "family": name,
            "containerDefinitions": [{
                "name": "app", "image": "public.ecr.aws/nginx/nginx:1.29", "memory": 128,
                "environment": [
                    { "name": worker::QUEUE, "value": name },
                    { "name": worker::MILLISECONDS, "value": milliseconds.to_string() },
                ],
            }],
        });
        self.register(&document).await?;
        let service = json!({ "cluster": cluster, "serviceName": name, "taskDefinition": name, "desiredCount": 1 });
        self.create_service(&service).await?;
        self.wait_until_steady(cluster, name).await?;
        Ok(())
    }

    /// Lets a service follow the queue of its name, with at most `max` tasks. A message takes one of them so many
    /// milliseconds, and may wait for ten seconds.
    pub async fn follow_queue(&self, cluster: &str, name: &str, milliseconds: u32, max: u32) -> Result<()> {
        let (max, seconds) = (max.to_string(), (f64::from(milliseconds) / 1000.0).to_string());
        let tags = [
            ("tidegate:scale/queue", name),
            ("tidegate:scale/min", "1"),
            ("tidegate:scale/max", &max),
            ("tidegate:scale/target-wait", "10"),
            ("tidegate:scale/service-time", &seconds),
        ];
        self.tag(cluster, name, &tags).await
    }

    /// How many messages of a queue wait, and how many are being worked on.
    pub async fn queue_depth(&self, queue: &str) -> Result<(u64, u64)> {
        let url = listeners::queue_url(&self.aws, queue);
        let input = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let answer = self.aws.sqs("GetQueueAttributes", &input).await?;
        let count = |name: &str| text(&answer["Attributes"], name).parse().unwrap_or(0);
        Ok((count("ApproximateNumberOfMessages"), count("ApproximateNumberOfMessagesNotVisible")))
    }

    /// Creates a cluster with these tags.
    pub async fn create_cluster(&self, name: &str, tags: &[(&str, &str)]) -> Result<()> {
        let tags: Value = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        self.aws.ecs("CreateCluster", &json!({ "clusterName": name, "tags": tags })).await?;
        Ok(())
    }

    /// Creates a cluster with these tags and a group of instances for two tasks each, and a service in it; all of the same
    /// name.
    pub async fn create_fleet(
        &self,
        name: &str,
        tags: &[(&str, &str)],
        (min, max): (u32, u32),
        tasks: u32,
    ) -> Result<()> {
        self.create_cluster(name, tags).await?;
        self.create_group(Group { name, cluster: name, instance_type: "t3.small", min, max }).await?;
        let document = json!({
            "family": name,
            "containerDefinitions": [
                { "name": "app", "image": "public.ecr.aws/nginx/nginx:1.29", "cpu": 1024, "memory": 512 },
            ],
        });
        self.register(&document).await?;
        let service = json!({ "cluster": name, "serviceName": name, "taskDefinition": name, "desiredCount": tasks });
        self.create_service(&service).await?;
        Ok(())
    }

    /// Creates a group, and waits until its fewest instances have joined their cluster.
    pub async fn create_group(&self, group: Group<'_>) -> Result<()> {
        // `echo ECS_CLUSTER=name >> /etc/ecs/ecs.config`, as the guides have it.
        let user_data = format!("#!/bin/bash\necho ECS_CLUSTER={} >> /etc/ecs/ecs.config\n", group.cluster);
        let user_data = BASE64.encode(user_data);
        let name = ("LaunchConfigurationName", group.name);
        let configuration = [name, ("InstanceType", group.instance_type), ("UserData", &user_data)];
        self.aws.autoscaling("CreateLaunchConfiguration", &configuration).await?;
        let [min, max] = [group.min, group.max].map(|bound| bound.to_string());
        let input = [("AutoScalingGroupName", group.name), name, ("MinSize", &min), ("MaxSize", &max)];
        self.aws.autoscaling("CreateAutoScalingGroup", &input).await?;
        self.wait_for_instances(group.cluster, group.min as usize).await?;
        Ok(())
    }

    /// How many instances a group is to have, and those that it has.
    pub async fn group(&self, name: &str) -> Result<(u32, Vec<Member>)> {
        let input = [("AutoScalingGroupNames.member.1", name)];
        let answer = self.aws.autoscaling("DescribeAutoScalingGroups", &input).await?;
        let desired = elements(&answer, "DesiredCapacity").next().context("no such group")?.parse()?;
        let states = elements(&answer, "LifecycleState");
        let members = elements(&answer, "InstanceId").zip(states);
        Ok((desired, members.map(|(id, state)| Member { id: id.to_owned(), state: state.to_owned() }).collect()))
    }

    /// The instances of a cluster, as ECS describes them.
    pub async fn container_instances(&self, cluster: &str) -> Result<Vec<Value>> {
        let listed = self.aws.ecs("ListContainerInstances", &json!({ "cluster": cluster })).await?;
        let arns = list(&listed, "containerInstanceArns");
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let input = json!({ "cluster": cluster, "containerInstances": arns });
        let mut described = self.aws.ecs("DescribeContainerInstances", &input).await?;
        Ok(described["containerInstances"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until so many instances of a cluster take tasks, and returns them.
    pub async fn wait_for_instances(&self, cluster: &str, count: usize) -> Result<Vec<Value>> {
        self.wait_for(&format!("{count} instances of {cluster} to take tasks"), || async {
            let mut instances = self.container_instances(cluster).await?;
            instances.retain(|instance| text(instance, "status") == "ACTIVE");
            Ok(if instances.len() == count { Ok(instances) } else { Err(format!("{} do", instances.len())) })
        })
        .await
    }

    /// Gives CloudWatch a metric of the last minutes that are over, oldest first.
    pub async fn meter(&self, namespace: &str, dimension: (&str, &str), metric: &str, minutes: &[f64]) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (name, value) = dimension;
        let data: Vec<Value> = minutes
            .iter()
            .rev()
            .zip(1..)
            .map(|(point, ago)| {
                json!({
                    "MetricName": metric, "Dimensions": [{ "Name": name, "Value": value }], "Value": point,
                    "Timestamp": now - now % 60 - 60 * ago,
                })
            })
            .collect();
        self.aws.cloudwatch("PutMetricData", &json!({ "Namespace": namespace, "MetricData": data })).await?;
        Ok(())
    }

    /// What CloudWatch has of a metric in the last ten minutes and this one, minute by minute, oldest first.
    pub async fn metered(
        &self,
        namespace: &str,
        dimension: (&str, &str),
        metric: &str,
        statistic: &str,
    ) -> Result<Vec<f64>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (name, value) = dimension;
        let metric = json!({
            "Namespace": namespace, "MetricName": metric, "Dimensions": [{ "Name": name, "Value": value }],
        });
        let query = json!({ "Id": "m", "MetricStat": { "Metric": metric, "Period": 60, "Stat": statistic } });
        let input = json!({ "MetricDataQueries": [query], "StartTime": now - 600, "EndTime": now + 60 });
        let answer = self.aws.cloudwatch("GetMetricData", &input).await?;
        Ok(list(&answer["MetricDataResults"][0], "Values").iter().filter_map(Value::as_f64).collect())
    }

    /// Wakes the function that scales services with what its schedule wakes it with, and waits for its response.
    pub async fn scale_services(&self) -> Result<Value> {
        self.invoke("scale-service", &self.input_of(SCALE_SERVICE).await?).await
    }

    /// The same of the function that scales clusters.
    pub async fn scale_clusters(&self) -> Result<Value> {
        self.invoke("scale-cluster", &self.input_of(SCALE_CLUSTER).await?).await
    }

    /// What was done to scale a service (`<cluster>/<service>`) or a cluster, oldest first.
    pub async fn scaling_actions(&self, whose: &str) -> Result<Vec<Value>> {
        let mut items = self.partition(&format!("SCALING#{whose}")).await?;
        items.retain(|item| text(item, "sk").starts_with("ACTION#"));
        Ok(items)
    }

    /// Lets time pass for a service (`<cluster>/<service>`) with its queue, or a cluster: all that is remembered of it,
    /// but for the last look itself, and all that CloudWatch has of `metered`, was so much earlier. Nobody waits ten
    /// minutes to see that nothing happens.
    pub async fn let_time_pass(&self, whose: &str, metered: &str, time: Duration) -> Result<()> {
        let url = format!("{}/_tidegate/metrics/earlier?of={metered}&seconds={}", self.aws.endpoint(), time.as_secs());
        let moved = self.aws.http.send(Method::POST, &url, &[], "").await?;
        ensure!(moved.status.is_success(), "CloudWatch's minutes can't be moved: {}", moved.text());
        let table = self.stack.output("TableName")?;
        let key = json!({ "pk": { "S": format!("SCALING#{whose}") }, "sk": { "S": "STATE" } });
        let read = json!({ "TableName": table, "Key": key, "ConsistentRead": true });
        self.wait_for(&format!("nobody else to write what is remembered of {whose}"), || async {
            let mut item = self.aws.dynamodb("GetItem", &read).await?["Item"].take();
            ensure!(item.is_object(), "nothing is remembered of {whose}");
            earlier(&mut item["state"], time)?;
            // As the functions write it: who has read it before is refused.
            let seen = item["version"].clone();
            let next: u64 = text(&seen, "N").parse::<u64>()? + 1;
            item["version"] = json!({ "N": next.to_string() });
            let write = json!({
                "TableName": table, "Item": item, "ConditionExpression": "version = :seen",
                "ExpressionAttributeValues": { ":seen": seen },
            });
            let written = self.aws.dynamodb("PutItem", &write).await;
            Ok(written.map(|_| ()).map_err(|error| format!("{error:#}")))
        })
        .await
    }
}

/// The fields of the last look: what is older than a few minutes is a gap, and all would begin anew.
const LAST_LOOK: [&str; 3] = ["seen_at", "looked_at", "acting_until"];

/// Moves each time in an attribute back.
fn earlier(attribute: &mut Value, time: Duration) -> Result<()> {
    match attribute {
        Value::String(text) => {
            if let Some(moved) = moved(text, time)? {
                *text = moved;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if !LAST_LOOK.contains(&name.as_str()) {
                    earlier(field, time)?;
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                earlier(item, time)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A time in RFC 3339, so much earlier; nothing where the text is no time.
fn moved(text: &str, time: Duration) -> Result<Option<String>> {
    let Ok(at) = DateTime::parse_from_rfc3339(text) else { return Ok(None) };
    let earlier = at.to_utc() - TimeDelta::from_std(time)?;
    Ok(Some(earlier.to_rfc3339_opts(SecondsFormat::Millis, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_remembered_moves_but_the_last_look() -> Result<()> {
        let mut state = json!({ "M": {
            "seen_at": { "S": "2026-11-23T16:10:00Z" },
            "bases": { "L": [{ "M": { "at": { "S": "2026-11-23T16:09:45Z" }, "tasks": { "N": "1" } } }] },
            "words": { "S": "16:09" },
        } });
        earlier(&mut state, Duration::from_secs(600))?;
        let expected = json!({ "M": {
            "seen_at": { "S": "2026-11-23T16:10:00Z" },
            "bases": { "L": [{ "M": { "at": { "S": "2026-11-23T15:59:45.000Z" }, "tasks": { "N": "1" } } }] },
            "words": { "S": "16:09" },
        } });
        assert_eq!(state, expected);
        Ok(())
    }
}
