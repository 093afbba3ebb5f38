//! What the functions ask for of IAM is in the table of permissions, and was allowed. And one that lacks a permission
//! says which.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::Result;
use local::aws::ACCOUNT;
use local::cloud::Cloud;
use serde_json::{Value, json};

use crate::{Shared, run_in, start};

/// It would keep the functions from what other tests want of them.
static LACKING: Shared = LazyLock::new(start);

/// Function and action of each line of the table.
fn table() -> BTreeSet<(&'static str, &'static str)> {
    let mut function = "";
    let mut table = BTreeSet::new();
    for line in include_str!("../../../PERMISSIONS.md").lines() {
        if let Some(name) = line.strip_prefix("## ") {
            function = name;
        } else if let Some((action, _)) = line.strip_prefix("| `").and_then(|line| line.split_once('`')) {
            table.insert((function, action));
        }
    }
    table
}

/// That all which the functions have asked for until now is in the table, and was allowed. Every test ends with it, so the
/// last one sees what all have done.
pub(crate) async fn hold(cloud: &Cloud) -> Result<()> {
    let (table, asked) = (table(), cloud.asked().await?);
    let beside: Vec<_> = asked.iter().filter(|it| !table.contains(&(it.function, it.action.as_str()))).collect();
    anyhow::ensure!(beside.is_empty(), "not in the table of permissions: {beside:#?}");
    let denied: Vec<_> = asked.iter().filter(|it| !it.is_allowed).collect();
    anyhow::ensure!(denied.is_empty(), "denied: {denied:#?}");
    Ok(())
}

/// A change of a tag, which makes `deploy` look at the service.
fn tagged() -> Value {
    json!({
        "id": "lacks-1", "source": "aws.tag", "detail-type": "Tag Change on Resource", "account": ACCOUNT,
        "region": "eu-west-1", "time": "2026-11-16T09:00:00Z",
        "resources": [format!("arn:aws:ecs:eu-west-1:{ACCOUNT}:service/harbour/nobody")],
        "detail": {"changed-tag-keys": ["tidegate:hold"], "service": "ecs", "resource-type": "service"},
    })
}

fn alarm() -> Value {
    json!({
        "id": "lacks-2", "source": "aws.cloudwatch", "detail-type": "CloudWatch Alarm State Change", "account": ACCOUNT,
        "region": "eu-west-1", "time": "2026-11-16T09:00:00Z", "resources": [],
        "detail": {
            "alarmName": "lacks", "state": {"value": "ALARM", "timestamp": "2026-11-16T09:00:00.000+0000"},
            "previousState": {"value": "OK"},
            "configuration": {"metrics": [{"id": "m1", "metricStat": {"period": 60, "stat": "Maximum", "metric": {
                "namespace": "AWS/SQS", "name": "ApproximateAgeOfOldestMessage", "dimensions": {"QueueName": "jobs"},
            }}}]},
        },
    })
}

fn completed() -> Value {
    json!({
        "id": "lacks-3", "source": "aws.ecs", "detail-type": "ECS Deployment State Change", "account": ACCOUNT,
        "region": "eu-west-1", "time": "2026-11-16T09:00:00Z",
        "resources": [format!("arn:aws:ecs:eu-west-1:{ACCOUNT}:service/harbour/nobody")],
        "detail": {
            "eventType": "INFO", "eventName": "SERVICE_DEPLOYMENT_COMPLETED", "deploymentId": "ecs-svc/1",
            "updatedAt": "2026-11-16T09:00:00Z", "reason": "ECS deployment ecs-svc/1 completed.",
        },
    })
}

fn sweep() -> Value {
    json!({"source": "tidegate", "detail-type": "Sweep", "detail": {}})
}

#[test]
fn a_function_that_lacks_a_permission_says_which_and_keeps_the_event() -> Result<()> {
    run_in(&LACKING, |cloud| async move {
        for (function, action, event) in [
            ("deploy", "ecs:DescribeServices", tagged()),
            ("notify", "dynamodb:Query", completed()),
            ("rollback", "tag:GetResources", alarm()),
            ("scale-service", "tag:GetResources", alarm()),
            ("scale-cluster", "tag:GetResources", sweep()),
        ] {
            cloud.take_away(function, action).await?;
            cloud.deliver(function, &event).await?;
            let reject = cloud
                .wait_for(&format!("the event that {function} may not handle"), || async {
                    let rejects = cloud.rejects().await?;
                    let found = rejects.iter().find(|reject| reject["function"] == function).cloned();
                    Ok(found.ok_or_else(|| format!("{rejects:#?}")))
                })
                .await?;
            let cause = reject["cause"].as_str().unwrap_or_default();
            assert!(cause.contains(&format!("Allow {action} in the function's role")), "{function}: {cause}");
            assert_eq!(reject["event"], event, "{function}");
            // Given back, the event that was kept can be handled.
            cloud.give_back(function).await?;
            let answer = cloud.aws.invoke(cloud.stack.function(function)?, &reject["event"]).await?;
            assert!(!answer.to_string().contains("Allow "), "{function}: {answer}");
        }
        Ok(())
    })
}
