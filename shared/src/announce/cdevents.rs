//! [CDEvents](https://cdevents.dev) for EventBridge: the words that tools of continuous delivery share.
//!
//! The [standard](https://github.com/cdevents/spec/blob/v0.5.1/continuous-deployment.md) has events for a service that
//! was deployed, upgraded or rolled back. It has none for a deployment that begins, fails, turns bad or is superseded.
//! Those are [custom events](https://github.com/cdevents/spec/blob/v0.5.1/custom/README.md) of ours, about the deployment
//! itself.
//!
//! A service is rolled back when the good release is live again. So where a deployment of its own brings that back, it is
//! this one that tells so, and the bad one only that it is taken back.
//!
//! Pure: a record goes in, an event comes out.

use chrono::SecondsFormat;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Builder;

use super::message::rollback::is_held;
use super::sns;
use crate::links::encoded;
use crate::record::{Origin, Record, Remedy, State};

/// The version of the specification.
const SPEC_VERSION: &str = "0.5.1";
/// How many characters of each name an event has. The names of AWS are shorter.
const NAME_CHARS_MAX: usize = 256;

/// An event, as EventBridge wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct CdEvent {
    /// Its type, which is EventBridge's `detail-type` too, so that rules can match on it.
    pub detail_type: &'static str,
    /// The whole event, as the standard writes it.
    pub detail: Value,
}

/// The event that tells of the record's state; `None` where nothing has happened to the service.
///
/// An event stands for the change into a state. However often it is sent, its id and its time are the same: a receiver
/// can know by the id what it has already.
#[must_use]
pub fn event(record: &Record) -> Option<CdEvent> {
    let is_held = is_held(record);
    let (detail_type, is_custom) = match record.state {
        State::Intended | State::Skipped => return None,
        _ if is_held => ("dev.cdeventsx.tidegate-deployment.held.0.1.0", true),
        State::Succeeded if record.origin == Origin::Rollback => ("dev.cdevents.service.rolledback.0.3.0", false),
        State::RolledBack if is_brought_back(record) => ("dev.cdeventsx.tidegate-deployment.takenback.0.1.0", true),
        State::Rolling => ("dev.cdeventsx.tidegate-deployment.started.0.1.0", true),
        State::Failed => ("dev.cdeventsx.tidegate-deployment.failed.0.1.0", true),
        State::Superseded => ("dev.cdeventsx.tidegate-deployment.superseded.0.1.0", true),
        State::Succeeded if record.digest_from.is_none() => ("dev.cdevents.service.deployed.0.3.0", false),
        State::Succeeded => ("dev.cdevents.service.upgraded.0.3.0", false),
        State::RolledBack => ("dev.cdevents.service.rolledback.0.3.0", false),
    };
    let source = Home::of(record).cluster(&record.cluster);
    let service = format!("service/{}", name(&record.service));
    let environment = json!({"id": name(record.environment()), "source": source});
    let subject = match is_custom {
        true => json!({
            "id": name(&record.id),
            "source": source,
            "content": {
                "environment": environment,
                "service": {"id": service, "source": source},
                "artifactId": artifact(record),
            },
        }),
        false => json!({
            "id": service,
            "source": source,
            "content": {"environment": environment, "artifactId": artifact(record)},
        }),
    };
    let held_at = record.recovery.as_ref().map(|recovery| recovery.at).filter(|_| is_held);
    let at = held_at.unwrap_or_else(|| record.changed_at());
    let detail = json!({
        "context": {
            "specversion": SPEC_VERSION,
            "id": format!("{}-{}", name(&record.id), if is_held { "held" } else { record.state.as_str() }),
            "chainId": chain(&record.id),
            "source": source,
            "type": detail_type,
            "timestamp": at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        },
        "subject": subject,
        "customData": sns::body(record),
        "customDataContentType": "application/json",
    });
    Some(CdEvent { detail_type, detail })
}

/// Whether a deployment of its own brings a good release back in its place.
fn is_brought_back(record: &Record) -> bool {
    record.recovery.as_ref().is_some_and(|recovery| recovery.remedy == Remedy::Deploy)
}

/// Which image the event is about, as a
/// [package URL](https://github.com/package-url/purl-spec/blob/main/types/oci-definition.json). The events of the
/// standard name what the service runs since then: after a rollback, what it ran before.
fn artifact(record: &Record) -> String {
    let (reference, tag) = match record.state {
        State::RolledBack if !is_brought_back(record) && !is_held(record) => {
            (record.digest_from.as_deref().unwrap_or_default(), record.tag_from.as_deref())
        }
        _ => (record.digest.as_str(), Some(record.tag.as_str())),
    };
    // A task definition may name a tag and no digest.
    let (digest, tag) = match reference.contains(':') {
        true => (reference, tag.unwrap_or_default()),
        false => ("", tag.filter(|tag| !tag.is_empty()).unwrap_or(reference)),
    };
    let last = record.repository.rsplit('/').next().unwrap_or_default();
    let mut purl = format!("pkg:oci/{}", encoded(&name(last).to_lowercase()));
    if !digest.is_empty() {
        purl = format!("{purl}@{}", encoded(&name(digest)));
    }
    let registry = Home::of(record).registry();
    let repository = registry
        .map(|host| format!("repository_url={host}/{}", encoded(&name(&record.repository)).replace("%2F", "/")));
    let tag = Some(tag).filter(|tag| !tag.is_empty()).map(|tag| format!("tag={}", encoded(&name(tag))));
    let qualifiers: Vec<String> = repository.into_iter().chain(tag).collect();
    match qualifiers.is_empty() {
        true => purl,
        false => format!("{purl}?{}", qualifiers.join("&")),
    }
}

