//! How many tasks a service should have. Pure: the functions, the benchmark and the tests share it.
//!
//! The rate of arrivals sizes the steady state and the backlog only the way back to it:
//! [Little's law](https://doi.org/10.1287/opre.9.3.383) gives the tasks that are busy, a square root of them
//! ([Halfin and Whitt](https://doi.org/10.1287/opre.29.3.567)) the room for chance, and the backlog is worked off within
//! the wait that is asked for. A rule of so many messages a task can't do both: it needs a standing backlog to run any
//! tasks at all, and swings when it is made small.
//!
//! Out at once, in slowly: never in on data that is missing or old, during a rollout, or below the work in hand.

mod arrivals;
mod learn;
mod state;
#[cfg(test)]
mod tests;
mod words;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use self::state::{Sample, Window, highest};

pub use self::state::State;
pub use crate::queues::Queue;

/// Room for chance, in square roots of the busy tasks.
const HEADROOM: f64 = 0.7;
/// A change of this share is not worth a write, where nothing waits.
const TOLERANCE: f64 = 0.1;
/// Up to this many tasks each counts.
const FEW: u32 = 10;
/// For how long the rate's highest need is kept.
pub(super) const RATE_WINDOW: TimeDelta = TimeDelta::minutes(5);
/// For how long it is kept where a step in may stop a task in the middle of a long message: in service times, and at most.
const LONG_WINDOW: (f64, TimeDelta) = (4.0, TimeDelta::minutes(30));
/// The backlog is worked off within this part of the target at least: what new tasks take to start is lost to it.
const DRAIN_PART: f64 = 0.5;
/// For how long the backlog's is: what it calls for goes away by itself.
const DRAIN_WINDOW: TimeDelta = TimeDelta::minutes(1);
/// Between two steps in.
const IN_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// How long a queue is empty before the last task goes. SQS's numbers are
/// [consistent only a minute](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html)
/// after the producers have stopped.
const EMPTY_TIME: TimeDelta = TimeDelta::minutes(5);
/// A minute of CloudWatch is current for this long.
const FRESH: TimeDelta = TimeDelta::minutes(4);
/// What ECS [waits](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html) for a container
/// to end what it is doing: shorter messages are done by then.
const STOP_TIMEOUT: f64 = 30.0;
/// What CloudWatch shows of a queue is this much older than what SQS does, in seconds.
const METRIC_DELAY: f64 = 60.0;
/// What is larger is no count of messages.
const COUNT_MAX: f64 = 1e12;

/// What the service's tags ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Fewest tasks.
    pub min: u32,
    /// Most tasks.
    pub max: u32,
    /// How long a message may wait, in seconds.
    pub target_wait: f64,
    /// How long a task works on a message, in seconds: where learning begins.
    pub service_time: f64,
    /// How many messages a task works on at once.
    pub concurrency: f64,
    /// Whether the tasks protect themselves from scale-in while they work.
    pub is_protected: bool,
}

/// A minute of the queue as CloudWatch has it. Only minutes that are over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// When it ended.
    pub end: DateTime<Utc>,
    /// Messages that came (`NumberOfMessagesSent`, sum).
    pub sent: Option<f64>,
    /// Messages that were done (`NumberOfMessagesDeleted`, sum).
    pub deleted: Option<f64>,
    /// Messages that waited (`ApproximateNumberOfMessagesVisible`, maximum).
    pub visible: Option<f64>,
    /// Messages in flight (`ApproximateNumberOfMessagesNotVisible`, maximum).
    pub in_flight: Option<f64>,
    /// How long the oldest has waited, in seconds (`ApproximateAgeOfOldestMessage`, maximum).
    pub age: Option<f64>,
}

