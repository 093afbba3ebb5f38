//! What somebody else deploys is part of the history, as soon as ECS tells of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::outcomes::{WEB, deployed, look, open, primary, rest, wait};
use crate::world::{Call, Fate, HOST, World};
use crate::{NEW, NEWER, OLD, decision, ecs_event, externals, image, push, pushed, records};

const EVENTS: [(&str, &str, &str); 3] = [
    ("SERVICE_DEPLOYMENT_IN_PROGRESS", "IN_PROGRESS", "rolling"),
    ("SERVICE_DEPLOYMENT_COMPLETED", "COMPLETED", "succeeded"),
    ("SERVICE_DEPLOYMENT_FAILED", "FAILED", "failed"),
];

/// Somebody registers a revision with `reference` in it, `seconds` ago, and deploys it: the deployment's id.
fn by_hand(world: &World, reference: &str, seconds: f64, rollout: &str) -> String {
    let now = world.seconds();
    let mut state = world.state();
    let mut body = state.ecs.families["web"].last().unwrap()["taskDefinition"].clone();
    body["containerDefinitions"][0]["image"] = json!(reference);
    body["containerDefinitions"][0]["environment"] = json!([{"name": "LOG_LEVEL", "value": "hunter2"}]);
    body["registeredBy"] = json!("arn:aws:sts::123456789012:assumed-role/ci/run-7");
    state.ecs.register(&body);
    state.ecs.families.get_mut("web").unwrap().last_mut().unwrap()["taskDefinition"]["registeredAt"] =
        json!(now - seconds);
    let revision = state.ecs.newest("web");
    state.ecs.deploy_by_others(WEB, &revision, now, rollout)
}

/// Ours is live.
async fn ours_live() -> World {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    wait(60).await;
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    wait(600).await;
    world
}

/// The record of the deployment with this id.
fn record_of(world: &World, id: &str) -> Option<Value> {
    let mut found = externals(world);
    found.retain(|record| record["ecs_deployment_id"] == id);
    assert!(found.len() < 2, "{found:?}");
    found.pop()
}

fn running(world: &World) -> (String, String) {
    let image = world.state().ecs.running(WEB);
    (image, primary(world))
}

