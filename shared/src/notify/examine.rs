//! Why a deployment has failed: what its tasks, ECS and the log tell.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Notifier;
use crate::announce::message::rollback::{is_held, is_taken_back};
use crate::diagnosis::logs::{log_source, tail};
use crate::diagnosis::mask::secrets_of;
use crate::diagnosis::{Diagnosis, LogTail, StoppedTask, Symptoms, diagnose};
use crate::ecs::{CLOCK_DIFFERENCE, Service, ServiceDeployment};
use crate::error::Error;
use crate::record::{Record, State};
use crate::task_definition::TaskDefinition;

/// How long people wait for it at most: that it has failed is worth more than why.
const TIME_MAX: Duration = Duration::from_secs(8);
/// How long they wait for the log in it.
const LOG_TIME_MAX: Duration = Duration::from_secs(4);

/// What has to be left of an invocation to look at all: for both, and to tell what is known.
const TIME_NEEDED: Duration = Duration::from_secs(20);

/// How many events of a log are read. One may be a whole stack trace.
const LOG_EVENTS: i32 = 30;

impl Notifier {
    /// `record` with what can be found out about why it turned bad, which is written down beside its state. The rollback
    /// function does not look for it: it has to be quick.
    pub(super) async fn diagnosed(&self, record: Record, service: Option<&Service>, deadline: DateTime<Utc>) -> Record {
        let is_over = matches!(record.state, State::Failed | State::RolledBack);
        let is_wanted = record.diagnosis.is_none() && (is_held(&record) || is_over && is_taken_back(&record));
        if !is_wanted || !self.announcer.owes(&record) || !self.platform.has_time(deadline, TIME_NEEDED) {
            return record;
        }
        let examined = self.examined(&record, service, None).await;
        let alarms = record.recovery.as_ref().map(|recovery| recovery.alarms.clone()).unwrap_or_default();
        let found = match examined {
            Some(found) => Diagnosis { alarms, ..found },
            None if alarms.is_empty() => return record,
            None => Diagnosis { summary: why(&record).to_owned(), alarms, ..Diagnosis::default() },
        };
        match self.store.diagnosed(&record, &found).await {
            Ok(Some(diagnosed)) => diagnosed,
            Ok(None) => record,
            Err(error) => {
                tracing::warn!(service = %record.service_ref(), %error, "what was found out is not written down");
                record
            }
        }
    }

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
            since: since(record)? - CLOCK_DIFFERENCE,
            tasks: &tasks,
            service_events: service.map(|service| service.events.as_slice()).unwrap_or_default(),
            alarms: &alarms,
            // What Tidegate or a person says of it is no finding.
            ecs_reason: if record.recovery.is_none() { &record.reason } else { "" },
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
                Some(arn) => self.ecs.describe_task_definition(arn).await,
                None => Ok(None),
            }
        };
        let service = record.service_ref();
        futures_util::future::try_join(self.ecs.stopped_tasks(&service), base).await
    }
}

/// Since when what happens to its tasks is the matter: once it was live, not what its rollout took.
fn since(record: &Record) -> Option<DateTime<Utc>> {
    record.live_at.or(record.started_at)
}

/// What was wrong, in the words of who found it.
fn why(record: &Record) -> &str {
    record.recovery.as_ref().map_or(&record.reason, |recovery| &recovery.why)
}
