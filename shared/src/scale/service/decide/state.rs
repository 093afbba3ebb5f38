//! What is remembered from one look at a service to the next.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Goal, IN_PAUSE, RATE_WINDOW};

/// A longer time without a look is a gap: what was seen before it says nothing of now.
const GAP: TimeDelta = TimeDelta::seconds(150);
/// For how long looks are kept: CloudWatch's minutes come late, and are learnt from together with them.
const SAMPLES_KEPT: TimeDelta = TimeDelta::minutes(5);
/// Most looks that are kept.
const SAMPLES_MAX: usize = 64;
/// How long a task takes to start, in seconds, until it is known better.
const START_TIME: f64 = 60.0;
const START_TIMES: (f64, f64) = (10.0, 300.0);
/// How much a new measurement counts.
const START_WEIGHT: f64 = 0.3;
/// What takes longer tells nothing of how long a start takes.
const LAUNCH_MAX: TimeDelta = TimeDelta::minutes(10);
/// The learnt service time stays within these multiples of what the owner says.
const SERVICE_TIMES: (f64, f64) = (0.25, 4.0);
/// With so few of its slots in use while messages wait, a FIFO queue has no more groups to work on.
const GROUPS_USED: f64 = 0.8;
/// Room beside the groups that are worked on, so that one more shows itself.
const GROUPS_ROOM: f64 = 1.3;
/// How many times the tasks are as many, where nothing says that they would stand idle.
const GROUPS_STEP: f64 = 2.0;
/// For how long slots have to stand idle.
const GROUPS_TIME: TimeDelta = TimeDelta::seconds(45);

/// What is remembered from one look to the next. Losing it is safe: then nothing is scaled in for a while.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// When the last look was.
    pub(super) seen_at: Option<DateTime<Utc>>,
    /// Since when there is no gap between looks.
    pub(super) since: Option<DateTime<Utc>>,
    /// The latest looks, oldest first.
    pub(super) samples: Vec<Sample>,
    /// Tasks that the rate has needed.
    pub(super) bases: Vec<Peak>,
    /// Tasks that the backlog has needed.
    pub(super) drains: Vec<Peak>,
    /// Since when the queue has been empty.
    pub(super) empty_since: Option<DateTime<Utc>>,
    /// Messages a second, as last known.
    pub(super) arrivals: Option<f64>,
    /// How long a task works on a message, in seconds.
    pub(super) learnt: Option<f64>,
    /// The end of the newest minute that was learnt from.
    pub(super) learnt_until: Option<DateTime<Utc>>,
    /// Minutes in a row in which tasks with enough to do got little done.
    pub(super) slow_minutes: u32,
    /// How long a task takes to start, in seconds.
    pub(super) start: Option<f64>,
    /// Tasks that were asked for and are waited for.
    pub(super) launch: Option<Launch>,
    /// How many messages of a FIFO queue can be worked on at once, as far as that was seen.
    pub(super) groups: Option<f64>,
    /// What the last look has decided.
    pub(super) left: Option<Change>,
    /// The last change.
    pub(super) last: Option<Change>,
    /// When the last step in was.
    pub(super) last_in: Option<DateTime<Utc>>,
    /// When somebody else was last seen to have changed the desired count.
    pub(super) overridden_at: Option<DateTime<Utc>>,
}

/// A look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) at: DateTime<Utc>,
    pub(super) visible: f64,
    pub(super) in_flight: f64,
    pub(super) running: u32,
}

/// The highest need since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Peak {
    pub(super) at: DateTime<Utc>,
    pub(super) tasks: f64,
}

/// Tasks that are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Launch {
    at: DateTime<Utc>,
    /// When this many run, half of the new ones do.
    half: u32,
}

/// A change of the desired count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) at: DateTime<Utc>,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// A window whose highest value is wanted.
pub(super) trait Window {
    /// Notes a value, and forgets those that are older than `length`, or neither newer nor higher.
    fn note(&mut self, now: DateTime<Utc>, tasks: f64, length: TimeDelta);
}

impl Window for Vec<Peak> {
    fn note(&mut self, now: DateTime<Utc>, tasks: f64, length: TimeDelta) {
        self.retain(|peak| now - peak.at < length && peak.tasks > tasks);
        self.push(Peak { at: now, tasks });
    }
}

/// The highest value of a window.
pub(super) fn highest(window: &[Peak]) -> f64 {
    window.iter().map(|peak| peak.tasks).fold(0.0, f64::max)
}

impl State {
    /// The state at a look `now`: after a gap, what was seen before it is forgotten, and what was learnt stays.
    pub(super) fn at(&self, now: DateTime<Utc>) -> Self {
        let mut state = self.clone();
        if self.seen_at.is_none_or(|seen| (now - seen).abs() > GAP) {
            state.since = Some(now);
            state.empty_since = None;
            state.launch = None;
            for forgotten in [&mut state.bases, &mut state.drains] {
                forgotten.clear();
            }
            state.samples.clear();
            state.slow_minutes = 0;
        }
        state.seen_at = Some(self.seen_at.map_or(now, |seen| seen.max(now)));
        state
    }

    /// Whether messages have come when it was last known.
    pub(in crate::scale::service) fn has_arrivals(&self) -> bool {
        self.arrivals.is_some_and(|arrivals| arrivals > 0.0)
    }

