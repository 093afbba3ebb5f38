//! What an event of ECS leads to.

use std::time::Duration;

use serde_json::Value;

use crate::world::{Call, Fate};
use crate::{NEW, OLD, decision, ecs_event, image, push, pushed, records};

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
    assert_eq!(decision(&response)["rule"], "quarantine", "{response}");
    assert_eq!(world.state().ecs.running("production/web"), image(OLD));
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_service_that_follows_nothing_is_skipped() {
    let world = pushed();
    world.state().ecs.set_tags("production/web", &[("team", "tides")]);
    let response = world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", "ecs-svc/1")).await.unwrap();
    assert_eq!(decision(&response)["action"], "skip");
    assert_eq!(world.state().slack.len(), 0);
    assert_eq!(world.operations().len(), 2, "its history and the service");
}

#[tokio::test(start_paused = true)]
async fn an_ecs_event_that_is_faster_than_the_record_waits_for_it() {
    let world = pushed();
    world.fates(|call, _| {
        let settles = call.operation == "TransactWriteItems" && call.body.to_string().contains("rolling");
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
    let (telling, noted) = {
        let calls = undisturbed.state().calls.clone();
        let is_note = |call: &Call| call.operation == "UpdateItem" && call.body.to_string().contains("slack_ts = ");
        // All sinks are told at once, so that any call of theirs may come between the message and the note of its id.
        let telling = calls.iter().position(|call| call.operation == "Publish").unwrap();
        (telling, calls.iter().position(is_note).unwrap())
    };
    for fate in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")] {
        for at in 0..operations.len() {
            let (world, event) = rolled_out().await;
            let disturbance = fate.clone();
            world.fates(move |_, number| if number == at { disturbance.clone() } else { Fate::Answered });
            world.deliver("notify", &event).await.unwrap();
            let situation = format!("{fate:?} at call {at} of {operations:?}");
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
            if !(telling..=noted).contains(&at) {
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
