//! Queues that hear what Tidegate publishes and sends, so that it can be looked at.

use anyhow::Result;
use serde_json::json;

use crate::aws::{ACCOUNT, Aws, REGION};

/// Subscribes a queue to a topic, so that what is published can be looked at.
pub async fn subscribe(aws: &Aws, queue: &str, topic: &str) -> Result<()> {
    let queue = create_queue(aws, queue, "sns.amazonaws.com", topic).await?;
    let input = [
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", &queue),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", "true"),
    ];
    aws.query("sns", "2010-03-31", "Subscribe", &input).await?;
    Ok(())
}

/// Lets a queue hear every event that Tidegate sends.
pub async fn listen(aws: &Aws, queue: &str) -> Result<()> {
    let rule = format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{queue}");
    let arn = create_queue(aws, queue, "events.amazonaws.com", &rule).await?;
    let pattern = json!({ "source": ["tidegate"] }).to_string();
    aws.events("PutRule", &json!({ "Name": queue, "EventPattern": pattern })).await?;
    aws.events("PutTargets", &json!({ "Rule": queue, "Targets": [{ "Id": queue, "Arn": arn }] })).await?;
    Ok(())
}

/// Creates a queue that `service` may send messages of `source` to, and returns its ARN.
async fn create_queue(aws: &Aws, name: &str, service: &str, source: &str) -> Result<String> {
    let arn = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": service },
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": source } },
        }],
    });
    let attributes = json!({ "Policy": policy.to_string() });
    aws.sqs("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes })).await?;
    Ok(arn)
}

/// The URL of a queue.
pub fn queue_url(aws: &Aws, name: &str) -> String {
    format!("{}/{ACCOUNT}/{name}", aws.endpoint())
}
