//! Two situations that differ in nothing that can matter are one: that keeps the number of states small.

use crate::Bug;
use crate::deploy::is_deploys;
use crate::world::{Handler, Plan, Seen, State, Table, World};

impl Handler {
    /// It knows what to write, of what it has seen.
    pub(crate) fn decided(seen: &Table, plan: Plan) -> Self {
        let bad = match plan {
            Plan::Back { bad, .. } | Plan::Hold(bad) => seen.record(bad).map(|bad| bad.state),
            _ => None,
        };
        Self::Decided { seen: Seen { generation: seen.generation, quarantine: seen.quarantine, bad }, plan }
    }
}

impl World {
    /// Makes this situation the one that stands for all like it.
    pub(crate) fn normalise(&mut self, bug: Option<Bug>) {
        let generation = self.table.generation;
        for handler in &mut self.handlers {
            // Who was outrun is refused, whatever it sees and does till then. In its slot anybody may begin.
            let has_ended = match handler {
                Handler::Looked { seen, .. } => seen.generation != generation && bug != Some(Bug::DeployUnfenced),
                Handler::Decided { plan: Plan::GiveUp(_), .. } => false,
                Handler::Decided { seen, plan } => {
                    let fence = if is_deploys(*plan) { Bug::DeployUnfenced } else { Bug::RollbackUnfenced };
                    seen.generation != generation && bug != Some(fence)
                }
                Handler::Intended(work) => {
                    let is_outrun = work.generation != Some(generation);
                    work.is_late && is_outrun && bug != Some(Bug::LeaseUnchecked)
                }
                Handler::Accepted(work, _) => {
                    let is_outrun = work.generation.is_some_and(|ours| ours != generation);
                    is_outrun && bug != Some(Bug::SettleUnfenced)
                }
                Handler::Idle | Handler::Asked { .. } => false,
            };
            if has_ended {
                *handler = Handler::Idle;
            }
        }
        self.handlers.sort_unstable();
        // An answer of ECS without what the table knows is not believed.
        let newest = self.table.record(self.table.current).and_then(|current| current.deployment);
        if newest == Some(self.primary()) && bug != Some(Bug::StaleViewTrusted) {
            self.is_young = false;
        }
        for record in &mut self.table.records {
            if record.state != State::Intended {
                record.generation = 0;
            }
        }
        self.count_anew();
    }

    /// Generations are only ever compared: what counts is which are the same.
    fn count_anew(&mut self) {
        let mut used = vec![0, self.table.generation];
        self.generations(&mut |generation| used.push(*generation));
        used.sort_unstable();
        used.dedup();
        let rank = |generation: &mut u8| {
            let place = used.iter().position(|used| used == generation).unwrap_or_default();
            *generation = u8::try_from(place).unwrap_or(u8::MAX);
        };
        rank(&mut self.table.generation);
        self.generations(&mut |generation| rank(generation));
    }

    /// Every generation but that of the table.
    fn generations(&mut self, each: &mut dyn FnMut(&mut u8)) {
        self.table.records.iter_mut().for_each(|record| each(&mut record.generation));
        for handler in &mut self.handlers {
            match handler {
                Handler::Looked { seen, .. } => {
                    each(&mut seen.generation);
                    seen.records.iter_mut().for_each(|record| each(&mut record.generation));
                }
                Handler::Decided { seen, .. } => each(&mut seen.generation),
                Handler::Intended(work) | Handler::Accepted(work, _) => work.generation.iter_mut().for_each(&mut *each),
                Handler::Idle | Handler::Asked { .. } => {}
            }
        }
    }
}
