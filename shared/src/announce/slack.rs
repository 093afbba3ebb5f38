//! Slack: one message for each deployment, kept true by updating it in place, with the details in its thread.
//!
//! With a bot token the message is posted once with
//! [chat.postMessage](https://docs.slack.dev/reference/methods/chat.postMessage) and then edited with
//! [chat.update](https://docs.slack.dev/reference/methods/chat.update). An
//! [incoming webhook](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks) can't edit, so it is
//! told the outcome, and the start only where a rollout takes long.

use aws_sdk_ssm::Client;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::delivery::{Answer, RETRY_AFTER_DEFAULT, Refusal, insist, with_secret};
use super::message::rollback::is_held;
use super::message::{Details, Message, details, render};
use crate::error::Error;
use crate::http::{Http, Response};
use crate::platform::Platform;
use crate::record::Record;
use crate::secrets::Secret;
use crate::settings::SlackSettings;

const SINK: &str = "Slack";

/// How long a rollout takes before a webhook is told that it goes on.
const LONG: TimeDelta = TimeDelta::minutes(5);

/// In place of the id of a message that a webhook has taken: Slack does not tell it.
const WEBHOOK: &str = "webhook";

/// Slack's API.
#[derive(Debug)]
pub struct Slack {
    http: Http,
    settings: SlackSettings,
    platform: Platform,
    secret: Secret,
}

/// Where a message is, or goes.
#[derive(Debug)]
struct Place<'a> {
    /// The channel and Slack's id of a message that can be edited.
    known: Option<(&'a str, &'a str)>,
    /// The channel for a new one.
    channel: Option<&'a str>,
    metadata: Option<Value>,
}

impl<'a> Place<'a> {
    fn of(record: &'a Record) -> Self {
        // The repair path: should the message's id be lost, this finds it again.
        let metadata = json!({
            "event_type": "tidegate_deployment",
            "event_payload": {"id": record.id, "service": record.service, "cluster": record.cluster},
        });
        let channel = record.slack_channel.as_deref().filter(|channel| *channel != WEBHOOK);
        Self { known: message_of(record), channel, metadata: Some(metadata) }
    }
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
    /// This state is not for this way of telling yet.
    NotYet,
}

impl Slack {
    /// Slack over `http`, with its secret in the Parameter Store.
    #[must_use]
    pub fn new(http: Http, ssm: Client, settings: SlackSettings, platform: Platform) -> Self {
        let secret = Secret::new(ssm, &settings.secret_name, SINK, "a bot token or the URL of an incoming webhook");
        Self { http, settings, platform, secret }
    }

    /// Brings Slack up to `record`.
    ///
    /// # Errors
    /// [`Error::Sink`]; [`Error::Aws`] where the secret can't be read.
    pub async fn send(&self, record: &Record, deadline: DateTime<Utc>) -> Result<Sent, Error> {
        let body = &body_of(&render(record));
        let send = async |secret: SecretString| match is_url(&secret) {
            true => self.tell_webhook(&secret, record, body, deadline).await,
            false => self.post_or_update(&secret, Place::of(record), body, deadline).await,
        };
        self.with_secret(send).await
    }

