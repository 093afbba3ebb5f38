//! Target tracking of Application Auto Scaling on the backlog per task, as AWS describes it in
//! [scaling based on Amazon SQS](https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-using-sqs-queue.html):
//! acceptable latency over seconds per message.

use super::super::sensors::Point;
use super::alarm::Alarm;
use super::{Policy, View};

/// Seconds, the default for ECS in both directions.
const COOLDOWN: u32 = 300;
/// The alarm for scale-in is below the target by that.
const LOW: f64 = 0.9;
/// Share of the tasks that goes in one scale-in. AWS says "gradually", and no number.
const GRADUAL: f64 = 0.1;

/// Keeps visible messages per running task at a target: out in proportion when three minutes in a row were above it, in
/// gradually when fifteen were below.
#[derive(Debug)]
pub(crate) struct TargetTracking {
    target: f64,
    out_at: Option<u32>,
    in_at: Option<u32>,
    /// What the last scale-out went to.
    reached: u32,
}

impl TargetTracking {
    /// `target`: visible messages per task.
    pub(crate) fn new(target: f64) -> Self {
        Self { target, out_at: None, in_at: None, reached: 0 }
    }
}

fn per_task(point: &Point) -> f64 {
    point.visible / point.running.max(1.0)
}

impl Policy for TargetTracking {
    fn act(&mut self, view: &View<'_>) -> Option<u32> {
        let point = view.sensors.new_point()?;
        let points = view.sensors.points();
        let is_recent = |at: Option<u32>| at.is_some_and(|at| view.now < at + COOLDOWN);
        if (Alarm { minutes: 3 }).is_on(points, |point| per_task(point) > self.target) {
            let wanted = (point.running.max(1.0) * per_task(&point) / self.target).ceil() as u32;
            // Within the cooldown only a larger scale-out than the last goes through.
            let beats = if is_recent(self.out_at) { self.reached } else { 0 };
            if wanted > view.desired.max(beats) {
                (self.out_at, self.reached) = (Some(view.now), wanted);
                return Some(wanted);
            }
            return None;
        }
        let is_low = (Alarm { minutes: 15 }).is_on(points, |point| per_task(point) < self.target * LOW);
        if !is_low || is_recent(self.out_at) || is_recent(self.in_at) {
            return None;
        }
        self.in_at = Some(view.now);
        Some(view.desired.saturating_sub((f64::from(view.desired) * GRADUAL).ceil() as u32))
    }
}
