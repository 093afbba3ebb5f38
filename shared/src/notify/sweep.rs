//! The sweep: a schedule looks at every record that is not at rest. It finds the outcome that no event told, ends rollouts
//! at their deadline, shows how far a rollout has come, tells of decisions not to deploy, and tells sinks again that
//! were out of order.
//!
//! One call where nothing is open.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Notifier;
use crate::decision::{Action, Decision, Handled};
use crate::error::Error;
use crate::events::ServiceRef;
use crate::record::store::{OpenRecord, Written};
use crate::record::{History, Record, State};

/// Most records that one sweep looks at; the oldest first. One page of the index has room for them: what can't be told
/// for a day must not hide what has just happened.
pub(super) const OPEN_MAX: i32 = 2000;

/// What one service may take.
const SERVICE_TIME: Duration = Duration::from_secs(20);

/// How long after an intention nobody takes it up any more: the deploy function's own sweep would have.
const ABANDONED_AFTER: TimeDelta = TimeDelta::hours(1);

impl Notifier {
    /// Looks at every record that is not at rest.
    pub(super) async fn sweep(&self, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let open = self.store.open_records(OPEN_MAX).await?;
        let mut handled = Handled::default();
        let mut looked_at = 0;
        let services = services_of(&open);
        for service in &services {
            if !self.platform.has_time(deadline, SERVICE_TIME) {
                break;
            }
            // What may pass is looked at again by the next sweep, and what does not pass too: nothing else would.
            match Box::pin(self.look_at(service, &open, deadline)).await {
                Ok(of_service) => {
                    handled.decisions.extend(of_service.decisions);
                    for failure in of_service.failures {
                        tracing::warn!(service = failure.service, error = %failure.error, "left to the next sweep");
                    }
                }
                Err(error) => tracing::warn!(%service, %error, "left to the next sweep"),
            }
            looked_at += 1;
        }
        let reason = format!("the sweep has looked at {looked_at} of {} services with something to do", services.len());
        handled.decisions.push(Decision { rule: Some("sweep"), ..Decision::new(Action::Skip, reason) });
        Ok(handled)
    }

    /// What a sweep would find.
    pub(super) async fn explain_sweep(&self) -> Result<Handled, Error> {
        let open = self.store.open_records(OPEN_MAX).await?;
        let mut handled = Handled::default();
        for id in services_of(&open) {
            let (service, history) = self.view(&id).await?;
            for judged in self.verdicts(service.as_ref(), history, None).await? {
                if judged.after.is_some() || judged.before.state.is_open() || self.announcer.owes(&judged.before) {
                    let record = judged.after.as_ref().unwrap_or(&judged.before);
                    handled.decisions.push(Decision::about(Action::Record, record));
                }
            }
        }
        if handled.decisions.is_empty() {
            handled
                .decisions
                .push(Decision::new(Action::Skip, "every deployment has its outcome, and everyone was told"));
        }
        Ok(handled)
    }

    /// Brings the records of one service up to date.
    async fn look_at(&self, id: &ServiceRef, open: &[OpenRecord], deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let (service, mut history) = self.view(id).await?;
        for open in open.iter().filter(|open| open.service == *id) {
            if !history.records.iter().any(|record| record.id == open.id) {
                history.records.extend(self.store.record(id, &open.id).await?);
            }
        }
        let mut handled = Handled::default();
        let now = self.platform.now();
        let (mut records, mut progressed) = (Vec::new(), BTreeSet::new());
        for judged in self.verdicts(service.as_ref(), history.clone(), None).await? {
            let before = judged.before.clone();
            let settled = match is_abandoned(&before, &history, now) {
                true => self.give_up(&before, &history, now).await?,
                false => self.settle(service.as_ref(), &history, judged).await?,
            };
            // Another invocation is at work on it, and will tell.
            let Some(record) = settled else { break };
            if record.state != before.state {
                handled.decisions.push(Decision::about(Action::Record, &record));
            }
            if record.progress != before.progress {
                progressed.insert(record.id.clone());
            }
            let is_listed = open.iter().any(|open| open.id == record.id);
            if is_listed && !record.state.is_open() && !self.announcer.owes(&record) {
                let rested = self.announcer.lay_to_rest(&self.store, &record).await;
                rested.err().into_iter().for_each(|error| handled.fail(id, error));
            }
            records.push(record);
            if !self.platform.has_time(deadline, SERVICE_TIME) {
                break;
            }
        }
        let is_due = |record: &Record| {
            let is_news = progressed.contains(&record.id) || self.announcer.is_due(record);
            is_news && self.platform.has_time(deadline, SERVICE_TIME)
        };
        let errors = Box::pin(self.tell(service.as_ref(), &history, records, deadline, is_due)).await;
        errors.into_iter().for_each(|error| handled.fail(id, error));
        Ok(handled)
    }

    /// Ends an intention that nobody takes up any more. `None` where somebody does.
    async fn give_up(&self, before: &Record, history: &History, now: DateTime<Utc>) -> Result<Option<Record>, Error> {
        let reason = "it was never confirmed that ECS has started this deployment, and nobody has taken it up since";
        let Some(failed) = before.advanced(State::Failed, reason, now) else { return Ok(None) };
        let is_current = history.current().is_some_and(|current| current.id == before.id);
        let written = match is_current {
            true => self.store.settle(before, &failed).await?,
            false => self.store.advance(history, before, &failed).await?,
        };
        Ok((written == Written::Yes).then_some(failed))
    }
}

/// Each service once, that of the oldest record first.
fn services_of(open: &[OpenRecord]) -> Vec<ServiceRef> {
    let mut seen = BTreeSet::new();
    open.iter().filter(|open| seen.insert(&open.service)).map(|open| open.service.clone()).collect()
}

fn is_abandoned(record: &Record, history: &History, now: DateTime<Utc>) -> bool {
    record.state == State::Intended && !history.is_leased(now) && now - record.detected_at > ABANDONED_AFTER
}
