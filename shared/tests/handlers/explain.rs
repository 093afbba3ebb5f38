//! To explain is to decide as the event itself would, and to leave everything as it is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::{furnished, one_of_each, sweep, tagged};
use crate::world::{Fate, HOST, World};
use crate::{NEW, NEWER, OLD, decision, ecs_event, push, pushed, records};

/// What reads and changes nothing.
const READS: [&str; 14] = [
    "BatchGetImage",
    "BatchGetItem",
    "DescribeAlarms",
    "DescribeImages",
    "DescribeParameters",
    "DescribeSecret",
    "DescribeServices",
    "DescribeTaskDefinition",
    "GetItem",
    "GetResources",
    "GetRole",
    "Query",
    "ListServiceDeployments",
    "DescribeServiceDeployments",
];

fn explain(event: &Value) -> Value {
    json!({"source": "tidegate", "detail-type": "Explain", "detail": {"event": event}})
}

/// Asks `function` what `event` would lead to, and sees that nothing came of that.
async fn explained(world: &World, function: &'static str, event: &Value) -> Value {
    let everything = |world: &World| {
        let state = world.state();
        let kept = json!([state.table.items(""), state.rejects, state.published, state.slack]);
        (state.ecs.clone(), state.ecr.clone(), kept)
    };
    let before = everything(world);
    let calls = world.operations().len();
    let response = world.deliver(function, &explain(event)).await.unwrap();
    let called = world.operations().split_off(calls);
    assert!(called.iter().all(|operation| READS.contains(&operation.as_str())), "{called:?}");
    assert!(before == everything(world), "something has changed");
    response
}

/// Service, action, rule and reason of every decision; records that an explanation can't write have no id in it.
fn decided(response: &Value) -> Vec<[Value; 4]> {
    let decisions = response["decisions"].as_array().unwrap().iter();
    decisions.map(|decision| ["service", "action", "rule", "reason"].map(|field| decision[field].clone())).collect()
}

/// Sees that the explanation of `event` is what it then leads to; the rule that decided first, or the action.
async fn agreed(name: &str, world: &World, function: &'static str, event: &Value) -> String {
    let mut foretold = decided(&explained(world, function, event).await);
    let done = decided(&world.deliver(function, event).await.unwrap());
    if *event == sweep() {
        // Of a sweep only the news is told; an explanation tells all.
        foretold.retain(|decision| done.contains(decision) || decision[1] != "skip");
    }
    assert_eq!(foretold, done, "{name}");
    let [_, action, rule, _] = &done[0];
    rule.as_str().or(action.as_str()).unwrap().to_owned()
}

fn with_detail(field: &str, value: &str) -> Value {
    let mut event = push(NEW);
    event["detail"][field] = json!(value);
    event
}

