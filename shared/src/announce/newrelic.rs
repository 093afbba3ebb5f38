//! [Change tracking](https://docs.newrelic.com/docs/change-tracking/change-tracking-introduction/) in New Relic: a
//! marker on the charts of the service for each image that went live, and for each that was taken back.
//!
//! Pure: a record goes in, a request of [NerdGraph](https://docs.newrelic.com/docs/change-tracking/config/nerdgraph)
//! comes out, and its answer is read.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::delivery::Answer;
use crate::http::Response;
use crate::image::short_digest;
use crate::links::Links;
use crate::provenance::Provenance;
use crate::record::{Origin, Record, Remedy, State, UndoneBy};

/// How far from now the time of a change may be. New Relic refuses what is more than 24 hours away.
const AGE_MAX: TimeDelta = TimeDelta::hours(24);
/// Our limit for each text of a change.
const TEXT_CHARS_MAX: usize = 1_000;
/// How many of an answer's errors are told, and how much of each.
const ERRORS_MAX: usize = 3;
const ERROR_CHARS_MAX: usize = 200;
/// New Relic's keys have more letters and digits in a row than this, its words have less.
const KEY_CHARS_MIN: usize = 20;

/// What a refusal of the key begins with.
const KEY_REFUSED: &str = "it does not take the key";

const MUTATION: &str = "mutation ($changeTrackingEvent: ChangeTrackingCreateEventInput!, \
    $dataHandlingRules: ChangeTrackingDataHandlingRules) { \
    changeTrackingCreateEvent(changeTrackingEvent: $changeTrackingEvent, dataHandlingRules: $dataHandlingRules) { \
    changeTrackingEvent { changeTrackingId } messages } }";

/// The request that marks what `record` says; `None` where there is nothing to mark: only what goes live changes the
/// charts, and what happened more than a day ago is not taken any more.
#[must_use]
pub fn body(record: &Record, now: DateTime<Utc>) -> Option<Value> {
    let remedy = record.recovery.as_ref().map(|recovery| recovery.remedy);
    let held_at = record.recovery.as_ref().filter(|_| remedy == Some(Remedy::Hold)).map(|recovery| recovery.at);
    let changed_at = held_at.unwrap_or_else(|| record.changed_at());
    let what = match (record.state, remedy) {
        (State::Succeeded | State::RolledBack, Some(Remedy::Hold)) => "turned out bad",
        // That is told when it has happened.
        (State::Succeeded, Some(Remedy::Stop | Remedy::Deploy)) => return None,
        (State::Succeeded, None) if record.origin == Origin::Rollback => "is back",
        (State::Succeeded, None) => "is live",
        (State::RolledBack, Some(Remedy::Deploy)) => "is being rolled back",
        (State::RolledBack, _) => "was rolled back",
        _ => return None,
    };
    if (now - changed_at).abs() >= AGE_MAX {
        return None;
    }
    let links = Links::of(record);
    let (image, version) = running(record);
    let deployment = known([
        ("version", Some(version.clone())),
        ("commit", image.and_then(|image| image.revision.clone())),
        ("changelog", links.compare),
        ("deepLink", links.console),
    ]);
    let service = name(&record.service);
    let mut event = known([
        ("shortDescription", Some(format!("{service} {what} in {}: {version}", record.environment()))),
        ("description", Some(record.reason.clone()).filter(|reason| !reason.is_empty())),
        ("user", Some(user(record).to_owned())),
        ("groupId", Some(record.id.clone())),
    ]);
    event.insert("entitySearch".into(), json!({"query": format!("name = '{service}'")}));
    let kind = json!({"category": "DEPLOYMENT", "type": "ROLLING"});
    let fields = json!({"deployment": deployment});
    event.insert("categoryAndTypeData".into(), json!({"kind": kind, "categoryFields": fields}));
    event.insert("timestamp".into(), changed_at.timestamp_millis().into());
    Some(json!({
        "query": MUTATION,
        "variables": {"changeTrackingEvent": event, "dataHandlingRules": {"validationFlags": []}},
    }))
}

/// Who made the change.
fn user(record: &Record) -> &str {
    match (record.state, record.undone_by, &record.actor) {
        (State::RolledBack, Some(UndoneBy::Ecs), _) => "ecs",
        (State::RolledBack, Some(UndoneBy::Others), _) => "somebody else",
        (State::RolledBack, ..) => {
            let asked = record.recovery.as_ref().and_then(|recovery| recovery.actor.as_deref());
            asked.unwrap_or("tidegate")
        }
        (_, _, Some(actor)) => actor,
        _ if record.origin == Origin::External => "somebody else",
        _ => "tidegate",
    }
}

