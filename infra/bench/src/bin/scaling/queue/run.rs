//! One policy in one scene with one seed, and what came of it.

use super::engine::{Engine, Tally};
use super::policy::{Name, View, oracle};
use super::scene::{SECOND, Scene, Work};
use super::sensors::Sensors;

/// A change of direction within that many seconds is a flap.
const FLAP_SECONDS: u32 = 600;
/// Points of a plot, about.
const PLOTTED: usize = 720;

/// What came of a policy: of one run, or the mean of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Seconds from arrival to the start of the attempt that succeeded.
    pub mean_wait: f64,
    /// The same, of the message that waited longer than 99 % of them.
    pub p99_wait: f64,
    /// Most messages that waited at the same time.
    pub max_backlog: f64,
    /// Minutes in which the oldest message had waited for longer than was wanted.
    pub violation_minutes: f64,
    /// Messages that waited for longer than was wanted, in percent.
    pub late_percent: f64,
    /// Hours of tasks, from launch to end.
    pub task_hours: f64,
    /// Hours of tasks that the messages themselves take.
    pub work_hours: f64,
    /// Changes of the desired count.
    pub actions: f64,
    /// Changes of direction within ten minutes.
    pub flaps: f64,
    /// Messages that were worked on when their task was killed.
    pub killed: f64,
    /// Messages in the dead-letter queue.
    pub dead: f64,
}

impl Outcome {
    /// Task-hours over those that the messages take.
    pub(crate) fn over_work(&self) -> f64 {
        self.task_hours / self.work_hours.max(1e-9)
    }

    fn fields(&mut self) -> [&mut f64; 11] {
        [
            &mut self.mean_wait,
            &mut self.p99_wait,
            &mut self.max_backlog,
            &mut self.violation_minutes,
            &mut self.late_percent,
            &mut self.task_hours,
            &mut self.work_hours,
            &mut self.actions,
            &mut self.flaps,
            &mut self.killed,
            &mut self.dead,
        ]
    }

    /// The sum of several.
    pub(crate) fn sum(outcomes: &[Self]) -> Self {
        let mut sum = Self::default();
        for outcome in outcomes {
            let mut outcome = *outcome;
            for (to, from) in sum.fields().into_iter().zip(outcome.fields()) {
                *to += *from;
            }
        }
        sum
    }

    /// The mean of several.
    pub(crate) fn mean(outcomes: &[Self]) -> Self {
        let mut mean = Self::sum(outcomes);
        for value in mean.fields() {
            *value /= outcomes.len().max(1) as f64;
        }
        mean
    }

    /// Several traces as one: waits and shares are means over the traces, the largest backlog is a mean too; minutes,
    /// hours and counts are sums.
    pub(crate) fn over_traces(outcomes: &[Self]) -> Self {
        let mean = Self::mean(outcomes);
        Self {
            mean_wait: mean.mean_wait,
            p99_wait: mean.p99_wait,
            max_backlog: mean.max_backlog,
            late_percent: mean.late_percent,
            ..Self::sum(outcomes)
        }
    }
}

/// A moment of a run, for plots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Seconds since the beginning.
    pub at: f64,
    /// Messages that wait: the most since the last sample.
    pub backlog: f64,
    /// How long the oldest has waited, in seconds: the most since the last sample.
    pub oldest: f64,
    /// Tasks that ECS is to run.
    pub desired: f64,
    /// Tasks that run.
    pub running: f64,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// How it went.
    pub samples: Vec<Sample>,
}

/// What is watched during a run.
struct Watch<'a> {
    scene: &'a Scene,
    every: usize,
    worst: (f64, f64),
    max_backlog: f64,
    late_seconds: u32,
    samples: Vec<Sample>,
    actions: u32,
    flaps: u32,
    /// When the last change was, and whether it was up.
    last: Option<(u32, bool)>,
}

