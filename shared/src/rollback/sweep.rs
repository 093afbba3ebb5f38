//! The sweep: a schedule looks at every service that has a deployment which is not proven. It finds what no event has
//! told (an alarm, failed tasks, a rollout past its deadline), goes on with what a dead handler has begun, and notes who
//! is proven good.
//!
//! One call where nothing is watched.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::decide::{Leave, Observed, Verdict, speaks_against};
use super::{Cause, Rollbacker, Seen, about, act, decided, left_alone, observed};
use crate::decision::{Action, Decision, Handled};
use crate::error::Error;
use crate::events::ServiceRef;
use crate::record::store::Written;
use crate::record::{History, Record, State};

/// Most services that one sweep looks at.
const SERVICES_MAX: i32 = 1000;
/// What one service may take.
const SERVICE_TIME: Duration = Duration::from_secs(15);

impl Rollbacker {
    /// Looks at every service that is watched.
    pub(super) async fn sweep(&self, explain: bool, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let services = self.store.watched_services(SERVICES_MAX).await?;
        let mut handled = Handled::default();
        let mut looked_at = 0;
        for service in &services {
            if !self.platform.has_time(deadline, SERVICE_TIME) {
                break;
            }
            match Box::pin(self.watch(service, explain)).await {
                Ok(decision) => handled.decisions.extend(decision),
                // The next sweep looks again.
                Err(error) => tracing::warn!(%service, %error, "left to the next sweep"),
            }
            looked_at += 1;
        }
        let reason = format!("the sweep has looked at {looked_at} of {} services that are watched", services.len());
        handled.decisions.push(Decision { rule: Some("sweep"), ..Decision::new(Action::Skip, reason) });
        Ok(handled)
    }

    /// Looks at one service. `None` where nothing is to be told.
    async fn watch(&self, id: &ServiceRef, explain: bool) -> Result<Option<Decision>, Error> {
        let cause = Cause { thorough: true, ..Cause::default() };
        let Some(seen) = self.observe(id, cause).await? else {
            if !explain {
                self.forget(id, &self.store.history(id).await?).await?;
            }
            return Ok(None);
        };
        let now = self.platform.now();
        match decided(&seen, cause, now) {
            verdict if explain => Ok(Some(act::would(&seen, &verdict))),
            Verdict::Wait => Ok(None),
            Verdict::Leave(leave) => {
                let baked = self.prove(&seen, &leave, now).await?;
                if baked.is_none() && is_done(&seen, &leave, now) {
                    self.forget(id, &seen.history).await?;
                }
                Ok(baked.or_else(|| matches!(leave, Leave::EcsGoesBack).then(|| left_alone(&seen, &leave))))
            }
            // Who was faster will tell.
            verdict => Box::pin(self.act(&seen, verdict, cause)).await,
        }
    }

    /// Notes what has been proven good.
    async fn prove(&self, seen: &Seen, leave: &Leave, now: DateTime<Utc>) -> Result<Option<Decision>, Error> {
        let Some(proven) = seen.history.records.iter().find(|record| is_proven(record, &seen.history, now)) else {
            return Ok(None);
        };
        let Some(until) = proven.bake_until else { return Ok(None) };
        let is_primary = seen.service.primary().is_some_and(|it| proven.ecs_deployment_id.as_ref() == Some(&it.id));
        if is_primary && matches!(leave, Leave::ByOthers | Leave::StillInAlarm(_)) {
            // Something is wrong; it is only not ours to take back, or was wrong before.
            return Ok(None);
        }
        // What ECS is going back to is PRIMARY, and was not judged.
        if !is_primary || !matches!(leave, Leave::Live) {
            let tasks = self.ecs.stopped_tasks(&seen.service.id).await?;
            let seen_again = Observed { tasks: &tasks, ..observed(seen, Cause::default(), now) };
            if let Some(fault) = speaks_against(&seen_again, proven) {
                tracing::info!(service = %seen.service.id, record = proven.id, %fault, "not proven good");
                return Ok(None);
            }
        }
        let baked = self.store.baked(proven, until).await?;
        let reason = "it was watched for its bake time, and nothing was wrong";
        Ok(baked.map(|baked| Decision {
            reason: reason.into(),
            ..about(&seen.service.id, Decision::about(Action::Record, &baked), "proven")
        }))
    }

    async fn forget(&self, id: &ServiceRef, history: &History) -> Result<(), Error> {
        if let Some(item) = &history.item {
            // Outrun: somebody has decided something, and set the watch again.
            let _: Written = self.store.watched(id, item).await?;
        }
        Ok(())
    }
}

/// Whether a deployment was live for its whole bake time.
fn is_proven(record: &Record, history: &History, now: DateTime<Utc>) -> bool {
    let Some(until) = record.bake_until else { return false };
    let mut newer = history.records.iter().filter(|other| other.id > record.id && other.live_at.is_some());
    let is_replaced = newer.any(|other| other.live_at.is_some_and(|live| live < until));
    record.state == State::Succeeded
        && record.baked_at.is_none()
        && record.recovery.is_none()
        && until < now
        && !is_replaced
}

/// Whether nothing is left to watch.
fn is_done(seen: &Seen, leave: &Leave, now: DateTime<Utc>) -> bool {
    let is_over = matches!(
        leave,
        Leave::NotActive(_) | Leave::NoPrimary | Leave::Unknown(_) | Leave::ByOthers | Leave::Settled(_) | Leave::Live
    );
    let is_open = |record: &Record| {
        let is_baking = record.state == State::Succeeded && record.bake_until.is_some_and(|until| until >= now);
        record.state.is_open() || is_baking && record.baked_at.is_none()
    };
    is_over && !seen.history.records.iter().any(is_open)
}
