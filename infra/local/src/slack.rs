//! A local stand-in for Slack: the two ways a message gets there, and everybody's screen.
//!
//! It checks what Slack checks (token, channel, the limits of Block Kit), keeps every message with all its edits, and
//! misbehaves when a test asks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::http::Server;
use crate::json::{list, text};

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

/// How the stand-in misbehaves.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Answers 429 with this `Retry-After`, in seconds.
    RateLimited(u64),
    /// Answers 500.
    Broken,
}

/// The stand-in, which ends when it is dropped.
#[derive(Debug)]
pub struct Slack {
    server: Server,
    screen: Arc<Screen>,
}

#[derive(Debug, Default)]
struct Screen(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<Message>,
    exchanges: Vec<Exchange>,
    faults: Vec<(String, Fault, usize)>,
    next_ts: u32,
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// All messages, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.screen.lock().messages.clone()
    }

    /// The messages whose last version contains `text`.
    pub fn messages_about(&self, text: &str) -> Vec<Message> {
        self.messages().into_iter().filter(|message| message.latest().to_string().contains(text)).collect()
    }

    /// All requests whose body contains `text`, with their answers.
    pub fn exchanges_about(&self, text: &str) -> Vec<Exchange> {
        let about = |exchange: &&Exchange| exchange.body.to_string().contains(text);
        self.screen.lock().exchanges.iter().filter(about).cloned().collect()
    }

    /// Lets the next `times` requests whose body contains `text` end in a fault. Tests that run at the same time do
    /// not disturb each other that way.
    pub fn fail(&self, text: &str, fault: Fault, times: usize) {
        self.screen.lock().faults.push((text.to_owned(), fault, times));
    }
}

impl Message {
    /// What people see now.
    pub fn latest(&self) -> &Value {
        self.versions.last().unwrap_or(&Value::Null)
    }

    /// What people see now, as text.
    pub fn rendered(&self) -> String {
        render(self.latest())
    }
}

async fn api(
    State(screen): State<Arc<Screen>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Some(fault) = screen.take_fault(&body) {
        return screen.misbehave(fault, method, body);
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
    let result =
        if token == Some(&format!("Bearer {TOKEN}")) { screen.call(&method, &body) } else { Err("invalid_auth") };
    screen.note(method, body, StatusCode::OK, result.as_ref().err().copied().unwrap_or_default());
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => Json(json!({ "ok": false, "error": error })).into_response(),
    }
}

async fn webhook(State(screen): State<Arc<Screen>>, Json(body): Json<Value>) -> Response {
    let method = "webhook".to_owned();
    if let Some(fault) = screen.take_fault(&body) {
        return screen.misbehave(fault, method, body);
    }
    match check(&body) {
        Ok(()) => {
            screen.post("webhook", &body);
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
                let ts = self.post(channel, body);
                Ok(json!({ "ok": true, "channel": channel, "ts": ts, "message": body }))
            }
            "chat.update" => {
                check(body)?;
                let ts = text(body, "ts");
                let mut inner = self.lock();
                let mut messages = inner.messages.iter_mut();
                let message = messages.find(|m| m.channel == channel && m.ts == ts).ok_or("message_not_found")?;
                message.versions.push(body.clone());
                Ok(json!({ "ok": true, "channel": channel, "ts": ts, "text": text(body, "text") }))
            }
            _ => Err("unknown_method"),
        }
    }

    fn post(&self, channel: &str, body: &Value) -> String {
        let mut inner = self.lock();
        inner.next_ts += 1;
        let ts = format!("1793610000.{:06}", inner.next_ts);
        inner.messages.push(Message { channel: channel.to_owned(), ts: ts.clone(), versions: vec![body.clone()] });
        ts
    }

    fn note(&self, method: String, body: Value, status: StatusCode, error: &str) {
        let exchange = Exchange { at: Instant::now(), method, body, status: status.as_u16(), error: error.to_owned() };
        self.lock().exchanges.push(exchange);
    }

    fn take_fault(&self, body: &Value) -> Option<Fault> {
        let body = body.to_string();
        let mut inner = self.lock();
        let (_, fault, times) = inner.faults.iter_mut().find(|(text, _, times)| *times > 0 && body.contains(text))?;
        *times -= 1;
        Some(*fault)
    }

    fn misbehave(&self, fault: Fault, method: String, body: Value) -> Response {
        match fault {
            Fault::RateLimited(seconds) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                self.note(method, body, status, "ratelimited");
                let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
                (status, retry_after, Json(json!({ "ok": false, "error": "ratelimited" }))).into_response()
            }
            Fault::Broken => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                self.note(method, body, status, "fault");
                (status, "internal error").into_response()
            }
        }
    }
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
        Some("actions") => (1..=25).contains(&list(block, "elements").len()),
        Some("divider" | "image" | "rich_text") => true,
        _ => false,
    }
}

