//! Nothing that the functions use is denied, nothing that they are granted is unused, and nothing is wider than AWS and
//! what Tidegate is for let it be.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod can_fail;
mod jobs;
mod wildcards;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use sim::permissions::policies::{Grant, allows, denied, grants, unneeded};
use sim::permissions::template::Template;
use sim::permissions::{Use, reference, table, uses_of_lambda};

/// What every job of the functions needs.
static JOBS: LazyLock<BTreeSet<Use>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(jobs::used())
});

/// The same, and what Lambda needs beside.
fn used(template: &Template) -> BTreeSet<Use> {
    JOBS.iter().cloned().chain(uses_of_lambda(template)).collect()
}

/// What grants say, without their comments.
fn shown<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Vec<String> {
    grants.into_iter().map(|it| format!("{} {}: {} on {}", it.function, it.sid, it.action, it.written)).collect()
}

#[test]
fn nothing_that_is_used_is_denied() {
    let template = Template::with_all_parts();
    assert_eq!(denied(&grants(&template), &used(&template)), BTreeSet::new());
}

/// Each grant is the only one that allows something which is used.
#[test]
fn nothing_that_is_granted_is_unused() {
    let template = Template::with_all_parts();
    assert_eq!(shown(unneeded(&grants(&template), &used(&template))), Vec::<String>::new());
}

/// Who turns a part off takes its permissions away, and no others.
#[test]
fn what_is_optional_is_granted_where_it_is_turned_on() {
    let off = [("EventBusName", ""), ("TaskLogs", "off"), ("Scaling", "off")];
    let template = Template::read(&off);
    let lacks: BTreeSet<(String, String)> = denied(&grants(&template), JOBS.iter())
        .into_iter()
        .map(|it| (it.function.clone(), it.action.clone()))
        .collect();
    let of_others: Vec<String> = lacks
        .into_iter()
        .filter(|(function, _)| !function.starts_with("scale-"))
        .map(|(function, action)| format!("{function} {action}"))
        .collect();
    let expected =
        ["notify events:PutEvents", "notify logs:GetLogEvents", "notify sns:Publish", "notify ssm:GetParameter"];
    assert_eq!(of_others, expected);
    assert_eq!(grants(&template).iter().filter(|grant| grant.function.starts_with("scale-")).count(), 0);
    // By default there is a bus, and logs are read.
    let template = Template::read(&[]);
    let lacks: BTreeSet<&str> =
        denied(&grants(&template), JOBS.iter()).into_iter().map(|it| it.resource.rsplit(':').next().unwrap()).collect();
    let names =
        ["parameter/tidegate/newrelic", "parameter/tidegate/slack", "parameter/tidegate/webhook", "tidegate-chat"];
    assert_eq!(lacks, BTreeSet::from(names));
}

#[test]
fn each_resource_is_one_that_aws_checks_the_action_for() {
    for grant in grants(&Template::with_all_parts()) {
        let shown = shown([&grant]);
        assert!(reference::types_of(&grant.action).is_some(), "the reference lacks it: {shown:?}");
        if grant.resource != "*" {
            assert!(reference::fits(&grant.action, &grant.resource), "it grants nothing: {shown:?}");
        }
    }
}

/// Roles go to tasks of ECS and to nobody else; where the parameter names some, to no others.
#[test]
fn roles_are_handed_on_to_tasks_alone_and_only_those_that_are_named() {
    let all = grants(&Template::with_all_parts());
    let named = "arn:aws:iam::123456789012:role/task,arn:aws:iam::123456789012:role/web/*";
    let some = grants(&Template::read(&[("PassRoleArns", named)]));
    for function in ["deploy", "rollback"] {
        let pass = |role: &str, to: Option<&str>| Use {
            function: function.into(),
            action: "iam:PassRole".into(),
            resource: format!("arn:aws:iam::123456789012:role/{role}"),
            context: to.map(|to| ("iam:PassedToService", to.to_owned())).into_iter().collect(),
        };
        let tasks = Some("ecs-tasks.amazonaws.com");
        for (role, to, by_all, by_some) in [
            ("task", tasks, true, true),
            ("web/pull", tasks, true, true),
            ("admin", tasks, true, false),
            ("task", Some("ec2.amazonaws.com"), false, false),
            ("task", Some("lambda.amazonaws.com"), false, false),
            ("task", None, false, false),
        ] {
            assert_eq!(allows(&all, &pass(role, to)), by_all, "{function} {role} {to:?}");
            assert_eq!(allows(&some, &pass(role, to)), by_some, "{function} {role} {to:?}, of those that are named");
        }
    }
    // Who may be looked at is who may be handed on.
    let look = |role: &str| Use {
        function: "deploy".into(),
        action: "iam:GetRole".into(),
        resource: format!("arn:aws:iam::123456789012:role/{role}"),
        context: Vec::new(),
    };
    assert_eq!([look("task"), look("admin")].map(|it| allows(&some, &it)), [true, false]);
}

/// The functions that hand on roles are those that register task definitions, and each grant of it has the condition.
#[test]
fn every_grant_of_pass_role_has_its_condition() {
    let grants = grants(&Template::with_all_parts());
    let pass: Vec<&Grant> = grants.iter().filter(|grant| grant.action == "iam:PassRole").collect();
    assert_eq!(pass.iter().map(|grant| grant.function.as_str()).collect::<Vec<_>>(), ["deploy", "rollback"]);
    for grant in pass {
        assert_eq!(grant.condition["StringEquals"]["iam:PassedToService"], "ecs-tasks.amazonaws.com");
    }
}

/// Another value of a condition key, or none, and it is denied.
#[test]
fn every_condition_keeps_something_out() {
    let template = Template::with_all_parts();
    let (grants, used) = (grants(&template), used(&template));
    let mut kept_out = BTreeSet::new();
    for grant in grants.iter().filter(|grant| grant.condition != Value::Null) {
        let mut meant = used.iter().filter(|it| allows([grant], it));
        let it = meant.next().unwrap();
        for at in 0..it.context.len() {
            let mut other = it.clone();
            other.context[at].1 = "arn:aws:ecs:us-east-1:123456789012:cluster/production".into();
            let mut none = it.clone();
            let (key, _) = none.context.remove(at);
            assert_eq!([other, none].map(|it| allows(&grants, &it)), [false, false], "{:?}", shown([grant]));
            kept_out.insert(key);
        }
    }
    let keys = ["ecs:CreateAction", "ecs:cluster", "events:source", "iam:PassedToService"];
    assert_eq!(kept_out, BTreeSet::from(keys));
}

#[test]
fn the_table_of_all_permissions_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PERMISSIONS.md");
    let table = table(&grants(&Template::with_all_parts()), wildcards::why);
    let is_up_to_date = std::fs::read_to_string(&path).unwrap_or_default() == table;
    std::fs::write(&path, table).unwrap();
    assert!(is_up_to_date, "{} was not up to date; it is now: look at it, and commit it", path.display());
}