/// What a decision is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed<'a> {
    /// The time.
    pub now: DateTime<Utc>,
    /// What is asked for.
    pub goal: &'a Goal,
    /// Tasks that ECS is to run.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Whether a deployment is going on.
    pub is_rolling_out: bool,
    /// Whether the owner holds the service (`tidegate:hold`).
    pub is_held: bool,
    /// The queue now; `None` where SQS can't be asked.
    pub queue: Option<Queue>,
    /// What CloudWatch has of the queue, oldest first; the newest 20 minutes are enough.
    pub minutes: &'a [Minute],
}

/// The numbers behind a decision, for records and people.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Messages that wait.
    pub visible: Option<f64>,
    /// Messages in flight.
    pub in_flight: Option<f64>,
    /// Messages that come, a second.
    pub arrivals: Option<f64>,
    /// How long a task works on a message, in seconds, as learnt.
    pub service_time: f64,
    /// Tasks that the arrivals need.
    pub base: f64,
    /// Tasks that the backlog needs beside them.
    pub drain: f64,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that ECS is to run.
    pub desired: u32,
    /// Tasks that are needed, before the bounds.
    pub wanted: u32,
}

/// Why it was decided so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The tasks are too few.
    Out,
    /// The tasks are too many.
    In,
    /// The desired count was outside the bounds.
    Bounds,
    /// It is as it should be.
    Steady,
    /// The tasks are too many, and have not been for long enough.
    TooSoon,
    /// The tasks are too many, and the last step in, or somebody else's change, was just now.
    Pause,
    /// The tasks are too many, and the numbers are missing or old.
    NoData,
    /// The tasks are too many, and a deployment is going on.
    RollingOut,
    /// The tasks are too many, and the owner holds the service.
    Held,
    /// The tasks are too many, but at work.
    AtWork,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tasks that ECS should run; the number that it runs already where nothing is to change.
    pub desired: u32,
    /// Why.
    pub why: Why,
    /// Why, for people.
    pub reason: String,
    /// What to remember.
    pub state: State,
    /// The numbers behind it.
    pub inputs: Inputs,
    /// Whether more tasks are needed than the most that are allowed, while work waits.
    pub is_at_maximum: bool,
    /// Whether tasks that have enough to do get far less done than they used to: more of them may not help.
    pub is_ineffective: bool,
    /// Whether messages wait for longer than they may, with as many tasks as are needed.
    pub misses_target: bool,
    /// Whether to look again before the next minute.
    pub is_busy: bool,
}

/// How many tasks the service should have.
#[must_use]
pub fn decide(observed: &Observed<'_>, before: &State) -> Plan {
    let goal = sane(observed.goal);
    let Observed { now, desired, running, .. } = *observed;
    let slots = f64::from(running) * goal.concurrency;
    let mut state = before.at(now);

    let seen = see(observed);
    if let Some(queue) = &seen.queue {
        state.note(Sample { at: now, visible: queue.visible, in_flight: queue.in_flight, running });
        state.empty_since =
            (queue.visible + queue.in_flight + queue.delayed <= 0.0).then(|| state.empty_since.unwrap_or(now));
    }
    learn::learn(&mut state, observed.minutes, &goal, now);
    state.started(now, running);
    state.overridden(now, desired);
    let service_time = state.service_time(&goal);
    let metered = arrivals::metered(observed.minutes, service_time, now);
    let surging = arrivals::surging(&state, &goal, now);
    let is_long_empty = state.empty_since.is_some_and(|since| now - since >= EMPTY_TIME) && state.has_watched(now);
    // A queue that was empty at every look needs no metric to say that nothing comes.
    let is_known = metered.is_some() || is_long_empty;
    let arrivals = arrivals::combined(metered.or((is_long_empty).then_some(0.0)), surging).or(state.arrivals);
    state.arrivals = arrivals;

    let busy = arrivals.unwrap_or(0.0) * service_time;
    let base = (busy + HEADROOM * busy.sqrt()) / goal.concurrency;
    let drain = drain(&seen, arrivals.unwrap_or(0.0), slots, service_time, &goal, &state);
    // As many tasks as there are messages in the groups that can be worked on: the rest would stand idle.
    let useful = state.useful_tasks(&goal, observed.queue.is_some_and(|queue| queue.is_fifo), now);
    let at_least = u32::from(seen.has_work());
    let needed = |tasks: f64| whole(tasks).max(at_least);

    let out = needed((base + drain).min(useful.out));
    state.bases.note(now, base, rate_window(service_time, &goal));
    state.drains.note(now, drain, DRAIN_WINDOW);
    let steady = highest(&state.bases);
    let at_work = at_work(&seen, slots, service_time, steady, &goal);
    let inward = needed((steady + highest(&state.drains)).min(useful.inward)).max(at_work);

    let target = Target {
        goal: &goal,
        out,
        inward,
        at_work,
        drain,
        is_known: is_known && seen.visible.is_some(),
        is_long_empty,
    };
    let (to, why) = target.choose(observed, &state);
    state.decided(now, desired, to);
    let inputs = Inputs {
        visible: seen.visible,
        in_flight: seen.in_flight,
        arrivals,
        service_time,
        base,
        drain,
        running,
        desired,
        wanted: out,
    };
    let waits = seen.visible.is_some_and(|visible| visible >= slots && visible > 0.0);
    Plan {
        desired: to,
        why,
        reason: words::reason(why, to, &inputs, &goal),
        inputs,
        is_at_maximum: out > goal.max && waits,
        is_ineffective: state.slow_minutes >= learn::SLOW_MINUTES,
        misses_target: waits && to >= out && learn::is_late(observed.minutes, goal.target_wait, now),
        // At nothing, the first message has to be seen soon.
        is_busy: seen.has_work()
            || arrivals.is_some_and(|arrivals| arrivals > 0.0)
            || to > goal.min
            || to == 0 && goal.max > 0,
        state,
    }
}

