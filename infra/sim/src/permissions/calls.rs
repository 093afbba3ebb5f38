//! From a call to the permissions that AWS asks for.

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::Use;
use crate::world::{ACCOUNT, Call, REGION, State};

/// What the role of the function that made `call` needs for it. What goes to who is not AWS, or to a URL that AWS has
/// signed, needs nothing.
pub(crate) fn uses(call: &Call, state: &State) -> Vec<Use> {
    let needed = needed(call, state).into_iter();
    let function = call.by;
    needed.map(|Need(action, resource, context)| Use { function: function.into(), action, resource, context }).collect()
}

/// Action, resource, and condition keys.
struct Need(String, String, Vec<(&'static str, String)>);

fn need(action: &str, resource: impl Into<String>) -> Need {
    Need(action.to_owned(), resource.into(), Vec::new())
}

fn needed(call: &Call, state: &State) -> Vec<Need> {
    let Call { operation, body, .. } = call;
    let one = |service: &str, resource: String| vec![need(&format!("{service}:{operation}"), resource)];
    let all = |service: &str| one(service, "*".to_owned());
    match operation.as_str() {
        "GetResources" => all("tag"),
        "DescribeTaskDefinition" => all("ecs"),
        "DescribeCapacityProviders" if body["capacityProviders"].is_null() => all("ecs"),
        "RegisterTaskDefinition" => register(body),
        "DescribeServices"
        | "UpdateService"
        | "ListServiceDeployments"
        | "DescribeServiceDeployments"
        | "StopServiceDeployment"
        | "DescribeServiceRevisions"
        | "ListTasks"
        | "ListServices"
        | "DescribeTasks"
        | "GetTaskProtection"
        | "ListContainerInstances"
        | "DescribeContainerInstances"
        | "UpdateContainerInstancesState" => {
            if operation == "UpdateService" {
                hands_on_nothing(body);
            }
            let context = vec![("ecs:cluster", cluster_of(body))];
            let resources = in_cluster(operation, body).into_iter();
            resources.map(|resource| Need(format!("ecs:{operation}"), resource, context.clone())).collect()
        }
        "DescribeAutoScalingGroups" | "DescribeInstanceRefreshes" => all("autoscaling"),
        "SetDesiredCapacity" | "CompleteLifecycleAction" | "RecordLifecycleActionHeartbeat" => {
            one("autoscaling", group(text(&body["AutoScalingGroupName"])))
        }
        // The call names the instance, and AWS checks its group.
        "TerminateInstanceInAutoScalingGroup" => {
            let mut groups = state.groups.by_name.iter();
            let found = groups.find(|(_, group)| group.instances.contains_key(text(&body["InstanceId"])));
            found.map_or_else(Vec::new, |(name, _)| one("autoscaling", group(name)))
        }
        "DescribeScalableTargets" => all("application-autoscaling"),
        "GetMetricData" => all("cloudwatch"),
        // Composite alarms are told only to those who may describe all.
        // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
        "DescribeAlarms" => all("cloudwatch"),
        "GetQueueUrl" => one("sqs", arn("sqs", text(&body["QueueName"]))),
        "GetQueueAttributes" | "SendMessage" => one("sqs", queue(body)),
        "SendMessageBatch" => vec![need("sqs:SendMessage", queue(body))],
        "DescribeImages" | "BatchGetImage" | "GetDownloadUrlForLayer" => {
            one("ecr", arn("ecr", &format!("repository/{}", text(&body["repositoryName"]))))
        }
        "GetLogEvents" => {
            let group = body["logGroupName"].as_str().map(|name| arn("logs", &format!("log-group:{name}")));
            let group = group.unwrap_or_else(|| text(&body["logGroupIdentifier"]).to_owned());
            one("logs", format!("{group}:log-stream:{}", text(&body["logStreamName"])))
        }
        "GetItem" | "PutItem" | "UpdateItem" => one("dynamodb", table(&body["TableName"])),
        "Query" => match body["IndexName"].as_str() {
            Some(index) => one("dynamodb", format!("{}/index/{index}", table(&body["TableName"]))),
            None => one("dynamodb", table(&body["TableName"])),
        },
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().into_iter().flat_map(|tables| tables.keys());
            tables.map(|name| need("dynamodb:BatchGetItem", arn("dynamodb", &format!("table/{name}")))).collect()
        }
        // A transaction is no action, but each item of it is.
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
        "TransactWriteItems" => {
            let items = body["TransactItems"].as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
            let action = |kind: &str| match kind {
                "ConditionCheck" => "dynamodb:ConditionCheckItem".to_owned(),
                _ => format!("dynamodb:{kind}Item"),
            };
            items.map(|(kind, item)| need(&action(kind), table(&item["TableName"]))).collect()
        }
        // The role may have a path, which the call does not name.
        "GetRole" => one("iam", role(text(&body["RoleName"]))),
        "DescribeSecret" => one("secretsmanager", secret(text(&body["SecretId"]))),
        "DescribeParameters" => all("ssm"),
        // What is under the AWS managed key aws/ssm is decrypted for whoever may read it: the key's own policy lets the
        // whole account do so through SSM. So the role needs no kms:Decrypt.
        // https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html
        "GetParameter" => one("ssm", arn("ssm", &format!("parameter/{}", text(&body["Name"]).trim_start_matches('/')))),
        "Publish" => one("sns", text(&body["TopicArn"]).to_owned()),
        "PutEvents" => body["Entries"].as_array().into_iter().flatten().map(put_event).collect(),
        "blob" | "chat.postMessage" | "chat.update" | "webhook" | "newrelic" | "hook" => Vec::new(),
        other => panic!("nobody has said which permissions {other} needs: {body}"),
    }
}

/// The resources of ECS that a call in a cluster is checked for.
fn in_cluster(operation: &str, body: &Value) -> Vec<String> {
    let cluster = cluster_of(body);
    let cluster_name = last_part(&cluster);
    let named = |kind: &str, id: &str| {
        if id.starts_with("arn:") { id.into() } else { ecs(kind, &format!("{cluster_name}/{id}")) }
    };
    let each = |kind: &str, ids: &Value| -> Vec<String> {
        ids.as_array().into_iter().flatten().map(|id| named(kind, text(id))).collect()
    };
    // Both what is named and its service are checked.
    let with_service = |ids: &[&Value]| -> Vec<String> {
        let arns = ids.iter().flat_map(|id| [of_service(text(id)), text(id).to_owned()]);
        arns.collect()
    };
    let all = |ids: &Value| -> Vec<String> { with_service(&ids.as_array().into_iter().flatten().collect::<Vec<_>>()) };
    match operation {
        "DescribeServices" => each("service", &body["services"]),
        "UpdateService" | "ListServiceDeployments" => vec![named("service", text(&body["service"]))],
        "DescribeServiceDeployments" => all(&body["serviceDeploymentArns"]),
        "StopServiceDeployment" => with_service(&[&body["serviceDeploymentArn"]]),
        "DescribeServiceRevisions" => all(&body["serviceRevisionArns"]),
        "DescribeTasks" | "GetTaskProtection" => each("task", &body["tasks"]),
        "ListContainerInstances" => vec![cluster],
        "DescribeContainerInstances" | "UpdateContainerInstancesState" => {
            each("container-instance", &body["containerInstances"])
        }
        // Tasks are listed of a container instance, or of all there is; services of all.
        _ => match body["containerInstance"].as_str() {
            Some(id) => vec![named("container-instance", id)],
            None => vec!["*".to_owned()],
        },
    }
}

/// A revision hands its roles on to its tasks, and may be tagged as it is made.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html>
fn register(body: &Value) -> Vec<Need> {
    let family = ecs("task-definition", &format!("{}:*", text(&body["family"])));
    let roles = ["executionRoleArn", "taskRoleArn"].into_iter().filter_map(|field| body[field].as_str());
    let roles = roles.filter(|arn| !arn.is_empty());
    let pass = |arn: &str| {
        let arn = if arn.starts_with("arn:") { arn.to_owned() } else { role(arn) };
        Need("iam:PassRole".into(), arn, vec![("iam:PassedToService", "ecs-tasks.amazonaws.com".into())])
    };
    let mut needed: Vec<Need> = roles.map(pass).collect();
    if body["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
        let made_by = vec![("ecs:CreateAction", "RegisterTaskDefinition".into())];
        needed.push(Need("ecs:TagResource".into(), family.clone(), made_by));
    }
    needed.push(need("ecs:RegisterTaskDefinition", family));
    needed
}

/// A service hands on roles only where it names some, for volumes or VPC Lattice, which none of our updates do.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>
fn hands_on_nothing(update: &Value) {
    let known = ["volumeConfigurations", "loadBalancers", "vpcLatticeConfigurations"];
    let named = known.iter().find(|field| update.get(**field).is_some());
    assert_eq!(named, None, "an update that may hand on roles: {update}");
}

fn put_event(entry: &Value) -> Need {
    let bus = entry["EventBusName"].as_str().unwrap_or("default");
    let bus = if bus.starts_with("arn:") { bus.to_owned() } else { arn("events", &format!("event-bus/{bus}")) };
    Need("events:PutEvents".into(), bus, vec![("events:source", text(&entry["Source"]).to_owned())])
}

/// The ARN of the cluster that a call is about; that of what it names, where it names no cluster.
fn cluster_of(body: &Value) -> String {
    let named = ["serviceDeploymentArn", "serviceDeploymentArns", "serviceRevisionArns", "service"];
    match body["cluster"].as_str() {
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        Some(name) => ecs("cluster", name),
        None => {
            let ids = named.iter().map(|field| &body[*field]);
            let mut ids = ids.map(|id| id.as_str().or_else(|| id[0].as_str()));
            let id = ids.find_map(|id| id.filter(|id| id.starts_with("arn:")));
            ecs("cluster", id.and_then(|arn| arn.split('/').nth(1)).unwrap_or("default"))
        }
    }
}

/// The service of a service deployment or a service revision.
fn of_service(arn: &str) -> String {
    let mut parts = arn.split('/').skip(1);
    ecs("service", &format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
}

fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

fn ecs(kind: &str, id: &str) -> String {
    arn("ecs", &format!("{kind}/{id}"))
}

fn group(name: &str) -> String {
    arn("autoscaling", &format!("autoScalingGroup:5ccf6a3b-0000-4000-8000-000000000000:autoScalingGroupName/{name}"))
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn secret(id: &str) -> String {
    if id.starts_with("arn:") { id.to_owned() } else { arn("secretsmanager", &format!("secret:{id}-a1b2c3")) }
}

fn table(name: &Value) -> String {
    arn("dynamodb", &format!("table/{}", text(name)))
}

fn queue(body: &Value) -> String {
    arn("sqs", last_part(text(&body["QueueUrl"])))
}

fn last_part(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
