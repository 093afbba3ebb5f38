//! What there is: the table, ECS, the handlers, and what may still happen to them.

use crate::Bug;

/// An image: 0 is the release that runs in the beginning and is proven good, 1 to 3 are what is pushed then, in this order.
pub type Digest = u8;
/// The place of a record in the table, or of a deployment in ECS: a higher one is newer.
pub type Id = u8;

/// What a record is. See `shared/src/record.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// ECS has not been heard to have accepted it.
    Intended,
    /// ECS is at it.
    Rolling,
    /// It completed.
    Succeeded,
    /// It did not complete, or was taken back before.
    Failed,
    /// It completed, and was taken back.
    RolledBack,
    /// A newer one took its place.
    Superseded,
    /// It was given up before ECS was told.
    Skipped,
}

impl State {
    /// Whether the product's state machine allows this step.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use State::{Failed, Intended, RolledBack, Rolling, Skipped, Succeeded, Superseded};
        matches!(
            (self, next),
            (Intended, Rolling | Failed | Superseded | Skipped)
                | (Rolling, Succeeded | Failed | Superseded)
                | (Succeeded, RolledBack)
        )
    }

    /// Whether there is more to come.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Rolling)
    }
}

/// Who has made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The deploy function.
    Deploy,
    /// The rollback function.
    Rollback,
    /// Somebody else, as it seems.
    External,
}

/// What is done about a bad deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recovery {
    /// This record brings a good release back.
    By(Id),
    /// Nothing: there is none.
    Hold,
}

/// One intention to run a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The image.
    pub digest: Digest,
    /// What it is.
    pub state: State,
    /// Who has made it.
    pub origin: Origin,
    /// The generation of its last intention.
    pub generation: u8,
    /// ECS's deployment.
    pub deployment: Option<Id>,
    /// What is done about it.
    pub recovery: Option<Recovery>,
    /// What it takes back.
    pub recovers: Option<Id>,
    /// Whether its bake time is over.
    pub is_proven: bool,
}

/// Whether somebody is at work on the newest intention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lease {
    /// Nobody.
    None,
    /// Somebody.
    Held,
    /// Somebody was, a minute ago.
    Expired,
}

/// The items of one service in DynamoDB.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Each decision that is written raises it.
    pub generation: u8,
    /// The newest intention.
    pub current: Id,
    /// Who is at work on it.
    pub lease: Lease,
    /// The digests that went bad, one bit each.
    pub quarantine: u8,
    /// All records, oldest first.
    pub records: Vec<Record>,
}

impl Table {
    /// A record.
    #[must_use]
    pub fn record(&self, id: Id) -> Option<&Record> {
        self.records.get(usize::from(id))
    }

    /// The newest intention, while it is one.
    #[must_use]
    pub fn intended(&self) -> Option<&Record> {
        self.record(self.current).filter(|record| record.state == State::Intended)
    }

    /// The record of a deployment, newest first.
    #[must_use]
    pub fn of_deployment(&self, deployment: Id) -> Option<Id> {
        let found = self.records.iter().rposition(|record| record.deployment == Some(deployment));
        found.and_then(|found| Id::try_from(found).ok())
    }

    /// Whether a digest must not be deployed.
    #[must_use]
    pub fn is_in_quarantine(&self, digest: Digest) -> bool {
        self.quarantine & (1 << digest) != 0
    }

    /// Whether another release takes the place of this one, or is about to: then it is not notify's to judge.
    #[must_use]
    pub fn is_taken_back(&self, record: &Record) -> bool {
        let Some(Recovery::By(by)) = record.recovery else { return false };
        self.record(by).is_some_and(|by| by.state.is_open() || by.state == State::Succeeded)
    }

    /// Adds a record, and says where.
    pub fn add(&mut self, record: Record) -> Id {
        self.records.push(record);
        Id::try_from(self.records.len() - 1).unwrap_or(Id::MAX)
    }
}

/// How far ECS is with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rollout {
    /// `IN_PROGRESS`.
    InProgress,
    /// `COMPLETED`.
    Completed,
    /// `FAILED`, and ECS stays there.
    Failed,
}

/// A deployment of the service in ECS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// What it runs.
    pub digest: Digest,
    /// How far it is.
    pub rollout: Rollout,
    /// Whose call made it: no handler can read this.
    pub by: Option<Id>,
}

/// One step of a handler is one call. What it holds in its hands between two calls:
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handler {
    /// It does not run.
    Idle,
    /// deploy has read the table and ECS, and is about to ask ECR.
    Looked {
        /// The table as it was.
        seen: Table,
        /// How many deployments ECS has shown.
        shown: u8,
    },
    /// What it was told by ECR, where it asks for that first (see [`Bug::HistoryAfterEcr`]).
    Asked {
        /// The newest image.
        newest: Digest,
    },
    /// It knows what to write.
    Decided {
        /// What its write asks for.
        seen: Seen,
        /// What is to be done.
        plan: Plan,
    },
    /// The intention is written; ECS is told next.
    Intended(Work),
    /// ECS has accepted; that is written next.
    Accepted(Work, Id),
}