    /// Brings Slack's message about something else than a deployment up to `message`: the one `known` by its channel and
    /// Slack's id of it, or a new one in `channel`, or else the stack's.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn tell(
        &self,
        known: Option<(&str, &str)>,
        channel: Option<&str>,
        message: &Message,
        deadline: DateTime<Utc>,
    ) -> Result<Sent, Error> {
        let body = &body_of(message);
        let send = async |secret: SecretString| match is_url(&secret) {
            true => {
                self.call(secret.expose_secret(), None, body, deadline).await?;
                Ok(Sent::Updated)
            }
            false => self.post_or_update(&secret, Place { known, channel, metadata: None }, body, deadline).await,
        };
        self.with_secret(send).await
    }

    /// Posts what people may want to know beyond the message of `record` into its thread; the id of that reply, or `None`
    /// where there is nothing to say.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_details(&self, record: &Record, deadline: DateTime<Utc>) -> Result<Option<String>, Error> {
        let (Some((channel, thread)), Some(Details { message, broadcast })) = (message_of(record), details(record))
        else {
            return Ok(None);
        };
        if is_url(&self.secret.read().await?) {
            return Ok(None);
        }
        let place = [("channel", json!(channel)), ("thread_ts", json!(thread)), ("reply_broadcast", json!(broadcast))];
        let body = &with(&body_of(&message), place);
        let post = async |token: SecretString| self.method("chat.postMessage", &token, body, deadline).await;
        let answer = self.with_secret(post).await?;
        Ok(Some(text(&answer, "ts")))
    }

    /// Calls with the secret, and tells the operator what to do where Slack refuses.
    async fn with_secret<T>(&self, call: impl AsyncFn(SecretString) -> Result<T, Refusal>) -> Result<T, Error> {
        let is_about_secret = |code: &str| is_about_token(code) || is_about_webhook(code);
        let answer = with_secret(&self.secret, is_about_secret, call).await?;
        answer.map_err(|refusal| advised(refusal).of(SINK))
    }

    async fn tell_webhook(
        &self,
        url: &SecretString,
        record: &Record,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Sent, Refusal> {
        // What it has taken can't be edited: more to say of the same is left out.
        if record.told.slack >= record.version {
            return Ok(Sent::NothingToSay);
        }
        let is_start = record.state.is_open();
        if is_start && record.slack_ts.is_some() {
            return Ok(Sent::NothingToSay);
        }
        if is_start && record.started_at.is_none_or(|started| self.platform.now() - started < LONG) {
            return Ok(Sent::NotYet);
        }
        self.call(url.expose_secret(), None, body, deadline).await?;
        Ok(match is_start {
            true => Sent::Posted { channel: WEBHOOK.into(), ts: WEBHOOK.into() },
            false => Sent::Updated,
        })
    }

    /// Edits the message that is known; posts one where none is, or where it was deleted.
    async fn post_or_update(
        &self,
        token: &SecretString,
        place: Place<'_>,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Sent, Refusal> {
        if let Some((channel, ts)) = place.known {
            let body = with(body, [("channel", json!(channel)), ("ts", json!(ts))]);
            match self.method("chat.update", token, &body, deadline).await {
                Err(refusal) if refusal.reason == "message_not_found" => {}
                answer => return answer.map(|_| Sent::Updated),
            }
        }
        let channel = place.channel.or(self.settings.channel.as_deref()).ok_or_else(|| Refusal {
            reason: "there is no channel for it; set the stack's SlackChannel, or the service's tag tidegate:channel"
                .into(),
            transient: false,
        })?;
        let mut body = with(body, [("channel", json!(channel))]);
        body.extend(place.metadata.map(|metadata| ("metadata".to_owned(), metadata)));
        let answer = self.method("chat.postMessage", token, &body, deadline).await?;
        Ok(Sent::Posted { channel: text(&answer, "channel"), ts: text(&answer, "ts") })
    }

    async fn method(
        &self,
        method: &str,
        token: &SecretString,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Value, Refusal> {
        self.call(&format!("{}/{method}", self.settings.api), Some(token), body, deadline).await
    }

    async fn call(
        &self,
        url: &str,
        token: Option<&SecretString>,
        body: &Map<String, Value>,
        deadline: DateTime<Utc>,
    ) -> Result<Value, Refusal> {
        let mut headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        headers.extend(token.map(|token| ("authorization", format!("Bearer {}", token.expose_secret()))));
        let body = json!(body).to_string();
        let request = async || Answer::of(self.http.post(url, &headers, body.clone()).await, read_answer);
        insist(&self.platform, deadline, request).await
    }
}

/// The message of `record` as its channel and Slack's id of it, where it has one that can be edited and linked to.
#[must_use]
pub fn message_of(record: &Record) -> Option<(&str, &str)> {
    let (channel, ts) = (record.slack_channel.as_deref()?, record.slack_ts.as_deref()?);
    (ts != WEBHOOK).then_some((channel, ts))
}

/// Whether there are details of `record` that are not in the thread of its message yet. A call for a person comes by
/// itself where the details are there before.
#[must_use]
pub fn owes_details(record: &Record) -> bool {
    let is_there = record.slack_details_ts.is_some() && (record.slack_details_call || !is_held(record));
    message_of(record).is_some() && !is_there && details(record).is_some()
}

/// Whether what is known of the other side of a rollback is not in the message of `record` yet.
#[must_use]
pub fn owes_links(record: &Record) -> bool {
    message_of(record).is_some() && record.links_told < record.links_changed
}

/// Whether the secret is that of a webhook.
fn is_url(secret: &SecretString) -> bool {
    secret.expose_secret().starts_with("https://") || secret.expose_secret().starts_with("http://")
}

fn body_of(message: &Message) -> Map<String, Value> {
    with(
        &Map::new(),
        [
            ("text", json!(message.text)),
            ("blocks", message.blocks.clone()),
            ("unfurl_links", json!(false)),
            ("unfurl_media", json!(false)),
        ],
    )
}

/// `body` with more fields.
fn with<const N: usize>(body: &Map<String, Value>, more: [(&str, Value); N]) -> Map<String, Value> {
    let mut body = body.clone();
    body.extend(more.map(|(name, value)| (name.to_owned(), value)));
    body
}

fn text(answer: &Value, key: &str) -> String {
    answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What the operator can do about Slack's refusals.
fn advised(Refusal { reason, transient }: Refusal) -> Refusal {
    let advice = match reason.as_str() {
        "not_in_channel" | "channel_not_found" | "is_archived" => {
            "; invite the bot to the channel, and use the channel's id"
        }
        "missing_scope" => "; the bot needs the scope chat:write",
        code if is_about_token(code) => "; put a valid bot token into the SSM parameter",
        code if is_about_webhook(code) => {
            "; the incoming webhook is gone, make a new one and put its URL into the SSM parameter"
        }
        _ => "",
    };
    Refusal { reason: format!("{reason}{advice}"), transient }
}

/// Whether it is an error code of Slack's: a few words in lower case.
fn is_code(code: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    !code.is_empty() && code.len() <= 60 && code.bytes().all(is_fit)
}

fn is_about_token(code: &str) -> bool {
    matches!(code, "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive")
}

/// [Errors](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors) of a webhook that
/// is not there, as after it was made anew.
fn is_about_webhook(code: &str) -> bool {
    matches!(code, "no_service" | "invalid_token" | "no_active_hooks" | "no_team" | "team_disabled")
}

/// [Errors](https://docs.slack.dev/reference/methods/chat.postMessage#errors) that may pass.
fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "ratelimited" | "rate_limited" | "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout"
    )
}

