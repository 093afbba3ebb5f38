//! Service deployments: ECS's own account of how a rollout went, kept for 90 days. See
//! [service deployments](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment.html).

use std::collections::BTreeMap;

use aws_sdk_ecs::types::StopServiceDeploymentStopType;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::service::read_all;
use super::{CLOCK_DIFFERENCE, Ecs};
use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::platform::from_seconds;

/// A service deployment. See
/// [ServiceDeployment](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html).
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDeployment {
    /// Its ARN.
    #[serde(rename = "serviceDeploymentArn")]
    pub arn: String,
    /// `PENDING`, `IN_PROGRESS`, `SUCCESSFUL`, `STOPPED`, `ROLLBACK_SUCCESSFUL`, or others.
    #[serde(default)]
    pub status: String,
    /// ECS's words about the status.
    #[serde(default)]
    pub status_reason: String,
    #[serde(default)]
    finished_at: Option<f64>,
    #[serde(default)]
    target_service_revision: Value,
    #[serde(default)]
    rollback: Value,
    #[serde(default)]
    deployment_circuit_breaker: Value,
    #[serde(default)]
    alarms: Value,
    /// Id (`ecs-svc/<digits>`) of the deployment that was made while this one had not ended, where there is one.
    #[serde(skip)]
    pub overtaken_by: Option<String>,
}

impl ServiceDeployment {
    /// When it ended.
    #[must_use]
    pub fn finished(&self) -> Option<DateTime<Utc>> {
        self.finished_at.and_then(from_seconds)
    }

    /// Whether it is what `DescribeServices` calls the deployment `id`: a service revision has the digits of
    /// `ecs-svc/<digits>`, which is not documented, so what does not match is not used.
    #[must_use]
    pub fn is_of(&self, id: &str) -> bool {
        let revision = self.target_service_revision.get("arn").and_then(Value::as_str);
        revision.is_some_and(|arn| is_revision_of(arn, id))
    }

    /// Why ECS goes back, or went back, where it does.
    #[must_use]
    pub fn rollback_reason(&self) -> Option<&str> {
        self.rollback.get("reason").and_then(Value::as_str).filter(|reason| !reason.is_empty())
    }

    /// Whether the circuit breaker or a deployment alarm has ended it.
    #[must_use]
    pub fn was_ended_by_ecs(&self) -> bool {
        [&self.deployment_circuit_breaker, &self.alarms]
            .iter()
            .any(|guard| guard.get("status").and_then(Value::as_str) == Some("TRIGGERED"))
    }

    /// The deployment alarms that went off.
    #[must_use]
    pub fn alarms_that_fired(&self) -> Vec<String> {
        read_all(self.alarms.get("triggeredAlarmNames"))
    }
}

/// What a listing shows of a service deployment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Brief {
    #[serde(rename = "serviceDeploymentArn")]
    arn: String,
    #[serde(rename = "targetServiceRevisionArn", default)]
    revision: String,
    #[serde(rename = "createdAt", default)]
    created_at: f64,
}

/// The id of the first deployment that was made after `ours` and before its end. ECS ends a deployment when the next
/// one is made; whoever stops one by hand does so before that.
fn overtaken_by(ours: &Brief, found: &ServiceDeployment, briefs: &[Brief]) -> Option<String> {
    let end = found.finished_at?;
    let newer = briefs.iter().filter(|brief| ours.created_at < brief.created_at && brief.created_at <= end);
    let first = newer.min_by(|one, other| one.created_at.total_cmp(&other.created_at))?;
    Some(format!("ecs-svc/{}", first.revision.rsplit('/').next().filter(|digits| !digits.is_empty())?))
}

fn is_revision_of(revision_arn: &str, deployment_id: &str) -> bool {
    let digits = deployment_id.rsplit('/').next().filter(|digits| !digits.is_empty());
    digits.is_some() && revision_arn.rsplit('/').next() == digits
}

