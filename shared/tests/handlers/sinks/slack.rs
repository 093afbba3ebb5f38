//! Slack with a bot token: one message for each deployment, and one reply with what is too much for it.

use super::*;
use crate::{NEWER, OLD};

/// The replies to all messages: newest versions.
fn replies(world: &World) -> Vec<Value> {
    let state = world.state();
    state.slack_threads.values().flat_map(|replies| replies.values()).map(|all| all.last().unwrap().clone()).collect()
}

fn is_reply(call: &Call) -> bool {
    call.operation == "chat.postMessage" && call.body["thread_ts"].is_string()
}

fn is_message(call: &Call) -> bool {
    call.operation == "chat.postMessage" && !is_reply(call)
}

fn posted(world: &World) -> usize {
    world.state().calls.iter().filter(|call| is_message(call)).count()
}

#[tokio::test(start_paused = true)]
async fn events_that_race_make_one_message_that_ends_true() {
    for delays in [[0, 0, 0], [0, 1, 2], [7, 0, 7], [3, 20, 0]] {
        let (world, id) = rolling().await;
        let mut action = started(&id);
        action["detail-type"] = json!("ECS Service Action");
        let events = [started(&id), action, complete(&world, &id)];
        let deliver = async |at: usize| {
            tokio::time::sleep(Duration::from_millis(delays[at])).await;
            world.deliver("notify", &events[at]).await.unwrap()
        };
        tokio::join!(deliver(0), deliver(1), deliver(2));
        assert_eq!((posted(&world), world.state().slack.len()), (1, 1), "{delays:?}");
        assert!(is_at_rest(&record(&world)), "{delays:?}");
        for to in To::ALL {
            assert_eq!(to.states(&world), to.expected(&["succeeded"]), "{to:?} {delays:?}");
        }
    }
}

