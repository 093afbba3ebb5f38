//! KEDA's SQS scaler with the Horizontal Pod Autoscaler, see
//! [the scaler](https://keda.sh/docs/latest/scalers/aws-sqs/) and
//! [the autoscaler](https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/).
//! Also a loop that people write themselves on the same numbers.

use std::collections::VecDeque;

use super::super::scene::Scene;
use super::{Policy, View};

/// Seconds between two looks of the Horizontal Pod Autoscaler.
const SYNC: u32 = 15;
/// Seconds between two looks of KEDA (`pollingInterval`), which decides between none and one.
const POLL: u32 = 30;
/// Seconds without messages after which KEDA goes to none (`cooldownPeriod`).
const TO_ZERO: u32 = 300;
/// How far the metric may be from its target without a change.
const TOLERANCE: f64 = 0.1;

/// Messages, waiting and in flight, over a queue length: up by at most four or the double in 15 seconds, down to the
/// most of what was wanted in a window.
#[derive(Debug)]
pub(crate) struct Keda {
    queue_length: f64,
    phase: u32,
    min: u32,
    is_growth_limited: bool,
    /// Seconds.
    window: u32,
    wanted: VecDeque<(u32, u32)>,
    busy_at: u32,
}

impl Keda {
    /// With the defaults of both, but for `queue_length`, messages per task.
    pub(crate) fn new(scene: &Scene, queue_length: f64, phase: u32) -> Self {
        let (min, wanted) = (scene.min, VecDeque::new());
        Self { queue_length, phase, min, is_growth_limited: true, window: 300, wanted, busy_at: 0 }
    }

    /// A loop of one's own: grows at once, and waits ten minutes before it shrinks.
    pub(crate) fn own_loop(scene: &Scene, queue_length: f64, phase: u32) -> Self {
        Self { is_growth_limited: false, window: 600, ..Self::new(scene, queue_length, phase) }
    }

    /// KEDA itself: between none and one.
    fn activate(&mut self, view: &View<'_>, messages: f64) -> Option<u32> {
        if messages > 0.0 {
            self.busy_at = view.now;
            return (view.desired == 0).then_some(1);
        }
        (self.min == 0 && view.desired > 0 && view.now >= self.busy_at + TO_ZERO).then_some(0)
    }

    /// The autoscaler: from one on.
    fn scale(&mut self, view: &View<'_>, messages: f64) -> Option<u32> {
        let current = view.desired;
        let ratio = messages / (self.queue_length * f64::from(current));
        let wanted =
            if (ratio - 1.0).abs() <= TOLERANCE { current } else { (messages / self.queue_length).ceil() as u32 };
        self.wanted.push_back((view.now, wanted));
        while self.wanted.front().is_some_and(|(at, _)| at + self.window < view.now) {
            self.wanted.pop_front();
        }
        if wanted > current {
            let limit = if self.is_growth_limited { (current + 4).max(current * 2) } else { u32::MAX };
            return Some(wanted.min(limit));
        }
        // Where there was none, or it has just begun, the present counts as wanted too.
        let stable = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(current);
        (stable < current && view.now >= self.window).then_some(stable.max(1))
    }
}

impl Policy for Keda {
    fn act(&mut self, view: &View<'_>) -> Option<u32> {
        let since = (view.now + 60 - self.phase) % 60;
        // Without an answer neither does anything.
        let looks = since.is_multiple_of(SYNC).then(|| view.sensors.attributes()).flatten()?;
        let messages = looks.visible + looks.in_flight;
        if since.is_multiple_of(POLL)
            && let Some(desired) = self.activate(view, messages)
        {
            return Some(desired);
        }
        if view.desired == 0 { None } else { self.scale(view, messages) }
    }
}
