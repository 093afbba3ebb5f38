//! Why a deployment has failed: what its tasks, ECS and the log tell.

use std::time::Duration;

use super::Notifier;
use crate::diagnosis::logs::{log_source, tail};
use crate::diagnosis::mask::secrets_of;
use crate::diagnosis::{Diagnosis, LogTail, StoppedTask, Symptoms, diagnose};
use crate::ecs::{CLOCK_DIFFERENCE, Service, ServiceDeployment};
use crate::error::Error;
use crate::record::Record;
use crate::task_definition::TaskDefinition;

/// How long people wait for it at most: that it has failed is worth more than why.
const TIME_MAX: Duration = Duration::from_secs(8);
/// How long they wait for the log in it.
const LOG_TIME_MAX: Duration = Duration::from_secs(4);

/// How many events of a log are read. One may be a whole stack trace.
const LOG_EVENTS: i32 = 30;

impl Notifier {
    /// What can be found out about the failure of `record` in short time.
    pub(super) async fn examined(
        &self,
        record: &Record,
        service: Option<&Service>,
        account: Option<&ServiceDeployment>,
    ) -> Option<Diagnosis> {
        let found = self.platform.within(TIME_MAX, Box::pin(self.symptoms(record))).await;
        let (tasks, base) = match found {
            Some(Ok(found)) => found,
            // What ECS notes about the service may tell enough.
            Some(Err(error)) => {
                tracing::warn!(service = %record.service_ref(), %error, "the tasks that stopped can't be read");
                (Vec::new(), None)
            }
            None => (Vec::new(), None),
        };
        let body = base.as_ref().map(TaskDefinition::body);
        let alarms = account.map(ServiceDeployment::alarms_that_fired).unwrap_or_default();
        let secrets = body.map(secrets_of).unwrap_or_default();
        let symptoms = Symptoms {
            deployment_id: record.ecs_deployment_id.as_deref()?,
            since: record.started_at? - CLOCK_DIFFERENCE,
            tasks: &tasks,
            service_events: service.map(|service| service.events.as_slice()).unwrap_or_default(),
            alarms: &alarms,
            ecs_reason: &record.reason,
            secrets: &secrets,
        };
        let diagnosis = diagnose(&symptoms)?;
        let source = body.and_then(|body| log_source(body, &symptoms));
        let log = async {
            let source = source?;
            let is_elsewhere = |there: &String| record.service_ref().home().is_ok_and(|(here, _)| here != *there);
            if source.region.as_ref().is_some_and(is_elsewhere) {
                return None;
            }
            match self.logs.last(&source.group, &source.stream, LOG_EVENTS).await {
                Ok(messages) if messages.is_empty() => None,
                Ok(messages) => Some(tail(source, messages.iter().map(String::as_str), &secrets)),
                Err(error) => {
                    tracing::warn!(service = %record.service_ref(), %error, "the log of the task can't be read");
                    None
                }
            }
        };
        let log: Option<LogTail> = self.platform.within(LOG_TIME_MAX, Box::pin(log)).await.flatten();
        Some(Diagnosis { log, ..diagnosis })
    }

    /// The tasks that have stopped, and the revision that they ran.
    async fn symptoms(&self, record: &Record) -> Result<(Vec<StoppedTask>, Option<TaskDefinition>), Error> {
        let base = async {
            match &record.revision_to {
                Some(arn) => self.revision(arn).await,
                None => Ok(None),
            }
        };
        let service = record.service_ref();
        futures_util::future::try_join(self.ecs.stopped_tasks(&service), base).await
    }
}
