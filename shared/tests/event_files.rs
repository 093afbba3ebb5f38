//! Every file in `events/` is read as `events/README.md` says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shared::events::{Event, read};

fn files(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let event = |path: &PathBuf| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    paths.iter().map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), event(path))).collect()
}

#[test]
fn accepted_events_are_read_for_what_they_mean() {
    let mut read_as = String::new();
    for (name, event) in files(".") {
        let meaning = match read(&event).unwrap_or_else(|error| panic!("{name}: {error}")) {
            Event::Image(image) => match image.why_not_deployable() {
                None => format!("deploy {}:{}", image.repository, image.tag.unwrap_or_default()),
                Some(reason) => format!("skip: {reason}"),
            },
            Event::Deployment(change) => {
                format!("{:?} of {} {}", change.change, change.service, change.deployment_id)
            }
            Event::Tagged(service) => format!("tags of {service}"),
            Event::Stopped(task) => format!("a failed task of {} {}", task.service, task.deployment_id),
            Event::Alarm(alarm) => {
                let dimensions = alarm.dimensions.iter().map(|(name, value)| format!("{name}={value}"));
                let dimensions = dimensions.collect::<Vec<_>>().join(" ");
                format!("alarm {} since {} on {dimensions}", alarm.name, alarm.since).trim_end().to_owned()
            }
            Event::Rollback(asked) => {
                let to = asked.to.unwrap_or_else(|| "what was good".to_owned());
                let from = asked.undoes.unwrap_or_else(|| "what runs".to_owned());
                format!("{} wants {} back from {from} to {to}: {}", asked.actor, asked.service, asked.reason)
            }
            Event::Release(asked) => {
                let what = asked.digest.unwrap_or_else(|| "it".to_owned());
                format!("{} lets {what} be deployed to {}", asked.actor, asked.service)
            }
            Event::Cluster(change) => format!("look at the cluster {}: {}", change.cluster, change.what),
            Event::Leaving(leaving) => {
                let waiting = leaving.action.map(|action| format!(", and {} of {} waits", action.hook, action.group));
                format!("{} leaves{}", leaving.instance, waiting.unwrap_or_default())
            }
            Event::Sweep => "sweep".to_owned(),
            Event::Tick(of) => format!("look again at {}", of.join(", ")),
            Event::Explain(event) => format!("explain {}", event["detail-type"]),
            Event::Report(asked) => format!("report of {} days", asked.days),
            Event::Ignored { reason } => format!("ignored: {reason}"),
        };
        writeln!(read_as, "{name}: {meaning}").unwrap();
    }
    insta::assert_snapshot!(read_as);
}

#[test]
fn rejected_events_say_what_is_wrong_and_are_not_tried_again() {
    let mut causes = String::new();
    for (name, event) in files("rejected") {
        let error = read(&event).expect_err(&name);
        assert!(!error.is_transient(), "{name}");
        writeln!(causes, "{name}: {error}").unwrap();
    }
    insta::assert_snapshot!(causes);
}
