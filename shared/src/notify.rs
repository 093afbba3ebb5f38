//! Notify: ECS deployment events become the outcome of a record, and everyone is told.
//!
//! An event only says which service to look at. [`Notifier`] reads the records that are still open and ECS's present
//! view, lets [`judge`](judge::judge) decide, writes, and then brings every sink up to the record's version. A sink
//! that was missed before is caught up by the next event of the service.

pub mod judge;

use chrono::{DateTime, Utc};
use futures_util::future::try_join;
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
        let handled = match events::read(event) {
            Ok(Event::Deployment(change)) => Box::pin(self.changed(&change, deadline)).await,
            Ok(Event::Explain(asked)) => Box::pin(self.explain(&asked)).await,
            Ok(Event::Ignored { reason }) => Ok(Decision::new(Action::Skip, reason).into()),
            Ok(Event::Image(_) | Event::Tagged(_) | Event::Sweep) => Err(not_for_us()),
            Err(error) => Err(error),
        };
        handled.unwrap_or_else(Handled::from)
    }

    /// What `event` would lead to, without writing or telling anything.
    async fn explain(&self, event: &Value) -> Result<Handled, Error> {
        let change = match events::read(event)? {
            Event::Deployment(change) => change,
            Event::Ignored { reason } => return Ok(Decision::new(Action::Skip, reason).into()),
            _ => return Err(not_for_us()),
        };
        let (service, history) =
            try_join(self.ecs.describe_service(&change.service), self.store.history(&change.service)).await?;
        let now = self.platform.now();
        let explained = history.records.into_iter().rev().filter_map(|record| {
            let verdict = judge(&record, service.as_ref(), &change);
            let advanced = verdict.and_then(|(state, reason)| record.advanced(state, reason, now));
            let is_meant = advanced.is_some() || is_of(&record, &change);
            is_meant.then(|| Decision::about(Action::Record, advanced.as_ref().unwrap_or(&record)))
        });
        let decisions: Vec<Decision> = explained.collect();
        Ok(match decisions.is_empty() {
            true => not_ours(&change).into(),
            false => Handled { decisions, failures: Vec::new() },
        })
    }

    async fn changed(&self, change: &DeploymentChange, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        loop {
            let Some(history) = self.settled_history(change, deadline).await? else {
                return Ok(not_ours(change).into());
            };
            if let Some(records) = self.judged(history, change).await? {
                return Ok(self.told(records, change, deadline).await);
            }
            self.platform
                .look_again(deadline, || format!("another invocation is writing a record of {}", change.service))
                .await?;
        }
    }

    /// The service's records, each in the state that this event and ECS's present view lead to, and whether the event
    /// is about it. Oldest first: people read the end of one deployment before the start of the next. `None` where
    /// another invocation was faster.
    async fn judged(&self, history: History, change: &DeploymentChange) -> Result<Option<Vec<(Record, bool)>>, Error> {
        let is_rolling = |record: &Record| record.state == State::Rolling;
        let service = match history.records.iter().any(is_rolling) {
            true => self.ecs.describe_service(&change.service).await?,
            false => None,
        };
        let mut judged = Vec::with_capacity(history.records.len());
        for record in history.records.into_iter().rev() {
            let now = self.platform.now();
            let verdict = judge(&record, service.as_ref(), change);
            let advanced = verdict.and_then(|(state, reason)| record.advanced(state, reason, now));
            match advanced {
                None => {
                    let is_meant = is_of(&record, change);
                    judged.push((record, is_meant));
                }
                Some(advanced) if self.store.advance(&record, &advanced).await? == Written::Yes => {
                    judged.push((advanced, true));
                }
                Some(_) => return Ok(None),
            }
        }
        Ok(Some(judged))
    }

    /// Tells people what they have not been told.
    async fn told(&self, records: Vec<(Record, bool)>, change: &DeploymentChange, deadline: DateTime<Utc>) -> Handled {
        let mut handled = Handled::default();
        for (record, is_meant) in records {
            if is_meant {
                handled.decisions.push(Decision::about(Action::Record, &record));
            }
            if self.announcer.owes(&record) {
                for error in self.announcer.tell(&self.store, &record, deadline).await {
                    handled.fail(&change.service, error);
                }
            }
        }
        if handled.decisions.is_empty() {
            handled.decisions.push(not_ours(change));
        }
        handled
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
            if history.records.iter().any(|record| is_of(record, change)) {
                return Ok(Some(history));
            }
            // The deploy function has called UpdateService and is about to write ECS's id, or has died and will be
            // tried again.
            if history.current().is_none_or(|current| current.state != State::Intended) {
                let has_business =
                    history.records.iter().any(|record| record.state.is_open() || self.announcer.owes(record));
                return Ok(has_business.then_some(history));
            }
            self.platform
                .look_again(deadline, || format!("the record of {} has no ECS deployment id yet", change.service))
                .await?;
        }
    }
}

fn not_for_us() -> Error {
    Error::Input("the notify function takes ECS events; this one is for deploy".into())
}

fn is_of(record: &Record, change: &DeploymentChange) -> bool {
    record.ecs_deployment_id.as_deref() == Some(&change.deployment_id)
}

fn not_ours(change: &DeploymentChange) -> Decision {
    Decision {
        service: Some(change.service.to_string()),
        ecs_deployment_id: Some(change.deployment_id.clone()),
        ..Decision::new(Action::Skip, "Tidegate did not start this deployment, and it settles none that Tidegate did")
    }
}
