//! Notify: ECS deployment events become the outcome of a record, and everyone is told.
//!
//! An event only says which service to look at. [`Notifier`] reads the records that are still open and ECS's present
//! view, lets [`judge`](judge::judge) decide, writes, and then brings every sink up to the record's version. A sink
//! that was missed before is caught up by the next event of the service.

pub mod judge;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::judge::judge;
use crate::announce::Announcer;
use crate::decision::{Action, Decision, Handled};
use crate::ecs::Ecs;
use crate::error::Error;
use crate::events::{self, DeploymentChange, Event};
use crate::platform::Platform;
use crate::record::store::{Store, Written};
use crate::record::{History, Record, State};

/// How long to wait before looking again for a record that another handler is just writing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The notify function.
#[derive(Debug)]
pub struct Notifier {
    /// ECS.
    pub ecs: Ecs,
    /// The records.
    pub store: Store,
    /// Who is told.
    pub announcer: Announcer,
    /// The clock.
    pub platform: Platform,
}

impl Notifier {
    /// Handles an event as EventBridge delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Deployment(change)) => {
                Box::pin(self.changed(&change, deadline)).await.unwrap_or_else(Handled::from)
            }
            Ok(Event::Ignored { reason }) => Decision::new(Action::Skip, reason).into(),
            Ok(Event::Image(_)) => {
                Error::Input("the notify function takes ECS events; this one is for deploy".into()).into()
            }
            Err(error) => error.into(),
        }
    }

    async fn changed(&self, change: &DeploymentChange, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let Some(history) = self.settled_history(change, deadline).await? else {
            let decision = Decision {
                service: Some(change.service.to_string()),
                ecs_deployment_id: Some(change.deployment_id.clone()),
                ..Decision::new(Action::Skip, "Tidegate did not start this deployment, and has none open here")
            };
            return Ok(decision.into());
        };
        let needs_truth = history.records.iter().any(|record| record.state == State::Rolling);
        let service = match needs_truth {
            true => self.ecs.describe_service(&change.service).await?,
            false => None,
        };

        let mut handled = Handled::default();
        // Oldest first: people read the end of one deployment before the start of the next.
        for mut record in history.records.into_iter().rev() {
            let judged = judge(&record, service.as_ref(), change);
            let mut is_concerned = record.ecs_deployment_id.as_deref() == Some(&change.deployment_id);
            if let Some((state, reason)) = judged {
                is_concerned = true;
                if let Some(advanced) = record.advanced(state, reason, self.platform.now()) {
                    match self.store.advance(&record, &advanced).await? {
                        Written::Yes => record = advanced,
                        Written::Outrun => {
                            return Err(Error::Busy(format!(
                                "another invocation is writing the record of {}; this event will be tried again",
                                change.service
                            )));
                        }
                    }
                }
            }
            let is_owed = self.announcer.owes(&record);
            if is_concerned {
                handled.decisions.push(recorded(&record));
            }
            if is_owed {
                for error in self.announcer.tell(&self.store, &record, deadline).await {
                    handled.add(&change.service, Err(error));
                }
            }
        }
        Ok(handled)
    }

    /// What the table knows of the service, once the record of this deployment is there. `None` where there is nothing
    /// that this event could concern.
    async fn settled_history(
        &self,
        change: &DeploymentChange,
        deadline: DateTime<Utc>,
    ) -> Result<Option<History>, Error> {
        loop {
            let history = self.store.history(&change.service).await?;
            let is_known = |record: &Record| record.ecs_deployment_id.as_deref() == Some(&change.deployment_id);
            if history.records.iter().any(is_known) {
                return Ok(Some(history));
            }
            // The deploy function has called UpdateService and is about to write ECS's id, or has died and will be
            // tried again.
            if history.current().is_none_or(|current| current.state != State::Intended) {
                let has_business =
                    history.records.iter().any(|record| record.state.is_open() || self.announcer.owes(record));
                return Ok(has_business.then_some(history));
            }
            if !self.platform.sleep_before(deadline, LOOK_AGAIN).await {
                return Err(Error::Busy(format!(
                    "the record of {} has no ECS deployment id yet; this event will be tried again",
                    change.service
                )));
            }
        }
    }
}

fn recorded(record: &Record) -> Decision {
    Decision {
        service: Some(record.service_ref().to_string()),
        repository: Some(record.repository.clone()),
        tag: Some(record.tag.clone()),
        digest: Some(record.digest.clone()),
        revision: record.revision_to.clone(),
        record: Some(record.id.clone()),
        ecs_deployment_id: record.ecs_deployment_id.clone(),
        state: Some(record.state.as_str()),
        ..Decision::new(Action::Record, record.reason.clone())
    }
}
