//! Words of others: logs, ECS's reasons, the answers of those who are told.

use serde_json::Value;
use shared::announce::delivery::Answer;
use shared::announce::{newrelic, slack, webhook};
use shared::diagnosis::logs::{LogSource, log_source, tail};
use shared::diagnosis::mask::masked;
use shared::diagnosis::{ServiceEvent, StoppedTask, Symptoms, diagnose, failure_of};
use shared::http::Response;

use crate::{json, text};

/// Shorter ones would mask parts of ordinary words.
const SECRET_CHARS_MIN: usize = 6;

/// The first lines, up to an empty one, are secrets; the rest is text.
fn secrets_and_text(data: &[u8]) -> Option<(Vec<String>, &str)> {
    let (secrets, text) = text(data)?.split_once("\n\n")?;
    Some((secrets.lines().take(8).map(str::to_owned).collect(), text))
}

/// Those that must not be found. A mask can make what has its own signs in it.
fn to_be_found(secrets: &[String]) -> impl Iterator<Item = &String> {
    secrets.iter().filter(|secret| secret.chars().count() >= SECRET_CHARS_MIN && !secret.contains('*'))
}

/// A known secret never survives, wherever it stands; and masking twice is masking once.
pub fn masking(data: &[u8]) {
    let Some((secrets, text)) = secrets_and_text(data) else { return };
    let shown = masked(text, &secrets);
    for secret in to_be_found(&secrets) {
        assert!(!shown.contains(secret.as_str()), "`{secret}` is in `{shown}`");
    }
    assert_eq!(masked(&shown, &secrets), shown, "masking twice is more than masking once");
}

/// The end of a log: bounded, and without the secrets.
pub fn log_tail(data: &[u8]) {
    let Some((secrets, text)) = secrets_and_text(data) else { return };
    let source =
        LogSource { container: "web".into(), group: "/ecs/web".into(), stream: "ecs/web/1".into(), region: None };
    let tail = tail(source, text.split('\u{1e}'), &secrets);
    let chars: usize = tail.lines.iter().map(|line| line.chars().count()).sum();
    assert!(chars <= 2500, "{chars} characters");
    for line in &tail.lines {
        for secret in to_be_found(&secrets).filter(|secret| !secret.trim().is_empty()) {
            assert!(!line.contains(secret.as_str()), "`{secret}` is in `{line}`");
        }
    }
}

/// Tasks, service events and a task definition: why a deployment failed.
pub fn symptoms(data: &[u8]) {
    let Some(seen) = json(data) else { return };
    let list = |key: &str| seen.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let tasks: Vec<StoppedTask> = list("tasks").iter().take(50).map(StoppedTask::read).collect();
    let events: Vec<ServiceEvent> =
        list("events").into_iter().take(50).filter_map(|event| serde_json::from_value(event).ok()).collect();
    for task in &tasks {
        let _seen = (failure_of(task), task.id(), task.is_ending(), task.culprits());
    }
    let reason = seen.get("reason").and_then(Value::as_str).unwrap_or_default();
    let secrets = ["hunter2-secret".to_owned()];
    let symptoms = Symptoms {
        deployment_id: "ecs-svc/8251469930473958214",
        since: chrono::DateTime::UNIX_EPOCH,
        tasks: &tasks,
        service_events: &events,
        alarms: &[],
        ecs_reason: reason,
        secrets: &secrets,
    };
    if let Some(diagnosis) = diagnose(&symptoms) {
        let said = format!("{diagnosis:?}");
        assert!(!said.contains("hunter2-secret"), "a secret is told: {said}");
    }
    let body = seen.get("taskDefinition").and_then(Value::as_object).cloned().unwrap_or_default();
    let _seen = log_source(&body, &symptoms);
}

/// The answers of Slack, New Relic and a webhook, with any status. What they say is told only if it is words of theirs
/// that we know: a stranger in their place may name the URL, which is a secret.
pub fn answers(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let statuses = [200, 200, 201, 204, 301, 400, 401, 403, 404, 410, 413, 429, 500, 503, 599];
    let status = statuses.get(usize::from(*first) % statuses.len()).copied().unwrap_or(200);
    let response = Response { status, retry_after: None, body: body.to_vec() };
    let bounded = |refused: &str| assert!(refused.chars().count() <= 1000, "{refused}");
    match slack::read_answer(&response) {
        Answer::Ok(answer) => assert_eq!(answer.get("ok").unwrap_or(&Value::Bool(true)), &Value::Bool(true)),
        Answer::Refused(reason) | Answer::Broken(reason) => {
            bounded(&reason);
            assert!(!reason.contains("https://"), "{reason}");
        }
        Answer::Limited(_) => {}
    }
    for answer in [newrelic::read_answer(&response), webhook::read_answer(&response)] {
        match answer {
            Answer::Ok(()) => assert!(status < 300, "{status} is no success"),
            Answer::Refused(reason) | Answer::Broken(reason) => bounded(&reason),
            Answer::Limited(_) => {}
        }
    }
}