impl Ecs {
    /// The service deployment behind the deployment `id`, which was made after `since`; `None` where ECS has none, as
    /// for deployments of before 2024-10-25.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn service_deployment(
        &self,
        service: &ServiceRef,
        id: &str,
        since: DateTime<Utc>,
    ) -> Result<Option<ServiceDeployment>, Error> {
        const LIST: &str = "ListServiceDeployments";
        const DESCRIBE: &str = "DescribeServiceDeployments";
        let resource = service.to_string();
        let after = aws_smithy_types::DateTime::from_secs((since - CLOCK_DIFFERENCE).timestamp());
        let created = aws_sdk_ecs::types::CreatedAt::builder().after(after).build();
        let list = |wire| async {
            self.client
                .list_service_deployments()
                .cluster(&service.cluster)
                .service(&service.service)
                .created_at(created)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(LIST, &resource, &error))
                .map(drop)
        };
        let listed = self.call(&self.pace.describe_service_deployments, LIST, &resource, list).await?;
        let briefs: Vec<Brief> = read_all(listed.get("serviceDeployments"));
        let Some(ours) = briefs.iter().find(|brief| is_revision_of(&brief.revision, id)) else { return Ok(None) };
        let arn = &ours.arn;
        let describe = |wire| async {
            self.client
                .describe_service_deployments()
                .service_deployment_arns(arn)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(DESCRIBE, &resource, &error))
                .map(drop)
        };
        let described = self.call(&self.pace.describe_service_deployments, DESCRIBE, &resource, describe).await?;
        let deployments: Vec<ServiceDeployment> = read_all(described.get("serviceDeployments"));
        let found = deployments.into_iter().find(|deployment| deployment.is_of(id));
        Ok(found.map(|found| ServiceDeployment { overtaken_by: overtaken_by(ours, &found, &briefs), ..found }))
    }

    /// `StopServiceDeployment` with `ROLLBACK`: ECS goes back to the deployment that completed last, also where the
    /// service has no circuit breaker. `false` where that can't be done, or can't be done any more.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn stop_deployment(&self, service: &ServiceRef, arn: &str) -> Result<bool, Error> {
        const OPERATION: &str = "StopServiceDeployment";
        let resource = service.to_string();
        let call = |wire| async {
            self.client
                .stop_service_deployment()
                .service_deployment_arn(arn)
                .stop_type(StopServiceDeploymentStopType::Rollback)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, &resource, &error))
                .map(drop)
        };
        match self.call(&self.pace.update_service, OPERATION, &resource, call).await {
            Ok(_) => Ok(true),
            Err(error) if NOT_STOPPED.iter().any(|code| error.code() == Some(code)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The digests that the containers of the deployment `id` were started with, by container: ECS resolves a tag once
    /// for each deployment. Empty where ECS does not know.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn digests_of(&self, service: &ServiceRef, id: &str) -> Result<BTreeMap<String, String>, Error> {
        const OPERATION: &str = "DescribeServiceRevisions";
        let digits = id.rsplit('/').next().unwrap_or_default();
        let Some((head, _)) = service.arn.split_once(":service/") else { return Ok(BTreeMap::new()) };
        let arn = format!("{head}:service-revision/{service}/{digits}");
        let call = |wire| async {
            self.client
                .describe_service_revisions()
                .service_revision_arns(&arn)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, &arn, &error))
                .map(drop)
        };
        let answer = match self.call(&self.pace.describe_service_deployments, OPERATION, &arn, call).await {
            Err(error) if !error.is_transient() => return Ok(BTreeMap::new()),
            answered => answered?,
        };
        let revisions = answer.get("serviceRevisions").and_then(Value::as_array);
        let images = revisions.into_iter().flatten().filter_map(|revision| revision.get("containerImages"));
        let images = images.filter_map(Value::as_array).flatten();
        Ok(images.filter_map(|image| Some((text(image, "containerName")?, text(image, "imageDigest")?))).collect())
    }
}

/// What ECS answers where a service deployment can't be stopped: it is too late, it is none that ECS keeps, or its
/// strategy knows no such thing; or where we may not, for then we may still deploy.
const NOT_STOPPED: [&str; 5] = [
    "AccessDeniedException",
    "ConflictException",
    "InvalidParameterException",
    "ServiceDeploymentNotFoundException",
    "UnsupportedFeatureException",
];

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A service deployment with these fields, of the deployment `ecs-svc/8251469930473958214`.
    pub(crate) fn service_deployment(fields: &Value) -> ServiceDeployment {
        let mut answer = json!({
            "serviceDeploymentArn": "arn:aws:ecs:eu-west-1:123456789012:service-deployment/production/web/NCWGC2ZR",
            "targetServiceRevision": {
                "arn": "arn:aws:ecs:eu-west-1:123456789012:service-revision/production/web/8251469930473958214",
            },
        });
        answer.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ServiceDeployment::deserialize(&answer).unwrap()
    }

    #[test]
    fn it_is_matched_by_the_digits_of_its_revision() {
        let deployment = service_deployment(&json!({}));
        assert!(deployment.is_of("ecs-svc/8251469930473958214"));
        for other in ["ecs-svc/825146993047395821", "ecs-svc/", ""] {
            assert!(!deployment.is_of(other), "{other}");
        }
    }

    #[test]
    fn what_was_made_before_its_end_has_overtaken_it() {
        let brief = |digits: u64, created_at: f64| {
            let revision = format!("arn:aws:ecs:eu-west-1:123456789012:service-revision/production/web/{digits}");
            Brief { arn: String::new(), revision, created_at }
        };
        let briefs = [brief(4, 40.0), brief(3, 30.0), brief(2, 20.0), brief(1, 10.0)];
        let overtaken = |end: Option<f64>| {
            let found = ServiceDeployment { finished_at: end, ..ServiceDeployment::default() };
            overtaken_by(&briefs[2], &found, &briefs)
        };
        assert_eq!(overtaken(Some(30.0)).as_deref(), Some("ecs-svc/3"));
        assert_eq!(overtaken(Some(45.0)).as_deref(), Some("ecs-svc/3"));
        assert_eq!(overtaken(Some(29.0)), None, "it had ended before");
        assert_eq!(overtaken(None), None);
    }

    #[test]
    fn what_ended_it_is_told_by_its_guards() {
        let alarms = json!({"status": "TRIGGERED", "triggeredAlarmNames": ["web-5xx"], "alarmNames": ["web-5xx", "b"]});
        let ended = service_deployment(&json!({"alarms": alarms, "finishedAt": 1_794_822_877.5}));
        assert!(ended.was_ended_by_ecs());
        assert_eq!(ended.alarms_that_fired(), ["web-5xx"]);
        assert_eq!(ended.finished().unwrap().timestamp_millis(), 1_794_822_877_500);
        assert!(!service_deployment(&json!({"alarms": {"status": "MONITORING"}})).was_ended_by_ecs());
    }
}