/// The rollout ends while Slack still takes its time over the beginning.
#[tokio::test(start_paused = true)]
async fn what_happens_while_a_message_is_posted_is_told_after_it() {
    let (world, id) = rolling().await;
    world.fates(|call, _| if is_message(call) { Fate::Late(Duration::from_secs(5)) } else { Fate::Answered });
    let begun = started(&id);
    let (first, second, third) = tokio::join!(
        world.deliver("notify", &begun),
        async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let event = complete(&world, &id);
            world.deliver("notify", &event).await
        },
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            world.deliver("notify", &sweep()).await
        }
    );
    for delivered in [first, second, third] {
        delivered.unwrap();
    }
    assert_eq!((posted(&world), world.count("chat.update"), world.state().slack.len()), (1, 1, 1));
    assert!(is_at_rest(&record(&world)));
    for to in To::ALL {
        assert_eq!(to.states(&world), to.expected(&["rolling", "succeeded"]), "{to:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_somebody_deleted_is_posted_anew_and_then_edited() {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    world.state().slack.clear();
    world.state().ecs.set_progress("production/web", 1, 0);
    sweeps(&world, 1).await;
    assert_eq!(To::Slack.states(&world), ["rolling"]);
    let ts = record(&world)["slack_ts"].clone();
    assert!(world.state().slack.contains_key(ts.as_str().unwrap()));
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    assert_eq!(To::Slack.states(&world), ["rolling", "succeeded"]);
    assert_eq!((record(&world)["slack_ts"].clone(), world.state().slack.len()), (ts, 1));
    assert_eq!(To::Sns.states(&world), ["rolling", "succeeded"], "progress is for Slack");
    assert!(is_at_rest(&record(&world)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_one_reply_with_the_details_and_the_channel_is_told_of_what_has_served() {
    for by_alarm in [false, true] {
        let (world, id) = rolling().await;
        world.deliver("notify", &started(&id)).await.unwrap();
        if by_alarm {
            world.state().ecs.trigger_alarms("production/web", &["web-5xx"]);
        }
        let event = fail(&world, &id);
        for _ in 0..2 {
            world.deliver("notify", &event).await.unwrap();
        }
        sweeps(&world, 3).await;
        assert_eq!(To::Slack.states(&world), ["rolling", "failed"]);
        let replies = replies(&world);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(replies[0]["reply_broadcast"], by_alarm);
        assert_eq!(replies[0]["thread_ts"], record(&world)["slack_ts"]);
        assert!(replies[0].to_string().contains("no route to database"), "{}", replies[0]);
        assert!(is_at_rest(&record(&world)));
        assert_eq!(world.state().slack_threads.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_has_no_reply() {
    let (world, id) = rolling().await;
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    assert_eq!(replies(&world), Vec::<Value>::new());
}

/// By the retry of the event, or by the sweep.
#[tokio::test(start_paused = true)]
async fn a_reply_that_failed_is_sent_later_and_the_message_is_not_posted_again() {
    for fate in [
        Fate::Refused(500, "oops"),
        Fate::Hangs,
        Fate::Lost,
        Fate::Limited(600),
        Fate::Refused(200, "restricted_action"),
    ] {
        for by_sweep in [false, true] {
            let situation = format!("{fate:?}, by the sweep: {by_sweep}");
            let (world, id) = rolling().await;
            let event = fail(&world, &id);
            world.fates(always(is_reply, fate.clone()));
            let first = world.invoke("notify", &event).await.unwrap();
            assert_eq!(first.is_err(), fate != Fate::Refused(200, "restricted_action"), "{situation}");
            assert_eq!((To::Slack.states(&world), posted(&world)), (vec!["failed".to_owned()], 1), "{situation}");
            assert_eq!(record(&world)["slack_told"], record(&world)["version"], "{situation}");
            assert!(record(&world)["open"].is_string(), "{situation}");
            world.calm();
            if by_sweep {
                sweeps(&world, 5).await;
            } else {
                world.invoke("notify", &event).await.unwrap().unwrap();
            }
            assert_eq!((replies(&world).len(), posted(&world), world.state().slack.len()), (1, 0, 1), "{situation}");
            assert!(is_at_rest(&record(&world)), "{situation}");
        }
    }
}

/// A message that is gone takes its thread with it.
#[tokio::test(start_paused = true)]
async fn a_reply_whose_message_was_deleted_goes_under_the_new_one() {
    let (world, id) = rolling().await;
    let event = fail(&world, &id);
    world.fates(always(is_reply, Fate::Refused(500, "oops")));
    world.invoke("notify", &event).await.unwrap().unwrap_err();
    world.state().slack.clear();
    world.calm();
    sweeps(&world, 3).await;
    assert_eq!((To::Slack.states(&world), replies(&world).len()), (vec!["failed".to_owned()], 1));
    assert_eq!(replies(&world)[0]["thread_ts"], record(&world)["slack_ts"]);
}

#[tokio::test(start_paused = true)]
async fn each_service_has_the_channel_that_its_tag_names() {
    let world = pushed();
    world.state().other_sinks = true;
    let follow = ("tidegate:follow/tides/web", "tag:master");
    world.state().ecs.add_service("production", "shop", "web", &[follow, ("tidegate:channel", "C0SHOP")]);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    sweeps(&world, 1).await;
    for service in ["web", "shop"] {
        world.state().ecs.end_rollout(&format!("production/{service}"), "COMPLETED");
    }
    sweeps(&world, 1).await;
    let state = world.state();
    let mut channels: Vec<(String, &Value)> = state
        .slack
        .values()
        .map(|versions| {
            assert!(versions.iter().all(|version| version["channel"] == versions[0]["channel"]), "{versions:?}");
            assert_eq!(versions.len(), 2);
            (versions[0]["metadata"]["event_payload"]["service"].as_str().unwrap().to_owned(), &versions[0]["channel"])
        })
        .collect();
    channels.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(channels, [("shop".into(), &json!("C0SHOP")), ("web".into(), &json!("C0123456789"))]);
}

/// A newer deployment begins before the older one is told: each has its own message.
#[tokio::test(start_paused = true)]
async fn deployments_of_a_service_have_a_message_each() {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEWER, now);
    world.deliver("deploy", &push(NEWER)).await.unwrap();
    let newer = newest_id(&world);
    assert_ne!(newer, id);
    world.deliver("notify", &started(&newer)).await.unwrap();
    world.deliver("notify", &complete(&world, &newer)).await.unwrap();
    let state = world.state();
    let ends: Vec<String> = state.slack.values().map(|all| state_of(&all.last().unwrap()["text"])).collect();
    assert_eq!(ends, ["superseded", "succeeded"]);
    assert!(!state.slack.values().any(|all| all.iter().any(|version| version.to_string().contains(OLD))));
}
