//! What the emulator ignores of `infra/template.yaml` is asserted on the template itself; and its event rules are held
//! against the sample events.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn template() -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(root().join("infra/template.yaml")).unwrap()).unwrap()
}

/// The value at a path such as `Resources/HistoryTable/Type`.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(value, |value, key| {
        value.get(key).unwrap_or_else(|| panic!("the template has no {path}: {key} is missing"))
    })
}

/// The logical names of the resources of a type.
fn resources<'a>(template: &'a Value, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let resources = at(template, "Resources").as_mapping().unwrap();
    resources
        .iter()
        .filter(move |(_, resource)| at(resource, "Type") == kind)
        .map(|(name, resource)| (name.as_str().unwrap(), resource))
}

/// An intrinsic such as `!GetAtt RejectsQueue.Arn`, as text.
fn intrinsic(value: &Value) -> String {
    match value {
        Value::Tagged(tagged) => format!("{} {}", tagged.tag, tagged.value.as_str().unwrap_or_default()),
        other => panic!("{other:?} is no intrinsic"),
    }
}

#[test]
fn the_history_survives_the_stack() {
    let template = template();
    let table = at(&template, "Resources/HistoryTable");
    assert_eq!(at(table, "DeletionPolicy"), "RetainExceptOnCreate");
    assert_eq!(at(table, "UpdateReplacePolicy"), "Retain");
    assert_eq!(at(table, "Properties/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled"), &Value::from(true));
    assert_eq!(at(table, "Properties/TimeToLiveSpecification/AttributeName"), "expires_at");
    assert_eq!(at(table, "Properties/TimeToLiveSpecification/Enabled"), &Value::from(true));
    assert!(at(table, "Properties").get("TableName").is_none(), "a kept table would be in the way of the next stack");
}

/// Event rules that only wake a function, which its schedule wakes every minute anyway.
const WAKE_UPS: [&str; 4] = [
    "ScaleServiceFunctionAlarmWentOff",
    "ScaleClusterFunctionAlarmWentOff",
    "ScaleClusterFunctionTaskNotPlaced",
    "ScaleClusterFunctionInstanceChanged",
];

/// The event rules of the functions that must not lose an event, by the logical names that SAM gives them: that of the
/// function and that of the event.
fn rules(template: &Value) -> Vec<(String, &Value)> {
    let rules = every_rule(template);
    rules.into_iter().filter(|(name, _)| !WAKE_UPS.contains(&name.as_str())).collect()
}

fn every_rule(template: &Value) -> Vec<(String, &Value)> {
    let mut rules = Vec::new();
    for (name, function) in resources(template, "AWS::Serverless::Function") {
        for (event, rule) in at(function, "Properties/Events").as_mapping().unwrap() {
            if at(rule, "Type") == "EventBridgeRule" {
                rules.push((format!("{name}{}", event.as_str().unwrap()), at(rule, "Properties")));
            }
        }
    }
    rules
}

#[test]
fn an_event_that_no_invocation_could_handle_ends_in_the_rejects_queue() {
    let template = template();
    let invoke = at(&template, "Globals/Function/EventInvokeConfig");
    assert_eq!(at(invoke, "MaximumRetryAttempts"), 2);
    assert_eq!(at(invoke, "DestinationConfig/OnFailure/Type"), "SQS");
    assert_eq!(intrinsic(at(invoke, "DestinationConfig/OnFailure/Destination")), "!GetAtt RejectsQueue.Arn");
    let rules = rules(&template);
    for (name, rule) in &rules {
        assert_eq!(intrinsic(at(rule, "DeadLetterConfig/Arn")), "!GetAtt RejectsQueue.Arn", "{name}");
        assert_eq!(at(rule, "RetryPolicy/MaximumEventAgeInSeconds"), 86400, "{name}");
    }
    assert_eq!(rules.len(), 9);
    assert_eq!(at(&template, "Resources/RejectsQueue/Properties/MessageRetentionPeriod"), 1_209_600, "14 days");
}