/// The goal without absurd numbers: the tags allow none, and the rest of the code relies on it.
fn sane(goal: &Goal) -> Goal {
    let at_least = |value: f64, least: f64| if value.is_finite() { value.clamp(least, 1e6) } else { least };
    Goal {
        min: goal.min.min(goal.max),
        target_wait: at_least(goal.target_wait, 1.0),
        service_time: at_least(goal.service_time, 0.001),
        concurrency: at_least(goal.concurrency, 1.0),
        ..goal.clone()
    }
}

/// A count that is one.
fn count(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then(|| value.min(COUNT_MAX))
}

/// Tasks, in whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float is cut to what fits")]
fn whole(tasks: f64) -> u32 {
    tasks.ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// What is known of the queue.
struct Seen {
    queue: Option<Queue>,
    visible: Option<f64>,
    in_flight: Option<f64>,
    /// How old the number of those that wait is, in seconds.
    age: f64,
}

impl Seen {
    fn has_work(&self) -> bool {
        self.visible.unwrap_or(0.0) + self.in_flight.unwrap_or(0.0) > 0.0
    }
}

/// The queue now, or else as CloudWatch has it.
fn see(observed: &Observed<'_>) -> Seen {
    let queue = observed.queue.and_then(|queue| {
        Some(Queue {
            visible: count(queue.visible)?,
            in_flight: count(queue.in_flight)?,
            delayed: count(queue.delayed)?,
            ..queue
        })
    });
    if let Some(queue) = queue {
        return Seen { queue: Some(queue), visible: Some(queue.visible), in_flight: Some(queue.in_flight), age: 0.0 };
    }
    let fresh = |minute: &&Minute| is_fresh(minute, observed.now) && minute.visible.and_then(count).is_some();
    let newest = observed.minutes.iter().filter(fresh).max_by_key(|minute| minute.end);
    Seen {
        queue: None,
        visible: newest.and_then(|minute| minute.visible).and_then(count),
        in_flight: newest.and_then(|minute| minute.in_flight).and_then(count),
        age: METRIC_DELAY,
    }
}

fn is_fresh(minute: &Minute, now: DateTime<Utc>) -> bool {
    minute.end <= now && now - minute.end <= FRESH
}

/// The tasks that work off what waits, and what will wait by the time that new tasks have started, within the wait that
/// is asked for. More tasks than messages are of no use.
fn drain(seen: &Seen, arrivals: f64, slots: f64, service_time: f64, goal: &Goal, state: &State) -> f64 {
    let Some(visible) = seen.visible else { return 0.0 };
    let grows = (arrivals - slots / service_time).max(0.0);
    let until = state.start_time() + seen.age;
    let waiting = visible + grows * until;
    // Half of it, because the tasks that run work on meanwhile.
    let within = (goal.target_wait - until / 2.0).max(DRAIN_PART * goal.target_wait);
    (waiting * service_time / within).min(waiting) / goal.concurrency
}

/// For how long the rate's highest need is kept.
fn rate_window(service_time: f64, goal: &Goal) -> TimeDelta {
    let (times, most) = LONG_WINDOW;
    let may_stop_work = service_time >= STOP_TIMEOUT && !goal.is_protected;
    let long = arrivals::seconds(times * service_time).min(most);
    if may_stop_work { long.max(RATE_WINDOW) } else { RATE_WINDOW }
}

/// The tasks below which work in hand would be stopped. In flight is also what has failed and is hidden for a while, so
/// short messages, which are done before a task is stopped, count only as far as the rate explains them.
fn at_work(seen: &Seen, slots: f64, service_time: f64, steady: f64, goal: &Goal) -> u32 {
    if goal.is_protected {
        return 0;
    }
    let in_hand = seen.in_flight.unwrap_or(0.0).min(slots);
    let explained = if service_time < STOP_TIMEOUT { 2.0 * steady * goal.concurrency } else { f64::INFINITY };
    whole(in_hand.min(explained) / goal.concurrency)
}

/// Where the numbers lead.
struct Target<'a> {
    goal: &'a Goal,
    out: u32,
    inward: u32,
    at_work: u32,
    drain: f64,
    is_known: bool,
    is_long_empty: bool,
}

