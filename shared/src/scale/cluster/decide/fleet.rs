//! The instances of a group, by what they are good for.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::memory::{Shape, State, since};
use super::packing::Room;
use super::seen::{Instance, Observed, Resources, Stage};

/// How long an instance may boot before nobody waits for it any more.
pub(super) const BOOT_PATIENCE: TimeDelta = TimeDelta::minutes(15);
/// How long an agent may be out of reach: agents reconnect now and then, and are updated.
const LOST_PATIENCE: TimeDelta = TimeDelta::minutes(5);
/// How long somebody else's empty instance may be DRAINING before people are told.
const LEFT_PATIENCE: TimeDelta = TimeDelta::minutes(30);

/// The instances by what they are good for.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet<'a> {
    /// They take tasks, or will as soon as ECS has heard that they should.
    pub(super) active: Vec<&'a Instance>,
    /// We drain them to be rid of them.
    pub(super) drains: Vec<&'a Instance>,
    /// How many will take tasks: they boot, or the group has yet to launch them.
    pub(super) coming: u32,
    /// How many keep what they have, and take no more for now: their agent is out of reach.
    pub(super) steady: u32,
    /// How many are in the cluster, and so in the averages of CloudWatch.
    pub(super) registered: u32,
    /// Which of them boot for too long.
    pub(super) slow: Vec<String>,
    /// Which of them are out of reach for too long.
    pub(super) lost: Vec<String>,
    /// Which of them somebody has drained, and forgotten.
    pub(super) left: Vec<String>,
    /// How many the group should have launched long ago.
    pub(super) missing: u32,
    /// The kinds of instance there are, without what daemons take of them; the smallest first. Where there is none, the
    /// one that was seen last.
    pub(super) kinds: Vec<Resources>,
}

impl<'a> Fleet<'a> {
    /// Sorts the instances, and notes in the state since when they are what they are.
    pub(super) fn sort(seen: &Observed<'a>, state: &mut State) -> Self {
        let mut fleet = Self::default();
        let (mut booting, mut lost, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let mut listed = 0_u32;
        for instance in seen.instances.iter().filter(|instance| instance.stage != Stage::Terminating) {
            listed += 1;
            fleet.registered += u32::from(instance.stage != Stage::Booting);
            let drain = state.drains.get(&instance.id);
            match instance.stage {
                // The group launches another in its place: the desired capacity is not ours to change for it.
                _ if state.leaving.contains_key(&instance.id) => fleet.coming += 1,
                _ if drain.is_some_and(|drain| !drain.is_ending) => fleet.drains.push(instance),
                Stage::Booting => booting.push(instance.id.as_str()),
                Stage::Lost => lost.push(instance.id.as_str()),
                Stage::Draining if drain.is_none() => {
                    if is_empty(instance) {
                        left.push(instance.id.as_str());
                    }
                }
                Stage::Active | Stage::Draining => fleet.active.push(instance),
                Stage::Terminating => {}
            }
        }
        state.booting = since(&state.booting, booting, seen.now);
        state.lost = since(&state.lost, lost, seen.now);
        state.left = since(&state.left, left, seen.now);
        fleet.count(seen, state, listed);
        state.note_size(seen.now, fleet.registered);
        fleet.kinds = kinds(seen, state);
        fleet
    }

    /// Counts those that can't be counted on.
    fn count(&mut self, seen: &Observed<'_>, state: &mut State, listed: u32) {
        let late = |since: &BTreeMap<String, _>, patience| -> Vec<String> {
            since.iter().filter(|(_, at)| seen.now - **at > patience).map(|(id, _)| id.clone()).collect()
        };
        self.slow = late(&state.booting, BOOT_PATIENCE);
        self.lost = late(&state.lost, LOST_PATIENCE);
        if !seen.group.is_refreshing {
            self.left = late(&state.left, LEFT_PATIENCE);
        }
        let ordered = seen.group.desired.saturating_sub(listed);
        state.short_since = (ordered > 0).then(|| state.short_since.map_or(seen.now, |at| at.min(seen.now)));
        self.missing = match state.short_since {
            Some(at) if seen.now - at > BOOT_PATIENCE => ordered,
            _ => 0,
        };
        // Where one instance is broken, another helps; where many are, it is the launch template, or the network, and
        // more of the same would be broken too. These are counted on, so that nothing is thrown after them.
        let absent = length(&self.slow).saturating_add(length(&self.lost));
        let forgiven = absent.saturating_sub((listed / 10).max(1));
        let waited = length_of(state.booting.len()).saturating_sub(length(&self.slow));
        self.steady = length_of(state.lost.len()).saturating_sub(length(&self.lost));
        self.coming = [ordered, waited, forgiven].into_iter().fold(self.coming, u32::saturating_add);
    }

    /// How many instances there are, or will be, for tasks.
    pub(super) fn capacity(&self) -> u32 {
        length_of(self.active.len()).saturating_add(self.coming).saturating_add(self.steady)
    }

    /// The smallest instance that the group has, if that is known.
    pub(super) fn shape(&self) -> Option<&Resources> {
        self.kinds.first()
    }

    /// The room on all instances but these.
    pub(super) fn room_without(&self, gone: &BTreeSet<&str>) -> Room {
        let mut room = Room::default();
        let stay = self.active.iter().filter(|instance| !gone.contains(instance.id.as_str()));
        stay.for_each(|instance| room.add(&instance.remaining));
        if let Some(shape) = self.shape() {
            room.add_fresh(shape, self.coming);
        }
        room
    }
}

/// Whether nothing runs there but daemons.
pub(super) fn is_empty(instance: &Instance) -> bool {
    instance.tasks.iter().all(|task| task.is_daemon)
}

/// What an instance offers to tasks: what it has, without what its daemons take.
pub(super) fn offers(instance: &Instance) -> Resources {
    let daemons = instance.tasks.iter().filter(|task| task.is_daemon);
    daemons.fold(instance.registered.clone(), |free, task| free.without(&task.needs, 1))
}

/// The kinds of instance, the smallest first; notes the smallest in the state.
fn kinds(seen: &Observed<'_>, state: &mut State) -> Vec<Resources> {
    let known = seen.instances.iter().map(offers).filter(|offers| offers.cpu > 0 && offers.memory > 0);
    let mut kinds: Vec<Resources> = known.collect();
    kinds.sort_by(|a, b| (a.cpu, a.memory, a.gpus, &a.ports).cmp(&(b.cpu, b.memory, b.gpus, &b.ports)));
    kinds.dedup();
    if let Some(smallest) = kinds.first() {
        state.shape = Some(Shape { offers: smallest.clone(), at: seen.now });
    } else {
        kinds.extend(state.shape.as_ref().map(|shape| shape.offers.clone()));
    }
    kinds
}

/// How many there are.
pub(super) fn length<T>(items: &[T]) -> u32 {
    length_of(items.len())
}

fn length_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
