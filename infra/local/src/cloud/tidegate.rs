//! What Tidegate has written down and told, and how to wake it.

use anyhow::{Context as _, Result};
use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{ANNOUNCEMENTS, CHAT, Cloud, EVENTS, LOOK, SWEEP, WATCH};
use crate::aws::{ACCOUNT, REGION};
use crate::json::{list, text};
use crate::{explain, listeners};

impl Cloud {
    /// All that the table holds of a service, as plain JSON: its records, oldest first, and its own item.
    pub async fn items(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        self.partition(&format!("SERVICE#{cluster}/{service}")).await
    }

    /// All items of the table under a partition key, in order.
    pub(crate) async fn partition(&self, key: &str) -> Result<Vec<Value>> {
        let input = json!({
            "TableName": self.stack.output("TableName")?,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": { ":pk": { "S": key } },
            "ConsistentRead": true,
        });
        self.query(&input).await
    }

    /// What an index of the table lists under a key, such as `days` under the `day` 2026-11-16, in the index's order.
    pub async fn listed(&self, index: &str, key: &str, value: &str) -> Result<Vec<Value>> {
        let input = json!({
            "TableName": self.stack.output("TableName")?,
            "IndexName": index,
            "KeyConditionExpression": "#key = :value",
            "ExpressionAttributeNames": { "#key": key },
            "ExpressionAttributeValues": { ":value": { "S": value } },
        });
        self.query(&input).await
    }

    async fn query(&self, input: &Value) -> Result<Vec<Value>> {
        let output = self.aws.dynamodb("Query", input).await?;
        Ok(list(&output, "Items").iter().map(|item| plain(&json!({ "M": item }))).collect())
    }

    /// The records of a service, oldest first: deployments by whomever, and decisions not to deploy.
    pub async fn history(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        let mut items = self.items(cluster, service).await?;
        items.retain(|item| text(item, "sk").starts_with("DEPLOYMENT#"));
        Ok(items)
    }

    /// The records of what Tidegate itself has deployed on a service, oldest first.
    pub async fn own_deployments(&self, cluster: &str, service: &str) -> Result<Vec<Value>> {
        let mut records = self.history(cluster, service).await?;
        records.retain(|record| text(record, "origin") != "external" && text(record, "state") != "skipped");
        Ok(records)
    }

    /// Waits until the last record of this digest on a service has this state, and returns it.
    pub async fn wait_for_record(&self, cluster: &str, service: &str, digest: &str, state: &str) -> Result<Value> {
        let what = format!("the last record of {digest} on {cluster}/{service} to be {state}");
        self.wait_for(&what, || async {
            let mut records = self.history(cluster, service).await?;
            let last = records.iter().rfind(|record| text(record, "digest") == digest).cloned();
            let is_it = last.as_ref().is_some_and(|last| text(last, "state") == state);
            Ok(last.filter(|_| is_it).ok_or_else(|| records.pop().unwrap_or_default().to_string()))
        })
        .await
    }

    /// Waits until everyone has been told of the deployment that a service was created with. Tidegate records it if the
    /// service follows an image that it runs.
    pub async fn wait_until_found(&self, cluster: &str, service: &str) -> Result<Value> {
        let what = format!("the first deployment of {cluster}/{service} to be recorded");
        let id = self
            .wait_for(&what, || async {
                let first = self.history(cluster, service).await?.into_iter().next();
                let id = first.as_ref().and_then(|first| first.get("id")).and_then(Value::as_str).map(str::to_owned);
                Ok(id.ok_or_else(|| "no record".to_owned()))
            })
            .await?;
        self.wait_until_told(cluster, service, &id).await
    }

