//! What runs in a whole cluster: its container instances, services and tasks.

use std::collections::BTreeSet;
use std::future::Future;

use aws_sdk_ecs::types::{ContainerInstanceStatus, DesiredStatus};
use serde_json::Value;

use super::clusters::{CapacityProvider, ClusterService, ClusterTask, ContainerInstance};
use super::wire::Wire;
use super::{Ecs, SERVICES_PER_CALL_MAX};
use crate::error::{Error, from_sdk};
use crate::pace::Bucket;

/// Most items that one page of a listing, and one call that describes instances or tasks, takes.
const PER_CALL_MAX: usize = 100;
/// The same, as the SDK wants it.
const PER_PAGE_MAX: i32 = 100;
/// Most container instances that one `UpdateContainerInstancesState` call takes.
const INSTANCES_PER_UPDATE_MAX: usize = 10;
/// A listing with more pages than this does not end.
const PAGES_MAX: usize = 1000;

/// Which tasks of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// All that are to run: those without a place as well.
    Running,
    /// Those of a container instance that are to stop, or have stopped.
    StoppingOn(&'a str),
}

impl Ecs {
    /// All pages of a listing: the texts in `field` of each.
    async fn pages<F>(
        &self,
        bucket: &Bucket,
        operation: &'static str,
        cluster: &str,
        field: &'static str,
        page: impl Fn(Wire, Option<String>) -> F,
    ) -> Result<Vec<String>, Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let (mut all, mut token) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let answer = self.call(bucket, operation, cluster, |wire| page(wire, token.take())).await?;
            all.extend(texts(&answer, field, operation, cluster)?);
            token =
                answer.get("nextToken").and_then(Value::as_str).filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// ARNs of the cluster's container instances, whatever their state but INACTIVE; or of those that a `filter` in the
    /// [cluster query language](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html)
    /// selects.
    ///
    /// # Errors
    /// [`Error::Aws`], with the code `ClusterNotFoundException` where the cluster is gone; [`Error::Answer`].
    pub async fn list_container_instances(&self, cluster: &str, filter: Option<&str>) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "ListContainerInstances";
        let page = |wire, token| async move {
            let request = self.client.list_container_instances().cluster(cluster).set_filter(filter.map(str::to_owned));
            let request = request.max_results(PER_PAGE_MAX).set_next_token(token);
            let sent = request.customize().interceptor(wire).send().await;
            sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
        };
        self.pages(&self.pace.container_instances, OPERATION, cluster, "containerInstanceArns", page).await
    }

    /// Container instances by their ARNs. Those that are gone are absent.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn container_instances(&self, cluster: &str, arns: &[String]) -> Result<Vec<ContainerInstance>, Error> {
        const OPERATION: &str = "DescribeContainerInstances";
        let mut instances = Vec::with_capacity(arns.len());
        for some in arns.chunks(PER_CALL_MAX) {
            let call = |wire| async {
                let request = self.client.describe_container_instances().cluster(cluster);
                let request = request.set_container_instances(Some(some.to_vec()));
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            };
            let answer = self.call(&self.pace.container_instances, OPERATION, cluster, call).await?;
            let found = list(&answer, "containerInstances", OPERATION, cluster)?;
            instances.extend(found.iter().filter_map(ContainerInstance::read));
        }
        Ok(instances)
    }

    /// ARNs of the cluster's services, on whatever they run.
    ///
    /// # Errors
    /// As [`list_container_instances`](Self::list_container_instances).
    pub async fn list_services(&self, cluster: &str) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "ListServices";
        let page = |wire, token| async move {
            let request = self.client.list_services().cluster(cluster);
            let request = request.max_results(PER_PAGE_MAX).set_next_token(token);
            let sent = request.customize().interceptor(wire).send().await;
            sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
        };
        self.pages(&self.pace.describe_services, OPERATION, cluster, "serviceArns", page).await
    }

    /// Services by their ARNs, as a cluster's capacity is concerned with them. Those that are gone are absent.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn cluster_services(&self, cluster: &str, arns: &[String]) -> Result<Vec<ClusterService>, Error> {
        const OPERATION: &str = "DescribeServices";
        let mut services = Vec::with_capacity(arns.len());
        for some in arns.chunks(SERVICES_PER_CALL_MAX) {
            let call = |wire| async {
                let request = self.client.describe_services().cluster(cluster).set_services(Some(some.to_vec()));
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            };
            let answer = self.call(&self.pace.describe_services, OPERATION, cluster, call).await?;
            let found = list(&answer, "services", OPERATION, cluster)?;
            services.extend(found.iter().filter_map(ClusterService::read));
        }
        Ok(services)
    }

    /// ARNs of tasks of the cluster.
    ///
    /// # Errors
    /// As [`list_container_instances`](Self::list_container_instances).
    pub async fn list_tasks(&self, cluster: &str, wanted: Wanted<'_>) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "ListTasks";
        let (instance, status) = match wanted {
            Wanted::Running => (None, DesiredStatus::Running),
            Wanted::StoppingOn(instance) => (Some(instance), DesiredStatus::Stopped),
        };
        let page = |wire, token| {
            let status = status.clone();
            async move {
                let request = self.client.list_tasks().cluster(cluster).desired_status(status);
                let request = request.set_container_instance(instance.map(str::to_owned));
                let request = request.max_results(PER_PAGE_MAX).set_next_token(token);
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            }
        };
        self.pages(&self.pace.describe_tasks, OPERATION, cluster, "taskArns", page).await
    }

    /// Tasks by their ARNs. Those that are gone are absent.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn cluster_tasks(&self, cluster: &str, arns: &[String]) -> Result<Vec<ClusterTask>, Error> {
        const OPERATION: &str = "DescribeTasks";
        let mut tasks = Vec::with_capacity(arns.len());
        for some in arns.chunks(PER_CALL_MAX) {
            let call = |wire| async {
                let request = self.client.describe_tasks().cluster(cluster).set_tasks(Some(some.to_vec()));
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            };
            let answer = self.call(&self.pace.describe_tasks, OPERATION, cluster, call).await?;
            tasks.extend(list(&answer, "tasks", OPERATION, cluster)?.iter().filter_map(ClusterTask::read));
        }
        Ok(tasks)
    }

    /// Which of these tasks protect themselves from scale-in now. Only tasks of services can; ECS names the others among
    /// the failures.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn protected_tasks(&self, cluster: &str, arns: &[String]) -> Result<BTreeSet<String>, Error> {
        const OPERATION: &str = "GetTaskProtection";
        let mut protected = BTreeSet::new();
        for some in arns.chunks(PER_CALL_MAX) {
            let call = |wire| async {
                let request = self.client.get_task_protection().cluster(cluster).set_tasks(Some(some.to_vec()));
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            };
            let answer = self.call(&self.pace.describe_tasks, OPERATION, cluster, call).await?;
            let found = list(&answer, "protectedTasks", OPERATION, cluster)?.iter();
            let found = found.filter(|task| task.get("protectionEnabled") == Some(&Value::Bool(true)));
            let arns = found.filter_map(|task| task.get("taskArn").and_then(Value::as_str));
            protected.extend(arns.map(str::to_owned));
        }
        Ok(protected)
    }

    /// Every capacity provider of the account and Region that has an Auto Scaling group.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn capacity_providers(&self) -> Result<Vec<CapacityProvider>, Error> {
        const OPERATION: &str = "DescribeCapacityProviders";
        let resource = "all capacity providers";
        let (mut providers, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let call = |wire| async {
                let request = self.client.describe_capacity_providers().set_next_token(token.clone());
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, resource, &error)).map(drop)
            };
            let answer = self.call(&self.pace.capacity_providers, OPERATION, resource, call).await?;
            let found = list(&answer, "capacityProviders", OPERATION, resource)?;
            providers.extend(found.iter().filter_map(CapacityProvider::read));
            token =
                answer.get("nextToken").and_then(Value::as_str).filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        Ok(providers)
    }

    /// `UpdateContainerInstancesState`: lets container instances drain, or take tasks again. One that is gone is no
    /// error; what else ECS refuses is.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn set_draining(&self, cluster: &str, arns: &[String], drains: bool) -> Result<(), Error> {
        const OPERATION: &str = "UpdateContainerInstancesState";
        let status = if drains { ContainerInstanceStatus::Draining } else { ContainerInstanceStatus::Active };
        for some in arns.chunks(INSTANCES_PER_UPDATE_MAX) {
            let call = |wire| async {
                let request = self.client.update_container_instances_state().cluster(cluster).status(status.clone());
                let request = request.set_container_instances(Some(some.to_vec()));
                let sent = request.customize().interceptor(wire).send().await;
                sent.map_err(|error| from_sdk(OPERATION, cluster, &error)).map(drop)
            };
            let answer = self.call(&self.pace.update_container_instances, OPERATION, cluster, call).await?;
            let failures = answer.get("failures").and_then(Value::as_array).into_iter().flatten();
            let reason = |failure: &Value| failure.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(reason) = failures.map(reason).find(|reason| !matches!(reason.as_str(), "MISSING" | "INACTIVE"))
            {
                return Err(Error::Aws {
                    operation: OPERATION,
                    resource: cluster.to_owned(),
                    message: "ECS has refused the new state of a container instance".into(),
                    code: reason,
                    transient: false,
                });
            }
        }
        Ok(())
    }
}

fn list<'a>(
    answer: &'a Value,
    field: &'static str,
    operation: &'static str,
    resource: &str,
) -> Result<&'a Vec<Value>, Error> {
    let items = answer.get(field).and_then(Value::as_array);
    items.ok_or_else(|| Error::Answer { operation, resource: resource.to_owned(), missing: field })
}

fn texts(answer: &Value, field: &'static str, operation: &'static str, resource: &str) -> Result<Vec<String>, Error> {
    let items = list(answer, field, operation, resource)?.iter();
    Ok(items.filter_map(Value::as_str).map(str::to_owned).collect())
}
