//! What the launcher adds to the emulator, one test for each behaviour: a new version of the emulator that breaks one
//! fails here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use axum::http::Method;
use local::aws::{ACCOUNT, ApiError, REGION, elements, service_arn};
use local::cloud::Cloud;
use local::registry::{self, Behaviour, Image};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::scenario;

fn code<T>(result: Result<T>) -> Result<String> {
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
            .wait_for("its events", || async {
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
            .wait_for("four events", || async {
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

/// What an index has to tell of itself is in its manifest: its media types say only that it is one.
#[test]
fn images_are_described_as_by_aws() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/described").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/described", "develop", &image).await?;
        let describe = |id: Value| async move {
            let input = json!({ "repositoryName": "smoke/described", "imageIds": [id] });
            Ok::<_, anyhow::Error>(cloud.aws.ecr("DescribeImages", &input).await?["imageDetails"][0].clone())
        };
        let index = describe(json!({ "imageTag": "develop" })).await?;
        assert_eq!(index["imageDigest"], digest);
        assert_eq!(index["imageTags"], json!(["develop"]));
        assert_eq!(index["imageStatus"], "ACTIVE");
        assert_eq!(index["imageManifestMediaType"], "application/vnd.oci.image.index.v1+json");
        assert_eq!(index.get("artifactMediaType"), None, "an index has no configuration");

        let manifest = manifest(cloud, "smoke/described", &digest).await?;
        let child = describe(json!({ "imageDigest": manifest["manifests"][0]["digest"] })).await?;
        assert_eq!(child["imageManifestMediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(child["artifactMediaType"], "application/vnd.oci.image.config.v1+json");
        assert_eq!(child.get("imageTags"), None);
        Ok(())
    })
}

#[test]
fn the_manifest_of_an_index_tells_its_platforms() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/manifest").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/manifest", "develop", &image).await?;
        let manifest = manifest(cloud, "smoke/manifest", &digest).await?;
        let platforms = manifest["manifests"].as_array().context("no manifests")?.iter();
        let platforms: Vec<_> = platforms.map(|child| child["platform"]["architecture"].as_str()).collect();
        assert_eq!(platforms, [Some("amd64"), Some("arm64"), Some("unknown")]);
        let gone = json!([{ "imageDigest": format!("sha256:{:064x}", 1) }]);
        let input = json!({ "repositoryName": "smoke/manifest", "imageIds": gone });
        let answer = cloud.aws.ecr("BatchGetImage", &input).await?;
        assert_eq!(answer["images"], json!([]));
        assert_eq!(answer["failures"][0]["failureCode"], "ImageNotFound", "not an error: {answer}");
        Ok(())
    })
}

/// The manifest of an index, by its digest.
async fn manifest(cloud: &Cloud, repository: &str, digest: &str) -> Result<Value> {
    let index = "application/vnd.oci.image.index.v1+json";
    let input = json!({
        "repositoryName": repository, "imageIds": [{ "imageDigest": digest }], "acceptedMediaTypes": [index],
    });
    let answer = cloud.aws.ecr("BatchGetImage", &input).await?;
    let image = &answer["images"][0];
    assert_eq!(image["imageId"]["imageDigest"], digest);
    assert_eq!(image["imageManifestMediaType"], index);
    Ok(serde_json::from_str(image["imageManifest"].as_str().context("no manifest")?)?)
}

#[test]
fn images_come_page_by_page_and_by_whether_they_have_a_tag() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/pages").await?;
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let image = Image::build("https://example.com/smoke", version, "8f4e2d1", Behaviour::Healthy)?;
            cloud.push("smoke/pages", version, &image).await?;
        }
        let mut input =
            json!({ "repositoryName": "smoke/pages", "filter": { "tagStatus": "TAGGED" }, "maxResults": 2 });
        let first = cloud.aws.ecr("DescribeImages", &input).await?;
        assert_eq!(tags_of(&first), ["1.0.0", "1.1.0"]);
        input["nextToken"] = first["nextToken"].clone();
        let last = cloud.aws.ecr("DescribeImages", &input).await?;
        assert_eq!(tags_of(&last), ["1.2.0"]);
        assert_eq!(last.get("nextToken"), None);
        let untagged = json!({ "repositoryName": "smoke/pages", "filter": { "tagStatus": "UNTAGGED" } });
        let untagged = cloud.aws.ecr("DescribeImages", &untagged).await?;
        assert_eq!(untagged["imageDetails"].as_array().map(Vec::len), Some(9), "the children of three indexes");
        input["imageIds"] = json!([{ "imageTag": "1.0.0" }]);
        assert_eq!(code(cloud.aws.ecr("DescribeImages", &input).await)?, "InvalidParameterException");
        Ok(())
    })
}