#[test]
fn every_rule_may_put_into_the_rejects_queue_what_it_cannot_deliver() {
    let template = template();
    let statements = at(&template, "Resources/RejectsQueuePolicy/Properties/PolicyDocument/Statement");
    let sources = conditional(at(&statements[0], "Condition/ArnEquals/aws:SourceArn"));
    let sources: Vec<_> = sources.map(|(condition, arn)| (condition, intrinsic(arn))).collect();
    let expected: Vec<_> = rules(&template)
        .into_iter()
        .map(|(name, _)| (name.starts_with("Scale").then_some("HasScaling"), format!("!GetAtt {name}.Arn")))
        .collect();
    assert_eq!(sources, expected);
}

/// An alarm is a reason to look, as is a tick: what it is about, the next look sees.
#[test]
fn what_only_wakes_a_function_is_neither_tried_again_nor_kept() {
    let template = template();
    let wake_ups: Vec<_> =
        every_rule(&template).into_iter().filter(|(name, _)| WAKE_UPS.contains(&name.as_str())).collect();
    assert_eq!(wake_ups.len(), WAKE_UPS.len());
    for (name, rule) in wake_ups {
        assert_eq!(at(rule, "RetryPolicy/MaximumRetryAttempts"), 0, "{name}");
        assert_eq!(at(rule, "RetryPolicy/MaximumEventAgeInSeconds"), 60, "{name}");
        assert!(rule.get("DeadLetterConfig").is_none(), "{name}");
    }
}

/// Both functions that scale: the logical name, the name of the binary.
const SCALERS: [(&str, &str); 2] = [("ScaleService", "scale-service"), ("ScaleCluster", "scale-cluster")];

#[test]
fn a_late_tick_is_dropped() {
    let template = template();
    for (scaler, binary) in SCALERS {
        let queue = at(&template, &format!("Resources/{scaler}Ticks/Properties"));
        assert_eq!(at(queue, "QueueName"), &Value::from(format!("tidegate-{binary}-ticks")));
        assert_eq!(at(queue, "MessageRetentionPeriod"), 60, "the least that SQS takes");
        for absent in ["RedrivePolicy", "FifoQueue"] {
            assert!(queue.get(absent).is_none(), "{absent}: a tick is not kept, and has a delay of its own");
        }
        let function = at(&template, &format!("Resources/{scaler}Function/Properties"));
        let (hidden, timeout) = (at(queue, "VisibilityTimeout").as_u64(), at(function, "Timeout").as_u64());
        assert!(hidden >= timeout, "Lambda refuses a queue whose messages come back while a function is at work");
        assert!(hidden >= Some(60), "a tick that was taken does not come back");
        let url = at(function, "Environment/Variables/TIDEGATE_TICKS_QUEUE_URL");
        assert_eq!(intrinsic(url), format!("!Ref {scaler}Ticks"));
        let tick = at(function, "Events/Tick");
        assert_eq!(at(tick, "Type"), "SQS");
        assert_eq!(intrinsic(at(tick, "Properties/Queue")), format!("!GetAtt {scaler}Ticks.Arn"));
        assert_eq!(at(tick, "Properties/BatchSize"), 1);
    }
}

#[test]
fn without_scaling_nothing_of_it_is_there() {
    let template = template();
    assert_eq!(at(&template, "Parameters/Scaling/Default"), "on");
    let named = |section: &str| -> Vec<(String, Option<String>)> {
        let all = at(&template, section).as_mapping().unwrap().iter();
        let all = all.map(|(name, it)| (name.as_str().unwrap().to_owned(), it.get("Condition")));
        let all = all.filter(|(name, _)| name.starts_with("Scale"));
        all.map(|(name, condition)| (name, condition.and_then(Value::as_str).map(str::to_owned))).collect()
    };
    let (resources, outputs) = (named("Resources"), named("Outputs"));
    assert_eq!((resources.len(), outputs.len()), (10, 4), "{resources:?} {outputs:?}");
    for (name, condition) in resources.into_iter().chain(outputs) {
        assert_eq!(condition.as_deref(), Some("HasScaling"), "{name}");
    }
}

