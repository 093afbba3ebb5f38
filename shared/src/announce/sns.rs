//! The SNS topic: one JSON message for each state of a record that people should know of.
//!
//! The schema is part of the contract for readers and documented in ARCHITECTURE.md. Delivery is at least once;
//! `id` and `version` tell repetitions apart. The webhook and EventBridge send the same document.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::message::rollback::{is_held, quarantined};
use crate::diagnosis::Diagnosis;
use crate::error::{Error, from_sdk};
use crate::links::Links;
use crate::provenance::Provenance;
use crate::record::{Origin, Record, Recovery};

/// What the document may weigh as JSON, in bytes.
/// [SNS](https://docs.aws.amazon.com/sns/latest/api/API_Publish.html) and
/// [EventBridge](https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html) take 256 KB with all
/// that is around it.
const BODY_BYTES_MAX: usize = 200_000;
/// How many characters of each text, and entries of each list, are left of a document that is too large. One after the
/// other, until it is small enough; after the last it always is.
const CUTS: [(usize, usize); 3] = [(4_000, 200), (1_000, 50), (100, 10)];
/// The subject of the e-mail that a subscriber may get has
/// [less than 100](https://docs.aws.amazon.com/sns/latest/api/API_Publish.html) characters.
const SUBJECT_CHARS_MAX: usize = 99;

/// The topic that outcomes are published to.
#[derive(Debug, Clone)]
pub struct Topic {
    client: Client,
    arn: String,
}

impl Topic {
    /// The topic `arn`, through `client`.
    #[must_use]
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }

    /// Publishes the state of `record`. Subscribers can filter on the attributes `state`, `service` and `cluster`.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn publish(&self, record: &Record) -> Result<(), Error> {
        let attributes = [("state", record.state.as_str()), ("service", &record.service), ("cluster", &record.cluster)];
        self.send(&subject(record), &body(record), attributes).await
    }

    /// Publishes a document with a subject for those who get an e-mail, and attributes to filter on. An empty one is left
    /// out.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn send(
        &self,
        subject: &str,
        document: &Value,
        attributes: impl IntoIterator<Item = (&str, &str)>,
    ) -> Result<(), Error> {
        let mut publish =
            self.client.publish().topic_arn(&self.arn).subject(printable(subject)).message(document.to_string());
        for (name, value) in attributes.into_iter().filter(|(_, value)| !value.is_empty()) {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let attribute = attribute
                .map_err(|error| Error::Input(format!("an attribute of the SNS message is incomplete: {error}")))?;
            publish = publish.message_attributes(name, attribute);
        }
        publish.send().await.map_err(|error| from_sdk("Publish", &self.arn, &error))?;
        Ok(())
    }
}

/// The subject of the e-mail that a subscriber may get: printable ASCII in one line.
fn subject(record: &Record) -> String {
    let state = record.state.as_str().replace('_', " ");
    let of_what = if record.origin == Origin::Rollback { "rollback " } else { "" };
    let but = if is_held(record) { ", not taken back" } else { "" };
    printable(&format!("{} in {}: {of_what}{state}{but}", record.service, record.environment()))
}

fn printable(subject: &str) -> String {
    let printable = subject.chars().filter(|character| character.is_ascii_graphic() || *character == ' ');
    printable.skip_while(|character| *character == ' ').take(SUBJECT_CHARS_MAX).collect()
}

/// The document about `record`, never larger than the sinks take.
pub(crate) fn body(record: &Record) -> Value {
    let mut body = whole(record);
    for (chars, entries) in CUTS {
        if body.to_string().len() <= BODY_BYTES_MAX {
            break;
        }
        cut(&mut body, chars, entries);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("truncated".into(), true.into());
        }
    }
    body
}

fn whole(record: &Record) -> Value {
    let links = Links::of(record);
    let (now, before) = (record.provenance.as_ref(), record.provenance_from.as_ref());
    json!({
        "schema": "tidegate.deployment/1",
        "id": record.id,
        "version": record.version,
        "truncated": false,
        "state": record.state,
        "reason": record.reason,
        "origin": record.origin,
        "actor": record.actor,
        "undoneBy": record.undone_by,
        "recovery": record.recovery.as_ref().map(recovery),
        "recovers": record.recovers,
        "quarantined": quarantined(record),
        "notes": record.notes,
        "changedByOthers": record.changed_by_others,
        "environment": record.environment(),
        "cluster": record.cluster,
        "service": record.service,
        "serviceArn": record.service_arn,
        "image": {
            "repository": record.repository,
            "tag": record.tag,
            "tagFrom": record.tag_from,
            "digest": record.digest,
            "digestFrom": record.digest_from,
            "revision": text(now, |image| &image.revision),
            "source": text(now, |image| &image.source),
            "version": text(now, |image| &image.version),
            "created": time(now, |image| image.created),
            "committed": time(now, |image| image.committed),
            "from": {
                "revision": text(before, |image| &image.revision),
                "source": text(before, |image| &image.source),
                "version": text(before, |image| &image.version),
                "created": time(before, |image| image.created),
                "committed": time(before, |image| image.committed),
            },
        },
        "taskDefinition": {"from": record.revision_from, "to": record.revision_to},
        "ecsDeploymentId": record.ecs_deployment_id,
        "serviceDeploymentArn": record.service_deployment_arn,
        "diagnosis": record.diagnosis.as_ref().map(diagnosis),
        "links": {
            "console": links.console,
            "commit": links.commit,
            "compare": links.compare,
            "logs": links.logs,
        },
        "pushedAt": record.pushed_at,
        "detectedAt": record.detected_at,
        "startedAt": record.started_at,
        "deadlineAt": record.deadline_at,
        "liveAt": record.live_at,
        "finishedAt": record.finished_at,
        "rolledBackAt": record.rolled_back_at,
    })
}

