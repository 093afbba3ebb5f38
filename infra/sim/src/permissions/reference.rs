//! What the
//! [Service Authorization Reference](https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html)
//! says of the actions that the roles have: which resources a policy can name for them.

/// Actions, and the types of resources that AWS checks them for, in its own notation: those with an asterisk must be named.
/// Where there is none, only `*` can be granted. As of November 2026.
#[rustfmt::skip]
const ACTIONS: &[(&str, &[&str])] = &[
    ("application-autoscaling:DescribeScalableTargets", &[]),
    ("autoscaling:CompleteLifecycleAction", &["autoScalingGroup*"]),
    ("autoscaling:DescribeAutoScalingGroups", &[]),
    ("autoscaling:DescribeInstanceRefreshes", &[]),
    ("autoscaling:RecordLifecycleActionHeartbeat", &["autoScalingGroup*"]),
    ("autoscaling:SetDesiredCapacity", &["autoScalingGroup*"]),
    ("autoscaling:TerminateInstanceInAutoScalingGroup", &["autoScalingGroup*"]),
    ("cloudwatch:DescribeAlarms", &["alarm*"]),
    ("cloudwatch:GetMetricData", &["dataset"]),
    ("dynamodb:BatchGetItem", &["table*"]),
    ("dynamodb:ConditionCheckItem", &["table*"]),
    ("dynamodb:GetItem", &["table*"]),
    ("dynamodb:PutItem", &["table*"]),
    ("dynamodb:Query", &["table*", "index"]),
    ("dynamodb:UpdateItem", &["table*"]),
    ("ecr:BatchGetImage", &["repository*"]),
    ("ecr:DescribeImages", &["repository*"]),
    ("ecr:GetDownloadUrlForLayer", &["repository*"]),
    ("ecs:DescribeCapacityProviders", &["capacity-provider*"]),
    ("ecs:DescribeContainerInstances", &["container-instance*"]),
    ("ecs:DescribeServiceDeployments", &["service*", "service-deployment*"]),
    ("ecs:DescribeServiceRevisions", &["service*", "service-revision*"]),
    ("ecs:DescribeServices", &["service*"]),
    ("ecs:DescribeTaskDefinition", &[]),
    ("ecs:DescribeTasks", &["task*"]),
    ("ecs:GetTaskProtection", &["task*"]),
    ("ecs:ListContainerInstances", &["cluster*"]),
    ("ecs:ListServiceDeployments", &["service*"]),
    ("ecs:ListServices", &[]),
    ("ecs:ListTasks", &["container-instance*"]),
    ("ecs:RegisterTaskDefinition", &["task-definition*"]),
    ("ecs:StopServiceDeployment", &["service*", "service-deployment*"]),
    ("ecs:TagResource", &["capacity-provider", "cluster", "container-instance", "service", "task", "task-definition", "task-set"]),
    ("ecs:UpdateContainerInstancesState", &["container-instance*"]),
    ("ecs:UpdateService", &["service*"]),
    ("events:PutEvents", &["event-bus*"]),
    ("iam:GetRole", &["role*"]),
    ("iam:PassRole", &["role*"]),
    ("logs:CreateLogStream", &["log-stream*"]),
    ("logs:GetLogEvents", &["log-stream*"]),
    ("logs:PutLogEvents", &["log-stream*"]),
    ("secretsmanager:DescribeSecret", &["Secret*"]),
    ("sns:Publish", &["topic*"]),
    ("sqs:DeleteMessage", &["queue*"]),
    ("sqs:GetQueueAttributes", &["queue*"]),
    ("sqs:GetQueueUrl", &["queue*"]),
    ("sqs:ReceiveMessage", &["queue*"]),
    ("sqs:SendMessage", &["queue*"]),
    ("ssm:DescribeParameters", &[]),
    ("ssm:GetParameter", &["parameter*"]),
    ("tag:GetResources", &[]),
];

/// How the ARNs of a service's types of resources end, where more than the type's name differs.
const ENDS: &[(&str, &str, &str)] = &[
    ("autoscaling", "autoScalingGroup", "autoScalingGroup:*:autoScalingGroupName/*"),
    ("cloudwatch", "alarm", "alarm:*"),
    ("dynamodb", "index", "table/*/index/*"),
    ("logs", "log-stream", "log-group:*:*"),
    ("secretsmanager", "Secret", "secret:*"),
    ("sns", "topic", "*"),
    ("sqs", "queue", "*"),
];

/// The types of resources that AWS checks `action` for, without their asterisks; `None` of an action that is not among
/// those that we use.
pub fn types_of(action: &str) -> Option<Vec<&'static str>> {
    let (_, types) = ACTIONS.iter().find(|(known, _)| *known == action)?;
    Some(types.iter().map(|kind| kind.trim_end_matches('*')).collect())
}

/// Whether AWS must be given a resource for `action`: what names none is then checked against all of the type.
pub fn can_be_narrowed(action: &str) -> bool {
    ACTIONS.iter().any(|(known, types)| *known == action && types.iter().any(|kind| kind.ends_with('*')))
}

/// Whether a policy's `resource` can be one that AWS checks `action` for.
pub fn fits(action: &str, resource: &str) -> bool {
    let service = action.split(':').next().unwrap_or_default();
    let types = types_of(action).unwrap_or_default();
    let Some((of, end)) = split(resource) else { return resource == "*" };
    let is_of = |kind: &&str| {
        let end_of = ENDS.iter().find(|(of, name, _)| *of == service && name == kind);
        let pattern = end_of.map_or_else(|| format!("{kind}/*"), |(.., end)| (*end).to_owned());
        // Index ARNs begin as those of their table do, and are none.
        let is_index = *kind == "table" && end.contains("/index/");
        iam_rs::Arn::wildcard_match(end, &pattern) && !is_index
    };
    of == service && types.iter().any(is_of)
}

/// The service of an ARN, and what comes after the account.
fn split(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.strip_prefix("arn:")?.splitn(5, ':').skip(1);
    Some((parts.next()?, parts.nth(2)?))
}
