//! Slack: one message for each deployment, kept true by updating it in place.
//!
//! With a bot token the message is posted once with
//! [chat.postMessage](https://docs.slack.dev/reference/methods/chat.postMessage) and then edited with
//! [chat.update](https://docs.slack.dev/reference/methods/chat.update). An
//! [incoming webhook](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks) can't edit, so it is
//! only told the outcome. Both speak through the HTTP stack of the SDK: one TLS provider, one place to cut the wire in
//! a test.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::message::render;
use crate::error::{Error, from_sdk};
use crate::platform::Platform;
use crate::record::Record;
use crate::settings::SlackSettings;

/// How often a request is repeated in one invocation when Slack does not answer as it should. A 429 does not count.
const ATTEMPTS_MAX: u32 = 3;
/// How long to wait where Slack says 429 and not for how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// Slack's API.
#[derive(Debug)]
pub struct Slack {
    http: SharedHttpConnector,
    ssm: Client,
    settings: SlackSettings,
    platform: Platform,
    /// Read at the first message and again when Slack refuses it: it may have been rotated.
    secret: Mutex<Option<SecretString>>,
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A new message stands in `channel`, known as `ts`.
    Posted {
        /// Id of the channel.
        channel: String,
        /// Slack's id of the message.
        ts: String,
    },
    /// The message was edited, or the webhook took it.
    Updated,
    /// This state is not for this way of telling.
    NothingToSay,
}

/// What Slack answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Ok(Value),
    /// Not now, but after this long.
    Limited(Duration),
    /// `ok: false`, with Slack's error code.
    Refused(String),
    /// A server error, or an answer that can't be read.
    Broken(String),
}

impl Slack {
    /// Slack over `http`, with its secret in the Parameter Store.
    #[must_use]
    pub fn new(http: SharedHttpConnector, ssm: Client, settings: SlackSettings, platform: Platform) -> Self {
        Self { http, ssm, settings, platform, secret: Mutex::default() }
    }

    /// Brings Slack up to `record`.
    ///
    /// # Errors
    /// [`Error::Slack`]; [`Error::Aws`] where the secret can't be read.
    pub async fn send(
        &self,
        record: &Record,
        environment: Option<&str>,
        deadline: DateTime<Utc>,
    ) -> Result<Sent, Error> {
        let message = render(record, environment);
        let body = with(
            &Map::new(),
            [
                ("text", json!(message.text)),
                ("blocks", message.blocks),
                ("unfurl_links", json!(false)),
                ("unfurl_media", json!(false)),
            ],
        );
        let secret = self.secret().await?;
        if secret.expose_secret().starts_with("https://") || secret.expose_secret().starts_with("http://") {
            if record.state.is_open() {
                return Ok(Sent::NothingToSay);
            }
            let url = secret.expose_secret().to_owned();
            self.call(&url, None, &body, deadline).await?.map_err(|code| self.refusal(&code))?;
            return Ok(Sent::Updated);
        }
        let mut answer = self.post_or_update(&secret, record, &body, deadline).await?;
        if answer.as_ref().is_err_and(|code| is_about_token(code)) {
            self.forget_secret();
            answer = self.post_or_update(&self.secret().await?, record, &body, deadline).await?;
        }
        answer.map_err(|code| self.refusal(&code))
    }

