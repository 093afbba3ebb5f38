//! What a load came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Load;
use super::lambda::{Kind, Lambda, Tally};
use super::rollouts::Rollouts;
use crate::world::World;

/// How many calls there may be for each delivery of a push and each service, with all that follows: several followers,
/// their rollouts, telling people, and being throttled.
const CALLS_MAX: usize = 100;

/// The figures of a load.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub load: Load,
    pub events: usize,
    /// Deliveries beyond the first.
    pub repeated: usize,
    pub deliveries: BTreeMap<Kind, Tally>,
    pub invocations: BTreeMap<&'static str, usize>,
    /// Most invocations at once.
    pub at_once: usize,
    /// Invocations that were killed because they took too long.
    pub timed_out: usize,
    /// What failed invocations said, and how many said it.
    pub errors: BTreeMap<String, usize>,
    /// By function and operation.
    pub calls: BTreeMap<(&'static str, String), usize>,
    /// Calls that ECS's rate limits refused. The SDK tries each again, up to three times.
    pub throttled: usize,
    /// Rollouts that were begun, and those that came to their end before the next one.
    pub rollouts: usize,
    pub completed: usize,
    /// When the last image was pushed, and when all was calm.
    pub pushed: Duration,
    pub simulated: Duration,
    pub real: Duration,
}

impl Figures {
    /// Counts the calls since the last time.
    pub(super) fn note(&mut self, world: &World) {
        let calls = std::mem::take(&mut world.state().calls);
        for call in calls {
            *self.calls.entry((call.by, call.operation)).or_default() += 1;
        }
    }

    pub(super) fn end(&mut self, world: &World, lambda: &Lambda, rollouts: &Rollouts) {
        let (state, seen) = (world.state(), lambda.seen());
        self.deliveries = seen.deliveries;
        self.invocations = seen.invocations;
        self.errors = seen.errors;
        self.at_once = seen.running_max;
        self.timed_out = state.timed_out;
        self.throttled = state.throttled;
        self.rollouts = state.ecs.turns.len();
        self.completed = rollouts.completed;
        self.simulated = world.age();
    }

    /// Calls in all.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.values().sum()
    }

    /// The calls are in proportion to what has come, and to whom it concerns; and ECS is asked for no more than it lets
    /// through, however much comes.
    pub(super) fn check_bounds(&self) {
        let most = CALLS_MAX * (self.events + self.repeated + self.load.services);
        assert!(self.calls() <= most, "{} calls are more than {most}:\n{self}", self.calls());
        let registered = self.simulated.as_secs() as usize + 20;
        assert!(self.rollouts <= registered, "{} rollouts in {} s:\n{self}", self.rollouts, self.simulated.as_secs());
    }

    /// The operations that were called, the most frequent first.
    fn operations(&self) -> Vec<(&str, usize)> {
        let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
        for ((_, operation), count) in &self.calls {
            *sums.entry(operation).or_default() += count;
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        sums
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { services, minutes, concurrency, .. } = self.load;
        let calls = self.calls();
        let of = |kind: Kind| self.deliveries.get(&kind).copied().unwrap_or_default();
        let (pushes, all) = (of(Kind::Push), self.deliveries.values());
        let minutes_of = |time: Duration| time.as_secs().div_ceil(60);
        writeln!(f, "push events          {}, in {minutes} minutes", self.events)?;
        writeln!(f, "delivered again      {}", self.repeated)?;
        writeln!(
            f,
            "handled, kept, lost  {}, {}, {}",
            pushes.handled,
            pushes.kept,
            pushes.sent - pushes.handled - pushes.kept
        )?;
        writeln!(f, "services             {services}, all of them on the digest that they follow")?;
        writeln!(
            f,
            "rollouts             {}, of which {} were not overtaken by the next",
            self.rollouts, self.completed
        )?;
        write!(f, "invocations         ")?;
        for (name, count) in &self.invocations {
            write!(f, " {name} {count},")?;
        }
        writeln!(f, " at most {} at once of {concurrency}", self.at_once)?;
        writeln!(
            f,
            "tried again          {}, timed out {}",
            all.map(|tally| tally.again).sum::<usize>(),
            self.timed_out
        )?;
        writeln!(
            f,
            "calls                {calls}, {:.1} for each delivery of a push",
            calls as f64 / pushes.sent as f64
        )?;
        writeln!(f, "throttled by ECS     {}", self.throttled)?;
        writeln!(
            f,
            "simulated            {} minutes, calm {} minutes after the last push",
            minutes_of(self.simulated),
            minutes_of(self.simulated - self.pushed)
        )?;
        writeln!(f, "took                 {:.0} s", self.real.as_secs_f64())?;
        for (error, count) in &self.errors {
            writeln!(f, "failed               {count} times: {error}")?;
        }
        write!(f, "\n{:<28}{:>10}", "call", "all")?;
        for name in self.invocations.keys() {
            write!(f, "{name:>10}")?;
        }
        for (operation, count) in self.operations() {
            write!(f, "\n{operation:<28}{count:>10}")?;
            for name in self.invocations.keys() {
                write!(f, "{:>10}", self.calls.get(&(*name, operation.to_owned())).copied().unwrap_or_default())?;
            }
        }
        Ok(())
    }
}