/// Where a service is, as its ARN says.
struct Home<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
}

impl<'a> Home<'a> {
    fn of(record: &'a Record) -> Self {
        let mut parts = record.service_arn.split(':').skip(1);
        let mut next = |skipped| parts.nth(skipped).unwrap_or_default();
        Self { partition: next(0), region: next(1), account: next(0) }
    }

    /// The ARN of the cluster, which is a URI.
    fn cluster(&self, cluster: &str) -> String {
        let Self { partition, region, account } = self;
        let parts = [partition, "ecs", region, account].map(|part| encoded(&name(part)));
        format!("arn:{}:cluster/{}", parts.join(":"), encoded(&name(cluster)))
    }

    /// The host of the registry that Tidegate deploys from, which is that of the service's account and Region.
    fn registry(&self) -> Option<String> {
        let domain = match self.partition {
            "aws" | "aws-us-gov" => "amazonaws.com",
            "aws-cn" => "amazonaws.com.cn",
            _ => return None,
        };
        let [account, region] = [self.account, self.region].map(|part| encoded(&name(part)));
        Some(format!("{account}.dkr.ecr.{region}.{domain}"))
    }
}

/// A name that is neither empty nor endless.
fn name(text: &str) -> String {
    match text.is_empty() {
        true => "unknown".to_owned(),
        false => text.chars().take(NAME_CHARS_MAX).collect(),
    }
}