/// A message as a person sees it, in plain text.
pub fn render(body: &Value) -> String {
    let attachments = list(body, "attachments").iter().flat_map(|attachment| list(attachment, "blocks"));
    let blocks: Vec<String> = list(body, "blocks").iter().chain(attachments).map(render_block).collect();
    let text = match blocks.is_empty() {
        true => plain(text(body, "text")),
        false => blocks.join("\n"),
    };
    text.trim_end().to_owned()
}

fn render_block(block: &Value) -> String {
    let own_text = |object: &Value| plain(text(object, "text"));
    let own = block.get("text").map(own_text);
    match text(block, "type") {
        "divider" => "────────".to_owned(),
        "context" => list(block, "elements").iter().map(own_text).collect::<Vec<_>>().join("  "),
        "actions" => {
            let label = |button: &Value| format!("[{}]", button.get("text").map(own_text).unwrap_or_default());
            list(block, "elements").iter().map(label).collect::<Vec<_>>().join(" ")
        }
        _ => {
            let field = |field: &Value| own_text(field).replacen('\n', ": ", 1);
            let fields = list(block, "fields").iter().map(field).collect::<Vec<_>>().join("   ");
            own.into_iter().chain(Some(fields).filter(|fields| !fields.is_empty())).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Slack's mrkdwn as plain text: marks removed, links as their texts, the emoji that Tidegate uses as characters.
fn plain(mrkdwn: &str) -> String {
    let mut text = String::new();
    let mut rest = mrkdwn;
    while let Some((before, link)) = rest.split_once('<') {
        text.push_str(before);
        let Some((link, after)) = link.split_once('>') else {
            rest = link;
            break;
        };
        text.push_str(link.split_once('|').map_or(link, |(_, label)| label));
        rest = after;
    }
    text.push_str(rest);
    for (name, emoji) in EMOJI {
        text = text.replace(name, emoji);
    }
    text.replace(['*', '`'], "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

const EMOJI: [(&str, &str); 14] = [
    (":arrows_counterclockwise:", "🔄"),
    (":black_square_for_stop:", "⏹"),
    (":fast_forward:", "⏩"),
    (":hourglass_flowing_sand:", "⏳"),
    (":large_blue_circle:", "🔵"),
    (":leftwards_arrow_with_hook:", "↩"),
    (":no_entry:", "⛔"),
    (":red_circle:", "🔴"),
    (":rewind:", "⏪"),
    (":rocket:", "🚀"),
    (":ship:", "🚢"),
    (":warning:", "⚠"),
    (":white_check_mark:", "✅"),
    (":x:", "❌"),
];

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
    }

    #[test]
    fn a_message_as_people_see_it() {
        let message = json!({
            "text": "not shown",
            "blocks": [
                { "type": "section", "text": { "type": "mrkdwn", "text": ":white_check_mark: *web* is live" } },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": "<https://example.com/1|8f4e2d1> &amp; more" }] },
            ],
        });
        assert_eq!(render(&message), "✅ web is live\n8f4e2d1 & more");
        assert_eq!(render(&json!({ "text": "a < b" })), "a  b");
    }
}
