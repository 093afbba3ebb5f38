//! The deploy function, call by call: `shared/src/deploy/pass.rs` and `decide.rs`.

use crate::Bug;
use crate::world::{Digest, Handler, Id, Lease, Origin, Plan, Record, Seen, State, Table, World};

impl World {
    /// What deploy decides, of what it has seen. `None`: nothing is to be written, or somebody else is at work; whoever
    /// looks next sees to it.
    #[must_use]
    pub fn decide_deploy(&self, seen: &Table, shown: u8, newest: Digest, bug: Option<Bug>) -> Option<Plan> {
        let primary = shown.checked_sub(1)?;
        let runs = self.deployment(primary)?.digest;
        if seen.lease == Lease::Held && bug != Some(Bug::LeaseIgnored) {
            return None;
        }
        let left = seen.intended().filter(|left| left.origin != Origin::Rollback);
        let is_wanted = !seen.is_in_quarantine(newest) && !is_taken_back(seen, primary, newest);
        if runs != newest && is_wanted {
            return Some(Plan::Deploy(newest));
        }
        match left {
            Some(left) if left.digest == runs => (bug != Some(Bug::NothingAdopted)).then_some(Plan::Adopt(primary)),
            Some(_) => Some(Plan::Abandon),
            None if seen.intended().is_none() && seen.of_deployment(primary).is_none() => Some(Plan::External(primary)),
            None => None,
        }
    }

    /// Writes what deploy has decided, if nobody has decided anything since. Says what the handler does next.
    pub(crate) fn write_deploy(&mut self, seen: Seen, plan: Plan, bug: Option<Bug>) -> Handler {
        if self.table.generation != seen.generation && bug != Some(Bug::DeployUnfenced) {
            return Handler::Idle;
        }
        let generation = self.table.generation + 1;
        match plan {
            Plan::Deploy(digest) => {
                if self.table.is_in_quarantine(digest) {
                    return Handler::Idle;
                }
                let left = self.table.intended().map(|left| (left.digest == digest, left.origin));
                let record = match left {
                    Some((true, Origin::Deploy)) => {
                        let id = self.table.current;
                        if let Some(left) = self.table.records.get_mut(usize::from(id)) {
                            left.generation = generation;
                        }
                        id
                    }
                    left => {
                        if left.is_some() {
                            self.advance(self.table.current, State::Superseded, bug);
                        }
                        self.table.add(new(digest, Origin::Deploy, generation))
                    }
                };
                self.table.generation = generation;
                self.table.current = record;
                self.table.lease = Lease::Held;
                Handler::intended(record, digest, generation)
            }
            Plan::Adopt(deployment) => {
                let current = self.table.current;
                if self.table.intended().is_some_and(|left| left.generation == self.table.generation) {
                    self.started(current, deployment, bug);
                }
                Handler::Idle
            }
            Plan::Abandon => {
                self.advance(self.table.current, State::Skipped, bug);
                (self.table.generation, self.table.lease) = (generation, Lease::None);
                Handler::Idle
            }
            Plan::External(deployment) => {
                let Some(digest) = self.deployment(deployment).map(|found| found.digest) else {
                    return Handler::Idle;
                };
                let external = Record {
                    state: State::Rolling,
                    deployment: Some(deployment),
                    ..new(digest, Origin::External, generation)
                };
                self.table.current = self.table.add(external);
                (self.table.generation, self.table.lease) = (generation, Lease::None);
                Handler::Idle
            }
            _ => Handler::Idle,
        }
    }

    /// Writes that ECS has accepted an intention, and gives up its lease.
    pub(crate) fn started(&mut self, record: Id, deployment: Id, bug: Option<Bug>) {
        if self.advance(record, State::Rolling, bug)
            && let Some(record) = self.table.records.get_mut(usize::from(record))
        {
            record.deployment = Some(deployment);
            self.table.lease = Lease::None;
        }
    }
}

/// Whether a plan is one of deploy's.
pub(crate) fn is_deploys(plan: Plan) -> bool {
    matches!(plan, Plan::Deploy(_) | Plan::Adopt(_) | Plan::Abandon | Plan::External(_))
}

/// A record that is new.
pub(crate) fn new(digest: Digest, origin: Origin, generation: u8) -> Record {
    Record {
        digest,
        state: State::Intended,
        origin,
        generation,
        deployment: None,
        recovery: None,
        recovers: None,
        is_proven: false,
    }
}

/// Whether it seems that somebody else has replaced our last deployment, which was of this digest: deploy then leaves the
/// service alone.
fn is_taken_back(seen: &Table, primary: Id, digest: Digest) -> bool {
    let is_ours = |record: &&Record| record.origin != Origin::External && record.deployment.is_some();
    let by_us = |record: &Record| record.origin != Origin::External && record.deployment == Some(primary);
    if seen.records.iter().any(by_us) || seen.intended().is_some() {
        return false;
    }
    let last = seen.records.iter().rev().find(is_ours);
    last.is_some_and(|last| last.digest == digest && last.deployment < Some(primary))
}
