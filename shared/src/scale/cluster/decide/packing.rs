//! First-fit decreasing: which tasks fit where, and how many instances they need.
//!
//! The order and the rule are those of [Johnson et al., 1974](https://doi.org/10.1137/0203025), in as many dimensions as
//! ECS places by: CPU, memory, GPUs and static host ports. Tasks of one service are alike, and are placed all at once.

use std::cmp::Reverse;

use super::seen::Resources;

impl Resources {
    /// How many tasks with these needs fit here.
    pub(super) fn holds(&self, needs: &Self) -> u32 {
        if !self.ports.is_disjoint(&needs.ports) {
            return 0;
        }
        let by_ports = if needs.ports.is_empty() { u32::MAX } else { 1 };
        let pairs = [(self.cpu, needs.cpu), (self.memory, needs.memory), (self.gpus, needs.gpus)];
        let by_size = pairs.into_iter().filter(|(_, need)| *need > 0).map(|(free, need)| free.max(0) / need).min();
        by_size.map_or(u32::MAX, |tasks| u32::try_from(tasks).unwrap_or(u32::MAX)).min(by_ports)
    }

    /// What is free once so many tasks with these needs are here.
    pub(super) fn without(&self, needs: &Self, tasks: u32) -> Self {
        let rest = |free: i64, need: i64| free.saturating_sub(need.max(0).saturating_mul(i64::from(tasks)));
        Self {
            cpu: rest(self.cpu, needs.cpu),
            memory: rest(self.memory, needs.memory),
            gpus: rest(self.gpus, needs.gpus),
            ports: self.ports.union(&needs.ports).copied().collect(),
        }
    }

    /// How much of the whole this is, in thousandths: of what there is less of, CPU or memory.
    pub(super) fn share_of(&self, whole: &Self) -> i64 {
        thousandths(self.cpu, whole.cpu).max(thousandths(self.memory, whole.memory))
    }
}

/// How much of the whole this is, in thousandths. Where there is no whole, nothing is.
pub(super) fn thousandths(part: i64, whole: i64) -> i64 {
    if whole <= 0 { 0 } else { part.saturating_mul(1000) / whole }
}

/// Tasks that are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lot<'a> {
    /// What each of them needs.
    pub(super) needs: &'a Resources,
    /// How many there are.
    pub(super) tasks: u32,
    /// Whether only a fresh instance can take them: ECS has tried the others.
    pub(super) is_fresh_only: bool,
}

/// Instances that are alike: what is free on each of them.
#[derive(Debug, Clone)]
struct Bin {
    free: Resources,
    count: u32,
    /// Whether they boot, or are yet to be launched.
    is_fresh: bool,
}

/// Room for tasks.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    bins: Vec<Bin>,
}

impl Room {
    /// Adds an instance that takes tasks now.
    pub(super) fn add(&mut self, free: &Resources) {
        self.bins.push(Bin { free: free.clone(), count: 1, is_fresh: false });
    }

    /// Adds instances that will take tasks.
    pub(super) fn add_fresh(&mut self, free: &Resources, count: u32) {
        if count > 0 {
            self.bins.push(Bin { free: free.clone(), count, is_fresh: true });
        }
    }

    /// Places what fits of these tasks, first fit, and says how many are left.
    pub(super) fn place(&mut self, lot: &Lot<'_>) -> u32 {
        let mut left = lot.tasks;
        let mut bins = Vec::with_capacity(self.bins.len() + 2);
        for bin in self.bins.drain(..) {
            let each = if lot.is_fresh_only && !bin.is_fresh { 0 } else { bin.free.holds(lot.needs) };
            if left == 0 || each == 0 {
                bins.push(bin);
                continue;
            }
            let full = (left / each).min(bin.count);
            left -= full.saturating_mul(each);
            let partly = if full < bin.count { left } else { 0 };
            left -= partly;
            let some = |count, free: &Resources| Bin { free: free.clone(), count, is_fresh: bin.is_fresh };
            let parts = [(full, each), (u32::from(partly > 0), partly), (bin.count - full - u32::from(partly > 0), 0)];
            let parts = parts.into_iter().filter(|(count, _)| *count > 0);
            bins.extend(parts.map(|(count, tasks)| match tasks {
                0 => some(count, &bin.free),
                _ => some(count, &bin.free.without(lot.needs, tasks)),
            }));
        }
        self.bins = bins;
        left
    }

    /// Places these tasks, the largest first, and opens instances for those that find no room. Says how many it has
    /// opened. `kinds` are the instances that the group has, the smallest first: one is opened of the first kind that
    /// holds the task. A task that none holds is passed over.
    pub(super) fn pack(&mut self, lots: &[Lot<'_>], kinds: &[Resources]) -> u32 {
        let Some(smallest) = kinds.first() else { return 0 };
        let mut opened = 0_u32;
        for lot in decreasing(lots, smallest) {
            let Some((kind, each)) = kinds.iter().map(|kind| (kind, kind.holds(lot.needs))).find(|(_, each)| *each > 0)
            else {
                continue;
            };
            if kind != smallest {
                // Nobody knows which kind an instance will be that boots. It would never end to ask for one more.
                self.hope_for(kind, smallest, lot.tasks.div_ceil(each));
            }
            let left = self.place(&lot);
            let count = left.div_ceil(each);
            self.add_fresh(kind, count);
            self.place(&Lot { tasks: left, is_fresh_only: true, ..lot });
            opened = opened.saturating_add(count);
        }
        opened
    }

    /// Takes so many untouched instances that boot for instances of a larger kind.
    fn hope_for(&mut self, kind: &Resources, smallest: &Resources, mut wanted: u32) {
        let mut hoped = 0;
        for bin in self.bins.iter_mut().filter(|bin| bin.is_fresh && bin.free == *smallest) {
            let count = bin.count.min(wanted);
            bin.count -= count;
            wanted -= count;
            hoped += count;
        }
        self.bins.retain(|bin| bin.count > 0);
        self.add_fresh(kind, hoped);
    }

    /// Whether each of these tasks finds a place, the largest first.
    pub(super) fn takes_all(&mut self, lots: &[Lot<'_>], shape: &Resources) -> bool {
        decreasing(lots, shape).iter().all(|lot| self.place(lot) == 0)
    }

    /// Whether a task with these needs fits somewhere.
    pub(super) fn has_place_for(&self, needs: &Resources) -> bool {
        self.bins.iter().any(|bin| bin.free.holds(needs) > 0)
    }

    /// What is free in all, CPU and memory.
    pub(super) fn free(&self) -> Resources {
        let sum = |of: fn(&Resources) -> i64| {
            let each = self.bins.iter().map(|bin| of(&bin.free).max(0).saturating_mul(i64::from(bin.count)));
            each.fold(0_i64, i64::saturating_add)
        };
        Resources { cpu: sum(|free| free.cpu), memory: sum(|free| free.memory), ..Resources::default() }
    }
}

/// The largest first. What has a static port comes before what can go anywhere.
fn decreasing<'a>(lots: &[Lot<'a>], shape: &Resources) -> Vec<Lot<'a>> {
    let mut lots = lots.to_vec();
    lots.sort_by_key(|lot| {
        let needs = lot.needs;
        Reverse((needs.gpus, needs.share_of(shape), needs.cpu, needs.memory, needs.ports.len(), lot.is_fresh_only))
    });
    lots
}

#[cfg(test)]
mod tests;
