//! Local stand-ins for those who are told besides Slack: New Relic, and a webhook of one's own.
//!
//! They check what the real ones check (the key, the shape, the signature), keep every request with its answer, and
//! misbehave when a test asks for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::post;
use bytes::Bytes;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::fault::{Fault, Faults};
use crate::http::Server;
use crate::json::text;

/// The user key that New Relic's stand-in accepts.
pub const NEWRELIC_KEY: &str = "NRAK-LOCALCLOUD0123456789ABC";
/// The secret that the webhook's stand-in checks signatures with.
pub const WEBHOOK_SECRET: &str = "whsec_bG93IHdhdGVyIGF0IHNldmVuLCBoaWdoIHdhdGVyIGF0IG9uZQ==";
/// How far from now a change may be, in milliseconds: New Relic takes only those of the last and the next day.
const DAY: u128 = 24 * 60 * 60 * 1000;

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// When it came.
    pub at: Instant,
    /// Its headers that tell something: all but those of HTTP itself and of secrets.
    pub headers: HeaderMap,
    /// Its body; null where that is not JSON.
    pub body: Value,
    /// The status that was answered.
    pub status: u16,
    /// Why it was refused; empty when it was not.
    pub error: String,
}

impl Request {
    /// Whether it was taken.
    pub fn is_accepted(&self) -> bool {
        self.error.is_empty()
    }
}

/// A stand-in, which ends when it is dropped.
#[derive(Debug)]
pub struct Sink {
    url: String,
    desk: Arc<Desk>,
    _server: Server,
}

/// Who checks a request: the reason to refuse it, with the status that says so.
type Check = fn(&HeaderMap, &[u8], &Value) -> Result<(), (StatusCode, String)>;
/// How an answer is put, given the reason of a refusal or none.
type Answer = fn(Option<&str>) -> Value;

#[derive(Debug)]
struct Desk {
    check: Check,
    answer: Answer,
    requests: Mutex<Vec<Request>>,
    faults: Faults,
}

impl Sink {
    /// Starts New Relic's `NerdGraph`, as far as change tracking goes.
    pub async fn newrelic() -> Result<Self> {
        Self::start("/graphql", check_change, graphql).await
    }

    /// Starts a webhook that takes what is signed as Standard Webhooks says.
    pub async fn webhook() -> Result<Self> {
        Self::start("/hooks/tidegate", check_signature, |error| json!({ "error": error })).await
    }

    async fn start(path: &str, check: Check, answer: Answer) -> Result<Self> {
        let desk = Arc::new(Desk { check, answer, requests: Mutex::default(), faults: Faults::default() });
        let server = Server::start(Router::new().route(path, post(serve)).with_state(Arc::clone(&desk))).await?;
        Ok(Self { url: format!("http://{}{path}", server.address), desk, _server: server })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All requests whose body contains `text`, with their answers, oldest first.
    pub fn requests_about(&self, text: &str) -> Vec<Request> {
        let requests = self.desk.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.body.to_string().contains(text)).cloned().collect()
    }

    /// The bodies of the requests about `text` that were accepted, oldest first.
    pub fn accepted_about(&self, text: &str) -> Vec<Value> {
        let requests = self.requests_about(text).into_iter();
        requests.filter(Request::is_accepted).map(|request| request.body).collect()
    }

    /// Lets the next `times` requests whose body contains `text` end in a fault.
    pub fn fail(&self, text: &str, fault: Fault, times: usize) {
        self.desk.faults.add(text, fault, times);
    }

    /// Ends the faults of requests whose body contains `text`.
    pub fn mend(&self, text: &str) {
        self.desk.faults.end(text);
    }
}

async fn serve(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let at = Instant::now();
    let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let fault = desk.faults.meet(&String::from_utf8_lossy(&body)).await;
    let (status, error) = match fault {
        Some(Fault::RateLimited(_)) => (StatusCode::TOO_MANY_REQUESTS, "rate limited".to_owned()),
        Some(Fault::Broken) => (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned()),
        Some(Fault::Refused(reason)) => (desk.refusal(), reason.to_owned()),
        Some(Fault::Late(_)) | None => match (desk.check)(&headers, &body, &parsed) {
            Ok(()) => (StatusCode::OK, String::new()),
            Err(refusal) => refusal,
        },
    };
    let answer = Json((desk.answer)(Some(error.as_str()).filter(|error| !error.is_empty())));
    let request = Request { at, headers: telling(headers), body: parsed, status: status.as_u16(), error };
    desk.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    match fault {
        Some(Fault::RateLimited(seconds)) => {
            (status, [(header::RETRY_AFTER, seconds.to_string())], answer).into_response()
        }
        _ => (status, answer).into_response(),
    }
}

