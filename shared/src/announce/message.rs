//! The message about a deployment: one text for notifications and screen readers, and
//! [Block Kit](https://docs.slack.dev/reference/block-kit/blocks) blocks for the channel.
//!
//! Pure: a record goes in, a message comes out. Whatever the record holds, Slack's limits are kept and what could be
//! read as markup is escaped.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::image::short_digest;
use crate::record::{Origin, Record, State};

/// Slack's limit for the text of a section is 3,000 characters; of a field, 2,000. Each part we put in is cut as it is
/// escaped.
const PART_CHARS_MAX: usize = 150;
/// For the reason, which may be ECS's own words.
const REASON_CHARS_MAX: usize = 500;
/// How many changes by others are named. The record has them all.
const CHANGES_MAX: usize = 8;

/// A rendered message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The message in a line, without markup blocks.
    pub text: String,
    /// Block Kit blocks.
    pub blocks: Value,
}

/// Renders the message of `record`.
#[must_use]
pub fn render(record: &Record, environment: Option<&str>) -> Message {
    let service = part(&record.service);
    let environment = part(environment.unwrap_or(&record.cluster));
    let (emoji, what) = headline(record);
    let (from, to) = (before(record), after(record));
    let mut facts =
        vec![field("Image", &format!("`{}`", part(&image(record)))), field("Cluster", &part(&record.cluster))];
    if let Some(started) = record.started_at {
        facts.push(field("Started", &time(started)));
    }
    if let Some(duration) = duration(record) {
        facts.push(field("Took", &duration));
    }
    let reason = cut_and_escape(&record.reason, REASON_CHARS_MAX);
    let by_others = by_others(record);
    let mut foot = vec![format!("deployment {}", part(&record.id))];
    foot.extend(record.revision_to.as_deref().map(|arn| format!("revision {}", part(revision(arn)))));
    foot.extend(record.revision_from.as_deref().map(|arn| format!("was {}", part(revision(arn)))));
    let head = format!("{emoji} *{service}* in *{environment}*   `{from}` → `{to}`\n{what}: {reason}{by_others}");
    Message {
        text: format!("{emoji} {service} in {environment}: {what} ({from} → {to})"),
        blocks: json!([
            {"type": "section", "block_id": "head", "text": {"type": "mrkdwn", "text": head}},
            {"type": "section", "block_id": "facts", "fields": facts},
            {"type": "context", "block_id": "foot", "elements": [{"type": "mrkdwn", "text": foot.join(" · ")}]},
        ]),
    }
}

/// Whether others have deployed this, and what others have changed since our last deployment.
fn by_others(record: &Record) -> String {
    let who = match record.origin {
        Origin::External => "\ndeployed by somebody else, not by Tidegate",
        _ => "",
    };
    let names: Vec<&str> = record.changed_by_others.iter().take(CHANGES_MAX).map(String::as_str).collect();
    let more = match record.changed_by_others.len().saturating_sub(CHANGES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match names.is_empty() {
        true => who.to_owned(),
        false => {
            format!("{who}\nchanged by others since the last deployment: {}{more}", part(&names.join(", ")))
        }
    }
}

/// Emoji and words for each state.
fn headline(record: &Record) -> (&'static str, &'static str) {
    match record.state {
        State::Intended => (":hourglass_flowing_sand:", "about to roll out"),
        State::Rolling => (":hourglass_flowing_sand:", "rolling out"),
        State::Succeeded => (":white_check_mark:", "live"),
        State::Failed if record.ecs_deployment_id.is_none() => (":x:", "not started"),
        State::Failed => (":x:", "failed, and never went live"),
        State::RolledBack => (":rewind:", "rolled back"),
        State::Superseded => (":fast_forward:", "superseded"),
        State::Skipped => (":no_entry_sign:", "not deployed"),
    }
}

fn before(record: &Record) -> String {
    part(record.digest_from.as_deref().map_or("nothing known", short_digest))
}

fn after(record: &Record) -> String {
    let named = format!("{} {}", record.tag, short_digest(&record.digest));
    // Somebody else may have deployed what names neither.
    part(Some(named.trim()).filter(|named| !named.is_empty()).unwrap_or("an image of theirs"))
}

/// Others deploy tags too.
fn image(record: &Record) -> String {
    match record.digest.is_empty() {
        true => format!("{}:{}", record.repository, record.tag),
        false => format!("{}@{}", record.repository, short_digest(&record.digest)),
    }
}

fn revision(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, revision)| revision)
}

/// Slack shows the time in the reader's own zone; others see the fallback.
fn time(at: DateTime<Utc>) -> String {
    format!("<!date^{}^{{time_secs}}|{} UTC>", at.timestamp(), at.format("%H:%M:%S"))
}

