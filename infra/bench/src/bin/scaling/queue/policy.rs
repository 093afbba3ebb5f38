//! The policies: ours, and what people use otherwise. Each looks when it would look, at what AWS would show it.

use super::scene::Scene;
use super::sensors::Sensors;

mod alarm;
mod keda;
pub(crate) mod oracle;
mod ours;
mod step;
mod tracking;

/// What a policy sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// Seconds since the beginning.
    pub now: u32,
    /// The queue, and CloudWatch.
    pub sensors: &'a Sensors<'a>,
    /// Tasks that ECS is to run.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
}

/// A policy at work on one service.
pub(crate) trait Policy {
    /// Called each second: how many tasks there should be, where the policy looks at this second and wants a change.
    fn act(&mut self, view: &View<'_>) -> Option<u32>;
}

/// The policies that are compared, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    /// The least that would have been enough, known afterwards.
    Oracle,
    /// Ours, if AWS showed everything at once, each second.
    Perfect,
    /// Ours, as it is shipped.
    Ours,
    /// Ours without the ticks between the minutes.
    OursMinute,
    /// Ours where SQS can't be asked.
    OursMetrics,
    /// A function that adds a task when an alarm changes to ALARM, and takes one away when another does.
    AlarmEdge,
    /// The same, invoked again each minute.
    AlarmLevel,
    /// Step scaling on the number of visible messages.
    Step,
    /// Step scaling with a short cooldown.
    StepEager,
    /// Step scaling, tuned.
    StepTuned,
    /// Target tracking on the backlog per task, as AWS describes it.
    Tracking,
    /// Target tracking, tuned.
    TrackingTuned,
    /// KEDA and the Horizontal Pod Autoscaler, with their defaults.
    Keda,
    /// The same, tuned.
    KedaTuned,
    /// The same with the queue length that the wanted wait allows.
    KedaWait,
    /// A loop of one's own: live backlog over two, every 15 seconds.
    Backlog,
}

impl Name {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Oracle,
        Self::Perfect,
        Self::Ours,
        Self::OursMinute,
        Self::OursMetrics,
        Self::AlarmEdge,
        Self::AlarmLevel,
        Self::Step,
        Self::StepEager,
        Self::StepTuned,
        Self::Tracking,
        Self::TrackingTuned,
        Self::Keda,
        Self::KedaTuned,
        Self::KedaWait,
        Self::Backlog,
    ];

    /// What people call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Oracle => "oracle (bound)",
            Self::Perfect => "Tidegate, perfect metrics",
            Self::Ours => "**Tidegate**",
            Self::OursMinute => "Tidegate, every minute",
            Self::OursMetrics => "Tidegate, CloudWatch only",
            Self::AlarmEdge => "alarm, +1 on ALARM",
            Self::AlarmLevel => "alarm, +1 each minute",
            Self::Step => "step scaling",
            Self::StepEager => "step scaling, short cooldown",
            Self::StepTuned => "step scaling, tuned",
            Self::Tracking => "target tracking",
            Self::TrackingTuned => "target tracking, tuned",
            Self::Keda => "KEDA + HPA",
            Self::KedaTuned => "KEDA + HPA, tuned",
            Self::KedaWait => "KEDA + HPA, length for wait",
            Self::Backlog => "own loop, backlog / 2",
        }
    }

    /// Whether it is somebody else's.
    pub(crate) fn is_rival(self) -> bool {
        !matches!(self, Self::Oracle | Self::Perfect | Self::Ours | Self::OursMinute | Self::OursMetrics)
    }

    /// Whether the goals ask to be ahead of it: of what AWS and Kubernetes have, not of what people write themselves.
    pub(crate) fn is_reference(self) -> bool {
        self.is_rival() && !matches!(self, Self::AlarmEdge | Self::AlarmLevel | Self::Backlog)
    }

    /// The policy itself; the oracle is none.
    pub(crate) fn policy(self, scene: &Scene, seed: u64) -> Option<Box<dyn Policy>> {
        // Nobody's minute begins when CloudWatch's does.
        let phase = (seed.wrapping_mul(37) % 60) as u32;
        // Messages per slot that are worked off within the wanted wait.
        let fits = (scene.target_wait / scene.told_service_time).max(1.0);
        let slots = f64::from(scene.concurrency.max(1));
        Some(match self {
            Self::Oracle => return None,
            Self::Perfect => Box::new(ours::Ours::perfect(scene)),
            Self::Ours => Box::new(ours::Ours::shipped(scene, phase)),
            Self::OursMinute => Box::new(ours::Ours::every_minute(scene, phase)),
            Self::OursMetrics => Box::new(ours::Ours::without_attributes(scene, phase)),
            Self::AlarmEdge => Box::new(alarm::AlarmFunction::new(fits, false)),
            Self::AlarmLevel => Box::new(alarm::AlarmFunction::new(fits, true)),
            Self::Step => Box::new(step::StepScaling::usual(fits)),
            Self::StepEager => Box::new(step::StepScaling::eager(fits)),
            Self::StepTuned => Box::new(step::StepScaling::tuned(fits)),
            Self::Tracking => Box::new(tracking::TargetTracking::new(fits * slots)),
            Self::TrackingTuned => Box::new(tracking::TargetTracking::new((fits * 2.0 / 15.0).max(1.0) * slots)),
            Self::Keda => Box::new(keda::Keda::new(scene, 5.0, phase)),
            Self::KedaTuned => Box::new(keda::Keda::new(scene, (fits / 5.0).max(1.0) * slots, phase)),
            Self::KedaWait => Box::new(keda::Keda::new(scene, fits * slots, phase)),
            Self::Backlog => Box::new(keda::Keda::own_loop(scene, (fits * 2.0 / 15.0).max(1.0) * slots, phase)),
        })
    }
}

#[cfg(test)]
mod tests;
