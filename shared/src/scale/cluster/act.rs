//! Acting on a plan.
//!
//! What is to be done is written down before it is done, on the condition that nobody has written since, and keeps others
//! off until it is done. Each step can be repeated: it names what shall be, and no difference, but for one. To terminate
//! an instance lowers the desired capacity by one each time, so the group is asked once more right before.
//!
//! Whoever is killed between two steps leaves the rest to the next look, which finds what has not been done.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::decide::{Hook, Leaving, Notice, Plan, Stage, Step};
use super::{ACTING, Cause, ClusterScaler, Kept, Looked, Refusal, Seen, about};
use crate::clusters::Cluster;
use crate::decision::{Action, Decision};
use crate::error::Error;
use crate::groups;
use crate::record::store::Written;
use crate::scale::memory::{Change, Remembered};
use crate::scale::notice::Kind;

/// Most changes that are noted of one look: DynamoDB takes a hundred items in a transaction.
const CHANGES_MAX: usize = 90;

impl ClusterScaler {
    /// Does what was decided. `None` where another handler was faster.
    pub(super) async fn act(
        &self,
        cluster: &Cluster,
        seen: &Seen,
        plan: Plan,
        remembered: &Remembered<Kept>,
        deadline: DateTime<Utc>,
    ) -> Result<Option<Looked>, Error> {
        let now = self.platform.now();
        let looked = Looked { decision: made(cluster, seen, &plan), is_restless: plan.is_restless };
        let mut notices = remembered.state.notices.clone();
        notices.note(now, &conditions(&plan.notices));
        let acting_until = (!plan.steps.is_empty()).then_some(now + ACTING);
        let mut kept = Kept { scaling: plan.state.clone(), notices, acting_until };
        let changes = changes(cluster, seen, &plan, remembered.version, now);
        let noted: Vec<Change> = changes.iter().flatten().cloned().collect();
        let name = cluster.name.as_str();
        if self.memory.write(name, remembered.version, &kept, &noted).await? == Written::Outrun {
            return Ok(None);
        }
        let done = Box::pin(self.carry_out(cluster, seen, &plan.steps, &changes)).await;
        if let Err(error) = &done
            && !error.is_transient()
        {
            kept.notices.note(now, &[(Kind::Stuck, error.to_string())]);
        }
        let is_told = Box::pin(self.crier.tell(&self.subject(cluster), &mut kept.notices, now, deadline)).await;
        if kept.acting_until.take().is_some() || is_told {
            // Outrun: it took so long that somebody else has gone on.
            let _: Written = self.memory.write(name, remembered.version + 1, &kept, &[]).await?;
        }
        done.map(|()| Some(looked))
    }

    /// Takes the steps, one after the other, up to the first that fails. `changes` are those that are noted.
    async fn carry_out(
        &self,
        cluster: &Cluster,
        seen: &Seen,
        steps: &[Step],
        changes: &[Option<Change>],
    ) -> Result<(), Error> {
        for (step, change) in steps.iter().zip(changes) {
            let done = Box::pin(self.step(&cluster.name, seen, step)).await;
            let outcome = done.as_ref().map_or_else(ToString::to_string, |()| "accepted".into());
            if let Some(change) = change
                && let Err(error) = self.memory.conclude(&cluster.name, change, &outcome).await
            {
                tracing::warn!(cluster = cluster.name, %error, "what came of a change is not noted");
            }
            done?;
            let counted = match step {
                Step::SetDesired(desired) if *desired > seen.group.desired => Some("ScaledOut"),
                Step::Terminate(_) => Some("ScaledIn"),
                _ => None,
            };
            if let Some(name) = counted {
                let inputs = change.as_ref().map(|change| &change.inputs);
                self.crier.metrics.scaling(&self.subject(cluster), &[name], inputs, self.platform.now());
            }
        }
        Ok(())
    }

    /// Tells the owner why the cluster is not scaled. `None` where another handler was faster.
    pub(super) async fn refuse(
        &self,
        cluster: &Cluster,
        refusal: &Refusal,
        remembered: &Remembered<Kept>,
        cause: &Cause,
        deadline: DateTime<Utc>,
    ) -> Result<Option<Looked>, Error> {
        let reason = refusal.to_string();
        let decision = Decision { rule: Some("refused"), ..Decision::new(Action::Skip, &reason) };
        let looked = Looked { decision: about(cluster, decision), is_restless: false };
        if cause.explain {
            return Ok(Some(looked));
        }
        let now = self.platform.now();
        let mut kept = remembered.state.clone();
        kept.notices.note(now, &[(Kind::Refused, reason)]);
        if self.memory.write(&cluster.name, remembered.version, &kept, &[]).await? == Written::Outrun {
            return Ok(None);
        }
        if Box::pin(self.crier.tell(&self.subject(cluster), &mut kept.notices, now, deadline)).await {
            let _: Written = self.memory.write(&cluster.name, remembered.version + 1, &kept, &[]).await?;
        }
        Ok(Some(looked))
    }

    async fn step(&self, cluster: &str, seen: &Seen, step: &Step) -> Result<(), Error> {
        match step {
            Step::Undrain(instances) => self.ecs.set_draining(cluster, instances, false).await,
            Step::Drain(instances) => self.ecs.set_draining(cluster, instances, true).await,
            Step::SetDesired(desired) => {
                let Seen { group, .. } = seen;
                self.groups.set_desired(&group.name, (*desired).clamp(group.min, group.max.max(group.min))).await
            }
            Step::Terminate(instance) => self.terminate(seen, instance).await,
            Step::Complete(leaving) => match action(leaving) {
                Some(action) => self.groups.complete(action).await,
                None => Ok(()),
            },
            Step::Heartbeat(leaving) => match action(leaving) {
                Some(action) => self.groups.heartbeat(action).await,
                None => Ok(()),
            },
        }
    }