    /// Edits the message that the record knows of; posts one where it knows none, or where it was deleted.
    async fn post_or_update(
        &self,
        token: &SecretString,
        record: &Record,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Result<Sent, String>, Error> {
        if let (Some(channel), Some(ts)) = (&record.slack_channel, &record.slack_ts) {
            let body = with(body, [("channel", json!(channel)), ("ts", json!(ts))]);
            match self.method("chat.update", token, &body, deadline).await? {
                Ok(_) => return Ok(Ok(Sent::Updated)),
                Err(code) if code == "message_not_found" => {}
                Err(code) => return Ok(Err(code)),
            }
        }
        let channel = record.slack_channel.as_ref().or(self.settings.channel.as_ref()).ok_or_else(|| Error::Slack {
            reason: "there is no channel for it; set the stack's SlackChannel, or the service's tag tidegate:channel"
                .into(),
            transient: false,
        })?;
        // The repair path: should the message's id be lost, this finds it again.
        let metadata = json!({
            "event_type": "tidegate_deployment",
            "event_payload": {"id": record.id, "service": record.service, "cluster": record.cluster},
        });
        let body = with(body, [("channel", json!(channel)), ("metadata", metadata)]);
        Ok(self.method("chat.postMessage", token, &body, deadline).await?.map(|answer| {
            let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            Sent::Posted { channel: text("channel"), ts: text("ts") }
        }))
    }

    async fn method(
        &self,
        method: &str,
        token: &SecretString,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Result<Value, String>, Error> {
        self.call(&format!("{}/{method}", self.settings.api), Some(token), body, deadline).await
    }

    /// Calls Slack, waiting out its limits and repeating what did not reach it, as long as the invocation has time.
    /// The inner result is Slack's own word.
    async fn call(
        &self,
        url: &str,
        token: Option<&SecretString>,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Result<Value, String>, Error> {
        let mut attempts = 0;
        loop {
            let (wait, reason) = match self.request(url, token, body).await {
                Answer::Ok(answer) => return Ok(Ok(answer)),
                Answer::Refused(code) if !is_transient(&code) => return Ok(Err(code)),
                Answer::Limited(wait) => (wait, "it limits our rate (429)".to_owned()),
                Answer::Refused(reason) | Answer::Broken(reason) => {
                    attempts += 1;
                    (Duration::from_secs(1 << attempts.min(4)), reason)
                }
            };
            if attempts >= ATTEMPTS_MAX || !self.platform.sleep_before(deadline, wait).await {
                return Err(Error::Slack { reason, transient: true });
            }
        }
    }

    async fn request(&self, url: &str, token: Option<&SecretString>, body: &Map<String, Value>) -> Answer {
        let mut request = HttpRequest::new(SdkBody::from(json!(body).to_string()));
        if request.set_method("POST").is_err() || request.set_uri(url).is_err() {
            return Answer::Refused("invalid_url".into());
        }
        request.headers_mut().insert("content-type", "application/json; charset=utf-8");
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {}", token.expose_secret()));
        }
        // The error of a connection may hold the URL, and a webhook's URL is its secret.
        let Ok(response) = self.http.call(request).await else {
            return Answer::Broken("the connection failed".into());
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|seconds| seconds.trim().parse().ok());
        let body = match ByteStream::new(response.into_body()).collect().await {
            Ok(body) => body.into_bytes(),
            Err(_) => return Answer::Broken("its answer broke off".into()),
        };
        read_answer(status, retry_after, &body)
    }

    async fn secret(&self) -> Result<SecretString, Error> {
        if let Some(secret) = self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(secret);
        }
        let name = &self.settings.secret_name;
        let answer = self.ssm.get_parameter().name(name).with_decryption(true).send().await;
        let answer = answer.map_err(|error| match from_sdk("GetParameter", name, &error) {
            error if error.code() == Some("ParameterNotFound") => Error::Slack {
                reason: format!(
                    "there is no parameter {name}; put a bot token or the URL of an incoming webhook into a \
                     SecureString of that name"
                ),
                transient: false,
            },
            error => error,
        })?;
        let value = answer.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        let secret = SecretString::from(value.trim().to_owned());
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }

    fn forget_secret(&self) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the operator can do about Slack's refusals.
    fn refusal(&self, code: &str) -> Error {
        let advice = match code {
            "not_in_channel" | "channel_not_found" | "is_archived" => {
                "; invite the bot to the channel, and use the channel's id"
            }
            "missing_scope" => "; the bot needs the scope chat:write",
            code if is_about_token(code) => "; put a valid bot token into the SSM parameter",
            "no_service" | "invalid_token" | "no_active_hooks" => "; the incoming webhook is gone, make a new one",
            _ => "",
        };
        Error::Slack { reason: format!("{code}{advice}"), transient: false }
    }
}

/// `body` with more fields.
fn with<const N: usize>(body: &Map<String, Value>, more: [(&str, Value); N]) -> Map<String, Value> {
    let mut body = body.clone();
    body.extend(more.map(|(name, value)| (name.to_owned(), value)));
    body
}

fn is_about_token(code: &str) -> bool {
    matches!(code, "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive")
}

/// [Errors](https://docs.slack.dev/reference/methods/chat.postMessage#errors) that may pass.
fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "ratelimited" | "rate_limited" | "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout"
    )
}

/// The Web API answers 200 with `ok: false` when it refuses; a webhook answers `ok`, or an error code with 4xx.
fn read_answer(status: u16, retry_after_secs: Option<u64>, body: &[u8]) -> Answer {
    let text = || String::from_utf8_lossy(body.get(..body.len().min(100)).unwrap_or_default()).trim().to_owned();
    match status {
        429 => Answer::Limited(retry_after_secs.map_or(RETRY_AFTER_DEFAULT, Duration::from_secs)),
        500.. => Answer::Broken(format!("HTTP status {status}")),
        _ => match serde_json::from_slice::<Value>(body) {
            Ok(answer) if answer.get("ok") == Some(&Value::Bool(true)) => Answer::Ok(answer),
            Ok(answer) => {
                let code = answer.get("error").and_then(Value::as_str);
                Answer::Refused(code.map_or_else(|| format!("HTTP status {status}"), str::to_owned))
            }
            Err(_) if status == 200 && text() == "ok" => Answer::Ok(Value::Null),
            Err(_) if status == 200 => Answer::Broken("its answer can't be read".into()),
            Err(_) => Answer::Refused(text()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_200_with_ok_false_is_a_refusal() {
        let refused = read_answer(200, None, br#"{"ok":false,"error":"channel_not_found"}"#);
        assert_eq!(refused, Answer::Refused("channel_not_found".into()));
    }

    #[test]
    fn a_429_says_how_long_to_wait() {
        assert_eq!(read_answer(429, Some(7), b""), Answer::Limited(Duration::from_secs(7)));
        assert_eq!(read_answer(429, None, b""), Answer::Limited(RETRY_AFTER_DEFAULT));
    }

    #[test]
    fn a_webhook_answers_in_plain_words() {
        assert_eq!(read_answer(200, None, b"ok"), Answer::Ok(Value::Null));
        assert_eq!(read_answer(404, None, b"no_service"), Answer::Refused("no_service".into()));
    }

    #[test]
    fn what_is_no_answer_is_tried_again() {
        assert_eq!(read_answer(503, None, b"<html>"), Answer::Broken("HTTP status 503".into()));
        assert_eq!(read_answer(200, None, b"<html>"), Answer::Broken("its answer can't be read".into()));
    }
}
