//! What each of the others is told, and of which states.

use standardwebhooks::Webhook;

use super::*;
use crate::world::Hook;

/// Whether the request is signed as its receiver can check. (The crate's own check looks at the wall clock as well.)
pub(super) fn is_signed(webhook: &Webhook, hook: &Hook) -> bool {
    let (id, signed) = (&hook.headers["webhook-id"], &hook.headers["webhook-signature"]);
    let timestamp = hook.headers["webhook-timestamp"].parse().unwrap();
    webhook.sign(id, timestamp, hook.body.as_bytes()).unwrap() == *signed
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn told(end: fn(&World, &str) -> Value) -> World {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    world.deliver("notify", &end(&world, &id)).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn cdevents_tell_a_deployment_in_the_words_of_the_standard() {
    type End = fn(&World, &str) -> Value;
    let ends: [(End, &str); 2] =
        [(complete, "dev.cdevents.service.upgraded.0.3.0"), (fail, "dev.cdeventsx.tidegate-deployment.failed.0.1.0")];
    for (end, last) in ends {
        let world = told(end).await;
        let events = world.state().events.clone();
        let types: Vec<&str> = events.iter().map(|event| event["DetailType"].as_str().unwrap()).collect();
        assert_eq!(types, ["dev.cdeventsx.tidegate-deployment.started.0.1.0", last]);
        for event in &events {
            assert_eq!((&event["Source"], &event["EventBusName"]), (&json!("tidegate"), &json!("default")));
            assert_eq!(event["Resources"], json!([record(&world)["service_arn"]]));
            assert_eq!(event["Detail"]["context"]["type"], event["DetailType"]);
            let read: cdevents_sdk::CDEvent = serde_json::from_value(event["Detail"].clone()).unwrap();
            assert_eq!(json!(read)["context"]["id"], event["Detail"]["context"]["id"]);
        }
        assert_eq!(events[0]["Detail"]["context"]["chainId"], events[1]["Detail"]["context"]["chainId"]);
    }
}

#[tokio::test(start_paused = true)]
async fn new_relic_marks_what_went_live() {
    let world = told(complete).await;
    let marks = world.state().newrelic.clone();
    assert_eq!(marks.len(), 1);
    let change = &marks[0]["variables"]["changeTrackingEvent"];
    assert_eq!(change["entitySearch"]["query"], "name = 'web'");
    assert_eq!(change["shortDescription"].as_str().unwrap().split(':').next(), Some("web is live in production"));
    let world = told(fail).await;
    assert_eq!((world.count("newrelic"), world.state().newrelic.len()), (0, 0));
    assert!(is_at_rest(&record(&world)), "and nothing is owed");
}

#[tokio::test(start_paused = true)]
async fn each_topic_has_its_own_schema() {
    let world = told(fail).await;
    let state = world.state();
    assert_eq!((state.published.len(), state.chat.len(), state.chat[CHAT].len()), (2, 1, 2));
    for message in &state.published {
        assert_eq!(message["schema"], "tidegate.deployment/1");
        assert_eq!(message.get("content"), None);
    }
    for message in &state.chat[CHAT] {
        assert_eq!(keys(message), ["content", "id", "metadata", "source", "version"]);
        assert_eq!((&message["version"], &message["source"]), (&json!("1.0"), &json!("custom")));
        assert_eq!(message["metadata"]["threadId"], state.published[0]["id"]);
        assert_eq!(message.get("schema"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_can_check_who_called_and_knows_a_repetition_by_its_id() {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    world.fates(always(|call| To::Webhook.hears(call), Fate::AnswerLost));
    let event = complete(&world, &id);
    world.invoke("notify", &event).await.unwrap().unwrap_err();
    world.calm();
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.invoke("notify", &event).await.unwrap().unwrap();
    let hooks = world.state().hooks.clone();
    let secret = world.state().hook_secret.clone();
    let (webhook, other) = (Webhook::new(&secret).unwrap(), Webhook::from_bytes(b"another secret".into()).unwrap());
    assert!(hooks.iter().all(|hook| is_signed(&webhook, hook) && !is_signed(&other, hook)));
    let of = |name: &str| -> Vec<String> { hooks.iter().map(|hook| hook.headers[name].clone()).collect() };
    let (ids, times) = (of("webhook-id"), of("webhook-timestamp"));
    assert_eq!(hooks.len(), 5, "one for the beginning, three that seemed lost, and one more");
    assert!(ids[0] != ids[1] && ids[1..].iter().all(|id| *id == ids[1]), "{ids:?}");
    assert!(hooks[1..].iter().all(|hook| hook.body == hooks[1].body));
    assert!(times.is_sorted() && times[1] < times[4], "each says when it was sent: {times:?}");
    let body: Value = serde_json::from_str(&hooks[1].body).unwrap();
    assert_eq!((keys(&body), &body["type"]), (vec!["data", "timestamp", "type"], &json!("deployment.succeeded")));
    assert_eq!(body["data"], *world.state().published.last().unwrap());
}

/// A decision not to deploy is news for people and readers of the records; nothing has happened to the service.
#[tokio::test(start_paused = true)]
async fn a_decision_not_to_deploy_is_told_by_the_sweep_to_those_who_want_it() {
    let world = pushed();
    world.state().other_sinks = true;
    let held = [("tidegate:follow/tides/web", "tag:master"), ("tidegate:hold", "holiday freeze")];
    world.state().ecs.set_tags("production/web", &held);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    sweeps(&world, 3).await;
    for to in To::ALL {
        let expected = if to == To::CdEvents { Vec::new() } else { to.expected(&["skipped"]) };
        assert_eq!(to.states(&world), expected, "{to:?}");
    }
    assert_eq!(world.state().metrics, Vec::<Value>::new());
    assert!(is_at_rest(&record(&world)), "{}", record(&world));
    assert_eq!(world.count("newrelic") + world.count("PutEvents"), 0);
}

/// What may still come to nothing is told to nobody.
#[tokio::test(start_paused = true)]
async fn an_intention_is_told_when_it_has_become_something() {
    let world = pushed();
    world.state().other_sinks = true;
    world.fates(always(|call| call.operation == "UpdateService", Fate::KilledBefore));
    world.deliver("deploy", &push(NEW)).await.unwrap_err();
    world.calm();
    sweeps(&world, 50).await;
    assert_eq!(record(&world)["state"], "intended");
    for to in To::ALL {
        assert_eq!(to.states(&world), Vec::<String>::new(), "{to:?}");
    }
    sweeps(&world, 15).await;
    assert_eq!(record(&world)["state"], "failed");
    assert!(is_at_rest(&record(&world)), "{}", record(&world));
    for to in [To::Sns, To::AmazonQ, To::CdEvents, To::Webhook] {
        assert_eq!(to.states(&world), ["failed"], "{to:?}");
    }
    let state = world.state();
    assert_eq!((state.slack.len(), state.newrelic.len(), state.metrics.len()), (1, 0, 1));
}
