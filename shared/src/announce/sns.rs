//! The SNS topic: one JSON message for each state of a record that people should know of.
//!
//! The schema is part of the contract for readers and documented in ARCHITECTURE.md. Delivery is at least once;
//! `id` and `version` tell repetitions apart.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::{Value, json};

use crate::error::{Error, from_sdk};
use crate::record::Record;

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
    pub async fn publish(&self, record: &Record, environment: Option<&str>) -> Result<(), Error> {
        let attribute = |value: &str| {
            MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .map_err(|error| Error::Input(format!("an attribute of the SNS message is incomplete: {error}")))
        };
        self.client
            .publish()
            .topic_arn(&self.arn)
            .subject(subject(record))
            .message(body(record, environment).to_string())
            .message_attributes("state", attribute(record.state.as_str())?)
            .message_attributes("service", attribute(&record.service)?)
            .message_attributes("cluster", attribute(&record.cluster)?)
            .send()
            .await
            .map_err(|error| from_sdk("Publish", &self.arn, &error))?;
        Ok(())
    }
}

/// The subject of the e-mail that a subscriber may get: at most 100 characters.
fn subject(record: &Record) -> String {
    let subject = format!("{} in {}: {}", record.service, record.cluster, record.state.as_str());
    subject.chars().filter(|character| character.is_ascii_graphic() || *character == ' ').take(100).collect()
}

fn body(record: &Record, environment: Option<&str>) -> Value {
    json!({
        "schema": "tidegate.deployment/1",
        "id": record.id,
        "version": record.version,
        "state": record.state,
        "reason": record.reason,
        "origin": record.origin,
        "notes": record.notes,
        "changedByOthers": record.changed_by_others,
        "environment": environment.unwrap_or(&record.cluster),
        "cluster": record.cluster,
        "service": record.service,
        "serviceArn": record.service_arn,
        "image": {
            "repository": record.repository,
            "tag": record.tag,
            "digest": record.digest,
            "digestFrom": record.digest_from,
        },
        "taskDefinition": {"from": record.revision_from, "to": record.revision_to},
        "ecsDeploymentId": record.ecs_deployment_id,
        "pushedAt": record.pushed_at,
        "detectedAt": record.detected_at,
        "startedAt": record.started_at,
        "finishedAt": record.finished_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::State;
    use crate::record::tests::record;

    #[test]
    fn the_schema_is_stable() {
        insta::assert_json_snapshot!(body(&record(State::Rolling), Some("live")));
    }

    #[test]
    fn a_subject_is_what_sns_takes() {
        let long = Record { service: format!("wéb\n{}", "x".repeat(200)), ..record(State::Rolling) };
        let subject = subject(&long);
        assert!(subject.len() <= 100 && subject.is_ascii() && !subject.contains('\n'), "{subject}");
    }
}