/// What runs since the change, and what people call it: after a rollback, the image that ran before. Where a deployment of
/// its own brings a good release back, that has a marker of its own.
fn running(record: &Record) -> (Option<&Provenance>, String) {
    let remedy = record.recovery.as_ref().map(|recovery| recovery.remedy);
    let (image, tag, digest) = match record.state {
        State::RolledBack if remedy.is_none_or(|remedy| remedy == Remedy::Stop) => {
            (&record.provenance_from, record.tag_from.as_deref(), record.digest_from.as_deref().unwrap_or_default())
        }
        _ => (&record.provenance, Some(record.tag.as_str()), record.digest.as_str()),
    };
    // Builds of a branch often have its name for a version, which says nothing.
    let is_one = |version: &&str| version.contains(|character: char| character.is_ascii_digit());
    let version = image.as_ref().and_then(|image| image.version.as_deref()).filter(is_one).map(str::to_owned);
    let reference = || match (tag.unwrap_or_default(), short_digest(digest)) {
        ("", "") => "unknown".to_owned(),
        ("", one) | (one, "") => one.to_owned(),
        (tag, digest) if tag == digest => tag.to_owned(),
        (tag, digest) => format!("{tag}@{digest}"),
    };
    (image.as_ref(), version.unwrap_or_else(reference))
}

/// The fields that are known, each within our limit.
fn known<const N: usize>(fields: [(&str, Option<String>); N]) -> Map<String, Value> {
    let known = fields.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    known.map(|(name, value)| (name.to_owned(), cut(&value).into())).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// The name of a service as a query may hold it. Only what ECS allows in
/// [names](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html) is kept, so that nothing
/// can end the quotes.
fn name(service: &str) -> String {
    let is_allowed = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    service.chars().filter(is_allowed).take(255).collect()
}

/// What New Relic's answer means. GraphQL says 200 to what it refuses, too.
#[must_use]
pub fn read_answer(response: &Response) -> Answer<()> {
    match response.status {
        200..=299 => {}
        401 | 403 => {
            return Answer::Refused(format!(
                "{KEY_REFUSED} (HTTP status {}); put a valid user key into the SSM parameter, and the API of the \
                 account's region into the settings",
                response.status
            ));
        }
        _ => return Answer::of_status(response),
    }
    let Ok(said) = serde_json::from_slice::<Value>(&response.body) else {
        return Answer::Broken("its answer can't be read".into());
    };
    let errors = list(&said, "/errors");
    if !errors.is_empty() {
        let message = |error: &Value| error.get("message").and_then(Value::as_str).map(str::to_owned);
        let messages = errors.iter().map(|error| message(error).unwrap_or_else(|| "an error without a message".into()));
        let class =
            |error: &Value| error.pointer("/extensions/errorClass").and_then(Value::as_str).is_some_and(may_pass);
        return match errors.iter().any(class) {
            true => Answer::Broken(words(messages)),
            false => Answer::Refused(words(messages)),
        };
    }
    let messages = list(&said, "/data/changeTrackingCreateEvent/messages");
    match said.pointer("/data/changeTrackingCreateEvent/changeTrackingEvent") {
        Some(event) if !event.is_null() => Answer::Ok(()),
        _ if messages.is_empty() => Answer::Broken("its answer names no change".into()),
        _ => Answer::Refused(words(messages.iter().map(ToString::to_string))),
    }
}

fn list<'a>(said: &'a Value, pointer: &str) -> &'a [Value] {
    said.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a refusal is about the key, which may have been rotated.
#[must_use]
pub fn is_about_key(reason: &str) -> bool {
    reason.starts_with(KEY_REFUSED)
}

/// The [classes of errors](https://docs.newrelic.com/docs/apis/nerdgraph/get-started/introduction-new-relic-nerdgraph/)
/// that may pass.
fn may_pass(class: &str) -> bool {
    const TRANSIENT: [&str; 5] =
        ["INTERNAL_SERVER_ERROR", "SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT", "TOO_MANY_REQUESTS"];
    TRANSIENT.iter().any(|transient| class.eq_ignore_ascii_case(transient))
}

/// New Relic's words, in one line, without what could be a key, and with what to do about the refusal that people meet.
fn words(messages: impl Iterator<Item = String>) -> String {
    let messages: Vec<String> = messages.take(ERRORS_MAX).map(|message| masked(&message)).collect();
    let joined = messages.join("; ");
    match joined.to_ascii_lowercase().contains("entit") {
        true => format!("{joined} (exactly one entity of the account must have the service's name)"),
        false => joined,
    }
}

