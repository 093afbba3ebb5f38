//! A local stand-in for Slack: the two ways a message gets there, and everybody's screen.
//!
//! It checks what Slack checks (token, channel, the limits of Block Kit), keeps every message with all its edits, and
//! misbehaves when a test asks for it.

mod render;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};

pub use self::render::plain;
use self::render::render;
use crate::fault::{Fault, Faults};
use crate::http::Server;
use crate::json::{self, list, text};

/// The bot token that the stand-in accepts.
pub const TOKEN: &str = "xoxb-local-cloud";
/// The channel that the bot is in.
pub const CHANNEL: &str = "C0TIDEGATE";
/// The path of the incoming webhook.
const WEBHOOK: &str = "/services/T0LOCAL/B0LOCAL/localcloud";

/// A message and everything that became of it.
#[derive(Debug, Clone)]
pub struct Message {
    /// The channel, or `webhook`.
    pub channel: String,
    /// Slack's timestamp, which identifies the message in its channel.
    pub ts: String,
    /// What was posted, then each edit of it.
    pub versions: Vec<Value>,
    /// The replies in its thread, oldest first.
    pub replies: Vec<Message>,
    /// Whether it is a reply that is shown in the channel too.
    pub is_broadcast: bool,
}

/// What the stand-in answered to one request.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When it came.
    pub at: Instant,
    /// The method, such as `chat.postMessage`, or `webhook`.
    pub method: String,
    /// The body of the request.
    pub body: Value,
    /// The status that was answered.
    pub status: u16,
    /// The `error` that was answered, empty when there was none.
    pub error: String,
}

/// The stand-in, which ends when it is dropped.
#[derive(Debug)]
pub struct Slack {
    server: Server,
    screen: Arc<Screen>,
}

#[derive(Debug)]
struct Screen {
    inner: Mutex<Inner>,
    faults: Faults,
}

#[derive(Debug)]
struct Inner {
    token: String,
    messages: Vec<Message>,
    exchanges: Vec<Exchange>,
    next_ts: u32,
}

impl Default for Screen {
    fn default() -> Self {
        let inner = Inner { token: TOKEN.to_owned(), messages: Vec::new(), exchanges: Vec::new(), next_ts: 0 };
        Self { inner: Mutex::new(inner), faults: Faults::default() }
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slack {
    /// Starts a stand-in.
    pub async fn start() -> Result<Self> {
        let screen = Arc::<Screen>::default();
        let app = Router::new()
            .route("/api/{method}", post(api))
            .route(WEBHOOK, post(webhook))
            .with_state(Arc::clone(&screen));
        Ok(Self { server: Server::start(app).await?, screen })
    }

    /// The base URL of the Web API.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.server.address)
    }

    /// The URL of the incoming webhook.
    pub fn webhook_url(&self) -> String {
        format!("http://{}{WEBHOOK}", self.server.address)
    }

    /// All messages, oldest first. Replies are with the message that they answer.
    pub fn messages(&self) -> Vec<Message> {
        self.screen.lock().messages.clone()
    }

    /// The messages whose small print, as it is now, contains `text`.
    pub fn messages_about(&self, text: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.foot().contains(text)).collect()
    }

    /// All requests whose body contains `text`, with their answers.
    pub fn exchanges_about(&self, text: &str) -> Vec<Exchange> {
        let about = |exchange: &&Exchange| exchange.body.to_string().contains(text);
        self.screen.lock().exchanges.iter().filter(about).cloned().collect()
    }

    /// Lets the next `times` requests whose body contains `text` end in a fault. Tests that run at the same time do
    /// not disturb each other that way.
    pub fn fail(&self, text: &str, fault: Fault, times: usize) {
        self.screen.faults.add(text, fault, times);
    }

    /// Ends the faults of requests whose body contains `text`.
    pub fn mend(&self, text: &str) {
        self.screen.faults.end(text);
    }

    /// Takes this token from now on, and no other: the one before was revoked.
    pub fn accept_only(&self, token: &str) {
        token.clone_into(&mut self.screen.lock().token);
    }
}

