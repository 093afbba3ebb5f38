//! Why a deployment has failed, as far as ECS and the tasks' logs tell.
//!
//! Pure: [`diagnose`] goes from what ECS's API answered to words for people, [`logs`] say whose log to read and what of
//! it to show, and [`mask`] takes the secrets out of both.

mod causes;
mod events;
pub mod logs;
pub mod mask;
mod tasks;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use self::causes::{Cause, Kind};
pub use self::tasks::{ServiceEvent, StoppedContainer, StoppedTask};

/// Most findings that are kept; what comes after tells little.
const FINDINGS_MAX: usize = 8;
/// Most characters of a finding.
const FINDING_CHARS_MAX: usize = 300;
/// Most alarms that are named.
const ALARMS_MAX: usize = 10;

/// What a task has failed of by its own fault, once it had started: its program, its memory, its health. `None` where
/// somebody or something else has stopped it, or where it never ran.
#[must_use]
pub fn failure_of(task: &StoppedTask) -> Option<String> {
    let cause = causes::of_task(task)?;
    let is_its_own = matches!(cause.kind, Kind::OutOfMemory | Kind::Exit | Kind::ContainerHealth | Kind::TargetHealth);
    is_its_own.then_some(cause.what)
}

/// What was found out about a failure, in words for people. Names, codes and masked log lines; no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The most telling finding, in one sentence.
    pub summary: String,
    /// Everything that was found, a line each, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// CloudWatch alarms that went off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// The last lines of the log of a container that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTail>,
}

/// The end of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogTail {
    /// The container.
    pub container: String,
    /// The CloudWatch log group.
    pub group: String,
    /// The log stream in it.
    pub stream: String,
    /// The lines, oldest first, with secrets masked.
    pub lines: Vec<String>,
}

/// What can be seen of a deployment that failed.
#[derive(Debug, Clone, Copy)]
pub struct Symptoms<'a> {
    /// ECS's id of the deployment, `ecs-svc/<digits>`.
    pub deployment_id: &'a str,
    /// When it began. What happened before is not its doing.
    pub since: DateTime<Utc>,
    /// Stopped tasks of the service. Those of other deployments may be among them, and help to tell whose events are
    /// whose.
    pub tasks: &'a [StoppedTask],
    /// What ECS tells about the service.
    pub service_events: &'a [ServiceEvent],
    /// CloudWatch alarms that went off.
    pub alarms: &'a [String],
    /// ECS's words about the failure.
    pub ecs_reason: &'a str,
    /// What [`mask::secrets_of`] found in the task definition.
    pub secrets: &'a [String],
}

impl<'a> Symptoms<'a> {
    /// The deployment's own tasks, those that stopped last first. A task of the time before a rollback of an older
    /// deployment bears its id too.
    fn own_tasks(&self) -> Vec<&'a StoppedTask> {
        let is_recent = |task: &StoppedTask| task.stopped_at.is_none_or(|stopped| stopped >= self.since);
        let mut own: Vec<&StoppedTask> =
            self.tasks.iter().filter(|task| task.is_of(self.deployment_id) && is_recent(task)).collect();
        own.sort_by_key(|task| (Reverse(task.stopped_at), &task.arn));
        own
    }

    /// The deployment's own tasks with the cause of their end, the most telling first, of one kind the last to stop.
    fn failed_tasks(&self) -> Vec<(&'a StoppedTask, Cause)> {
        let own = self.own_tasks().into_iter();
        let mut failed: Vec<_> = own.filter_map(|task| Some((task, causes::of_task(task)?))).collect();
        failed.sort_by_key(|(_, cause)| cause.kind);
        failed
    }

    /// What the service's events tell, the newest first.
    fn told(&self) -> Vec<Cause> {
        let is_recent = |event: &&ServiceEvent| event.created().is_some_and(|created| created >= self.since);
        let mut events: Vec<&ServiceEvent> = self.service_events.iter().filter(is_recent).collect();
        events.sort_by_key(|event| Reverse(event.created()));
        let causes = events.into_iter().map(|event| events::of_event(&event.message, self.deployment_id, self.tasks));
        causes.flatten().collect()
    }

    /// The alarms, each once.
    fn alarms(&self) -> Vec<String> {
        let mut alarms: Vec<String> = Vec::new();
        for alarm in self.alarms {
            if alarms.len() < ALARMS_MAX && !alarms.contains(alarm) {
                alarms.push(alarm.clone());
            }
        }
        alarms
    }
}

