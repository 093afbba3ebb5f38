//! Slack's Web API.

use serde_json::{Value, json};

use super::State;

impl State {
    pub(super) fn slack(&mut self, method: &str, body: &Value, authorization: &str) -> Value {
        if authorization != format!("Bearer {}", self.slack_secret) {
            return refused("invalid_auth");
        }
        let thread = body["thread_ts"].as_str();
        assert!(
            thread.is_some() || method == "chat.update" || body.get("reply_broadcast").is_none(),
            "no reply: {body}"
        );
        // No two messages have one id, wherever they are.
        let replies: usize = self.slack_threads.values().map(|replies| replies.len()).sum();
        let next = format!("1794819600.{:06}", self.slack.len() + replies);
        let (ts, versions) = match (method, thread) {
            ("chat.update", _) => {
                let ts = body["ts"].as_str().unwrap().to_owned();
                let mut replies = self.slack_threads.values_mut();
                let found = self.slack.get_mut(&ts).or_else(|| replies.find_map(|replies| replies.get_mut(&ts)));
                // A message is known by its channel too.
                match found.filter(|versions| versions[0]["channel"] == body["channel"]) {
                    Some(versions) => (ts, versions),
                    None => return refused("message_not_found"),
                }
            }
            (_, Some(parent)) => {
                let found = self.slack.get(parent).filter(|versions| versions[0]["channel"] == body["channel"]);
                if found.is_none() {
                    return refused("thread_not_found");
                }
                let replies = self.slack_threads.entry(parent.to_owned()).or_default();
                (next.clone(), replies.entry(next).or_default())
            }
            _ => (next.clone(), self.slack.entry(next).or_default()),
        };
        versions.push(body.clone());
        json!({"ok": true, "channel": body["channel"], "ts": ts})
    }
}

fn refused(code: &str) -> Value {
    json!({"ok": false, "error": code})
}