fn tags_of(answer: &Value) -> Vec<&str> {
    let details = answer["imageDetails"].as_array().into_iter().flatten();
    details.filter_map(|detail| detail["imageTags"][0].as_str()).collect()
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

#[test]
fn alarms_are_described_by_name_with_their_state() -> Result<()> {
    scenario(|cloud| async move {
        let alarm = json!({
            "AlarmName": "smoke-5xx", "Namespace": "AWS/ApplicationELB", "MetricName": "HTTPCode_Target_5XX_Count",
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "ignore",
        });
        cloud.aws.cloudwatch("PutMetricAlarm", &alarm).await?;
        let composite = json!({ "AlarmName": "smoke-any", "AlarmRule": "ALARM(smoke-5xx)" });
        cloud.aws.cloudwatch("PutCompositeAlarm", &composite).await?;
        let state = json!({ "AlarmName": "smoke-5xx", "StateValue": "ALARM", "StateReason": "on purpose" });
        cloud.aws.cloudwatch("SetAlarmState", &state).await?;
        let input = json!({
            "AlarmNames": ["smoke-5xx", "smoke-any", "smoke-gone"], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"],
        });
        let answer = cloud.aws.cloudwatch("DescribeAlarms", &input).await?;
        assert_eq!(answer["MetricAlarms"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["MetricAlarms"][0]["AlarmName"], "smoke-5xx");
        assert_eq!(answer["MetricAlarms"][0]["StateValue"], "ALARM");
        assert_eq!(answer["CompositeAlarms"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["CompositeAlarms"][0]["AlarmName"], "smoke-any");
        Ok(())
    })
}

#[test]
fn what_a_task_definition_names_is_there_or_not() -> Result<()> {
    scenario(|cloud| async move {
        let role = cloud.create_task_role("smoke-role").await?;
        let found = cloud.aws.iam("GetRole", &[("RoleName", "smoke-role")]).await?;
        assert_eq!(elements(&found, "Arn").next(), Some(role.as_str()));
        assert_eq!(code(cloud.aws.iam("GetRole", &[("RoleName", "smoke-gone")]).await)?, "NoSuchEntity");

        let secret = json!({ "Name": "smoke/secret", "SecretString": "hush" });
        let arn = cloud.aws.secrets("CreateSecret", &secret).await?["ARN"].clone();
        for id in [json!("smoke/secret"), arn.clone()] {
            let described = cloud.aws.secrets("DescribeSecret", &json!({ "SecretId": id })).await?;
            assert_eq!(described["ARN"], arn);
            assert!(!described.to_string().contains("hush"), "{described}");
        }
        let gone = cloud.aws.secrets("DescribeSecret", &json!({ "SecretId": "smoke/gone" })).await;
        assert_eq!(code(gone)?, "ResourceNotFoundException");

        let parameter = json!({ "Name": "/smoke/parameter", "Type": "SecureString", "Value": "hush" });
        cloud.aws.ssm("PutParameter", &parameter).await?;
        let filter = json!({ "Key": "Name", "Option": "Equals", "Values": ["/smoke/parameter", "/smoke/gone"] });
        let found = cloud.aws.ssm("DescribeParameters", &json!({ "ParameterFilters": [filter] })).await?;
        assert_eq!(found["Parameters"].as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!(found["Parameters"][0]["Name"], "/smoke/parameter");
        assert_eq!(found["Parameters"][0].get("Value"), None);
        Ok(())
    })
}

#[test]
fn items_of_the_table_are_read_one_by_one_and_together() -> Result<()> {
    scenario(|cloud| async move {
        let table = cloud.stack.output("TableName")?;
        let key = |sk: &str| json!({ "pk": { "S": "SMOKE" }, "sk": { "S": sk } });
        for sk in ["1", "2"] {
            cloud.aws.dynamodb("PutItem", &json!({ "TableName": table, "Item": key(sk) })).await?;
        }
        let get = |sk: &str| json!({ "TableName": table, "Key": key(sk), "ConsistentRead": true });
        assert_eq!(cloud.aws.dynamodb("GetItem", &get("1")).await?["Item"], key("1"));
        assert_eq!(cloud.aws.dynamodb("GetItem", &get("3")).await?.get("Item"), None);
        let keys = json!({ "Keys": [key("1"), key("2"), key("3")], "ConsistentRead": true });
        let answer = cloud.aws.dynamodb("BatchGetItem", &json!({ "RequestItems": { table: keys } })).await?;
        let items = answer["Responses"][table].as_array().context("no items")?;
        assert_eq!(items.len(), 2, "{answer}");
        assert!(items.contains(&key("1")) && items.contains(&key("2")), "{answer}");
        assert_eq!(answer["UnprocessedKeys"], json!({}));
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

/// The template's statements and the emulator's checks speak of the same resources: a user with the policy of
/// `tidegate-deploy` may look at all that a decision needs, and sees no secret.
#[test]
fn the_policy_of_deploy_is_enough_to_look_and_too_little_to_see_secrets() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/looks").await?;
        let table = cloud.stack.output("TableName")?;
        let images = json!({ "repositoryName": "smoke/looks", "imageIds": [{ "imageTag": "gone" }] });
        let names = json!({ "ParameterFilters": [{ "Key": "Name", "Values": ["/smoke/looks"] }] });
        let role = json!({ "RoleName": "smoke-looks" });
        let secret = json!({ "SecretId": "smoke/looks" });
        let key = json!({ "pk": { "S": "SMOKE" }, "sk": { "S": "gone" } });
        let item = json!({ "TableName": table, "Key": key });
        let calls = [
            ("ecr", "describe_images", json!({ "repositoryName": "smoke/looks" }), ""),
            ("ecr", "batch_get_image", images.clone(), ""),
            ("ecr", "batch_delete_image", images, "AccessDeniedException"),
            ("cloudwatch", "describe_alarms", json!({ "AlarmNames": ["smoke-looks"] }), ""),
            ("cloudwatch", "delete_alarms", json!({ "AlarmNames": ["smoke-looks"] }), "AccessDeniedException"),
            ("iam", "get_role", role.clone(), "NoSuchEntity"),
            ("iam", "delete_role", role, "AccessDenied"),
            ("secretsmanager", "describe_secret", secret.clone(), "ResourceNotFoundException"),
            ("secretsmanager", "get_secret_value", secret, "AccessDeniedException"),
            ("ssm", "describe_parameters", names, ""),
            ("ssm", "get_parameter", json!({ "Name": "/smoke/looks" }), "AccessDeniedException"),
            ("dynamodb", "get_item", item.clone(), ""),
            ("dynamodb", "batch_get_item", json!({ "RequestItems": { table: { "Keys": [key] } } }), ""),
            ("dynamodb", "delete_item", item, "AccessDeniedException"),
            ("resourcegroupstaggingapi", "get_resources", json!({ "ResourceTypeFilters": ["ecs:service"] }), ""),
        ];
        let expected: Vec<_> = calls.iter().map(|(_, name, _, code)| format!("{name} {code}")).collect();
        let answers = answers_to_deploy(cloud, &json!(calls)).await?;
        assert_eq!(answers, expected);
        Ok(())
    })
}

/// Calls operations and prints each with the error it answers. The emulator checks the signatures of everyone but the
/// account's root, so this is left to the SDK that came with it.
const CALLS: &str = r#"
import boto3, botocore.exceptions, json, sys

for service, operation, parameters, _ in json.loads(sys.argv[1]):
    code = ""
    try:
        getattr(boto3.client(service), operation)(**parameters)
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
    print(operation, code)
"#;

/// The answers to a user who may do what `tidegate-deploy` may.
async fn answers_to_deploy(cloud: &Cloud, calls: &Value) -> Result<Vec<String>> {
    let (user, policy) = (("UserName", "smoke-deploy"), ("PolicyName", "deploy"));
    let role = ("RoleName", cloud.stack.resource("DeployRole")?);
    let answer = cloud.aws.iam("GetRolePolicy", &[role, policy]).await?;
    let encoded = format!("document={}", elements(&answer, "PolicyDocument").next().context("no policy")?);
    let (_, document) = form_urlencoded::parse(encoded.as_bytes()).next().context("an empty policy")?;
    cloud.aws.iam("CreateUser", &[user]).await?;
    cloud.aws.iam("PutUserPolicy", &[user, policy, ("PolicyDocument", &*document)]).await?;
    let key = cloud.aws.iam("CreateAccessKey", &[user]).await?;
    let part = |name| elements(&key, name).next().context("no access key");
    let output = Command::new(cloud.tools.bin().join("python"))
        .args(["-c", CALLS, &calls.to_string()])
        .env_clear()
        .env("AWS_ENDPOINT_URL", cloud.aws.endpoint())
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", part("AccessKeyId")?)
        .env("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey")?)
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
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
