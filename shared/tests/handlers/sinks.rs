//! Who is told of a deployment, when some of them are out of order.

mod cost;
mod faults;
mod forever;
mod killed;
mod metrics;
mod others;
mod rollback;
mod secrets;
mod slack;
mod slack_webhook;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::fleet::sweep;
use crate::world::{CHAT, Call, Fate, REGION, World};
use crate::{NEW, ecs_event, push, pushed, records};

/// Who is told, but for the metrics: those are a line of the log, and can't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Slack,
    Sns,
    AmazonQ,
    NewRelic,
    CdEvents,
    Webhook,
}

impl To {
    const ALL: [Self; 6] = [Self::Slack, Self::Sns, Self::AmazonQ, Self::NewRelic, Self::CdEvents, Self::Webhook];

    /// Whether `call` is how it is told.
    fn hears(self, call: &Call) -> bool {
        let is_chat = call.body["TopicArn"] == CHAT;
        match (self, call.operation.as_str()) {
            (Self::Slack, operation) => operation.starts_with("chat.") || operation == "webhook",
            (Self::Sns, "Publish") => !is_chat,
            (Self::AmazonQ, "Publish") => is_chat,
            (Self::NewRelic, operation) => operation == "newrelic",
            (Self::CdEvents, operation) => operation == "PutEvents",
            (Self::Webhook, operation) => operation == "hook",
            _ => false,
        }
    }

    /// Whether `call` asks for its secret.
    fn reads_secret(self, call: &Call) -> bool {
        call.operation == "GetParameter" && Some(call.body["Name"].as_str().unwrap()) == self.secret()
    }

    fn secret(self) -> Option<&'static str> {
        match self {
            Self::Slack => Some("/tidegate/slack"),
            Self::NewRelic => Some("/tidegate/newrelic"),
            Self::Webhook => Some("/tidegate/webhook"),
            Self::Sns | Self::AmazonQ | Self::CdEvents => None,
        }
    }

    /// The attribute that counts what it was told.
    fn told(self) -> &'static str {
        match self {
            Self::Slack => "slack_told",
            Self::Sns => "sns_told",
            Self::AmazonQ => "amazon_q_told",
            Self::NewRelic => "newrelic_told",
            Self::CdEvents => "cdevents_told",
            Self::Webhook => "webhook_told",
        }
    }

    /// What it has taken, oldest first: an id by which it can know repetitions, and the state it was told of.
    fn taken(self, world: &World) -> Vec<(String, String)> {
        let state = world.state();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of_message = |data: &Value| (format!("{}-{}", text(&data["id"]), data["version"]), text(&data["state"]));
        match self {
            Self::Slack => {
                let versions = state.slack.iter().flat_map(|(ts, all)| {
                    all.iter().enumerate().map(move |(at, version)| (format!("{ts}/{at}"), state_of(&version["text"])))
                });
                versions.collect()
            }
            Self::Sns => state.published.iter().map(of_message).collect(),
            Self::AmazonQ => {
                let told = state.chat.get(CHAT).into_iter().flatten();
                let state = |told: &Value| text(&told["metadata"]["eventType"]).replace("deployment.", "");
                told.map(|told| (text(&told["id"]), state(told))).collect()
            }
            // It has no id for repetitions: each is one of its own.
            Self::NewRelic => {
                let told = state.newrelic.iter().enumerate();
                let what = |told: &Value| told["variables"]["changeTrackingEvent"]["shortDescription"].clone();
                told.map(|(at, told)| (at.to_string(), state_of(&what(told)))).collect()
            }
            Self::CdEvents => {
                let told = state.events.iter().map(|event| &event["Detail"]);
                told.map(|event| (text(&event["context"]["id"]), text(&event["customData"]["state"]))).collect()
            }
            Self::Webhook => {
                let told = state.hooks.iter().map(|hook| {
                    let body: Value = serde_json::from_str(&hook.body).unwrap();
                    (hook.headers["webhook-id"].clone(), text(&body["data"]["state"]))
                });
                told.collect()
            }
        }
    }

    /// The states that it has been told of, oldest first.
    fn states(self, world: &World) -> Vec<String> {
        self.taken(world).into_iter().map(|(_, state)| state).collect()
    }

    /// The same without repetitions, which a receiver can know by their ids.
    fn news(self, world: &World) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.taken(world).into_iter().filter(|(id, _)| seen.insert(id.clone())).map(|(_, state)| state).collect()
    }

    /// What it shall have been told of a deployment that came through `states`.
    fn expected(self, states: &[&str]) -> Vec<String> {
        let is_for = |state: &&&str| match self {
            Self::NewRelic => ["succeeded", "rolled_back"].contains(*state),
            Self::CdEvents => **state != "skipped",
            _ => true,
        };
        states.iter().filter(is_for).map(|state| (*state).to_owned()).collect()
    }
}

