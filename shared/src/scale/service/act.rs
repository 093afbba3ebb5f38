//! Acting on a look: remember, write the desired count where it is another one, and tell.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::decide::{Observed, Plan, Why, decide};
use super::observe::{Seen, Unseen};
use super::{Cause, Kept, Looked, ServiceScaler};
use crate::decision::{Action, Decision};
use crate::ecs::Service;
use crate::error::Error;
use crate::events::ServiceRef;
use crate::record::store::Written;
use crate::scale::memory::Change;
use crate::scale::notice::{Kind, Subject};
use crate::tags::ServiceTags;

impl ServiceScaler {
    /// Acts on what was `seen` of a service.
    pub(super) async fn act(
        &self,
        id: &ServiceRef,
        seen: Result<Seen, Unseen>,
        cause: Cause,
        explain: bool,
        deadline: DateTime<Utc>,
    ) -> Looked {
        let acted = match seen {
            Ok(seen) => Box::pin(self.scale(seen, cause, explain, deadline)).await,
            Err(Unseen::Failed(error)) => Err(error),
            Err(Unseen::Gone) => Ok(idle(id, "gone", "the service no longer exists")),
            Err(Unseen::NotAsked) => Ok(idle(id, "no-queue", "the service has no tag tidegate:scale/queue")),
        };
        acted.unwrap_or_else(|error| {
            tracing::warn!(service = %id, %error, "left to the next look");
            let reason = format!("left to the next look: {error}");
            // Something is going on that is not known: look soon.
            Looked { is_busy: error.is_transient(), ..idle(id, "unreadable", &reason) }
        })
    }

    async fn scale(&self, seen: Seen, cause: Cause, explain: bool, deadline: DateTime<Utc>) -> Result<Looked, Error> {
        let id = &seen.service.id;
        let now = self.platform.now();
        let mut kept = seen.kept.state.clone();
        let goal = match refused(&seen) {
            Ok(goal) => goal,
            Err(reason) => {
                kept.notices.note(now, &[(Kind::Refused, reason.clone())]);
                if !explain && self.keep(&seen, &kept, &[]).await? == Written::Yes {
                    self.tell(&seen, kept, false, now, deadline).await;
                }
                return Ok(idle(id, "refused", &reason));
            }
        };
        // Somebody else may be about to change it; whether that is so will be known in a minute.
        seen.owned.clone()?;
        let is_held = ServiceTags::read(&seen.service.tags).hold.is_some();
        let queue = match &seen.queue {
            Some(Ok(queue)) => Some(*queue),
            Some(Err(error)) => {
                tracing::warn!(service = %id, %error, "the queue can't be asked");
                None
            }
            None => None,
        };
        let plan = decide(
            &Observed {
                now,
                goal,
                desired: seen.service.desired,
                running: seen.service.running,
                is_rolling_out: seen.service.is_rolling_out(),
                is_held,
                queue,
                minutes: &kept.minutes,
            },
            &kept.scaling,
        );
        let decision = decision(&seen.service, &plan);
        let is_busy = plan.is_busy;
        if explain {
            return Ok(Looked { decision, is_busy });
        }
        kept.scaling = plan.state.clone();
        kept.notices.note(now, &conditions(&plan, goal.max));
        let change = (plan.desired != seen.service.desired).then(|| change(&seen, &plan, now));
        if self.keep(&seen, &kept, change.as_slice()).await? == Written::Outrun {
            return Ok(idle(id, "busy", "another look at this service is going on"));
        }
        let written = match &change {
            Some(change) => Box::pin(self.update(&seen, &plan, change)).await,
            None => Ok(()),
        };
        let refused = written.as_ref().err().filter(|error| !error.is_transient()).map(ToString::to_string);
        let is_refused = refused.is_some();
        kept.notices.note(now, &refused.map(|reason| (Kind::Stuck, reason)).into_iter().collect::<Vec<_>>());
        if cause == Cause::Schedule && plan.misses_target {
            let subject = self.subject(&seen);
            self.crier.metrics.scaling(&subject, &["WaitObjectiveMissed"], Some(&json!(plan.inputs)), now);
        }
        Box::pin(self.tell(&seen, kept, is_refused, now, deadline)).await;
        written.map(|()| Looked { decision, is_busy })
    }

    /// Writes the desired count, and notes what came of it.
    async fn update(&self, seen: &Seen, plan: &Plan, change: &Change) -> Result<(), Error> {
        let id = &seen.service.id;
        let written = Box::pin(self.ecs.set_desired_count(id, plan.desired)).await;
        let outcome = written.as_ref().map_or_else(ToString::to_string, |()| "accepted".into());
        if let Err(error) = self.memory.conclude(&id.to_string(), change, &outcome).await {
            tracing::warn!(service = %id, %error, "what came of the change is not noted");
        }
        written?;
        let name = if plan.desired > seen.service.desired { "ScaledOut" } else { "ScaledIn" };
        self.crier.metrics.scaling(&self.subject(seen), &[name], Some(&change.inputs), change.at);
        Ok(())
    }