    /// Waits until a record has an outcome that everyone has been told, and returns it.
    pub async fn wait_until_told(&self, cluster: &str, service: &str, id: &str) -> Result<Value> {
        self.wait_for(&format!("everyone to be told of {cluster}/{service} {id}"), || async {
            let records = self.history(cluster, service).await?;
            let record = records.into_iter().find(|record| text(record, "id") == id).unwrap_or_default();
            let is_open = ["", "intended", "rolling"].contains(&text(&record, "state"));
            let is_at_rest = !is_open && record.get("open").is_none();
            Ok(if is_at_rest { Ok(record) } else { Err(record.to_string()) })
        })
        .await
    }

    /// Waits until exactly one Slack message tells of this text, and its last version contains `word`.
    pub async fn wait_for_message(&self, about: &str, word: &str) -> Result<crate::slack::Message> {
        let what = format!("the Slack message about {about} to say {word:?}");
        self.wait_for(&what, || async {
            let messages = self.slack.messages_about(about);
            let seen = messages.iter().map(|m| m.rendered()).collect::<Vec<_>>().join("\n---\n");
            match &messages[..] {
                [message] if message.rendered().contains(word) => Ok(Ok(message.clone())),
                _ => Ok(Err(seen)),
            }
        })
        .await
    }

    /// The decisions that a function (such as `deploy`) logged, oldest first.
    pub async fn decisions(&self, function: &str) -> Result<Vec<Value>> {
        let mut lines = self.log_lines_with(function, "decision").await?;
        lines.retain(|line| line.get("message").is_some_and(|m| m == "decision"));
        Ok(lines)
    }

    /// What a function logged, line by line, as far as it is JSON.
    pub async fn log_lines(&self, function: &str) -> Result<Vec<Value>> {
        self.log_lines_with(function, "").await
    }

    async fn log_lines_with(&self, function: &str, word: &str) -> Result<Vec<Value>> {
        let lines = self.log(function, word).await?;
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(parsed.filter(Value::is_object).collect())
    }

    /// The lines of a function's log group that contain a word, as they are; all when it is empty.
    pub async fn log(&self, function: &str, word: &str) -> Result<Vec<String>> {
        let path = format!("/2015-03-31/functions/{}/configuration", self.stack.function(function)?);
        let configuration = self.aws.send("lambda", Method::GET, &path, &[], "").await?;
        let configuration: Value = serde_json::from_slice(&configuration.body)?;
        let group = configuration.pointer("/LoggingConfig/LogGroup").and_then(Value::as_str);
        let mut input = json!({
            "logGroupName": group.context("a function without a log group")?,
            "filterPattern": word,
        });
        let mut lines = Vec::new();
        loop {
            let output = self.aws.logs("FilterLogEvents", &input).await?;
            let events = list(&output, "events");
            lines.extend(events.iter().map(|event| text(event, "message").to_owned()));
            match output.get("nextToken").and_then(Value::as_str) {
                Some(token) if !events.is_empty() => input["nextToken"] = json!(token),
                _ => return Ok(lines),
            }
        }
    }

