//! The scheduler of ECS, modelled: it spreads tasks over instances or packs them by memory, brings up a replacement before
//! it stops a task of an instance that drains or of an older revision (minimum healthy percent 100, maximum 200), and stops
//! tasks where a service has most of them.

use super::{Host, Task, World};

/// How long a task takes from its place to RUNNING, and from SIGTERM to STOPPED.
const START: i64 = 20;
const STOP: i64 = 20;

impl World {
    /// Tasks that have stopped, or die, are gone.
    pub(super) fn end_tasks(&mut self) {
        let now = self.now;
        for task in &mut self.tasks {
            let Some(service) = self.services.get_mut(task.service) else { continue };
            if service.dies_after.is_some_and(|after| now - task.placed_at >= after) {
                task.stops_at = Some(now);
                service.failures += 1;
                service.next_try = now + i64::from(service.failures / 12).min(20) * 30;
            }
        }
        let (gone, stay) = std::mem::take(&mut self.tasks)
            .into_iter()
            .partition::<Vec<_>, _>(|task| task.stops_at.is_some_and(|at| at <= now));
        self.tasks = stay;
        for task in gone {
            self.reserve(&task, -1);
        }
    }

    fn reserve(&mut self, task: &Task, sign: i64) {
        let Some((cpu, memory)) = self.services.get(task.service).map(|service| (service.cpu, service.memory)) else {
            return;
        };
        if let Some(host) = self.host_mut(task.host) {
            host.free_cpu -= sign * cpu;
            host.free_memory -= sign * memory;
        }
    }

    /// The scheduler of ECS: what is to run gets a place, what is not to run stops.
    pub(super) fn schedule(&mut self) {
        for index in 0..self.services.len() {
            let Some(service) = self.services.get(index).cloned() else { continue };
            let is_good = |task: &Task| {
                let drains = self.hosts.iter().any(|host| host.id == task.host && host.is_draining);
                task.revision == service.revision && !drains
            };
            let live = || self.tasks.iter().filter(|task| task.service == index && task.stops_at.is_none());
            let good = u32::try_from(live().filter(|task| is_good(task)).count()).unwrap_or_default();
            let running = live().filter(|task| is_good(task) && self.now - task.placed_at >= START).count();
            let bad = live().count() - usize::try_from(good).unwrap_or_default();
            let desired = usize::try_from(service.desired).unwrap_or_default();
            let may_stop = (running + bad).saturating_sub(desired).min(bad);
            let surplus = usize::try_from(good.saturating_sub(service.desired)).unwrap_or_default();
            let is_good: Vec<bool> = self.tasks.iter().map(is_good).collect();
            self.stop(index, may_stop, &is_good, false);
            self.stop(index, surplus, &is_good, true);
            self.place(index, service.desired.saturating_sub(good));
        }
    }

    fn stop(&mut self, service: usize, count: usize, is_good: &[bool], of_good: bool) {
        for _ in 0..count {
            let on = |host: usize| self.tasks_on(host).filter(|task| task.service == service).count();
            let may_stop = |(index, task): &(usize, &Task)| {
                let is_good = is_good.get(*index).copied().unwrap_or_default();
                task.service == service && task.stops_at.is_none() && is_good == of_good
            };
            let most = self.tasks.iter().enumerate().filter(may_stop).max_by_key(|(_, task)| on(task.host));
            let Some(index) = most.map(|(index, _)| index) else { return };
            if let Some(task) = self.tasks.get_mut(index) {
                task.stops_at = Some(self.now + STOP);
            }
        }
    }

    fn place(&mut self, index: usize, wanted: u32) {
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let now = self.now;
        let Some(mut service) = self.services.get(index).cloned() else { return };
        // Who is not wanted any more has waited, too.
        let given_up = service.waiting.drain(wanted.min(service.waiting.len())..).map(|since| now - since);
        self.outcome.placements.extend(given_up.filter(|_| service.dies_after.is_none() && !service.fits_nowhere));
        service.waiting.resize(wanted, now);
        while !service.waiting.is_empty() && service.next_try <= now {
            let on = |host: &Host| self.tasks_on(host.id).filter(|task| task.service == index).count();
            let fits = |host: &&Host| {
                let has_room = host.free_cpu >= service.cpu && host.free_memory >= service.memory;
                host.active_at <= now && !host.is_draining && has_room && !service.fits_nowhere
            };
            let hosts = self.hosts.iter().filter(fits);
            let host = match service.is_spread {
                true => hosts.min_by_key(|host| (on(host), -host.free_cpu)),
                false => hosts.min_by_key(|host| host.free_memory),
            };
            let Some(host) = host.map(|host| host.id) else {
                service.failed_at = Some(now);
                break;
            };
            service.failed_at = None;
            let since = service.waiting.remove(0);
            if service.dies_after.is_none() {
                self.outcome.placements.push(now - since);
            }
            let task = Task { service: index, host, placed_at: now, revision: service.revision, stops_at: None };
            self.reserve(&task, 1);
            self.tasks.push(task);
        }
        if let Some(place) = self.services.get_mut(index) {
            *place = service;
        }
    }
}