/// The Web API answers 200 with `ok: false` when it refuses; a webhook answers `ok`, or an error code with 4xx. Nothing
/// else is repeated: who answers in Slack's place may name the URL, which is a secret.
#[must_use]
pub fn read_answer(Response { status, retry_after, body }: &Response) -> Answer<Value> {
    let text = || str::from_utf8(body).unwrap_or_default().trim();
    let refused = |code: &str| match code {
        code if !is_code(code) => Answer::Refused(format!("HTTP status {status}")),
        code if is_transient(code) => Answer::Broken(code.to_owned()),
        code => Answer::Refused(code.to_owned()),
    };
    match status {
        429 => Answer::Limited(retry_after.unwrap_or(RETRY_AFTER_DEFAULT)),
        500.. => Answer::Broken(format!("HTTP status {status}")),
        _ => match serde_json::from_slice::<Value>(body) {
            Ok(answer) if answer.get("ok") == Some(&Value::Bool(true)) => Answer::Ok(answer),
            Ok(answer) => refused(answer.get("error").and_then(Value::as_str).unwrap_or_default()),
            Err(_) if *status == 200 && text() == "ok" => Answer::Ok(Value::Null),
            Err(_) if *status == 200 => Answer::Broken("its answer can't be read".into()),
            Err(_) => refused(text()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::announce::message::examples::recovery;
    use crate::diagnosis::{Diagnosis, LogTail};
    use crate::record::State;
    use crate::record::tests::record;

    fn read_answer(status: u16, retry_after_secs: Option<u64>, body: &[u8]) -> Answer<Value> {
        let retry_after = retry_after_secs.map(Duration::from_secs);
        super::read_answer(&Response { status, retry_after, body: body.to_vec() })
    }

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
    fn what_may_pass_is_tried_again() {
        for code in ["internal_error", "fatal_error", "service_unavailable", "ratelimited", "request_timeout"] {
            let body = format!("{{\"ok\":false,\"error\":\"{code}\"}}");
            assert_eq!(read_answer(200, None, body.as_bytes()), Answer::Broken(code.into()));
        }
    }

    /// A proxy on the way may answer with a page that names the URL, which is a secret.
    #[test]
    fn only_an_error_code_is_ever_repeated() {
        let page = b"<p>The requested URL /services/T0/B0/hunter2 was not found".as_slice();
        assert_eq!(read_answer(404, None, page), Answer::Refused("HTTP status 404".into()));
        assert_eq!(read_answer(403, None, b"services/hunter2"), Answer::Refused("HTTP status 403".into()));
        let json = br#"{"ok":false,"error":"no /services/T0/B0/hunter2"}"#;
        assert_eq!(read_answer(400, None, json), Answer::Refused("HTTP status 400".into()));
        assert_eq!(read_answer(200, None, json), Answer::Refused("HTTP status 200".into()));
        for body in [b"".as_slice(), b"{}", b"null", b"\xff\xfe", &[b'x'; 200]] {
            assert_eq!(read_answer(400, None, body), Answer::Refused("HTTP status 400".into()), "{body:?}");
        }
    }

    #[test]
    fn refusals_that_people_meet_say_what_to_do() {
        for (code, advice) in [
            ("channel_not_found", "invite the bot"),
            ("not_in_channel", "invite the bot"),
            ("is_archived", "invite the bot"),
            ("missing_scope", "chat:write"),
            ("invalid_auth", "SSM parameter"),
            ("token_revoked", "SSM parameter"),
            ("no_service", "make a new one"),
            ("no_active_hooks", "make a new one"),
        ] {
            let Refusal { reason, transient } = advised(Refusal { reason: code.into(), transient: false });
            assert!(reason.starts_with(&format!("{code}; ")) && reason.contains(advice) && !transient, "{reason}");
        }
        let other = Refusal { reason: "restricted_action".into(), transient: false };
        assert_eq!(advised(other.clone()), other);
    }

    #[test]
    fn details_are_owed_once_and_to_a_thread() {
        let log = LogTail { lines: vec!["no route".into()], ..LogTail::default() };
        let diagnosis = Diagnosis { log: Some(log), ..Diagnosis::default() };
        let (slack_channel, slack_ts) = (Some("C0".to_owned()), Some("1.1".to_owned()));
        let posted = Record { slack_channel, slack_ts, diagnosis: Some(diagnosis), ..record(State::Failed) };
        assert!(owes_details(&posted));
        for told in [
            Record { slack_details_ts: Some("1.2".into()), ..posted.clone() },
            Record { slack_ts: None, ..posted.clone() },
            Record { slack_ts: Some(WEBHOOK.into()), ..posted.clone() },
            Record { state: State::Succeeded, ..posted },
        ] {
            assert!(!owes_details(&told), "{told:?}");
        }
    }

    /// What was only a failure when its details were told may come to wait for a person.
    #[test]
    fn a_call_for_a_person_is_owed_once_too() {
        let (slack_channel, slack_ts) = (Some("C0".to_owned()), Some("1.1".to_owned()));
        let failed = Record { slack_channel, slack_ts, slack_details_ts: Some("1.2".into()), ..record(State::Failed) };
        assert!(!owes_details(&failed));
        let held = Record { recovery: Some(recovery("hold", "there is none")), ..failed };
        assert!(owes_details(&held) && details(&held).unwrap().broadcast);
        assert!(!owes_details(&Record { slack_details_call: true, ..held }));
    }

    #[test]
    fn links_are_owed_to_a_message_that_can_be_edited() {
        let linked = Record { links_changed: 2, links_told: 1, ..record(State::RolledBack) };
        let posted =
            |ts: &str| Record { slack_channel: Some("C0".into()), slack_ts: Some(ts.into()), ..linked.clone() };
        assert!(owes_links(&posted("1.1")));
        assert!(!owes_links(&linked) && !owes_links(&posted(WEBHOOK)));
        assert!(!owes_links(&Record { links_told: 2, ..posted("1.1") }));
    }

    #[test]
    fn what_is_no_answer_is_tried_again() {
        assert_eq!(read_answer(503, None, b"<html>"), Answer::Broken("HTTP status 503".into()));
        assert_eq!(read_answer(200, None, b"<html>"), Answer::Broken("its answer can't be read".into()));
    }
}
