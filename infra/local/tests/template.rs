//! What the emulator ignores of `infra/template.yaml` is asserted on the template itself; and its event rules are held
//! against the sample events.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

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

#[test]
fn an_event_that_no_invocation_could_handle_ends_in_the_rejects_queue() {
    let template = template();
    let invoke = at(&template, "Globals/Function/EventInvokeConfig");
    assert_eq!(at(invoke, "MaximumRetryAttempts"), 2);
    assert_eq!(at(invoke, "DestinationConfig/OnFailure/Type"), "SQS");
    assert_eq!(intrinsic(at(invoke, "DestinationConfig/OnFailure/Destination")), "!GetAtt RejectsQueue.Arn");
    let mut rules = 0;
    for (name, function) in resources(&template, "AWS::Serverless::Function") {
        for (event, rule) in at(function, "Properties/Events").as_mapping().unwrap() {
            if at(rule, "Type") == "Schedule" {
                continue;
            }
            let dead_letters = intrinsic(at(rule, "Properties/DeadLetterConfig/Arn"));
            assert_eq!(dead_letters, "!GetAtt RejectsQueue.Arn", "{name} {event:?}");
            assert_eq!(at(rule, "Properties/RetryPolicy/MaximumEventAgeInSeconds"), 86400, "{name} {event:?}");
            rules += 1;
        }
    }
    assert_eq!(rules, 3);
    assert_eq!(at(&template, "Resources/RejectsQueue/Properties/MessageRetentionPeriod"), 1_209_600, "14 days");
}

#[test]
fn a_sweep_that_cannot_be_delivered_is_neither_tried_again_nor_kept() {
    let template = template();
    let sweep = at(&template, "Resources/DeployFunction/Properties/Events/Sweep/Properties");
    assert_eq!(intrinsic(at(sweep, "Schedule")), "!Ref SweepSchedule");
    assert_eq!(at(sweep, "RetryPolicy/MaximumRetryAttempts"), 0);
    assert!(sweep.get("DeadLetterConfig").is_none());
}

#[test]
fn every_function_logs_json_into_a_group_with_retention() {
    let template = template();
    for (name, function) in resources(&template, "AWS::Serverless::Function") {
        let logging = at(function, "Properties/LoggingConfig");
        assert_eq!(at(logging, "LogFormat"), "JSON", "{name}");
        let group = intrinsic(at(logging, "LogGroup"));
        let group = at(&template, &format!("Resources/{}", group.trim_start_matches("!Ref "))).clone();
        assert_eq!(intrinsic(at(&group, "Properties/RetentionInDays")), "!Ref LogRetentionDays", "{name}");
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
        Value::Mapping(fields) => fields.iter().all(|(name, pattern)| {
            let name = name.as_str().unwrap();
            matches(pattern, event.and_then(|event| event.get(name)))
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
                "anything-but" => value.is_some_and(|value| value != operand),
                "prefix" => value.and_then(Value::as_str).is_some_and(|v| v.starts_with(operand.as_str().unwrap())),
                _ => panic!("no operator known in {operator:?}"),
            }
        }
        literal => value == Some(literal),
    })
}

/// How an event gets to a function, in the words of the README: by a rule (`yes`), as the input of its `schedule`, or
/// not at all (`no`).
fn way_to(function: &Value, event: &Value) -> &'static str {
    for rule in at(function, "Properties/Events").as_mapping().unwrap().values() {
        if at(rule, "Type") == "Schedule" {
            let input: Value = serde_yaml_ng::from_str(at(rule, "Properties/Input").as_str().unwrap()).unwrap();
            if input == *event {
                return "schedule";
            }
        } else if matches(at(rule, "Properties/Pattern"), Some(event)) {
            return "yes";
        }
    }
    "no"
}

#[test]
fn the_rules_let_through_what_the_readme_of_the_events_says() {
    let template = template();
    let readme = fs::read_to_string(root().join("events/README.md")).unwrap();
    let mut checked = 0;
    for entry in fs::read_dir(root().join("events")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let short = name.strip_prefix("ecr-image-action-").unwrap_or(&name);
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{short}` |")));
        let row = row.unwrap_or_else(|| panic!("events/README.md has no row for {short}"));
        let said = row.split('|').nth(4).unwrap().trim();
        let function = if name.starts_with("ecs-") { "Resources/NotifyFunction" } else { "Resources/DeployFunction" };
        let event: Value = serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(said, way_to(at(&template, function), &event), "{name}");
        checked += 1;
    }
    assert!(checked >= 25, "only {checked} events were checked");
}
