//! What the launcher adds to the emulator, one test for each behaviour: a new version of the emulator that breaks one
//! fails here.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::Method;
use local::aws::{ACCOUNT, ApiError, REGION};
use local::cloud::Cloud;
use local::registry::{self, Behaviour, Image};
use serde_json::{Value, json};

use crate::scenario;

fn code(result: Result<Value>) -> Result<String> {
    let error = result.err().context("an error was expected")?;
    Ok(error.downcast::<ApiError>()?.code)
}

fn definition(family: &str) -> Value {
    json!({
        "family": family,
        "containerDefinitions": [{ "name": "app", "image": "public.ecr.aws/nginx/nginx:1.29", "memory": 128 }],
    })
}

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
            .wait_for("its events", Duration::from_secs(5), || async {
                let told = deployment_events(cloud, id);
                let complete = told == ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"];
                Ok(if complete { Ok(()) } else { Err(format!("{told:?}")) })
            })
            .await?;
        Ok(())
    })
}

#[test]
fn a_tag_that_points_nowhere_is_an_error() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/empty").await?;
        let input = json!({ "repositoryName": "smoke/empty", "imageIds": [{ "imageTag": "gone" }] });
        assert_eq!(code(cloud.aws.ecr("DescribeImages", &input).await)?, "ImageNotFoundException");
        Ok(())
    })
}

#[test]
fn a_push_is_announced_child_by_child_and_the_index_with_its_tag() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/pushed").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/pushed", "develop", &image).await?;
        assert_eq!(registry::resolve(&cloud.aws, "smoke/pushed", "develop").await?, Some(digest.clone()));
        let events = cloud
            .wait_for("four events", Duration::from_secs(5), || async {
                let mut events = cloud.events.published();
                events.retain(|event| event["detail"]["repository-name"] == "smoke/pushed");
                Ok(if events.len() == 4 { Ok(events) } else { Err(format!("{events:?}")) })
            })
            .await?;
        let tags: Vec<_> = events.iter().map(|event| event["detail"]["image-tag"].as_str()).collect();
        assert_eq!(tags, [Some(""), Some(""), Some(""), Some("develop")]);
        assert_eq!(events[3]["detail"]["image-digest"], digest);
        assert_eq!(events[3]["detail"]["manifest-media-type"], "application/vnd.oci.image.index.v1+json");
        Ok(())
    })
}

/// EventBridge takes events of AWS's own sources and invokes a function until its attempts are used up; then its failure
/// destination has the event.
#[test]
fn an_event_for_a_failing_function_is_tried_three_times_and_kept() -> Result<()> {
    scenario(|cloud| async move {
        let (function, queue) = ("smoke-failing", "smoke-kept");
        cloud.aws.sqs("CreateQueue", &json!({ "QueueName": queue })).await?;
        // Without its settings it cannot start.
        let created = copy_of_deploy(cloud, function, |create| create["Environment"] = json!({})).await?;
        let kept = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}");
        let configuration = json!({ "DestinationConfig": { "OnFailure": { "Destination": kept } } });
        let path = format!("/2019-09-25/functions/{function}/event-invoke-config");
        cloud.aws.send("lambda", Method::PUT, &path, &[], configuration.to_string()).await?;
        let rule = json!({ "Name": "smoke", "EventPattern": json!({ "source": ["aws.smoke"] }).to_string() });
        cloud.aws.events("PutRule", &rule).await?;
        let targets = json!({ "Rule": "smoke", "Targets": [{ "Id": "1", "Arn": created["FunctionArn"] }] });
        cloud.aws.events("PutTargets", &targets).await?;

        let event = json!({ "source": "aws.smoke", "detail-type": "Smoke", "detail": { "from": "a chimney" } });
        cloud.events.publish(&event).await?;
        let queue = cloud.aws.sqs("GetQueueUrl", &json!({ "QueueName": queue })).await?;
        let queue = queue["QueueUrl"].as_str().context("a queue without URL")?;
        let kept = cloud
            .wait_for("the event to be kept", Duration::from_secs(20), || async {
                let kept = cloud.messages_in(queue).await?;
                Ok(kept.first().cloned().ok_or_else(|| "nothing".to_owned()))
            })
            .await?;
        assert_eq!(kept["requestContext"]["condition"], "RetriesExhausted", "{kept}");
        assert_eq!(kept["requestPayload"]["detail"], json!({ "from": "a chimney" }), "{kept}");
        let logs = json!({ "logGroupName": format!("/aws/lambda/{function}"), "filterPattern": "START" });
        let starts = cloud.aws.logs("FilterLogEvents", &logs).await?;
        assert_eq!(starts["events"].as_array().map(Vec::len), Some(3), "{starts}");
        Ok(())
    })
}

/// What every other test relies on: that the roles of the template are enough proves something only if they limit.
#[test]
fn a_function_may_do_only_what_its_role_allows() -> Result<()> {
    scenario(|cloud| async move {
        let powerless = cloud.create_task_role("smoke-powerless").await?;
        copy_of_deploy(cloud, "smoke-powerless", |create| create["Role"] = json!(powerless)).await?;
        let event = json!({
            "source": "aws.ecr", "detail-type": "ECR Image Action",
            "detail": { "action-type": "PUSH", "result": "SUCCESS", "repository-name": "smoke/none",
                        "image-digest": format!("sha256:{:064x}", 1), "image-tag": "develop" },
        });
        let path = "/2015-03-31/functions/smoke-powerless/invocations";
        let response = cloud.aws.send("lambda", Method::POST, path, &[], event.to_string()).await?;
        assert!(response.headers.contains_key("x-amz-function-error"), "{}", response.text());
        assert!(response.text().contains("AccessDenied"), "{}", response.text());
        Ok(())
    })
}

/// A second function with the code and the settings of `deploy`, but for what `change` makes of it.
async fn copy_of_deploy(cloud: &Cloud, name: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let path = format!("/2015-03-31/functions/{}/configuration", cloud.stack.output("DeployFunctionName")?);
    let deploy = cloud.aws.send("lambda", Method::GET, &path, &[], "").await?;
    let deploy: Value = serde_json::from_slice(&deploy.body)?;
    let mut create = json!({
        "FunctionName": name,
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Timeout": 10,
        "Role": deploy["Role"],
        "Environment": deploy["Environment"],
        "Code": { "S3Bucket": local::stack::BUCKET, "S3Key": "deploy.zip" },
    });
    change(&mut create);
    let created = cloud.aws.send("lambda", Method::POST, "/2015-03-31/functions", &[], create.to_string()).await?;
    Ok(serde_json::from_slice(&created.body)?)
}

fn deployment_events(cloud: &Cloud, id: &str) -> Vec<String> {
    let mut events = cloud.events.published();
    events.retain(|event| event["detail"]["deploymentId"] == id);
    events.iter().filter_map(|event| event["detail"]["eventName"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_function_can_be_invoked_without_a_signature() -> Result<()> {
    scenario(|cloud| async move {
        let function = cloud.stack.output("DeployFunctionName")?;
        let url = format!("{}/2015-03-31/functions/{function}/invocations", cloud.aws.endpoint());
        let event = include_str!("../../../../events/ecr-image-action-delete.json");
        let response = cloud.aws.http.send(Method::POST, &url, &[], event).await?;
        let answer: Value = serde_json::from_slice(&response.body)?;
        assert_eq!(answer["decisions"][0]["action"], "skip", "as `cargo lambda invoke` does: {answer}");
        Ok(())
    })
}