impl Desk {
    /// The status of a refusal: GraphQL's errors come with a 200.
    fn refusal(&self) -> StatusCode {
        let is_graphql = (self.answer)(Some("")).get("errors").is_some();
        if is_graphql { StatusCode::OK } else { StatusCode::BAD_REQUEST }
    }
}

fn telling(mut headers: HeaderMap) -> HeaderMap {
    for name in ["host", "content-length", "accept", "api-key", "authorization"] {
        headers.remove(name);
    }
    headers
}

// --- New Relic ---

/// What `NerdGraph` checks of a
/// [change](https://docs.newrelic.com/docs/change-tracking/change-tracking-graphql/).
fn check_change(headers: &HeaderMap, _: &[u8], body: &Value) -> Result<(), (StatusCode, String)> {
    if headers.get("api-key").is_none_or(|key| key != NEWRELIC_KEY) {
        return Err((StatusCode::UNAUTHORIZED, "Bad API Key or no API Key provided".to_owned()));
    }
    let refuse = |reason: &str| Err((StatusCode::OK, reason.to_owned()));
    if !text(body, "query").contains("changeTrackingCreateEvent") {
        return refuse("the stand-in knows only the mutation changeTrackingCreateEvent");
    }
    let event = body.pointer("/variables/changeTrackingEvent").unwrap_or(&Value::Null);
    for required in ["/entitySearch/query", "/categoryAndTypeData/kind/category", "/categoryAndTypeData/kind/type"] {
        if event.pointer(required).and_then(Value::as_str).is_none_or(str::is_empty) {
            return refuse(&format!("changeTrackingEvent{required} is missing"));
        }
    }
    let is_deployment = event.pointer("/categoryAndTypeData/kind/category").is_some_and(|kind| kind == "DEPLOYMENT");
    let version = event.pointer("/categoryAndTypeData/categoryFields/deployment/version").and_then(Value::as_str);
    if is_deployment && version.is_none_or(str::is_empty) {
        return refuse("a DEPLOYMENT needs a version");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    match event.get("timestamp").map(|time| time.as_u64().map(u128::from)) {
        Some(Some(time)) if time.abs_diff(now) > DAY => refuse("timestamp is more than 24 hours from now"),
        Some(None) => refuse("timestamp is not in milliseconds"),
        _ => Ok(()),
    }
}

fn graphql(error: Option<&str>) -> Value {
    let event = json!({ "changeTrackingEvent": { "changeTrackingId": "7e1b7d4e-local" }, "messages": [] });
    match error {
        None => json!({ "data": { "changeTrackingCreateEvent": event } }),
        Some(message) => json!({ "data": { "changeTrackingCreateEvent": null }, "errors": [{ "message": message }] }),
    }
}

// --- The webhook ---

/// Checks what a receiver of [Standard Webhooks](https://www.standardwebhooks.com) checks, with the code that their
/// authors give receivers.
fn check_signature(headers: &HeaderMap, payload: &[u8], body: &Value) -> Result<(), (StatusCode, String)> {
    let refuse = |reason: String| (StatusCode::UNAUTHORIZED, reason);
    let webhook = Webhook::new(WEBHOOK_SECRET).map_err(|error| refuse(error.to_string()))?;
    webhook.verify(payload, headers).map_err(|error| refuse(error.to_string()))?;
    if body.is_null() {
        return Err((StatusCode::BAD_REQUEST, "the body is not JSON".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;
    use crate::http::{Http, Response};

    fn change() -> Value {
        let kind = json!({ "category": "DEPLOYMENT", "type": "ROLLING" });
        let fields = json!({ "deployment": { "version": "1.4.0" } });
        json!({
            "query": "mutation ($changeTrackingEvent: X) { changeTrackingCreateEvent(changeTrackingEvent: $changeTrackingEvent) { messages } }",
            "variables": { "changeTrackingEvent": {
                "entitySearch": { "query": "name = 'web'" },
                "categoryAndTypeData": { "kind": kind, "categoryFields": fields },
            } },
        })
    }

    async fn send(sink: &Sink, headers: &[(&str, &str)], body: &Value) -> Result<Response> {
        Http::default().send(Method::POST, sink.url(), headers, body.to_string()).await
    }

    #[tokio::test]
    async fn new_relic_takes_a_change_with_a_key_and_nothing_less() -> Result<()> {
        let newrelic = Sink::newrelic().await?;
        let key = [("api-key", NEWRELIC_KEY)];
        let mut changed = change();
        let without_key = send(&newrelic, &[], &changed).await?;
        assert_eq!(without_key.status, StatusCode::UNAUTHORIZED);
        let answer: Value = serde_json::from_slice(&send(&newrelic, &key, &changed).await?.body)?;
        assert_eq!(answer.get("errors"), None, "{answer}");
        for (pointer, wrong) in [
            ("/query", json!("query { actor { user { name } } }")),
            ("/variables/changeTrackingEvent/entitySearch", Value::Null),
            ("/variables/changeTrackingEvent/categoryAndTypeData/categoryFields", Value::Null),
            ("/variables/changeTrackingEvent/entitySearch", json!({ "query": "" })),
        ] {
            let mut wrongly = change();
            if let Some(place) = wrongly.pointer_mut(pointer) {
                *place = wrong;
            }
            let refused = send(&newrelic, &key, &wrongly).await?;
            assert_eq!(refused.status, StatusCode::OK);
            assert!(refused.text().contains("errors"), "{pointer}: {}", refused.text());
        }
        changed["variables"]["changeTrackingEvent"]["timestamp"] = json!(1_793_610_000);
        assert!(send(&newrelic, &key, &changed).await?.text().contains("24 hours"), "seconds, not milliseconds");
        assert_eq!(newrelic.accepted_about("1.4.0").len(), 1);
        assert!(!format!("{:?}", newrelic.requests_about("1.4.0")).contains(NEWRELIC_KEY));
        Ok(())
    }

    #[tokio::test]
    async fn the_webhook_takes_what_is_signed() -> Result<()> {
        let webhook = Sink::webhook().await?;
        let body = json!({ "service": "web" });
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let signature = |time: i64| Webhook::new(WEBHOOK_SECRET)?.sign("msg_1", time, body.to_string().as_bytes());
        let (good, old) = (signature(now)?, signature(now - 3600)?);
        for (time, signature, status) in [
            (now, good.as_str(), StatusCode::OK),
            (now - 3600, old.as_str(), StatusCode::UNAUTHORIZED),
            (now, "v1,AAAA", StatusCode::UNAUTHORIZED),
            (now + 1, good.as_str(), StatusCode::UNAUTHORIZED),
        ] {
            let time = time.to_string();
            let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", &*time), ("webhook-signature", signature)];
            assert_eq!(send(&webhook, &headers, &body).await?.status, status, "{time} {signature}");
        }
        assert_eq!(send(&webhook, &[], &body).await?.status, StatusCode::UNAUTHORIZED);
        assert_eq!(webhook.accepted_about("web"), [body]);
        Ok(())
    }

    #[tokio::test]
    async fn faults_are_answered_in_the_way_of_each() -> Result<()> {
        let (newrelic, webhook) = (Sink::newrelic().await?, Sink::webhook().await?);
        for sink in [&newrelic, &webhook] {
            sink.fail("web", Fault::RateLimited(7), 1);
            sink.fail("web", Fault::Broken, 1);
            sink.fail("web", Fault::Refused("not today"), 1);
        }
        let body = json!({ "service": "web" });
        for (sink, refusal) in [(&newrelic, StatusCode::OK), (&webhook, StatusCode::BAD_REQUEST)] {
            let limited = send(sink, &[], &body).await?;
            assert_eq!(limited.headers.get("retry-after").map(|value| value.as_bytes()), Some(&b"7"[..]));
            assert_eq!(send(sink, &[], &body).await?.status, StatusCode::INTERNAL_SERVER_ERROR);
            let refused = send(sink, &[], &body).await?;
            assert_eq!(refused.status, refusal);
            assert!(refused.text().contains("not today"));
            assert_eq!(sink.accepted_about("web"), Vec::<Value>::new());
        }
        Ok(())
    }
}