impl Message {
    /// What people see now.
    pub fn latest(&self) -> &Value {
        self.versions.last().unwrap_or(&Value::Null)
    }

    /// The small print at its end, by which each message is known: others may name the deployment too.
    fn foot(&self) -> String {
        let blocks = self.latest().get("blocks").and_then(Value::as_array);
        blocks.and_then(|blocks| blocks.last()).unwrap_or(self.latest()).to_string()
    }

    /// What people see now, as text.
    pub fn rendered(&self) -> String {
        render(self.latest())
    }

    /// What people see now who have opened its thread, as text.
    pub fn thread(&self) -> String {
        let mut lines = vec![self.rendered()];
        for reply in &self.replies {
            let mark = if reply.is_broadcast { "↳ (in the channel too) " } else { "↳ " };
            let reply = reply.rendered();
            let mut reply = reply.lines();
            lines.push(format!("  {mark}{}", reply.next().unwrap_or_default()));
            lines.extend(reply.map(|line| format!("    {line}")));
        }
        lines.join("\n")
    }
}

async fn api(
    State(screen): State<Arc<Screen>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Some(fault) = screen.faults.meet(&body.to_string()).await {
        return screen.misbehave(fault, method, body);
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
    let accepted = format!("Bearer {}", screen.lock().token);
    let result = if token == Some(&accepted) { screen.call(&method, &body) } else { Err("invalid_auth") };
    screen.note(method, body, StatusCode::OK, result.as_ref().err().copied().unwrap_or_default());
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => Json(json!({ "ok": false, "error": error })).into_response(),
    }
}

async fn webhook(State(screen): State<Arc<Screen>>, Json(body): Json<Value>) -> Response {
    let method = "webhook".to_owned();
    if let Some(fault) = screen.faults.meet(&body.to_string()).await {
        return screen.misbehave(fault, method, body);
    }
    match check(&body).and_then(|()| screen.post("webhook", &body)) {
        Ok(_) => {
            screen.note(method, body, StatusCode::OK, "");
            "ok".into_response()
        }
        Err(error) => {
            screen.note(method, body, StatusCode::BAD_REQUEST, error);
            (StatusCode::BAD_REQUEST, error).into_response()
        }
    }
}

impl Screen {
    fn call(&self, method: &str, body: &Value) -> Result<Value, &'static str> {
        let channel = text(body, "channel");
        match method {
            "chat.postMessage" | "chat.update" if channel != CHANNEL => Err("channel_not_found"),
            "chat.postMessage" => {
                check(body)?;
                let ts = self.post(channel, body)?;
                Ok(json!({ "ok": true, "channel": channel, "ts": ts, "message": body }))
            }
            "chat.update" => {
                check(body)?;
                let ts = text(body, "ts");
                let mut inner = self.lock();
                let message = find(&mut inner.messages, channel, ts).ok_or("message_not_found")?;
                message.versions.push(body.clone());
                Ok(json!({ "ok": true, "channel": channel, "ts": ts, "text": text(body, "text") }))
            }
            _ => Err("unknown_method"),
        }
    }

    fn post(&self, channel: &str, body: &Value) -> Result<String, &'static str> {
        let mut inner = self.lock();
        inner.next_ts += 1;
        let ts = format!("1793610000.{:06}", inner.next_ts);
        let message = Message {
            channel: channel.to_owned(),
            ts: ts.clone(),
            versions: vec![body.clone()],
            replies: Vec::new(),
            is_broadcast: body.get("reply_broadcast").is_some_and(|broadcast| broadcast == true),
        };
        let place = match body.get("thread_ts").and_then(Value::as_str) {
            None => &mut inner.messages,
            Some(parent) => {
                let mut messages = inner.messages.iter_mut();
                let parent = messages.find(|m| m.channel == channel && m.ts == parent).ok_or("thread_not_found")?;
                &mut parent.replies
            }
        };
        place.push(message);
        Ok(ts)
    }

    fn note(&self, method: String, body: Value, status: StatusCode, error: &str) {
        let exchange = Exchange { at: Instant::now(), method, body, status: status.as_u16(), error: error.to_owned() };
        self.lock().exchanges.push(exchange);
    }

    fn misbehave(&self, fault: Fault, method: String, body: Value) -> Response {
        match fault {
            Fault::RateLimited(seconds) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                self.note(method, body, status, "ratelimited");
                let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
                (status, retry_after, Json(json!({ "ok": false, "error": "ratelimited" }))).into_response()
            }
            // What is only late comes here no more.
            Fault::Broken | Fault::Late(_) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                self.note(method, body, status, "fault");
                (status, "internal error").into_response()
            }
            Fault::Refused(error) => {
                self.note(method, body, StatusCode::OK, error);
                Json(json!({ "ok": false, "error": error })).into_response()
            }
        }
    }
}