#[tokio::test(start_paused = true)]
async fn each_event_of_a_deployment_by_others_leads_to_a_record_that_says_who_and_what() {
    for (name, rollout, state) in EVENTS {
        for (registered, actor) in [(60.0, Some("ci/run-7")), (7200.0, None)] {
            let world = ours_live().await;
            let id = by_hand(&world, &image(NEWER), registered, rollout);
            let event = ecs_event(name, &id);
            for _ in 0..2 {
                world.deliver("notify", &event).await.unwrap();
            }
            let found = record_of(&world, &id).unwrap();
            assert_eq!((&found["state"], &found["origin"]), (&json!(state), &json!("external")), "{name}");
            assert_eq!((found["actor"].as_str(), &found["digest"]), (actor, &json!(NEWER)), "{name}");
            assert_eq!((&found["digest_from"], &found["tag_from"]), (&json!(NEW), &json!("master")), "{name}");
            let changed: Vec<&str> =
                found["changed_by_others"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            assert!(changed.iter().any(|it| it.contains("environment")), "{changed:?}");
            let messages = world.state().slack.clone();
            let message = messages.values().last().unwrap();
            assert_eq!((messages.len(), message.len()), (2, 1), "{name}: told once");
            let by = actor.unwrap_or("somebody else");
            let blocks = message[0]["blocks"].to_string();
            assert!(blocks.contains(&format!("deployed by {by}, not by Tidegate")), "{blocks}");
            assert!(!json!([found, messages]).to_string().contains("hunter2"));
            let item = &world.state().table.items("SERVICE")[0];
            assert_eq!((&item["record"], &item["ecs_deployment_id"]), (&found["id"], &json!(id)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_is_heard_of_a_service_may_be_a_deployment_by_others() {
    for (name, rollout, state) in EVENTS {
        let world = pushed();
        let id = by_hand(&world, &format!("{HOST}/tides/web:by-hand"), 60.0, rollout);
        world.deliver("notify", &ecs_event(name, &id)).await.unwrap();
        let found = record_of(&world, &id).unwrap();
        assert_eq!((&found["state"], &found["tag"], &found["digest"]), (&json!(state), &json!("by-hand"), &json!("")));
        // The deploy function goes on from there.
        assert_eq!(decision(&world.deliver("deploy", &push(NEW)).await.unwrap())["action"], "deploy", "{name}");
        assert_eq!(world.state().ecs.running(WEB), image(NEW));
    }
}

#[tokio::test(start_paused = true)]
async fn what_ran_before_a_push_that_was_held_is_in_the_history() {
    let world = pushed();
    let before = primary(&world);
    let tags = [("tidegate:follow/tides/web", "master"), ("tidegate:hold", "freeze")];
    world.state().ecs.set_tags(WEB, &tags);
    // The first that is heard of the service.
    assert_eq!(decision(&world.deliver("deploy", &push(NEW)).await.unwrap())["rule"], "held");
    world.state().ecs.set_tags(WEB, &tags[..1]);
    assert_eq!(decision(&world.deliver("deploy", &push(NEW)).await.unwrap())["action"], "deploy");
    let found = record_of(&world, &before).unwrap();
    // It is what a rollback goes to.
    assert_eq!((&found["digest"], &found["good"]), (&json!(OLD), &json!(WEB)));
}

#[tokio::test(start_paused = true)]
async fn a_deployment_by_others_has_its_outcome_like_ours() {
    type Change = fn(&World);
    let ends: [(&str, Change, &str, Option<&str>); 4] = [
        ("COMPLETED", |world| world.state().ecs.end_rollout(WEB, "COMPLETED"), "succeeded", None),
        ("FAILED", |world| world.state().ecs.roll_back(WEB), "failed", Some("ecs")),
        ("IN_PROGRESS", |world| world.state().ecs.delete_service(WEB), "failed", None),
        ("COMPLETED", |world| drop(by_hand(world, &image(OLD), 1.0, "COMPLETED")), "superseded", None),
    ];
    for (name, end, state, undone_by) in ends {
        for is_told in [true, false] {
            let world = ours_live().await;
            let id = by_hand(&world, &image(NEWER), 1.0, "IN_PROGRESS");
            world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
            wait(60).await;
            end(&world);
            if is_told {
                let event = ecs_event(&format!("SERVICE_DEPLOYMENT_{name}"), &primary_or(&world, &id));
                world.deliver("notify", &event).await.unwrap();
            }
            rest(&world).await;
            let found = record_of(&world, &id).unwrap();
            assert_eq!((&found["state"], found["undone_by"].as_str()), (&json!(state), undone_by), "{state}");
            let documents = world.state().metrics.clone();
            let counted: Vec<&Value> = documents.iter().filter(|it| it["record"] == found["id"]).collect();
            assert_eq!(counted.len(), 1, "{state}");
            assert_eq!(counted[0].get("DeployedByOthers").is_some(), state == "succeeded");
        }
    }
}

/// The id of what runs now; `id` where the service is gone.
fn primary_or(world: &World, id: &str) -> String {
    let exists = world.state().ecs.services.contains_key(WEB);
    if exists { primary(world) } else { id.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn who_follows_nothing_costs_two_calls_and_leaves_nothing() {
    for (name, rollout, _) in EVENTS {
        let world = pushed();
        world.state().ecs.set_tags(WEB, &[("team", "tides")]);
        let id = by_hand(&world, &image(NEW), 1.0, rollout);
        world.calm();
        let response = world.deliver("notify", &ecs_event(name, &id)).await.unwrap();
        assert_eq!(decision(&response)["action"], "skip");
        assert_eq!(world.operations(), ["Query", "DescribeServices"], "{name}");
        assert_eq!(world.state().table.items(""), Vec::<Value>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_none_of_a_followed_repository_is_not_recorded() {
    let world = ours_live().await;
    let before = world.state().table.items("");
    let id = by_hand(&world, "public.ecr.aws/nginx/nginx:1", 1.0, "IN_PROGRESS");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
    assert_eq!(world.state().table.items(""), before);
}

/// What ECS goes back to is old, though nobody remembers it.
#[tokio::test(start_paused = true)]
async fn what_ecs_goes_back_to_is_not_taken_for_a_deployment_by_others() {
    let world = ours_live().await;
    let first = primary(&world);
    for number in 0..30_u64 {
        wait(60).await;
        let id = by_hand(&world, &image(&format!("sha256:{number:064x}")), 1.0, "FAILED");
        world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_FAILED", &id)).await.unwrap();
    }
    rest(&world).await;
    let known = externals(&world).len();
    assert_eq!(known, 31);
    world.state().ecs.roll_back(WEB);
    assert_eq!(primary(&world), first);
    for name in ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"] {
        let response = world.deliver("notify", &ecs_event(name, &first)).await.unwrap();
        assert_eq!(decision(&response)["action"], "skip", "{response}");
    }
    assert_eq!(externals(&world).len(), known);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_before_the_deploy_function_has_written_waits_for_it() {
    for late in ["UpdateService", "TransactWriteItems"] {
        let world = pushed();
        world.fates(move |call: &Call, _| match call.operation == late {
            true if late == "UpdateService" || call.body.to_string().contains("rolling") => {
                Fate::Late(Duration::from_secs(6))
            }
            _ => Fate::Answered,
        });
        let event = push(NEW);
        tokio::join!(async { world.deliver("deploy", &event).await.unwrap() }, async {
            // The world's UpdateService is applied when it is answered.
            wait(if late == "UpdateService" { 7 } else { 2 }).await;
            let id = primary(&world);
            world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
        });
        let found: Vec<Value> = externals(&world).iter().map(|it| it["ecs_deployment_id"].clone()).collect();
        assert_eq!(found, ["ecs-svc/1"], "{late}: what ran before, and nothing else");
        assert_eq!((records(&world).len(), &records(&world)[0]["state"]), (1, &json!("rolling")));
        assert_eq!(world.state().slack.len(), 1);
    }
}

/// What the deploy function decides next is what it would have decided had its own sweep found the deployment.
#[tokio::test(start_paused = true)]
async fn what_somebody_took_back_stays_and_a_newer_image_comes() {
    for (name, rollout, _) in EVENTS {
        let world = ours_live().await;
        let id = by_hand(&world, &image(OLD), 1.0, rollout);
        world.deliver("notify", &ecs_event(name, &id)).await.unwrap();
        for event in [push(NEW), crate::checks::sweep(), push(NEW)] {
            world.deliver("deploy", &event).await.unwrap();
            assert_eq!(running(&world), (image(OLD), id.clone()), "{name}");
        }
        assert_eq!(externals(&world).len(), 2, "{name}: the sweep finds nothing more");
        let now = world.seconds() as u64;
        world.state().ecr.push("tides/web", "master", NEWER, now);
        deployed(&world, NEWER).await;
        assert_eq!(world.state().ecs.running(WEB), image(NEWER), "{name}");
        let last = records(&world).pop().unwrap();
        let generations: Vec<u64> =
            [&record_of(&world, &id).unwrap(), &last].map(|it| it["generation"].as_u64().unwrap()).into();
        assert!(generations[0] < generations[1], "{generations:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_or_twice_at_once_it_is_one_record_and_one_message() {
    let world = ours_live().await;
    let id = by_hand(&world, &image(NEWER), 1.0, "IN_PROGRESS");
    world.calm();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id)).await.unwrap();
    let calls = world.state().calls.clone();
    let post = calls.iter().position(|call| call.operation == "chat.postMessage").unwrap();
    let post = calls.iter().position(|call| call.at == calls[post].at).unwrap();
    let noted = calls.iter().position(|call| call.body.to_string().contains("slack_ts = ")).unwrap();
    for fate in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost] {
        for at in 0..calls.len() {
            let world = ours_live().await;
            let id = by_hand(&world, &image(NEWER), 1.0, "IN_PROGRESS");
            let event = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id);
            let disturbance = fate.clone();
            world.fates(move |_, number| if number == at { disturbance.clone() } else { Fate::Answered });
            if at % 3 == 0 {
                let (one, other) = tokio::join!(world.deliver("notify", &event), world.deliver("notify", &event));
                assert!(one.is_ok() && other.is_ok(), "{fate:?} at call {at}");
            } else {
                world.deliver("notify", &event).await.unwrap();
            }
            assert_eq!(record_of(&world, &id).unwrap()["state"], "rolling", "{fate:?} at call {at}");
            let messages = world.state().slack.len();
            // Of two invocations nobody knows whose call it was.
            let is_known = at % 3 != 0 && !(post..=noted).contains(&at);
            assert!(messages == 2 || !is_known && messages == 3, "{fate:?} at call {at}: {messages}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_of_both_functions_at_once_make_one_record() {
    for delay in [0, 5, 10, 20, 40] {
        let world = ours_live().await;
        let id = by_hand(&world, &image(NEWER), 1.0, "IN_PROGRESS");
        let event = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id);
        let sweep = crate::checks::sweep();
        let (one, other, swept) =
            tokio::join!(world.deliver("notify", &event), world.deliver("notify", &event), async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                world.deliver("deploy", &sweep).await
            });
        assert!(one.is_ok() && other.is_ok() && swept.is_ok(), "{delay}");
        look(&world).await;
        assert_eq!(record_of(&world, &id).unwrap()["state"], "rolling", "{delay}");
        // Ours and theirs, and that the sweep leaves theirs alone.
        assert_eq!((world.count("chat.postMessage"), open(&world).len()), (records(&world).len() + 1, 1), "{delay}");
    }
}
