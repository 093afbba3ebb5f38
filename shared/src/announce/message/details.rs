//! The reply in a message's thread: what is too much for the message itself.

use serde_json::Value;

use super::mrkdwn::{block, code, link, list, words};
use super::outcome::is_for_all;
use super::rollback;
use super::{CHANGES_MAX, Message, NOTES_MAX, Parts, section, small, title};
use crate::diagnosis::{Diagnosis, LogTail};
use crate::links::Links;
use crate::record::{Record, State};

const FINDINGS_MAX: usize = 10;
const ALARMS_MAX: usize = 8;
const LOG_UNITS_MAX: usize = 2400;

/// A reply in the thread of a deployment's message.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The reply.
    pub message: Message,
    /// Whether the channel shall see it too: editing a message tells nobody that it has changed.
    pub broadcast: bool,
}

/// The reply for `record`: what is known of a failure, and lists that the message has cut; `None` where there is no
/// more to say. What has served and was taken back is for the whole channel, and so is what waits for a person. A rollout
/// that failed before it served is no outage.
#[must_use]
pub fn details(record: &Record) -> Option<Details> {
    // There is one reply: what comes before could only be in the way of what has failed.
    if !matches!(record.state, State::Failed | State::RolledBack) && !rollback::is_held(record) {
        return None;
    }
    let links = Links::of(record);
    let broadcast = is_for_all(record);
    let diagnosis = record.diagnosis.as_ref();
    let log = diagnosis.and_then(|diagnosis| diagnosis.log.as_ref());
    let mut blocks = Vec::new();
    if broadcast {
        // It stands alone in the channel.
        let no_links = Links::default();
        let parts = Parts::of(record, &no_links);
        blocks.push(section("head", &parts.head()));
        blocks.extend(parts.why().map(|why| section("why", &why)));
    }
    blocks.extend(diagnosis.and_then(found).map(|found| section("found", &found)));
    blocks.extend(log.and_then(last_lines).map(|lines| section("log", &lines)));
    blocks.extend(rollback::details(record));
    blocks.extend(rest(record));
    if blocks.is_empty() {
        return None;
    }
    let place = log.map(|LogTail { group, stream, .. }| [code(group, 200), code(stream, 200)].join(" "));
    let links = [(&links.logs, "logs"), (&links.console, "console")];
    let links = links.into_iter().filter_map(|(url, name)| link(url.as_deref()?, name));
    let foot: Vec<String> = links.chain(place.filter(|place| !place.trim().is_empty())).collect();
    if !foot.is_empty() {
        blocks.push(small("foot", &foot.join(" · ")));
    }
    Some(Details { message: Message { text: text(record, diagnosis), blocks: Value::Array(blocks) }, broadcast })
}

/// The reply in a line.
fn text(record: &Record, diagnosis: Option<&Diagnosis>) -> String {
    if is_for_all(record) {
        return Parts::of(record, &Links::default()).text();
    }
    let summary = diagnosis.map(|diagnosis| words(&diagnosis.summary, 500)).filter(|summary| !summary.is_empty());
    let why = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
    format!("{}: more about the failure{why}", title(record, 150))
}

/// Alarms and findings that the summary does not name.
pub(crate) fn found(diagnosis: &Diagnosis) -> Option<String> {
    let summary = &diagnosis.summary;
    let named = |all: &[String], is_new: &dyn Fn(&str) -> bool| -> Vec<String> {
        all.iter().filter(|it| is_new(it)).cloned().collect()
    };
    let alarms = list(&named(&diagnosis.alarms, &|alarm| !summary.contains(alarm)), ALARMS_MAX, 60, ", ");
    let findings = list(&named(&diagnosis.findings, &|finding| finding != summary), FINDINGS_MAX, 170, "\n• ");
    let alarms = (!alarms.is_empty()).then(|| format!("*In ALARM*: {alarms}"));
    let findings = (!findings.is_empty()).then(|| format!("*What was found*\n• {findings}"));
    let lines: Vec<String> = alarms.into_iter().chain(findings).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The end of the log.
pub(crate) fn last_lines(log: &LogTail) -> Option<String> {
    let lines = block(&log.lines, LOG_UNITS_MAX)?;
    let container = code(&log.container, 100);
    let of = if container.is_empty() { String::new() } else { format!(" of {container}") };
    Some(format!("*Last lines of the log{of}*\n{lines}"))
}

/// The lists that the message has cut, at more length.
fn rest(record: &Record) -> impl Iterator<Item = Value> {
    let changes = Some(&record.changed_by_others).filter(|changes| changes.len() > CHANGES_MAX);
    let notes = Some(&record.notes).filter(|notes| notes.len() > NOTES_MAX);
    let changes =
        changes.map(|all| ("changes", "Changed by others since the last deployment", list(all, 25, 45, "\n• ")));
    let notes = notes.map(|all| ("notes", "Notes", list(all, 6, 150, "\n• ")));
    let rest = changes.into_iter().chain(notes).filter(|(_, _, list)| !list.is_empty());
    rest.map(|(id, heading, list)| section(id, &format!("*{heading}*\n• {list}")))
}
