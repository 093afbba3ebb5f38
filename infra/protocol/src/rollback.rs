//! The rollback function, call by call: `shared/src/rollback/decide.rs`, `act.rs` and `bring_back.rs`.

use crate::Bug;
use crate::deploy::new;
use crate::world::{Handler, Id, Lease, Origin, Plan, Record, Recovery, Rollout, Seen, State, Table, World};

impl World {
    /// What rollback decides, of what it has seen. `None`: there is nothing to do, or somebody else is at work.
    #[must_use]
    pub fn decide_rollback(&self, seen: &Table, shown: u8, bug: Option<Bug>) -> Option<Plan> {
        let primary = shown.checked_sub(1)?;
        if seen.lease == Lease::Held && bug != Some(Bug::LeaseIgnored) {
            return None;
        }
        if let Some(left) = seen.intended().filter(|left| left.origin == Origin::Rollback) {
            return Some(self.resume(seen, left, primary));
        }
        let bad = seen.of_deployment(primary)?;
        let record = seen.record(bad)?;
        if record.recovery.is_some() || !self.is_faulty(record, primary) || record.origin == Origin::External {
            return None;
        }
        let is_good = |(_, other): &(usize, &Record)| {
            let is_proven = other.is_proven || bug == Some(Bug::UnprovenTaken);
            let was_live = other.state == State::Succeeded && other.digest != record.digest;
            was_live && is_proven && !seen.is_in_quarantine(other.digest)
        };
        let before = seen.records.iter().enumerate().take(usize::from(bad));
        let to = before.rev().find(is_good).and_then(|(to, _)| Id::try_from(to).ok());
        Some(to.map_or(Plan::Hold(bad), |to| Plan::Back { bad, to }))
    }

    /// What becomes of an intention that a dead handler has left.
    fn resume(&self, seen: &Table, left: &Record, primary: Id) -> Plan {
        let taken_back = left.recovers.and_then(|bad| seen.record(bad)?.deployment);
        if taken_back == Some(primary) {
            return Plan::TakeOver(seen.current, None);
        }
        let is_recorded = seen.of_deployment(primary).is_some();
        let runs_it = self.deployment(primary).is_some_and(|deployment| deployment.digest == left.digest);
        match !is_recorded && runs_it {
            true => Plan::TakeOver(seen.current, Some(primary)),
            false => Plan::GiveUp(seen.current),
        }
    }

    /// Whether something shows that the deployment is bad: ECS, or an alarm.
    fn is_faulty(&self, record: &Record, deployment: Id) -> bool {
        let has_failed = self.deployment(deployment).is_some_and(|it| it.rollout == Rollout::Failed);
        match record.state {
            State::Rolling => has_failed || record.digest == self.bad,
            State::Succeeded => !record.is_proven && record.digest == self.bad,
            State::Failed => true,
            _ => false,
        }
    }

    /// Writes what rollback has decided. Says what the handler does next.
    pub(crate) fn write_rollback(&mut self, seen: Seen, plan: Plan, bug: Option<Bug>) -> Handler {
        // This one reads the table anew by itself: `give_up` in bring_back.rs.
        if let Plan::GiveUp(left) = plan {
            let bad = self.table.record(left).and_then(|left| left.recovers);
            if self.advance(left, State::Superseded, bug) {
                if let Some(bad) = bad {
                    self.advance(bad, State::Superseded, bug);
                }
                self.table.generation += 1;
                self.table.lease = Lease::None;
            }
            return Handler::Idle;
        }
        if self.table.generation != seen.generation && bug != Some(Bug::RollbackUnfenced) {
            return Handler::Idle;
        }
        let generation = self.table.generation + 1;
        match plan {
            Plan::Back { bad, to } => {
                let Some(before) = self.changed(seen, bad, bug) else { return Handler::Idle };
                let Some(digest) = self.table.record(to).map(|to| to.digest) else { return Handler::Idle };
                let intention = Record { recovers: Some(bad), ..new(digest, Origin::Rollback, generation) };
                let record = self.table.add(intention);
                if let Some(bad) = self.table.records.get_mut(usize::from(bad)) {
                    bad.recovery = Some(Recovery::By(record));
                }
                if before.origin != Origin::Rollback && bug != Some(Bug::QuarantineForgotten) {
                    self.table.quarantine |= 1 << before.digest;
                }
                (self.table.generation, self.table.lease) = (generation, Lease::Held);
                self.table.current = record;
                Handler::intended(record, digest, generation)
            }
            Plan::Hold(bad) => {
                let Some(before) = self.changed(seen, bad, bug) else { return Handler::Idle };
                if let Some(bad) = self.table.records.get_mut(usize::from(bad)) {
                    bad.recovery = Some(Recovery::Hold);
                }
                self.table.quarantine |= 1 << before.digest;
                (self.table.generation, self.table.lease) = (generation, Lease::None);
                Handler::Idle
            }
            Plan::TakeOver(left, accepted) => {
                let is_left = self.table.record(left).is_some_and(|left| left.state == State::Intended);
                let Some(record) = self.table.records.get_mut(usize::from(left)).filter(|_| is_left) else {
                    return Handler::Idle;
                };
                record.generation = generation;
                let next = Handler::intended(left, record.digest, generation);
                (self.table.generation, self.table.lease) = (generation, Lease::Held);
                match (next, accepted) {
                    (Handler::Intended(work), Some(deployment)) => Handler::Accepted(work, deployment),
                    (next, _) => next,
                }
            }
            _ => Handler::Idle,
        }
    }

    /// The bad record, if neither it nor the quarantine was changed since.
    fn changed(&self, seen: Seen, bad: Id, bug: Option<Bug>) -> Option<Record> {
        let now = self.table.record(bad)?;
        let is_same = seen.bad == Some(now.state) && now.recovery.is_none() && seen.quarantine == self.table.quarantine;
        (is_same || bug == Some(Bug::RollbackUnfenced)).then(|| now.clone())
    }
}