/// A message, or a reply in its thread.
fn find<'a>(messages: &'a mut [Message], channel: &str, ts: &str) -> Option<&'a mut Message> {
    for message in messages.iter_mut().filter(|message| message.channel == channel) {
        if message.ts == ts {
            return Some(message);
        }
        if let Some(reply) = message.replies.iter_mut().find(|reply| reply.ts == ts) {
            return Some(reply);
        }
    }
    None
}

/// What Slack refuses: a message without any text, and one beyond the limits of Block Kit.
fn check(body: &Value) -> Result<(), &'static str> {
    let text = text(body, "text");
    let attachments = list(body, "attachments");
    let inner = attachments.iter().flat_map(|attachment| list(attachment, "blocks"));
    if list(body, "blocks").len() > 50 || attachments.iter().any(|a| list(a, "blocks").len() > 50) {
        return Err("invalid_blocks");
    }
    let blocks: Vec<&Value> = list(body, "blocks").iter().chain(inner).collect();
    if text.is_empty() && blocks.is_empty() && attachments.is_empty() {
        return Err("no_text");
    }
    if text.chars().count() > 40_000 {
        return Err("msg_too_long");
    }
    if let Some(metadata) = body.get("metadata")
        && !(metadata["event_type"].is_string() && metadata["event_payload"].is_object())
    {
        return Err("invalid_metadata_format");
    }
    let mut ids: Vec<&str> = blocks.iter().map(|block| json::text(block, "block_id")).collect();
    ids.retain(|id| !id.is_empty());
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < all {
        return Err("invalid_blocks");
    }
    if blocks.into_iter().all(block_is_valid) { Ok(()) } else { Err("invalid_blocks") }
}

fn block_is_valid(block: &Value) -> bool {
    let text_fits = |object: Option<&Value>, limit: usize| {
        let text = object.and_then(|o| o.get("text")).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty() && text.chars().count() <= limit)
    };
    let kind = |object: Option<&Value>| object.and_then(|o| o.get("type")).and_then(Value::as_str).map(str::to_owned);
    match kind(Some(block)).as_deref() {
        Some("header") => kind(block.get("text")).as_deref() == Some("plain_text") && text_fits(block.get("text"), 150),
        Some("section") => {
            let fields = list(block, "fields");
            let text_is_valid = block.get("text").is_none_or(|text| text_fits(Some(text), 3000));
            let has_content = block.get("text").is_some() || !fields.is_empty();
            has_content
                && text_is_valid
                && fields.len() <= 10
                && fields.iter().all(|field| text_fits(Some(field), 2000))
        }
        Some("context") => {
            let elements = list(block, "elements");
            let valid = |e: &Value| kind(Some(e)).as_deref() == Some("image") || text_fits(Some(e), 3000);
            !elements.is_empty() && elements.len() <= 10 && elements.iter().all(valid)
        }
        Some("actions") => {
            let elements = list(block, "elements");
            (1..=25).contains(&elements.len()) && elements.iter().all(button_is_valid)
        }
        Some("rich_text") => !list(block, "elements").is_empty(),
        Some("divider" | "image") => true,
        _ => false,
    }
}

