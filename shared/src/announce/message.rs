//! The message about a deployment: one text for notifications and screen readers, and
//! [Block Kit](https://docs.slack.dev/reference/block-kit/blocks) blocks for the channel.
//!
//! Pure: a record goes in, a message comes out. Whatever the record holds, Slack's limits are kept, and what could be
//! read as markup is shown as text. The channel reads as a log: a line that says what became of which service, the
//! change, why if something is wrong, and small print. `MESSAGES.md` shows them all. A test writes it.
//!
//! A text in a block may have 3,000 characters, ten of them a message, and all blocks together about 13,000. Each part
//! has its share of that, so that none can take the place of another one.

pub mod details;
#[cfg(test)]
pub(crate) mod examples;
pub(crate) mod mrkdwn;
pub(crate) mod outcome;
pub(crate) mod rollback;
#[cfg(test)]
mod tests;
pub(crate) mod version;

use serde_json::{Value, json};

pub use self::details::{Details, details};
use self::mrkdwn::{code, link, list, words};
use self::outcome::{between, headline, why};
use self::rollback::cautions;
use self::version::Change;
use crate::links::Links;
use crate::record::{Origin, Record, State};
use crate::task_definition::revision_name;

/// For a name: of a service, a repository, a person.
const NAME_UNITS_MAX: usize = 150;
/// How many changes by others are named. The reply has more, the record has them all.
const CHANGES_MAX: usize = 8;
/// How many notes are shown. The reply has more.
const NOTES_MAX: usize = 4;
/// By what it is known that a note says so already.
const NOT_UNDONE: &str = "is not undone";

/// A rendered message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The message in a line, complete without the blocks.
    pub text: String,
    /// Block Kit blocks.
    pub blocks: Value,
}

/// How names and links are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    is_markup: bool,
    links: &'a Links,
}

impl<'a> Style<'a> {
    /// As mrkdwn.
    fn markup(links: &'a Links) -> Self {
        Self { is_markup: true, links }
    }

    /// For who sees no markup.
    fn words(links: &'a Links) -> Self {
        Self { is_markup: false, links }
    }

    fn name(self, name: &str, max: usize) -> String {
        if self.is_markup { code(name, max) } else { words(name, max) }
    }

    /// `text`, which is words of ours, as a link to `url` where there is one.
    fn linked(self, url: Option<&str>, text: &str) -> String {
        let link = url.filter(|_| self.is_markup).and_then(|url| link(url, text));
        link.unwrap_or_else(|| text.to_owned())
    }
}

/// Renders the message of `record`.
#[must_use]
pub fn render(record: &Record) -> Message {
    let links = Links::of(record);
    let parts = Parts::of(record, &links);
    let mut facts = parts.facts();
    let shown = [(&links.console, "console"), (&links.logs, "logs")];
    facts.extend(shown.into_iter().filter_map(|(url, name)| link(url.as_deref()?, name)));
    let mut blocks = vec![section("head", &parts.head())];
    blocks.extend(parts.why().map(|why| section("why", &why)));
    blocks.push(small("facts", &facts.join(" · ")));
    blocks.extend(parts.notes().map(|notes| small("notes", &notes)));
    blocks.push(small("foot", &parts.foot().join(" · ")));
    Message { text: parts.text(), blocks: Value::Array(blocks) }
}

