//! What happens in a simulation, whatever policy is at work: messages that come, how long each takes, how AWS behaves.

use std::ops::Range;

use fastrand::Rng;

/// Microseconds in a second: the unit of the simulation's clock.
pub(crate) const SECOND: u64 = 1_000_000;

/// Which table a scene belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The six traces that the goals are about.
    Core,
    /// What a queue can do to a policy besides being long.
    Special,
    /// Traces that no policy was tuned on.
    Other,
    /// A trace from a file.
    File,
}

/// How many messages come in each second.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Load {
    /// A rate: the number is drawn, Poisson-distributed.
    Rates(Vec<f64>),
    /// Exactly as many, the same for each seed.
    Counts(Vec<u32>),
}

/// One trace with everything around it.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Its name.
    pub name: String,
    /// What happens, for people.
    pub about: String,
    /// Its table.
    pub kind: Kind,
    /// The messages that come, second by second.
    pub load: Load,
    /// Messages that come all at once: when, and how many.
    pub bulks: Vec<(usize, u32)>,
    /// Seconds a message takes, on average.
    pub service_time: f64,
    /// Coefficient of variation of the service time: 0 always the same, 1 exponential, anything else lognormal.
    pub cv: f64,
    /// When messages take longer, and how many times as long.
    pub slow: Option<(Range<usize>, f64)>,
    /// When some messages fail whenever they are tried, and what share of them.
    pub poison: Option<(Range<usize>, f64)>,
    /// What the policies are told the service time is.
    pub told_service_time: f64,
    /// What the owner wants: seconds a message may wait.
    pub target_wait: f64,
    /// Fewest tasks.
    pub min: u32,
    /// Most tasks.
    pub max: u32,
    /// Messages a task works on at once.
    pub concurrency: u32,
    /// Whether the tasks protect themselves while they work.
    pub is_protected: bool,
    /// Seconds from the launch of a task to its first message, at least and at most.
    pub start: (f64, f64),
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_timeout: u64,
    /// Seconds for which a received message is hidden. Who still works on it extends that.
    pub visibility: u64,
    /// Receives after which a message goes to the dead-letter queue.
    pub max_receives: u8,
    /// Message groups of a FIFO queue.
    pub groups: Option<u32>,
    /// Messages a second that something behind the tasks can take.
    pub downstream: Option<f64>,
    /// When CloudWatch has no metrics.
    pub no_metrics: Range<usize>,
    /// When SQS can't be asked.
    pub no_attributes: Range<usize>,
    /// Seconds from the end of a minute until CloudWatch tells it.
    pub metric_delay: u32,
}

impl Scene {
    /// A scene in which nothing special happens: four seconds a message, a minute's wait, 1 to 200 tasks of one slot
    /// that start in 30 to 90 seconds.
    pub(crate) fn new(name: &str, kind: Kind, about: &str, load: Load) -> Self {
        Self {
            name: name.to_owned(),
            about: about.to_owned(),
            kind,
            load,
            bulks: Vec::new(),
            service_time: 4.0,
            cv: 1.0,
            slow: None,
            poison: None,
            told_service_time: 4.0,
            target_wait: 60.0,
            min: 1,
            max: 200,
            concurrency: 1,
            is_protected: false,
            start: (30.0, 90.0),
            stop_timeout: 30,
            visibility: 120,
            max_receives: 3,
            groups: None,
            downstream: None,
            no_metrics: 0..0,
            no_attributes: 0..0,
            metric_delay: 60,
        }
    }

    /// The same with another service time, which the policies are told.
    pub(crate) fn taking(mut self, seconds: f64) -> Self {
        (self.service_time, self.told_service_time) = (seconds, seconds);
        self
    }

    /// The same with tasks that protect themselves while they work.
    pub(crate) fn protected(mut self) -> Self {
        self.is_protected = true;
        self
    }

    /// How long it is, in seconds.
    pub(crate) fn seconds(&self) -> usize {
        match &self.load {
            Load::Rates(rates) => rates.len(),
            Load::Counts(counts) => counts.len(),
        }
    }

    /// The tasks that run when it begins: enough for the first minute, at 80 % of their time.
    pub(crate) fn first_tasks(&self) -> u32 {
        let sum: f64 = match &self.load {
            Load::Rates(rates) => rates.iter().take(60).sum(),
            Load::Counts(counts) => counts.iter().take(60).map(|count| f64::from(*count)).sum(),
        };
        let rate = sum / 60_usize.min(self.seconds()).max(1) as f64;
        let tasks = (rate * self.service_time / f64::from(self.concurrency.max(1)) / 0.8).ceil() as u32;
        tasks.clamp(self.min, self.max)
    }
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// When it comes, in microseconds.
    pub at: u64,
    /// How long it takes, in microseconds.
    pub service: u64,
    /// Whether it always fails.
    pub is_poison: bool,
    /// Its group, in a FIFO queue.
    pub group: u32,
}