#[test]
fn an_alarm_of_this_account_may_have_the_function_as_an_action() {
    let template = template();
    for function in ["Rollback", "ScaleService", "ScaleCluster"] {
        let permission = at(&template, &format!("Resources/{function}AlarmAction/Properties"));
        assert_eq!(at(permission, "Principal"), "lambda.alarms.cloudwatch.amazonaws.com");
        assert_eq!(intrinsic(at(permission, "FunctionName")), format!("!Ref {function}Function"));
        assert_eq!(intrinsic(at(permission, "SourceAccount")), "!Ref AWS::AccountId");
    }
}

/// The statements of a role that are always there, or under a condition.
fn statements<'a>(template: &'a Value, role: &str) -> Vec<&'a Value> {
    let policies = at(template, &format!("Resources/{role}/Properties/Policies"));
    let statements = at(&policies[0], "PolicyDocument/Statement");
    conditional(statements).map(|(_, statement)| statement).collect()
}

fn texts(value: &Value) -> Vec<String> {
    listed(value).iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Only what AWS offers no resource for is allowed on all.
#[test]
fn what_scaling_may_do_is_narrowed_to_what_can_be_named() {
    let template = template();
    for (role, everywhere) in [
        (
            "ScaleServiceRole",
            &["tag:GetResources", "cloudwatch:GetMetricData", "application-autoscaling:DescribeScalableTargets"][..],
        ),
        (
            "ScaleClusterRole",
            &[
                "tag:GetResources",
                "ecs:DescribeCapacityProviders",
                "ecs:ListServices",
                "ecs:ListTasks",
                "ecs:DescribeTaskDefinition",
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeInstanceRefreshes",
                "cloudwatch:GetMetricData",
            ],
        ),
    ] {
        let found: Vec<String> = statements(&template, role)
            .into_iter()
            .filter(|statement| at(statement, "Resource") == "*")
            .flat_map(|statement| texts(at(statement, "Action")))
            .collect();
        assert_eq!(found, everywhere, "{role}");
        for statement in statements(&template, role) {
            for resource in listed(at(statement, "Resource")) {
                let resource = if resource == "*" { continue } else { intrinsic(&resource) };
                let is_ours = resource.starts_with("!Ref ") || resource.starts_with("!GetAtt ");
                let is_here = resource.contains(":${AWS::Region}:${AWS::AccountId}:");
                assert!(is_ours || is_here, "{role}: {resource}");
            }
        }
    }
    // Nobody else's bounds are moved, and no queue's messages are touched but the ticks.
    let of = |role: &str, service: &str| -> Vec<String> {
        let actions = statements(&template, role).into_iter().flat_map(|statement| texts(at(statement, "Action")));
        let mut actions: Vec<_> = actions.filter(|action| action.starts_with(service)).collect();
        actions.sort();
        actions
    };
    assert_eq!(
        of("ScaleClusterRole", "autoscaling:"),
        [
            "autoscaling:CompleteLifecycleAction",
            "autoscaling:DescribeAutoScalingGroups",
            "autoscaling:DescribeInstanceRefreshes",
            "autoscaling:RecordLifecycleActionHeartbeat",
            "autoscaling:SetDesiredCapacity",
            "autoscaling:TerminateInstanceInAutoScalingGroup",
        ]
    );
    assert_eq!(of("ScaleServiceRole", "ecs:"), ["ecs:DescribeServices", "ecs:UpdateService"]);
    for (scaler, _) in SCALERS {
        let role = format!("{scaler}Role");
        for statement in statements(&template, &role) {
            let touches = |action: &String| action.starts_with("sqs:") && !action.starts_with("sqs:GetQueue");
            if texts(at(statement, "Action")).iter().any(touches) {
                let queue = intrinsic(at(statement, "Resource"));
                assert!([format!("!GetAtt {scaler}Ticks.Arn"), "!GetAtt RejectsQueue.Arn".into()].contains(&queue));
            }
        }
    }
}

/// A rule sees to it that a bad deployment is gone back from; nothing that any function may do destroys.
#[test]
fn no_function_may_delete_anything() {
    let template = template();
    for (name, role) in resources(&template, "AWS::IAM::Role") {
        let statements = at(&at(role, "Properties/Policies")[0], "PolicyDocument/Statement");
        for (_, statement) in conditional(statements) {
            let actions = at(statement, "Action");
            let actions = actions.as_sequence().cloned().unwrap_or_else(|| vec![actions.clone()]);
            for action in actions {
                let action = action.as_str().unwrap();
                let does = action.split_once(':').unwrap().1;
                // A tick that was taken is deleted from the function's own queue.
                let is_tick = at(statement, "Sid") == "Tick" && action == "sqs:DeleteMessage";
                assert!(is_tick || !does.starts_with("Delete") && !does.contains('*'), "{name} may {action}");
            }
        }
    }
}

#[test]
fn what_a_schedule_cannot_deliver_is_neither_tried_again_nor_kept() {
    let template = template();
    let sweep: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(root().join("events/tidegate-sweep.json")).unwrap()).unwrap();
    for (function, event, parameter, often) in [
        ("DeployFunction", "Sweep", "SweepSchedule", "rate(5 minutes)"),
        ("NotifyFunction", "Look", "LookSchedule", "rate(1 minute)"),
        ("RollbackFunction", "Watch", "WatchSchedule", "rate(1 minute)"),
        ("ScaleServiceFunction", "Look", "ScaleSchedule", "rate(1 minute)"),
        ("ScaleClusterFunction", "Look", "ScaleSchedule", "rate(1 minute)"),
    ] {
        let function = at(&template, &format!("Resources/{function}"));
        let schedule = at(function, &format!("Properties/Events/{event}/Properties"));
        assert_eq!(intrinsic(at(schedule, "Schedule")), format!("!Ref {parameter}"));
        assert_eq!(at(&template, &format!("Parameters/{parameter}/Default")), often);
        assert_eq!(at(schedule, "RetryPolicy/MaximumRetryAttempts"), 0);
        assert!(schedule.get("DeadLetterConfig").is_none(), "{event}");
        assert_eq!(way_to(function, &sweep), "schedule", "{event}");
    }
}

