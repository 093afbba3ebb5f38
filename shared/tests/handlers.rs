//! The shipped handlers in a small world behind the SDK's HTTP connector: what they do on the wire, what they leave
//! alone, and what becomes of them when they are disturbed.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::time::Duration;

use serde_json::{Value, json};
use world::{Call, Fate, HOST, World};

const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";
const NEW: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
const NEWER: &str = "sha256:7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";

fn push(digest: &str) -> Value {
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": world::ACCOUNT, "time": "2026-11-16T08:59:58Z", "region": world::REGION,
        "resources": [], "detail": {
            "result": "SUCCESS", "repository-name": "tides/web", "image-digest": digest, "action-type": "PUSH",
            "image-tag": "master",
        },
    })
}

fn ecs_event(name: &str, deployment_id: &str) -> Value {
    json!({
        "version": "0", "id": "ddca6449-b258-46c0-8653-e0e3a0000001", "detail-type": "ECS Deployment State Change",
        "source": "aws.ecs", "account": world::ACCOUNT, "time": "2026-11-16T09:03:00Z", "region": world::REGION,
        "resources": [format!("arn:aws:ecs:{}:{}:service/production/web", world::REGION, world::ACCOUNT)],
        "detail": {
            "eventType": "INFO", "eventName": name, "deploymentId": deployment_id,
            "updatedAt": "2026-11-16T09:03:00Z", "reason": "as ECS would say",
        },
    })
}

/// A service `production/web` that runs [`OLD`] and follows `master`, which points to [`NEW`].
fn pushed() -> World {
    let world = World::new();
    let mut state = world.state();
    state.ecs.register(&json!({
        "family": "web", "networkMode": "awsvpc", "fieldOfTomorrow": {"deep": [1, null, "x"]}, "cpu": "256",
        "containerDefinitions": [
            {"name": "web", "image": format!("{HOST}/tides/web@{OLD}"), "essential": true, "novelty": {"on": true},
             "environment": [{"name": "EMPTY", "value": ""}]},
            {"name": "proxy", "image": "public.ecr.aws/envoy/envoy:v1.31", "essential": false},
        ],
        "tags": [{"key": "team", "value": "tides"}],
    }));
    state.ecs.add_service("production", "web", "web", &[("tidegate:follow/tides/web", "tag:master")]);
    state.images.insert(("tides/web".into(), "master".into()), NEW.into());
    drop(state);
    world
}

fn image(digest: &str) -> String {
    format!("{HOST}/tides/web@{digest}")
}

fn records(world: &World) -> Vec<Value> {
    world.state().table.items("DEPLOYMENT#")
}

