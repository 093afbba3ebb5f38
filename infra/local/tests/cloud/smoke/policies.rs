//! The roles of the functions: enough, and no more.

use anyhow::{Context as _, Result};
use local::aws::{REGION, elements};
use local::cloud::scaling::Group;
use local::cloud::{Cloud, NEWRELIC_SECRET, SIGNING_SECRET, SLACK_SECRET};
use local::registry::Behaviour;
use serde_json::{Value, json};
use tokio::process::Command;

use super::rollouts::Ship;
use crate::scenario;

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
        let answers = answers_to(cloud, "DeployRole", "deploy", &json!(calls)).await?;
        assert_eq!(answers, expected);
        Ok(())
    })
}

/// The same of `tidegate-notify`: it may look at what a diagnosis needs, tell everyone, and change nothing in ECS.
#[test]
fn the_policy_of_notify_is_enough_to_find_out_and_tell_and_no_more() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-finds-out", Behaviour::Healthy).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "COMPLETED").await?;
        let rollout = ship.service_deployments(&json!({})).await?[0]["serviceDeploymentArn"].clone();
        let tasks = cloud.aws.ecs("ListTasks", &json!({ "cluster": "smoke", "startedBy": deployment })).await?;
        let table = cloud.stack.output("TableName")?;
        let item = json!({ "TableName": table, "Key": { "pk": { "S": "SMOKE" }, "sk": { "S": "gone" } } });
        let in_index = |index: &str, attribute: &str| {
            json!({
                "TableName": table, "IndexName": index, "KeyConditionExpression": "#a = :a",
                "ExpressionAttributeNames": { "#a": attribute }, "ExpressionAttributeValues": { ":a": { "S": "none" } },
            })
        };
        let put = json!({ "TableName": table, "Item": { "pk": { "S": "SMOKE" }, "sk": { "S": "notify" } } });
        let service = json!({ "cluster": "smoke", "service": "smoke-finds-out" });
        let image = json!({ "repositoryName": "smoke-finds-out", "imageIds": [{ "imageTag": "1.0.0" }] });
        let layer = json!({ "repositoryName": "smoke-finds-out", "layerDigest": format!("sha256:{:064x}", 1) });
        let stream = |group: &str| json!({ "logGroupName": group, "logStreamName": "gone" });
        let publish = |topic: &str| json!({ "TopicArn": topic, "Message": "{}" });
        let event = |source: &str, bus: &str| json!({ "Entries": [{ "Source": source, "DetailType": "smoke", "Detail": "{}", "EventBusName": bus }] });
        let parameter = |name: &str| json!({ "Name": name, "WithDecryption": true });
        let other_topic = cloud.aws.query("sns", "2010-03-31", "CreateTopic", &[("Name", "smoke-other")]).await?;
        let other_topic = elements(&other_topic, "TopicArn").next().context("no topic")?;
        let calls = [
            ("ecs", "describe_services", json!({ "cluster": "smoke", "services": ["smoke-finds-out"] }), ""),
            ("ecs", "list_service_deployments", service.clone(), ""),
            ("ecs", "describe_service_deployments", json!({ "serviceDeploymentArns": [rollout] }), ""),
            ("ecs", "list_tasks", json!({ "cluster": "smoke", "startedBy": deployment }), ""),
            ("ecs", "describe_tasks", json!({ "cluster": "smoke", "tasks": tasks["taskArns"] }), ""),
            ("ecs", "describe_task_definition", json!({ "taskDefinition": "smoke-finds-out" }), ""),
            ("ecs", "update_service", service, "AccessDeniedException"),
            ("ecs", "stop_task", json!({ "cluster": "smoke", "task": tasks["taskArns"][0] }), "AccessDeniedException"),
            ("ecr", "batch_get_image", image.clone(), ""),
            ("ecr", "get_download_url_for_layer", layer, "LayersNotFoundException"),
            ("ecr", "batch_delete_image", image, "AccessDeniedException"),
            ("logs", "get_log_events", stream("/ecs/smoke-finds-out"), "ResourceNotFoundException"),
            ("logs", "delete_log_stream", stream("/ecs/smoke-finds-out"), "AccessDeniedException"),
            ("dynamodb", "get_item", item.clone(), ""),
            ("dynamodb", "put_item", put, ""),
            ("dynamodb", "query", in_index("open", "open"), ""),
            ("dynamodb", "query", in_index("days", "day"), ""),
            ("dynamodb", "delete_item", item, "AccessDeniedException"),
            ("dynamodb", "scan", json!({ "TableName": table }), "AccessDeniedException"),
            ("sns", "publish", publish(cloud.stack.output("TopicArn")?), ""),
            ("sns", "publish", publish(cloud.stack.output("ChatTopicArn")?), ""),
            ("sns", "publish", publish(other_topic), "AuthorizationError"),
            ("events", "put_events", event("tidegate", "default"), ""),
            ("events", "put_events", event("somebody.else", "default"), "AccessDeniedException"),
            ("events", "put_events", event("tidegate", "other"), "AccessDeniedException"),
            ("ssm", "get_parameter", parameter(SLACK_SECRET), ""),
            ("ssm", "get_parameter", parameter(NEWRELIC_SECRET), ""),
            ("ssm", "get_parameter", parameter(SIGNING_SECRET), ""),
            ("ssm", "get_parameter", parameter("/tidegate/other"), "AccessDeniedException"),
        ];
        let expected: Vec<_> = calls.iter().map(|(_, name, _, code)| format!("{name} {code}")).collect();
        let answers = answers_to(cloud, "NotifyRole", "notify", &json!(calls)).await?;
        assert_eq!(answers, expected);
        Ok(())
    })
}

