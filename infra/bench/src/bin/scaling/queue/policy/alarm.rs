//! A function that a CloudWatch alarm invokes, and that adds a task: what people write first.
//!
//! An alarm invokes a function when its state changes, not while it stays, see
//! [invoke a Lambda function from an alarm](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html).

use super::super::sensors::Point;
use super::{Policy, View};

/// An alarm that needs some minutes in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alarm {
    /// Minutes that have to breach.
    pub minutes: usize,
}

impl Alarm {
    /// Whether the newest minutes all breach, with none missing between them.
    pub(crate) fn is_on(self, points: &[Point], breaches: impl Fn(&Point) -> bool) -> bool {
        let newest = points.get(points.len().saturating_sub(self.minutes)..).unwrap_or_default();
        let is_complete = newest.len() == self.minutes
            && newest.windows(2).all(|pair| matches!(pair, [one, next] if next.end == one.end + 60));
        is_complete && newest.iter().all(breaches)
    }
}

/// The function behind two alarms on the number of visible messages: many in one minute, and few for five.
#[derive(Debug)]
pub(crate) struct AlarmFunction {
    threshold: f64,
    /// Whether the function is invoked each minute in which the alarm stays on.
    is_level: bool,
    was_high: bool,
    was_low: bool,
}

impl AlarmFunction {
    /// `fits`: messages per slot that are worked off within the wanted wait.
    pub(crate) fn new(fits: f64, is_level: bool) -> Self {
        Self { threshold: super::step::threshold(fits, 100.0), is_level, was_high: false, was_low: false }
    }
}

impl Policy for AlarmFunction {
    fn act(&mut self, view: &View<'_>) -> Option<u32> {
        view.sensors.new_point()?;
        let points = view.sensors.points();
        let is_high = Alarm { minutes: 1 }.is_on(points, |point| point.visible >= self.threshold);
        let is_low = Alarm { minutes: 5 }.is_on(points, |point| point.visible < self.threshold / 10.0);
        let adds = is_high && (self.is_level || !self.was_high);
        let takes = is_low && (self.is_level || !self.was_low);
        (self.was_high, self.was_low) = (is_high, is_low);
        match (adds, takes) {
            (true, _) => Some(view.desired + 1),
            (false, true) => Some(view.desired.saturating_sub(1)),
            (false, false) => None,
        }
    }
}
