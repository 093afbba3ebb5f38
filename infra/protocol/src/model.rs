//! Everything that may happen next, for stateright.

use stateright::{Model, Property};

use crate::deploy::is_deploys;
use crate::world::{Handler, Id, Lease, Plan, Rollout, State, Table, Work, World, Wrong};
use crate::{Bug, Protocol, properties};

/// A handler, 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step(pub usize);

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// An image is pushed.
    Push,
    /// deploy begins, because of an event or the schedule, and reads the table and ECS.
    Deploy {
        /// Which handler.
        by: usize,
        /// Whether ECS's answer lacks its newest deployment.
        is_stale: bool,
    },
    /// rollback begins in the same way.
    Rollback {
        /// Which handler.
        by: usize,
        /// See above.
        is_stale: bool,
    },
    /// A handler makes its next call, and hears the answer.
    Call(usize),
    /// A handler dies, or has never heard the answer to its last call and gives up, which is the same.
    Dies(usize),
    /// A minute passes.
    LeaseExpires,
    /// ECS shows its newest deployment to everyone.
    Shown,
    /// ECS completes the rollout.
    Completes,
    /// ECS fails the rollout, and stays there.
    Fails,
    /// notify judges a record.
    Judged(Id),
    /// A bake time is over.
    Proven(Id),
}

impl World {
    /// A handler begins: it reads the table, and ECS's deployments. What the table knows and ECS's answer does not is
    /// asked for again, so that an answer counts only if it shows that.
    pub(crate) fn look(&self, is_rollback: bool, is_stale: bool, bug: Option<Bug>) -> Handler {
        let shown = self.primary() + 1 - u8::from(is_stale);
        let seen = self.table.clone();
        let newest = seen.record(seen.current).and_then(|current| current.deployment);
        let is_behind = newest.is_some_and(|newest| newest >= shown);
        if is_behind && bug != Some(Bug::StaleViewTrusted) {
            return Handler::Idle;
        }
        if is_rollback {
            let plan = self.decide_rollback(&seen, shown, bug);
            return plan.map_or(Handler::Idle, |plan| Handler::decided(&seen, plan));
        }
        match bug {
            Some(Bug::HistoryAfterEcr) => Handler::Asked { newest: self.pushed },
            _ => Handler::Looked { seen, shown },
        }
    }

    /// A handler's next call.
    pub(crate) fn step(&mut self, Step(by): Step, bug: Option<Bug>) {
        let Some(handler) = self.handlers.get_mut(by) else { return };
        let handler = std::mem::replace(handler, Handler::Idle);
        let decided = |world: &Self, seen: &Table, shown, newest| {
            let plan = world.decide_deploy(seen, shown, newest, bug);
            plan.map_or(Handler::Idle, |plan| Handler::decided(seen, plan))
        };
        let next = match handler {
            Handler::Idle => Handler::Idle,
            Handler::Asked { newest } => decided(self, &self.table, self.primary() + 1, newest),
            Handler::Looked { seen, shown } => decided(self, &seen, shown, self.pushed),
            Handler::Decided { plan: Plan::Deploy(digest), .. } if bug == Some(Bug::IntentionAfterEffect) => {
                let deployment = self.update_service(digest, None);
                Handler::Accepted(Work { record: Id::MAX, digest, generation: None, is_late: false }, deployment)
            }
            Handler::Decided { seen, plan } => match is_deploys(plan) {
                true => self.write_deploy(seen, plan, bug),
                false => self.write_rollback(seen, plan, bug),
            },
            Handler::Intended(work) => self.go_on(work, bug),
            Handler::Accepted(work, deployment) => {
                self.settle(&work, deployment, bug);
                Handler::Idle
            }
        };
        if let Some(handler) = self.handlers.get_mut(by) {
            *handler = next;
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        (0..=self.pushes).map(|bad| World::new(bad, self.crashes, self.stalls)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // What went wrong stays wrong.
        if world.wrong.is_some() {
            return;
        }
        if world.pushed < self.pushes {
            actions.push(Action::Push);
        } else if world.is_idle() && world.is_at_rest(self.bug) {
            return;
        }
        for (by, handler) in world.handlers.iter().enumerate() {
            if *handler != Handler::Idle {
                actions.push(Action::Call(by));
                // Who has written nothing yet leaves nothing behind.
                if world.crashes > 0 && handler.work().is_some() {
                    actions.push(Action::Dies(by));
                }
                continue;
            }
            for is_stale in [false, true] {
                if !is_stale || world.is_young {
                    actions.extend([Action::Deploy { by, is_stale }, Action::Rollback { by, is_stale }]);
                }
            }
        }
        if world.table.lease == Lease::Held {
            actions.push(Action::LeaseExpires);
        }
        if world.is_young {
            actions.push(Action::Shown);
        }
        actions.extend([Action::Completes, Action::Fails]);
        for (id, record) in (0..).zip(&world.table.records) {
            match record.state {
                State::Succeeded if !record.is_proven => actions.push(Action::Proven(id)),
                State::Intended | State::Skipped => {}
                _ => actions.push(Action::Judged(id)),
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let bug = self.bug;
        match action {
            Action::Push => next.pushed += 1,
            Action::Deploy { by, is_stale } => *next.handlers.get_mut(by)? = world.look(false, is_stale, bug),
            Action::Rollback { by, is_stale } => *next.handlers.get_mut(by)? = world.look(true, is_stale, bug),
            Action::Call(by) => next.step(Step(by), bug),
            Action::Dies(by) => {
                next.crashes -= 1;
                *next.handlers.get_mut(by)? = Handler::Idle;
            }
            Action::LeaseExpires => {
                let has_expired = bug != Some(Bug::LeaseForEver) && next.expire();
                has_expired.then_some(())?;
            }
            Action::Shown => next.is_young = false,
            Action::Completes => next.end_rollout(Rollout::Completed).then_some(())?,
            Action::Fails => next.end_rollout(Rollout::Failed).then_some(())?,
            Action::Judged(id) => next.judge(id, bug).then_some(())?,
            Action::Proven(id) => next.prove(id).then_some(())?,
        }
        next.normalise(bug);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// Whether this went wrong.
pub(crate) fn is_without(world: &World, wrong: Wrong) -> bool {
    world.wrong != Some(wrong)
}
