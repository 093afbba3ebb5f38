//! What scaling looks at: queues, the minutes that CloudWatch has of them, and who else scales a service.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::aws::{ACCOUNT, REGION};
use local::cloud::Cloud;
use local::engine::worker;
use local::json::list;
use serde_json::{Value, json};

use super::definition;
use crate::scenario;

/// A metric of a queue, added up over its minutes.
async fn sum(cloud: &Cloud, queue: &str, metric: &str, statistic: &str) -> Result<f64> {
    Ok(cloud.metered("AWS/SQS", ("QueueName", queue), metric, statistic).await?.iter().sum())
}

#[test]
fn a_task_works_on_its_queue_and_cloudwatch_counts() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_queue("smoke-jobs").await?;
        cloud.send_messages("smoke-jobs", 12).await?;
        assert_eq!(cloud.queue_depth("smoke-jobs").await?, (12, 0));
        let mut document = definition("smoke-jobs");
        document["containerDefinitions"][0]["environment"] = json!([
            { "name": worker::QUEUE, "value": "smoke-jobs" },
            { "name": worker::MILLISECONDS, "value": "100" },
        ]);
        cloud.register(&document).await?;
        let service = json!({
            "cluster": "smoke", "serviceName": "jobs", "taskDefinition": "smoke-jobs", "desiredCount": 2,
        });
        cloud.create_service(&service).await?;
        cloud
            .wait_for("the queue to be worked off", || async {
                let depth = cloud.queue_depth("smoke-jobs").await?;
                Ok(if depth == (0, 0) { Ok(()) } else { Err(format!("{depth:?}")) })
            })
            .await?;
        assert_eq!(sum(cloud, "smoke-jobs", "NumberOfMessagesSent", "Sum").await?.to_string(), "12");
        assert_eq!(sum(cloud, "smoke-jobs", "NumberOfMessagesDeleted", "Sum").await?.to_string(), "12");
        // What waits is sampled every other second.
        cloud.create_queue("smoke-idle").await?;
        cloud.send_messages("smoke-idle", 3).await?;
        cloud
            .wait_for("CloudWatch to see what waits", || async {
                let waiting = sum(cloud, "smoke-idle", "ApproximateNumberOfMessagesVisible", "Maximum").await?;
                let age = sum(cloud, "smoke-idle", "ApproximateAgeOfOldestMessage", "Maximum").await?;
                Ok(if waiting >= 3.0 && age > 0.0 { Ok(()) } else { Err(format!("{waiting} {age}")) })
            })
            .await
    })
}

#[test]
fn a_message_to_a_function_waits_for_its_delay_and_an_old_one_is_dropped() -> Result<()> {
    scenario(|cloud| async move {
        let attributes = json!({ "MessageRetentionPeriod": "60", "VisibilityTimeout": "60" });
        cloud.aws.sqs("CreateQueue", &json!({ "QueueName": "smoke-ticks", "Attributes": attributes })).await?;
        let url = local::listeners::queue_url(&cloud.aws, "smoke-ticks");
        let send = json!({ "QueueUrl": url, "MessageBody": "tick", "DelaySeconds": 1 });
        cloud.aws.sqs("SendMessage", &send).await?;
        let receive = json!({ "QueueUrl": url, "MaxNumberOfMessages": 1 });
        let early = cloud.aws.sqs("ReceiveMessage", &receive).await?;
        assert!(list(&early, "Messages").is_empty(), "{early}");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let due = cloud.aws.sqs("ReceiveMessage", &receive).await?;
        assert_eq!(list(&due, "Messages").len(), 1, "{due}");
        for function in ["scale-service", "scale-cluster"] {
            let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:tidegate-{function}-ticks");
            let path = "/2015-03-31/event-source-mappings/";
            let mappings = cloud.aws.send("lambda", axum::http::Method::GET, path, &[], "").await?;
            let mappings: Value = serde_json::from_slice(&mappings.body)?;
            let mapping = list(&mappings, "EventSourceMappings").iter().find(|it| it["EventSourceArn"] == queue);
            let mapping = mapping.with_context(|| format!("no mapping of {queue}: {mappings}"))?;
            assert_eq!((&mapping["State"], &mapping["BatchSize"]), (&json!("Enabled"), &json!(1)), "{mapping}");
        }
        Ok(())
    })
}

#[test]
fn application_auto_scaling_tells_its_targets() -> Result<()> {
    scenario(|cloud| async move {
        let dimension = "ecs:service:DesiredCount";
        let target = |service: &str| {
            json!({
                "ServiceNamespace": "ecs", "ResourceId": format!("service/smoke/{service}"),
                "ScalableDimension": dimension, "MinCapacity": 1, "MaxCapacity": 4,
            })
        };
        cloud.aws.scaling_targets("RegisterScalableTarget", &target("owned")).await?;
        cloud.aws.scaling_targets("RegisterScalableTarget", &target("other")).await?;
        let ask = json!({
            "ServiceNamespace": "ecs", "ResourceIds": ["service/smoke/owned", "service/smoke/free"],
            "ScalableDimension": dimension,
        });
        let answer = cloud.aws.scaling_targets("DescribeScalableTargets", &ask).await?;
        let found = list(&answer, "ScalableTargets");
        assert_eq!(found.len(), 1, "{answer}");
        assert_eq!((&found[0]["ResourceId"], &found[0]["MaxCapacity"]), (&json!("service/smoke/owned"), &json!(4)));
        assert_eq!(found[0]["SuspendedState"]["DynamicScalingInSuspended"], false);
        let gone =
            json!({ "ServiceNamespace": "ecs", "ResourceId": "service/smoke/owned", "ScalableDimension": dimension });
        cloud.aws.scaling_targets("DeregisterScalableTarget", &gone).await?;
        let answer = cloud.aws.scaling_targets("DescribeScalableTargets", &ask).await?;
        assert!(list(&answer, "ScalableTargets").is_empty(), "{answer}");
        Ok(())
    })
}