/// The limits of a button, the only element of actions that the stand-in knows.
fn button_is_valid(button: &Value) -> bool {
    let label = button.get("text").unwrap_or(&Value::Null);
    let fits = |name: &str, limit: usize| text(button, name).chars().count() <= limit;
    text(button, "type") == "button"
        && text(label, "type") == "plain_text"
        && (1..=75).contains(&text(label, "text").chars().count())
        && fits("url", 3000)
        && fits("value", 2000)
        && fits("action_id", 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_block_kit() {
        let section = |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
        let header = |kind: &str, text: String| json!({ "type": "header", "text": { "type": kind, "text": text } });
        let fields =
            |n: usize| json!({ "type": "section", "fields": vec![json!({ "type": "mrkdwn", "text": "a" }); n] });
        let context =
            |n: usize| json!({ "type": "context", "elements": vec![json!({ "type": "mrkdwn", "text": "a" }); n] });
        for (block, valid) in [
            (section("a".repeat(3000)), true),
            (section("a".repeat(3001)), false),
            (section(String::new()), false),
            (header("plain_text", "a".repeat(150)), true),
            (header("plain_text", "a".repeat(151)), false),
            (header("mrkdwn", "a".to_owned()), false),
            (fields(10), true),
            (fields(11), false),
            (context(10), true),
            (context(11), false),
            (json!({ "type": "table" }), false),
        ] {
            let expected = if valid { Ok(()) } else { Err("invalid_blocks") };
            assert_eq!(check(&json!({ "blocks": [block] })), expected, "{block}");
            assert_eq!(check(&json!({ "attachments": [{ "blocks": [block] }] })), expected, "{block}");
        }
        assert_eq!(check(&json!({ "blocks": vec![section("a".to_owned()); 51] })), Err("invalid_blocks"));
        assert_eq!(check(&json!({})), Err("no_text"));
        let twice = json!({ "type": "divider", "block_id": "head" });
        assert_eq!(check(&json!({ "blocks": [twice, twice] })), Err("invalid_blocks"));
        let metadata = |payload: Value| json!({ "text": "a", "metadata": { "event_type": "deployment", "event_payload": payload } });
        assert_eq!(check(&metadata(json!({ "id": "1" }))), Ok(()));
        assert_eq!(check(&metadata(json!("1"))), Err("invalid_metadata_format"));
    }

    #[test]
    fn limits_of_buttons() {
        let button = |label: &str, url: &str| json!({ "type": "button", "text": { "type": "plain_text", "text": label }, "url": url });
        for (button, valid) in [
            (button("Logs", "https://example.com"), true),
            (button(&"a".repeat(76), "https://example.com"), false),
            (button("Logs", &"a".repeat(3001)), false),
            (json!({ "type": "button", "text": { "type": "mrkdwn", "text": "Logs" } }), false),
        ] {
            let message = json!({ "blocks": [{ "type": "actions", "elements": [button] }] });
            assert_eq!(check(&message).is_ok(), valid, "{message}");
        }
    }

    #[test]
    fn a_reply_is_with_its_message() -> Result<(), &'static str> {
        let screen = Screen::default();
        let say = |body: Value| {
            let mut body = body;
            body["channel"] = json!(CHANNEL);
            screen.call(if body["ts"].is_string() { "chat.update" } else { "chat.postMessage" }, &body)
        };
        let message = say(json!({ "text": "web is rolling out" }))?;
        let reply = say(json!({ "text": "details", "thread_ts": message["ts"], "reply_broadcast": true }))?;
        say(json!({ "text": "web failed", "ts": message["ts"] }))?;
        say(json!({ "text": "more\ndetails", "ts": reply["ts"] }))?;
        assert_eq!(say(json!({ "text": "a", "thread_ts": reply["ts"] })), Err("thread_not_found"));
        assert_eq!(say(json!({ "text": "a", "ts": "1.2" })), Err("message_not_found"));
        let messages = screen.lock().messages.clone();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].thread(), "web failed\n  ↳ (in the channel too) more\n    details");
        Ok(())
    }
}