/// All messages of a scene with one seed: the same for every policy.
#[derive(Debug)]
pub(crate) struct Work {
    /// The messages, in the order in which they come.
    pub messages: Vec<Message>,
    /// Task-hours that they take, with no second idle: failed attempts are work too.
    pub task_hours: f64,
}

impl Work {
    /// Draws the messages.
    pub(crate) fn draw(scene: &Scene, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x7469_6465);
        let mut messages = Vec::new();
        for second in 0..scene.seconds() {
            let drawn = match &scene.load {
                Load::Rates(rates) => poisson(rates.get(second).copied().unwrap_or_default(), &mut rng),
                Load::Counts(counts) => counts.get(second).copied().unwrap_or_default(),
            };
            let bulk: u32 = scene.bulks.iter().filter(|(at, _)| *at == second).map(|(_, count)| count).sum();
            let mut times: Vec<u64> = (0..drawn).map(|_| rng.u64(0..SECOND)).collect();
            times.resize(times.len() + bulk as usize, 0);
            times.sort_unstable();
            messages.extend(times.into_iter().map(|time| message(scene, second, time, &mut rng)));
        }
        let attempts = |message: &Message| if message.is_poison { u64::from(scene.max_receives) } else { 1 };
        let worked: u64 = messages.iter().map(|message| message.service * attempts(message)).sum();
        let slots = f64::from(scene.concurrency.max(1));
        Self { messages, task_hours: worked as f64 / SECOND as f64 / 3600.0 / slots }
    }
}

/// One message of that second.
fn message(scene: &Scene, second: usize, time: u64, rng: &mut Rng) -> Message {
    let slower = scene.slow.as_ref().filter(|(when, _)| when.contains(&second)).map_or(1.0, |(_, times)| *times);
    let share = scene.poison.as_ref().filter(|(when, _)| when.contains(&second)).map_or(0.0, |(_, share)| *share);
    let service = scene.service_time * slower * stretch(scene.cv, rng);
    Message {
        at: second as u64 * SECOND + time,
        service: ((service * SECOND as f64) as u64).max(1),
        is_poison: rng.f64() < share,
        group: scene.groups.map_or(0, |groups| rng.u32(0..groups.max(1))),
    }
}

/// A random number with a mean of 1 and this coefficient of variation.
fn stretch(cv: f64, rng: &mut Rng) -> f64 {
    if cv <= 0.0 {
        1.0
    } else if (cv - 1.0).abs() < 1e-9 {
        exponential(rng)
    } else {
        let variance = (1.0 + cv * cv).ln();
        (variance.sqrt() * normal(rng) - variance / 2.0).exp()
    }
}

/// An exponentially distributed random number with a mean of 1.
fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

/// A normally distributed random number (Box and Muller).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// A Poisson-distributed random number: the arrivals of a rate within a second.
fn poisson(rate: f64, rng: &mut Rng) -> u32 {
    if rate > 50.0 {
        return (rate + rate.sqrt() * normal(rng)).round().max(0.0) as u32;
    }
    let (mut count, mut left) = (0, rate);
    loop {
        left -= exponential(rng);
        if left < 0.0 {
            return count;
        }
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_cv(values: &[f64]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn service_times_have_the_mean_and_spread_that_was_asked_for() {
        for cv in [0.0, 0.5, 1.0, 2.0] {
            let mut rng = Rng::with_seed(1);
            let values: Vec<f64> = (0..200_000).map(|_| stretch(cv, &mut rng)).collect();
            let (mean, spread) = mean_and_cv(&values);
            assert!((mean - 1.0).abs() < 0.02, "cv {cv}: mean {mean}");
            assert!((spread - cv).abs() < 0.1, "cv {cv}: {spread}");
        }
    }

    #[test]
    fn arrivals_have_the_mean_and_variance_of_their_rate() {
        for rate in [0.3, 5.0, 49.0, 80.0] {
            let mut rng = Rng::with_seed(2);
            let values: Vec<f64> = (0..100_000).map(|_| f64::from(poisson(rate, &mut rng))).collect();
            let (mean, cv) = mean_and_cv(&values);
            assert!((mean / rate - 1.0).abs() < 0.02, "{rate}: mean {mean}");
            assert!((cv * cv * mean - 1.0).abs() < 0.05, "{rate}: variance over mean {}", cv * cv * mean);
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_messages_and_another_seed_others() {
        let scene = Scene::new("x", Kind::Core, "", Load::Rates(vec![3.0; 600]));
        assert_eq!(Work::draw(&scene, 7).messages, Work::draw(&scene, 7).messages);
        assert_ne!(Work::draw(&scene, 7).messages, Work::draw(&scene, 8).messages);
    }

    #[test]
    fn counts_are_taken_as_they_are() {
        let mut scene = Scene::new("x", Kind::File, "", Load::Counts(vec![0, 2, 0, 1]));
        scene.bulks = vec![(2, 5)];
        let seconds: Vec<u64> = Work::draw(&scene, 1).messages.iter().map(|message| message.at / SECOND).collect();
        assert_eq!(seconds, [1, 1, 2, 2, 2, 2, 2, 3]);
    }
}
