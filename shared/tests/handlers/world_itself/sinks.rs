//! Who is told.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde_json::{Value, json};

use super::{code, sdk, send};
use crate::world::{CHAT, Fate, World};

#[tokio::test(start_paused = true)]
async fn topics_are_kept_apart() {
    let world = World::new();
    let client = aws_sdk_sns::Client::new(&sdk(&world));
    let publish = |topic: &str| {
        let arn = format!("arn:aws:sns:eu-west-1:123456789012:{topic}");
        client.publish().topic_arn(arn).message(json!({"to": topic}).to_string())
    };
    for topic in ["outcomes", "tidegate-chat"] {
        publish(topic).send().await.unwrap();
    }
    assert_eq!(code(publish("nobodys").send().await), "NotFound");
    let state = world.state();
    assert_eq!(state.published, [json!({"to": "outcomes"})]);
    assert_eq!(state.chat[CHAT], [json!({"to": "tidegate-chat"})]);
}

#[tokio::test(start_paused = true)]
async fn events_are_taken_one_by_one() {
    let world = World::new();
    let client = aws_sdk_eventbridge::Client::new(&sdk(&world));
    let entry = |source: &str, detail: &str| {
        PutEventsRequestEntry::builder().source(source).detail_type("x").detail(detail).build()
    };
    let put = |entries: Vec<PutEventsRequestEntry>| client.put_events().set_entries(Some(entries)).send();
    let entries =
        vec![entry("tidegate", r#"{"a":1}"#), entry("aws.ecs", "{}"), entry("tidegate", "a"), entry("", "{}")];
    let answer = put(entries).await.unwrap();
    assert_eq!(answer.failed_entry_count(), 3);
    let codes: Vec<_> = answer.entries().iter().map(|entry| entry.error_code().unwrap_or_default()).collect();
    assert_eq!(codes, ["", "NotAuthorizedForSourceException", "MalformedDetail", "InvalidArgument"]);
    assert_eq!(world.state().events, [json!({"Source": "tidegate", "DetailType": "x", "Detail": {"a": 1}})]);
    world.state().events_refused = Some("InternalFailure");
    assert_eq!(put(vec![entry("tidegate", "{}")]).await.unwrap().failed_entry_count(), 1);
    assert_eq!(code(put(vec![entry("tidegate", "{}"); 11]).await), "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn secrets_are_read_by_name_and_only_decrypted() {
    let world = World::new();
    let client = aws_sdk_ssm::Client::new(&sdk(&world));
    let read = async |name: &str| {
        client.get_parameter().name(name).with_decryption(true).send().await.map(|found| found.parameter.unwrap().value)
    };
    let (slack, key) = ("/tidegate/slack", "/tidegate/newrelic");
    assert_eq!(read(slack).await.unwrap().as_deref(), Some("xoxb-secret"));
    assert_eq!(read(key).await.unwrap().as_deref(), Some("NRAK-secret"));
    assert!(read("/tidegate/webhook").await.unwrap().unwrap().starts_with("whsec_"));
    world.state().secrets_by_name.insert(key.into(), "NRAK-stale".into());
    assert_eq!(read(key).await.unwrap().as_deref(), Some("NRAK-stale"));
    assert_eq!(code(read("/tidegate/other").await), "ParameterNotFound");
    let encrypted = client.get_parameter().name(slack).send().await.unwrap().parameter.unwrap();
    assert!(!encrypted.value().unwrap().contains("xoxb"));
}

#[tokio::test(start_paused = true)]
async fn new_relic_takes_what_it_is_sent_with_its_key() {
    let world = World::new();
    let event = json!({
        "query": "mutation { changeTrackingCreateEvent }", "variables": {"changeTrackingEvent": {"user": "me"}},
    });
    let post = async |key: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("api-key", key)];
        let (status, body) =
            send(&world, "POST", "https://api.newrelic.com/graphql", &headers, &body.to_string()).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    assert_eq!(post("NRAK-other", &event).await.0, 401);
    let (status, answer) = post("NRAK-secret", &event).await;
    let created = &answer["data"]["changeTrackingCreateEvent"];
    assert_eq!((status, &created["changeTrackingEvent"]["changeTrackingId"]), (200, &json!("tracking-1")));
    assert_eq!(created["messages"], json!([]));
    let (status, answer) = post("NRAK-secret", &json!({"query": "mutation { changeTrackingCreateEvent }"})).await;
    assert_eq!((status, answer["errors"].as_array().unwrap().len()), (200, 1));
    world.state().newrelic_refuses = Some("no entity matches");
    assert_eq!(post("NRAK-secret", &event).await.1["errors"][0]["message"], "no entity matches");
    assert_eq!(world.state().newrelic, [event]);
    assert_eq!(world.count("newrelic"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_kept_to_the_byte() {
    let world = World::new();
    let post = || send(&world, "POST", "https://hooks.example/tidegate", &[("webhook-id", "1")], r#"{ "a": 1 }"#);
    world.fates(|_, number| if number == 0 { Fate::Limited(7) } else { Fate::Answered });
    assert_eq!(post().await.0, 429);
    assert_eq!(post().await, (200, String::new()));
    let hooks = world.state().hooks.clone();
    assert_eq!(
        (hooks.len(), hooks[0].body.as_str(), hooks[0].headers["webhook-id"].as_str()),
        (1, r#"{ "a": 1 }"#, "1")
    );
    assert_eq!(world.operations(), ["hook", "hook"]);
}

#[tokio::test(start_paused = true)]
async fn slack_keeps_replies_in_their_thread() {
    let world = World::new();
    let call = async |method: &str, body: Value| -> Value {
        let url = format!("https://slack.com/api/{method}");
        let headers = [("authorization", "Bearer xoxb-secret")];
        serde_json::from_str(&send(&world, "POST", &url, &headers, &body.to_string()).await.1).unwrap()
    };
    let parent = call("chat.postMessage", json!({"channel": "C1", "text": "web"})).await["ts"].clone();
    let reply = json!({"channel": "C1", "text": "details", "thread_ts": parent, "reply_broadcast": true});
    let reply = call("chat.postMessage", reply).await["ts"].clone();
    let next = call("chat.postMessage", json!({"channel": "C1", "text": "api"})).await["ts"].clone();
    assert!(parent != reply && reply != next && parent != next);
    for ts in [&parent, &reply] {
        assert_eq!(call("chat.update", json!({"channel": "C1", "ts": ts, "text": "edited"})).await["ok"], true);
    }
    for (method, body, error) in [
        ("chat.update", json!({"channel": "C1", "ts": "1.0"}), "message_not_found"),
        ("chat.update", json!({"channel": "C2", "ts": parent}), "message_not_found"),
        ("chat.postMessage", json!({"channel": "C1", "thread_ts": "1.0"}), "thread_not_found"),
        ("chat.postMessage", json!({"channel": "C1", "thread_ts": reply}), "thread_not_found"),
    ] {
        assert_eq!(call(method, body).await["error"], error);
    }
    let state = world.state();
    let (parent, reply) = (parent.as_str().unwrap(), reply.as_str().unwrap());
    assert_eq!((state.slack.len(), state.slack[parent].len()), (2, 2));
    assert_eq!(state.slack_threads[parent][reply].len(), 2);
    assert_eq!(state.slack_threads[parent][reply][0]["reply_broadcast"], true);
}