/// The items of a list of which some are there under a condition only, each with that condition.
fn conditional(list: &Value) -> impl Iterator<Item = (Option<&str>, &Value)> {
    list.as_sequence().unwrap().iter().map(|item| match item {
        Value::Tagged(tagged) if tagged.tag == "If" => {
            let branches = tagged.value.as_sequence().unwrap();
            assert_eq!(intrinsic(&branches[2]), "!Ref AWS::NoValue", "{item:?}");
            (branches[0].as_str(), &branches[1])
        }
        item => (None, item),
    })
}

/// In the local cloud all of it is switched on, so only here it shows what is switched off.
#[test]
fn what_is_switched_off_needs_no_permission() {
    let template = template();
    let statements = at(&template, "Resources/NotifyRole/Properties/Policies");
    let statements = at(&statements[0], "PolicyDocument/Statement");
    let expected = [
        ("ReadTaskLogs", "ReadsTaskLogs"),
        ("SendEvents", "HasEventBus"),
        ("ReadSlackSecret", "HasSlackSecret"),
        ("ReadNewRelicSecret", "HasNewRelic"),
        ("ReadWebhookSecret", "HasWebhook"),
    ];
    let found: Vec<(&str, &str)> = conditional(statements)
        .filter_map(|(condition, statement)| Some((at(statement, "Sid").as_str().unwrap(), condition?)))
        .collect();
    assert_eq!(found, expected);
    for (scaler, _) in SCALERS {
        let policies = at(&template, &format!("Resources/{scaler}Role/Properties/Policies"));
        let statements = conditional(at(&policies[0], "PolicyDocument/Statement"));
        let found: Vec<_> =
            statements.filter_map(|(when, statement)| Some((at(statement, "Sid").as_str(), when?))).collect();
        assert_eq!(found, [(Some("ReadSlackSecret"), "HasSlackSecret")], "{scaler}");
    }
    let announce = conditional(statements).find(|(_, statement)| at(statement, "Sid") == "Announce").unwrap().1;
    let topics: Vec<_> = conditional(at(announce, "Resource")).map(|(when, topic)| (when, intrinsic(topic))).collect();
    let (first, second) = ("!Ref DeploymentsTopic".to_owned(), "!Ref ChatTopic".to_owned());
    assert_eq!(topics, [(None, first), (Some("HasChatTopic"), second)]);
    for (resource, condition) in [("ChatTopic", "HasChatTopic"), ("DeploymentsDashboard", "HasDashboard")] {
        assert_eq!(at(&template, &format!("Resources/{resource}/Condition")), condition);
    }
    assert_eq!(at(&template, "Outputs/ChatTopicArn/Condition"), "HasChatTopic");
}