/// What there is to say of a record, as mrkdwn.
pub(crate) struct Parts<'a> {
    record: &'a Record,
    links: &'a Links,
    change: Change<'a>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(record: &'a Record, links: &'a Links) -> Self {
        Self { record, links, change: Change::of(record) }
    }

    /// All that is needed to know without the blocks.
    pub(crate) fn text(&self) -> String {
        let (emoji, what) = headline(self.record);
        let change = Some(self.change.in_words()).filter(|change| !change.is_empty());
        let change = change.map(|change| format!(", {change}")).unwrap_or_default();
        let style = Style::words(self.links);
        let why: Vec<String> =
            why(self.record, &self.change, style).into_iter().chain(cautions(self.record, style)).collect();
        let why = why.iter().map(|it| it.trim_end_matches('.')).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { why } else { format!(": {why}") };
        format!("{emoji} {}: {what}{change}{why}", title(self.record, NAME_UNITS_MAX))
    }

    /// The line that is read first, and the change.
    fn head(&self) -> String {
        let (emoji, what) = headline(self.record);
        let [service, environment] = names(self.record, NAME_UNITS_MAX);
        [format!("{emoji} *{service}* in *{environment}*: {what}"), self.change()].join("\n").trim_end().to_owned()
    }

    /// The change; empty where no image is named.
    pub(crate) fn change(&self) -> String {
        self.change.shown(self.links)
    }

    /// Why it is so, and what serves now.
    pub(crate) fn why(&self) -> Option<String> {
        let lines = why(self.record, &self.change, Style::markup(self.links));
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// What made it happen, and how it went.
    pub(crate) fn facts(&self) -> Vec<String> {
        let record = self.record;
        let mut facts = vec![trigger(record)];
        // Later the reason is that of the outcome. That of a recovery is told already.
        if record.state.is_open() && !matches!(record.origin, Origin::External | Origin::Rollback) {
            facts.push(words(&record.reason, 300));
        }
        let failed = record.progress.map_or(0, |progress| progress.failed);
        match (record.state, failed) {
            (State::Failed, 1) => facts.push("1 task failed".into()),
            (State::Failed, 2..) => facts.push(format!("{failed} tasks failed")),
            _ => {}
        }
        // A tag that was moved, or a change of tags, may select an image of long ago.
        if record.state == State::Succeeded && matches!(record.origin, Origin::Push | Origin::Sweep) {
            let time = between(record.pushed_at, record.live_at.or(record.finished_at));
            facts.extend(time.map(|time| format!("{time} from push to live")));
        }
        facts.retain(|fact| !fact.is_empty());
        facts
    }

    /// What keeps the image away, what others have changed, and what else people should know.
    pub(crate) fn notes(&self) -> Option<String> {
        let is_said = |caution: &String| {
            self.record.notes.iter().any(|note| note.contains(NOT_UNDONE) && caution.contains(NOT_UNDONE))
        };
        let mut cautions = cautions(self.record, Style::markup(self.links));
        cautions.retain(|caution| !is_said(caution));
        let changes = list(&self.record.changed_by_others, CHANGES_MAX, 100, ", ");
        let changes = (!changes.is_empty()).then(|| format!("changed by others since the last deployment: {changes}"));
        let notes = list(&self.record.notes, NOTES_MAX, 200, "\nnote: ");
        let notes = (!notes.is_empty()).then(|| format!("note: {notes}"));
        let lines: Vec<String> = cautions.into_iter().chain(changes).chain(notes).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// By what names ECS and the table know it.
    fn foot(&self) -> Vec<String> {
        let record = self.record;
        let revision = |arn: &Option<String>| words(arn.as_deref().map_or("", revision_name), 100);
        let mut foot = vec![format!("deployment {}", words(&record.id, 60))];
        foot.push(match (revision(&record.revision_to), revision(&record.revision_from)) {
            (to, from) if to.is_empty() && from.is_empty() => String::new(),
            (to, from) if to.is_empty() => format!("revision {from} runs"),
            (to, from) if from.is_empty() || from == to => format!("revision {to}"),
            (to, from) => format!("revision {to}, was {from}"),
        });
        foot.extend(self.change.digest_behind().map(|digest| format!("image {digest}")));
        if record.environment() != record.cluster {
            foot.push(format!("cluster {}", words(&record.cluster, NAME_UNITS_MAX)));
        }
        foot.retain(|part| !part.is_empty());
        foot
    }
}

/// Which service, where.
pub(crate) fn title(record: &Record, max: usize) -> String {
    names(record, max).join(" in ")
}

fn names(record: &Record, max: usize) -> [String; 2] {
    [&*record.service, record.environment()].map(|name| match words(name, max) {
        name if name.is_empty() => "?".into(),
        name => name,
    })
}

/// What made it happen, in words.
fn trigger(record: &Record) -> String {
    let image = match (record.repository.as_str(), record.tag.as_str()) {
        (repository, "") => code(repository, NAME_UNITS_MAX),
        (repository, tag) => code(&format!("{repository}:{tag}"), 2 * NAME_UNITS_MAX),
    };
    let actor = record.actor.as_deref().map(|actor| words(actor, NAME_UNITS_MAX)).filter(|actor| !actor.is_empty());
    let by = actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
    let what = match record.origin {
        Origin::Push if image.is_empty() => return format!("a push{by}"),
        Origin::Push => return format!("push of {image}{by}"),
        Origin::Tags => format!("after a change of the service's tags{by}"),
        Origin::Sweep => "found by the sweep".into(),
        Origin::Release => format!("released{by}"),
        Origin::Rollback => {
            let to = if image.is_empty() { image } else { format!(" to {image}") };
            return format!("rollback{to} by {}", actor.as_deref().unwrap_or("Tidegate"));
        }
        Origin::External => format!("deployed by {}, not by Tidegate", actor.as_deref().unwrap_or("somebody else")),
    };
    if image.is_empty() { what } else { format!("{image} {what}") }
}

/// `verbatim`: Slack makes no links and no mentions of what looks like some.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

pub(crate) fn section(id: &str, text: &str) -> Value {
    json!({"type": "section", "block_id": id, "text": mrkdwn(text)})
}

pub(crate) fn small(id: &str, text: &str) -> Value {
    json!({"type": "context", "block_id": id, "elements": [mrkdwn(text)]})
}
