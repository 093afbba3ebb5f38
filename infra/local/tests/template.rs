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
            let dead_letters = intrinsic(at(rule, "Properties/DeadLetterConfig/Arn"));
            assert_eq!(dead_letters, "!GetAtt RejectsQueue.Arn", "{name} {event:?}");
            assert_eq!(at(rule, "Properties/RetryPolicy/MaximumEventAgeInSeconds"), 86400, "{name} {event:?}");
            rules += 1;
        }
    }
    assert_eq!(rules, 2);
    assert_eq!(at(&template, "Resources/RejectsQueue/Properties/MessageRetentionPeriod"), 1_209_600, "14 days");
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

/// Whether an event pattern lets an event through, for the operators that our rules use. See
/// [event patterns](https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html).
fn matches(pattern: &Value, event: Option<&Value>) -> bool {
    match pattern {
        Value::Mapping(fields) => fields.iter().all(|(name, pattern)| {
            let name = name.as_str().unwrap();
            matches(pattern, event.and_then(|event| event.get(name)))
        }),
        Value::Sequence(alternatives) => alternatives.iter().any(|alternative| match alternative {
            Value::Mapping(operator) => {
                assert_eq!(operator.len(), 1, "{operator:?}");
                let but = operator.get("anything-but").unwrap_or_else(|| panic!("no operator known in {operator:?}"));
                event.is_some_and(|value| value != but)
            }
            literal => event == Some(literal),
        }),
        other => panic!("{other:?} in a pattern"),
    }
}

#[test]
fn the_rules_let_through_what_the_readme_of_the_events_says() {
    let template = template();
    let readme = fs::read_to_string(root().join("events/README.md")).unwrap();
    let mut checked = 0;
    for (prefix, rule) in [
        ("ecr-image-action-", "Resources/DeployFunction/Properties/Events/ImagePushed/Properties/Pattern"),
        ("ecs-", "Resources/NotifyFunction/Properties/Events/DeploymentChanged/Properties/Pattern"),
    ] {
        for entry in fs::read_dir(root().join("events")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            let short = if prefix == "ecs-" { &name } else { rest };
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{short}` |")));
            let row = row.unwrap_or_else(|| panic!("events/README.md has no row for {short}"));
            let said = row.split('|').nth(4).unwrap().trim();
            let event: Value = serde_yaml_ng::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let expected = if matches(at(&template, rule), Some(&event)) { "yes" } else { "no" };
            assert_eq!(said, expected, "{name}");
            checked += 1;
        }
    }
    assert!(checked >= 19, "only {checked} events were checked");
}
