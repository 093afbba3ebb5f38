//! Tasks that wait for a place, by what helps them.

use chrono::TimeDelta;

use super::fleet::{Fleet, is_empty, length, offers};
use super::memory::{InVain, State};
use super::packing::Lot;
use super::plan::Notice;
use super::seen::{Demand, Observed, Stage, Task};

/// How long ECS may leave a new or empty instance alone before nobody believes that one more would help.
const VAIN_PATIENCE: TimeDelta = TimeDelta::minutes(5);
/// After that long, one more is tried: the service may have been mended.
const VAIN_KEPT: TimeDelta = TimeDelta::hours(1);
/// So many empty instances too small for a task say that the group launches no larger ones.
const TOO_SMALL: usize = 3;

/// Tasks that wait for a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Unplaced<'a> {
    /// Those that room helps.
    pub(super) lots: Vec<Lot<'a>>,
    /// Those that will wait soon: they run where they can't stay.
    pub(super) moving: Vec<Lot<'a>>,
    /// How many wait whom room helps.
    pub(super) tasks: u32,
    /// What to tell of the others.
    pub(super) notices: Vec<Notice>,
}

impl<'a> Unplaced<'a> {
    /// Sorts the tasks, and notes in the state who waits in vain.
    pub(super) fn sort(seen: &Observed<'a>, fleet: &Fleet<'_>, state: &mut State) -> Self {
        let mut unplaced = Self { moving: moving(seen, state), ..Self::default() };
        for demand in seen.unplaced.iter().filter(|demand| demand.tasks > 0) {
            unplaced.add(demand, fleet, seen, state);
        }
        let waits = |service: &String| seen.unplaced.iter().any(|it| it.tasks > 0 && it.service == *service);
        state.in_vain.retain(|service, _| waits(service));
        unplaced
    }

    fn add(&mut self, demand: &'a Demand, fleet: &Fleet<'_>, seen: &Observed<'a>, state: &mut State) {
        let Demand { service, needs, tasks, is_blocked } = demand;
        if !can_fit(demand, fleet) {
            self.notices.push(Notice::CannotFit { service: service.clone(), tasks: *tasks });
            return;
        }
        let empty = || fleet.active.iter().filter(|instance| is_empty(instance));
        let is_too_large = empty().count() >= TOO_SMALL && empty().all(|instance| offers(instance).holds(needs) == 0);
        if is_too_large || self.is_in_vain(demand, fleet, seen, state) {
            self.notices.push(Notice::InVain { service: service.clone(), tasks: *tasks });
            return;
        }
        let is_tried = state.in_vain.get(service).is_some_and(|it| it.tried_at.is_some());
        if !(*is_blocked && is_tried) {
            self.lots.push(Lot { needs, tasks: *tasks, is_fresh_only: *is_blocked });
        }
        self.tasks = self.tasks.saturating_add(*tasks);
    }

    /// Whether ECS had a new instance, or an empty one, for a while, and has placed none of these tasks.
    fn is_in_vain(&self, demand: &Demand, fleet: &Fleet<'_>, seen: &Observed<'_>, state: &mut State) -> bool {
        let Demand { service, needs, tasks, is_blocked } = demand;
        let is_same = |before: &InVain| {
            let is_recent = before.tried_at.is_none_or(|at| at <= seen.now && seen.now - at <= VAIN_KEPT);
            *tasks >= before.tasks && is_recent
        };
        let first = InVain { tasks: *tasks, instances: fleet.registered, tried_at: None };
        let Some(mut entry) = state.in_vain.get(service).copied().filter(is_same).or(is_blocked.then_some(first))
        else {
            state.in_vain.remove(service);
            return false;
        };
        let is_refused = || {
            let mut empty = fleet.active.iter().filter(|instance| is_empty(instance));
            empty.any(|instance| instance.remaining.holds(needs) > 0)
        };
        if *is_blocked && entry.tried_at.is_none() && (fleet.registered > entry.instances || is_refused()) {
            entry.tried_at = Some(seen.now);
        }
        state.in_vain.insert(service.clone(), entry);
        *is_blocked && entry.tried_at.is_some_and(|at| seen.now - at > VAIN_PATIENCE)
    }
}

/// Whether an instance of the group could hold such a task. Where there is none now, the next may be of another kind than
/// the last.
fn can_fit(demand: &Demand, fleet: &Fleet<'_>) -> bool {
    fleet.kinds.is_empty() || fleet.kinds.iter().any(|kind| kind.holds(&demand.needs) > 0)
}

/// The tasks on instances that somebody else takes away. Those of our own drains fit elsewhere: that was seen to.
fn moving<'a>(seen: &Observed<'a>, state: &State) -> Vec<Lot<'a>> {
    let gone = seen.instances.iter().filter(|instance| match instance.stage {
        _ if state.leaving.contains_key(&instance.id) => true,
        Stage::Draining => !state.drains.contains_key(&instance.id),
        Stage::Terminating => true,
        Stage::Booting | Stage::Active | Stage::Lost => false,
    });
    lots(gone.flat_map(|instance| &instance.tasks).filter(|task| task.service.is_some()))
}

/// These tasks, one by one; without daemons, which nobody has to place.
pub(super) fn lots<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<Lot<'a>> {
    let tasks = tasks.into_iter().filter(|task| !task.is_daemon);
    tasks.map(|task| Lot { needs: &task.needs, tasks: 1, is_fresh_only: false }).collect()
}

/// How many tasks are no daemons.
pub(super) fn count(tasks: &[Task]) -> u32 {
    length(&lots(tasks))
}