impl Target<'_> {
    /// The desired count, and why. Out wins over everything; in, the first reason not to wins.
    fn choose(&self, observed: &Observed<'_>, state: &State) -> (u32, Why) {
        let (goal, desired, now) = (self.goal, observed.desired, observed.now);
        let bounded = |tasks: u32| tasks.clamp(goal.min, goal.max);
        let out = bounded(self.out);
        if desired < goal.min {
            return (out, if out > goal.min { Why::Out } else { Why::Bounds });
        }
        if out > desired {
            let is_small = f64::from(out - desired) <= TOLERANCE * f64::from(desired) && self.drain < 1.0;
            return if is_small { (desired, Why::Steady) } else { (out, Why::Out) };
        }
        if desired > goal.max {
            return if observed.is_rolling_out { (desired, Why::RollingOut) } else { (goal.max, Why::Bounds) };
        }
        // To nothing only when it has long been empty.
        let least = if self.is_long_empty { 0 } else { 1 };
        let inward = bounded(self.inward.max(least));
        let is_small = f64::from(desired.saturating_sub(inward)) <= TOLERANCE * f64::from(desired) && desired > FEW;
        if inward >= desired || is_small {
            let is_at_work = self.at_work >= desired && bounded(self.out) < desired;
            return (desired, if is_at_work { Why::AtWork } else { Why::Steady });
        }
        let step = inward.max(desired / 2);
        let refusals = [
            (observed.is_held, Why::Held),
            (observed.is_rolling_out, Why::RollingOut),
            (!self.is_known, Why::NoData),
            (!state.has_watched(now), Why::TooSoon),
        ];
        if let Some((_, why)) = refusals.into_iter().find(|(refuses, _)| *refuses) {
            return (desired, why);
        }
        match state.pauses(now, desired) {
            // The last step was decided, and has not reached ECS.
            Some(Some(to)) => (to.max(inward), if to.max(inward) < desired { Why::In } else { Why::Steady }),
            Some(None) => (desired, Why::Pause),
            None => (step, Why::In),
        }
    }
}