/// The same of `tidegate-rollback`: it may bring a release back, and tells nobody.
#[test]
fn the_policy_of_rollback_is_enough_to_go_back_and_no_more() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-goes-back", Behaviour::Healthy).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "COMPLETED").await?;
        let rollout = ship.service_deployments(&json!({})).await?[0].clone();
        let (arn, revision) = (&rollout["serviceDeploymentArn"], &rollout["targetServiceRevisionArn"]);
        let table = cloud.stack.output("TableName")?;
        let item = json!({ "TableName": table, "Key": { "pk": { "S": "SMOKE" }, "sk": { "S": "gone" } } });
        let put = json!({ "TableName": table, "Item": { "pk": { "S": "SMOKE" }, "sk": { "S": "rollback" } } });
        let in_index = |index: &str, attribute: &str| {
            json!({
                "TableName": table, "IndexName": index, "KeyConditionExpression": "#a = :a",
                "ExpressionAttributeNames": { "#a": attribute }, "ExpressionAttributeValues": { ":a": { "S": "none" } },
            })
        };
        let service = json!({ "cluster": "smoke", "service": "smoke-goes-back" });
        let calls = [
            ("resourcegroupstaggingapi", "get_resources", json!({ "ResourceTypeFilters": ["ecs:service"] }), ""),
            ("ecs", "describe_services", json!({ "cluster": "smoke", "services": ["smoke-goes-back"] }), ""),
            ("ecs", "list_service_deployments", service.clone(), ""),
            ("ecs", "describe_service_deployments", json!({ "serviceDeploymentArns": [arn] }), ""),
            ("ecs", "stop_service_deployment", json!({ "serviceDeploymentArn": arn }), "ConflictException"),
            ("ecs", "describe_service_revisions", json!({ "serviceRevisionArns": [revision] }), ""),
            ("ecs", "update_service", service.clone(), ""),
            ("ecs", "delete_service", service, "AccessDeniedException"),
            ("ecs", "list_tasks", json!({ "cluster": "smoke", "serviceName": "smoke-goes-back" }), ""),
            ("ecs", "describe_tasks", json!({ "cluster": "smoke", "tasks": ["gone"] }), ""),
            ("ecs", "stop_task", json!({ "cluster": "smoke", "task": "gone" }), "AccessDeniedException"),
            ("ecs", "describe_task_definition", json!({ "taskDefinition": "smoke-goes-back" }), ""),
            (
                "ecs",
                "deregister_task_definition",
                json!({ "taskDefinition": "smoke-goes-back:1" }),
                "AccessDeniedException",
            ),
            ("ecr", "describe_images", json!({ "repositoryName": "smoke-goes-back" }), ""),
            ("cloudwatch", "describe_alarms", json!({ "AlarmNames": ["smoke-looks"] }), ""),
            (
                "cloudwatch",
                "set_alarm_state",
                json!({ "AlarmName": "smoke-looks", "StateValue": "OK", "StateReason": "no" }),
                "AccessDeniedException",
            ),
            ("dynamodb", "get_item", item.clone(), ""),
            ("dynamodb", "put_item", put, ""),
            ("dynamodb", "query", in_index("watch", "watch"), ""),
            ("dynamodb", "query", in_index("good", "good"), ""),
            ("dynamodb", "query", in_index("days", "day"), "AccessDeniedException"),
            ("dynamodb", "delete_item", item, "AccessDeniedException"),
            ("ssm", "get_parameter", json!({ "Name": SLACK_SECRET }), "AccessDeniedException"),
        ];
        let expected: Vec<_> = calls.iter().map(|(_, name, _, code)| format!("{name} {code}")).collect();
        let answers = answers_to(cloud, "RollbackRole", "rollback", &json!(calls)).await?;
        assert_eq!(answers, expected);
        Ok(())
    })
}

