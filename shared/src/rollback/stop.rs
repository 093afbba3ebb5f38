//! Going back while the rollout is still going on: ECS is told to stop it, and brings back what it replaces.

use super::decide::{Plan, Verdict};
use super::records::{ended, guard, marked, next_item, recovery};
use super::{Cause, Rollbacker, Seen, act, decided};
use crate::decision::Decision;
use crate::error::Error;
use crate::record::store::{Guarding, Written};
use crate::record::{History, Record, Remedy, ServiceItem};

impl Rollbacker {
    /// Tells ECS to stop the rollout and to go back. What it goes back to is the release that we would choose. `None`
    /// where another handler was faster.
    pub(super) async fn stop(&self, seen: &Seen, plan: &Plan, cause: Cause<'_>) -> Result<Option<Decision>, Error> {
        let (Some(target), Some(arn)) = (plan.candidates.first(), &seen.service.current_service_deployment) else {
            return Ok(None);
        };
        let now = self.platform.now();
        let mut history = seen.history.clone();
        let mut bad = plan.bad.clone();
        let is_begun = bad.recovery.as_ref().is_some_and(|recovery| recovery.remedy == Remedy::Stop);
        if !is_begun {
            let recovery = recovery(Remedy::Stop, plan, target, cause, now);
            let guard = guard(seen, &bad, &recovery.why, Some(target), cause, now);
            bad = marked(&bad, recovery);
            let item = ServiceItem { digest: String::new(), ..next_item(seen) };
            if self.store.write(&history, &item, &[&bad], Guarding::Becomes(&guard)).await? == Written::Outrun {
                return Ok(None);
            }
            history.guard = guard;
        }
        if self.ecs.stop_deployment(&seen.service.id, arn).await? || self.is_going_back(&bad).await? {
            return self.stopped(seen, &history, &bad, plan.fault.rule()).await.map(Some);
        }
        // It can't be stopped: mostly the rollout has ended meanwhile.
        let Some(seen) = self.observe(&seen.service.id, Cause::default()).await? else { return Ok(None) };
        match decided(&seen, Cause::default(), self.platform.now()) {
            Verdict::Back(plan) => Box::pin(self.go_back(&seen, &plan, cause)).await,
            _ => Ok(None),
        }
    }

    /// Writes down that ECS goes back. If somebody else was faster, what ECS did is what they wrote.
    async fn stopped(
        &self,
        seen: &Seen,
        history: &History,
        bad: &Record,
        rule: &'static str,
    ) -> Result<Decision, Error> {
        let after = ended(bad, &seen.service, self.platform.now());
        let _: Written = self.store.advance(history, bad, &after).await?;
        Ok(act::made(&after, rule))
    }

    /// Whether ECS is going back from `bad` already.
    async fn is_going_back(&self, bad: &Record) -> Result<bool, Error> {
        let (Some(id), Some(started)) = (&bad.ecs_deployment_id, bad.started_at) else { return Ok(false) };
        let account = match self.ecs.service_deployment(&bad.service_ref(), id, started).await {
            Err(error) if !error.is_transient() => None,
            account => account?,
        };
        let status = account.map(|account| account.status).unwrap_or_default();
        Ok(status.starts_with("ROLLBACK_") && status != "ROLLBACK_FAILED")
    }
}
