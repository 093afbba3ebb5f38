//! How Tidegate's handlers get along, as a model that a computer has looked through to the end.
//!
//! Any number of handlers may work on one service at the same moment: the same event comes twice, another push follows, the
//! schedule comes round, an alarm goes off, a person asks. None of them can lock anything, and each may die between any two
//! calls. ECS does not help: `UpdateService` has no condition, and the newer call wins, whoever it is from. What keeps them
//! from each other's way is a few items in DynamoDB, and the order of the calls. This is the protocol:
//!
//! | | what | why |
//! |---|---|---|
//! | generation | Each decision that is written raises the service's generation, if it still is the one that was read. | Of two handlers that have read the same, one is refused and looks again. |
//! | history before ECR | The table is read first, and only then ECR is asked for the newest image. | An older answer can't be written over what a newer one has led to: the generation would have moved on. |
//! | intention before effect | The record is written before ECS is told. | Whoever comes after a dead handler finds what it was about to do. |
//! | lease | Whoever writes an intention has it to itself for a minute. | `UpdateService` can't be fenced. So nobody else tells ECS anything as long as somebody may be about to. |
//! | the lease is looked at again | A handler whose lease is about to end asks for another one before it tells ECS, under a new generation. It is refused where somebody has gone past it. | It may have stood still, and another one gone past it: its call would undo a newer deployment. |
//! | adoption | Who finds an intention whose lease has expired goes on with it; and if ECS runs it already, writes that down. | An answer may be lost after `UpdateService`. |
//! | the newest view | A view of ECS without a deployment that the table knows is not believed. | ECS's answers may be older than ours. |
//! | one write to go back | Quarantine, recovery and intention of a rollback are one write, fenced by the generation. | A push and a rollback at the same moment can't pass each other. |
//! | one outcome | A record's next state is written if the state machine allows it, and nobody has written since. | notify, deploy and rollback may all judge one record. |
//!
//! # What is modelled
//!
//! One service, and everything that its handlers in `shared/src/deploy`, `shared/src/rollback` and `shared/src/notify` read
//! and write of it, call by call: a handler's step is one call of AWS, and between two steps anything else may happen.
//!
//! - [`world`] is the table, ECS, and what each handler has in its hands. `deploy.rs` and `rollback.rs` are the decisions
//!   and the conditional writes of these functions, `work.rs` what both do after: `UpdateService`, and writing down what
//!   came of it. What notify does is one conditional write, so one step.
//! - Three images are pushed, one of them bad, or none: ECS fails its rollout, or an alarm goes off after it.
//! - Two handlers, each at any moment deploy or rollback. There are no events in the model: a handler may begin at any time,
//!   so they may be lost, late, doubled, and in any order.
//! - A handler may die between any two calls. An answer that is lost after the call was applied is the same: the handler
//!   gives up, and has left its effect.
//! - A handler may stand still for longer than its lease and then go on: between the write of its intention and
//!   `UpdateService` lie checks, the registration of a revision at one call a second, and the SDK's repetitions.
//! - ECS may answer without its newest deployment, for less than a minute.
//!
//! Everything that can come about from there is looked at. `normal.rs` takes situations together that can't differ in what
//! follows: the handlers are alike, generations are only compared, and who was outrun will be refused.
//!
//! # What holds
//!
//! The properties are in `properties.rs`, under the names of the invariants. Two kinds are worth a word:
//!
//! - *Left alone, everything ends well*: from every situation in which no handler is at work, the schedules alone lead to the
//!   right end. The newest push runs; or if that is bad, a release that was proven good, with the bad one in quarantine. Every
//!   record has its outcome, and no lease is held. This is stronger than stateright's *eventually*, which is asked as well but
//!   follows no loops.
//! - Each [`Bug`] of [`Bug::ALL`] takes one line of the protocol away, and has to break something: that is a test, and
//!   `cargo run -p protocol` prints the shortest way to the harm. [`Bug::SECOND_LINES`] break nothing: what they take away is
//!   guarded once more by something else.
//!
//! # What a lease can't do
//!
//! [`Bug::LeaseUnchecked`] is what the handlers did before this model was made. A handler writes its intention for an older
//! image, and stands still for more than a minute; another one takes over and deploys the newer image; the first goes on and
//! calls `UpdateService`. ECS then runs the older image, and nothing mends it: the deployment has no record, so it looks as if
//! a person had gone back by hand, which Tidegate respects. A rollback that stands still undoes a newer deployment in the same
//! way. Hence the look at the lease just before the call.
//!
//! That look and the call are two moments. The model takes them for one, which is true as far as the call arrives while the
//! lease lasts: the handlers keep back a margin longer than an attempt may take, and let go of a call that takes longer.
//! A request that a network keeps for longer than that, and delivers then, is beyond any protocol over an API without a
//! condition.
//!
//! # What is left out
//!
//! `StopServiceDeployment` (it names the deployment that it stops, so it can't hit another), ECS's own rollback, deployments by
//! people, refusals by AWS, what the checks find, more than one repository, and the short cut by which the sweep passes over
//! quiet services. The simulation and the tests of the handlers have those.