    async fn keep(&self, seen: &Seen, kept: &Kept, changes: &[Change]) -> Result<Written, Error> {
        self.memory.write(&seen.service.id.to_string(), seen.kept.version, kept, changes).await
    }

    /// Tells what is owed, and remembers that it was told, and what else has changed.
    async fn tell(&self, seen: &Seen, mut kept: Kept, has_changed: bool, now: DateTime<Utc>, deadline: DateTime<Utc>) {
        let is_told = Box::pin(self.crier.tell(&self.subject(seen), &mut kept.notices, now, deadline)).await;
        if !is_told && !has_changed {
            return;
        }
        if let Err(error) = self.memory.write(&seen.service.id.to_string(), seen.kept.version + 1, &kept, &[]).await {
            tracing::warn!(service = %seen.service.id, %error, "people may be told again");
        }
    }

    fn subject(&self, seen: &Seen) -> Subject {
        let ServiceRef { cluster, service, .. } = &seen.service.id;
        let environment = if self.environment.is_empty() { cluster } else { &self.environment };
        Subject {
            environment: environment.clone(),
            cluster: cluster.clone(),
            service: Some(service.clone()),
            channel: ServiceTags::read(&seen.service.tags).channel,
        }
    }
}

/// What is asked for; or why Tidegate does not scale the service, in words for its owner.
fn refused(seen: &Seen) -> Result<&super::decide::Goal, String> {
    let asked = seen.asked.as_ref().map_err(|problems| problems.join("; "))?;
    if let Some(Err(Error::Input(reason))) = &seen.queue {
        return Err(reason.clone());
    }
    if let Some(Err(error)) = seen.queue.as_ref().filter(|queue| queue.as_ref().is_err_and(|it| !it.is_transient())) {
        return Err(error.to_string());
    }
    match &seen.owned {
        Ok(true) => {
            Err("Application Auto Scaling scales this service, and two would fight; deregister its scalable target \
             (aws application-autoscaling deregister-scalable-target), or remove the tidegate:scale tags"
                .into())
        }
        Err(error) if !error.is_transient() => Err(error.to_string()),
        _ => Ok(&asked.goal),
    }
}

fn conditions(plan: &Plan, max: u32) -> Vec<(Kind, String)> {
    let visible = plan.inputs.visible.unwrap_or_default();
    let wanted = plan.inputs.wanted;
    let at_maximum = plan.is_at_maximum.then(|| {
        let text = format!("it needs {wanted} tasks, and tidegate:scale/max is {max}; {visible:.0} messages wait");
        (Kind::AtMaximum, text)
    });
    let ineffective = plan.is_ineffective.then(|| {
        let text = format!(
            "all {} tasks are at work, and each gets less than half as much done as it should; look at what they wait \
             for before you raise tidegate:scale/max",
            plan.inputs.running
        );
        (Kind::Ineffective, text)
    });
    at_maximum.into_iter().chain(ineffective).collect()
}

fn change(seen: &Seen, plan: &Plan, now: DateTime<Utc>) -> Change {
    let entropy = format!("{} {}", seen.service.id, seen.kept.version);
    let change = Change::new(now, &entropy, "desired count", &plan.reason, json!(plan.inputs));
    Change { from: Some(seen.service.desired), to: Some(plan.desired), ..change }
}

fn decision(service: &Service, plan: &Plan) -> Decision {
    let action = if plan.desired == service.desired { Action::Skip } else { Action::Scale };
    Decision {
        service: Some(service.id.to_string()),
        rule: Some(rule(plan.why)),
        from: Some(service.desired),
        to: Some(plan.desired),
        ..Decision::new(action, &plan.reason)
    }
}

fn rule(why: Why) -> &'static str {
    match why {
        Why::Out => "out",
        Why::In => "in",
        Why::Bounds => "bounds",
        Why::Steady => "steady",
        Why::TooSoon => "too-soon",
        Why::Pause => "pause",
        Why::NoData => "no-data",
        Why::RollingOut => "rolling-out",
        Why::Held => "held",
        Why::AtWork => "at-work",
    }
}

fn idle(id: &ServiceRef, rule: &'static str, reason: &str) -> Looked {
    let decision = Decision { service: Some(id.to_string()), rule: Some(rule), ..Decision::new(Action::Skip, reason) };
    Looked { decision, is_busy: false }
}