fn decision(response: &Value) -> &Value {
    let decisions = response["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 1, "{response}");
    &decisions[0]
}

#[tokio::test(start_paused = true)]
async fn a_push_is_rolled_out_recorded_and_told() {
    let world = pushed();
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(decision(&response)["action"], "deploy", "{response}");
    assert_eq!(world.state().ecs.running("production/web"), image(NEW));

    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();

    let record = &records(&world)[0];
    assert_eq!(record["state"], "succeeded");
    for time in ["pushed_at", "detected_at", "started_at", "finished_at"] {
        assert!(record[time].is_string(), "{time} is missing in {record}");
    }
    let state = world.state();
    let versions: Vec<&Value> = state.slack.values().flatten().collect();
    assert_eq!((state.slack.len(), versions.len()), (1, 2), "one message, posted and then edited");
    assert!(versions[1]["text"].as_str().unwrap().contains("live"));
    let told: Vec<&Value> = state.published.iter().map(|message| &message["state"]).collect();
    assert_eq!(told, ["rolling", "succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_differs_from_its_base_in_the_image_and_our_tag_alone() {
    let world = pushed();
    let base = world.state().ecs.families["web"][0].clone();
    world.deliver("deploy", &push(NEW)).await.unwrap();

    let mut expected = base["taskDefinition"].clone();
    for field in ["taskDefinitionArn", "revision", "status", "registeredAt", "compatibilities"] {
        expected.as_object_mut().unwrap().remove(field);
    }
    expected["containerDefinitions"][0]["image"] = json!(image(NEW));
    expected["tags"] = json!([{"key": "team", "value": "tides"}, {"key": "tidegate:tag/tides/web", "value": "master"}]);
    assert_eq!(world.body("RegisterTaskDefinition"), expected, "on the wire, with fields no SDK knows");
}

#[tokio::test(start_paused = true)]
async fn an_update_sends_the_revision_and_the_circuit_breaker_and_never_a_desired_count() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(
        world.body("UpdateService"),
        json!({
            "cluster": "production", "service": "web", "taskDefinition": world.state().ecs.newest("web"),
            "deploymentConfiguration": {
                "maximumPercent": 200, "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": {"enable": true, "rollback": true},
            },
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_deployment_takes_no_more_calls_than_it_needs() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let mut operations = world.operations();
    operations.sort();
    assert_eq!(
        operations,
        [
            "DescribeImages",
            "DescribeServices",
            "DescribeTaskDefinition",
            "GetResources",
            "Query",
            "RegisterTaskDefinition",
            "TransactWriteItems",
            "TransactWriteItems",
            "UpdateService",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_deploy_costs_no_call_and_one_nobody_follows_costs_one() {
    let world = pushed();
    world.calm();
    let mut untagged = push(NEW);
    untagged["detail"]["image-tag"] = json!("");
    let response = world.deliver("deploy", &untagged).await.unwrap();
    assert_eq!((decision(&response)["action"].as_str(), world.operations().len()), (Some("skip"), 0));

    let mut unfollowed = push(NEW);
    unfollowed["detail"]["repository-name"] = json!("tides/unknown");
    let response = world.deliver("deploy", &unfollowed).await.unwrap();
    let reason = decision(&response)["reason"].as_str().unwrap();
    assert!(reason.contains("tidegate:follow/tides/unknown"), "it says how to follow: {reason}");
    assert_eq!(world.operations(), ["GetResources"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_changes_nothing() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let before = (records(&world), world.state().ecs.clone());
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(decision(&response)["reason"], "the service already runs this digest");
    let after = (records(&world), world.state().ecs.clone());
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn two_copies_at_once_make_one_rollout() {
    let world = pushed();
    let event = push(NEW);
    let (first, second) = tokio::join!(world.deliver("deploy", &event), world.deliver("deploy", &event));
    let actions = [first.unwrap(), second.unwrap()].map(|response| decision(&response)["action"].clone());
    assert!(actions.contains(&json!("deploy")) && actions.contains(&json!("skip")), "{actions:?}");
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 1));
    assert_eq!(records(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_view_of_ecs_from_before_another_handlers_deployment_is_not_acted_on() {
    let world = pushed();
    // The first handler has seen the service, and reads the history when the second has long finished.
    world.fates(|call, number| match call.operation.as_str() {
        "Query" if number < 5 => Fate::Late(Duration::from_secs(5)),
        _ => Fate::Answered,
    });
    let event = push(NEW);
    let (first, second) = tokio::join!(world.deliver("deploy", &event), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.deliver("deploy", &event).await
    });
    assert_eq!(decision(&first.unwrap())["action"], "skip");
    assert_eq!(decision(&second.unwrap())["action"], "deploy");
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_family_share_the_revision() {
    let world = pushed();
    let follow = [("tidegate:follow/tides/web", "master")];
    world.state().ecs.add_service("production", "web-internal", "web", &follow);
    world.state().ecs.add_service("staging", "web", "web", &follow);
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(response["decisions"].as_array().unwrap().len(), 3);
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 3));
    for service in ["production/web", "production/web-internal", "staging/web"] {
        assert_eq!(world.state().ecs.running(service), image(NEW), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_moving_while_an_older_push_is_handled_ends_with_the_newest() {
    let world = pushed();
    let (older, newer) = (push(NEW), push(NEWER));
    let moved = world.clone();
    world.fates(move |call, _| {
        if call.operation == "RegisterTaskDefinition" {
            moved.state_later(NEWER);
        }
        Fate::Answered
    });
    let (first, second) = tokio::join!(world.deliver("deploy", &older), async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        world.deliver("deploy", &newer).await
    });
    first.unwrap();
    second.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
    assert_eq!(records(&world).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_and_delivered_again_the_result_is_the_same() {
    let undisturbed = pushed();
    undisturbed.deliver("deploy", &push(NEW)).await.unwrap();
    let calls = undisturbed.operations().len();
    for kill in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")] {
        for at in 0..calls {
            let world = pushed();
            let fate = kill.clone();
            world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
            world.deliver("deploy", &push(NEW)).await.unwrap();

            let situation = format!("{kill:?} at call {at}");
            assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{situation}");
            let records = records(&world);
            assert_eq!(records.len(), 1, "{situation}: {records:?}");
            assert_eq!(records[0]["state"], "rolling", "{situation}");
            let primary = world.state().ecs.services["production/web"]["deployments"][0]["id"].clone();
            assert_eq!(records[0]["ecs_deployment_id"], primary, "{situation}");
            assert_eq!(world.state().table.items("SERVICE")[0]["lease_until"], 0, "{situation}");
            assert_eq!(world.state().rejects, Vec::<Value>::new(), "{situation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_recorded_and_the_event_kept_once() {
    let world = pushed();
    let refuse = |call: &Call, _| match call.operation.as_str() {
        "UpdateService" => Fate::Refused(400, "AccessDeniedException"),
        _ => Fate::Answered,
    };
    world.fates(refuse);
    let response = world.invoke("deploy", &push(NEW)).await.unwrap().expect("it must not be tried again");
    assert_eq!(decision(&response)["action"], "reject");
    assert_eq!(records(&world)[0]["state"], "failed");
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0]["event"], push(NEW));
    assert!(rejects[0]["cause"].as_str().unwrap().contains("Allow UpdateService in the function's role"));

    world.calm();
    world.deliver("deploy", &rejects[0]["event"]).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEW), "once allowed, the kept event deploys");
}

#[tokio::test(start_paused = true)]
async fn one_service_that_fails_does_not_stop_the_others() {
    let world = pushed();
    world.state().ecs.add_service("staging", "web", "web", &[("tidegate:follow/tides/web", "master")]);
    world.fates(|call, _| match call.body["cluster"] == "production" && call.operation == "UpdateService" {
        true => Fate::Refused(400, "InvalidParameterException"),
        false => Fate::Answered,
    });
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(world.state().ecs.running("staging/web"), image(NEW));
    assert_eq!(world.state().ecs.running("production/web"), image(OLD));
}

#[tokio::test(start_paused = true)]
async fn throttling_is_left_to_the_platform_and_an_unknown_event_is_not() {
    let world = pushed();
    world.fates(|_, _| Fate::Refused(400, "ThrottlingException"));
    let error = world.invoke("deploy", &push(NEW)).await.unwrap().unwrap_err();
    assert!(error.contains("GetResources") && error.contains("ThrottlingException"), "{error}");

    world.calm();
    let unknown = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
    for function in ["deploy", "notify"] {
        let response = world.invoke(function, &unknown).await.unwrap().unwrap();
        assert_eq!(decision(&response)["action"], "reject");
    }
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 2);
    assert_eq!((&rejects[0]["function"], &rejects[1]["function"]), (&json!("deploy"), &json!("notify")));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_ecs_fails_the_record_and_its_replay_deploys_nothing() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    world.state().ecs.roll_back("production/web");
    for (name, id) in [
        ("SERVICE_DEPLOYMENT_IN_PROGRESS", "ecs-svc/1"),
        ("SERVICE_DEPLOYMENT_FAILED", &id),
        ("SERVICE_DEPLOYMENT_COMPLETED", "ecs-svc/1"),
    ] {
        world.deliver("notify", &ecs_event(name, id)).await.unwrap();
    }
    assert_eq!(records(&world)[0]["state"], "failed");
    assert_eq!(world.state().slack.len(), 1);

    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert!(decision(&response)["reason"].as_str().unwrap().contains("failed on this service before"));
    assert_eq!(world.state().ecs.running("production/web"), image(OLD));
}

#[tokio::test(start_paused = true)]
async fn an_event_about_a_deployment_of_someone_else_is_skipped() {
    let world = pushed();
    let response = world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", "ecs-svc/1")).await.unwrap();
    assert_eq!(decision(&response)["action"], "skip");
    assert_eq!(world.state().slack.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_ecs_event_that_is_faster_than_the_record_waits_for_it() {
    let world = pushed();
    world.fates(|call, _| {
        let settles = call.operation == "TransactWriteItems" && call.body.to_string().contains("ecs-svc/");
        if settles { Fate::KilledBefore } else { Fate::Answered }
    });
    world.invoke("deploy", &push(NEW)).await;
    world.calm();
    let id = world.state().ecs.services["production/web"]["deployments"][0]["id"].as_str().unwrap().to_owned();
    let event = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id);
    let retried = push(NEW);
    let (notified, deployed) = tokio::join!(world.deliver("notify", &event), async {
        tokio::time::sleep(Duration::from_secs(90)).await;
        world.deliver("deploy", &retried).await
    });
    notified.unwrap();
    deployed.unwrap();
    assert_eq!(world.state().slack.len(), 1, "the record was adopted, and then told");
}

/// Every way of disturbing the telling ends with one message that shows the outcome.
#[tokio::test(start_paused = true)]
async fn killed_at_any_call_notify_still_tells_the_outcome() {
    let rolled_out = || async {
        let world = pushed();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        world.state().ecs.end_rollout("production/web", "COMPLETED");
        let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
        world.calm();
        (world, ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id))
    };
    let (undisturbed, event) = rolled_out().await;
    undisturbed.deliver("notify", &event).await.unwrap();
    let operations = undisturbed.operations();
    let post = operations.iter().position(|operation| operation == "chat.postMessage").unwrap();
    for fate in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")] {
        for at in 0..operations.len() {
            let (world, event) = rolled_out().await;
            let disturbance = fate.clone();
            world.fates(move |_, number| if number == at { disturbance.clone() } else { Fate::Answered });
            world.deliver("notify", &event).await.unwrap();
            let situation = format!("{fate:?} at call {at}");
            let record = &records(&world)[0];
            assert_eq!(record["state"], "succeeded", "{situation}");
            assert_eq!(
                (&record["slack_told"], &record["sns_told"]),
                (&record["version"], &record["version"]),
                "{situation}"
            );
            let state = world.state();
            let newest = state.slack.values().last().and_then(|versions| versions.last()).unwrap();
            assert!(newest["text"].as_str().unwrap().contains("live"), "{situation}");
            // Slack has no token for idempotence: a message whose id could not be written down is posted again. Nothing
            // else may double it.
            if at != post && at != post + 1 {
                assert_eq!(state.slack.len(), 1, "{situation}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_events_at_once_make_one_message() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    let started = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id);
    let (first, second) = tokio::join!(world.deliver("notify", &started), world.deliver("notify", &started));
    first.unwrap();
    second.unwrap();
    assert_eq!(world.state().slack.len(), 1);
    assert_eq!(world.count("chat.postMessage"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_is_read_again() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    let function = world.function("notify");
    let notifier = function.notifier();
    let deadline = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(30_000);
    notifier.handle(&ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id), deadline).await;
    world.state().slack_secret = "xoxb-rotated".into();
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    let handled = notifier.handle(&ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id), deadline).await;
    assert!(handled.failures.is_empty(), "{:?}", handled.failures);
    assert!(world.state().slack.values().next().unwrap()[1]["text"].as_str().unwrap().contains("live"));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_told_the_outcome_only() {
    let world = pushed();
    world.state().slack_secret = "https://hooks.slack.com/services/T0/B0/secret".into();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
    assert_eq!(world.count("webhook"), 0);
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    assert_eq!(world.count("webhook"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slack_that_refuses_leaves_record_and_topic_alone_and_says_what_to_do() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    world.state().slack_secret = "xoxb-one".into();
    world.fates(|call, _| match call.operation.as_str() {
        "chat.postMessage" => Fate::Refused(200, "channel_not_found"),
        _ => Fate::Answered,
    });
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    assert_eq!(records(&world)[0]["state"], "succeeded");
    assert_eq!(world.state().published.len(), 1);
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 1);
    assert!(!rejects[0].to_string().contains("xoxb"), "no secret in {}", rejects[0]);
}