/// What is known of a cause: how many tasks it has stopped, and ECS's words.
#[derive(Debug, Default)]
struct Found {
    tasks: usize,
    words: String,
}

/// Finds out why a deployment failed. `None` where there is nothing to say beyond ECS's own words.
#[must_use]
pub fn diagnose(symptoms: &Symptoms<'_>) -> Option<Diagnosis> {
    let mut found: BTreeMap<(Kind, String, Option<&'static str>), Found> = BTreeMap::new();
    for (_, cause) in symptoms.failed_tasks() {
        let of_cause = found.entry((cause.kind, cause.what, cause.why)).or_default();
        of_cause.tasks += 1;
        of_cause.add(cause.words);
    }
    for cause in symptoms.told() {
        // Of the same trouble the tasks say more. Only why a target is unhealthy they don't know.
        let is_of_tasks = |kind| found.iter().any(|((known, ..), of_cause)| *known == kind && of_cause.tasks > 0);
        if cause.kind == Kind::TargetHealth || !is_of_tasks(cause.kind) {
            found.entry((cause.kind, cause.what, cause.why)).or_default().add(cause.words);
        }
    }
    let alarms = symptoms.alarms();
    if !alarms.is_empty() {
        let what = format!("{} {} went off", plural(alarms.len(), "alarm"), alarms.join(", "));
        found.insert((Kind::Alarm, what, None), Found::default());
    }
    if found.is_empty() {
        // Tasks are forgotten an hour after they stopped.
        let cause = causes::of_words(symptoms.ecs_reason, None)?;
        found.insert((cause.kind, cause.what, cause.why), Found { tasks: 0, words: cause.words });
    }
    if found.len() > 1 {
        found.retain(|(kind, ..), _| *kind != Kind::Repeated);
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|((kind, ..), of_cause)| (*kind, Reverse(of_cause.tasks)));
    let mut lines = found.iter().map(|((_, what, why), of_cause)| of_cause.told(what, *why, symptoms.secrets));
    let (summary, first) = lines.next()?;
    let rest = lines.map(|(_, line)| line);
    let findings = std::iter::once(first).chain(rest).take(FINDINGS_MAX).collect();
    Some(Diagnosis { summary, findings, alarms, log: None })
}

impl Found {
    fn add(&mut self, words: String) {
        if self.words.is_empty() {
            self.words = words;
        }
    }

    /// In short and in full. Where we know why, ECS's words are a detail; else they are all there is.
    fn told(&self, what: &str, why: Option<&'static str>, secrets: &[String]) -> (String, String) {
        let count = match self.tasks {
            0 => String::new(),
            tasks => format!("{tasks} {}: ", plural(tasks, "task")),
        };
        let words = plain(&mask::masked(&self.words, secrets));
        let (short, full) = match (why, words.as_str()) {
            (Some(why), "") => (format!("{count}{what}: {why}"), String::new()),
            (Some(why), words) => (format!("{count}{what}: {why}"), format!(" ({words})")),
            (None, "") => (format!("{count}{what}"), String::new()),
            (None, words) => (format!("{count}{what}: {words}"), String::new()),
        };
        let full = cut(&format!("{short}{full}"), FINDING_CHARS_MAX);
        (cut(&short, FINDING_CHARS_MAX), full)
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// ARNs, of which people need the resource only, and digests, of which they need the beginning.
static LONG_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let arn = r#"arn:[a-z-]+:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:(?:targetgroup/)?([^\s"',;)\]}]+)"#;
    Regex::new(&format!("{arn}|(sha256:[0-9a-f]{{12}})[0-9a-f]{{52}}")).ok()
});

/// ECS's words in one line, with short names.
fn plain(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match &*LONG_NAME {
        Some(long) => long.replace_all(&words, "${1}${2}").into_owned(),
        None => words,
    }
}

/// The first `chars_max` characters of a text. What is cut shows that it is.
fn cut(text: &str, chars_max: usize) -> String {
    match text.chars().count() <= chars_max {
        true => text.to_owned(),
        false => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
