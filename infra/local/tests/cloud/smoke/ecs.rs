//! ECS: task definitions, services and their tags.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use local::aws::service_arn;
use serde_json::{Value, json};

use super::{code, definition, deployment_events};
use crate::scenario;

#[test]
fn a_task_definition_keeps_unknown_fields_and_gains_none() -> Result<()> {
    scenario(|cloud| async move {
        let mut document = definition("smoke-fields");
        document["trustedExecutionConfiguration"] = json!({ "enabled": true, "nested": [1, { "a": null }] });
        document["containerDefinitions"][0]["fromTheFuture"] = json!({ "b": 2 });
        document["tags"] = json!([{ "key": "team", "value": "tides" }]);
        let arn = cloud.register(&document).await?;
        let described = cloud.task_definition(&arn).await?;
        let found = &described["taskDefinition"];
        assert_eq!(found["trustedExecutionConfiguration"], document["trustedExecutionConfiguration"]);
        assert_eq!(found["containerDefinitions"][0]["fromTheFuture"], json!({ "b": 2 }));
        assert_eq!(described["tags"], document["tags"]);
        for made_up in
            ["taskRoleArn", "executionRoleArn", "pidMode", "ipcMode", "proxyConfiguration", "runtimePlatform"]
        {
            assert_eq!(found.get(made_up), None, "{made_up}");
        }
        let untold = cloud.aws.ecs("DescribeTaskDefinition", &json!({ "taskDefinition": arn })).await?;
        assert_eq!(untold.get("tags"), None, "tags are told only to who asks for them");
        Ok(())
    })
}

#[test]
fn fields_that_aws_sets_are_refused() -> Result<()> {
    scenario(|cloud| async move {
        let mut document = definition("smoke-read-only");
        document["revision"] = json!(7);
        assert_eq!(code(cloud.aws.ecs("RegisterTaskDefinition", &document).await)?, "ClientException");
        Ok(())
    })
}

#[test]
fn services_are_described_ten_at_a_time_and_tags_on_request() -> Result<()> {
    scenario(|cloud| async move {
        cloud.register(&definition("smoke-describe")).await?;
        let tags = json!([{ "key": "team", "value": "tides" }]);
        cloud
            .create_service(&json!({
                "cluster": "smoke", "serviceName": "described", "taskDefinition": "smoke-describe", "desiredCount": 0,
                "tags": tags,
            }))
            .await?;
        let input = json!({ "cluster": "smoke", "services": ["described"] });
        let silent = cloud.aws.ecs("DescribeServices", &input).await?;
        assert_eq!(silent["services"][0].get("tags"), None);
        let asked = json!({ "cluster": "smoke", "services": ["described"], "include": ["TAGS"] });
        let told = cloud.aws.ecs("DescribeServices", &asked).await?;
        assert_eq!(told["services"][0]["tags"], tags);
        let many = json!({ "cluster": "smoke", "services": vec!["described"; 11] });
        assert_eq!(code(cloud.aws.ecs("DescribeServices", &many).await)?, "InvalidParameterException");
        Ok(())
    })
}

#[test]
fn a_service_of_code_deploy_refuses_a_task_definition() -> Result<()> {
    scenario(|cloud| async move {
        cloud.register(&definition("smoke-code-deploy")).await?;
        cloud
            .create_service(&json!({
                "cluster": "smoke", "serviceName": "blue-green", "taskDefinition": "smoke-code-deploy",
                "desiredCount": 0, "deploymentController": { "type": "CODE_DEPLOY" },
            }))
            .await?;
        let update = json!({ "cluster": "smoke", "service": "blue-green", "taskDefinition": "smoke-code-deploy:1" });
        assert_eq!(code(cloud.aws.ecs("UpdateService", &update).await)?, "InvalidParameterException");
        Ok(())
    })
}

#[test]
fn a_first_deployment_rolls_out_and_its_tasks_name_it() -> Result<()> {
    scenario(|cloud| async move {
        cloud.register(&definition("smoke-rollout")).await?;
        cloud
            .create_service(&json!({
                "cluster": "smoke", "serviceName": "rollout", "taskDefinition": "smoke-rollout", "desiredCount": 2,
            }))
            .await?;
        let first = cloud.service("smoke", "rollout").await?;
        assert_eq!(first["deployments"][0]["rolloutState"], "IN_PROGRESS");
        assert!(first["deployments"][0]["createdAt"].is_f64(), "times are told to the millisecond");
        let steady = cloud.wait_until_steady("smoke", "rollout").await?;
        let id = steady["deployments"][0]["id"].as_str().context("a deployment without id")?;
        let digits = id.strip_prefix("ecs-svc/").context("an id of another form")?;
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        let tasks = cloud.aws.ecs("ListTasks", &json!({ "cluster": "smoke", "serviceName": "rollout" })).await?;
        let described =
            cloud.aws.ecs("DescribeTasks", &json!({ "cluster": "smoke", "tasks": tasks["taskArns"] })).await?;
        let tasks = described["tasks"].as_array().context("no tasks")?;
        assert_eq!(tasks.len(), 2);
        assert!(tasks.iter().all(|task| task["startedBy"] == id), "{described}");
        cloud
            .wait_for("its events", || async {
                let told = deployment_events(cloud, id);
                let complete = told == ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"];
                Ok(if complete { Ok(()) } else { Err(format!("{told:?}")) })
            })
            .await?;
        Ok(())
    })
}