/// The same of `tidegate-scale-service`: it may count messages and tasks, and reads no message.
#[test]
fn the_policy_of_scale_service_is_enough_to_count_and_no_more() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-counts", Behaviour::Healthy).await?;
        ship.wait_for(&ship.deployment().await?, "COMPLETED").await?;
        cloud.create_queue("smoke-counts").await?;
        let queue = json!({ "QueueUrl": local::listeners::queue_url(&cloud.aws, "smoke-counts") });
        let ticks = json!({ "QueueUrl": local::listeners::queue_url(&cloud.aws, "tidegate-scale-service-ticks") });
        let others = json!({ "QueueUrl": local::listeners::queue_url(&cloud.aws, "tidegate-scale-cluster-ticks") });
        let service = json!({ "cluster": "smoke", "service": "smoke-counts", "desiredCount": 1 });
        let target = json!({
            "ServiceNamespace": "ecs", "ResourceId": "service/smoke/smoke-counts",
            "ScalableDimension": "ecs:service:DesiredCount", "MinCapacity": 1, "MaxCapacity": 2,
        });
        let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": { "of": [] } });
        let entries = json!([{ "Id": "1", "MessageBody": tick.to_string() }]);
        let with = |of: &Value, name: &str, value: Value| {
            let mut input = of.clone();
            input[name] = value;
            input
        };
        let calls = [
            ("resourcegroupstaggingapi", "get_resources", json!({ "ResourceTypeFilters": ["ecs:service"] }), ""),
            ("ecs", "describe_services", json!({ "cluster": "smoke", "services": ["smoke-counts"] }), ""),
            ("ecs", "update_service", service.clone(), ""),
            (
                "ecs",
                "delete_service",
                json!({ "cluster": "smoke", "service": "smoke-counts" }),
                "AccessDeniedException",
            ),
            ("ecs", "list_tasks", json!({ "cluster": "smoke" }), "AccessDeniedException"),
            ("sqs", "get_queue_url", json!({ "QueueName": "smoke-counts" }), ""),
            ("sqs", "get_queue_attributes", with(&queue, "AttributeNames", json!(["All"])), ""),
            ("sqs", "receive_message", queue.clone(), "AccessDenied"),
            ("sqs", "send_message", with(&queue, "MessageBody", json!("no")), "AccessDenied"),
            ("sqs", "purge_queue", queue, "AccessDenied"),
            ("sqs", "send_message_batch", with(&ticks, "Entries", entries.clone()), ""),
            ("sqs", "send_message_batch", with(&others, "Entries", entries.clone()), "AccessDenied"),
            ("cloudwatch", "get_metric_data", metric_data(), ""),
            (
                "cloudwatch",
                "put_metric_data",
                json!({ "Namespace": "Smoke", "MetricData": [] }),
                "AccessDeniedException",
            ),
            (
                "application-autoscaling",
                "describe_scalable_targets",
                json!({ "ServiceNamespace": "ecs", "ResourceIds": ["service/smoke/smoke-counts"] }),
                "",
            ),
            ("application-autoscaling", "register_scalable_target", target, "AccessDeniedException"),
        ];
        holds(cloud, "ScaleServiceRole", "scale-service", [&calls[..], &remembers(cloud, "scale-service")?].concat())
            .await
    })
}