fn masked(text: &str) -> String {
    let printable: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let masked: String = printable
        .split_inclusive(|character: char| !character.is_ascii_alphanumeric())
        .map(|part| {
            let run = part.trim_end_matches(|character: char| !character.is_ascii_alphanumeric());
            match part.strip_prefix(run) {
                Some(end) if run.len() >= KEY_CHARS_MIN => format!("***{end}"),
                _ => part.to_owned(),
            }
        })
        .collect();
    masked.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::message::examples::recovery;
    use crate::announce::sns::tests::{STATES, full, hostile};
    use proptest::prelude::*;

    fn now() -> DateTime<Utc> {
        "2026-11-16T10:05:00Z".parse().unwrap()
    }

    fn answer(status: u16, body: &[u8]) -> Answer<()> {
        read_answer(&Response { status, retry_after: None, body: body.to_vec() })
    }

    #[test]
    fn what_goes_live_and_what_is_taken_back_is_marked() {
        insta::assert_json_snapshot!(STATES.map(|state| body(&full(state), now())));
    }

    #[test]
    fn little_is_needed() {
        let bare = Record { actor: None, reason: String::new(), ..crate::record::tests::record(State::Succeeded) };
        insta::assert_json_snapshot!(body(&bare, now()).unwrap());
    }

    #[test]
    fn what_is_a_day_old_is_not_taken() {
        let record = full(State::Succeeded);
        let at = |hours, seconds| record.changed_at() + TimeDelta::hours(hours) + TimeDelta::seconds(seconds);
        assert!(body(&record, at(24, -1)).is_some() && body(&record, at(-24, 1)).is_some());
        assert!(body(&record, at(24, 0)).is_none() && body(&record, at(-24, 0)).is_none());
    }

    #[test]
    fn a_version_tells_images_apart() {
        let named = |version: Option<&str>, tag: &str, digest: &str| {
            let image = Provenance { version: version.map(str::to_owned), ..Provenance::default() };
            let record =
                Record { provenance: Some(image), tag: tag.into(), digest: digest.into(), ..full(State::Succeeded) };
            running(&record).1
        };
        let digest = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
        assert_eq!(named(Some("1.42.0"), "master", digest), "1.42.0");
        assert_eq!(named(Some("master"), "master", digest), "master@4f53cda18c2b");
        assert_eq!(named(None, "", digest), "4f53cda18c2b");
        assert_eq!(named(None, "v7", ""), "v7");
        assert_eq!(named(None, "", ""), "unknown");
    }

    #[test]
    fn after_a_rollback_runs_what_ran_before() {
        let being_rolled_back = full(State::RolledBack);
        assert_eq!(running(&being_rolled_back).1, "1.42.0");
        let mut record = Record { recovery: None, ..being_rolled_back };
        assert_eq!(running(&record).1, "1.41.0");
        record.provenance_from = None;
        assert_eq!(running(&record).1, "v1.41.0@9a1f0c4b5e6d");
        (record.tag_from, record.digest_from) = (None, Some("v1.40.0".into()));
        assert_eq!(running(&record).1, "v1.40.0");
        record.digest_from = None;
        assert_eq!(running(&record).1, "unknown");
    }

    #[test]
    fn who_made_the_change_is_named() {
        let of = |state, actor: Option<&str>, origin, undone_by| {
            let actor = actor.map(str::to_owned);
            user(&Record { actor, origin, undone_by, ..full(state) }).to_owned()
        };
        assert_eq!(of(State::Succeeded, Some("ana"), Origin::Push, None), "ana");
        assert_eq!(of(State::Succeeded, None, Origin::Sweep, None), "tidegate");
        assert_eq!(of(State::Succeeded, None, Origin::External, None), "somebody else");
        assert_eq!(of(State::RolledBack, Some("ana"), Origin::Push, Some(UndoneBy::Ecs)), "ecs");
        assert_eq!(of(State::RolledBack, Some("ana"), Origin::Push, Some(UndoneBy::Others)), "somebody else");
        let unasked = Record { recovery: None, undone_by: Some(UndoneBy::Tidegate), ..full(State::RolledBack) };
        assert_eq!(user(&unasked), "tidegate");
        // Who asked for it to be taken back is not who pushed it.
        assert_eq!(of(State::RolledBack, Some("ci"), Origin::Push, Some(UndoneBy::Tidegate)), "ana");
    }

    #[test]
    fn both_sides_of_a_rollback_and_what_stays_are_marked() {
        let with = |state, remedy: &str| Record { recovery: Some(recovery(remedy, "")), ..full(state) };
        let back = |state| Record { origin: Origin::Rollback, recovery: None, ..full(state) };
        for (record, expected) in [
            (with(State::RolledBack, "deploy"), Some("web is being rolled back in live: 1.42.0")),
            (back(State::Succeeded), Some("web is back in live: 1.42.0")),
            (with(State::Succeeded, "hold"), Some("web turned out bad in live: 1.42.0")),
            (with(State::RolledBack, "hold"), Some("web turned out bad in live: 1.42.0")),
            (with(State::RolledBack, "stop"), Some("web was rolled back in live: 1.41.0")),
            (with(State::Succeeded, "deploy"), None),
            (back(State::Failed), None),
        ] {
            let body = body(&record, now());
            let event = body.as_ref().map(|body| &body["variables"]["changeTrackingEvent"]["shortDescription"]);
            assert_eq!(event.and_then(Value::as_str), expected, "{:?}", record.state);
        }
    }

    #[test]
    fn an_answer_is_read_for_what_it_means() {
        for messages in ["[]", "null", "[null, {}]"] {
            let taken = r#"{"data":{"changeTrackingCreateEvent":{"changeTrackingEvent":{"changeTrackingId":"f00"}"#;
            let taken = format!("{taken},\"messages\":{messages}}}}}}}");
            assert_eq!(answer(200, taken.as_bytes()), Answer::Ok(()), "{taken}");
        }
        let cases = [
            (200, r#"{"errors":[{"message":"No entity found"}],"data":{"changeTrackingCreateEvent":null}}"#, false),
            (200, r#"{"errors":[{"message":"Timed out","extensions":{"errorClass":"TIMEOUT"}}]}"#, true),
            (
                200,
                r#"{"errors":[{"message":"bad","extensions":{"errorClass":"INVALID_INPUT"}},{"path":["a"]}]}"#,
                false,
            ),
            (200, r#"{"errors":[{}]}"#, false),
            (
                200,
                r#"{"data":{"changeTrackingCreateEvent":{"changeTrackingEvent":null,"messages":["too old"]}}}"#,
                false,
            ),
            (200, r#"{"data":{"changeTrackingCreateEvent":{"changeTrackingEvent":null,"messages":[{"a":1}]}}}"#, false),
            (200, r#"{"data":null}"#, true),
            (200, "<html>", true),
            (200, "", true),
            (400, "", false),
            (401, r#"{"errors":[{"message":"NRAK-ABCDEFGHIJKLMNOPQRSTUVWXYZ0 is bad"}]}"#, false),
            (403, "", false),
            (404, "", false),
            (429, "", true),
            (500, "", true),
            (503, "<html>", true),
        ];
        let refusals: Vec<Value> = cases
            .into_iter()
            .map(|(status, body, may_pass)| {
                let answer = answer(status, body.as_bytes());
                assert_eq!(matches!(answer, Answer::Broken(_) | Answer::Limited(_)), may_pass, "{status} {body}");
                json!({"status": status, "body": body, "read": format!("{answer:?}")})
            })
            .collect();
        insta::assert_json_snapshot!(refusals);
    }

    #[test]
    fn a_refused_key_is_known_by_its_reason() {
        for (status, is_key) in [(401, true), (403, true), (400, false)] {
            let Answer::Refused(reason) = answer(status, b"") else { panic!("{status}") };
            assert_eq!(is_about_key(&reason), is_key, "{reason}");
        }
    }

    proptest! {
        #[test]
        fn no_name_ends_the_quotes(text in "\\PC{0,300}|['\"\\\\ a-z%]{0,300}") {
            let record = Record { recovery: None, ..hostile(State::Succeeded, &text, &[]) };
            let body = body(&record, now()).unwrap();
            let query = body["variables"]["changeTrackingEvent"]["entitySearch"]["query"].as_str().unwrap();
            let name = query.strip_prefix("name = '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
            prop_assert!(name.chars().all(|character| character.is_ascii_alphanumeric() || "-_".contains(character)));
            prop_assert!(body.to_string().len() < 100_000);
        }

        #[test]
        fn a_refusal_is_short_and_has_no_key(
            status in any::<u16>(),
            (before, key, after) in ("\\PC{0,100}[ :=-]", "[A-Za-z0-9]{20,64}", "[ \"',.)]\\PC{0,100}"),
        ) {
            let message = format!("{before}NRAK-{key}{after}");
            let body = json!({"errors": [{"message": message}, {"message": message}]}).to_string();
            for status in [200, status] {
                if let Answer::Refused(reason) | Answer::Broken(reason) = answer(status, body.as_bytes()) {
                    prop_assert!(!reason.contains(&key), "{}", reason);
                    prop_assert!(reason.chars().count() < 800 && !reason.contains('\n'));
                }
            }
        }

        #[test]
        fn no_answer_panics(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_ne!(answer(status, &body), Answer::Ok(()));
        }
    }
}