/// The id that all events of one record share:
/// [a UUID](https://github.com/cdevents/spec/blob/v0.5.1/links.md), made of the record's id in the way that
/// [version 8](https://www.rfc-editor.org/rfc/rfc9562#section-5.8) leaves to us.
fn chain(id: &str) -> String {
    let mut bytes = uuid::Bytes::default();
    bytes.iter_mut().zip(Sha256::digest(id)).for_each(|(byte, hash)| *byte = hash);
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::message::examples::recovery;
    use crate::announce::sns::tests::{STATES, full, hostile};
    use cdevents_sdk::CDEvent;
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    /// What EventBridge takes, with what is around it.
    const DETAIL_BYTES_MAX: usize = 250_000;

    fn time(event: &Value) -> DateTime<Utc> {
        event["context"]["timestamp"].as_str().unwrap().parse().unwrap()
    }

    /// Reads an event with the SDK and writes it again. The SDK writes the same time in another way.
    fn there_and_back(event: &Value) -> Result<Value, serde_json::Error> {
        let read: CDEvent = serde_json::from_value(event.clone())?;
        let mut again = serde_json::to_value(&read)?;
        assert_eq!(time(&again), time(event));
        again["context"]["timestamp"] = event["context"]["timestamp"].clone();
        Ok(again)
    }

    #[test]
    fn every_state_has_its_event() {
        let events = STATES.map(|state| {
            let CdEvent { detail_type, mut detail } = event(&full(state))?;
            assert_eq!(detail["context"]["type"], detail_type);
            assert_eq!(detail["customData"], sns::body(&full(state)));
            detail["customData"] = "the SNS message".into();
            Some(detail)
        });
        insta::assert_json_snapshot!(events);
    }

    #[test]
    fn the_sdk_reads_what_we_write() {
        for state in STATES {
            for digest_from in [None, full(state).digest_from] {
                if let Some(event) = event(&Record { digest_from, ..full(state) }) {
                    assert_eq!(there_and_back(&event.detail).unwrap(), event.detail);
                }
            }
        }
    }

    #[test]
    fn the_first_deployment_is_no_upgrade() {
        let first = Record { digest_from: None, ..full(State::Succeeded) };
        assert_eq!(event(&first).unwrap().detail_type, "dev.cdevents.service.deployed.0.3.0");
    }

    #[test]
    fn a_service_is_rolled_back_once_and_by_whom_brings_the_good_release_back() {
        let back = |state| Record { origin: Origin::Rollback, recovers: Some("01JD".into()), ..full(state) };
        let with = |state, remedy| Record { recovery: Some(recovery(remedy, "")), ..full(state) };
        let alone = Record { recovery: None, ..full(State::RolledBack) };
        let standard = "dev.cdevents.service.rolledback.0.3.0";
        for (record, expected) in [
            (alone, standard),
            (with(State::RolledBack, "stop"), standard),
            (back(State::Succeeded), standard),
            (with(State::RolledBack, "deploy"), "dev.cdeventsx.tidegate-deployment.takenback.0.1.0"),
            (with(State::Failed, "deploy"), "dev.cdeventsx.tidegate-deployment.failed.0.1.0"),
            (with(State::Failed, "stop"), "dev.cdeventsx.tidegate-deployment.failed.0.1.0"),
            (back(State::Rolling), "dev.cdeventsx.tidegate-deployment.started.0.1.0"),
            (back(State::Failed), "dev.cdeventsx.tidegate-deployment.failed.0.1.0"),
            (with(State::Succeeded, "hold"), "dev.cdeventsx.tidegate-deployment.held.0.1.0"),
            (with(State::Failed, "hold"), "dev.cdeventsx.tidegate-deployment.held.0.1.0"),
        ] {
            let CdEvent { detail_type, detail } = event(&record).unwrap();
            assert_eq!(detail_type, expected, "{:?} {:?}", record.state, record.origin);
            assert_eq!(there_and_back(&detail).unwrap(), detail);
            let is_held = expected.contains("held");
            assert_eq!(detail["context"]["id"].as_str().unwrap().ends_with("-held"), is_held);
        }
    }

    #[test]
    fn events_of_one_deployment_share_a_chain_and_no_id() {
        let of = |state| event(&full(state)).unwrap().detail["context"].clone();
        let (rolling, done) = (of(State::Rolling), of(State::Succeeded));
        assert_eq!(rolling["chainId"], done["chainId"]);
        assert_ne!(rolling["id"], done["id"]);
        let later = event(&Record { version: 9, ..full(State::Rolling) }).unwrap();
        assert_eq!(later.detail["context"], rolling);
        let chain = rolling["chainId"].as_str().unwrap();
        assert!(chain.len() == 36 && chain.get(14..15) == Some("8"), "{chain}");
        assert!(chain.get(19..20).is_some_and(|variant| "89ab".contains(variant)), "{chain}");
    }

    #[test]
    fn an_artifact_is_what_the_service_runs() {
        let repository = "repository_url=123456789012.dkr.ecr.eu-west-1.amazonaws.com/tides/web";
        let (now, before) = ("4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "9a1f");
        let record = |state| Record { digest_from: Some(format!("sha256:{before}")), recovery: None, ..full(state) };
        let back = |state| Record { origin: Origin::Rollback, ..record(state) };
        let tagged = Record { digest: String::new(), ..full(State::Succeeded) };
        let back_to_tag = Record { digest_from: Some("v7".into()), tag_from: None, ..record(State::RolledBack) };
        let back_to_nothing = Record { digest_from: None, tag_from: None, ..record(State::RolledBack) };
        let china = Record {
            service_arn: "arn:aws-cn:ecs:cn-north-1:123456789012:service/production/web".into(),
            repository: "Web".into(),
            tag: String::new(),
            ..full(State::Succeeded)
        };
        let elsewhere = Record { service_arn: "arn:aws-iso:ecs:us-iso-east-1:1:service/web".into(), ..china.clone() };
        let cases = [
            (record(State::Succeeded), format!("pkg:oci/web@sha256%3A{now}?{repository}&tag=v1.42.0")),
            (record(State::Failed), format!("pkg:oci/web@sha256%3A{now}?{repository}&tag=v1.42.0")),
            (record(State::RolledBack), format!("pkg:oci/web@sha256%3A{before}?{repository}&tag=v1.41.0")),
            // It still runs.
            (full(State::RolledBack), format!("pkg:oci/web@sha256%3A{now}?{repository}&tag=v1.42.0")),
            (back(State::Succeeded), format!("pkg:oci/web@sha256%3A{now}?{repository}&tag=v1.42.0")),
            (tagged, format!("pkg:oci/web?{repository}&tag=v1.42.0")),
            (back_to_tag, format!("pkg:oci/web?{repository}&tag=v7")),
            (back_to_nothing, format!("pkg:oci/web?{repository}")),
            (
                china,
                format!(
                    "pkg:oci/web@sha256%3A{now}?repository_url=123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/Web"
                ),
            ),
            (elsewhere, format!("pkg:oci/web@sha256%3A{now}")),
        ];
        for (record, purl) in cases {
            assert_eq!(artifact(&record), purl);
        }
    }

    #[test]
    fn an_old_arn_is_enough() {
        let old = Record {
            service_arn: "arn:aws-cn:ecs:cn-north-1:123456789012:service/web".into(),
            ..full(State::Succeeded)
        };
        let source = event(&old).unwrap().detail["context"]["source"].clone();
        assert_eq!(source, "arn:aws-cn:ecs:cn-north-1:123456789012:cluster/production");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_record_makes_an_event_that_the_sdk_reads(
            state in prop::sample::select(STATES.to_vec()),
            text in "\\PC{0,20}|[\\x00-\\x1f:/?#%\"🌊]{0,20}", longer in 0_usize..60, more in 0_usize..20,
        ) {
            let text = text.repeat(longer);
            let list = vec![text.clone(); more];
            if let Some(event) = event(&hostile(state, &text, &list)) {
                prop_assert!(event.detail.to_string().len() <= DETAIL_BYTES_MAX);
                prop_assert_eq!(there_and_back(&event.detail).unwrap(), event.detail);
            }
        }
    }
}
