//! A cloud in which nothing happens by itself: no rule, no schedule and no queue wakes a function.

use anyhow::{Context as _, Result, ensure};
use axum::http::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::cloud::Cloud;
use crate::json::{list, text};
use crate::progress::Progress;
use crate::proxy::Proxy;

/// What Lambda does with an event that is delivered asynchronously: twice more.
const TRIES_MAX: usize = 3;
/// What Lambda waits at least before it tries again.
const A_MINUTE_MILLISECONDS: i64 = 60_000;

/// What the template gives a function.
const MEMORY_MEGABYTES: u32 = 256;

/// A cloud for one case after the other.
#[derive(Debug)]
pub struct Bench {
    /// The cloud.
    pub cloud: Cloud,
    /// One look at a time: more would only find what the first is at.
    looking: Mutex<()>,
}

/// How an event was handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// How many invocations there were.
    pub tries: usize,
    /// What the failed ones said.
    pub errors: Vec<String>,
}

impl Handled {
    /// Whether none ended well: Lambda would put the event into the rejects queue.
    pub fn has_failed(&self) -> bool {
        self.errors.len() == TRIES_MAX
    }
}

impl Bench {
    /// Starts a cloud behind a fault proxy, and lets nothing happen by itself.
    pub async fn start(progress: &Progress) -> Result<Self> {
        let cloud = Cloud::start_behind_proxy(progress).await?;
        let rules = cloud.aws.events("ListRules", &json!({})).await?;
        for rule in list(&rules, "Rules").iter().map(|rule| text(rule, "Name")) {
            if rule.starts_with("tidegate-") {
                cloud.aws.events("DisableRule", &json!({ "Name": rule })).await?;
            }
        }
        let path = "/2015-03-31/event-source-mappings/";
        let answer = cloud.aws.send("lambda", Method::GET, path, &[], "").await?;
        let mappings: Value = serde_json::from_slice(&answer.body)?;
        for mapping in list(&mappings, "EventSourceMappings") {
            let path = format!("{path}{}", text(mapping, "UUID"));
            let disabled = json!({ "Enabled": false }).to_string();
            let answer = cloud.aws.send("lambda", Method::PUT, &path, &[], disabled).await?;
            ensure!(answer.status.is_success(), "an event source mapping can't be disabled: {}", answer.text());
        }
        Ok(Self { cloud, looking: Mutex::default() })
    }

    /// Starts so many of them.
    pub async fn start_many(count: usize, progress: &Progress) -> Result<Vec<Self>> {
        // One after the other: each builds the functions, and nobody may read what is being written.
        let mut benches = Vec::new();
        for _ in 0..count.max(1) {
            benches.push(Self::start(progress).await?);
        }
        Ok(benches)
    }

    /// The fault proxy.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.cloud.proxy.as_ref().context("a bench without a fault proxy")
    }

    /// Ends the warm environments of a function, so that its next invocation makes all the calls of a cold one.
    pub async fn cool_down(&self, function: &str) -> Result<()> {
        let path = format!("/2015-03-31/functions/{}/configuration", self.cloud.stack.function(function)?);
        // Lambda replaces the environments when the configuration is written, whatever changes in it.
        let same = json!({ "MemorySize": MEMORY_MEGABYTES }).to_string();
        let answer = self.cloud.aws.send("lambda", Method::PUT, &path, &[], same).await?;
        ensure!(answer.status.is_success(), "{function} can't be configured: {}", answer.text());
        Ok(())
    }

    /// Invokes a function as Lambda does with an event that EventBridge brings: twice more where it fails, each after a
    /// minute, which is not waited for. `keys` are the table's partitions that it writes to.
    pub async fn deliver(&self, function: &str, event: &Value, keys: &[String]) -> Result<Handled> {
        let mut errors = Vec::new();
        for tries in 1..=TRIES_MAX {
            match self.cloud.aws.try_invoke(self.cloud.stack.function(function)?, event).await? {
                Ok(_) => return Ok(Handled { tries, errors }),
                Err(error) => errors.push(error),
            }
            for key in keys {
                self.let_a_minute_pass(key).await?;
            }
        }
        Ok(Handled { tries: TRIES_MAX, errors })
    }

    /// Lets the notify function look around, as its schedule does.
    pub async fn look(&self) -> Result<()> {
        let _alone = self.looking.lock().await;
        self.cloud.look().await?;
        Ok(())
    }

    /// A minute passes for what a handler has taken for itself under a key of the table: it may be over then.
    async fn let_a_minute_pass(&self, key: &str) -> Result<()> {
        let table = self.cloud.stack.output("TableName")?;
        let query = json!({
            "TableName": table, "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": { ":pk": { "S": key } }, "ConsistentRead": true,
        });
        let items = self.cloud.aws.dynamodb("Query", &query).await?;
        for item in list(&items, "Items") {
            for name in ["lease_until", "telling_until", "tell_after"] {
                let until: i64 = text(&item[name], "N").parse().unwrap_or_default();
                if until > 0 {
                    let earlier = (until - A_MINUTE_MILLISECONDS).to_string();
                    self.set(item, name, &json!({ "N": earlier })).await?;
                }
            }
            let acting = item.pointer("/state/M/acting_until/S").and_then(Value::as_str);
            if let Some(until) = acting {
                let until = chrono::DateTime::parse_from_rfc3339(until)?.to_utc();
                let earlier = until - chrono::TimeDelta::milliseconds(A_MINUTE_MILLISECONDS);
                self.set(item, "#state.acting_until", &json!({ "S": earlier.to_rfc3339() })).await?;
            }
        }
        Ok(())
    }

    async fn set(&self, item: &Value, path: &str, value: &Value) -> Result<()> {
        let mut update = json!({
            "TableName": self.cloud.stack.output("TableName")?, "Key": { "pk": item["pk"], "sk": item["sk"] },
            "UpdateExpression": format!("SET {path} = :value"), "ExpressionAttributeValues": { ":value": value },
        });
        if path.starts_with('#') {
            update["ExpressionAttributeNames"] = json!({ "#state": "state" });
        }
        self.cloud.aws.dynamodb("UpdateItem", &update).await?;
        Ok(())
    }
}
