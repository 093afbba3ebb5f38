//! A queue and the tasks that work on it: a discrete-event simulation, exact to the microsecond.
//!
//! First in, first out, over all free slots; a received message is hidden; what fails or is killed comes back when its
//! visibility time-out is over, and goes to the dead-letter queue after enough receives. Tasks take time to start. Who
//! is stopped takes no more messages, and is killed after the stop time-out: what it was working on comes back too.

mod tasks;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use fastrand::Rng;

use super::scene::{Message, SECOND, Scene};

/// A message in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// Its place among the messages of the scene.
    id: usize,
    /// Since when it can be received.
    since: u64,
    receives: u8,
}

/// A message that is being worked on.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    id: usize,
    receives: u8,
    at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Stopping,
}

#[derive(Debug, Clone)]
struct Task {
    launched: u64,
    phase: Phase,
    work: Vec<Delivery>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A task has started.
    Started { task: u32 },
    /// A task has done its part of a message.
    Worked { task: u32, id: usize },
    /// What is behind the tasks has done its part too.
    Passed { task: u32, id: usize },
    /// A message can be received again.
    Back(Waiting),
    /// The stop time-out of a task is over.
    Kill { task: u32 },
}

/// What has happened so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Seconds from arrival to the start of the attempt that succeeded, by message; empty where nobody asks.
    pub waits: Vec<Option<f32>>,
    /// A wait longer than this many seconds is counted in `late`.
    pub limit: f64,
    /// First receives that came too late.
    pub late: u64,
    /// Messages that were worked on when their task was killed.
    pub killed: u64,
    /// Microseconds of tasks that have ended, from their launch.
    pub task_time: u64,
    /// Tasks that were launched.
    pub launches: u64,
}

/// The queue and its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Engine<'a> {
    scene: &'a Scene,
    messages: &'a [Message],
    /// The next message to come.
    next: usize,
    now: u64,
    ready: VecDeque<Waiting>,
    /// FIFO groups with a message that is ready, worked on or hidden, and the messages that wait for it.
    groups: BTreeMap<u32, VecDeque<Waiting>>,
    tasks: BTreeMap<u32, Task>,
    /// A task for each slot that is free.
    idle: Vec<u32>,
    desired: u32,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Events so far: those of the same time happen in the order in which they were planned.
    planned: u64,
    next_task: u32,
    downstream_free: u64,
    starts: Rng,
    picks: Rng,
    in_work: usize,
    hidden: usize,
    in_groups: usize,
    deleted: u64,
    dead: u64,
}

impl<'a> Engine<'a> {
    /// A queue without messages, and tasks that run already.
    pub(crate) fn new(scene: &'a Scene, messages: &'a [Message], tasks: u32, seed: u64) -> Self {
        let mut engine = Self {
            scene,
            messages,
            next: 0,
            now: 0,
            ready: VecDeque::new(),
            groups: BTreeMap::new(),
            tasks: BTreeMap::new(),
            idle: Vec::new(),
            desired: tasks,
            events: BinaryHeap::new(),
            planned: 0,
            next_task: 0,
            downstream_free: 0,
            starts: Rng::with_seed(seed ^ 0x5741_5254),
            picks: Rng::with_seed(seed ^ 0x5049_434b),
            in_work: 0,
            hidden: 0,
            in_groups: 0,
            deleted: 0,
            dead: 0,
        };
        for _ in 0..tasks {
            let task = engine.add_task();
            engine.started(task);
        }
        engine
    }

    /// Messages that have come.
    pub(crate) fn sent(&self) -> u64 {
        self.next as u64
    }

    /// Messages that were worked on with success.
    pub(crate) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// Messages in the dead-letter queue.
    pub(crate) fn dead(&self) -> u64 {
        self.dead
    }

    /// Messages that wait.
    pub(crate) fn visible(&self) -> usize {
        self.ready.len() + self.in_groups
    }

