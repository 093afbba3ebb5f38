//! Tidegate's own policy: the function that is shipped, fed with what it would be fed with.

use chrono::{DateTime, TimeDelta, Utc};
use shared::scale::service::decide::{Goal, Minute, Observed, Queue, State, decide};

use super::super::scene::Scene;
use super::super::sensors::{Attributes, Point};
use super::{Policy, View};

/// Seconds between two looks where there is work: the ticks between the heartbeats of each minute.
const TICK: u32 = 15;
/// Minutes of CloudWatch that are fetched.
const FETCHED: usize = 20;

/// How it is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drive {
    /// Each minute, and every 15 seconds while there is work.
    Ticks,
    /// Each minute.
    Minutes,
    /// Each minute, without the queue's attributes.
    MetricsOnly,
    /// Each second, with everything known at once.
    Perfect,
}

/// Tidegate at work.
pub(crate) struct Ours {
    goal: Goal,
    is_fifo: bool,
    drive: Drive,
    phase: u32,
    state: State,
    minutes: Vec<Minute>,
    /// Whether this minute's heartbeat has sent ticks.
    ticks: bool,
}

impl Ours {
    /// As it is shipped.
    pub(crate) fn shipped(scene: &Scene, phase: u32) -> Self {
        Self::new(scene, Drive::Ticks, phase)
    }

    /// Without ticks.
    pub(crate) fn every_minute(scene: &Scene, phase: u32) -> Self {
        Self::new(scene, Drive::Minutes, phase)
    }

    /// Where SQS can't be asked.
    pub(crate) fn without_attributes(scene: &Scene, phase: u32) -> Self {
        Self::new(scene, Drive::MetricsOnly, phase)
    }

    /// As if AWS told everything at once.
    pub(crate) fn perfect(scene: &Scene) -> Self {
        Self::new(scene, Drive::Perfect, 0)
    }

    fn new(scene: &Scene, drive: Drive, phase: u32) -> Self {
        let goal = Goal {
            min: scene.min,
            max: scene.max,
            target_wait: scene.target_wait,
            service_time: scene.told_service_time,
            concurrency: f64::from(scene.concurrency),
            is_protected: scene.is_protected,
        };
        let is_fifo = scene.groups.is_some();
        Self { goal, is_fifo, drive, phase, state: State::default(), minutes: Vec::new(), ticks: false }
    }

    /// Whether it looks at this second; a heartbeat fetches CloudWatch's minutes too.
    fn looks(&mut self, view: &View<'_>) -> bool {
        let since = (view.now + 60 - self.phase) % 60;
        match self.drive {
            Drive::Perfect => self.minutes = minutes(view.sensors.all_points()),
            _ if since == 0 => self.minutes = minutes(view.sensors.points()),
            Drive::Ticks => return self.ticks && since.is_multiple_of(TICK),
            Drive::Minutes | Drive::MetricsOnly => return false,
        }
        true
    }

    fn attributes(&self, view: &View<'_>) -> Option<Attributes> {
        match self.drive {
            Drive::Perfect => Some(view.sensors.exact()),
            Drive::MetricsOnly => None,
            Drive::Ticks | Drive::Minutes => view.sensors.attributes(),
        }
    }
}

impl Policy for Ours {
    fn act(&mut self, view: &View<'_>) -> Option<u32> {
        if !self.looks(view) {
            return None;
        }
        let attributes = self.attributes(view);
        let queue = attributes.map(|attributes| Queue {
            visible: attributes.visible,
            in_flight: attributes.in_flight,
            delayed: 0.0,
            is_fifo: self.is_fifo,
        });
        let observed = Observed {
            now: at(view.now),
            goal: &self.goal,
            desired: view.desired,
            running: view.running,
            is_rolling_out: false,
            is_held: false,
            queue,
            minutes: &self.minutes,
        };
        let plan = decide(&observed, &self.state);
        self.ticks = plan.is_busy;
        self.state = plan.state;
        (plan.desired != view.desired).then_some(plan.desired)
    }
}

fn minutes(points: &[Point]) -> Vec<Minute> {
    let newest = points.get(points.len().saturating_sub(FETCHED)..).unwrap_or_default();
    newest.iter().map(minute).collect()
}

fn minute(point: &Point) -> Minute {
    Minute {
        end: at(point.end),
        sent: Some(point.sent),
        deleted: Some(point.deleted),
        visible: Some(point.visible),
        in_flight: Some(point.in_flight),
        age: Some(point.age),
    }
}

/// A second of the simulation as a time: it begins at a full minute, as CloudWatch's minutes do.
fn at(second: u32) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(i64::from(second))
}
