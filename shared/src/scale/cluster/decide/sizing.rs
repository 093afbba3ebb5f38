//! How many instances the tasks need.

use std::collections::BTreeSet;
use std::fmt;

use super::demand::Unplaced;
use super::fleet::{Fleet, is_empty};
use super::load::{Load, instances_for};
use super::memory::State;
use super::packing::{Room, thousandths};
use super::plan::{instances, waiting};
use super::seen::{Observed, Resources};

/// The CPU and memory (percent) that a cluster is sized to, where the threshold is [`HIGH`]; in proportion for another.
const TARGET: f64 = 70.0;
/// The threshold that `tidegate:scale/cpu-high` has by default, and that memory has always.
const HIGH: f64 = 85.0;
/// Free room that is kept, in thousandths of an instance: at least so much,
const LEAST_HEADROOM: i64 = 1000;
/// and so much for each instance there is.
const HEADROOM_EACH: i64 = 100;
/// The group gets an instance for the headroom where more than this is missing.
const SLACK: i64 = 500;
/// More than any group has: nothing is counted beyond.
const MOST: u32 = 1_000_000;

/// What the tasks need, and which rule says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Need {
    /// Instances beyond those that there are, or will be.
    pub(super) extra: u32,
    /// Why.
    pub(super) rule: Rule,
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// There are enough.
    Enough,
    /// So many tasks wait for a place.
    Tasks(u32),
    /// So many tasks wait, and with them the free room is so much, in thousandths of an instance, and should be so much.
    Headroom(u32, i64, i64),
    /// There is room, and none for one task of the largest service.
    Largest,
    /// Percent of the CPU, and what sizes the cluster.
    Cpu(f64, Aim),
    /// Percent of the memory, and what sizes the cluster.
    Memory(f64, Aim),
}

/// The bounds of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Aim {
    /// Above this percent the cluster gets instances,
    pub(super) high: f64,
    /// to be at this percent.
    pub(super) target: f64,
}

impl Aim {
    /// For CPU, with what the owner asks for.
    pub(super) fn cpu(high: f64) -> Self {
        let high = if (1.0..=100.0).contains(&high) { high } else { HIGH };
        Self { high, target: high * TARGET / HIGH }
    }

    /// For memory.
    pub(super) fn memory() -> Self {
        Self { high: HIGH, target: TARGET }
    }
}

/// What is used of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    pub(super) cpu: Load,
    pub(super) memory: Load,
}

impl Loads {
    pub(super) fn of(seen: &Observed<'_>) -> Self {
        Self {
            cpu: Load::of(seen.minutes, seen.now, |minute| minute.cpu),
            memory: Load::of(seen.minutes, seen.now, |minute| minute.memory),
        }
    }
}

/// How many instances the tasks need: the most that any rule says.
pub(super) fn size(
    seen: &Observed<'_>,
    fleet: &Fleet<'_>,
    unplaced: &Unplaced<'_>,
    loads: &Loads,
    state: &State,
) -> Need {
    let mut need = Need { extra: 0, rule: Rule::Enough };
    let mut offer = |extra: u32, rule: Rule| {
        if extra > need.extra {
            need = Need { extra, rule };
        }
    };
    let busy = |load: &Load, aim: Aim| {
        // What the minute has measured was measured of the instances there were.
        let (began, percent) = load.above(aim.high)?;
        let needed = instances_for(state.size_at(began), percent, aim.target, MOST);
        Some((needed.saturating_sub(fleet.capacity()), percent))
    };
    let aim = Aim::cpu(seen.goal.cpu_high);
    if let Some((extra, percent)) = busy(&loads.cpu, aim) {
        offer(extra, Rule::Cpu(percent, aim));
    }
    if let Some((extra, percent)) = busy(&loads.memory, Aim::memory()) {
        offer(extra, Rule::Memory(percent, Aim::memory()));
    }
    if fleet.capacity() == 0 && !unplaced.lots.is_empty() {
        offer(1, Rule::Tasks(unplaced.tasks));
    }
    let Some(shape) = fleet.shape() else { return need };
    let mut room = fleet.room_without(&BTreeSet::new());
    // The headroom is for what is not known yet: it is counted without those that only move.
    let opened = room.pack(&unplaced.lots, &fleet.kinds);
    let (free, wanted) = headroom(fleet, &room, unplaced, shape, fleet.capacity().saturating_add(opened));
    let short = wanted - free;
    let lacks_room_for_largest = short <= SLACK && !has_room_for_largest(seen, &room, shape);
    let with_moving = room.pack(&unplaced.moving, &fleet.kinds);
    offer(opened.saturating_add(with_moving), Rule::Tasks(unplaced.tasks));
    if short > SLACK {
        // As many as leave no more than the slack missing; one more than that, and more tasks could ask for fewer.
        let more = u32::try_from((short - SLACK).saturating_add(999) / 1000).unwrap_or(MOST);
        offer(opened.saturating_add(more), Rule::Headroom(unplaced.tasks, free, wanted));
    } else if lacks_room_for_largest && wanted > 0 {
        offer(opened.saturating_add(1), Rule::Largest);
    }
    need
}

