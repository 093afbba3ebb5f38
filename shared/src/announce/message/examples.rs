//! A record of every kind that people are told of, and records as bad as can be; for tests.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::diagnosis::{Diagnosis, LogTail};
use crate::provenance::Provenance;
use crate::record::tests::record;
use crate::record::{Origin, Progress, Record, State, UndoneBy};

/// Name, heading and record of each example.
pub(crate) fn examples() -> Vec<(&'static str, &'static str, Record)> {
    let held = "the service is held: holiday freeze, ask @ana; remove its tag tidegate:hold to go on";
    let notify_mode = "the service's tidegate:mode is notify: this would be deployed in mode auto";
    let unreadable = "the service's tags can't be read, so nothing is deployed: tag tidegate:mode: `atuo` is no mode; \
                      use auto or notify";
    let missing = "tasks could not start: the secret production/web/database-url does not exist; mend that, or the \
                   task definition";
    vec![
        ("started", "A rollout starts", in_state(State::Rolling)),
        ("rolling", "It goes on", rolling()),
        ("live", "It is live", live()),
        ("live_first", "The first deployment that is known", live_first()),
        ("live_again", "A tag was moved, and nothing says what is in the image", live_by_tag()),
        ("failed", "It failed before it served", failed()),
        ("failed_alarm", "An alarm went off during the rollout: ECS went back", failed_alarm()),
        ("not_started", "ECS refused it", not_started()),
        ("overdue", "It was not done in time", overdue()),
        ("stopped", "Somebody else stopped it", stopped()),
        ("superseded", "A newer one took its place", superseded()),
        ("rolled_back", "It was rolled back after it went live", rolled_back()),
        ("external", "Somebody else deployed", external()),
        ("held", "The service is held", skipped(held)),
        ("notify_mode", "The owner only wants to be told", skipped(notify_mode)),
        ("unreadable_tag", "A tag can't be read", skipped(unreadable)),
        ("missing_secret", "A secret does not exist", skipped(missing)),
        ("nothing_selected", "There is no image to deploy", nothing_selected()),
    ]
}

fn provenance(version: &str, revision: &str) -> Option<Provenance> {
    Some(Provenance {
        version: Some(version.into()),
        revision: Some(revision.into()),
        source: Some("https://github.com/tides/web".into()),
        ..Provenance::default()
    })
}

/// Seconds after the rollout started.
fn after(seconds: i64) -> Option<DateTime<Utc>> {
    let started: DateTime<Utc> = "2026-11-16T09:54:37Z".parse().unwrap();
    Some(started + TimeDelta::seconds(seconds))
}

fn in_state(state: State) -> Record {
    Record {
        reason: "1.42.0 is the highest version of semver:1.x now (4f53cda18c2b)".into(),
        tag: "1.42.0".into(),
        tag_from: Some("1.41.0".into()),
        provenance: provenance("1.42.0", "3f9c2ab81d0e4c6f8a7b6c5d4e3f2a1b0c9d8e7f"),
        provenance_from: provenance("1.41.0", "9d1e0c4a7b2f3e4d5c6b7a8f9e0d1c2b3a4f5e6d"),
        ..record(state)
    }
}

fn ended(state: State, reason: &str, seconds: i64) -> Record {
    Record { reason: reason.into(), finished_at: after(seconds), ..in_state(state) }
}

fn rolling() -> Record {
    let changed_by_others = (1..=10).map(|number| format!("containerDefinitions[web].environment[KEY_{number}]"));
    Record {
        progress: Some(Progress { running: 2, desired: 4, failed: 1 }),
        actor: Some("ci-web".into()),
        environment: "live".into(),
        changed_by_others: changed_by_others.collect(),
        notes: vec!["role pull: not checked, because GetRole was denied".into()],
        ..in_state(State::Rolling)
    }
}

fn live() -> Record {
    Record { live_at: after(192), ..ended(State::Succeeded, "the rollout completed", 192) }
}

fn live_first() -> Record {
    let nothing = Record { digest_from: None, tag_from: None, provenance_from: None, revision_from: None, ..live() };
    Record { origin: Origin::Tags, actor: Some("ana".into()), ..nothing }
}

fn live_by_tag() -> Record {
    let master = Some("master".to_owned());
    let origin = Origin::Sweep;
    Record { tag: "master".into(), tag_from: master, provenance: None, provenance_from: None, origin, ..live() }
}