/// What a conditional write asks for: that this is still so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// The service's generation.
    pub generation: u8,
    /// What must not be deployed.
    pub quarantine: u8,
    /// What the bad record was, if it is about one.
    pub bad: Option<State>,
}

/// An intention that a handler has in hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// Its record.
    pub record: Id,
    /// What is to run.
    pub digest: Digest,
    /// The generation under which it was written; `None` where it was not (see [`Bug::IntentionAfterEffect`]).
    pub generation: Option<u8>,
    /// Whether the minute of its lease is over: any handler knows that by its own clock.
    pub is_late: bool,
}

/// What a handler is about to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plan {
    /// deploy: an intention, new or taken over.
    Deploy(Digest),
    /// deploy: the deployment that a dead handler has made.
    Adopt(Id),
    /// deploy: what a dead handler has left is not wanted now.
    Abandon,
    /// deploy: the deployment of somebody else.
    External(Id),
    /// rollback: quarantine, recovery and intention.
    Back {
        /// What is taken back.
        bad: Id,
        /// What is brought back.
        to: Id,
    },
    /// rollback: the same, where there is nothing to go back to.
    Hold(Id),
    /// rollback: the intention of a dead handler; ECS has accepted it where there is a deployment.
    TakeOver(Id, Option<Id>),
    /// rollback: what a dead handler has left comes too late.
    GiveUp(Id),
}

/// Something that must never happen, noticed at the moment when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// An older push was deployed over a newer one.
    OlderWon,
    /// A rollback has replaced something else than what it takes back.
    UndidNewer,
    /// A rollback has brought back what was never proven good.
    Unproven,
    /// What is in quarantine was deployed.
    QuarantineBroken,
    /// A record had two outcomes.
    TwoOutcomes,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The push that is bad; 0: none.
    pub bad: Digest,
    /// How many images were pushed, which is also what the tag points to.
    pub pushed: Digest,
    /// The table.
    pub table: Table,
    /// The service's deployments, oldest first: the last one is PRIMARY.
    pub deployments: Vec<Deployment>,
    /// Whether ECS may still answer without the last of them.
    pub is_young: bool,
    /// Two handlers.
    pub handlers: [Handler; 2],
    /// How many more of them may die, or not hear an answer and give up, which is the same.
    pub crashes: u8,
    /// How often a handler may still stand for longer than its lease, and then go on.
    pub stalls: u8,
    /// What went wrong.
    pub wrong: Option<Wrong>,
}

impl World {
    /// The proven release runs, and nothing is pushed yet. `bad` is the push that will turn out bad.
    #[must_use]
    pub fn new(bad: Digest, crashes: u8, stalls: u8) -> Self {
        let first = Record {
            digest: 0,
            state: State::Succeeded,
            origin: Origin::Deploy,
            generation: 1,
            deployment: Some(0),
            recovery: None,
            recovers: None,
            is_proven: true,
        };
        Self {
            bad,
            pushed: 0,
            table: Table { generation: 1, current: 0, lease: Lease::None, quarantine: 0, records: vec![first] },
            deployments: vec![Deployment { digest: 0, rollout: Rollout::Completed, by: Some(0) }],
            is_young: false,
            handlers: [Handler::Idle, Handler::Idle],
            crashes,
            stalls,
            wrong: None,
        }
    }

    /// The PRIMARY deployment.
    #[must_use]
    pub fn primary(&self) -> Id {
        Id::try_from(self.deployments.len().saturating_sub(1)).unwrap_or(Id::MAX)
    }

    /// A deployment.
    #[must_use]
    pub fn deployment(&self, id: Id) -> Option<&Deployment> {
        self.deployments.get(usize::from(id))
    }

    /// What runs, or is about to.
    #[must_use]
    pub fn runs(&self) -> Digest {
        self.deployments.last().map_or(0, |primary| primary.digest)
    }

    /// What handlers are about to write, and what they have seen.
    pub(crate) fn decided(&self) -> impl Iterator<Item = (&Seen, &Plan)> {
        self.handlers.iter().filter_map(|handler| match handler {
            Handler::Decided { seen, plan } => Some((seen, plan)),
            _ => None,
        })
    }

    /// Whether no handler runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.handlers.iter().all(|handler| *handler == Handler::Idle)
    }

    /// Writes a record's next state as the product does: on the condition that its state machine allows it. False where
    /// it does not; with [`Bug::OutcomesRepeated`] it is written all the same.
    pub fn advance(&mut self, id: Id, next: State, bug: Option<Bug>) -> bool {
        let Some(record) = self.table.records.get_mut(usize::from(id)) else { return false };
        let is_allowed = record.state.may_become(next);
        if is_allowed || bug == Some(Bug::OutcomesRepeated) {
            if !is_allowed && !record.state.is_open() {
                self.wrong = Some(Wrong::TwoOutcomes);
            }
            record.state = next;
        }
        is_allowed || bug == Some(Bug::OutcomesRepeated)
    }
}
