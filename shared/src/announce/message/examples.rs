//! A record of every kind that people are told of, and records as bad as can be; for tests.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::diagnosis::{Diagnosis, LogTail};
use crate::provenance::Provenance;
use crate::record::tests::record;
use crate::record::{Link, Origin, Progress, Record, Recovery, State, UndoneBy};
use crate::rollback::decide::Hold;

/// Name, heading and record of each example.
pub(crate) fn examples() -> Vec<(&'static str, &'static str, Record)> {
    let held = "the service is held: holiday freeze, ask @ana; remove its tag tidegate:hold to go on";
    let notify_mode = "the service's tidegate:mode is notify: this would be deployed in mode auto";
    let unreadable = "the service's tags can't be read, so nothing is deployed: tag tidegate:mode: `atuo` is no mode; \
                      use auto or notify";
    let quarantined = "this digest is in quarantine, because it went bad on this service before (record \
                       01JD8Z6W3Q0K8T4Y5V9N2R7XAB: web-5xx went into ALARM); push a new image, or release this one";
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
        ("alarm_stopped", "An alarm of its tags went off during the rollout: ECS was told to go back", alarm_stopped()),
        ("about_to_be_taken_back", "It turned bad, and is about to be taken back", about_to_be_taken_back()),
        ("rolled_back", "It was rolled back after it went live", taken_back_record()),
        ("rolled_back_done", "The same, once the good release is live again", rolled_back_done()),
        ("rolled_back_asked", "A person wanted it back", rolled_back_asked()),
        ("stopped_asked", "A person stopped the rollout by Tidegate", stopped_asked()),
        ("rolled_back_in_vain", "The good release could not be brought back", rolled_back_in_vain()),
        ("first_and_bad", "It failed, and there is nothing to go back to", first_and_bad()),
        ("bad_and_stays", "It is bad, and Tidegate has taken back too many", bad_and_stays()),
        ("going_back", "The other side: a good release is brought back", back(State::Rolling)),
        ("back", "It is live again", back(State::Succeeded)),
        ("back_asked", "It is live again, as a person wanted", back_asked()),
        ("back_failed", "It could not be brought back", back_failed()),
        ("back_superseded", "A newer deployment came first", back_superseded()),
        ("back_to_nothing", "No release could be brought back", back_to_nothing()),
        ("released", "A person released an image that was in quarantine", released()),
        ("external", "Somebody else deployed", external()),
        ("held", "The service is held", skipped(held)),
        ("notify_mode", "The owner only wants to be told", skipped(notify_mode)),
        ("unreadable_tag", "A tag can't be read", skipped(unreadable)),
        ("quarantined", "The image is in quarantine", skipped(quarantined)),
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
    let why = "the rollout did not complete within 30 minutes (tidegate:deadline)";
    Record {
        deadline_at: after(1800),
        progress: Some(Progress { running: 1, desired: 4, failed: 0 }),
        undone_by: Some(UndoneBy::Tidegate),
        recovery: Some(Recovery { why: why.into(), at: after(1812).unwrap(), ..recovery("deploy", "back to 1.41.0") }),
        ..ended(State::Failed, why, 1812)
    }
}

fn stopped() -> Record {
    let by_others = ended(State::Failed, "the deployment was stopped: StopServiceDeployment", 95);
    Record { undone_by: Some(UndoneBy::Others), actor: Some("ci-web".into()), ..by_others }
}

fn superseded() -> Record {
    ended(State::Superseded, "the newer deployment ecs-svc/9071652890347123456 took its place", 66)
}

/// Why most of the examples are taken back.
const ALARM: &str = "web-5xx went into ALARM";

/// What is done about a bad deployment: `stop`, `deploy` or `hold`.
pub(crate) fn recovery(remedy: &str, reason: &str) -> Recovery {
    let is_deployed = remedy == "deploy";
    let (to, passed) = reason.split_once("; passed over: ").unwrap_or((reason, ""));
    let passed: Vec<&str> = passed.split("; ").filter(|passed| !passed.is_empty()).collect();
    let told = serde_json::json!({
        "remedy": remedy, "why": ALARM, "alarms": ["web-5xx"], "reason": reason, "at": "2026-11-16T10:02:00Z",
        "release": to.strip_prefix("back to "), "passed_over": passed,
        "stops_deployments": reason.contains("nothing more is deployed"),
        "to": (remedy != "hold").then_some("01JD5T2M9K4F6H8J0N2P4R6S8V"),
        "record": is_deployed.then_some("01JD90BQ4X7Z2C5V8N1M3K6J9H"),
    });
    serde_json::from_value(told).unwrap()
}