    /// Messages that are worked on, or hidden after a failure.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_work + self.hidden
    }

    /// Tasks that ECS is to run.
    pub(crate) fn desired(&self) -> u32 {
        self.desired
    }

    /// Tasks that run and are not being stopped.
    pub(crate) fn running(&self) -> u32 {
        self.count(Phase::Running)
    }

    fn count(&self, phase: Phase) -> u32 {
        self.tasks.values().filter(|task| task.phase == phase).count() as u32
    }

    /// Seconds for which the oldest message that can be received has been waiting. A message that came back has waited
    /// since then.
    pub(crate) fn oldest_wait(&self) -> f64 {
        let front = self.ready.front().map(|waiting| waiting.since);
        let oldest = if self.groups.is_empty() {
            front
        } else {
            let others = self.groups.values().filter_map(|group| group.front());
            self.ready.iter().chain(others).map(|waiting| waiting.since).min()
        };
        oldest.map_or(0.0, |since| seconds(self.now - since))
    }

    /// Messages that have never been received, though they came that many seconds ago.
    pub(crate) fn waiting_longer_than(&self, limit: f64) -> u64 {
        let waiting = self.ready.iter().chain(self.groups.values().flatten());
        waiting.filter(|waiting| waiting.receives == 0 && seconds(self.now - waiting.since) > limit).count() as u64
    }

    /// Lets everything happen until that time, in microseconds.
    pub(crate) fn advance(&mut self, until: u64, tally: &mut Tally) {
        loop {
            let arrival = self.messages.get(self.next).map(|message| message.at).filter(|at| *at < until);
            let planned = self.events.peek().map(|Reverse((at, _, _))| *at).filter(|at| *at < until);
            match (arrival, planned) {
                (None, None) => break,
                (Some(at), planned) if planned.is_none_or(|planned| at < planned) => {
                    self.now = at;
                    let id = self.next;
                    self.next += 1;
                    self.arrive(Waiting { id, since: at, receives: 0 });
                }
                _ => {
                    if let Some(Reverse((at, _, event))) = self.events.pop() {
                        self.now = at;
                        self.happen(event, tally);
                    }
                }
            }
            self.dispatch(tally);
        }
        self.now = until;
    }

    /// What has become of all messages that came: done, dead, waiting, in work or hidden.
    #[cfg(test)]
    fn accounted(&self) -> u64 {
        self.deleted + self.dead + (self.visible() + self.in_flight()) as u64
    }

    /// Counts what has not ended yet: tasks as if they ended now, messages as if they started now.
    pub(crate) fn close(&mut self, tally: &mut Tally) {
        tally.task_time += self.tasks.values().map(|task| self.now - task.launched).sum::<u64>();
        let waiting = self.ready.iter().chain(self.groups.values().flatten()).copied();
        let back = self.events.iter().filter_map(|Reverse((_, _, event))| match event {
            Event::Back(waiting) => Some(*waiting),
            _ => None,
        });
        for waiting in waiting.chain(back) {
            if let Some(message) = self.messages.get(waiting.id).filter(|message| !message.is_poison)
                && let Some(wait) = tally.waits.get_mut(waiting.id)
            {
                *wait = Some(seconds(self.now - message.at) as f32);
            }
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn happen(&mut self, event: Event, tally: &mut Tally) {
        match event {
            Event::Started { task } => self.started(task),
            Event::Worked { task, id } => self.worked(task, id, tally),
            Event::Passed { task, id } => self.finished(task, id, tally),
            Event::Back(waiting) => {
                self.hidden -= 1;
                self.ready.push_back(waiting);
            }
            Event::Kill { task } => self.kill(task, tally),
        }
    }

    fn arrive(&mut self, waiting: Waiting) {
        if self.scene.groups.is_some()
            && let Some(message) = self.messages.get(waiting.id)
        {
            if let Some(group) = self.groups.get_mut(&message.group) {
                group.push_back(waiting);
                self.in_groups += 1;
                return;
            }
            self.groups.insert(message.group, VecDeque::new());
        }
        self.ready.push_back(waiting);
    }

    /// Hands messages to free slots. Which of them is chance: all of them poll.
    fn dispatch(&mut self, tally: &mut Tally) {
        while !self.idle.is_empty() {
            let Some(waiting) = self.ready.pop_front() else { return };
            let Some(message) = self.messages.get(waiting.id) else { continue };
            if waiting.receives >= self.scene.max_receives {
                self.dead += 1;
                self.release(message.group);
                continue;
            }
            let task = self.idle.swap_remove(self.picks.usize(0..self.idle.len()));
            let wait = seconds(self.now - message.at);
            if !message.is_poison {
                if let Some(slot) = tally.waits.get_mut(waiting.id) {
                    *slot = Some(wait as f32);
                }
                if waiting.receives == 0 && wait > tally.limit {
                    tally.late += 1;
                }
            }
            let delivery = Delivery { id: waiting.id, receives: waiting.receives + 1, at: self.now };
            if let Some(task) = self.tasks.get_mut(&task) {
                task.work.push(delivery);
            }
            self.in_work += 1;
            self.plan(self.now + message.service, Event::Worked { task, id: waiting.id });
        }
    }

    /// A task is through with a message, unless what is behind it has others to do first.
    fn worked(&mut self, task: u32, id: usize, tally: &mut Tally) {
        let Some(rate) = self.scene.downstream else { return self.finished(task, id, tally) };
        if !self.tasks.contains_key(&task) {
            return;
        }
        self.downstream_free = self.downstream_free.max(self.now) + (SECOND as f64 / rate) as u64;
        self.plan(self.downstream_free, Event::Passed { task, id });
    }

    fn finished(&mut self, id: u32, message: usize, tally: &mut Tally) {
        // A task that was killed finishes nothing.
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(place) = task.work.iter().position(|delivery| delivery.id == message) else { return };
        let delivery = task.work.swap_remove(place);
        let (phase, is_free) = (task.phase, task.work.is_empty());
        self.in_work -= 1;
        match self.messages.get(message) {
            Some(message) if !message.is_poison => {
                self.deleted += 1;
                self.release(message.group);
            }
            _ => self.hide(delivery),
        }
        match phase {
            Phase::Stopping if is_free => self.remove(id, tally),
            Phase::Stopping => {}
            // Between two messages a task is not protected.
            _ if is_free && self.scene.is_protected && self.is_too_many() => self.stop(id, tally),
            _ => self.idle.push(id),
        }
    }

    /// The next of a FIFO group can be received.
    fn release(&mut self, group: u32) {
        let Some(waiting) = self.groups.get_mut(&group) else { return };
        if let Some(next) = waiting.pop_front() {
            self.in_groups -= 1;
            self.ready.push_back(next);
        } else {
            self.groups.remove(&group);
        }
    }

    /// A message that was received and not deleted: it comes back when its visibility time-out, which its task has
    /// extended while it was at work, is over.
    fn hide(&mut self, delivery: Delivery) {
        let timeout = self.scene.visibility * SECOND;
        let at = delivery.at + timeout * (self.now - delivery.at).div_ceil(timeout).max(1);
        self.hidden += 1;
        self.plan(at, Event::Back(Waiting { id: delivery.id, since: at, receives: delivery.receives }));
    }
}

/// Microseconds as seconds.
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / SECOND as f64
}

#[cfg(test)]
mod tests;