impl Watch<'_> {
    fn see(&mut self, second: usize, engine: &Engine<'_>) {
        let (backlog, oldest) = (engine.visible() as f64, engine.oldest_wait());
        self.worst = (self.worst.0.max(backlog), self.worst.1.max(oldest));
        self.max_backlog = self.max_backlog.max(backlog);
        self.late_seconds += u32::from(oldest > self.scene.target_wait);
        if second.is_multiple_of(self.every) {
            self.samples.push(Sample {
                at: second as f64,
                backlog: self.worst.0,
                oldest: self.worst.1,
                desired: f64::from(engine.desired()),
                running: f64::from(engine.running()),
            });
            self.worst = (0.0, 0.0);
        }
    }

    fn change(&mut self, second: u32, is_up: bool) {
        self.actions += 1;
        let is_flap = self.last.is_some_and(|(at, was_up)| was_up != is_up && second < at + FLAP_SECONDS);
        self.flaps += u32::from(is_flap);
        self.last = Some((second, is_up));
    }
}

/// Runs a policy.
pub(crate) fn run(scene: &Scene, work: &Work, name: Name, seed: u64) -> Run {
    let acts_in = if name == Name::Oracle { oracle::scene(scene) } else { scene.clone() };
    let mut policy = name.policy(scene, seed);
    let mut engine = Engine::new(&acts_in, &work.messages, acts_in.first_tasks(), seed);
    let mut sensors = Sensors::new(scene, seed);
    let mut tally = Tally { waits: vec![None; work.messages.len()], limit: scene.target_wait, ..Tally::default() };
    let mut watch = Watch {
        scene,
        every: (scene.seconds() / PLOTTED).max(1),
        worst: (0.0, 0.0),
        max_backlog: 0.0,
        late_seconds: 0,
        samples: Vec::new(),
        actions: 0,
        flaps: 0,
        last: None,
    };
    for second in 0..scene.seconds() {
        let (time, now) = (second as u64 * SECOND, u32::try_from(second).unwrap_or(u32::MAX));
        engine.advance(time, &mut tally);
        watch.see(second, &engine);
        let wanted = if let Some(policy) = &mut policy {
            sensors.sample(now, &engine);
            policy.act(&View { now, sensors: &sensors, desired: engine.desired(), running: engine.running() })
        } else {
            second.is_multiple_of(60).then(|| oracle::tasks(&engine, time, &acts_in))
        };
        // Bounds are everybody's: Application Auto Scaling and Kubernetes keep them too.
        let desired = wanted.map_or(engine.desired(), |wanted| wanted.clamp(scene.min, scene.max));
        if desired != engine.desired() {
            watch.change(now, desired > engine.desired());
            engine.set_desired(desired, &mut tally);
        } else if scene.is_protected {
            engine.reconcile(&mut tally);
        }
    }
    engine.advance(scene.seconds() as u64 * SECOND, &mut tally);
    engine.close(&mut tally);
    let starts = if name == Name::Oracle { tally.launches * oracle::START_SECONDS } else { 0 };
    let outcome = Outcome {
        task_hours: (tally.task_time as f64 / SECOND as f64 + starts as f64) / 3600.0,
        work_hours: work.task_hours,
        max_backlog: watch.max_backlog,
        violation_minutes: f64::from(watch.late_seconds) / 60.0,
        actions: f64::from(watch.actions),
        flaps: f64::from(watch.flaps),
        killed: tally.killed as f64,
        dead: engine.dead() as f64,
        ..waits(&tally.waits, scene.target_wait)
    };
    Run { outcome, samples: watch.samples }
}

/// What can be said of all waits.
fn waits(waits: &[Option<f32>], target: f64) -> Outcome {
    let mut waits: Vec<f32> = waits.iter().copied().flatten().collect();
    if waits.is_empty() {
        return Outcome::default();
    }
    let count = waits.len() as f64;
    let late = waits.iter().filter(|wait| f64::from(**wait) > target).count() as f64;
    let sum: f64 = waits.iter().copied().map(f64::from).sum();
    // The nearest rank.
    let rank = (waits.len() * 99).div_ceil(100).saturating_sub(1);
    let (_, p99, _) = waits.select_nth_unstable_by(rank, f32::total_cmp);
    Outcome {
        mean_wait: sum / count,
        p99_wait: f64::from(*p99),
        late_percent: 100.0 * late / count,
        ..Outcome::default()
    }
}

#[cfg(test)]
mod tests;