/// From the start of the rollout to its outcome.
fn duration(record: &Record) -> Option<String> {
    let seconds = (record.finished_at? - record.started_at?).num_seconds().max(0);
    Some(match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds:02}s"),
    })
}

fn field(name: &str, value: &str) -> Value {
    json!({"type": "mrkdwn", "text": format!("*{name}*\n{value}")})
}

fn part(text: &str) -> String {
    cut_and_escape(text, PART_CHARS_MAX)
}

/// Cuts to `chars` characters and [escapes](https://docs.slack.dev/messaging/formatting-message-text) the three that
/// Slack reads as markup. Backticks and line breaks become what can't end a code span or start a new line.
fn cut_and_escape(text: &str, chars: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut left = chars;
    for character in text.chars() {
        let mut itself = [0; 4];
        let shown = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '`' => "'",
            '\n' | '\r' => " ",
            other => other.encode_utf8(&mut itself),
        };
        match left.checked_sub(shown.chars().count()) {
            Some(rest) => left = rest,
            None => {
                escaped.push('…');
                break;
            }
        }
        escaped.push_str(shown);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use proptest::prelude::*;

    fn finished(state: State, reason: &str) -> Record {
        let mut record = record(state);
        record.reason = reason.into();
        record.finished_at = Some("2026-11-16T09:57:49Z".parse().unwrap());
        record
    }

    #[test]
    fn every_state_has_its_message() {
        let mut refused = finished(State::Failed, "UpdateService for production/web failed: AccessDeniedException: no");
        refused.ecs_deployment_id = None;
        let records = [
            Record { reason: "tag:master points to 4f53cda18c2b now".into(), ..record(State::Rolling) },
            finished(State::Succeeded, "the rollout completed"),
            finished(State::Failed, "ECS deployment circuit breaker: tasks failed to start."),
            refused,
            finished(State::RolledBack, "alarm web-5xx"),
            finished(State::Superseded, "the newer deployment ecs-svc/9 took its place"),
        ];
        let messages: Vec<Value> = records
            .iter()
            .map(|record| render(record, None))
            .map(|message| json!({"text": message.text, "blocks": message.blocks}))
            .collect();
        insta::assert_json_snapshot!(messages);
    }

    #[test]
    fn what_others_have_changed_is_named() {
        let mut record = record(State::Rolling);
        record.changed_by_others = (1..=10).map(|number| format!("field{number}")).collect();
        let text = render(&record, None).blocks.to_string();
        assert!(
            text.contains("since the last deployment: field1, field2") && text.contains("field8 and 2 more"),
            "{text}"
        );
    }

    #[test]
    fn a_deployment_of_somebody_else_is_told_as_theirs() {
        let theirs = Record { origin: Origin::External, digest: String::new(), ..finished(State::Succeeded, "") };
        let text = render(&theirs, None).blocks.to_string();
        assert!(text.contains("by somebody else") && text.contains("tides/web:master"), "{text}");
    }

    #[test]
    fn the_environment_is_called_what_the_stack_calls_it() {
        let message = render(&record(State::Rolling), Some("live"));
        assert!(message.text.contains("web in live:"), "{}", message.text);
    }

    fn all_text(value: &Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| all_text(value, texts)),
            Value::Object(fields) => fields.values().for_each(|value| all_text(value, texts)),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_record_breaks_slacks_limits_or_becomes_markup(
            service in "\\PC{0,300}", reason in "[<>&`\\n!a-z@]{0,4000}", tag in "[<>&`]{0,300}", long in "x{0,3000}",
            changed_by_others in proptest::collection::vec("[<>&`a-z]{0,300}", 0..20),
        ) {
            let record = Record {
                service, reason, tag, repository: long.clone(), cluster: long.clone(), id: long.clone(),
                revision_to: Some(long), changed_by_others, ..record(State::Failed)
            };
            let message = render(&record, None);
            let blocks = message.blocks.as_array().unwrap();
            prop_assert!(blocks.len() <= 50);
            let mut texts = Vec::new();
            all_text(&message.blocks, &mut texts);
            texts.push(message.text.clone());
            for text in &texts {
                // A field holds 2,000 characters, the narrowest of the limits.
                prop_assert!(text.chars().count() <= 2000 || text.starts_with(":x: *"), "{}", text.len());
                prop_assert!(text.chars().count() <= 3000);
                let without_dates = text.replace("<!date^1794822877^{time_secs}|09:54:37 UTC>", "");
                prop_assert!(!without_dates.contains(['<', '>']), "{without_dates}");
            }
            prop_assert!(message.blocks.to_string().chars().count() < 13_000);
        }
    }
}
