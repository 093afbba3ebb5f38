//! The log of a container that failed: where it is, and what of it to show.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::causes::Kind;
use super::tasks::StoppedTask;
use super::{LogTail, Symptoms, cut, mask};

/// Most lines that are shown, most characters of each, and of all together: Slack takes 3,000 in a block.
const LINES_MAX: usize = 15;
const LINE_CHARS_MAX: usize = 200;
const ALL_CHARS_MAX: usize = 2500;

/// How much is read to find them. The lines before those that are shown may tell that these are part of a private key.
const LINES_READ: usize = 50;
const LINE_CHARS_READ: usize = 2000;

/// Where a container's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    /// The container.
    pub container: String,
    /// The CloudWatch log group.
    pub group: String,
    /// The log stream in it.
    pub stream: String,
    /// The group's Region, where the task definition names one.
    pub region: Option<String>,
}

/// The log that is likeliest to tell why a deployment failed: that of the container at fault, in the task that failed
/// last of those with the most telling cause. `None` where none has run, or where its log is not in CloudWatch under a
/// name that [can be known](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html):
/// without a prefix the name is Docker's id of the container.
#[must_use]
pub fn log_source(task_definition_body: &Map<String, Value>, symptoms: &Symptoms<'_>) -> Option<LogSource> {
    let (task, cause) = symptoms.failed_tasks().into_iter().next()?;
    let containers = task_definition_body.get("containerDefinitions").and_then(Value::as_array)?;
    let definition = match cause.kind {
        // An unexplained stop may be that of a program that ran.
        Kind::OutOfMemory | Kind::Exit | Kind::Unexplained => at_fault(task, containers),
        Kind::ContainerHealth => unhealthy(task, containers).or_else(|| serving(containers)),
        Kind::TargetHealth => serving(containers),
        _ => None,
    }?;
    source_of(definition, task)
}

/// An essential container goes first: only its end ends the task.
fn at_fault<'a>(task: &StoppedTask, containers: &'a [Value]) -> Option<&'a Value> {
    let culprits: Vec<&Value> =
        task.culprits().iter().filter_map(|one| containers.iter().find(|other| name(other) == one.name)).collect();
    culprits.iter().find(|container| is_essential(container)).or(culprits.first()).copied()
}

fn unhealthy<'a>(task: &StoppedTask, containers: &'a [Value]) -> Option<&'a Value> {
    let unhealthy = task.containers.iter().find(|container| container.health_status == "UNHEALTHY")?;
    containers.iter().find(|container| name(container) == unhealthy.name)
}

/// The container that a load balancer most likely asks: the first essential one that listens to a port.
fn serving(containers: &[Value]) -> Option<&Value> {
    let listens = |container: &Value| {
        container.get("portMappings").and_then(Value::as_array).is_some_and(|mappings| !mappings.is_empty())
    };
    let mut essential = containers.iter().filter(|container| is_essential(container));
    essential.clone().find(|container| listens(container)).or_else(|| essential.next())
}

fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn is_essential(container: &Value) -> bool {
    container.get("essential").and_then(Value::as_bool).unwrap_or(true)
}

fn source_of(container: &Value, task: &StoppedTask) -> Option<LogSource> {
    let configuration = container.get("logConfiguration")?;
    if configuration.get("logDriver").and_then(Value::as_str) != Some("awslogs") {
        return None;
    }
    let option = |key| {
        let value = configuration.get("options")?.get(key)?.as_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let (container, id) = (name(container), task.id());
    let prefix = option("awslogs-stream-prefix").filter(|_| !container.is_empty() && !id.is_empty())?;
    Some(LogSource {
        container: container.to_owned(),
        group: option("awslogs-group")?,
        stream: format!("{prefix}/{container}/{id}"),
        region: option("awslogs-region"),
    })
}

/// The last lines of `messages`, which are the oldest first: without blank lines, colours and secrets, and bounded. It
/// is masked before it is cut, so that no half of a secret is left that nothing recognises.
#[must_use]
pub fn tail<'a>(source: LogSource, messages: impl Iterator<Item = &'a str>, secrets: &[String]) -> LogTail {
    let mut read: VecDeque<String> = VecDeque::new();
    for message in messages {
        for line in shown(message).lines().filter(|line| !line.trim().is_empty()) {
            if read.len() >= LINES_READ {
                read.pop_front();
            }
            read.push_back(beginning_of(line, secrets));
        }
    }
    let text = Vec::from(read).join("\n");
    let masked = mask::masked(&text, secrets);
    let mut lines: VecDeque<String> =
        masked.lines().filter(|line| !line.trim().is_empty()).map(|line| cut(line, LINE_CHARS_MAX)).collect();
    let chars = |lines: &VecDeque<String>| lines.iter().map(|line| line.chars().count()).sum::<usize>();
    while lines.len() > LINES_MAX || chars(&lines) > ALL_CHARS_MAX {
        lines.pop_front();
    }
    let LogSource { container, group, stream, region: _ } = source;
    LogTail { container, group, stream, lines: lines.into() }
}

/// The beginning of a very long line: whole words or JSON values of it, because half a secret would not be recognised.
fn beginning_of(line: &str, secrets: &[String]) -> String {
    if line.chars().count() <= LINE_CHARS_READ {
        return line.trim_end().to_owned();
    }
    let beginning: String = mask::without_literals(line, secrets).chars().take(LINE_CHARS_READ).collect();
    let words = beginning.rsplit_once(|end: char| end.is_whitespace() || ",\"".contains(end)).map(|(words, _)| words);
    format!("{} …", words.unwrap_or_default())
}

/// Colours, cursor movements, titles and links of terminals:
/// [ECMA-48](https://ecma-international.org/publications-and-standards/standards/ecma-48/).
static ESCAPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?x) (?:\x1b\[|\u{9b}) [0-?]*[\ -/]*[@-~]? | \x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)? | \x1b[@-Z\\^_]?")
        .ok()
});

/// A message as people see it: without control characters, and without those that have no width or turn the direction
/// of writing, with which text can be hidden from patterns and readers.
fn shown(message: &str) -> String {
    let plain = match &*ESCAPES {
        Some(escapes) if message.contains(['\x1b', '\u{9b}']) => escapes.replace_all(message, ""),
        _ => message.into(),
    };
    let mut shown = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '\r' | '\u{2028}' | '\u{2029}' => shown.push('\n'),
            '\t' => shown.push_str("  "),
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
            other if other.is_control() && other != '\n' => {}
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests;
