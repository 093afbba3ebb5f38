//! Acting on a decision.
//!
//! It is safe to repeat, to run twice at once, and to kill between any two calls. The quarantine of the bad digest and
//! the intention to bring a good release back are one write, fenced by the service's generation: whoever deploys
//! meanwhile is not undone, and two handlers make one rollback. The bad deployment is over when ECS has accepted what
//! takes it back, and not before. Who finds an intention that a dead handler has left goes on with it.

use chrono::{DateTime, Utc};

use super::decide::{Fault, Hold, Verdict};
use super::records::{back_to, changed, guard, new_recovery, next_item};
use super::{Cause, Rollbacker, Seen, about, records};
use crate::decision::{Action, Decision};
use crate::error::Error;
use crate::record::store::{Guarding, Written};
use crate::record::{Record, Recovery, Remedy, State};

impl Rollbacker {
    /// Does what was decided. `None` where another handler was faster.
    pub(super) async fn act(&self, seen: &Seen, verdict: Verdict, cause: Cause<'_>) -> Result<Option<Decision>, Error> {
        match verdict {
            Verdict::Back(plan) if plan.can_stop => Box::pin(self.stop(seen, &plan, cause)).await,
            Verdict::Back(plan) => Box::pin(self.go_back(seen, &plan, cause)).await,
            Verdict::Resume(recovery) => Box::pin(self.resume(seen, &recovery)).await,
            Verdict::Hold { bad, fault, why } => self.hold(seen, &bad, &fault, &why, cause).await,
            Verdict::Leave(_) | Verdict::Wait => Ok(None),
        }
    }

    /// The deployment is bad, and stays.
    async fn hold(
        &self,
        seen: &Seen,
        bad: &Record,
        fault: &Fault,
        why: &Hold,
        cause: Cause<'_>,
    ) -> Result<Option<Decision>, Error> {
        let now = self.platform.now();
        let recovery = match &bad.recovery {
            // Who was told so when they asked is remembered, so that the request is not acted on once more.
            Some(held) if held.remedy == Remedy::Hold && cause.asked.is_none() => held.clone(),
            before => Recovery {
                // The attempt that failed, where there was one.
                record: before.as_ref().and_then(|recovery| recovery.record.clone()),
                ..records::held(new_recovery(Remedy::Hold, fault, cause, now), why)
            },
        };
        let mut guard = guard(seen, bad, &recovery.why, None, cause, now);
        if why.stops_deployments() {
            guard.held = guard.holding(why.to_string(), now).held;
        }
        let has_ended = matches!(fault, Fault::Failed(_) | Fault::Overdue(_));
        let after = match has_ended {
            true => left_as_it_is(bad, Some(recovery), fault.to_string(), now),
            false => Record { recovery: Some(recovery), ..changed(bad) },
        };
        let item = next_item(seen);
        let written = self.store.write(&seen.history, &item, &[&after], Guarding::Becomes(&guard)).await?;
        Ok((written == Written::Yes).then(|| held(&after, fault.rule())))
    }
}

/// `bad`, which stays: it goes on serving, as far as it does. A rollout that has not completed by now has failed.
pub(super) fn left_as_it_is(bad: &Record, recovery: Option<Recovery>, why: String, now: DateTime<Utc>) -> Record {
    let failed = bad.advanced(State::Failed, why, now).filter(|_| bad.state == State::Rolling);
    Record { recovery, ..failed.unwrap_or_else(|| changed(bad)) }
}

pub(super) fn made(bad: &Record, rule: &'static str) -> Decision {
    let notes = bad.recovery.iter().map(|recovery| recovery.reason.clone()).collect();
    Decision { rule: Some(rule), notes, ..Decision::about(Action::Rollback, bad) }
}

pub(super) fn held(bad: &Record, rule: &'static str) -> Decision {
    let recovery = bad.recovery.as_ref();
    let reason = recovery.map_or_else(|| bad.reason.clone(), |recovery| recovery.reason.clone());
    let notes = recovery.iter().map(|recovery| recovery.why.clone()).collect();
    Decision { rule: Some(rule), reason, notes, ..Decision::about(Action::Hold, bad) }
}

/// What would be done, for whoever asks.
pub(super) fn would(seen: &Seen, verdict: &Verdict) -> Decision {
    match verdict {
        Verdict::Back(plan) => {
            let target = plan.candidates.first().map_or_else(String::new, |target| back_to(target, &plan.passed));
            let how =
                if plan.can_stop { "ECS would be told to stop the rollout" } else { "it would be deployed again" };
            Decision {
                notes: vec![target, how.to_owned()],
                ..about(&seen.service.id, Decision::new(Action::Rollback, plan.fault.to_string()), plan.fault.rule())
            }
        }
        Verdict::Hold { fault, why, .. } => Decision {
            notes: vec![fault.to_string()],
            ..about(&seen.service.id, Decision::new(Action::Hold, why.to_string()), fault.rule())
        },
        Verdict::Resume(left) => {
            let reason = format!("a release was about to be brought back (record {}), and would be now", left.id);
            about(&seen.service.id, Decision::new(Action::Rollback, reason), "resume")
        }
        Verdict::Leave(leave) => super::left_alone(seen, leave),
        Verdict::Wait => {
            about(&seen.service.id, Decision::new(Action::Skip, "another invocation is at work on the service"), "busy")
        }
    }
}