/// The state that a sentence for people tells.
fn state_of(text: &Value) -> String {
    let text = text.as_str().unwrap();
    let words = [
        ("rolling out", "rolling"),
        ("going back,", "rolling"),
        (": rolled back", "rolled_back"),
        ("live", "succeeded"),
        ("failed", "failed"),
        ("superseded", "superseded"),
        ("not deployed", "skipped"),
    ];
    words.into_iter().find(|(word, _)| text.contains(word)).unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

/// A rollout to production/web, with all who can be told, and ECS's id of it. Nobody has been told anything yet.
async fn rolling() -> (World, String) {
    let world = pushed();
    {
        let mut state = world.state();
        state.other_sinks = true;
        let web = &mut state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"]["containerDefinitions"][0];
        let options = json!({"awslogs-group": "/ecs/web", "awslogs-region": REGION, "awslogs-stream-prefix": "web"});
        web["logConfiguration"] = json!({"logDriver": "awslogs", "options": options});
    }
    world.deliver("deploy", &push(NEW)).await.unwrap();
    world.calm();
    let id = newest_id(&world);
    (world, id)
}

fn newest_id(world: &World) -> String {
    records(world).last().unwrap()["ecs_deployment_id"].as_str().unwrap().to_owned()
}

fn started(id: &str) -> Value {
    ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", id)
}

fn completed(id: &str) -> Value {
    ecs_event("SERVICE_DEPLOYMENT_COMPLETED", id)
}

/// The rollout completes: the event that tells of it.
fn complete(world: &World, id: &str) -> Value {
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    completed(id)
}

/// The rollout fails, and ECS goes back: the event that tells of it. A task's log tells why.
fn fail(world: &World, id: &str) -> Value {
    let task = world.state().ecs.stop_task("production/web", &json!({}));
    world.state().ecs.tasks.get_mut("production/web").unwrap()[0]["containers"][0]["exitCode"] = json!(1);
    let stream = format!("web/web/{}", task.rsplit('/').next().unwrap());
    world.log("/ecs/web", &stream, &["listening", "no route to database"]);
    world.state().ecs.roll_back("production/web");
    ecs_event("SERVICE_DEPLOYMENT_FAILED", id)
}

/// Lets `minutes` pass, with a sweep after each.
async fn sweeps(world: &World, minutes: u64) {
    for _ in 0..minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.deliver("notify", &sweep()).await.unwrap();
    }
}

/// The newest record of ours.
fn record(world: &World) -> Value {
    records(world).last().unwrap().clone()
}

/// Who has not been told the newest version of the record.
fn untold(record: &Value) -> Vec<To> {
    To::ALL.into_iter().filter(|to| record[to.told()] != record["version"]).collect()
}

/// That everything has been told, and nothing is left to do.
fn is_at_rest(record: &Value) -> bool {
    untold(record).is_empty() && record["metrics_told"] == record["version"] && record["open"].is_null()
}

/// Fates that make the calls that `is_meant` means end in `fate`.
fn always(is_meant: impl Fn(&Call) -> bool + Send + 'static, fate: Fate) -> impl FnMut(&Call, usize) -> Fate + Send {
    move |call, _| if is_meant(call) { fate.clone() } else { Fate::Answered }
}

/// That no secret is in what stays, or is shown to people.
fn shows_no_secret(world: &World, responses: &[String]) {
    let state = world.state();
    let shown = [
        json!(responses),
        json!(state.rejects),
        json!(state.table.items("")),
        json!(state.published),
        json!(state.chat),
        json!(state.events),
        json!(state.slack),
        json!(state.slack_threads),
        json!(state.metrics),
        json!(state.newrelic),
        json!(state.hooks.iter().map(|hook| (&hook.body, &hook.headers)).collect::<Vec<_>>()),
    ];
    let hook = state.hook_secret.trim_start_matches("whsec_");
    let secrets = [&state.slack_secret, &state.newrelic_key, hook, "aws-secret", "xoxb-", "hooks.slack.com"];
    for shown in shown.map(|shown| shown.to_string()) {
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
    }
}