fn failed() -> Record {
    let lines = [
        "{\"level\":\"info\",\"msg\":\"reading settings\"}",
        "Error: connect ECONNREFUSED 10.0.3.7:5432",
        "\tat TCPConnectWrap.afterConnect (node:net:1637:16)",
        "DATABASE_URL=postgres://web:********@db.internal/web",
    ];
    let summary = "the container web exited with code 1 before its first health check";
    Record {
        undone_by: Some(UndoneBy::Ecs),
        progress: Some(Progress { running: 0, desired: 4, failed: 6 }),
        diagnosis: Some(Diagnosis {
            summary: summary.into(),
            findings: vec![
                summary.into(),
                "6 tasks stopped: Essential container in task exited".into(),
                "the target group web: 0 of 4 targets were healthy (Target.FailedHealthChecks)".into(),
            ],
            alarms: Vec::new(),
            log: Some(LogTail {
                container: "web".into(),
                group: "/ecs/web".into(),
                stream: "web/web/0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
                lines: lines.into_iter().map(str::to_owned).collect(),
            }),
        }),
        ..ended(State::Failed, "ECS deployment circuit breaker: tasks failed to start.", 242)
    }
}

fn failed_alarm() -> Record {
    let summary = "the alarm web-5xx went off while the new tasks were taking requests";
    Record {
        undone_by: Some(UndoneBy::Ecs),
        diagnosis: Some(Diagnosis {
            summary: summary.into(),
            alarms: vec!["web-5xx".into(), "web-latency".into()],
            ..Diagnosis::default()
        }),
        ..ended(State::Failed, "ECS deployment alarms: alarm detected", 421)
    }
}

fn not_started() -> Record {
    let reason = "UpdateService for production/web failed: AccessDeniedException: User: \
                  arn:aws:sts::123456789012:assumed-role/tidegate-deploy/tidegate-deploy is not authorized to perform: \
                  iam:PassRole on resource: arn:aws:iam::123456789012:role/web_*";
    let never = Record { ecs_deployment_id: None, started_at: None, ..ended(State::Failed, reason, 1) };
    Record { revision_to: None, ..never }
}

fn overdue() -> Record {
    let reason = "the rollout was not done after 30 minutes";
    Record {
        deadline_at: after(1800),
        progress: Some(Progress { running: 1, desired: 4, failed: 0 }),
        ..ended(State::Failed, reason, 1812)
    }
}

fn stopped() -> Record {
    let by_others = ended(State::Failed, "the deployment was stopped: StopServiceDeployment", 95);
    Record { undone_by: Some(UndoneBy::Others), actor: Some("ci-web".into()), ..by_others }
}

fn superseded() -> Record {
    ended(State::Superseded, "the newer deployment ecs-svc/9071652890347123456 took its place", 66)
}

fn rolled_back() -> Record {
    let summary = "the alarm web-5xx went off 4 minutes after the deployment had gone live";
    Record {
        undone_by: Some(UndoneBy::Tidegate),
        rolled_back_at: after(192 + 251),
        diagnosis: Some(Diagnosis {
            summary: summary.into(),
            findings: vec![summary.into(), "HTTPCode_Target_5XX_Count was 212 in 3 of 3 minutes (threshold 10)".into()],
            alarms: vec!["web-5xx".into()],
            log: None,
        }),
        reason: "alarm web-5xx".into(),
        ..Record { state: State::RolledBack, ..live() }
    }
}

fn external() -> Record {
    Record {
        origin: Origin::External,
        actor: Some("terraform-production".into()),
        reason: "somebody else has deployed this, not Tidegate".into(),
        ..live_by_tag()
    }
}

fn skipped(reason: &str) -> Record {
    let never = Record { ecs_deployment_id: None, started_at: None, ..ended(State::Skipped, reason, 0) };
    Record { revision_to: None, ..never }
}

fn nothing_selected() -> Record {
    let reason = "no image of the repository is selected by semver:2.x; push one, or change the follow tag";
    Record { digest: String::new(), provenance: None, ..skipped(reason) }
}

