//! Amazon Q Developer in chat applications: a
//! [custom notification](https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html) through SNS, for
//! who wants Slack without a secret.
//!
//! Pure. `client-markdown` is the markdown of the chat it is shown in. Ours is Slack's, as in AWS's own samples. A
//! notification can't be edited, so there is one for the start and one for the outcome, in one thread, and the log of a
//! failure is in it.

use serde_json::{Map, Value, json};

use super::message::Parts;
use super::message::details::{found, last_lines};
use super::message::mrkdwn::{link, plain, units, words};
use super::message::outcome::headline;
use super::message::rollback::{is_held, quarantined};
use super::message::title;
use crate::image::short_digest;
use crate::links::Links;
use crate::record::{Record, State};

/// Two of them, emoji and outcome are a title of at most 250.
const TITLE_NAME_UNITS_MAX: usize = 55;
const DESCRIPTION_UNITS_MAX: usize = 8000;
/// For names in what is not shown as a sentence.
const NAME_UNITS_MAX: usize = 256;

/// The notification of `record`'s state; `None` for an intention, which is not news.
#[must_use]
pub fn notification(record: &Record) -> Option<Value> {
    (record.state != State::Intended).then(|| {
        let links = Links::of(record);
        let parts = Parts::of(record, &links);
        let (emoji, what) = headline(record);
        json!({
            "version": "1.0",
            "source": "custom",
            "id": format!("{}-{}", plain(&record.id, 60), record.version),
            "content": {
                "textType": "client-markdown",
                "title": format!("{emoji} {}: {what}", title(record, TITLE_NAME_UNITS_MAX)),
                "description": description(record, &parts),
                "nextSteps": next_steps(record, &links),
                "keywords": keywords(record),
            },
            "metadata": {
                // What brings a good release back is told where the bad one was.
                "threadId": plain(record.recovers.as_ref().unwrap_or(&record.id), 60),
                "summary": format!("{}: {what}", title(record, TITLE_NAME_UNITS_MAX)),
                "eventType": format!("deployment.{}", record.state.as_str()),
                "relatedResources": related(record),
                "additionalContext": context(record),
            },
        })
    })
}

/// Whole parts, the most telling first, as many as there is place for.
fn description(record: &Record, parts: &Parts<'_>) -> String {
    let diagnosis = record.diagnosis.as_ref();
    let diagnosis = diagnosis.filter(|_| matches!(record.state, State::Failed | State::RolledBack) || is_held(record));
    let log = diagnosis.and_then(|diagnosis| diagnosis.log.as_ref());
    let facts = Some(parts.facts().join(" · "));
    let all =
        [Some(parts.change()), parts.why(), facts, diagnosis.and_then(found), log.and_then(last_lines), parts.notes()];
    let mut text = String::new();
    for part in all.into_iter().flatten().filter(|part| !part.is_empty()) {
        if units(&text) + units("\n") + units(&part) <= DESCRIPTION_UNITS_MAX {
            text = if text.is_empty() { part } else { format!("{text}\n{part}") };
        }
    }
    text
}

fn next_steps(record: &Record, links: &Links) -> Vec<String> {
    let steps = [(&links.logs, "Read the logs"), (&links.console, "See the service in the console")];
    let steps = steps.into_iter().filter_map(|(url, step)| link(url.as_deref()?, step));
    let kept_away = quarantined(record).map(|digest| words(short_digest(digest), NAME_UNITS_MAX));
    let kept_away = kept_away.filter(|digest| !digest.is_empty());
    steps.chain(kept_away.map(|digest| format!("Push a new image, or release {digest}"))).collect()
}

fn keywords(record: &Record) -> Vec<String> {
    let all = [&record.service, record.environment(), record.state.as_str()];
    all.into_iter().map(|keyword| words(keyword, NAME_UNITS_MAX)).filter(|keyword| !keyword.is_empty()).collect()
}

fn related(record: &Record) -> Vec<String> {
    let all = [Some(record.service_arn.as_str()), record.revision_to.as_deref()];
    all.into_iter().flatten().map(|arn| plain(arn, 1024)).filter(|arn| !arn.is_empty()).collect()
}

/// What [custom actions](https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-actions.html) can take as
/// variables.
fn context(record: &Record) -> Map<String, Value> {
    let recovery = record.recovery.as_ref();
    let commit = record.provenance.as_ref().and_then(|provenance| provenance.revision.as_deref());
    let all = [
        ("deploymentId", record.id.as_str()),
        ("service", &record.service),
        ("cluster", &record.cluster),
        ("environment", record.environment()),
        ("repository", &record.repository),
        ("tag", &record.tag),
        ("digest", &record.digest),
        ("digestFrom", record.digest_from.as_deref().unwrap_or_default()),
        ("quarantined", quarantined(record).unwrap_or_default()),
        ("recovers", record.recovers.as_deref().unwrap_or_default()),
        ("recoveredBy", recovery.and_then(|recovery| recovery.record.as_deref()).unwrap_or_default()),
        ("commit", commit.unwrap_or_default()),
    ];
    let all = all.into_iter().map(|(key, value)| (key, plain(value, NAME_UNITS_MAX)));
    all.filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::message::examples::{examples, hostile};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_start_and_the_outcomes_have_their_notifications() {
        for (name, _, record) in examples() {
            if ["started", "live", "failed", "rolled_back", "held", "bad_and_stays", "back"].contains(&name) {
                insta::assert_json_snapshot!(name, notification(&record));
            }
        }
    }

    #[test]
    fn an_intention_is_no_news() {
        let told = |record: &Record| notification(record).is_some();
        for (name, _, record) in examples() {
            assert!(told(&record), "{name}");
            assert!(!told(&Record { state: State::Intended, ..record }), "{name}");
        }
    }

    fn is_text_within(value: &Value, max: usize) -> bool {
        value.as_str().is_some_and(|text| !text.is_empty() && text.encode_utf16().count() <= max)
    }

    fn are_texts_within(values: &Value, max: usize) -> bool {
        values.as_array().is_some_and(|values| values.iter().all(|value| is_text_within(value, max)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_record_breaks_the_limits(record in hostile()) {
            let Some(it) = notification(&record) else { return Ok(()) };
            prop_assert!(is_text_within(&it["id"], 100));
            prop_assert!(is_text_within(&it["content"]["title"], 250), "{}", it["content"]["title"]);
            prop_assert!(is_text_within(&it["content"]["description"], 8000));
            prop_assert!(are_texts_within(&it["content"]["nextSteps"], 1100));
            prop_assert!(are_texts_within(&it["content"]["keywords"], 256));
            prop_assert!(is_text_within(&it["metadata"]["summary"], 250));
            prop_assert!(are_texts_within(&it["metadata"]["relatedResources"], 1024));
            let context = it["metadata"]["additionalContext"].as_object().unwrap();
            prop_assert!(context.values().all(|value| is_text_within(value, 256)));
            for text in [&it["content"]["title"], &it["content"]["description"]] {
                let text = text.as_str().unwrap();
                prop_assert!(!text.contains("<!") && !text.contains("<@") && !text.contains("<#"), "{text}");
            }
            // The body of an SNS message.
            prop_assert!(it.to_string().len() < 256 * 1024);
        }
    }
}
