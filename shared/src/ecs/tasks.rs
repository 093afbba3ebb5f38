//! The tasks of a service that have stopped.

use aws_sdk_ecs::types::DesiredStatus;
use serde_json::Value;

use super::Ecs;
use super::service::read_all;
use crate::diagnosis::StoppedTask;
use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;

/// Most tasks that one `DescribeTasks` call takes.
const TASKS_PER_CALL_MAX: i32 = 100;

impl Ecs {
    /// Tasks of `service` that have stopped of late, at most a hundred. ECS
    /// [keeps them](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html) for an hour or so.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn stopped_tasks(&self, service: &ServiceRef) -> Result<Vec<StoppedTask>, Error> {
        const LIST: &str = "ListTasks";
        const DESCRIBE: &str = "DescribeTasks";
        let resource = service.to_string();
        let list = |wire| async {
            self.client
                .list_tasks()
                .cluster(&service.cluster)
                .service_name(&service.service)
                .desired_status(DesiredStatus::Stopped)
                .max_results(TASKS_PER_CALL_MAX)
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(LIST, &resource, &error))
                .map(drop)
        };
        let listed = self.call(&self.pace.describe_tasks, LIST, &resource, list).await?;
        let arns: Vec<String> = read_all(listed.get("taskArns"));
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let describe = |wire| async {
            self.client
                .describe_tasks()
                .cluster(&service.cluster)
                .set_tasks(Some(arns))
                .customize()
                .interceptor(wire)
                .send()
                .await
                .map_err(|error| from_sdk(DESCRIBE, &resource, &error))
                .map(drop)
        };
        let described = self.call(&self.pace.describe_tasks, DESCRIBE, &resource, describe).await?;
        let tasks = described.get("tasks").and_then(Value::as_array);
        Ok(tasks.into_iter().flatten().map(StoppedTask::read).collect())
    }
}
