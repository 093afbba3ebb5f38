//! The records that the rollback function writes, made of what was seen.

use chrono::{DateTime, Utc};

use super::decide::{Fault, Hold, Plan};
use super::target::{Passed, name};
use super::{Cause, Seen};
use crate::ecs::Service;
use crate::record::{
    Guard, LEASE, Origin, Record, Recovery, Remedy, ServiceItem, State, UndoneBy, Watch, millis, record_id,
};

/// People must know: a release is more than its tasks.
const NOT_UNDONE: &str = "what the bad release has done to data, such as a database migration, is not undone";

impl Cause<'_> {
    fn actor(&self) -> Option<String> {
        self.asked.map(|asked| asked.actor.clone()).filter(|actor| !actor.is_empty())
    }

    fn event_id(&self) -> String {
        self.asked.map(|asked| asked.event_id.clone()).unwrap_or_default()
    }
}

/// What is about to be done about the bad deployment of `plan`.
pub(super) fn recovery(remedy: Remedy, plan: &Plan, target: &Record, cause: Cause<'_>, now: DateTime<Utc>) -> Recovery {
    aimed_at(new_recovery(remedy, &plan.fault, cause, now), target, &plan.passed)
}

/// The same, without a release to go back to.
pub(super) fn new_recovery(remedy: Remedy, fault: &Fault, cause: Cause<'_>, at: DateTime<Utc>) -> Recovery {
    let alarms = if let Fault::Alarms(names) = fault { names.clone() } else { Vec::new() };
    Recovery {
        remedy,
        why: fault.to_string(),
        alarms,
        reason: String::new(),
        release: None,
        passed_over: Vec::new(),
        stops_deployments: false,
        actor: cause.actor(),
        event_id: cause.event_id(),
        to: None,
        record: None,
        at,
    }
}

/// The same, going back to `target`.
pub(super) fn aimed_at(recovery: Recovery, target: &Record, passed: &[Passed]) -> Recovery {
    Recovery {
        reason: back_to(target, passed),
        release: Some(name(target)),
        passed_over: passed.iter().map(ToString::to_string).collect(),
        to: Some(target.id.clone()),
        ..recovery
    }
}

/// The same, where nothing is done.
pub(super) fn held(recovery: Recovery, why: &Hold) -> Recovery {
    let (release, passed_over) = (None, Vec::new());
    Recovery {
        remedy: Remedy::Hold,
        reason: why.to_string(),
        stops_deployments: why.stops_deployments(),
        release,
        passed_over,
        to: None,
        ..recovery
    }
}

/// Where to, and what was passed over, for people.
pub(super) fn back_to(target: &Record, passed: &[Passed]) -> String {
    let passed: Vec<String> = passed.iter().map(ToString::to_string).collect();
    let passed = if passed.is_empty() { String::new() } else { format!("; passed over: {}", passed.join("; ")) };
    format!("back to {}{passed}", name(target))
}

/// The record of the deployment that brings `target` back.
pub(super) fn intended(
    environment: &str,
    seen: &Seen,
    plan: &Plan,
    target: &Record,
    cause: Cause<'_>,
    now: DateTime<Utc>,
) -> Record {
    let generation = seen.history.generation() + 1;
    let bad = &plan.bad;
    let id = record_id(&seen.service.id, &format!("back from {}", bad.id), generation, now);
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let blank = Record {
        environment: environment.to_owned(),
        origin: Origin::Rollback,
        actor: cause.actor(),
        event_id: cause.event_id(),
        generation,
        recovers: Some(bad.id.clone()),
        repository: bad.repository.clone(),
        reason: plan.fault.to_string(),
        digest_from: given(&bad.digest),
        tag_from: given(&bad.tag),
        provenance_from: bad.provenance.clone(),
        revision_from: bad.revision_to.clone(),
        notes: vec![NOT_UNDONE.to_owned()],
        slack_channel: bad.slack_channel.clone(),
        ..Record::new(&seen.service.id, id, State::Intended, now)
    };
    aimed(&blank, bad, target)
}

/// `intended`, bringing back `target`. A release of another repository of the service names its own image; what it has
/// of this one is what ran before.
pub(super) fn aimed(intended: &Record, bad: &Record, target: &Record) -> Record {
    let (digest, tag, provenance) = match target.repository == bad.repository {
        true => (target.digest.clone(), target.tag.clone(), target.provenance.clone()),
        false => (
            bad.digest_from.clone().unwrap_or_default(),
            bad.tag_from.clone().unwrap_or_default(),
            bad.provenance_from.clone(),
        ),
    };
    Record { digest, tag, provenance, revision_to: target.revision_to.clone(), ..intended.clone() }
}

/// `bad`, about to be taken back: it still runs.
pub(super) fn marked(bad: &Record, recovery: Recovery) -> Record {
    Record { recovery: Some(recovery), ..changed(bad) }
}

/// `bad` once ECS has accepted what takes it back. `service` shows whether it had completed: the record need not say so
/// yet.
pub(super) fn ended(bad: &Record, service: &Service, now: DateTime<Utc>) -> Record {
    let ours = bad.ecs_deployment_id.as_deref().and_then(|id| service.deployment(id));
    let has_completed = service.is_rolling_update() && ours.is_some_and(|ours| ours.rollout_state == "COMPLETED");
    let live = bad.advanced(State::Succeeded, "the rollout completed", now).filter(|_| has_completed);
    let bad = live.as_ref().unwrap_or(bad);
    let state = if bad.state == State::Succeeded { State::RolledBack } else { State::Failed };
    let why = bad.recovery.as_ref().map_or(&bad.reason, |recovery| &recovery.why).clone();
    let after = bad.advanced(state, why, now).unwrap_or_else(|| changed(bad));
    Record { undone_by: Some(UndoneBy::Tidegate), ..after }
}

/// `record`, with something new to tell.
pub(super) fn changed(record: &Record) -> Record {
    Record { version: record.version + 1, tell_after: 0, ..record.clone() }
}

/// What keeps deployments away from now on: the digest of `bad`, unless `bad` itself was to bring a release back. What a
/// person wants back is in quarantine no longer.
pub(super) fn guard(
    seen: &Seen,
    bad: &Record,
    why: &str,
    target: Option<&Record>,
    cause: Cause<'_>,
    now: DateTime<Utc>,
) -> Guard {
    let before = &seen.history.guard;
    let bad = Record { reason: why.to_owned(), ..bad.clone() };
    let guard = if bad.origin == Origin::Rollback { before.next() } else { before.with(&bad, now) };
    let wanted = target.filter(|_| cause.asked.is_some_and(|asked| asked.to.is_some()));
    let guard = wanted.map_or(guard.clone(), |target| guard.without(&target.digest));
    Guard { version: before.version + 1, ..guard }
}

/// The service's item under its next generation, still watched, with nobody at work on it.
pub(super) fn next_item(seen: &Seen) -> ServiceItem {
    ServiceItem { watch: Some(Watch::Watch), ..seen.history.next_item(&seen.service) }
}

/// The same, with the intention in hand.
pub(super) fn leased(seen: &Seen, intended: &Record, now: DateTime<Utc>) -> ServiceItem {
    ServiceItem {
        record: intended.id.clone(),
        digest: intended.digest.clone(),
        lease_until: millis(now + LEASE),
        ..next_item(seen)
    }
}
