//! Step scaling of Application Auto Scaling on the number of visible messages, see
//! [how step scaling works](https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html).

use super::alarm::Alarm;
use super::{Policy, View};

/// Seconds after a scaling activity in which the next out counts what the last has added, and the next in waits: AWS's
/// default for ECS.
const COOLDOWN: u32 = 300;
/// The same in AWS's examples.
const SHORT_COOLDOWN: u32 = 60;
/// The service for which the thresholds were chosen fits this many messages per slot into its wait: 60 seconds, 4 each.
const USUAL_FITS: f64 = 15.0;

/// A number of messages that weighs as much in this service as `messages` in the one the thresholds were chosen for.
/// Their owner would do the same.
pub(crate) fn threshold(fits: f64, messages: f64) -> f64 {
    (messages * fits / USUAL_FITS).max(1.0)
}

/// Adds a percentage by how far the threshold is exceeded, each minute; takes 10 % away when the queue has been as good
/// as empty for 15 minutes.
#[derive(Debug)]
pub(crate) struct StepScaling {
    /// Visible messages from which a step applies, and the share of tasks that it adds.
    steps: [(f64, f64); 3],
    /// Seconds after a scale-out.
    cooldown: u32,
    /// When the last scale-out was, and how many tasks it has added so far.
    out: Option<(u32, u32)>,
    scaled_in: Option<u32>,
}

impl StepScaling {
    /// 20, 50 and 100 % at 100, 500 and 2,000 messages.
    pub(crate) fn usual(fits: f64) -> Self {
        Self::new(fits, [(100.0, 0.2), (500.0, 0.5), (2000.0, 1.0)], COOLDOWN)
    }

    /// The same with the cooldown of AWS's examples.
    pub(crate) fn eager(fits: f64) -> Self {
        Self { cooldown: SHORT_COOLDOWN, ..Self::usual(fits) }
    }

    /// The setting with the fewest violations of the wait: a quarter of the thresholds, twice the steps, and
    /// the short cooldown.
    pub(crate) fn tuned(fits: f64) -> Self {
        Self::new(fits, [(25.0, 0.4), (125.0, 1.0), (500.0, 2.0)], SHORT_COOLDOWN)
    }

    fn new(fits: f64, steps: [(f64, f64); 3], cooldown: u32) -> Self {
        let steps = steps.map(|(messages, share)| (threshold(fits, messages), share));
        Self { steps, cooldown, out: None, scaled_in: None }
    }

    fn scale_out(&mut self, view: &View<'_>, visible: f64) -> Option<u32> {
        let (_, share) = self.steps.iter().rev().find(|(messages, _)| visible >= *messages)?;
        // What was added within the cooldown is part of what this step asks for.
        let (since, added) = self.out.filter(|(at, _)| view.now < at + self.cooldown).unwrap_or((view.now, 0));
        let before = view.desired.saturating_sub(added);
        let wanted = (f64::from(before) * share).ceil().max(1.0) as u32;
        if wanted <= added {
            return None;
        }
        self.out = Some((if added == 0 { view.now } else { since }, wanted));
        Some(before + wanted)
    }
}

impl Policy for StepScaling {
    fn act(&mut self, view: &View<'_>) -> Option<u32> {
        // Auto Scaling alone is invoked again each minute while its alarm stays on.
        let point = view.sensors.new_point()?;
        let (first, _) = self.steps.first().copied()?;
        if point.visible >= first {
            return self.scale_out(view, point.visible);
        }
        let is_low = Alarm { minutes: 15 }.is_on(view.sensors.points(), |point| point.visible < first / 10.0);
        if !is_low || self.scaled_in.is_some_and(|at| view.now < at + COOLDOWN) {
            return None;
        }
        self.scaled_in = Some(view.now);
        Some(view.desired.saturating_sub((f64::from(view.desired) * 0.1).ceil() as u32))
    }
}