/// A service that was tagged once stays in the answer, without tags.
#[test]
fn tagged_services_come_page_by_page() -> Result<()> {
    scenario(|cloud| async move {
        cloud.register(&definition("smoke-tagged")).await?;
        for name in ["tagged-1", "tagged-2", "tagged-3"] {
            let service = json!({
                "cluster": "smoke", "serviceName": name, "taskDefinition": "smoke-tagged", "desiredCount": 0,
                "tags": [{ "key": "team", "value": "tides" }],
            });
            cloud.create_service(&service).await?;
        }
        let untag = json!({ "resourceArn": service_arn("smoke", "tagged-3"), "tagKeys": ["team"] });
        cloud.aws.ecs("UntagResource", &untag).await?;
        let mut found = BTreeMap::new();
        let mut input = json!({ "ResourceTypeFilters": ["ecs:service"], "ResourcesPerPage": 2 });
        loop {
            let answer = cloud.aws.tagging("GetResources", &input).await?;
            let page = answer["ResourceTagMappingList"].as_array().context("no list")?;
            assert!(page.len() <= 2, "{answer}");
            for resource in page {
                let arn = resource["ResourceARN"].as_str().context("no ARN")?;
                assert!(arn.contains(":service/"), "{arn}");
                found.insert(arn.to_owned(), resource["Tags"].clone());
            }
            if answer["PaginationToken"] == "" {
                break;
            }
            input["PaginationToken"] = answer["PaginationToken"].clone();
        }
        let team = json!([{ "Key": "team", "Value": "tides" }]);
        assert_eq!(found.get(&service_arn("smoke", "tagged-1")), Some(&team));
        assert_eq!(found.get(&service_arn("smoke", "tagged-2")), Some(&team));
        assert_eq!(found.get(&service_arn("smoke", "tagged-3")), Some(&json!([])));
        Ok(())
    })
}

#[test]
fn a_change_of_a_services_tags_is_announced_whichever_api_made_it() -> Result<()> {
    scenario(|cloud| async move {
        cloud.register(&definition("smoke-tags")).await?;
        let service = json!({
            "cluster": "smoke", "serviceName": "tags", "taskDefinition": "smoke-tags", "desiredCount": 0,
            "tags": [{ "key": "team", "value": "tides" }],
        });
        cloud.create_service(&service).await?;
        let arn = service_arn("smoke", "tags");
        let tag = json!({ "resourceArn": arn, "tags": [{ "key": "tier", "value": "1" }] });
        cloud.aws.ecs("TagResource", &tag).await?;
        // Nothing changes.
        cloud.aws.ecs("TagResource", &tag).await?;
        let tags = json!({ "ResourceARNList": [arn], "Tags": { "team": "sea", "tier": "1" } });
        cloud.aws.tagging("TagResources", &tags).await?;
        cloud.aws.ecs("UntagResource", &json!({ "resourceArn": arn, "tagKeys": ["tier"] })).await?;
        let events = cloud
            .wait_for("three events", || async {
                let mut events = cloud.events.published();
                events.retain(|event| event["source"] == "aws.tag" && event["resources"] == json!([arn]));
                Ok(if events.len() == 3 { Ok(events) } else { Err(format!("{events:?}")) })
            })
            .await?;
        let told: Vec<_> = events.iter().map(|event| event["detail"].clone()).collect();
        let detail = |version: u64, key: &str, tags: Value| {
            json!({ "changed-tag-keys": [key], "service": "ecs", "resource-type": "service", "version": version,
                    "tags": tags })
        };
        let expected = [
            detail(1, "tier", json!({ "team": "tides", "tier": "1" })),
            detail(2, "team", json!({ "team": "sea", "tier": "1" })),
            detail(3, "tier", json!({ "team": "sea" })),
        ];
        assert_eq!(told, expected);
        Ok(())
    })
}
