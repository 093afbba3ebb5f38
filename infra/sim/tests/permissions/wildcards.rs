//! Why a resource has a wildcard, of each that has one.

use sim::permissions::policies::{Grant, grants};
use sim::permissions::reference;
use sim::permissions::template::Template;

use crate::shown;

/// That AWS has no resource for the action.
const NO_RESOURCES: &str = "AWS has no resources for this action";

/// Of `*`, where the reference knows a resource: by action.
const ALL: &[(&str, &str)] = &[
    ("cloudwatch:DescribeAlarms", "CloudWatch tells of composite alarms only to those who may describe all"),
    ("cloudwatch:GetMetricData", "metrics of AWS services are in no dataset, the only resource there is"),
    ("ecs:DescribeCapacityProviders", "the call names none, because those of all clusters are looked for"),
    ("ecs:ListTasks", "only a container instance can be named, and Fargate has none; the condition narrows it"),
];

/// Of a part of an ARN: by action (or how it begins) and how the resource ends.
const PARTS: &[(&str, &str, &str)] = &[
    (
        "autoscaling:",
        "autoScalingGroup:*:autoScalingGroupName/*",
        "which group a cluster has stands in the cluster's tags",
    ),
    (
        "ecr:",
        "repository/*",
        "which repository a service follows stands in its tags, and what others deploy may come from any",
    ),
    ("ecs:", "cluster/*", "which clusters scale stands in their tags"),
    ("ecs:", "container-instance/*", "the instances of a cluster come and go"),
    ("ecs:", "service/*", "which services stands in their tags, and a condition needs a tag's whole key"),
    ("ecs:", "service-deployment/*", "every deployment has one of its own"),
    ("ecs:", "service-revision/*", "every deployment has one of its own"),
    ("ecs:", "task/*", "tasks come and go"),
    ("ecs:", "task-definition/*", "the family is that of whatever service is deployed"),
    ("iam:", "role/*", "the roles of the services' tasks; `PassRoleArns` narrows it to those that are named"),
    (
        "logs:GetLogEvents",
        "log-group:*:log-stream:*",
        "where a container logs stands in its task definition; `TaskLogs` takes it away",
    ),
    ("logs:", "Logs.Arn", "a group's ARN stands for its streams, which Lambda makes"),
    ("secretsmanager:", "secret:*", "which secrets there are stands in task definitions; their values are not read"),
    ("sqs:", "${AWS::AccountId}:*", "which queue a service works on stands in its tags; its messages are not read"),
];

/// Why the resource of a grant has a wildcard; `None` where it has none, or nobody has said why.
pub(crate) fn why(grant: &Grant) -> Option<&'static str> {
    if grant.resource == "*" {
        let known = ALL.iter().find(|(action, _)| *action == grant.action).map(|(_, why)| *why);
        let has_none = reference::types_of(&grant.action).is_some_and(|types| types.is_empty());
        return known.or_else(|| has_none.then_some(NO_RESOURCES));
    }
    if !grant.resource.contains(['*', '?']) {
        return None;
    }
    PARTS.iter().find(|part| is_about(part, grant)).map(|(.., why)| *why)
}

fn is_about((action, end, _): &(&str, &str, &str), grant: &Grant) -> bool {
    // What comes before the end is a whole part: `container-instance/*` does not end in `instance/*`.
    let before = grant.written.strip_suffix(end);
    grant.action.starts_with(action) && before.is_some_and(|before| !before.ends_with('-'))
}

/// `*` alone, where AWS lets a policy name a resource that the call has, is too wide.
#[test]
fn nothing_is_granted_on_everything_where_aws_allows_less() {
    for grant in grants(&Template::with_all_parts()).iter().filter(|grant| grant.resource == "*") {
        let is_known = ALL.iter().any(|(action, _)| *action == grant.action);
        assert!(is_known || !reference::can_be_narrowed(&grant.action), "too wide: {:?}", shown([grant]));
    }
}

#[test]
fn every_wildcard_has_its_reason_and_every_reason_its_wildcard() {
    let grants = grants(&Template::with_all_parts());
    let unexplained: Vec<&Grant> =
        grants.iter().filter(|grant| grant.resource.contains(['*', '?']) && why(grant).is_none()).collect();
    assert_eq!(shown(unexplained), Vec::<String>::new());
    for (action, _) in ALL {
        let is_there = grants.iter().any(|grant| grant.action == *action && grant.resource == "*");
        assert!(is_there && reference::types_of(action).is_some_and(|types| !types.is_empty()), "{action}");
    }
    for part in PARTS {
        assert!(grants.iter().any(|grant| is_about(part, grant)), "nothing is left of {part:?}");
    }
}

/// Nothing reaches into other accounts, Regions or services.
#[test]
fn a_wildcard_is_in_the_resource_and_nowhere_before_it() {
    for grant in grants(&Template::with_all_parts()).iter().filter(|grant| grant.resource != "*") {
        let service = grant.action.split(':').next().unwrap();
        let region = if service == "iam" { "" } else { sim::world::REGION };
        let begin = format!("arn:aws:{service}:{region}:{}:", sim::world::ACCOUNT);
        assert!(grant.resource.starts_with(&begin), "{:?}", shown([grant]));
        assert!(!grant.action.contains('*'), "{:?}", shown([grant]));
    }
}

/// What the role is trusted for: Lambda takes it, and nobody else.
#[test]
fn the_roles_are_lambdas_alone() {
    let template = Template::with_all_parts();
    let mut roles = 0;
    for (name, role) in template.resources("AWS::IAM::Role") {
        let trust = template.resolve(&role["Properties"]["AssumeRolePolicyDocument"]["Statement"]).unwrap();
        let lambda = serde_json::json!({"Service": "lambda.amazonaws.com"});
        assert_eq!((trust.as_array().unwrap().len(), &trust[0]["Principal"]), (1, &lambda), "{name}");
        roles += 1;
    }
    assert_eq!(roles, 5, "one for each function");
}
