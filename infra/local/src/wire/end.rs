//! What there is in the end: all that must be the same, however it came about.

use anyhow::Result;
use serde_json::{Value, json};

use super::bench::Bench;
use super::scenario::Subject;
use crate::cloud::primary;
use crate::json::text;
use crate::slack::Message;

/// What there is of a service that follows an image: what runs, how it came to that, and what was told.
pub async fn of_service(bench: &Bench, subject: &Subject) -> Result<Value> {
    let (cloud, cluster, name) = (&bench.cloud, subject.cluster(), &*subject.name);
    let service = cloud.service(cluster, name).await?;
    let mut runs = Vec::new();
    for (revision, tasks) in cloud.running(cluster, name).await? {
        let definition = cloud.task_definition(&revision).await?;
        runs.push(json!([definition["taskDefinition"]["containerDefinitions"][0]["image"], tasks]));
    }
    let items = cloud.items(cluster, name).await?;
    let documents = cloud.announcements().await?;
    let mut records = Vec::new();
    for record in items.iter().filter(|item| text(item, "sk").starts_with("DEPLOYMENT#")) {
        let id = text(record, "id");
        let told = documents.iter().rfind(|document| text(document, "id") == id).map(|it| it["state"].clone());
        let messages = cloud.slack.messages_about(id);
        let headlines: Vec<String> = messages.iter().map(headline).collect();
        records.push(json!({
            "what": [record["origin"], record["state"], record["digest"], record["undone_by"]],
            "open": record.get("open").is_some(),
            "told": told,
            "headlines": headlines,
        }));
    }
    let guard = items.iter().find(|item| text(item, "sk") == "GUARD").cloned().unwrap_or_default();
    let quarantine: Vec<&String> = guard["quarantine"].as_object().into_iter().flat_map(|it| it.keys()).collect();
    let leases: Vec<&Value> = items.iter().filter_map(|item| item.get("lease_until")).collect();
    let end = json!({
        "runs": runs,
        "desired": service["desiredCount"],
        "revisions": cloud.revisions(name).await?.len(),
        "rollouts": cloud.deployments_started(cluster, name).await?.len(),
        "records": records,
        "quarantine": quarantine,
        "hold": guard.get("hold").is_some(),
        "leases": leases,
    });
    subject.anonymous(&end)
}

/// What there is of a service that follows its queue.
pub async fn of_crew(bench: &Bench, subject: &Subject) -> Result<Value> {
    let (cloud, cluster, name) = (&bench.cloud, subject.cluster(), &*subject.name);
    let whose = format!("{cluster}/{name}");
    let end = json!({
        "desired": cloud.service(cluster, name).await?["desiredCount"],
        "steps": steps(bench, &whose).await?,
        "told": told(bench, name),
    });
    subject.anonymous(&end)
}

/// What there is of a cluster that follows what its tasks need.
pub async fn of_fleet(bench: &Bench, subject: &Subject) -> Result<Value> {
    let name = &*subject.name;
    let (desired, members) = bench.cloud.group(name).await?;
    let instances = bench.cloud.container_instances(name).await?;
    let service = bench.cloud.service(name, name).await?;
    let end = json!({
        "desired": desired,
        "members": members.iter().map(|member| member.state.as_str()).collect::<Vec<_>>(),
        "instances": instances.iter().map(|instance| text(instance, "status")).collect::<Vec<_>>(),
        "tasks": [service["runningCount"], service["pendingCount"]],
        "steps": steps(bench, name).await?,
        "told": told(bench, name),
    });
    subject.anonymous(&end)
}

/// The events that could not be handled.
pub async fn rejects(bench: &Bench) -> Result<Vec<Value>> {
    bench.cloud.rejects().await
}

/// The steps that a scaler has made. One that failed is in its notes twice, with what was wrong with the first attempt; and
/// who could not write down how it went has made it all the same.
async fn steps(bench: &Bench, whose: &str) -> Result<Vec<Value>> {
    let actions = bench.cloud.scaling_actions(whose).await?;
    let mut steps: Vec<Value> = actions.iter().map(|it| json!([it["what"], it["from"], it["to"]])).collect();
    steps.dedup();
    Ok(steps)
}

fn told(bench: &Bench, name: &str) -> Vec<String> {
    let messages = bench.cloud.slack.messages();
    messages.iter().map(headline).filter(|line| line.contains(name)).collect()
}

/// What is read first, up to the time that something took, if it took any: `it in staging: rolled back, 12s after going
/// live`.
fn headline(message: &Message) -> String {
    let rendered = message.rendered();
    without_time(rendered.lines().next().unwrap_or_default())
}

fn without_time(line: &str) -> String {
    let is_time = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let words: Vec<&str> = line.split(' ').take_while(|word| !is_time(word)).collect();
    words.join(" ").trim_end_matches(" after").trim_end_matches(',').to_owned()
}

/// How one end differs from another, field by field.
pub fn difference(expected: &Value, seen: &Value) -> Option<String> {
    if expected == seen {
        return None;
    }
    let names = expected.as_object().into_iter().flat_map(|fields| fields.keys());
    let fields = names.map(|name| (name.clone(), &expected[name.as_str()], &seen[name.as_str()]));
    let parts = fields.flat_map(|(name, expected, seen)| match (expected, seen) {
        (Value::Array(all), Value::Array(others)) if all.len() == others.len() => {
            all.iter().zip(others).enumerate().map(|(at, (one, other))| (format!("{name} {at}"), one, other)).collect()
        }
        _ => vec![(name, expected, seen)],
    });
    let differing = parts.filter(|(_, expected, seen)| expected != seen);
    let lines = differing.map(|(name, expected, seen)| format!("{name}: {seen} instead of {expected}"));
    Some(lines.collect::<Vec<_>>().join("; "))
}

/// Whether everyone has been told the outcome of each of a service's deployments.
pub async fn is_at_rest(bench: &Bench, subject: &Subject) -> Result<Result<(), String>> {
    let history = bench.cloud.history(subject.cluster(), &subject.name).await?;
    let is_open =
        |record: &&Value| ["intended", "rolling"].contains(&text(record, "state")) || record.get("open").is_some();
    let open: Vec<&Value> = history.iter().filter(is_open).collect();
    let is_steady = {
        let service = bench.cloud.service(subject.cluster(), &subject.name).await?;
        let primary = primary(&service);
        let all = &service["desiredCount"];
        text(&primary, "rolloutState") == "COMPLETED"
            && [&service["runningCount"], &primary["runningCount"]].iter().all(|running| *running == all)
    };
    Ok(match (open.as_slice(), is_steady) {
        ([], true) => Ok(()),
        (open, is_steady) => Err(format!("steady: {is_steady}, open: {open:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_the_same_however_long_it_took() {
        for line in ["rolled back", "rolled back, 12s after going live"] {
            assert_eq!(without_time(line), "rolled back");
        }
        for line in ["failed", "failed after 1m 2s"] {
            assert_eq!(without_time(line), "failed");
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let (expected, seen) = (json!({ "desired": 2, "rollouts": 2 }), json!({ "desired": 2, "rollouts": 3 }));
        assert_eq!(difference(&expected, &expected), None);
        assert_eq!(difference(&expected, &seen).as_deref(), Some("rollouts: 3 instead of 2"));
    }
}
