//! What the harder calls need.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::world::World;

/// Action, resource and condition keys of what a call needs.
async fn needs(operation: &str, body: Value) -> Vec<(String, String, String)> {
    let world = World::new();
    let mut state = world.state();
    let group = crate::world::autoscaling::Group { desired: 1, ..Default::default() };
    state.groups.by_name.entry("hosts".into()).or_insert(group).launch();
    let call = Call { by: "deploy", operation: operation.into(), body, at: Duration::ZERO };
    let shown = |context: Vec<(&str, String)>| {
        context.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    uses(&call, &state).into_iter().map(|it| (it.action, it.resource, shown(it.context))).collect()
}

fn expected(needs: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let arn = |resource: &str| match resource.split_once(' ') {
        Some((service, resource)) => arn(service, resource),
        None => resource.to_owned(),
    };
    let of = |it: &(&str, &str, &str)| (it.0.to_owned(), arn(it.1), it.2.to_owned());
    needs.iter().map(of).collect()
}

const IN_PRODUCTION: &str = "ecs:cluster=arn:aws:ecs:eu-west-1:123456789012:cluster/production";

#[tokio::test(start_paused = true)]
async fn a_transaction_needs_what_its_items_need() {
    let items = json!([
        {"Put": {"TableName": "history", "Item": {}}}, {"Update": {"TableName": "history", "Key": {}}},
        {"Delete": {"TableName": "history", "Key": {}}}, {"ConditionCheck": {"TableName": "other", "Key": {}}},
    ]);
    assert_eq!(
        needs("TransactWriteItems", json!({"TransactItems": items})).await,
        expected(&[
            ("dynamodb:PutItem", "dynamodb table/history", ""),
            ("dynamodb:UpdateItem", "dynamodb table/history", ""),
            ("dynamodb:DeleteItem", "dynamodb table/history", ""),
            ("dynamodb:ConditionCheckItem", "dynamodb table/other", ""),
        ])
    );
    let many = json!({"RequestItems": {"history": {}, "other": {}}});
    let tables = [
        ("dynamodb:BatchGetItem", "dynamodb table/history", ""),
        ("dynamodb:BatchGetItem", "dynamodb table/other", ""),
    ];
    assert_eq!(needs("BatchGetItem", many).await, expected(&tables));
    let index = json!({"TableName": "history", "IndexName": "open"});
    assert_eq!(needs("Query", index).await, expected(&[("dynamodb:Query", "dynamodb table/history/index/open", "")]));
}

#[tokio::test(start_paused = true)]
async fn a_revision_hands_on_its_roles_and_is_tagged_as_it_is_made() {
    let role = "arn:aws:iam::123456789012:role/tides/pull";
    let body = json!({"family": "web", "executionRoleArn": role, "taskRoleArn": "", "tags": [{"key": "team", "value": "tides"}]});
    let to_tasks = "iam:PassedToService=ecs-tasks.amazonaws.com";
    assert_eq!(
        needs("RegisterTaskDefinition", body).await,
        expected(&[
            ("iam:PassRole", role, to_tasks),
            ("ecs:TagResource", "ecs task-definition/web:*", "ecs:CreateAction=RegisterTaskDefinition"),
            ("ecs:RegisterTaskDefinition", "ecs task-definition/web:*", ""),
        ])
    );
    let plain = needs("RegisterTaskDefinition", json!({"family": "web", "taskRoleArn": "task", "tags": []})).await;
    let short = [
        ("iam:PassRole", "arn:aws:iam::123456789012:role/task", to_tasks),
        ("ecs:RegisterTaskDefinition", "ecs task-definition/web:*", ""),
    ];
    assert_eq!(plain, expected(&short), "ECS takes a role's name too");
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_service_is_checked_together_with_it() {
    let of = |kind: &str| format!("arn:aws:ecs:eu-west-1:123456789012:{kind}/production/web/x1");
    let both = |action: &'static str, kind: &'static str| {
        expected(&[(action, "ecs service/production/web", IN_PRODUCTION), (action, kind, IN_PRODUCTION)])
    };
    let stop = needs("StopServiceDeployment", json!({"serviceDeploymentArn": of("service-deployment")})).await;
    assert_eq!(stop, both("ecs:StopServiceDeployment", "ecs service-deployment/production/web/x1"));
    let describe = needs("DescribeServiceRevisions", json!({"serviceRevisionArns": [of("service-revision")]})).await;
    assert_eq!(describe, both("ecs:DescribeServiceRevisions", "ecs service-revision/production/web/x1"));
}

#[tokio::test(start_paused = true)]
async fn tasks_are_listed_of_an_instance_or_of_all_there_is() {
    let all = needs("ListTasks", json!({"cluster": "production", "serviceName": "web"})).await;
    assert_eq!(all, expected(&[("ecs:ListTasks", "*", IN_PRODUCTION)]));
    let one = needs("ListTasks", json!({"cluster": "production", "containerInstance": "i1"})).await;
    assert_eq!(one, expected(&[("ecs:ListTasks", "ecs container-instance/production/i1", IN_PRODUCTION)]));
    let tasks = needs(
        "DescribeTasks",
        json!({"cluster": ecs("cluster", "production"), "tasks": ["t1", ecs("task", "production/t2")]}),
    );
    let each = [
        ("ecs:DescribeTasks", "ecs task/production/t1", IN_PRODUCTION),
        ("ecs:DescribeTasks", "ecs task/production/t2", IN_PRODUCTION),
    ];
    assert_eq!(tasks.await, expected(&each));
}

#[tokio::test(start_paused = true)]
async fn what_is_named_by_something_else_is_found() {
    let terminate = needs("TerminateInstanceInAutoScalingGroup", json!({"InstanceId": "i-0001"})).await;
    assert_eq!(terminate, [("autoscaling:TerminateInstanceInAutoScalingGroup".into(), group("hosts"), String::new())]);
    let url = json!({"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/ticks"});
    assert_eq!(needs("SendMessageBatch", url).await, expected(&[("sqs:SendMessage", "sqs ticks", "")]));
    let named = json!({"SecretId": "tides/db"});
    let secret = [("secretsmanager:DescribeSecret", "secretsmanager secret:tides/db-a1b2c3", "")];
    assert_eq!(needs("DescribeSecret", named).await, expected(&secret));
    let parameter = json!({"Name": "/tidegate/slack", "WithDecryption": true});
    assert_eq!(
        needs("GetParameter", parameter).await,
        expected(&[("ssm:GetParameter", "ssm parameter/tidegate/slack", "")])
    );
    let entries = json!({"Entries": [{"Source": "tidegate", "EventBusName": "tides"}, {"Source": "tidegate"}]});
    let source = "events:source=tidegate";
    let buses = [
        ("events:PutEvents", "events event-bus/tides", source),
        ("events:PutEvents", "events event-bus/default", source),
    ];
    assert_eq!(needs("PutEvents", entries).await, expected(&buses));
}
