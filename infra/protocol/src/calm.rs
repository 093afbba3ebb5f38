//! What becomes of a situation once nothing is pushed, dies or stalls any more: the schedules come round, one after the
//! other, until nothing changes.

use crate::world::{Handler, Id, Lease, Origin, Rollout, State, World};
use crate::{Bug, Step};

/// More rounds than anything takes. What has not ended by then never does.
const ROUNDS: usize = 12;

impl World {
    /// The end, where no handler is at work now. `None` if there is none.
    #[must_use]
    pub fn calmed(&self, bug: Option<Bug>) -> Option<Self> {
        let mut now = self.clone();
        for _ in 0..ROUNDS {
            let before = now.clone();
            now.round(bug);
            if now == before {
                return Some(now);
            }
        }
        None
    }

    /// Whether nothing would change by itself.
    #[must_use]
    pub fn is_at_rest(&self, bug: Option<Bug>) -> bool {
        let mut next = self.clone();
        next.round(bug);
        next == *self
    }

    fn round(&mut self, bug: Option<Bug>) {
        if bug != Some(Bug::LeaseForEver) {
            self.expire();
        }
        self.is_young = false;
        let end = if self.runs() == self.bad { Rollout::Failed } else { Rollout::Completed };
        self.end_rollout(end);
        for id in 0..Id::try_from(self.table.records.len()).unwrap_or(Id::MAX) {
            self.judge(id, bug);
            self.prove(id);
            self.give_up(id, bug);
        }
        for is_rollback in [false, true] {
            self.handlers = [self.look(is_rollback, false, bug), Handler::Idle];
            while self.handlers != [Handler::Idle, Handler::Idle] {
                self.step(Step(0), bug);
            }
        }
    }

    /// After an hour notify ends an intention that is not the newest, and that nobody has taken up.
    fn give_up(&mut self, id: Id, bug: Option<Bug>) {
        let is_intended = self.table.record(id).is_some_and(|record| record.state == State::Intended);
        if is_intended && id != self.table.current && self.table.lease != Lease::Held {
            self.advance(id, State::Failed, bug);
        }
    }

    /// Whether this is a right end: the newest push runs, or if that is bad, a release that was proven good. Every record
    /// has its outcome, and nobody is waited for.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let newest = self.pushed;
        let primary = self.table.of_deployment(self.primary()).and_then(|id| self.table.record(id));
        let Some(primary) = primary.filter(|primary| primary.state == State::Succeeded) else { return false };
        let runs_the_right_one = match newest != 0 && newest == self.bad {
            true => self.table.is_in_quarantine(newest) && (primary.is_proven || primary.origin == Origin::Rollback),
            false => self.runs() == newest,
        };
        runs_the_right_one
            && (self.bad == 0 || self.runs() != self.bad)
            && self.table.lease != Lease::Held
            && self.table.records.iter().all(|record| !record.state.is_open())
    }
}
