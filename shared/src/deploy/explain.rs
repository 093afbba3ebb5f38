//! What would be done, in the words of a decision. The same decision and the same checks as for an event, and no write.

use super::decide::Verdict;
use super::pass::{ADOPTED, Pass, Seen};
use super::preflight;
use crate::decision::{Action, Decision};
use crate::error::Error;

impl Pass<'_> {
    /// What `verdict` would lead to.
    pub(super) async fn explained(&self, seen: &Seen, verdict: Verdict) -> Result<Option<Decision>, Error> {
        let plan = match verdict {
            Verdict::Skip(skip) => return self.skip(seen, &skip).await,
            Verdict::Wait => {
                let reason = "another invocation is at work on the service; it is looked at again when that has ended";
                return Ok(Some(self.decision(seen, Action::Skip, "busy", reason)));
            }
            Verdict::Adopt { ecs_deployment_id } => {
                let adopted = self.decision(seen, Action::Record, "adopt", ADOPTED);
                return Ok(Some(Decision { ecs_deployment_id: Some(ecs_deployment_id), ..adopted }));
            }
            Verdict::Deploy(plan) => plan,
        };
        let Some(base) = &seen.base else { return Ok(None) };
        let findings = self.preflight.check(&self.images, &seen.repository, &plan.digest, base).await;
        match preflight::judge(base, &findings) {
            Err(skip) => self.skip(seen, &skip).await,
            Ok(notes) => Ok(Some(Decision {
                changes: plan.draft.changes.iter().map(|change| change.field()).collect(),
                notes: plan.notes.iter().cloned().chain(notes).collect(),
                ..self.decision(seen, Action::Deploy, "deploy", plan.reason())
            })),
        }
    }
}