#[test]
fn nobody_outside_the_account_is_told_by_default() {
    let template = template();
    for (parameter, default) in [
        ("SlackSecretName", ""),
        ("ChatNotifications", "off"),
        ("NewRelicSecretName", ""),
        ("EventBusName", "default"),
        ("WebhookUrl", ""),
        ("WebhookSecretName", ""),
        ("TaskLogs", "on"),
        ("Dashboard", "on"),
    ] {
        assert_eq!(at(&template, &format!("Parameters/{parameter}/Default")), default, "{parameter}");
    }
}

#[test]
fn every_parameter_has_a_place_and_a_label_in_the_console() {
    let template = template();
    let interface = at(&template, "Metadata/AWS::CloudFormation::Interface");
    let groups = at(interface, "ParameterGroups").as_sequence().unwrap();
    let placed = groups.iter().flat_map(|group| at(group, "Parameters").as_sequence().unwrap());
    let mut placed: Vec<&str> = placed.map(|name| name.as_str().unwrap()).collect();
    let keys = |path: &Value| -> Vec<String> {
        let mut keys: Vec<_> = path.as_mapping().unwrap().keys().map(|key| key.as_str().unwrap().to_owned()).collect();
        keys.sort();
        keys
    };
    placed.sort_unstable();
    assert_eq!(placed, keys(at(&template, "Parameters")));
    assert_eq!(keys(at(interface, "ParameterLabels")), keys(at(&template, "Parameters")));
}

/// The metrics in ARCHITECTURE.md.
fn documented_metrics() -> Vec<String> {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, metrics) = architecture.split_once("## The metrics").unwrap();
    let (metrics, _) = metrics.split_once("\n## ").unwrap();
    // A row may tell of several: "| `ScaledOut`, `ScaledIn` | Count | …".
    let cells = metrics.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once(" |")?.0));
    cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The emulator keeps the text of a dashboard, and does not look into it.
#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let template = template();
    assert_eq!(intrinsic(at(&template, "Outputs/DashboardName/Value")), "!Ref DeploymentsDashboard");
    let Value::Tagged(body) = at(&template, "Resources/DeploymentsDashboard/Properties/DashboardBody") else {
        panic!("the dashboard's body has no names filled in");
    };
    let body: Value = serde_json::from_str(body.value[0].as_str().unwrap()).unwrap();
    let widgets = at(&body, "widgets").as_sequence().unwrap();
    assert_eq!(at(&widgets[0], "properties/title"), "Deployments per day");
    let known = documented_metrics();
    assert!(known.len() >= 9, "{known:?}");
    let mut shown = Vec::new();
    for metric in widgets.iter().flat_map(|widget| {
        let metrics = at(widget, "properties").get("metrics").and_then(Value::as_sequence);
        metrics.into_iter().flatten()
    }) {
        let metric = serde_json::to_string(metric).unwrap();
        // `["Tidegate", "Succeeded", …`, or in a search: `MetricName=\"Succeeded\"`.
        let named = metric.strip_prefix("[\"Tidegate\",\"").and_then(|rest| rest.split_once('"'));
        let searched = metric
            .split_once("{Tidegate,")
            .and_then(|(_, rest)| rest.split_once(r#"MetricName=\""#).and_then(|(_, rest)| rest.split_once('\\')));
        shown.extend(named.or(searched).map(|(name, _)| name.to_owned()));
    }
    shown.sort();
    shown.dedup();
    let unknown: Vec<_> = shown.iter().filter(|name| !known.contains(name)).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let missing: Vec<_> = known.iter().filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "metrics that nobody sees");
}

