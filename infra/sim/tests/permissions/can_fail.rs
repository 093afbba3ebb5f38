//! That these tests can fail: a role that lacks anything is found out, and one that has more.

use iam_rs::Arn;
use proptest::prelude::*;
use serde_json::json;
use sim::permissions::Use;
use sim::permissions::policies::{Grant, allows, denied, grants, unneeded};
use sim::permissions::reference;
use sim::permissions::template::Template;

use crate::{shown, used, wildcards};

#[test]
fn whatever_grant_is_taken_away_something_is_denied() {
    let template = Template::with_all_parts();
    let (grants, used) = (grants(&template), used(&template));
    for at in 0..grants.len() {
        let mut fewer = grants.clone();
        let taken = fewer.remove(at);
        let of_function = used.iter().filter(|it| it.function == taken.function);
        let denied = denied(&fewer, of_function);
        assert!(!denied.is_empty() && denied.iter().all(|it| it.action == taken.action), "{:?}", shown([&taken]));
    }
}

#[test]
fn whatever_is_granted_beside_is_found_to_be_unused() {
    let template = Template::with_all_parts();
    let (known, used) = (grants(&template), used(&template));
    let more = [
        ("ecs:DeleteService", "arn:aws:ecs:eu-west-1:123456789012:service/*"),
        ("dynamodb:DeleteItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/history"),
        ("dynamodb:Query", "arn:aws:dynamodb:eu-west-1:123456789012:table/history/index/live"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:*"),
        ("sns:Publish", "arn:aws:sns:eu-west-1:123456789012:of-others"),
        ("s3:GetObject", "*"),
    ];
    for function in ["deploy", "notify", "rollback", "scale-service", "scale-cluster"] {
        let known: Vec<&Grant> = known.iter().filter(|grant| grant.function == function).collect();
        let used: Vec<&Use> = used.iter().filter(|it| it.function == function).collect();
        let mut grants: Vec<Grant> = known.into_iter().cloned().collect();
        for (action, resource) in more {
            grants.push(Grant {
                function: function.into(),
                action: action.into(),
                resource: resource.into(),
                written: resource.into(),
                condition: json!(null),
                sid: "More".into(),
                comment: String::new(),
            });
        }
        let more = grants.iter().filter(|grant| grant.sid == "More");
        assert_eq!(shown(unneeded(&grants, used)), shown(more));
    }
}

/// The same action on everything makes the narrow grant superfluous, and is too wide itself.
#[test]
fn whatever_is_widened_is_found_to_be_too_wide() {
    for mut grant in grants(&Template::with_all_parts()).into_iter().filter(|grant| grant.resource != "*") {
        grant.resource = "*".into();
        assert!(
            reference::can_be_narrowed(&grant.action) || grant.action == "ecs:TagResource",
            "{:?}",
            shown([&grant])
        );
        assert_eq!(wildcards::why(&grant), None, "{:?}", shown([&grant]));
    }
}

fn asks(action: &str, resource: &str) -> Use {
    Use { function: "deploy".into(), action: action.into(), resource: resource.into(), context: Vec::new() }
}

fn grants_on(resource: &str) -> Grant {
    Grant {
        function: "deploy".into(),
        action: "ecs:Update*".into(),
        resource: resource.into(),
        written: resource.into(),
        condition: json!(null),
        sid: "Test".into(),
        comment: String::new(),
    }
}

/// [Wildcards](https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html) do not cross
/// from one part of an ARN into the next.
#[test]
fn a_resource_is_compared_part_by_part() {
    let service = "arn:aws:ecs:eu-west-1:123456789012:service/production/web";
    for (pattern, is_allowed) in [
        ("*", true),
        (service, true),
        ("arn:aws:ecs:eu-west-1:123456789012:service/*", true),
        ("arn:aws:ecs:eu-west-1:123456789012:service/*/we?", true),
        ("arn:aws:ecs:*:123456789012:service/*", true),
        ("arn:aws:ecs:us-east-1:123456789012:service/*", false),
        ("arn:aws:ecs:eu-west-1:210987654321:service/*", false),
        ("arn:aws:ecs:eu-west-1:123456789012:service/production", false),
        ("arn:aws:ecs:eu-west-1:123456789012:task/*", false),
    ] {
        assert_eq!(allows([&grants_on(pattern)], &asks("ecs:UpdateService", service)), is_allowed, "{pattern}");
    }
    assert!(!allows([&grants_on("*")], &asks("ecs:DescribeServices", service)));
    assert!(allows([&grants_on("*")], &asks("ecs:updateservice", service)), "actions have no case");
}

proptest! {
    /// Held against regular expressions.
    #[test]
    fn wildcards_match_what_regular_expressions_match(text in "[ab/:-]{0,10}", pattern in "[ab/:*?-]{0,8}") {
        let expression: String = pattern.chars().map(|it| match it {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            plain => plain.to_string(),
        }).collect();
        let expected = regex_lite::Regex::new(&format!("^{expression}$")).unwrap().is_match(&text);
        prop_assert_eq!(Arn::wildcard_match(&text, &pattern), expected);
        if !text.is_empty() && !pattern.is_empty() {
            let arn = |end: &str| format!("arn:aws:ecs:eu-west-1:123456789012:service/{end}");
            prop_assert_eq!(allows([&grants_on(&arn(&pattern))], &asks("ecs:UpdateService", &arn(&text))), expected);
        }
    }
}
