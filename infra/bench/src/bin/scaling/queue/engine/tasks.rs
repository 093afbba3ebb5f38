//! The tasks, and ECS's scheduler.

use super::super::scene::SECOND;
use super::{Engine, Event, Phase, Tally, Task};

impl Engine<'_> {
    /// Tells ECS how many tasks to run.
    pub(crate) fn set_desired(&mut self, desired: u32, tally: &mut Tally) {
        self.desired = desired;
        self.reconcile(tally);
    }

    /// ECS's scheduler: launches what is missing, stops what is too much. Tasks that are still starting go first, then
    /// any, for the scheduler knows of zones, not of work; those that protect themselves, not while they work.
    pub(crate) fn reconcile(&mut self, tally: &mut Tally) {
        let live: Vec<(u32, bool)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.phase != Phase::Stopping)
            .map(|(id, task)| (*id, task.phase == Phase::Pending))
            .collect();
        for _ in live.len()..self.desired as usize {
            let task = self.add_task();
            tally.launches += 1;
            let (least, most) = self.scene.start;
            let after = (least + (most - least) * self.starts.f64()) * SECOND as f64;
            self.plan(self.now + after as u64, Event::Started { task });
        }
        let mut excess = live.len().saturating_sub(self.desired as usize);
        for (task, _) in live.iter().rev().filter(|(_, is_pending)| *is_pending).take(excess) {
            self.remove(*task, tally);
            excess -= 1;
        }
        if excess == 0 {
            return;
        }
        let mut victims: Vec<u32> = live.iter().filter(|(_, is_pending)| !is_pending).map(|(task, _)| *task).collect();
        if self.scene.is_protected {
            victims.retain(|task| self.tasks.get(task).is_some_and(|task| task.work.is_empty()));
        }
        for _ in 0..excess.min(victims.len()) {
            let victim = victims.swap_remove(self.picks.usize(0..victims.len()));
            self.stop(victim, tally);
        }
    }

    /// A task that is starting.
    pub(super) fn add_task(&mut self) -> u32 {
        let id = self.next_task;
        self.next_task += 1;
        self.tasks.insert(id, Task { launched: self.now, phase: Phase::Pending, work: Vec::new() });
        id
    }

    /// A task has started: all its slots are free.
    pub(super) fn started(&mut self, id: u32) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.phase = Phase::Running;
            self.idle.extend((0..self.scene.concurrency).map(|_| id));
        }
    }

    /// SIGTERM: no more messages, and SIGKILL later.
    pub(super) fn stop(&mut self, id: u32, tally: &mut Tally) {
        self.idle.retain(|idle| *idle != id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.phase = Phase::Stopping;
        if task.work.is_empty() {
            self.remove(id, tally);
        } else {
            self.plan(self.now + self.scene.stop_timeout * SECOND, Event::Kill { task: id });
        }
    }

    /// A task has ended.
    pub(super) fn remove(&mut self, id: u32, tally: &mut Tally) {
        if let Some(task) = self.tasks.remove(&id) {
            tally.task_time += self.now - task.launched;
        }
    }

    /// Whether more tasks run than should.
    pub(super) fn is_too_many(&self) -> bool {
        self.tasks.len() > self.desired as usize
            && self.tasks.values().filter(|task| task.phase != Phase::Stopping).count() > self.desired as usize
    }

    /// SIGKILL: what the task is at work on comes back.
    pub(super) fn kill(&mut self, id: u32, tally: &mut Tally) {
        let Some(task) = self.tasks.get(&id) else { return };
        let work = task.work.clone();
        self.remove(id, tally);
        for delivery in work {
            self.in_work -= 1;
            tally.killed += 1;
            self.hide(delivery);
        }
    }
}
