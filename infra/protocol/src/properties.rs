//! What must hold. The numbers are those of the invariants that the README promises.

use std::collections::BTreeSet;

use stateright::Property;

use crate::Protocol;
use crate::model::is_without;
use crate::world::{Origin, Plan, State, World, Wrong};

/// All of them.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        // I1: the newest wins.
        Property::always("I1 an older push never replaces a newer one", |_, world| is_without(world, Wrong::OlderWon)),
        Property::always("I1 left alone, everything ends well", |model: &Protocol, world: &World| {
            !world.is_idle() || world.calmed(model.bug).is_some_and(|end| end.is_right())
        }),
        Property::eventually("I1 the end is right", |model: &Protocol, world: &World| {
            // What went wrong goes no further, and has a property of its own.
            world.wrong.is_some() || world.pushed == model.pushes && world.is_idle() && world.is_right()
        }),
        // I2: one rollout for each intention.
        Property::always("I2 an intention makes one rollout", |_, world: &World| {
            let by: Vec<_> = world.deployments.iter().filter_map(|deployment| deployment.by).collect();
            by.iter().collect::<BTreeSet<_>>().len() == by.len()
        }),
        Property::always("I2 no rollout without an intention", |_, world: &World| {
            world.deployments.iter().all(|deployment| deployment.by.is_some())
        }),
        Property::always("I2 no deployment of ours passes for somebody else's", |_, world: &World| {
            world.table.records.iter().all(|record| record.origin != Origin::External)
        }),
        // I3: a rollback.
        Property::always("I3 a rollback undoes no newer deployment", |_, world| is_without(world, Wrong::UndidNewer)),
        Property::always("I3 what is brought back was proven good", |_, world| is_without(world, Wrong::Unproven)),
        Property::always("I3 a digest in quarantine is not deployed", |_, world| {
            is_without(world, Wrong::QuarantineBroken)
        }),
        Property::always("I3 what was taken back is in quarantine", |_, world: &World| {
            let is_back = |state| matches!(state, State::RolledBack | State::Failed);
            let bad = world.table.records.iter().filter(|it| is_back(it.state) && it.origin == Origin::Deploy);
            let bad = bad.filter(|bad| bad.deployment.is_some());
            bad.into_iter().all(|record| world.table.is_in_quarantine(record.digest))
        }),
        // I4: one outcome.
        Property::always("I4 a record has one outcome", |_, world| is_without(world, Wrong::TwoOutcomes)),
        // That it can happen at all.
        Property::sometimes("a push and a rollback are decided at once", |_, world: &World| {
            let is_back = |plan: &Plan| matches!(plan, Plan::Back { .. });
            let is_push = |plan: &Plan| matches!(plan, Plan::Deploy(_));
            world.decided().any(|(_, plan)| is_back(plan)) && world.decided().any(|(_, plan)| is_push(plan))
        }),
        Property::sometimes("what a dead handler has started is written down", |_, world: &World| {
            world.decided().any(|(_, plan)| matches!(plan, Plan::Adopt(_) | Plan::TakeOver(_, Some(_))))
        }),
        Property::sometimes("a release is brought back and stays", |_, world: &World| {
            let is_back = |record| matches!(record, (Origin::Rollback, State::Succeeded));
            world.table.records.iter().any(|record| is_back((record.origin, record.state)))
        }),
    ]
}