    /// Terminates an instance if the group still has it in service, and would not go below its minimum.
    async fn terminate(&self, seen: &Seen, instance: &str) -> Result<(), Error> {
        let Some(group) = self.groups.group(&seen.group.name).await? else { return Ok(()) };
        let is_there = group.members.iter().any(|member| member.id == instance && member.lifecycle == "InService");
        match is_there && group.desired > group.min {
            true => self.groups.terminate(instance).await,
            false => Ok(()),
        }
    }
}

/// What is noted of each step; of a heartbeat nothing.
fn changes(cluster: &Cluster, seen: &Seen, plan: &Plan, version: u64, now: DateTime<Utc>) -> Vec<Option<Change>> {
    let inputs = inputs(seen, plan.wanted);
    let from = Some(seen.group.desired);
    let change = |(at, step): (usize, &Step)| {
        let entropy = format!("{} {version} {at}", cluster.name);
        let change = Change::new(now, &entropy, what(step), &plan.reason, with(&inputs, step));
        match step {
            _ if at >= CHANGES_MAX => None,
            Step::Heartbeat(_) => None,
            Step::SetDesired(to) => Some(Change { from, to: Some(*to), ..change }),
            Step::Terminate(_) => Some(Change { from, to: from.map(|from| from.saturating_sub(1)), ..change }),
            _ => Some(change),
        }
    };
    plan.steps.iter().enumerate().map(change).collect()
}

/// What people have to see to, one text for each kind.
fn conditions(notices: &[Notice]) -> Vec<(Kind, String)> {
    let mut texts: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for notice in notices {
        let kind = match notice {
            Notice::AtMaximum { .. } => Kind::AtMaximum,
            Notice::CannotFit { .. } | Notice::InVain { .. } => Kind::Ineffective,
            _ => Kind::Stuck,
        };
        texts.entry(kind).or_default().push(notice.to_string());
    }
    texts.into_iter().map(|(kind, texts)| (kind, texts.join("; "))).collect()
}

fn action(Leaving { instance, hook }: &Leaving) -> Option<groups::Action<'_>> {
    let Hook { group, name, token } = hook.as_ref()?;
    Some(groups::Action { group, hook: name, token, instance })
}

fn what(step: &Step) -> &'static str {
    match step {
        Step::Undrain(_) => "take tasks again",
        Step::Drain(_) => "drain",
        Step::SetDesired(_) => "desired capacity",
        Step::Terminate(_) => "terminate",
        Step::Complete(_) => "complete lifecycle action",
        Step::Heartbeat(_) => "lifecycle action heartbeat",
    }
}

/// Which instances a step is about.
fn instances(step: &Step) -> Vec<&str> {
    match step {
        Step::Undrain(arns) | Step::Drain(arns) => arns.iter().map(String::as_str).collect(),
        Step::Terminate(id) => vec![id],
        Step::Complete(leaving) | Step::Heartbeat(leaving) => vec![&leaving.instance],
        Step::SetDesired(_) => Vec::new(),
    }
}

/// The numbers that a decision was made of.
fn inputs(seen: &Seen, wanted: u32) -> Value {
    let count = |stage: Stage| seen.instances.iter().filter(|instance| instance.stage == stage).count();
    let unplaced = seen.unplaced.iter().map(|demand| (demand.service.clone(), json!(demand.tasks)));
    let newest = seen.minutes.last();
    json!({
        "wanted": wanted,
        "group": {"min": seen.group.min, "max": seen.group.max, "desired": seen.group.desired},
        "instances": {
            "booting": count(Stage::Booting), "active": count(Stage::Active), "draining": count(Stage::Draining),
            "terminating": count(Stage::Terminating), "lost": count(Stage::Lost),
        },
        "unplaced": unplaced.collect::<serde_json::Map<String, Value>>(),
        "cpu": newest.and_then(|minute| minute.cpu), "memory": newest.and_then(|minute| minute.memory),
        "rolling_out": seen.is_rolling_out,
    })
}

fn with(inputs: &Value, step: &Step) -> Value {
    let mut inputs = inputs.clone();
    let of = instances(step);
    if let (Value::Object(fields), false) = (&mut inputs, of.is_empty()) {
        fields.insert("of".into(), json!(of));
    }
    inputs
}

pub(super) fn made(cluster: &Cluster, seen: &Seen, plan: &Plan) -> Decision {
    let action = if plan.steps.is_empty() { Action::Skip } else { Action::Scale };
    let to = plan.steps.iter().find_map(|step| match step {
        Step::SetDesired(to) => Some(*to),
        Step::Terminate(_) => Some(seen.group.desired.saturating_sub(1)),
        _ => None,
    });
    let words = plan.steps.iter().map(|step| match (what(step), instances(step)) {
        (what, of) if of.is_empty() => what.to_owned(),
        (what, of) => format!("{what}: {}", of.join(", ")),
    });
    let notes = words.chain(seen.notes.iter().cloned()).collect();
    let from = to.map(|_| seen.group.desired);
    about(cluster, Decision { from, to, notes, ..Decision::new(action, plan.reason.clone()) })
}
