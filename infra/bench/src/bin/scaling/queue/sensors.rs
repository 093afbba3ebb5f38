//! What AWS shows of a queue: late, rounded to minutes, a little wrong, and sometimes not at all.

use std::collections::VecDeque;

use fastrand::Rng;

use super::engine::Engine;
use super::scene::{Scene, normal};

/// `GetQueueAttributes` tells how it was that many seconds ago. AWS says "approximate", and no more.
const STALE_SECONDS: usize = 10;
/// Standard deviation of the error of the number of visible messages, as a share of it.
const NOISE: f64 = 0.02;
/// Seconds in a minute of CloudWatch.
const MINUTE: u32 = 60;

/// A queue as `GetQueueAttributes` shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Attributes {
    /// Messages that wait.
    pub visible: f64,
    /// Messages that are worked on, or hidden.
    pub in_flight: f64,
}

/// A minute of CloudWatch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// The second at which it ended.
    pub end: u32,
    /// Messages that came.
    pub sent: f64,
    /// Messages that were done.
    pub deleted: f64,
    /// Messages that waited, at its end.
    pub visible: f64,
    /// Messages in flight, at its end.
    pub in_flight: f64,
    /// How long the oldest had waited, in seconds.
    pub age: f64,
    /// Tasks that ran, at its end (Container Insights).
    pub running: f64,
}

/// Everything that AWS shows, over time.
#[derive(Debug)]
pub(crate) struct Sensors<'a> {
    scene: &'a Scene,
    noise: Rng,
    exact: Attributes,
    /// The newest last.
    attributes: VecDeque<Attributes>,
    points: Vec<Point>,
    sent: u64,
    deleted: u64,
    now: u32,
}

impl<'a> Sensors<'a> {
    /// Nothing seen yet.
    pub(crate) fn new(scene: &'a Scene, seed: u64) -> Self {
        Self {
            scene,
            noise: Rng::with_seed(seed ^ 0x4e4f_4953),
            exact: Attributes::default(),
            attributes: VecDeque::new(),
            points: Vec::new(),
            sent: 0,
            deleted: 0,
            now: 0,
        }
    }

    /// Looks at the queue, once a second.
    pub(crate) fn sample(&mut self, now: u32, engine: &Engine<'_>) {
        self.now = now;
        self.exact = Attributes { visible: engine.visible() as f64, in_flight: engine.in_flight() as f64 };
        let factor = (1.0 + NOISE * normal(&mut self.noise)).max(0.0);
        self.attributes.push_back(Attributes { visible: (self.exact.visible * factor).round(), ..self.exact });
        if self.attributes.len() > STALE_SECONDS + 1 {
            self.attributes.pop_front();
        }
        if now == 0 || !now.is_multiple_of(MINUTE) {
            return;
        }
        if !self.scene.no_metrics.contains(&(now as usize)) {
            self.points.push(Point {
                end: now,
                sent: (engine.sent() - self.sent) as f64,
                deleted: (engine.deleted() - self.deleted) as f64,
                visible: self.exact.visible,
                in_flight: self.exact.in_flight,
                age: engine.oldest_wait(),
                running: f64::from(engine.running()),
            });
        }
        (self.sent, self.deleted) = (engine.sent(), engine.deleted());
    }

    /// What `GetQueueAttributes` answers now; `None` where it fails.
    pub(crate) fn attributes(&self) -> Option<Attributes> {
        let fails = self.scene.no_attributes.contains(&(self.now as usize));
        self.attributes.front().copied().filter(|_| !fails)
    }

    /// How the queue really is.
    pub(crate) fn exact(&self) -> Attributes {
        self.exact
    }

    /// The minutes that CloudWatch tells now, oldest first.
    pub(crate) fn points(&self) -> &[Point] {
        self.points_until(self.now.saturating_sub(self.scene.metric_delay))
    }

    /// The minutes that have ended, told or not.
    pub(crate) fn all_points(&self) -> &[Point] {
        &self.points
    }

    fn points_until(&self, end: u32) -> &[Point] {
        self.points.get(..self.points.partition_point(|point| point.end <= end)).unwrap_or_default()
    }

    /// The minute that CloudWatch has begun to tell this second, if it is one.
    pub(crate) fn new_point(&self) -> Option<Point> {
        self.points().last().copied().filter(|point| point.end + self.scene.metric_delay == self.now)
    }
}

#[cfg(test)]
impl Sensors<'_> {
    /// Lets CloudWatch tell a minute.
    pub(crate) fn tell(&mut self, point: Point) {
        self.now = point.end + self.scene.metric_delay;
        self.points.push(point);
    }

    /// Lets SQS show so many visible messages.
    pub(crate) fn show(&mut self, visible: f64) {
        self.attributes = VecDeque::from([Attributes { visible, in_flight: 0.0 }]);
    }
}
