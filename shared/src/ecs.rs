//! What we read from ECS and do to it.
//!
//! The SDK signs, retries and times out; the documents pass through it as JSON. Its typed structures would lose what
//! is younger than they are, so answers are taken from the wire, and requests that carry a whole document are put on
//! it. The views below hold only what decisions need, everything that AWS may leave out optional, every enumeration
//! open.

mod clusters;
mod instances;
mod rollout;
mod service;
mod tasks;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::{Client, Config};
use serde_json::{Value, json};

pub use self::clusters::{CapacityProvider, ClusterService, ClusterTask, ContainerInstance, Room};
pub(crate) use self::clusters::{number, reserved_memory};
pub use self::instances::Wanted;
pub use self::rollout::ServiceDeployment;
pub use self::service::{CLOCK_DIFFERENCE, Deployment, Service};
use self::wire::{Wire, put_on_wire};
#[cfg(test)]
pub(crate) use self::{rollout::tests::service_deployment, service::tests::service_with};
use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::pace::Bucket;
use crate::platform::Platform;
use crate::task_definition::{Draft, TaskDefinition};

/// Most services that one `DescribeServices` call takes.
pub const SERVICES_PER_CALL_MAX: usize = 10;
/// How often a revision is asked for, as often as the SDK sends any other call, and after what pause again: it doubles.
const REGISTER_ATTEMPTS_MAX: u32 = 4;
const REGISTER_PAUSE: Duration = Duration::from_millis(500);

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
    describe_service_deployments: Bucket,
    describe_tasks: Bucket,
    describe_task_definition: Bucket,
    register: Bucket,
    update_service: Bucket,
    container_instances: Bucket,
    update_container_instances: Bucket,
    capacity_providers: Bucket,
}

impl Ecs {
    /// ECS through `client`.
    #[must_use]
    pub fn new(client: Client, platform: Platform) -> Self {
        let pace = Pace {
            describe_services: Bucket::new(100, 20),
            describe_service_deployments: Bucket::new(50, 20),
            describe_tasks: Bucket::new(100, 20),
            describe_task_definition: Bucket::new(50, 20),
            register: Bucket::new(20, 1),
            update_service: Bucket::new(50, 5),
            container_instances: Bucket::new(100, 20),
            update_container_instances: Bucket::new(20, 5),
            capacity_providers: Bucket::new(50, 10),
        };
        Self { client, platform, pace: Arc::new(pace) }
    }

    /// Calls ECS when `bucket` lets it, and waits longer the next time if that was too soon. The answer is taken from the
    /// wire.
    async fn call<F>(
        &self,
        bucket: &Bucket,
        operation: &'static str,
        resource: &str,
        call: impl FnOnce(Wire) -> F,
    ) -> Result<Value, Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        bucket.take(&self.platform).await;
        let wire = Wire::default();
        let result = call(wire.clone()).await;
        if result.as_ref().is_err_and(Error::is_throttling) {
            bucket.drain(&self.platform);
        }
        result?;
        wire.answer(operation, resource)
    }

    /// `DescribeServices` with tags, for services of one cluster, at most [`SERVICES_PER_CALL_MAX`]. Services that are
    /// gone are absent from the answer.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn describe_services(&self, cluster: &str, services: &[String]) -> Result<Vec<Service>, Error> {
        const OPERATION: &str = "DescribeServices";
        let call = |wire| async {
            self.client
                .describe_services()
                .cluster(cluster)
                .set_services(Some(services.to_vec()))
                .include(aws_sdk_ecs::types::ServiceField::Tags)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, cluster, &error))
                .map(drop)
        };
        let answer = match self.call(&self.pace.describe_services, OPERATION, cluster, call).await {
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

    /// `service` in a view that shows the deployment `newest`, as far as asking once more helps: what was written down
    /// after ECS had answered is not in that answer. `None` where the service is gone since.
    ///
    /// # Errors
    /// As [`describe_services`](Self::describe_services).
    pub async fn showing(&self, service: Service, newest: Option<&str>) -> Result<Option<Service>, Error> {
        match newest.is_some_and(|id| service.deployment(id).is_none()) {
            true => self.describe_service(&service.id).await,
            false => Ok(Some(service)),
        }
    }

    /// `DescribeTaskDefinition` with tags, for the ARN of a revision, or a family's name, which means its newest
    /// active revision. `None` where it was deleted, which ECS calls a `ClientException`.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn describe_task_definition(&self, id: &str) -> Result<Option<TaskDefinition>, Error> {
        const OPERATION: &str = "DescribeTaskDefinition";
        let call = |wire| async {
            self.client
                .describe_task_definition()
                .task_definition(id)
                .include(aws_sdk_ecs::types::TaskDefinitionField::Tags)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, id, &error))
                .map(drop)
        };
        match self.call(&self.pace.describe_task_definition, OPERATION, id, call).await {
            Err(error) if error.code() == Some("ClientException") => Ok(None),
            answered => TaskDefinition::from_answer(OPERATION, id, answered?).map(Some),
        }
    }

    /// `RegisterTaskDefinition` of `draft` in `family`. ECS can't know that a request is one that it has had before, and
    /// would make a second revision of it: where the answer is lost, the family's newest revision tells whether there is
    /// one to ask for.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn register(&self, family: &str, draft: &Draft) -> Result<TaskDefinition, Error> {
        let mut pause = REGISTER_PAUSE;
        for _ in 1..REGISTER_ATTEMPTS_MAX {
            let error = match self.register_once(family, draft).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            self.platform.sleep(pause).await;
            pause *= 2;
            // Who is throttled is not heard.
            if !error.is_throttling() {
                let newest = self.describe_task_definition(family).await?;
                if let Some(registered) = newest.filter(|newest| draft.is_same_as(newest)) {
                    return Ok(registered);
                }
            }
        }
        self.register_once(family, draft).await
    }

    async fn register_once(&self, family: &str, draft: &Draft) -> Result<TaskDefinition, Error> {
        const OPERATION: &str = "RegisterTaskDefinition";
        let body = draft.request().to_string();
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let call = |wire| async {
            self.client
                .register_task_definition()
                .family(family)
                .customize()
                .config_override(once)
                .mutate_request(move |request| put_on_wire(request, &body))
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, family, &error))
                .map(drop)
        };
        let answer = self.call(&self.pace.register, OPERATION, family, call).await?;
        TaskDefinition::from_answer(OPERATION, family, answer)
    }

    /// `UpdateService` to this desired count, and nothing else: no deployment begins.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn set_desired_count(&self, service: &ServiceRef, desired: u32) -> Result<(), Error> {
        const OPERATION: &str = "UpdateService";
        let count = i32::try_from(desired).unwrap_or(i32::MAX);
        let call = |wire| async {
            self.client
                .update_service()
                .cluster(&service.cluster)
                .service(&service.service)
                .desired_count(count)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, service.to_string(), &error))
                .map(drop)
        };
        self.call(&self.pace.update_service, OPERATION, &service.to_string(), call).await.map(drop)
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
        let call = |wire| async {
            self.client
                .update_service()
                .cluster(cluster)
                .service(name)
                .customize()
                .mutate_request(move |request| put_on_wire(request, &body))
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(OPERATION, service.id.to_string(), &error))
                .map(drop)
        };
        let answer = self.call(&self.pace.update_service, OPERATION, &service.id.to_string(), call).await?;
        let updated = answer.get("service");
        updated.and_then(|updated| Service::read(cluster, updated)).ok_or_else(|| Error::Answer {
            operation: OPERATION,
            resource: service.id.to_string(),
            missing: "service",
        })
    }
}