/// The same of `tidegate-scale-cluster`: it may drain and end instances, and moves nobody's bounds.
#[test]
fn the_policy_of_scale_cluster_is_enough_to_drain_and_no_more() -> Result<()> {
    scenario(|cloud| async move {
        let name = "smoke-lends";
        cloud.create_cluster(name, &[]).await?;
        let group = Group { name, cluster: name, instance_type: "t3.small", min: 1, max: 2 };
        cloud.create_group(group).await?;
        let instance = cloud.container_instances(name).await?[0].clone();
        let in_cluster = json!({ "cluster": name, "containerInstances": [instance["containerInstanceArn"]] });
        let state = json!({
            "cluster": name, "containerInstances": [instance["containerInstanceArn"]], "status": "DRAINING",
        });
        let of_group = |rest: Value| {
            let mut input = rest;
            input["AutoScalingGroupName"] = json!(name);
            input
        };
        let hook = json!({ "LifecycleHookName": "drain", "InstanceId": instance["ec2InstanceId"] });
        let mut completed = of_group(hook.clone());
        completed["LifecycleActionResult"] = json!("CONTINUE");
        let end = json!({ "InstanceId": instance["ec2InstanceId"], "ShouldDecrementDesiredCapacity": true });
        let calls = [
            ("resourcegroupstaggingapi", "get_resources", json!({ "ResourceTypeFilters": ["ecs:cluster"] }), ""),
            ("ecs", "describe_clusters", json!({ "clusters": [name] }), "AccessDeniedException"),
            ("ecs", "describe_capacity_providers", json!({}), ""),
            ("ecs", "list_container_instances", json!({ "cluster": name }), ""),
            ("ecs", "describe_container_instances", in_cluster, ""),
            ("ecs", "update_container_instances_state", state, ""),
            ("ecs", "list_services", json!({ "cluster": name }), ""),
            ("ecs", "describe_services", json!({ "cluster": name, "services": ["gone"] }), ""),
            ("ecs", "list_tasks", json!({ "cluster": name }), ""),
            ("ecs", "describe_tasks", json!({ "cluster": name, "tasks": ["gone"] }), ""),
            ("ecs", "get_task_protection", json!({ "cluster": name, "tasks": ["gone"] }), ""),
            ("ecs", "describe_task_definition", json!({ "taskDefinition": "gone" }), "ClientException"),
            ("ecs", "update_service", json!({ "cluster": name, "service": "gone" }), "AccessDeniedException"),
            ("ecs", "stop_task", json!({ "cluster": name, "task": "gone" }), "AccessDeniedException"),
            ("autoscaling", "describe_auto_scaling_groups", json!({ "AutoScalingGroupNames": [name] }), ""),
            ("autoscaling", "describe_instance_refreshes", of_group(json!({})), ""),
            ("autoscaling", "set_desired_capacity", of_group(json!({ "DesiredCapacity": 1 })), ""),
            ("autoscaling", "record_lifecycle_action_heartbeat", of_group(hook), "ValidationError"),
            ("autoscaling", "complete_lifecycle_action", completed, "ValidationError"),
            ("autoscaling", "terminate_instance_in_auto_scaling_group", end, "ValidationError"),
            ("autoscaling", "update_auto_scaling_group", of_group(json!({ "MaxSize": 9 })), "AccessDenied"),
            ("autoscaling", "delete_auto_scaling_group", of_group(json!({})), "AccessDenied"),
            ("cloudwatch", "get_metric_data", metric_data(), ""),
        ];
        holds(cloud, "ScaleClusterRole", "scale-cluster", [&calls[..], &remembers(cloud, "scale-cluster")?].concat())
            .await
    })
}

/// A service of boto3, its operation, the input, and the code of the error that is expected.
type Call = (&'static str, &'static str, Value, &'static str);

fn metric_data() -> Value {
    json!({ "MetricDataQueries": [], "StartTime": "2026-11-23T16:00:00Z", "EndTime": "2026-11-23T16:10:00Z" })
}

/// What both functions that scale do beside: remember, and tell people.
fn remembers(cloud: &Cloud, who: &str) -> Result<Vec<Call>> {
    let table = cloud.stack.output("TableName")?;
    let item = json!({ "TableName": table, "Key": { "pk": { "S": "SMOKE" }, "sk": { "S": who } } });
    let put = json!({ "TableName": table, "Item": { "pk": { "S": "SMOKE" }, "sk": { "S": who } } });
    let publish = json!({ "TopicArn": cloud.stack.output("TopicArn")?, "Message": "{}" });
    Ok(vec![
        ("dynamodb", "get_item", item.clone(), ""),
        ("dynamodb", "put_item", put, ""),
        ("dynamodb", "delete_item", item, "AccessDeniedException"),
        ("dynamodb", "scan", json!({ "TableName": table }), "AccessDeniedException"),
        ("sns", "publish", publish, ""),
        ("ssm", "get_parameter", json!({ "Name": SLACK_SECRET, "WithDecryption": true }), ""),
        ("ssm", "get_parameter", json!({ "Name": SIGNING_SECRET }), "AccessDeniedException"),
    ])
}

async fn holds(cloud: &Cloud, role: &str, policy: &str, calls: Vec<Call>) -> Result<()> {
    let expected: Vec<_> = calls.iter().map(|(_, name, _, code)| format!("{name} {code}")).collect();
    assert_eq!(answers_to(cloud, role, policy, &json!(calls)).await?, expected);
    Ok(())
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

/// The answers to a user who may do what a function with this role may.
async fn answers_to(cloud: &Cloud, role: &str, policy: &str, calls: &Value) -> Result<Vec<String>> {
    let name = format!("smoke-{policy}");
    let (user, policy) = (("UserName", name.as_str()), ("PolicyName", policy));
    let role = ("RoleName", cloud.stack.resource(role)?);
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