/// The room that is free, and that should be, in thousandths of an instance, with so many instances. A cluster without
/// tasks needs none: it may be empty.
pub(super) fn headroom(
    fleet: &Fleet<'_>,
    room: &Room,
    unplaced: &Unplaced<'_>,
    shape: &Resources,
    instances: u32,
) -> (i64, i64) {
    let free = room.free();
    let free = thousandths(free.cpu, shape.cpu).min(thousandths(free.memory, shape.memory));
    let is_idle = unplaced.tasks == 0
        && unplaced.moving.is_empty()
        && fleet.active.iter().chain(&fleet.drains).all(|instance| is_empty(instance));
    let wanted = if is_idle { 0 } else { LEAST_HEADROOM.max(HEADROOM_EACH * i64::from(instances)) };
    (free, wanted)
}

/// Whether one task of each service finds a place, of those that fit an instance at all.
pub(super) fn has_room_for_largest(seen: &Observed<'_>, room: &Room, shape: &Resources) -> bool {
    let fitting = seen.shapes.values().filter(|needs| shape.holds(needs) > 0);
    // Ports are taken where the service runs already: that is no lack of room.
    let sizes = fitting.map(|needs| Resources { ports: BTreeSet::new(), ..needs.clone() });
    sizes.max_by_key(|needs| needs.share_of(shape)).is_none_or(|needs| room.has_place_for(&needs))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = |f: &mut fmt::Formatter<'_>, what, percent: f64, aim: &Aim| {
            write!(
                f,
                "{what} is at {percent:.0} %, above {:.0} % for two minutes, and is to be at {:.0} %",
                aim.high, aim.target
            )
        };
        match self {
            Self::Enough => f.write_str("there are enough"),
            Self::Tasks(0) => f.write_str("tasks must leave their instances, and find no room"),
            Self::Tasks(tasks) => write!(f, "{} for a place", waiting(*tasks)),
            Self::Headroom(tasks, free, wanted) => {
                if *tasks > 0 {
                    write!(f, "{} for a place, and ", waiting(*tasks))?;
                }
                let (free, wanted) = (decimal((*free).max(0)), decimal(*wanted));
                write!(f, "there is free room of {free} instances where {wanted} are to be")
            }
            Self::Largest => f.write_str("no instance has room for one more of the largest task"),
            Self::Cpu(percent, aim) => busy(f, "CPU", *percent, aim),
            Self::Memory(percent, aim) => busy(f, "memory", *percent, aim),
        }
    }
}

/// Thousandths as `1.5`.
fn decimal(thousandths: i64) -> String {
    format!("{}.{}", thousandths / 1000, thousandths % 1000 / 100)
}

/// `from 4 to 6 instances`.
pub(super) fn from_to(from: u32, to: u32) -> String {
    format!("from {from} to {}", instances(to))
}