    /// Whether it has been looked at for as long as a scale-in needs.
    pub(super) fn has_watched(&self, now: DateTime<Utc>) -> bool {
        self.since.is_some_and(|since| now - since >= RATE_WINDOW)
    }

    pub(super) fn note(&mut self, sample: Sample) {
        self.samples.retain(|known| known.at < sample.at && sample.at - known.at <= SAMPLES_KEPT);
        self.samples.push(sample);
        let surplus = self.samples.len().saturating_sub(SAMPLES_MAX);
        self.samples.drain(..surplus);
    }

    /// How long a task works on a message, in seconds.
    pub(super) fn service_time(&self, goal: &Goal) -> f64 {
        let learnt = self.learnt.filter(|learnt| learnt.is_finite()).unwrap_or(goal.service_time);
        learnt.clamp(SERVICE_TIMES.0 * goal.service_time, SERVICE_TIMES.1 * goal.service_time)
    }

    /// How long a task takes to start, in seconds.
    pub(super) fn start_time(&self) -> f64 {
        let known = self.start.filter(|start| start.is_finite());
        known.map_or(START_TIME, |start| start.clamp(START_TIMES.0, START_TIMES.1))
    }

    /// Notes that tasks were asked for.
    fn launches(&mut self, now: DateTime<Utc>, from: u32, to: u32) {
        if self.launch.is_none() {
            self.launch = Some(Launch { at: now, half: from + (to - from).div_ceil(2) });
        }
    }

    /// Learns how long tasks take to start.
    pub(super) fn started(&mut self, now: DateTime<Utc>, running: u32) {
        let Some(launch) = self.launch else { return };
        let took = now - launch.at;
        if took > LAUNCH_MAX || took < TimeDelta::zero() {
            self.launch = None;
        } else if running >= launch.half && took > TimeDelta::zero() {
            let before = self.start_time();
            let took = f64::from(i32::try_from(took.num_seconds()).unwrap_or(i32::MAX));
            self.start = Some((before + START_WEIGHT * (took - before)).clamp(START_TIMES.0, START_TIMES.1));
            self.launch = None;
        }
    }

    /// Notes whether somebody else has changed the desired count since the last look.
    pub(super) fn overridden(&mut self, now: DateTime<Utc>, desired: u32) {
        let is_ours = |last: Change| [last.from, last.to].contains(&desired);
        if self.left.is_some_and(|left| !is_ours(left)) {
            self.overridden_at = Some(now);
            self.last = None;
        }
    }

    /// Notes what was decided.
    pub(super) fn decided(&mut self, now: DateTime<Utc>, from: u32, to: u32) {
        let change = Change { at: now, from, to };
        self.left = Some(change);
        if to > from {
            self.launches(now, from, to);
        } else if to < from && self.last.is_none_or(|last| last.to != to || now - last.at >= IN_PAUSE) {
            self.last_in = Some(now);
        }
        if to != from {
            self.last = Some(change);
        }
    }

    /// Whether a step in has to wait: for the last one, or because somebody else has just changed the desired count.
    /// Where our last step in has not reached ECS, it holds what that was.
    pub(super) fn pauses(&self, now: DateTime<Utc>, desired: u32) -> Option<Option<u32>> {
        if self.overridden_at.is_some_and(|at| now - at < RATE_WINDOW) {
            return Some(None);
        }
        let recent = self.last_in.filter(|at| now - *at < IN_PAUSE)?;
        let undone = self.last.filter(|last| last.at >= recent && last.to < last.from && last.from == desired);
        Some(undone.map(|last| last.to))
    }

    /// The most tasks that have something to do, where messages of one group wait for each other: while messages wait
    /// and slots stand idle, more tasks would too. How many groups there are SQS does not tell, so beyond what has been
    /// seen the tasks are doubled, while all of them are at work.
    pub(super) fn useful_tasks(&mut self, goal: &Goal, is_fifo: bool, now: DateTime<Utc>) -> Useful {
        let Some(newest) = self.samples.last().copied().filter(|_| is_fifo) else { return Useful::default() };
        let is_idle = |sample: &Sample| sample.in_flight < GROUPS_USED * f64::from(sample.running) * goal.concurrency;
        // Whether messages wait now is not asked, so that more of them can't mean fewer tasks.
        let earlier = self.samples.iter().rev().skip(1).take_while(|sample| sample.visible > 0.0 && is_idle(sample));
        let first = earlier.last();
        let is_limited = is_idle(&newest) && first.is_some_and(|first| now - first.at >= GROUPS_TIME);
        let used = self.samples.iter().map(|sample| sample.in_flight).fold(0.0, f64::max);
        let known = self.groups.filter(|groups| groups.is_finite() && !is_limited).unwrap_or_default();
        let groups = known.max(used);
        self.groups = Some(groups);
        let seen = GROUPS_ROOM * groups / goal.concurrency;
        let beyond = if is_idle(&newest) { 0.0 } else { GROUPS_STEP * f64::from(newest.running) };
        Useful { out: seen.max(beyond) + 1.0, inward: if is_limited { seen + 1.0 } else { f64::INFINITY } }
    }
}

/// The most tasks that have something to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Useful {
    pub(super) out: f64,
    pub(super) inward: f64,
}

impl Default for Useful {
    fn default() -> Self {
        Self { out: f64::INFINITY, inward: f64::INFINITY }
    }
}
