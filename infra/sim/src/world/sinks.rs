//! Who else is told of deployments: topics, EventBridge, New Relic, and a webhook.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::{Value, json};

use super::wire::Refusal;
use super::{CHAT, State};

/// How long a message or an entry may be, in bytes.
const LENGTH_MAX: usize = 262_144;

/// What the webhook was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Names are in lower case.
    pub headers: BTreeMap<String, String>,
    /// To the byte: it is signed.
    pub body: String,
}

impl State {
    pub(super) fn publish(&mut self, body: &Value) -> Result<Value, Refusal> {
        let (topic, message) = (body["TopicArn"].as_str().unwrap(), body["Message"].as_str().unwrap());
        if message.is_empty() || message.len() > LENGTH_MAX {
            return Err(("InvalidParameter", Value::Null));
        }
        let message = serde_json::from_str(message).unwrap();
        match topic {
            CHAT => self.chat.entry(topic.into()).or_default().push(message),
            _ if topic.ends_with(":outcomes") => self.published.push(message),
            _ => return Err(("NotFound", Value::Null)),
        }
        Ok(json!({"MessageId": "1"}))
    }

    /// Entries are refused one by one, in an answer that is none of a failure.
    pub(super) fn put_events(&mut self, body: &Value) -> Result<Value, Refusal> {
        let entries = body["Entries"].as_array().unwrap();
        if !(1..=10).contains(&entries.len()) || entries.iter().any(|entry| entry.to_string().len() > LENGTH_MAX) {
            return Err(("ValidationException", Value::Null));
        }
        let mut results = Vec::new();
        for entry in entries {
            let result = match self.events_refused.map_or_else(|| event(entry), Err) {
                Ok(event) => {
                    self.events.push(event);
                    json!({"EventId": format!("event-{}", self.events.len())})
                }
                Err(code) => json!({"ErrorCode": code, "ErrorMessage": "as AWS would say"}),
            };
            results.push(result);
        }
        let failed = results.iter().filter(|result| result["EventId"].is_null()).count();
        Ok(json!({"FailedEntryCount": failed, "Entries": results}))
    }

    /// `changeTrackingCreateEvent`. A refusal of GraphQL is answered with 200.
    pub(super) fn newrelic(&mut self, body: &Value, request: &HttpRequest) -> Result<Value, Refusal> {
        assert_eq!(request.method(), "POST");
        assert_eq!(request.headers().get("content-type"), Some("application/json"));
        if request.headers().get("api-key") != Some(&self.newrelic_key) {
            return Err(("Unauthorized", json!({"errors": [{"message": "Invalid API Key"}]})));
        }
        let mutates = body["query"].as_str().is_some_and(|query| query.contains("changeTrackingCreateEvent"));
        let unfit =
            (!mutates || !body["variables"]["changeTrackingEvent"].is_object()).then_some("Argument is missing");
        if let Some(message) = self.newrelic_refuses.or(unfit) {
            let error = json!({"message": message, "path": ["changeTrackingCreateEvent"]});
            return Ok(json!({"data": {"changeTrackingCreateEvent": null}, "errors": [error]}));
        }
        self.newrelic.push(body.clone());
        let id = format!("tracking-{}", self.newrelic.len());
        let created = json!({"changeTrackingEvent": {"changeTrackingId": id}, "messages": []});
        Ok(json!({"data": {"changeTrackingCreateEvent": created}}))
    }

    pub(super) fn hook(&mut self, request: &HttpRequest) -> Result<Value, Refusal> {
        assert_eq!(request.method(), "POST");
        let headers = request.headers().iter().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let body = String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap();
        self.hooks.push(Hook { headers, body });
        Ok(json!(""))
    }
}

/// The event that an entry is, or the code with which it is refused.
fn event(entry: &Value) -> Result<Value, &'static str> {
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty()).ok_or("InvalidArgument");
    let (source, _, detail) = (text("Source")?, text("DetailType")?, text("Detail")?);
    if source.starts_with("aws.") {
        return Err("NotAuthorizedForSourceException");
    }
    let detail: Value = serde_json::from_str(detail).ok().filter(Value::is_object).ok_or("MalformedDetail")?;
    let mut event = entry.clone();
    event["Detail"] = detail;
    Ok(event)
}
