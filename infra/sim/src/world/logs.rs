//! CloudWatch Logs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::wire::Refusal;
use super::{State, World};

/// The events of each log group's stream, oldest first: when, in milliseconds since 1970, and what.
pub(super) type Logs = BTreeMap<(String, String), Vec<(u64, String)>>;

impl World {
    /// Writes these lines into a stream, now.
    pub fn log(&self, group: &str, stream: &str, lines: &[&str]) {
        let now = (self.seconds() * 1000.0) as u64;
        let mut state = self.state();
        let events = state.logs.entry((group.into(), stream.into())).or_default();
        events.extend(lines.iter().map(|line| (now, (*line).to_owned())));
    }
}

impl State {
    pub(super) fn get_log_events(&self, body: &Value) -> Result<Value, Refusal> {
        assert_eq!(body.get("unmask"), None, "nobody may see what is masked");
        let text = |name: &str| body[name].as_str();
        let group = match (text("logGroupName"), text("logGroupIdentifier")) {
            (Some(name), None) => name,
            (None, Some(id)) => id.rsplit_once(":log-group:").map_or(id, |(_, name)| name),
            _ => return Err(("InvalidParameterException", Value::Null)),
        };
        let stream = text("logStreamName").unwrap();
        let events = self.logs.get(&(group.to_owned(), stream.to_owned()));
        let events = events.ok_or_else(|| {
            let what = if self.logs.keys().any(|(known, _)| known == group) { "stream" } else { "group" };
            ("ResourceNotFoundException", json!({"message": format!("The specified log {what} does not exist.")}))
        })?;
        let (from, to) = (body["startTime"].as_u64().unwrap_or(0), body["endTime"].as_u64().unwrap_or(u64::MAX));
        let events: Vec<_> = events.iter().filter(|(at, _)| (from..to).contains(at)).collect();
        let limit = body["limit"].as_u64().unwrap_or(10_000) as usize;
        if !(1..=10_000).contains(&limit) {
            return Err(("InvalidParameterException", Value::Null));
        }
        // A token is the way, and where from. The end of a stream gives the token that led there.
        let forward = body["startFromHead"] == true;
        let first = if forward { "f/0".to_owned() } else { format!("b/{}", events.len()) };
        let (way, place) = text("nextToken").unwrap_or(&first).split_once('/').unwrap();
        let place = place.parse::<usize>().unwrap().min(events.len());
        let page = match way {
            "f" if !forward => return Err(("InvalidParameterException", Value::Null)),
            "f" => place..events.len().min(place + limit),
            _ => place.saturating_sub(limit)..place,
        };
        let shown: Vec<Value> = events[page.clone()]
            .iter()
            .map(|(at, message)| json!({"timestamp": at, "message": message, "ingestionTime": at + 500}))
            .collect();
        Ok(json!({
            "events": shown, "nextBackwardToken": format!("b/{}", page.start),
            "nextForwardToken": format!("f/{}", page.end),
        }))
    }
}