fn link(state: State, reason: &str, live_at: Option<DateTime<Utc>>, ts: &str) -> Option<Link> {
    let (slack_channel, slack_ts) = (Some("C0123456789".into()), Some(ts.into()));
    Some(Link { state, reason: reason.into(), live_at, slack_channel, slack_ts })
}

/// A deployment that was live and is taken back; its message was told first.
pub(crate) fn taken_back_record() -> Record {
    let summary = "3 tasks: container web exited with code 1";
    Record {
        undone_by: Some(UndoneBy::Tidegate),
        rolled_back_at: after(192 + 251),
        diagnosis: Some(Diagnosis {
            summary: summary.into(),
            findings: vec![summary.into(), "the target group web: 0 of 4 targets were healthy".into()],
            alarms: vec!["web-5xx".into()],
            log: None,
        }),
        reason: ALARM.into(),
        recovery: Some(recovery("deploy", "back to 1.41.0; passed over: 1.41.1: it is in quarantine")),
        link_to_recovery: link(State::Rolling, ALARM, None, "1794823320.000200"),
        ..Record { state: State::RolledBack, ..live() }
    }
}

fn about_to_be_taken_back() -> Record {
    let recovery = Some(recovery("deploy", "back to 1.41.0"));
    Record { recovery, diagnosis: None, ..live() }
}

fn rolled_back_done() -> Record {
    let live_at = Some("2026-11-16T10:02:45Z".parse().unwrap());
    let link_to_recovery = link(State::Succeeded, "the rollout completed", live_at, "1794823320.000200");
    Record { link_to_recovery, diagnosis: None, ..taken_back_record() }
}

fn rolled_back_asked() -> Record {
    let why = "ana asked for it: checkout is broken".to_owned();
    let asked = Recovery { actor: Some("ana".into()), why: why.clone(), ..recovery("deploy", "back to 1.40.0") };
    Record { recovery: Some(asked), reason: why, link_to_recovery: None, diagnosis: None, ..taken_back_record() }
}

fn alarm_stopped() -> Record {
    let diagnosis = Diagnosis { summary: ALARM.into(), alarms: vec!["web-5xx".into()], ..Diagnosis::default() };
    Record {
        undone_by: Some(UndoneBy::Tidegate),
        diagnosis: Some(diagnosis),
        recovery: Some(recovery("stop", "back to 1.41.0")),
        ..ended(State::Failed, ALARM, 95)
    }
}

fn stopped_asked() -> Record {
    let why = "ana asked for it".to_owned();
    let asked = Recovery { actor: Some("ana".into()), why: why.clone(), ..recovery("stop", "back to 1.41.0") };
    Record { recovery: Some(asked), reason: why, diagnosis: None, ..alarm_stopped() }
}

fn rolled_back_in_vain() -> Record {
    let attempt = "01JD90BQ4X7Z2C5V8N1M3K6J9H".to_owned();
    let reason = Hold::RecoveryFailed(attempt.clone()).to_string();
    let held = Recovery { record: Some(attempt), ..recovery("hold", &reason) };
    Record { recovery: Some(held), diagnosis: None, ..taken_back_record() }
}

fn first_and_bad() -> Record {
    let reason = Hold::NothingGood(Vec::new()).to_string();
    let why = "ECS deployment circuit breaker: tasks failed to start.";
    let held = Recovery { why: why.into(), ..recovery("hold", &reason) };
    let nothing = Record { digest_from: None, tag_from: None, provenance_from: None, revision_from: None, ..failed() };
    Record { recovery: Some(held), undone_by: None, ..nothing }
}

fn bad_and_stays() -> Record {
    let reason = Hold::Budget.to_string();
    Record { recovery: Some(recovery("hold", &reason)), ..live() }
}

/// What brings the good release back.
fn back(state: State) -> Record {
    let bad = in_state(state);
    let ended = Some("2026-11-16T10:02:45Z".parse().unwrap()).filter(|_| !state.is_open());
    Record {
        id: "01JD90BQ4X7Z2C5V8N1M3K6J9H".into(),
        origin: Origin::Rollback,
        recovers: Some(bad.id),
        reason: if state.is_open() { ALARM.into() } else { "the rollout completed".into() },
        digest: bad.digest_from.unwrap(),
        tag: bad.tag_from.unwrap(),
        provenance: bad.provenance_from,
        revision_to: bad.revision_from,
        digest_from: Some(bad.digest),
        tag_from: Some(bad.tag),
        provenance_from: bad.provenance,
        revision_from: bad.revision_to,
        notes: vec!["what the bad release has done to data, such as a database migration, is not undone".into()],
        pushed_at: None,
        detected_at: "2026-11-16T10:02:00Z".parse().unwrap(),
        started_at: Some("2026-11-16T10:02:01Z".parse().unwrap()),
        live_at: ended.filter(|_| state == State::Succeeded),
        finished_at: ended,
        progress: state.is_open().then_some(Progress { running: 2, desired: 4, failed: 0 }),
        link_to_bad: link(State::RolledBack, ALARM, after(192), "1794822877.000100"),
        ..in_state(state)
    }
}

