//! The two sides of a rollback: the deployment that was bad, and the one that brings a good release back.

use super::*;
use crate::NEWER;

const WEB: &str = "production/web";

/// `NEWER` is live, and everyone has been told; before it `NEW` was proven good.
async fn live() -> World {
    live_with("xoxb-secret", Fate::Answered).await
}

/// The same, with this secret for Slack, which answers like this.
async fn live_with(slack_secret: &str, slack: Fate) -> World {
    let (world, id) = rolling().await;
    world.state().slack_secret = slack_secret.into();
    world.fates(always(|call| To::Slack.hears(call), slack));
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    world.state().ecs.drain(WEB);
    tokio::time::sleep(Duration::from_secs(660)).await;
    world.deliver("rollback", &sweep()).await.unwrap();
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEWER, now);
    world.deliver("deploy", &push(NEWER)).await.unwrap();
    let id = newest_id(&world);
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    world.state().ecs.drain(WEB);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.calm();
    world
}

/// A person takes back what runs: ECS's id of the deployment that brings the good release back.
async fn taken_back(world: &World) -> String {
    let detail = json!({"service": WEB, "reason": "checkout is broken", "actor": "ana"});
    let asked = json!({"id": "asked-1", "source": "tidegate", "detail-type": "Rollback", "detail": detail});
    let response = world.deliver("rollback", &asked).await.unwrap();
    assert_eq!(response["decisions"][0]["action"], "rollback", "{response}");
    world.calm();
    newest_id(world)
}

/// The bad deployment's record, and that of its recovery.
fn sides(world: &World) -> (Value, Value) {
    let mut records = records(world);
    let recovery = records.pop().unwrap();
    assert_eq!(recovery["origin"], "rollback", "{recovery}");
    (records.pop().unwrap(), recovery)
}

/// The message of `record` as it stands now.
fn message(world: &World, record: &Value) -> Value {
    let state = world.state();
    state.slack[record["slack_ts"].as_str().unwrap()].last().unwrap().clone()
}

/// The address of the message of `record`.
fn address(record: &Value) -> String {
    let ts = record["slack_ts"].as_str().unwrap().replace('.', "");
    format!("https://slack.com/archives/{}/p{ts}", record["slack_channel"].as_str().unwrap())
}

/// That the messages of both sides tell of each other as they are now, and nothing is left to do.
fn check_linked(world: &World, situation: &str) {
    let (bad, recovery) = sides(world);
    for (one, other) in [(&bad, &recovery), (&recovery, &bad)] {
        let message = message(world, one);
        assert!(message["blocks"].to_string().contains(&address(other)), "{situation}: {message}");
        assert!(is_at_rest(one) || one["state"] == "rolling", "{situation}: {one}");
        assert_eq!(one["links_told"], one["links_changed"], "{situation}");
    }
    if recovery["state"] == "succeeded" {
        assert!(message(world, &bad)["text"].as_str().unwrap().contains("serves again"), "{situation}");
    }
    // One message for each of the three deployments.
    assert_eq!(world.state().rejects.len(), 0, "{situation}");
}

fn edits(world: &World) -> (usize, usize) {
    let posts = world.state().calls.iter().filter(|call| call.operation == "chat.postMessage").count();
    (posts, world.count("chat.update"))
}

#[tokio::test(start_paused = true)]
async fn each_side_names_the_other_and_one_edit_suffices_for_each_change() {
    let world = live().await;
    let id = taken_back(&world).await;
    let event = started(&id);
    world.deliver("notify", &event).await.unwrap();
    // The recovery's message, and then that of the bad deployment, with its details.
    assert_eq!(edits(&world), (2, 1));
    check_linked(&world, "it is going back");
    let (bad, _) = sides(&world);
    let text = message(&world, &bad)["text"].as_str().unwrap().to_owned();
    assert!(text.contains("rolled back, ") && text.contains("ana asked for it: checkout is broken"), "{text}");
    world.calm();
    world.deliver("notify", &event).await.unwrap();
    sweeps(&world, 2).await;
    assert_eq!(edits(&world), (0, 0), "nothing has changed");
    world.calm();
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    assert_eq!(edits(&world), (0, 2));
    check_linked(&world, "it is back");
    world.calm();
    sweeps(&world, 3).await;
    assert_eq!(world.operations(), ["Query"; 3], "nothing is open");
    assert_eq!(To::Slack.states(&world).len(), world.state().slack.values().map(Vec::len).sum::<usize>());
    for to in [To::Sns, To::Webhook] {
        let told = to.states(&world);
        let expected = ["succeeded", "succeeded", "rolled_back", "rolling", "succeeded"];
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        assert_eq!(sorted(told), sorted(expected.map(str::to_owned).to_vec()), "{to:?}");
    }
}

