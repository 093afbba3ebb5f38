//! What people use otherwise, as its documents describe it.

use super::world::{CPU, HOUR, MEMORY, MINUTE, World, rounded_up};

/// A policy: looks at the world every 15 seconds, and acts on it.
pub(super) trait Policy {
    fn look(&mut self, world: &mut World);
}

fn newest_two_above(world: &World, percent: f64) -> bool {
    let points = world.points();
    points.len() >= 2 && points.iter().rev().take(2).all(|point| point.cpu > percent)
}

/// C1: one instance each time the alarm on CPU goes off.
#[derive(Default)]
pub(super) struct OnAlarm {
    is_in_alarm: bool,
}

impl Policy for OnAlarm {
    fn look(&mut self, world: &mut World) {
        let is_in_alarm = newest_two_above(world, 85.0);
        if is_in_alarm && !self.is_in_alarm {
            world.desired = (world.desired + 1).min(world.max);
        }
        self.is_in_alarm = is_in_alarm;
    }
}

/// C2: one instance every three minutes for as long as CPU is high; one less, at once, while it is low.
pub(super) struct Repeated {
    changed_at: i64,
}

impl Default for Repeated {
    fn default() -> Self {
        Self { changed_at: -HOUR }
    }
}

impl Policy for Repeated {
    fn look(&mut self, world: &mut World) {
        let is_low = world.points().len() >= 15 && world.points().iter().rev().take(15).all(|point| point.cpu < 40.0);
        if newest_two_above(world, 85.0) && world.now - self.changed_at >= 3 * MINUTE {
            world.desired = (world.desired + 1).min(world.max);
            self.changed_at = world.now;
        } else if is_low && world.now - self.changed_at >= 5 * MINUTE && world.desired > world.min {
            world.shrink_to(world.desired - 1);
            self.changed_at = world.now;
        }
    }
}

/// C3: a fifth more while CPU or the reservation is above 85 %; one is drained and goes while both are below 60 %.
pub(super) struct Reservation {
    changed_at: i64,
    low_since: Option<i64>,
    drains: Option<usize>,
}

impl Default for Reservation {
    fn default() -> Self {
        Self { changed_at: -HOUR, low_since: None, drains: None }
    }
}

impl Policy for Reservation {
    fn look(&mut self, world: &mut World) {
        let reserved = world.reserved();
        let cpu = world.points().last().map_or(0.0, |point| point.cpu);
        let is_high = newest_two_above(world, 85.0) || reserved > 85.0;
        if is_high && world.now - self.changed_at >= 3 * MINUTE {
            world.desired = (world.desired + world.desired.div_ceil(5)).min(world.max);
            self.changed_at = world.now;
        }
        let is_low = cpu < 60.0 && reserved < 60.0;
        self.low_since = is_low.then(|| self.low_since.unwrap_or(world.now));
        if let Some(id) = self.drains {
            if world.tasks_on(id).next().is_none() {
                world.terminate(id);
                world.desired = world.desired.saturating_sub(1).max(world.min);
                self.drains = None;
            }
            return;
        }
        let is_long = self.low_since.is_some_and(|since| world.now - since >= 15 * MINUTE);
        if is_long && world.now - self.changed_at >= 5 * MINUTE && world.desired > world.min {
            let active = world.hosts.iter().filter(|host| world.is_active(host));
            self.drains = active.max_by_key(|host| host.free_cpu).map(|host| host.id);
            self.changed_at = world.now;
            if let Some(host) = self.drains.and_then(|id| world.host_mut(id)) {
                host.is_draining = true;
            }
        }
    }
}

/// C4: a capacity provider with managed scaling at a target of 100, by its documents: `M = N +` instances for tasks that
/// wait, read with a delay of a minute; out at most every five minutes of warm-up; in after 15 minutes, and only what is
/// empty.
pub(super) struct CapacityProvider {
    last: i64,
    wanted: Vec<u32>,
    below: u32,
}

impl Default for CapacityProvider {
    fn default() -> Self {
        Self { last: -HOUR, wanted: Vec::new(), below: 0 }
    }
}

impl Policy for CapacityProvider {
    fn look(&mut self, world: &mut World) {
        if world.now - self.last < MINUTE {
            return;
        }
        self.last = world.now;
        let is_empty = |id: usize| world.tasks_on(id).next().is_none();
        let hosts = u32::try_from(world.hosts.len()).unwrap_or_default();
        let empty = world.hosts.iter().filter(|host| is_empty(host.id)).count();
        let empty = u32::try_from(empty).unwrap_or_default();
        let mut cpu = 0;
        let mut memory = 0;
        for service in &world.services {
            let waiting = i64::try_from(service.waiting.len()).unwrap_or_default();
            cpu += waiting * service.cpu;
            memory += waiting * service.memory;
        }
        let more = rounded_up(cpu, CPU).max(rounded_up(memory, MEMORY));
        let m = hosts - empty + u32::try_from(more).unwrap_or_default();
        self.wanted.push(m);
        // A minute late.
        let Some(m) = self.wanted.len().checked_sub(2).and_then(|index| self.wanted.get(index)).copied() else {
            return;
        };
        if m > world.desired {
            world.desired = m.min(world.max);
            self.below = 0;
        } else if m < world.desired {
            self.below += 1;
        } else {
            self.below = 0;
        }
        if self.below >= 15 {
            let most = (world.desired / 2).max(1).min(world.desired.saturating_sub(world.min.max(m)));
            let ids: Vec<usize> = world
                .hosts
                .iter()
                .filter(|host| world.is_active(host) && world.tasks_on(host.id).next().is_none())
                .map(|host| host.id)
                .take(usize::try_from(most).unwrap_or_default())
                .collect();
            for id in ids {
                world.terminate(id);
                world.desired -= 1;
            }
        }
    }
}
