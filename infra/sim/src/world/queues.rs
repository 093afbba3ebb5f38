//! The queues that services work on, and who else scales these.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::wire::Refusal;
use super::{ACCOUNT, REGION, State};

/// A queue by its counts: messages that wait, are in flight, and are delayed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Queue {
    pub visible: u32,
    pub in_flight: u32,
    pub delayed: u32,
}

/// Queues by name.
pub type Queues = BTreeMap<String, Queue>;

/// The scalable targets of Application Auto Scaling: by `<cluster>/<service>`, whether each is suspended.
pub type Targets = BTreeMap<String, bool>;

impl State {
    pub(super) fn get_queue_url(&self, body: &Value) -> Result<Value, Refusal> {
        let name = body["QueueName"].as_str().unwrap();
        self.queues.get(name).ok_or(NO_QUEUE)?;
        Ok(json!({"QueueUrl": format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}")}))
    }

    /// The rejects queue keeps what it is sent; of all others there are counts alone.
    pub(super) fn send_message(&mut self, body: &Value) -> Result<Value, Refusal> {
        match body["QueueUrl"].as_str().unwrap().rsplit('/').next().unwrap() {
            "rejects" => self.rejects.push(serde_json::from_str(body["MessageBody"].as_str().unwrap()).unwrap()),
            name => self.queues.get_mut(name).ok_or(NO_QUEUE)?.visible += 1,
        }
        Ok(json!({"MessageId": "1"}))
    }

    pub(super) fn get_queue_attributes(&self, body: &Value) -> Result<Value, Refusal> {
        let name = body["QueueUrl"].as_str().unwrap().rsplit('/').next().unwrap();
        let queue = self.queues.get(name).ok_or(NO_QUEUE)?;
        let all = [
            ("ApproximateNumberOfMessages", queue.visible),
            ("ApproximateNumberOfMessagesNotVisible", queue.in_flight),
            ("ApproximateNumberOfMessagesDelayed", queue.delayed),
        ];
        let asked = body["AttributeNames"].as_array().unwrap();
        let told = all.into_iter().filter(|(name, _)| asked.contains(&json!(name)));
        Ok(json!({"Attributes": told.map(|(name, count)| (name, count.to_string())).collect::<BTreeMap<_, _>>()}))
    }

    pub(super) fn describe_scalable_targets(&self, body: &Value) -> Value {
        let asked = body["ResourceIds"].as_array().unwrap();
        let targets = self.targets.iter().map(|(service, is_suspended)| {
            json!({
                "ServiceNamespace": "ecs", "ResourceId": format!("service/{service}"),
                "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 1, "MaxCapacity": 10,
                "RoleARN": format!("arn:aws:iam::{ACCOUNT}:role/ecs"), "CreationTime": 1_794_000_000,
                "SuspendedState": {
                    "DynamicScalingInSuspended": is_suspended, "DynamicScalingOutSuspended": is_suspended,
                    "ScheduledScalingSuspended": is_suspended,
                },
            })
        });
        json!({"ScalableTargets": targets.filter(|it| asked.contains(&it["ResourceId"])).collect::<Vec<_>>()})
    }
}

/// SQS names the error twice; the SDK goes by the name that its old protocol had.
const NO_QUEUE: Refusal = ("AWS.SimpleQueueService.NonExistentQueue", Value::Null);