/// Text of the kind that breaks what it is put into, and longer than anything is.
fn text() -> impl Strategy<Value = String> {
    let markup = vec(
        prop::sample::select(vec![
            "<!channel>",
            "<!here|x>",
            "<@U1>",
            "<#C1>",
            "@here",
            "`",
            "```",
            "*",
            "_",
            "~",
            "&",
            "<",
            ">",
            "|",
            "\n",
            "\"",
            "\\",
            "[x](https://evil.example)",
            "https://a.example/",
            "sha256:",
            "\u{202e}",
            "\u{2066}",
            "\u{0}",
            "\u{1b}[31m",
            "😀",
            "é",
            "word",
            "a/b",
            " ",
        ]),
        0..40,
    );
    prop_oneof![
        3 => markup.prop_map(|pieces| pieces.concat()),
        1 => "\\PC{0,60}",
        1 => Just("<>&\"`*".repeat(800)),
        1 => Just("\"".repeat(5000)),
        1 => Just("😀".repeat(3000)),
        1 => Just(String::new()),
    ]
}

fn texts(most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..most)
}

fn any_time() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    proptest::option::of((0..4_000_000_000_i64).prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap()))
}

fn any_provenance() -> impl Strategy<Value = Option<Provenance>> {
    let said = || proptest::option::of(text());
    // Some make links, and long ones.
    let long = format!("https://github.com/{}/web", "x".repeat(850));
    let source =
        prop_oneof![said(), text().prop_map(|path| Some(format!("https://github.com/{path}"))), Just(Some(long))];
    let revision = prop_oneof![said(), "[0-9a-f]{40}".prop_map(Some)];
    proptest::option::of((revision, source, said()).prop_map(|(revision, source, version)| Provenance {
        revision,
        source,
        version,
        ..Provenance::default()
    }))
}

fn any_diagnosis() -> impl Strategy<Value = Option<Diagnosis>> {
    let log = (text(), text(), text(), texts(60));
    let log = log.prop_map(|(container, group, stream, lines)| LogTail { container, group, stream, lines });
    let all = (text(), texts(20), texts(20), proptest::option::of(log));
    proptest::option::of(all.prop_map(|(summary, findings, alarms, log)| Diagnosis { summary, findings, alarms, log }))
}

/// Records with anything in every field that is shown.
pub(crate) fn hostile() -> impl Strategy<Value = Record> {
    use State::{Failed, Intended, RolledBack, Rolling, Skipped, Succeeded, Superseded};
    let states = vec![Intended, Rolling, Succeeded, Failed, RolledBack, Superseded, Skipped];
    let origins = vec![Origin::Push, Origin::Tags, Origin::Sweep, Origin::External];
    let undone = vec![None, Some(UndoneBy::Ecs), Some(UndoneBy::Tidegate), Some(UndoneBy::Others)];
    let progress = (any::<i64>(), any::<i64>(), any::<i64>()).prop_map(|(running, desired, failed)| Progress {
        running,
        desired,
        failed,
    });
    let kind = (
        prop::sample::select(states),
        prop::sample::select(origins),
        prop::sample::select(undone),
        proptest::option::of(progress),
    );
    let names = vec(text(), 9);
    let options = vec(proptest::option::of(text()), 6);
    let times = vec(any_time(), 6);
    let found = (any_provenance(), any_provenance(), any_diagnosis(), texts(30), texts(30));
    let record = (kind, names, options, times, found).prop_map(|(kind, names, options, times, found)| {
        let (mut names, mut options, mut times) = (names.into_iter(), options.into_iter(), times.into_iter());
        let (mut name, mut option) = (|| names.next().unwrap(), || options.next().unwrap());
        let mut time = || times.next().unwrap();
        let (provenance, provenance_from, diagnosis, changed_by_others, notes) = found;
        let (state, origin, undone_by, progress) = kind;
        Record {
            id: name(),
            environment: name(),
            cluster: name(),
            service: name(),
            service_arn: name(),
            reason: name(),
            repository: name(),
            tag: name(),
            digest: name(),
            actor: option(),
            digest_from: option(),
            tag_from: option(),
            revision_from: option(),
            revision_to: option(),
            ecs_deployment_id: option(),
            pushed_at: time(),
            started_at: time(),
            deadline_at: time(),
            live_at: time(),
            finished_at: time(),
            rolled_back_at: time(),
            origin,
            undone_by,
            progress,
            provenance,
            provenance_from,
            diagnosis,
            changed_by_others,
            notes,
            ..record(state)
        }
    });
    // A smaller record tells nothing more, and looking for it takes minutes.
    record.no_shrink()
}