mod calm;
mod deploy;
mod model;
mod normal;
mod properties;
mod rollback;
mod work;
pub mod world;

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

pub use self::model::{Action, Step};

/// What is explored.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// How many images are pushed.
    pub pushes: u8,
    /// How many handlers may die, or end because an answer is lost.
    pub crashes: u8,
    /// How often a handler may stand still for longer than its lease.
    pub stalls: u8,
    /// What is broken on purpose.
    pub bug: Option<Bug>,
}

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// deploy's intention is written whatever the generation is.
    DeployUnfenced,
    /// rollback's intention is.
    RollbackUnfenced,
    /// That ECS has accepted is written whatever the generation is.
    SettleUnfenced,
    /// ECS is told first, and the intention is written then.
    IntentionAfterEffect,
    /// Somebody else's lease is not waited for.
    LeaseIgnored,
    /// A lease does not end by itself.
    LeaseForEver,
    /// A handler that stood still tells ECS without looking at its lease.
    LeaseUnchecked,
    /// Whoever stood still takes another lease without a new generation.
    LeaseRenewedUnfenced,
    /// ECR is asked first, and the table is read then.
    HistoryAfterEcr,
    /// ECS's answer is believed that lacks what the table knows.
    StaleViewTrusted,
    /// The bad digest is not kept from being deployed again.
    QuarantineForgotten,
    /// What was not proven is brought back.
    UnprovenTaken,
    /// What a dead handler has started is not written down.
    NothingAdopted,
    /// notify judges what has its outcome.
    OutcomesRepeated,
}

impl Bug {
    /// Those that do harm.
    pub const ALL: [Self; 13] = [
        Self::DeployUnfenced,
        Self::RollbackUnfenced,
        Self::IntentionAfterEffect,
        Self::LeaseIgnored,
        Self::LeaseForEver,
        Self::LeaseUnchecked,
        Self::LeaseRenewedUnfenced,
        Self::HistoryAfterEcr,
        Self::StaleViewTrusted,
        Self::QuarantineForgotten,
        Self::UnprovenTaken,
        Self::NothingAdopted,
        Self::OutcomesRepeated,
    ];
    /// Those that do none: that nobody has written the record since is asked as well, and is enough.
    pub const SECOND_LINES: [Self; 1] = [Self::SettleUnfenced];
}

/// What a check has found.
#[derive(Debug, Clone)]
pub struct Found {
    /// How many different situations were looked at.
    pub states: usize,
    /// How many steps lead from one to another.
    pub steps: usize,
    /// How many steps the longest of the shortest ways has.
    pub depth: usize,
    /// What does not hold, with the shortest way to where it does not.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// What holds.
    pub kept: Vec<&'static str>,
}

impl Found {
    /// What is broken in the fewest steps.
    #[must_use]
    pub fn shortest(&self) -> Option<&(&'static str, Vec<Action>)> {
        self.broken.iter().min_by_key(|(_, way)| way.len())
    }
}

impl Protocol {
    /// Two handlers, three pushes, a crash, and a stall: what is proven.
    #[must_use]
    pub const fn shipped() -> Self {
        Self { pushes: 3, crashes: 1, stalls: 1, bug: None }
    }

    /// The same with a bug, which shows with two pushes already.
    #[must_use]
    pub const fn with(bug: Bug) -> Self {
        Self { pushes: 2, crashes: 1, stalls: 1, bug: Some(bug) }
    }

    /// Looks at every situation that can come about, the nearest first; with a bug, until something is broken, and then for
    /// the shortest way there.
    #[must_use]
    pub fn check(&self) -> Found {
        let mut found = self.explored(None);
        while let (Some(_), Some(way)) = (self.bug, found.shortest()) {
            // The checker keeps the last way that it comes across. Is there one that is shorter?
            match self.explored(Some(way.1.len())) {
                nearer if nearer.broken.is_empty() => break,
                nearer => found = Found { states: found.states, steps: found.steps, ..nearer },
            }
        }
        found
    }

    fn explored(&self, shorter_than: Option<usize>) -> Found {
        let until = match self.bug {
            Some(_) => HasDiscoveries::AnyFailures,
            None => HasDiscoveries::All,
        };
        let checker = self.clone().checker().finish_when(until);
        // A depth counts situations, of which a way has one more than steps.
        let checker = match shorter_than {
            Some(steps) => checker.target_max_depth(steps + 1),
            None => checker,
        };
        let checked = checker.spawn_bfs().join();
        let (mut broken, mut kept) = (Vec::new(), Vec::new());
        for property in self.properties() {
            let found = checked.discovery(property.name).map(|way| way.into_actions());
            match (property.expectation, found) {
                (Expectation::Sometimes, Some(_)) | (Expectation::Always | Expectation::Eventually, None) => {
                    kept.push(property.name);
                }
                (_, found) => broken.push((property.name, found.unwrap_or_default())),
            }
        }
        if self.bug.is_some() {
            // It has stopped before it could see all that is possible.
            broken.retain(|(_, way)| !way.is_empty());
        }
        Found {
            states: checked.unique_state_count(),
            steps: checked.state_count(),
            depth: checked.max_depth(),
            broken,
            kept,
        }
    }
}
