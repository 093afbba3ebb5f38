//! Our own drains: an instance takes no more tasks, becomes empty, and goes; or takes tasks again.
//!
//! See [draining container instances](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-instance-draining.html):
//! ECS moves the tasks of services within the bounds of their deployment configuration, and leaves all other tasks alone.

use chrono::TimeDelta;

use super::fleet::{Fleet, is_empty};
use super::memory::{Drain, State};
use super::plan::Step;
use super::seen::{Instance, Observed, Stage};

/// How long an instance may take to become empty.
pub(super) const DRAIN_PATIENCE: TimeDelta = TimeDelta::minutes(15);
/// How long an instance is left alone that did not become empty in time.
pub(super) const GIVEN_UP: TimeDelta = TimeDelta::minutes(30);
/// How long the group is left to terminate an instance before it is told again.
const TERMINATE_AGAIN: TimeDelta = TimeDelta::minutes(2);

/// Compares what we have begun with what there is: forgets what is done, and gives up what lasts too long.
pub(super) fn remember(seen: &Observed<'_>, state: &mut State) {
    let now = seen.now;
    for given_up in [&mut state.given_up, &mut state.kept] {
        given_up.retain(|_, at| *at <= now && now - *at <= GIVEN_UP);
    }
    let drains = std::mem::take(&mut state.drains);
    for (id, mut drain) in drains {
        let Some(instance) = seen.instances.iter().find(|instance| instance.id == id) else { continue };
        match instance.stage {
            Stage::Terminating => continue,
            Stage::Active if drain.is_ending => continue,
            // Somebody wants it to stay.
            Stage::Active if drain.is_seen => {
                state.kept.insert(id, now);
                continue;
            }
            Stage::Draining => drain.is_seen = true,
            Stage::Active | Stage::Booting | Stage::Lost => {}
        }
        drain.since = drain.since.min(now);
        let is_over = now - drain.since > DRAIN_PATIENCE;
        let is_told = drain.terminated_at.is_some_and(|at| now - at < TERMINATE_AGAIN);
        if !drain.is_ending && !is_told && (is_over || instance.is_protected) {
            drain.is_ending = true;
            // One that is empty did what it should: a deployment or missing data kept it from going.
            let given_up = if is_over && !is_empty(instance) { &mut state.given_up } else { &mut state.kept };
            given_up.insert(id.clone(), now);
        }
        state.drains.insert(id, drain);
    }
}

/// Begins to drain these.
pub(super) fn begin(seen: &Observed<'_>, instances: &[&Instance], state: &mut State) {
    for instance in instances {
        let drain = Drain { since: seen.now, is_seen: false, is_ending: false, terminated_at: None };
        state.drains.insert(instance.id.clone(), drain);
        state.unneeded.remove(&instance.id);
    }
}

/// Lets all take tasks again that can. Whether there are any.
pub(super) fn end_all(seen: &Observed<'_>, state: &mut State) -> bool {
    let mut is_any = false;
    for drain in state.drains.values_mut().filter(|drain| !drain.is_ending) {
        let is_told = drain.terminated_at.is_some_and(|at| seen.now - at < TERMINATE_AGAIN);
        drain.is_ending = !is_told;
        is_any |= !is_told;
    }
    is_any
}

/// Terminates those that are empty, as far as the group's minimum leaves them to go; the others take tasks again.
pub(super) fn terminate(seen: &Observed<'_>, fleet: &Fleet<'_>, state: &mut State) -> Vec<String> {
    let is_told =
        |drain: &Drain| drain.terminated_at.is_some_and(|at| at < seen.now && seen.now - at < TERMINATE_AGAIN);
    let told = state.drains.values().filter(|drain| is_told(drain)).count();
    let surplus = usize::try_from(seen.group.desired.saturating_sub(seen.group.min)).unwrap_or(0);
    let mut may_go = surplus.saturating_sub(told);
    let mut gone = Vec::new();
    let drained = fleet.drains.iter().filter(|instance| instance.stage == Stage::Draining && is_empty(instance));
    for instance in drained {
        let Some(drain) = state.drains.get_mut(&instance.id).filter(|drain| !is_told(drain)) else { continue };
        if may_go == 0 {
            drain.is_ending = true;
        } else {
            may_go -= 1;
            drain.terminated_at = Some(seen.now);
            gone.push(instance.id.clone());
        }
    }
    gone
}

/// What ECS has to be told: who takes tasks again, and who takes no more. Told again for as long as it does not show.
pub(super) fn tell(seen: &Observed<'_>, state: &State) -> (Option<Step>, Option<Step>) {
    let arns = |is_ending: bool, stage: Stage| {
        let instances = seen.instances.iter().filter(|instance| {
            let is_meant = state.drains.get(&instance.id).is_some_and(|drain| drain.is_ending == is_ending);
            is_meant && instance.stage == stage
        });
        let arns: Vec<String> = instances.filter_map(|instance| instance.container_instance.clone()).collect();
        Some(arns).filter(|arns| !arns.is_empty())
    };
    (arns(true, Stage::Draining).map(Step::Undrain), arns(false, Stage::Active).map(Step::Drain))
}
