//! Which instance may go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::demand::{Unplaced, count, lots};
use super::fleet::{Fleet, offers};
use super::load::Load;
use super::memory::State;
use super::seen::{Instance, Observed, Resources};
use super::sizing::{Aim, Loads, has_room_for_largest, headroom};

/// What the choice is made of.
#[derive(Clone, Copy)]
pub(super) struct Choice<'look, 'a> {
    pub(super) seen: &'look Observed<'a>,
    pub(super) fleet: &'look Fleet<'a>,
    pub(super) unplaced: &'look Unplaced<'a>,
    pub(super) loads: &'look Loads,
    pub(super) state: &'look State,
}

impl<'a> Choice<'_, 'a> {
    /// The instances each of which could go now, the best first: the one with the least on it, in a zone that has not
    /// fewer than others.
    pub(super) fn candidates(&self) -> Vec<&'a Instance> {
        let mut zones = BTreeMap::<_, u32>::new();
        for instance in &self.fleet.active {
            *zones.entry(&instance.zone).or_default() += 1;
        }
        let may_go = self.fleet.active.iter().copied().filter(|instance| self.may_go(instance));
        let mut candidates: Vec<_> = may_go.filter(|instance| self.can_go(&[*instance])).collect();
        candidates.sort_by_key(|instance| {
            let zone = Reverse(zones.get(&instance.zone).copied().unwrap_or_default());
            (zone, reserved(instance), count(&instance.tasks), &instance.id)
        });
        candidates
    }

    /// The first of these, as many as can go together, and no more than `most`.
    pub(super) fn together(&self, candidates: &[&'a Instance], most: usize) -> Vec<&'a Instance> {
        let mut chosen: Vec<&'a Instance> = Vec::new();
        for candidate in candidates {
            if chosen.len() >= most {
                break;
            }
            chosen.push(candidate);
            if !self.can_go(&chosen) {
                chosen.pop();
            }
        }
        chosen
    }

    /// Whether nothing on the instance keeps it.
    fn may_go(&self, instance: &Instance) -> bool {
        let state = self.state;
        let is_free = !instance.is_protected && instance.container_instance.is_some();
        let mut tasks = instance.tasks.iter().filter(|task| !task.is_daemon);
        let is_movable = tasks.all(|task| !task.is_protected && task.service.is_some());
        let left_alone = [&state.given_up, &state.kept].into_iter().any(|kept| kept.contains_key(&instance.id));
        is_free && is_movable && !left_alone && !state.drains.contains_key(&instance.id)
    }

    /// Whether the others have room for the tasks of these, with the headroom, and would not be too busy.
    fn can_go(&self, instances: &[&Instance]) -> bool {
        let Some(shape) = self.fleet.shape() else { return false };
        let left = usize::try_from(self.fleet.registered).unwrap_or(usize::MAX).saturating_sub(instances.len());
        if !self.stays_calm(left) {
            return false;
        }
        let mut room = self.fleet.room_without(&instances.iter().map(|instance| instance.id.as_str()).collect());
        let mut tasks = lots(instances.iter().flat_map(|instance| &instance.tasks));
        tasks.extend(&self.unplaced.lots);
        if !room.takes_all(&tasks, shape) {
            return false;
        }
        let after = self.fleet.capacity().saturating_sub(u32::try_from(instances.len()).unwrap_or(u32::MAX));
        let (free, wanted) = headroom(self.fleet, &room, self.unplaced, shape, after);
        free >= wanted && (wanted == 0 || has_room_for_largest(self.seen, &room, shape))
    }

    /// Whether CPU and memory are below what the cluster is sized to where so many instances have it all.
    fn stays_calm(&self, left: usize) -> bool {
        let left = f64::from(u32::try_from(left).unwrap_or(u32::MAX));
        // What the minute has measured was measured of the instances there were.
        let is_calm = |load: &Load, aim: Aim| {
            let measured = load.began().zip(load.newest());
            measured.is_some_and(|(began, percent)| percent * f64::from(self.state.size_at(began)) <= aim.target * left)
        };
        is_calm(&self.loads.cpu, Aim::cpu(self.seen.goal.cpu_high)) && is_calm(&self.loads.memory, Aim::memory())
    }
}

/// How much of an instance its tasks have reserved, in thousandths.
fn reserved(instance: &Instance) -> i64 {
    let whole = offers(instance);
    let tasks = instance.tasks.iter().filter(|task| !task.is_daemon);
    let needs = tasks.fold(Resources::default(), |sum, task| Resources {
        cpu: sum.cpu.saturating_add(task.needs.cpu),
        memory: sum.memory.saturating_add(task.needs.memory),
        ..sum
    });
    needs.share_of(&whole)
}

/// The ids of these instances.
pub(super) fn ids<'a>(instances: &[&'a Instance]) -> BTreeSet<&'a str> {
    instances.iter().map(|instance| instance.id.as_str()).collect()
}