/// By the event that is delivered again, or by the sweep, from whatever is left.
#[tokio::test(start_paused = true)]
async fn killed_at_any_call_both_messages_find_each_other() {
    for is_over in [false, true] {
        let run = async |at: usize, fate: Fate| {
            let world = live().await;
            let id = taken_back(&world).await;
            if is_over {
                world.deliver("notify", &started(&id)).await.unwrap();
            }
            let event = if is_over { complete(&world, &id) } else { started(&id) };
            world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
            world.deliver("notify", &event).await.map(|_| world)
        };
        let calls = run(usize::MAX, Fate::Answered).await.unwrap().state().calls.clone();
        for fate in [Fate::KilledAfter, Fate::AnswerLost] {
            for (at, call) in calls.iter().enumerate() {
                // A write that is repeated finds itself outrun.
                if fate == Fate::AnswerLost && call.operation != "UpdateItem" {
                    continue;
                }
                let situation = format!("{fate:?} at call {at}, {}, over: {is_over}", call.operation);
                let world = run(at, fate.clone()).await.unwrap();
                sweeps(&world, 2).await;
                check_linked(&world, &situation);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_sweeps_at_once_edit_no_more_than_they_must() {
    for delays in [[0, 0, 0], [0, 3, 11], [40, 0, 20]] {
        let world = live().await;
        let id = taken_back(&world).await;
        let events = [started(&id), complete(&world, &id), sweep()];
        let deliver = async |at: usize| {
            tokio::time::sleep(Duration::from_millis(delays[at])).await;
            world.deliver("notify", &events[at]).await.unwrap();
        };
        tokio::join!(deliver(0), deliver(1), deliver(2));
        sweeps(&world, 2).await;
        check_linked(&world, &format!("{delays:?}"));
        assert_eq!(world.state().slack.len(), 3, "{delays:?}");
        assert!(world.count("chat.update") <= 3, "{delays:?}");
    }
}

/// Slack was out of order for long: then the bad deployment has no message when its recovery begins.
#[tokio::test(start_paused = true)]
async fn without_a_message_before_the_bad_one_is_told_first_and_edited_after() {
    let world = live_with("xoxb-secret", Fate::Refused(200, "channel_not_found")).await;
    assert!(world.state().slack.is_empty());
    world.state().rejects.clear();
    let id = taken_back(&world).await;
    world.deliver("notify", &started(&id)).await.unwrap();
    let posted = |call: &Call| call.operation == "chat.postMessage" && call.body.get("thread_ts").is_none();
    let texts: Vec<String> = {
        let state = world.state();
        let posts = state.calls.iter().filter(|call| posted(call));
        posts.map(|call| call.body["text"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        texts[texts.len() - 2].contains("rolled back") && texts[texts.len() - 1].contains("going back"),
        "{texts:?}"
    );
    assert_eq!(world.count("chat.update"), 1);
    check_linked(&world, "Slack is back");
}

#[tokio::test(start_paused = true)]
async fn with_a_webhook_each_side_names_the_others_record_and_is_told_once() {
    let webhook = "https://hooks.slack.com/services/T0/B0/slack-secret";
    // From the beginning, or since the bad deployment has a message that could be edited.
    for before in [webhook, "xoxb-secret"] {
        let world = live_with(before, Fate::Answered).await;
        world.state().slack_secret = webhook.into();
        with_a_webhook(&world).await;
    }
}

async fn with_a_webhook(world: &World) {
    let before = world.state().slack.get("webhook").map_or(0, Vec::len);
    let id = taken_back(world).await;
    world.deliver("notify", &started(&id)).await.unwrap();
    world.deliver("notify", &complete(world, &id)).await.unwrap();
    sweeps(world, 3).await;
    let (bad, recovery) = sides(world);
    let told: Vec<String> = world.state().slack["webhook"]
        .iter()
        .skip(before)
        .map(|message| message["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let named = |record: &Value| format!("deployment {}", record["id"].as_str().unwrap());
    assert!(told[0].contains("rolled back") && told[0].contains(&named(&recovery)), "{told:?}");
    assert!(told[1].contains("went back, live") && told[1].contains(&named(&bad)), "{told:?}");
    assert!(told[1].contains("ana asked for it: checkout is broken"), "{told:?}");
    assert!(is_at_rest(&bad) && is_at_rest(&recovery), "{bad} {recovery}");
}

/// The rollback function does not look why: that would cost it time.
#[tokio::test(start_paused = true)]
async fn why_it_was_bad_is_found_out_before_people_are_told() {
    let is_look = |call: &Call| call.operation == "ListTasks";
    for fate in [Fate::Answered, Fate::Hangs, Fate::Refused(400, "AccessDeniedException")] {
        let world = live().await;
        // One of its rollout, and one since it was live.
        let mut before = json!({"containers": [{"name": "web", "exitCode": 137, "lastStatus": "STOPPED"}]});
        before["stoppedAt"] = json!(world.seconds() - 300.0);
        let after = json!({"containers": [{"name": "web", "exitCode": 3, "lastStatus": "STOPPED"}]});
        for task in [before, after] {
            world.state().ecs.stop_task(WEB, &task);
        }
        let id = taken_back(&world).await;
        world.fates(always(is_look, fate.clone()));
        let began = tokio::time::Instant::now();
        world.deliver("notify", &started(&id)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{fate:?} took {:?}", began.elapsed());
        let (bad, _) = sides(&world);
        let text = message(&world, &bad)["text"].as_str().unwrap().to_owned();
        let is_found = fate == Fate::Answered;
        assert_eq!(text.contains("1 task: container web exited with code 3"), is_found, "{fate:?}: {text}");
        assert!(text.contains("rolled back") && !text.contains("137"), "{text}");
        assert_eq!(bad.get("diagnosis").is_some(), is_found, "{fate:?}: {bad}");
        check_linked(&world, &format!("{fate:?}"));
    }
}

/// What was told as live comes to wait for a person: the channel has to hear of it, once.
#[tokio::test(start_paused = true)]
async fn what_stays_calls_for_a_person_once() {
    let (world, id) = rolling().await;
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    let detail = json!({"service": WEB, "reason": "checkout is broken", "actor": "ana"});
    let asked = json!({"id": "asked-1", "source": "tidegate", "detail-type": "Rollback", "detail": detail});
    let response = world.deliver("rollback", &asked).await.unwrap();
    assert_eq!(response["decisions"][0]["action"], "hold", "{response}");
    for _ in 0..2 {
        world.deliver("notify", &completed(&id)).await.unwrap();
        sweeps(&world, 2).await;
    }
    let held = records(&world).remove(0);
    let text = message(&world, &held)["text"].as_str().unwrap().to_owned();
    assert!(text.contains(":rotating_light:") && text.contains("not taken back"), "{text}");
    let replies: Vec<Value> = world
        .state()
        .slack_threads
        .values()
        .flat_map(|all| all.values().flatten().cloned().collect::<Vec<_>>())
        .collect();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0]["reply_broadcast"], true);
    assert!(replies[0].to_string().contains("To release the image"), "{}", replies[0]);
    assert!(is_at_rest(&held), "{held}");
    assert_eq!(held["metrics_counted"], json!(["Succeeded", "Held"]));
}