/// The emulator does not reckon with metric math. Each alarm on Tidegate's own health looks at every function that there
/// is, and tells the topic, also when it is over.
#[test]
fn the_alarms_look_at_every_function() {
    let template = template();
    let functions: Vec<_> = resources(&template, "AWS::Serverless::Function").collect();
    for (alarm, metric, combined) in
        [("Errors", "Errors", "SUM"), ("Throttles", "Throttles", "SUM"), ("Delays", "AsyncEventAge", "MAX")]
    {
        let alarm = at(&template, &format!("Resources/{alarm}Alarm/Properties"));
        for told in ["AlarmActions", "OKActions"] {
            assert_eq!(intrinsic(&at(alarm, told)[0]), "!Ref DeploymentsTopic");
        }
        assert_eq!(at(alarm, "TreatMissingData"), "notBreaching", "{metric}: a function that is not called is well");
        let metrics = at(alarm, "Metrics").as_sequence().unwrap();
        let Value::Tagged(expression) = at(&metrics[0], "Expression") else { panic!("{alarm:?}") };
        assert_eq!(expression.value[0], "HasScaling");
        let looked_at = Value::from(metrics.get(1..).unwrap().to_vec());
        let looked_at: Vec<_> = conditional(&looked_at).collect();
        for (branch, scaling) in [(1, true), (2, false)] {
            let there = looked_at.iter().filter(|(condition, _)| scaling || condition.is_none());
            let ids: Vec<_> = there.map(|(_, it)| format!("FILL({}, 0)", at(it, "Id").as_str().unwrap())).collect();
            assert_eq!(expression.value[branch], format!("{combined}([{}])", ids.join(", ")));
        }
        let named: Vec<_> = looked_at
            .iter()
            .map(|(condition, it)| {
                assert_eq!(at(it, "MetricStat/Metric/MetricName"), metric);
                assert_eq!(at(it, "ReturnData"), &Value::from(false), "an alarm has one result");
                (*condition, intrinsic(at(&at(it, "MetricStat/Metric/Dimensions")[0], "Value")))
            })
            .collect();
        let expected: Vec<_> = functions
            .iter()
            .map(|(name, function)| (function.get("Condition").and_then(Value::as_str), format!("!Ref {name}")))
            .collect();
        assert_eq!(named, expected);
    }
}

