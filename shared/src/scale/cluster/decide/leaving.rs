//! Instances that somebody else takes away: EC2 with a Spot interruption, or the group with a lifecycle hook.
//!
//! They are drained, so that their tasks move while there is time: two minutes for Spot
//! ([Spot interruption notices](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html)),
//! and as long as we say for a hook
//! ([lifecycle hooks](https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html)).

use chrono::{DateTime, TimeDelta, Utc};

use super::demand;
use super::memory::{Departure, State};
use super::plan::Step;
use super::seen::{Instance, Observed, Stage};

/// How long the group is made to wait for an instance to become empty.
const HOOK_PATIENCE: TimeDelta = TimeDelta::minutes(15);
/// How long something that was said is left to work before it is said again.
const AGAIN: TimeDelta = TimeDelta::minutes(1);
/// How long an instance is remembered that the group does not show.
const UNSEEN_KEPT: TimeDelta = TimeDelta::minutes(2);
/// How long an instance is remembered that should have gone, and has not.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Forgets what is gone, and remembers what the events have told.
pub(super) fn remember(seen: &Observed<'_>, state: &mut State) {
    let is_there = |id: &String| seen.instances.iter().any(|instance| instance.id == *id);
    state
        .leaving
        .retain(|id, departure| is_within(departure.since, if is_there(id) { KEPT } else { UNSEEN_KEPT }, seen.now));
    for told in seen.leaving {
        let before = state.leaving.get(&told.instance);
        let is_known = before.is_some_and(|before| told.hook.is_none() || before.told.hook == told.hook);
        if !is_known {
            // A Spot warning and a hook are about the same end: the drain goes on, and the hook has its own deadline.
            let drained_at = before.and_then(|before| before.drained_at);
            let told =
                Departure { told: told.clone(), since: seen.now, drained_at, heartbeat_at: None, completed_at: None };
            state.leaving.insert(told.told.instance.clone(), told);
        }
    }
    // Whether it comes back is not for us to say any more.
    state.drains.retain(|id, _| !state.leaving.contains_key(id));
}

/// What to do for those that leave: drain, then let the group go on, or wait.
pub(super) fn steps(seen: &Observed<'_>, state: &mut State) -> Vec<Step> {
    let (mut drained, mut steps) = (Vec::new(), Vec::new());
    for (id, departure) in &mut state.leaving {
        let instance = seen.instances.iter().find(|instance| instance.id == *id);
        let tasks = instance.map_or(0, |instance| demand::count(&instance.tasks));
        let takes_tasks = instance.is_some_and(|instance| takes_tasks(instance, tasks));
        let arn = instance.and_then(|instance| instance.container_instance.clone()).filter(|_| takes_tasks);
        if let Some(arn) = arn
            && is_due(departure.drained_at, seen.now)
        {
            departure.drained_at = Some(seen.now);
            drained.push(arn);
        }
        if departure.told.hook.is_none() {
            continue;
        }
        let is_over = !is_within(departure.since, HOOK_PATIENCE, seen.now);
        if tasks == 0 || is_over {
            if is_due(departure.completed_at, seen.now) {
                departure.completed_at = Some(seen.now);
                steps.push(Step::Complete(departure.told.clone()));
            }
        } else if is_due(departure.heartbeat_at, seen.now) {
            departure.heartbeat_at = Some(seen.now);
            steps.push(Step::Heartbeat(departure.told.clone()));
        }
    }
    if !drained.is_empty() {
        steps.insert(0, Step::Drain(drained));
    }
    steps
}

/// Whether ECS might still place tasks there. What the group shows as terminating does not say what ECS thinks of it.
fn takes_tasks(instance: &Instance, tasks: u32) -> bool {
    match instance.stage {
        Stage::Active | Stage::Lost => true,
        Stage::Terminating => tasks > 0,
        Stage::Booting | Stage::Draining => false,
    }
}

/// Whether it was never said, or long enough ago to be said again. At the same instant it is the same look, once more.
fn is_due(said: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    said.is_none_or(|said| said >= now || now - said >= AGAIN)
}

/// Whether it began no longer ago than this.
fn is_within(since: DateTime<Utc>, patience: TimeDelta, now: DateTime<Utc>) -> bool {
    now - since <= patience
}
