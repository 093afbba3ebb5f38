//! From a written intention to what came of it: what deploy and rollback do alike.

use crate::Bug;
use crate::deploy::new;
use crate::world::{Deployment, Digest, Handler, Id, Lease, Origin, Record, Rollout, State, Work, World, Wrong};

impl Handler {
    /// The intention is written under this generation.
    pub(crate) fn intended(record: Id, digest: Digest, generation: u8) -> Self {
        Self::Intended(Work { record, digest, generation: Some(generation), is_late: false })
    }

    /// The work in hand.
    #[must_use]
    pub fn work(&self) -> Option<&Work> {
        match self {
            Self::Intended(work) | Self::Accepted(work, _) => Some(work),
            _ => None,
        }
    }
}

impl World {
    /// One call more of a handler that has an intention in hand: `UpdateService`, if its lease is still good. If not, it
    /// asks for another one, under a new generation, and is refused where somebody has taken its intention over.
    pub(crate) fn go_on(&mut self, work: Work, bug: Option<Bug>) -> Handler {
        if work.is_late && bug != Some(Bug::LeaseUnchecked) {
            if work.generation != Some(self.table.generation) {
                return Handler::Idle;
            }
            self.table.generation += u8::from(bug != Some(Bug::LeaseRenewedUnfenced));
            self.table.lease = Lease::Held;
            let generation = self.table.generation;
            if let Some(record) = self.table.records.get_mut(usize::from(work.record)) {
                record.generation = generation;
            }
            return Handler::Intended(Work { is_late: false, generation: Some(generation), ..work });
        }
        let deployment = self.update_service(work.digest, Some(work.record));
        Handler::Accepted(work, deployment)
    }

    /// `UpdateService`: the newer one wins, whoever it is from. ECS has no condition for it. To ask for what is PRIMARY
    /// already starts nothing.
    pub(crate) fn update_service(&mut self, digest: Digest, by: Option<Id>) -> Id {
        self.notice(digest, by.and_then(|by| self.table.record(by).cloned()).as_ref());
        if self.runs() != digest {
            self.deployments.push(Deployment { digest, rollout: Rollout::InProgress, by });
            self.is_young = true;
        }
        self.primary()
    }

    /// Notices a call that must never be made.
    fn notice(&mut self, digest: Digest, intention: Option<&Record>) {
        let Some(intention) = intention else { return };
        let is_newer = |deployment: &Deployment| {
            let by = deployment.by.and_then(|by| self.table.record(by));
            deployment.digest > digest && by.is_some_and(|by| by.origin == Origin::Deploy)
        };
        let taken_back = intention.recovers.and_then(|bad| self.table.record(bad)?.deployment);
        let was_proven = self.table.records.iter().any(|record| record.digest == digest && record.is_proven);
        let wrong = match intention.origin {
            Origin::Rollback if self.runs() != digest && taken_back != Some(self.primary()) => Some(Wrong::UndidNewer),
            Origin::Rollback => (!was_proven).then_some(Wrong::Unproven),
            _ if self.table.is_in_quarantine(digest) => Some(Wrong::QuarantineBroken),
            _ => self.deployments.iter().any(is_newer).then_some(Wrong::OlderWon),
        };
        self.wrong = self.wrong.or(wrong);
    }

    /// Writes that ECS has accepted it, if it still is the newest decision; and of what it takes back, that it is over.
    pub(crate) fn settle(&mut self, work: &Work, deployment: Id, bug: Option<Bug>) {
        let Some(generation) = work.generation else {
            let generation = self.table.generation + 1;
            let late = Record {
                state: State::Rolling,
                deployment: Some(deployment),
                ..new(work.digest, Origin::Deploy, generation)
            };
            self.table.current = self.table.add(late);
            self.table.generation = generation;
            return;
        };
        let is_ours = generation == self.table.generation || bug == Some(Bug::SettleUnfenced);
        let Some(intention) = self.table.record(work.record).filter(|_| is_ours).cloned() else { return };
        if intention.state != State::Intended {
            return;
        }
        self.started(work.record, deployment, bug);
        let Some(bad) = intention.recovers else { return };
        let end = match self.table.record(bad).map(|bad| bad.state) {
            Some(State::Succeeded) => State::RolledBack,
            _ => State::Failed,
        };
        self.advance(bad, end, bug);
    }

    /// What notify makes of a record: one conditional write, of what ECS says.
    pub(crate) fn judge(&mut self, id: Id, bug: Option<Bug>) -> bool {
        let Some(record) = self.table.record(id) else { return false };
        let (Some(deployment), false) = (record.deployment, self.table.is_taken_back(record)) else { return false };
        let is_judged = record.state == State::Rolling || bug == Some(Bug::OutcomesRepeated) && !record.is_proven;
        let Some(found) = self.deployment(deployment).filter(|_| is_judged) else { return false };
        let next = match found.rollout {
            Rollout::Completed => State::Succeeded,
            Rollout::Failed => State::Failed,
            Rollout::InProgress if deployment != self.primary() => State::Superseded,
            Rollout::InProgress => return false,
        };
        if next == record.state {
            return false;
        }
        if next == State::Failed && record.origin != Origin::Rollback {
            self.table.quarantine |= 1 << record.digest;
        }
        self.advance(id, next, bug)
    }

    /// The bake time of a release that runs is over, and nothing was wrong.
    pub(crate) fn prove(&mut self, id: Id) -> bool {
        let (bad, primary) = (self.bad, self.primary());
        let Some(record) = self.table.records.get_mut(usize::from(id)) else { return false };
        let runs = record.deployment == Some(primary) && record.state == State::Succeeded;
        let is_good = record.digest != bad && record.recovery.is_none();
        let is_news = runs && is_good && !record.is_proven;
        record.is_proven |= is_news;
        is_news
    }

    /// ECS comes to the end of the rollout of the PRIMARY deployment.
    pub(crate) fn end_rollout(&mut self, end: Rollout) -> bool {
        let bad = self.bad;
        let primary = self.deployments.last_mut().filter(|primary| primary.rollout == Rollout::InProgress);
        let Some(primary) = primary else { return false };
        if end == Rollout::Failed && primary.digest != bad {
            return false;
        }
        primary.rollout = end;
        true
    }

    /// A minute passes: a lease that is held expires. Where its handler lives, that is a stall.
    pub(crate) fn expire(&mut self) -> bool {
        if self.table.lease != Lease::Held {
            return false;
        }
        let generation = self.table.generation;
        let holds = |handler: &Handler| handler.work().is_some_and(|work| work.generation == Some(generation));
        if self.handlers.iter().any(holds) {
            let Some(left) = self.stalls.checked_sub(1) else { return false };
            self.stalls = left;
        }
        for handler in &mut self.handlers {
            match handler {
                Handler::Intended(work) | Handler::Accepted(work, _) if work.generation == Some(generation) => {
                    work.is_late = true;
                }
                _ => {}
            }
        }
        self.table.lease = Lease::Expired;
        self.is_young = false;
        true
    }
}