/// What an index holds is paid for at each write, and cannot be changed without making the index anew.
#[test]
fn the_indexes_hold_what_they_are_asked_for() {
    let template = template();
    let table = at(&template, "Resources/HistoryTable/Properties");
    let indexes = at(table, "GlobalSecondaryIndexes").as_sequence().unwrap();
    let name_of = |key: &Value| at(key, "AttributeName").as_str().unwrap().to_owned();
    let found: Vec<_> = indexes
        .iter()
        .map(|index| {
            let keys: Vec<String> = at(index, "KeySchema").as_sequence().unwrap().iter().map(name_of).collect();
            let projection = at(index, "Projection/ProjectionType").as_str().unwrap();
            format!("{}: {} {projection}", at(index, "IndexName").as_str().unwrap(), keys.join(" "))
        })
        .collect();
    let expected = [
        "open: open id INCLUDE",
        "days: day id ALL",
        "good: good id ALL",
        "live: live pk ALL",
        "watch: watch pk KEYS_ONLY",
    ];
    assert_eq!(found, expected);
    let included = at(&indexes[0], "Projection/NonKeyAttributes");
    assert_eq!(included, &serde_yaml_ng::from_str::<Value>("[ecs_deployment_id]").unwrap());
    // Each key is declared, and all of them are texts.
    let declared = at(table, "AttributeDefinitions").as_sequence().unwrap();
    assert!(declared.iter().all(|attribute| at(attribute, "AttributeType") == "S"), "{declared:?}");
    let mut declared: Vec<String> = declared.iter().map(name_of).collect();
    declared.sort();
    assert_eq!(declared, ["day", "good", "id", "live", "open", "pk", "sk", "watch"]);
    assert_eq!(at(table, "BillingMode"), "PAY_PER_REQUEST", "no index has a capacity of its own to run out of");
}

#[test]
fn every_function_logs_json_into_a_group_with_retention() {
    let template = template();
    for (name, function) in resources(&template, "AWS::Serverless::Function") {
        let logging = at(function, "Properties/LoggingConfig");
        assert_eq!(at(logging, "LogFormat"), "JSON", "{name}");
        assert_eq!(at(logging, "ApplicationLogLevel"), "INFO", "{name}: the metrics are lines of this level");
        let group = intrinsic(at(logging, "LogGroup"));
        let group = at(&template, &format!("Resources/{}", group.trim_start_matches("!Ref "))).clone();
        assert_eq!(intrinsic(at(&group, "Properties/RetentionInDays")), "!Ref LogRetentionDays", "{name}");
    }
}

/// Handlers are safe side by side, and a reservation would come out of the account's pool. In the emulator it would show
/// nothing.
#[test]
fn no_concurrency_is_reserved() {
    let template = template();
    assert!(at(&template, "Globals/Function").get("ReservedConcurrentExecutions").is_none());
    for (name, function) in resources(&template, "AWS::Serverless::Function") {
        assert!(at(function, "Properties").get("ReservedConcurrentExecutions").is_none(), "{name}");
    }
}

#[test]
fn what_can_have_tags_says_whose_it_is() {
    let template = template();
    let owner: Value = serde_yaml_ng::from_str("[{Key: application, Value: tidegate}]").unwrap();
    for kind in [
        "AWS::CloudWatch::Alarm",
        "AWS::DynamoDB::Table",
        "AWS::IAM::Role",
        "AWS::Logs::LogGroup",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
    ] {
        let found: Vec<_> = resources(&template, kind).collect();
        assert!(!found.is_empty(), "{kind}");
        for (name, resource) in found {
            assert_eq!(at(resource, "Properties/Tags"), &owner, "{name}");
        }
    }
    assert_eq!(at(&template, "Globals/Function/Tags/application"), "tidegate");
}

/// What is deleted with the stack, and what is not: nothing is left behind but the history.
#[test]
fn only_the_history_outlives_the_stack() {
    let template = template();
    for (name, resource) in at(&template, "Resources").as_mapping().unwrap() {
        let kept = resource.get("DeletionPolicy").is_some_and(|policy| policy != "Delete");
        assert_eq!(kept, name == "HistoryTable", "{name:?}");
    }
}

#[test]
fn every_function_of_the_workspace_is_in_the_template() {
    let template = template();
    let mut built: Vec<String> = resources(&template, "AWS::Serverless::Function")
        .map(|(_, function)| at(function, "Metadata/BuildProperties/Binary").as_str().unwrap().to_owned())
        .collect();
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let mut members: Vec<String> =
        folders.map(|folder| folder.unwrap().file_name().to_string_lossy().into_owned()).collect();
    built.sort();
    members.sort();
    assert_eq!(built, members);
}

