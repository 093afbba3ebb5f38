//! The stack and its functions: how they are woken, and what happens when they fail.

use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::Method;
use local::aws::{ACCOUNT, REGION};
use local::cloud::{Cloud, NEWRELIC_SECRET, SIGNING_SECRET, SLACK_SECRET};
use serde_json::{Value, json};

use crate::scenario;

/// The schedules of the stack are off in this cloud: see `Cloud::start_the_clock`.
#[test]
fn a_schedule_sends_its_input_every_minute() -> Result<()> {
    scenario(|cloud| async move {
        let queue = "smoke-minutes";
        let created = cloud.aws.sqs("CreateQueue", &json!({ "QueueName": queue })).await?;
        let url = created["QueueUrl"].as_str().context("a queue without URL")?;
        cloud.aws.events("PutRule", &json!({ "Name": queue, "ScheduleExpression": "rate(1 minute)" })).await?;
        let target =
            json!({ "Id": "1", "Arn": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"), "Input": "{\"a\":1}" });
        cloud.aws.events("PutTargets", &json!({ "Rule": queue, "Targets": [target] })).await?;
        for rule in ["tidegate-sweep", "tidegate-look"] {
            let described = cloud.aws.events("DescribeRule", &json!({ "Name": rule })).await?;
            assert_eq!(described["State"], "DISABLED", "{rule}");
        }
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(cloud.messages_in(url).await?, Vec::<Value>::new());
        cloud
            .wait_for("the minute to be over", || async {
                let sent = cloud.messages_in(url).await?;
                Ok(if sent == [json!({ "a": 1 })] { Ok(()) } else { Err(format!("{sent:?}")) })
            })
            .await?;
        let disable = cloud.aws.events("DisableRule", &json!({ "Name": queue })).await;
        disable.map(|_| ())
    })
}

/// A webhook without a secret would be one that anybody can imitate.
#[test]
fn the_stack_refuses_a_webhook_without_a_secret() -> Result<()> {
    scenario(|cloud| async move {
        // As `sam package` writes it.
        let template =
            include_str!("../../../../template.yaml").replace("CodeUri: ../", "CodeUri: s3://bucket/function.zip");
        let template = template.as_str();
        let create = |stack: &'static str, url: &'static str, secret: &'static str| async move {
            let parameters = [
                ("Parameters.member.1.ParameterKey", "WebhookUrl"),
                ("Parameters.member.1.ParameterValue", url),
                ("Parameters.member.2.ParameterKey", "WebhookSecretName"),
                ("Parameters.member.2.ParameterValue", secret),
            ];
            let mut input = vec![("StackName", stack), ("ChangeSetName", "smoke"), ("ChangeSetType", "CREATE")];
            input.extend([("TemplateBody", template), ("Capabilities.member.1", "CAPABILITY_AUTO_EXPAND")]);
            input.extend([("Capabilities.member.2", "CAPABILITY_NAMED_IAM")]);
            input.extend(parameters);
            let refused = cloud.aws.query("cloudformation", "2010-05-15", "CreateChangeSet", &input).await;
            Ok::<_, anyhow::Error>(refused.err().map(|error| error.to_string()).unwrap_or_default())
        };
        for (stack, url, secret) in
            [("smoke-url", "https://example.com/hook", ""), ("smoke-secret", "", "/tidegate/webhook")]
        {
            let refusal = create(stack, url, secret).await?;
            assert!(refusal.contains("Give both or none"), "{stack}: {refusal}");
        }
        let refusal = create("smoke-http", "http://example.com/hook", "/tidegate/webhook").await?;
        assert!(refusal.contains("must be empty or an https URL"), "{refusal}");
        Ok(())
    })
}

/// What is switched on in this cloud reaches the function by these names.
#[test]
fn notify_is_told_whom_to_tell() -> Result<()> {
    scenario(|cloud| async move {
        let path = format!("/2015-03-31/functions/{}/configuration", cloud.stack.output("NotifyFunctionName")?);
        let notify = cloud.aws.send("lambda", Method::GET, &path, &[], "").await?;
        let notify: Value = serde_json::from_slice(&notify.body)?;
        assert_eq!(notify["Timeout"], 120);
        let variables = &notify["Environment"]["Variables"];
        let api = cloud.slack.api_url();
        for (name, value) in [
            ("TIDEGATE_SLACK_SECRET", SLACK_SECRET),
            ("TIDEGATE_SLACK_API", &*api),
            ("TIDEGATE_CHAT_TOPIC_ARN", cloud.stack.output("ChatTopicArn")?),
            ("TIDEGATE_NEWRELIC_SECRET", NEWRELIC_SECRET),
            ("TIDEGATE_NEWRELIC_API", cloud.newrelic.url()),
            ("TIDEGATE_EVENT_BUS", "default"),
            ("TIDEGATE_WEBHOOK_URL", cloud.webhook.url()),
            ("TIDEGATE_WEBHOOK_SECRET", SIGNING_SECRET),
        ] {
            assert_eq!(variables[name], value, "{name}");
        }
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
            .wait_for("the event to be kept", || async {
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

#[test]
fn a_function_can_be_invoked_without_a_signature() -> Result<()> {
    scenario(|cloud| async move {
        let function = cloud.stack.output("DeployFunctionName")?;
        let url = format!("{}/2015-03-31/functions/{function}/invocations", cloud.aws.endpoint());
        let event = include_str!("../../../../../events/ecr-image-action-delete.json");
        let response = cloud.aws.http.send(Method::POST, &url, &[], event).await?;
        let answer: Value = serde_json::from_slice(&response.body)?;
        assert_eq!(answer["decisions"][0]["action"], "skip", "as `cargo lambda invoke` does: {answer}");
        Ok(())
    })
}
