//! What we read from ECS and do to it.
//!
//! The SDK signs, retries and times out; the documents pass through it as JSON. Its typed structures would lose what
//! is younger than they are, so answers are taken from the wire, and requests that carry a whole document are put on
//! it. The views below hold only what decisions need, everything that AWS may leave out optional, every enumeration
//! open.

use std::future::Future;
use std::sync::{Arc, Mutex};

use aws_sdk_ecs::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::pace::Bucket;
use crate::platform::Platform;
use crate::tags::Tag;
use crate::task_definition::{Draft, TaskDefinition, read_tags};

/// ECS creates a deployment before our clock notes that it was accepted; clocks may differ by this much.
pub const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(30);

/// Most services that one `DescribeServices` call takes.
pub const SERVICES_PER_CALL_MAX: usize = 10;

/// A service as `DescribeServices` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Which service.
    pub id: ServiceRef,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its deployments, as ECS lists them.
    pub deployments: Vec<Deployment>,
    /// The deployment configuration, as ECS wrote it.
    deployment_configuration: Value,
}

/// A deployment of a service. See
/// [Deployment](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// `ecs-svc/<digits>`.
    pub id: String,
    /// `PRIMARY`, `ACTIVE` or `INACTIVE`.
    #[serde(default)]
    pub status: String,
    /// ARN of the revision it runs.
    #[serde(default)]
    pub task_definition: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`; absent for some controllers.
    #[serde(default)]
    pub rollout_state: String,
    /// ECS's words about the state.
    #[serde(default)]
    pub rollout_state_reason: String,
    /// Tasks wanted.
    #[serde(default)]
    pub desired_count: i64,
    /// Tasks running.
    #[serde(default)]
    pub running_count: i64,
    /// When it was created: seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
}

impl Deployment {
    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis((self.created_at * 1000.0) as i64)
    }
}

impl Service {
    fn read(cluster: &str, answer: &Value) -> Option<Self> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (arn, name) = (text("serviceArn"), text("serviceName"));
        let controller = answer.pointer("/deploymentController/type").and_then(Value::as_str);
        let deployments = answer.get("deployments").and_then(Value::as_array);
        Some(Self {
            id: ServiceRef { cluster: cluster.to_owned(), service: name, arn },
            status: text("status"),
            controller: controller.unwrap_or("ECS").to_owned(),
            tags: answer.get("tags").map(read_tags).unwrap_or_default(),
            deployments: deployments
                .into_iter()
                .flatten()
                .filter_map(|deployment| Deployment::deserialize(deployment).ok())
                .collect(),
            deployment_configuration: answer.get("deploymentConfiguration").cloned().unwrap_or_default(),
        })
        .filter(|service| !service.id.service.is_empty())
    }

    /// The deployment that ECS is bringing the service to, or has brought it to.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
    }

    /// A deployment by its id.
    #[must_use]
    pub fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }

    /// Whether ECS is bringing back an earlier deployment because a newer one has failed. ECS takes the old deployment
    /// up again under its old id.
    #[must_use]
    pub fn is_rolling_back(&self) -> bool {
        self.primary().filter(|primary| primary.rollout_state == "IN_PROGRESS").is_some_and(|primary| {
            let mut others = self.deployments.iter();
            others.any(|other| other.rollout_state == "FAILED" && other.created_at > primary.created_at)
        })
    }

    /// The names of the CloudWatch alarms that ECS watches during a deployment of this service.
    #[must_use]
    pub fn deployment_alarms(&self) -> Vec<String> {
        let alarms =
            self.deployment_configuration.get("alarms").filter(|alarms| alarms.get("enable") == Some(&true.into()));
        let names = alarms.and_then(|alarms| alarms.get("alarmNames")).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The deployment configuration with the circuit breaker and its rollback on, to be sent with a deployment. `None`
    /// where the owner has turned the breaker on already, with whatever settings; chose a strategy other than rolling;
    /// or has lifecycle hooks, whose roles we would have to hand on. ECS shows a breaker that was never configured as
    /// `{"enable": false, "rollback": false}`.
    fn with_circuit_breaker(&self) -> Option<Value> {
        let configuration = &self.deployment_configuration;
        let is_on = configuration.pointer("/deploymentCircuitBreaker/enable") == Some(&Value::Bool(true));
        let strategy = configuration.get("strategy").and_then(Value::as_str).unwrap_or("ROLLING");
        let hooks = configuration.get("lifecycleHooks").and_then(Value::as_array).map_or(0, Vec::len);
        if is_on || strategy != "ROLLING" || hooks > 0 {
            return None;
        }
        let mut configuration = match configuration {
            Value::Object(fields) => fields.clone(),
            _ => serde_json::Map::new(),
        };
        let breaker = configuration.entry("deploymentCircuitBreaker").or_insert_with(|| json!({}));
        if let Value::Object(breaker) = breaker {
            breaker.insert("enable".into(), true.into());
            breaker.insert("rollback".into(), true.into());
        }
        Some(Value::Object(configuration))
    }
}

/// ECS's API, called no faster than
/// [ECS lets an account](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html).
#[derive(Debug, Clone)]
pub struct Ecs {
    client: Client,
    platform: Platform,
    pace: Arc<Pace>,
}

/// ECS's rates, as bursts and calls per second. An environment that stays warm keeps its count; others of the account
/// spend from the same rates, so that being throttled remains possible.
#[derive(Debug)]
struct Pace {
    describe_services: Bucket,
    describe_task_definition: Bucket,
    register: Bucket,
    update_service: Bucket,
}

impl Ecs {
    /// ECS through `client`.
    #[must_use]
    pub fn new(client: Client, platform: Platform) -> Self {
        let pace = Pace {
            describe_services: Bucket::new(100, 20),
            describe_task_definition: Bucket::new(50, 20),
            register: Bucket::new(20, 1),
            update_service: Bucket::new(50, 5),
        };
        Self { client, platform, pace: Arc::new(pace) }
    }

    /// Calls ECS when `bucket` lets it, and waits longer the next time if that was too soon.
    async fn paced<T>(&self, bucket: &Bucket, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        bucket.take(&self.platform).await;
        let result = call.await;
        if result.as_ref().is_err_and(Error::is_throttling) {
            bucket.drain(&self.platform);
        }
        result
    }

    /// `DescribeServices` with tags, for services of one cluster, at most [`SERVICES_PER_CALL_MAX`]. Services that are
    /// gone are absent from the answer.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn describe_services(&self, cluster: &str, services: &[String]) -> Result<Vec<Service>, Error> {
        const OPERATION: &str = "DescribeServices";
        let call = async {
            let wire = Wire::default();
            self.client
                .describe_services()
                .cluster(cluster)
                .set_services(Some(services.to_vec()))
                .include(aws_sdk_ecs::types::ServiceField::Tags)
                .customize()
                .interceptor(wire.clone())
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, cluster, &error))?;
            wire.answer(OPERATION, cluster)
        };
        let answer = match self.paced(&self.pace.describe_services, call).await {
            Err(error) if error.code() == Some("ClusterNotFoundException") => return Ok(Vec::new()),
            answered => answered?,
        };
        let Some(Value::Array(services)) = answer.get("services") else {
            return Err(Error::Answer { operation: OPERATION, resource: cluster.into(), missing: "services" });
        };
        Ok(services.iter().filter_map(|service| Service::read(cluster, service)).collect())
    }

    /// One service, or `None` where it is gone.
    ///
    /// # Errors
    /// As [`describe_services`](Self::describe_services).
    pub async fn describe_service(&self, id: &ServiceRef) -> Result<Option<Service>, Error> {
        let services = self.describe_services(&id.cluster, std::slice::from_ref(&id.service)).await?;
        Ok(services.into_iter().next())
    }

    /// `DescribeTaskDefinition` with tags, for the ARN of a revision, or a family's name, which means its newest
    /// active revision.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn describe_task_definition(&self, id: &str) -> Result<TaskDefinition, Error> {
        const OPERATION: &str = "DescribeTaskDefinition";
        let call = async {
            let wire = Wire::default();
            self.client
                .describe_task_definition()
                .task_definition(id)
                .include(aws_sdk_ecs::types::TaskDefinitionField::Tags)
                .customize()
                .interceptor(wire.clone())
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, id, &error))?;
            wire.answer(OPERATION, id)
        };
        TaskDefinition::from_answer(OPERATION, id, self.paced(&self.pace.describe_task_definition, call).await?)
    }

    /// `RegisterTaskDefinition` of `draft` in `family`.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn register(&self, family: &str, draft: &Draft) -> Result<TaskDefinition, Error> {
        const OPERATION: &str = "RegisterTaskDefinition";
        let body = draft.request().to_string();
        let call = async {
            let wire = Wire::default();
            self.client
                .register_task_definition()
                .family(family)
                .customize()
                .mutate_request(move |request| put_on_wire(request, &body))
                .interceptor(wire.clone())
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, family, &error))?;
            wire.answer(OPERATION, family)
        };
        TaskDefinition::from_answer(OPERATION, family, self.paced(&self.pace.register, call).await?)
    }

    /// `UpdateService` to `revision`: starts a deployment, with the circuit breaker on unless the owner has set it.
    /// Never sends a desired count: that belongs to the owner or the scaler. Returns the service as it is then.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn start_deployment(&self, service: &Service, revision: &str) -> Result<Service, Error> {
        const OPERATION: &str = "UpdateService";
        let ServiceRef { cluster, service: name, .. } = &service.id;
        let mut request = json!({"cluster": cluster, "service": name, "taskDefinition": revision});
        if let (Value::Object(fields), Some(configuration)) = (&mut request, service.with_circuit_breaker()) {
            fields.insert("deploymentConfiguration".into(), configuration);
        }
        let body = request.to_string();
        let call = async {
            let wire = Wire::default();
            self.client
                .update_service()
                .cluster(cluster)
                .service(name)
                .customize()
                .mutate_request(move |request| put_on_wire(request, &body))
                .interceptor(wire.clone())
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, service.id.to_string(), &error))?;
            wire.answer(OPERATION, &service.id.to_string())
        };
        let answer = self.paced(&self.pace.update_service, call).await?;
        let updated = answer.get("service");
        updated.and_then(|updated| Service::read(cluster, updated)).ok_or_else(|| Error::Answer {
            operation: OPERATION,
            resource: service.id.to_string(),
            missing: "service",
        })
    }
}

/// Puts `body` on the wire in place of what the SDK serialised. Runs before signing.
fn put_on_wire(request: &mut HttpRequest, body: &str) {
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

/// Keeps the body of an answer as it came over the wire.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Option<Vec<u8>>>>);

impl Wire {
    fn answer(&self, operation: &'static str, resource: &str) -> Result<Value, Error> {
        let body = self.0.lock().ok().and_then(|mut kept| kept.take()).unwrap_or_default();
        serde_json::from_slice(&body).map_err(|_| Error::Answer {
            operation,
            resource: resource.to_owned(),
            missing: "a JSON body",
        })
    }
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "Wire"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(body), Ok(mut kept)) = (context.response().body().bytes(), self.0.lock()) {
            *kept = Some(body.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A service of the cluster `production` with these fields, to build tests on.
    pub(crate) fn service_with(fields: Value) -> Service {
        let mut answer = json!({
            "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/production/web", "serviceName": "web",
        });
        answer.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Service::read("production", &answer).unwrap()
    }

    fn service(configuration: Value) -> Service {
        service_with(json!({"deploymentConfiguration": configuration}))
    }

    #[test]
    fn the_circuit_breaker_is_turned_on_and_all_else_is_kept() {
        let configuration = json!({
            "maximumPercent": 150, "fieldOfTomorrow": {"x": 1},
            "deploymentCircuitBreaker": {"enable": false, "rollback": false, "resetOnHealthyTask": true},
        });
        let sent = service(configuration).with_circuit_breaker().unwrap();
        assert_eq!(
            sent,
            json!({
                "maximumPercent": 150, "fieldOfTomorrow": {"x": 1},
                "deploymentCircuitBreaker": {"enable": true, "rollback": true, "resetOnHealthyTask": true},
            })
        );
    }

    #[test]
    fn what_the_owner_has_set_is_left_alone() {
        let on = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": false}});
        assert_eq!(service(on).with_circuit_breaker(), None);
        assert_eq!(service(json!({"strategy": "BLUE_GREEN"})).with_circuit_breaker(), None);
        assert_eq!(service(json!({"lifecycleHooks": [{"roleArn": "x"}]})).with_circuit_breaker(), None);
    }

    #[test]
    fn a_service_without_any_configuration_gets_the_breaker() {
        let sent = service(Value::Null).with_circuit_breaker().unwrap();
        assert_eq!(sent, json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}}));
    }

    #[test]
    fn a_rollback_by_ecs_is_told_from_a_rollout() {
        let with = |newer: &str, primary: &str| {
            service_with(json!({"deployments": [
                {"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": primary, "createdAt": 1.0},
                {"id": "ecs-svc/2", "status": "ACTIVE", "rolloutState": newer, "createdAt": 2.0},
            ]}))
        };
        assert!(with("FAILED", "IN_PROGRESS").is_rolling_back());
        assert!(!with("FAILED", "COMPLETED").is_rolling_back(), "it has ended");
        assert!(!with("IN_PROGRESS", "IN_PROGRESS").is_rolling_back());
    }

    #[test]
    fn alarms_that_are_configured_and_switched_off_do_not_count() {
        let alarms = |enable: bool| service(json!({"alarms": {"alarmNames": ["web-5xx"], "enable": enable}}));
        assert_eq!(alarms(true).deployment_alarms(), ["web-5xx"]);
        assert!(alarms(false).deployment_alarms().is_empty() && service(Value::Null).deployment_alarms().is_empty());
    }

    #[test]
    fn an_odd_deployment_does_not_hide_the_others() {
        let answer = json!({"serviceName": "web", "deployments": [
            {"status": "PRIMARY"}, {"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "STATE_OF_TOMORROW"},
        ]});
        let service = Service::read("production", &answer).unwrap();
        assert_eq!(service.primary().unwrap().rollout_state, "STATE_OF_TOMORROW");
    }
}