/// Whether an event pattern lets an event through, for the operators that our rules use. Of a field that is a list, one
/// element is enough. See
/// [event patterns](https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html).
fn matches(pattern: &Value, event: Option<&Value>) -> bool {
    match pattern {
        Value::Mapping(fields) => fields.iter().all(|(name, pattern)| match name.as_str().unwrap() {
            "$or" => pattern.as_sequence().unwrap().iter().any(|pattern| matches(pattern, event)),
            name => matches(pattern, event.and_then(|event| event.get(name))),
        }),
        Value::Sequence(alternatives) => match event {
            Some(Value::Sequence(values)) => values.iter().any(|value| matches_one_of(alternatives, Some(value))),
            value => matches_one_of(alternatives, value),
        },
        other => panic!("{other:?} in a pattern"),
    }
}

fn matches_one_of(alternatives: &[Value], value: Option<&Value>) -> bool {
    alternatives.iter().any(|alternative| match alternative {
        Value::Mapping(operator) => {
            assert_eq!(operator.len(), 1, "{operator:?}");
            let (name, operand) = operator.iter().next().unwrap();
            match name.as_str().unwrap() {
                "anything-but" => value.is_some() && !matches_one_of(&listed(operand), value),
                "prefix" => value.and_then(Value::as_str).is_some_and(|v| v.starts_with(operand.as_str().unwrap())),
                _ => panic!("no operator known in {operator:?}"),
            }
        }
        literal => value == Some(literal),
    })
}

/// An operand, which may be one or a list of them.
fn listed(operand: &Value) -> Vec<Value> {
    operand.as_sequence().cloned().unwrap_or_else(|| vec![operand.clone()])
}

/// How an event gets to a function, in the words of the README: by a rule (`yes`), as the input of its `schedule`, as a
/// message of its `queue`, as an alarm's `action`, or not at all (`no`).
fn way_to(function: &Value, event: &Value) -> &'static str {
    if event.get("alarmData").is_some() {
        return "action";
    }
    for rule in at(function, "Properties/Events").as_mapping().unwrap().values() {
        if at(rule, "Type") == "Schedule" {
            let input: Value = serde_yaml_ng::from_str(at(rule, "Properties/Input").as_str().unwrap()).unwrap();
            if input == *event {
                return "schedule";
            }
        } else if at(rule, "Type") == "SQS" {
            // What Lambda makes of the messages of a queue.
            let source = event.get("Records").and_then(|records| records.get(0)?.get("eventSource"));
            if source.is_some_and(|source| source == "aws:sqs") {
                return "queue";
            }
        } else if matches(at(rule, "Properties/Pattern"), Some(event)) {
            return "yes";
        }
    }
    "no"
}

/// The rows of a table of the README: the first cell of each, and all its cells.
fn rows(section: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    section.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split_once('`')?.0;
        Some((name, line.split('|').map(str::trim).collect()))
    })
}

#[test]
fn the_rules_let_through_what_the_readme_of_the_events_says() {
    let template = template();
    let folder = root().join("events");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut told = Vec::new();
    for section in readme.split("\n## For `").skip(1) {
        let (function, section) = section.split_once('`').unwrap();
        let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
        let mut functions = resources(&template, "AWS::Serverless::Function");
        let function = functions.find(|(_, it)| at(it, "Metadata/BuildProperties/Binary") == function).unwrap().1;
        for (name, cells) in rows(section) {
            let files = [name.to_owned(), format!("ecr-image-action-{name}")];
            let file = files.into_iter().find(|file| folder.join(format!("{file}.json")).exists());
            let file = file.unwrap_or_else(|| panic!("events/README.md tells of {name}, which is not there"));
            let event = fs::read_to_string(folder.join(format!("{file}.json"))).unwrap();
            let event: Value = serde_yaml_ng::from_str(&event).unwrap();
            assert_eq!(cells[4], way_to(function, &event), "{file}");
            told.push(file);
        }
    }
    told.sort();
    told.dedup();
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .collect();
    there.sort();
    assert_eq!(told, there, "what there is is told of, and the other way round");
}