fn back_asked() -> Record {
    let link_to_bad = link(State::RolledBack, "ana asked for it: checkout is broken", None, "1794822877.000100");
    Record { actor: Some("ana".into()), link_to_bad, ..back(State::Succeeded) }
}

fn back_failed() -> Record {
    let reason = "ECS deployment circuit breaker: tasks failed to start.";
    Record { reason: reason.into(), undone_by: Some(UndoneBy::Ecs), ..back(State::Failed) }
}

fn back_superseded() -> Record {
    Record { reason: superseded().reason, ..back(State::Superseded) }
}

fn back_to_nothing() -> Record {
    let reason = "no earlier release can be brought back (1.41.0: its image was deleted from the repository), so the \
                  service is left as it is; push a new image";
    let never = Record { started_at: None, ecs_deployment_id: None, ..back(State::Skipped) };
    Record { reason: reason.into(), link_to_bad: None, ..never }
}

fn released() -> Record {
    Record { origin: Origin::Release, actor: Some("ana".into()), ..in_state(State::Rolling) }
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
fn text() -> BoxedStrategy<String> {
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
    // A record has many, and each is large.
    .boxed()
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

fn any_recovery() -> impl Strategy<Value = Option<Recovery>> {
    let remedy = prop::sample::select(vec!["stop", "deploy", "hold"]);
    let reason = prop_oneof![
        text(),
        text().prop_map(|text| format!("back to {text}")),
        (text(), texts(20)).prop_map(|(text, passed)| format!("back to {text}; passed over: {}", passed.join("; "))),
    ];
    let options = vec(proptest::option::of(text()), 3);
    let recovery = (remedy, text(), reason, options).prop_map(|(remedy, why, reason, options)| {
        let mut options = options.into_iter();
        let mut option = || options.next().unwrap();
        Recovery { why, actor: option(), to: option(), record: option(), ..recovery(remedy, &reason) }
    });
    proptest::option::of(recovery)
}

fn any_link() -> impl Strategy<Value = Option<Link>> {
    use State::{Failed, RolledBack, Rolling, Skipped, Succeeded, Superseded};
    let state = prop::sample::select(vec![Rolling, Succeeded, Failed, RolledBack, Superseded, Skipped]);
    let place = (proptest::option::of("C[A-Z0-9]{9}"), proptest::option::of("[0-9]{10}\\.[0-9]{6}"));
    let hostile = (proptest::option::of(text()), proptest::option::of(text()));
    let place = prop_oneof![place, hostile];
    let link = (state, text(), any_time(), place).prop_map(|(state, reason, live_at, (slack_channel, slack_ts))| {
        Link { state, reason, live_at, slack_channel, slack_ts }
    });
    proptest::option::of(link)
}

/// Records with anything in every field that is shown.
pub(crate) fn hostile() -> impl Strategy<Value = Record> {
    use State::{Failed, Intended, RolledBack, Rolling, Skipped, Succeeded, Superseded};
    let states = vec![Intended, Rolling, Succeeded, Failed, RolledBack, Superseded, Skipped];
    let origins = vec![Origin::Push, Origin::Tags, Origin::Sweep, Origin::External, Origin::Release, Origin::Rollback];
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
    let sides = (any_recovery(), any_link(), any_link(), proptest::option::of(text()));
    let record = (kind, names, options, times, found, sides).prop_map(|(kind, names, options, times, found, sides)| {
        let (mut names, mut options, mut times) = (names.into_iter(), options.into_iter(), times.into_iter());
        let (mut name, mut option) = (|| names.next().unwrap(), || options.next().unwrap());
        let mut time = || times.next().unwrap();
        let (provenance, provenance_from, diagnosis, changed_by_others, notes) = found;
        let (state, origin, undone_by, progress) = kind;
        let (recovery, link_to_bad, link_to_recovery, recovers) = sides;
        Record {
            recovery,
            recovers,
            link_to_bad,
            link_to_recovery,
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