fn text(image: Option<&Provenance>, of: impl Fn(&Provenance) -> &Option<String>) -> Option<&str> {
    image.and_then(|image| of(image).as_deref())
}

fn time(image: Option<&Provenance>, of: impl Fn(&Provenance) -> Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    image.and_then(of)
}

fn recovery(recovery: &Recovery) -> Value {
    json!({
        "remedy": recovery.remedy,
        "why": recovery.why,
        "reason": recovery.reason,
        "actor": recovery.actor,
        "to": recovery.to,
        "recoveredBy": recovery.record,
        "at": recovery.at,
    })
}

fn diagnosis(found: &Diagnosis) -> Value {
    let log = found
        .log
        .as_ref()
        .map(|log| json!({"container": log.container, "group": log.group, "stream": log.stream, "lines": log.lines}));
    json!({"summary": found.summary, "findings": found.findings, "alarms": found.alarms, "log": log})
}

/// Cuts every text to `chars` characters and every list to its first `entries`.
fn cut(value: &mut Value, chars: usize, entries: usize) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(chars) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(values) => {
            values.truncate(entries);
            values.iter_mut().for_each(|value| cut(value, chars, entries));
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| cut(value, chars, entries)),
        _ => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::announce::message::examples::recovery;
    use crate::diagnosis::LogTail;
    pub(crate) use crate::record::tests::ALL as STATES;
    use crate::record::tests::record;
    use crate::record::{Origin, State, UndoneBy};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn at(time: &str) -> Option<DateTime<Utc>> {
        Some(format!("2026-11-16T{time}Z").parse().unwrap())
    }

    fn image(revision: &str, version: &str, committed: &str) -> Option<Provenance> {
        Some(Provenance {
            revision: Some(revision.into()),
            source: Some("https://github.com/tides/web".into()),
            version: Some(version.into()),
            created: at("09:54:01.5"),
            committed: at(committed),
        })
    }

    /// A record that says in its state all that it can.
    pub(crate) fn full(state: State) -> Record {
        let (was_live, is_bad) =
            (matches!(state, State::Succeeded | State::RolledBack), matches!(state, State::Failed | State::RolledBack));
        Record {
            environment: "live".into(),
            reason: format!("it is {}", state.as_str()),
            actor: Some("ci-web".into()),
            version: 3,
            tag: "v1.42.0".into(),
            tag_from: Some("v1.41.0".into()),
            provenance: image("3f9c2ab0f7c1d2e3a4b5c6d7e8f9a0b1c2d3e4f5", "1.42.0", "09:41:10"),
            provenance_from: image("9d1e0c4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9d0e", "1.41.0", "07:12:59"),
            notes: vec!["the roles could not be checked: no permission".into()],
            changed_by_others: vec!["containerDefinitions[web].environment[LOG_LEVEL]".into()],
            service_deployment_arn: Some(
                "arn:aws:ecs:eu-west-1:123456789012:service-deployment/production/web/NCWGC2ZR-taawPAYrIaU5".into(),
            ),
            started_at: at("09:54:37.25").filter(|_| state != State::Skipped),
            deadline_at: at("10:54:37.25"),
            live_at: at("09:57:49.125").filter(|_| was_live),
            finished_at: at("09:57:49.125").filter(|_| !state.is_open()),
            rolled_back_at: at("10:02:03").filter(|_| state == State::RolledBack),
            undone_by: match state {
                State::Failed => Some(UndoneBy::Ecs),
                State::RolledBack => Some(UndoneBy::Tidegate),
                _ => None,
            },
            recovery: (state == State::RolledBack)
                .then(|| Recovery { actor: Some("ana".into()), ..recovery("deploy", "back to 1.41.0") }),
            diagnosis: is_bad.then(|| Diagnosis {
                summary: "container web ended with exit code 1".into(),
                findings: vec!["container web ended with exit code 1".into(), "2 targets are unhealthy".into()],
                alarms: vec!["web-5xx".into()],
                log: Some(LogTail {
                    container: "web".into(),
                    group: "/ecs/web".into(),
                    stream: "web/web/5f2c".into(),
                    lines: vec!["starting".into(), "no route to database, password=***".into()],
                }),
            }),
            ..record(state)
        }
    }

    /// A record of which every text and list is this hostile.
    pub(crate) fn hostile(state: State, text: &str, list: &[String]) -> Record {
        let (some, full) = (Some(text.to_owned()), full(state));
        let image =
            Provenance { revision: some.clone(), source: some.clone(), version: some.clone(), ..Provenance::default() };
        let text = || text.to_owned();
        Record {
            id: text(),
            environment: text(),
            cluster: text(),
            service: text(),
            service_arn: text(),
            reason: text(),
            actor: some.clone(),
            recovers: some.clone(),
            recovery: Some(Recovery {
                why: text(),
                reason: text(),
                actor: some.clone(),
                to: some.clone(),
                record: some.clone(),
                ..recovery(["stop", "deploy", "hold"][list.len() % 3], "")
            }),
            repository: text(),
            tag: text(),
            digest: text(),
            digest_from: some.clone(),
            tag_from: some.clone(),
            revision_from: some.clone(),
            revision_to: some.clone(),
            ecs_deployment_id: some.clone(),
            service_deployment_arn: some,
            provenance: Some(image.clone()),
            provenance_from: Some(image),
            notes: list.to_vec(),
            changed_by_others: list.to_vec(),
            diagnosis: Some(Diagnosis {
                summary: text(),
                findings: list.to_vec(),
                alarms: list.to_vec(),
                log: Some(LogTail { container: text(), group: text(), stream: text(), lines: list.to_vec() }),
            }),
            ..full
        }
    }

    #[test]
    fn every_state_has_its_document() {
        insta::assert_json_snapshot!(STATES.map(|state| body(&full(state))));
    }

    #[test]
    fn a_recovery_names_what_it_takes_back_and_quarantines_nothing() {
        for state in STATES {
            let back =
                Record { origin: Origin::Rollback, recovers: Some("01JD".into()), recovery: None, ..full(state) };
            let body = body(&back);
            let told = (&body["origin"], &body["recovers"], &body["recovery"], &body["quarantined"]);
            assert_eq!(told, (&json!("rollback"), &json!("01JD"), &Value::Null, &Value::Null), "{state:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let theirs = Record {
            origin: Origin::External,
            digest: String::new(),
            digest_from: None,
            revision_from: None,
            pushed_at: None,
            ..record(State::Rolling)
        };
        insta::assert_json_snapshot!(body(&theirs));
    }

    /// The names of all fields, with those that they are in.
    fn names(value: &Value, within: &str, all: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let name = format!("{within}.{name}");
            names(value, &name, all);
            all.push(name);
        }
    }

    #[test]
    fn architecture_md_shows_every_field() {
        let text = include_str!("../../../ARCHITECTURE.md");
        let (_, section) = text.split_once("\n## The SNS message\n").unwrap();
        let (_, example) = section.split_once("```json\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let (mut shown, mut sent) = (Vec::new(), Vec::new());
        names(&serde_json::from_str(example).unwrap(), "", &mut shown);
        names(&body(&full(State::RolledBack)), "", &mut sent);
        shown.sort();
        sent.sort();
        assert_eq!(shown, sent);
    }

    #[test]
    fn a_subject_is_what_sns_takes() {
        let long = Record { service: format!("\n wéb\n{}", "x".repeat(200)), ..record(State::Rolling) };
        let subject = subject(&long);
        assert!(subject.starts_with("wb") && subject.len() < 100, "{subject}");
        assert_eq!(super::subject(&full(State::RolledBack)), "web in live: rolled back");
        let back = Record { origin: Origin::Rollback, ..full(State::Succeeded) };
        assert_eq!(super::subject(&back), "web in live: rollback succeeded");
        let held = Record { recovery: Some(recovery("hold", "")), ..full(State::Failed) };
        assert_eq!(super::subject(&held), "web in live: failed, not taken back");
    }

    #[test]
    fn a_cut_is_told() {
        let body = body(&Record { reason: "x".repeat(300_000), ..full(State::Failed) });
        assert_eq!(body["truncated"], true);
        assert_eq!(body["reason"].as_str().unwrap().chars().count(), 4_001);
        assert_eq!(body["diagnosis"]["log"]["lines"][0], "starting");
    }

    #[test]
    fn the_worst_record_is_cut_enough() {
        let worst = "\u{1}".repeat(5_000);
        let document = body(&hostile(State::Failed, &worst, &vec![worst.clone(); 50]));
        assert!(document.to_string().len() <= BODY_BYTES_MAX);
        assert_eq!(document["reason"].as_str().unwrap().chars().count(), 101);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_record_makes_a_document_too_large(
            text in "\\PC{0,20}|[\\x00-\\x1f\"🌊]{0,20}", list in vec("\\PC{0,20}|[\\x00-\\x1f\"🌊]{0,20}", 0..5),
            (longer, more) in (0_usize..100, 0_usize..5),
        ) {
            let list = vec![list; more].concat().iter().map(|text| text.repeat(longer)).collect::<Vec<_>>();
            let record = hostile(State::RolledBack, &text.repeat(longer), &list);
            let (body, whole) = (body(&record), whole(&record));
            let fits = whole.to_string().len() <= BODY_BYTES_MAX;
            prop_assert!(body.to_string().len() <= BODY_BYTES_MAX);
            prop_assert_eq!(&body["truncated"], !fits);
            prop_assert!(!fits || body == whole);
        }
    }
}