#[tokio::test(start_paused = true)]
async fn every_event_is_explained_as_it_then_is_handled() {
    let mut scan = push(NEW);
    scan["detail-type"] = json!("ECR Image Scan");
    let mut of_task = tagged("production/web");
    of_task["detail"]["resource-type"] = json!("task");
    let world = pushed();
    for (name, tags, expected) in [
        ("follows nothing", [("team", "tides")], "not-following"),
        ("names no repository", [("tidegate:follow/", "master")], "tags"),
    ] {
        world.state().ecs.set_tags("production/web", &tags);
        assert_eq!(agreed(name, &world, "deploy", &tagged("production/web")).await, expected);
    }
    let mut of_others = tagged("production/web");
    of_others["detail"]["changed-tag-keys"] = json!(["team"]);
    for (name, event, expected) in [
        ("a push", push(NEW), "deploy"),
        ("a late push", push(OLD), "deploy"),
        ("a sweep", sweep(), "deploy"),
        ("a change of tags", tagged("production/web"), "deploy"),
        ("a change of the tags of nothing", tagged("production/none"), "gone"),
        ("another tag", with_detail("image-tag", "develop"), "not-selected"),
        ("no follower", with_detail("repository-name", "tides/none"), "nobody-follows"),
        ("no tag", with_detail("image-tag", ""), "not-deployable"),
        ("a signature", with_detail("image-tag", &NEW.replace(':', "-")), "not-deployable"),
        ("a chart", with_detail("artifact-media-type", "application/vnd.cncf.helm.config.v1+json"), "not-deployable"),
        ("a deletion", with_detail("action-type", "DELETE"), "not-deployable"),
        ("a failed push", with_detail("result", "FAILURE"), "not-deployable"),
        ("a scan", scan, "ignored"),
        ("tags of a task", of_task, "ignored"),
        ("tags of others", of_others, "ignored"),
    ] {
        for world in [pushed(), furnished()] {
            assert_eq!(agreed(name, &world, "deploy", &event).await, expected, "{name}");
            let again = agreed(name, &world, "deploy", &event).await;
            assert!(again != "deploy", "{name}: {again}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_check_is_explained_as_it_then_decides() {
    for it in one_of_each() {
        let world = it.world();
        for event in [push(NEW), sweep(), tagged("production/web")] {
            let rule = agreed(it.name, &world, "deploy", &event).await;
            assert!(rule == it.rule || event == sweep(), "{}: {rule}", it.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_explanation_names_what_would_change_and_what_can_not_be_checked() {
    let world = furnished();
    world.fates(|call, _| match call.operation == "GetRole" {
        true => Fate::Refused(403, "AccessDenied"),
        false => Fate::Answered,
    });
    let explained = explained(&world, "deploy", &push(OLD)).await;
    let decision = decision(&explained);
    assert_eq!((&decision["digest"], &decision["tag"]), (&json!(NEW), &json!("master")), "what the tag points to now");
    assert_eq!(decision["changes"], json!(["containerDefinitions[web].image"]));
    let notes: Vec<String> = serde_json::from_value(decision["notes"].clone()).unwrap();
    assert!(notes.len() == 2 && notes.iter().all(|note| note.contains("Allow GetRole")), "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_of_somebody_else_is_explained_as_it_is_then_recorded() {
    for event in [sweep(), tagged("production/web")] {
        let world = pushed();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let body = json!({"family": "web", "containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{NEW}")}]});
        world.state().ecs.register(&body);
        let (now, revision) = (world.seconds(), world.state().ecs.newest("web"));
        world.state().ecs.deploy_by_others("production/web", &revision, now, "COMPLETED");
        assert_eq!(agreed("by others", &world, "deploy", &event).await, "external");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_handler_left_is_explained_at_every_moment() {
    let undisturbed = pushed();
    undisturbed.deliver("deploy", &push(NEW)).await.unwrap();
    let calls = undisturbed.operations().len();
    let mut rules = Vec::new();
    for at in 0..calls {
        let world = pushed();
        world.fates(move |_, number| if number == at { Fate::KilledAfter } else { Fate::Answered });
        world.invoke("deploy", &push(NEW)).await;
        world.calm();
        let leased = explained(&world, "deploy", &push(NEW)).await;
        let writes = !world.state().table.items("SERVICE").is_empty();
        if writes && records(&world)[0]["state"] == "intended" {
            assert_eq!(decision(&leased)["rule"], "busy", "killed at call {at}");
            tokio::time::sleep(Duration::from_secs(61)).await;
        }
        rules.push(agreed("after a kill", &world, "deploy", &push(NEW)).await);
    }
    rules.dedup();
    assert_eq!(rules, ["deploy", "adopt", "already-runs"]);
}

#[tokio::test(start_paused = true)]
async fn each_follower_has_an_explanation_of_its_own() {
    let world = furnished();
    for (name, tags) in [
        ("held", [("tidegate:follow/tides/web", "master"), ("tidegate:hold", "freeze")]),
        ("told", [("tidegate:follow/tides/web", "master"), ("tidegate:mode", "notify")]),
        ("range", [("tidegate:follow/tides/web", "semver:1.x"), ("team", "tides")]),
    ] {
        world.state().ecs.add_service("staging", name, "web", &tags);
    }
    let foretold = decided(&explained(&world, "deploy", &push(NEW)).await);
    assert_eq!(foretold, decided(&world.deliver("deploy", &push(NEW)).await.unwrap()));
    let rules: Vec<&Value> = foretold.iter().map(|[_, _, rule, _]| rule).collect();
    assert_eq!(rules, ["deploy", "held", "not-selected", "notify-mode"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_ecs_is_explained_without_writing_or_telling_anything() {
    for (name, outcome) in [
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", "IN_PROGRESS"),
        ("SERVICE_DEPLOYMENT_COMPLETED", "COMPLETED"),
        ("SERVICE_DEPLOYMENT_FAILED", "FAILED"),
        ("SERVICE_DEPLOYMENT_OF_TOMORROW", "IN_PROGRESS"),
        ("rolled back", "FAILED"),
    ] {
        let world = pushed();
        let theirs = agreed(name, &world, "notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", "ecs-svc/1")).await;
        assert_eq!(theirs, "record", "{name}");
        world.deliver("deploy", &push(NEW)).await.unwrap();
        let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
        let event = match name {
            "rolled back" => {
                world.state().ecs.roll_back("production/web");
                ecs_event("SERVICE_DEPLOYMENT_FAILED", &id)
            }
            name => {
                world.state().ecs.end_rollout("production/web", outcome);
                ecs_event(name, &id)
            }
        };
        assert_eq!(agreed(name, &world, "notify", &event).await, "record", "{name}");
        let other = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", "ecs-svc/77");
        for event in [event, other] {
            agreed(&format!("{name}, and after it"), &world, "notify", &event).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_about_garbage_is_answered_and_nothing_is_kept() {
    let mut no_digest = push(NEW);
    no_digest["detail"]["image-digest"].take();
    let mut no_arn = tagged("production/web");
    no_arn["resources"] = json!([]);
    let s3 = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
    for (function, event, expected) in [
        ("deploy", json!(null), "no JSON object"),
        ("deploy", json!("text"), "no JSON object"),
        ("deploy", json!({}), "not an EventBridge event"),
        ("deploy", s3.clone(), "`Object Created` events of `aws.s3`"),
        ("deploy", no_digest, "no image-digest"),
        ("deploy", no_arn, "no service ARN"),
        ("deploy", explain(&push(NEW)), "an explanation can't be explained"),
        ("deploy", ecs_event("SERVICE_DEPLOYMENT_COMPLETED", "ecs-svc/1"), "this one is for notify"),
        ("notify", s3, "`Object Created` events of `aws.s3`"),
        ("notify", push(NEW), "this one is for deploy"),
        ("notify", explain(&push(NEW)), "this one is for deploy"),
    ] {
        let response = explained(&pushed(), function, &event).await;
        let decision = decision(&response);
        assert_eq!(decision["action"], "reject", "{function} {event}: {response}");
        assert!(decision["reason"].as_str().unwrap().contains(expected), "{function} {event}: {response}");
    }
    let world = pushed();
    for function in ["deploy", "notify"] {
        let mut unasked = explain(&json!(null));
        unasked["detail"] = json!({});
        let response = world.deliver(function, &unasked).await.unwrap();
        assert!(
            decision(&response)["reason"].as_str().unwrap().contains("put the event to explain there"),
            "{response}"
        );
    }
    assert_eq!(world.state().rejects.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_to_an_explanation_is_told_to_who_asks() {
    for operation in ["GetResources", "DescribeServices", "Query", "DescribeImages", "DescribeTaskDefinition"] {
        let world = pushed();
        world.fates(move |call, _| match call.operation == operation {
            true => Fate::Refused(400, "AccessDeniedException"),
            false => Fate::Answered,
        });
        let response = explained(&world, "deploy", &push(NEWER)).await;
        let decision = decision(&response);
        assert_eq!(decision["action"], "reject", "{operation}: {response}");
        assert!(decision["reason"].as_str().unwrap().contains(&format!("Allow {operation}")), "{response}");
    }
}
