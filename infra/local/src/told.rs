//! What everyone has been told of one deployment.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::json::text;
use crate::slack::Message;

/// A deployment, and what was told of it, oldest first.
#[derive(Debug)]
pub struct Told {
    /// Its record.
    pub record: Value,
    /// The message in Slack.
    pub slack: Message,
    /// The documents on the topic.
    pub documents: Vec<Value>,
    /// The notifications for Amazon Q Developer.
    pub chat: Vec<Value>,
    /// The events on EventBridge.
    pub events: Vec<Value>,
    /// The changes that New Relic took.
    pub newrelic: Vec<Value>,
    /// What the webhook took, which had a good signature.
    pub webhook: Vec<Value>,
    /// The lines of the log that CloudWatch makes metrics of.
    pub metrics: Vec<Value>,
}

impl Told {
    /// Waits until everyone has been told of the outcome of a deployment, and all of it has arrived.
    pub async fn of(cloud: &Cloud, record: &Value) -> Result<Self> {
        let id = text(record, "id");
        let record = cloud.wait_until_told(text(record, "cluster"), text(record, "service"), id).await?;
        let version = record.get("version").and_then(Value::as_u64).context("a record without version")?;
        // The standard of events has none for what was not deployed.
        let has_event = text(&record, "state") != "skipped";
        // The other side of a rollback names it too.
        let about = |all: Vec<Value>, pointer: &str| {
            let is_it = |it: &Value| it.pointer(pointer).and_then(Value::as_str).is_some_and(|of| of.starts_with(id));
            all.into_iter().filter(is_it).collect::<Vec<_>>()
        };
        let ends_with = |all: &[Value], pointer: &str, expected: Value| {
            all.last().and_then(|last| last.pointer(pointer)).is_some_and(|seen| *seen == expected)
        };
        // What topics and buses have accepted is still on its way.
        let (documents, chat, events) = cloud
            .wait_for(&format!("the last word on {id} to arrive"), || async {
                let documents = about(cloud.announcements().await?, "/id");
                let chat = about(cloud.chat().await?, "/id");
                let events = about(cloud.cdevents().await?, "/detail/customData/id");
                let have_arrived = ends_with(&documents, "/version", json!(version))
                    && ends_with(&chat, "/id", json!(format!("{id}-{version}")))
                    && (!has_event || ends_with(&events, "/detail/customData/version", json!(version)));
                Ok(if have_arrived {
                    Ok((documents, chat, events))
                } else {
                    Err(format!("{documents:?}\n{chat:?}\n{events:?}"))
                })
            })
            .await?;
        // What a function has printed is in its log when the invocation has ended, which is after it has told everyone.
        let metrics = cloud
            .wait_for(&format!("the metrics of {id} in the log"), || async {
                let lines = cloud.log("notify", id).await?;
                let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
                let mut metrics = about(lines, "/record");
                metrics.retain(|line| line.get("_aws").is_some_and(Value::is_object));
                Ok(if has_event && metrics.is_empty() { Err("there are none".to_owned()) } else { Ok(metrics) })
            })
            .await?;
        let mut messages = cloud.slack.messages_about(id);
        let slack = messages.pop().with_context(|| format!("no message about {id}"))?;
        ensure!(messages.is_empty(), "more than one message about {id}: {slack:?} {messages:?}");
        Ok(Self {
            slack,
            documents,
            chat,
            events,
            newrelic: about(cloud.newrelic.accepted_about(id), "/variables/changeTrackingEvent/groupId"),
            webhook: about(cloud.webhook.accepted_about(id), "/data/id"),
            metrics,
            record,
        })
    }

    /// The last document on the topic.
    pub fn document(&self) -> &Value {
        self.documents.last().unwrap_or(&Value::Null)
    }

    /// All of it as text.
    pub fn everything(&self) -> String {
        let Self { record, slack, documents, chat, events, newrelic, webhook, metrics } = self;
        format!("{record} {slack:?} {documents:?} {chat:?} {events:?} {newrelic:?} {webhook:?} {metrics:?}")
    }
}

/// What each of these has in this place.
pub fn each(all: &[Value], pointer: &str) -> Vec<String> {
    all.iter().map(|it| it.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()).collect()
}