    /// Invokes a function and waits for its response.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        self.aws.invoke(self.stack.function(function)?, event).await
    }

    /// Asks a function what it would do about an event, and why.
    pub async fn explain(&self, function: &str, event: &Value) -> Result<Value> {
        explain::ask(&self.aws, &self.stack, function, event).await
    }

    /// Wakes the deploy function with what its schedule wakes it with, and waits for its response.
    pub async fn sweep(&self) -> Result<Value> {
        self.invoke("deploy", &self.input_of(SWEEP).await?).await
    }

    /// Wakes the notify function with what its schedule wakes it with, and waits for its response.
    pub async fn look(&self) -> Result<Value> {
        self.invoke("notify", &self.input_of(LOOK).await?).await
    }

    /// Wakes the rollback function with what its schedule wakes it with, and waits for its response.
    pub async fn watch(&self) -> Result<Value> {
        self.invoke("rollback", &self.input_of(WATCH).await?).await
    }

    /// What a schedule wakes its function with.
    pub(crate) async fn input_of(&self, schedule: &str) -> Result<Value> {
        let targets = self.aws.events("ListTargetsByRule", &json!({ "Rule": schedule })).await?;
        let input = targets.pointer("/Targets/0/Input").and_then(Value::as_str);
        Ok(serde_json::from_str(input.with_context(|| format!("the schedule {schedule} has no input"))?)?)
    }

    /// Hands an event to a function as EventBridge does: without waiting, and tried again when it fails.
    pub async fn deliver(&self, function: &str, event: &Value) -> Result<()> {
        self.aws.deliver(self.stack.function(function)?, event).await
    }

    /// The events that could not be handled, as they lie in the rejects queue.
    pub async fn rejects(&self) -> Result<Vec<Value>> {
        self.messages_in(self.stack.output("RejectsQueueUrl")?).await
    }

    /// What was published to the topic.
    pub async fn announcements(&self) -> Result<Vec<Value>> {
        self.messages_in(&listeners::queue_url(&self.aws, ANNOUNCEMENTS)).await
    }

    /// What was published to the topic for Amazon Q Developer.
    pub async fn chat(&self) -> Result<Vec<Value>> {
        self.messages_in(&listeners::queue_url(&self.aws, CHAT)).await
    }

    /// The events that Tidegate has sent, as EventBridge delivers them: the `CDEvent` is their `detail`.
    pub async fn cdevents(&self) -> Result<Vec<Value>> {
        self.messages_in(&listeners::queue_url(&self.aws, EVENTS)).await
    }

    /// Empties the queues of those who listen.
    pub async fn forget_what_was_told(&self) -> Result<()> {
        for queue in [ANNOUNCEMENTS, CHAT, EVENTS] {
            self.aws.sqs("PurgeQueue", &json!({ "QueueUrl": listeners::queue_url(&self.aws, queue) })).await?;
        }
        Ok(())
    }

    /// The last lines in a log stream, oldest first.
    pub async fn last_lines(&self, group: &str, stream: &str, lines: u32) -> Result<Vec<String>> {
        let input = json!({ "logGroupName": group, "logStreamName": stream, "limit": lines });
        let output = self.aws.logs("GetLogEvents", &input).await?;
        Ok(list(&output, "events").iter().map(|event| text(event, "message").to_owned()).collect())
    }

    /// Looks at a queue's messages without receiving them.
    pub async fn messages_in(&self, queue_url: &str) -> Result<Vec<Value>> {
        let url = format!("{}/_ministack/sqs/messages?QueueUrl={queue_url}", self.aws.endpoint());
        let response = self.aws.http.send(Method::GET, &url, &[], "").await?;
        let queues: Value = serde_json::from_slice(&response.body)?;
        let queues = queues.get("messages").and_then(|m| m.get(ACCOUNT)).and_then(|m| m.get(REGION));
        let messages = queues.and_then(|q| q.get(queue_url)).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(messages.iter().map(|m| parse_or_text(text(m, "Body"))).collect())
    }
}

/// A DynamoDB attribute value as plain JSON.
fn plain(attribute: &Value) -> Value {
    let Some((kind, value)) = attribute.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "M" => {
            let entries = value.as_object().into_iter().flatten();
            Value::Object(entries.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>())
        }
        "L" => value.as_array().into_iter().flatten().map(plain).collect(),
        "N" => value.as_str().map_or(Value::Null, parse_or_text),
        "NULL" => Value::Null,
        _ => value.clone(),
    }
}

fn parse_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_values_become_plain_json() {
        let item = json!({ "M": {
            "state": { "S": "rolling" }, "expires_at": { "N": "1793610000" }, "done": { "BOOL": false },
            "images": { "L": [{ "S": "a" }, { "NULL": true }] },
        } });
        let expected = json!({ "state": "rolling", "expires_at": 1_793_610_000, "done": false, "images": ["a", null] });
        assert_eq!(plain(&item), expected);
    }
}
