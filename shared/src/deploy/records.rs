//! The records that the deploy function writes, made of what was seen.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{Plan, Skip};
use super::pass::{Pass, Seen};
use crate::record::external::external;
use crate::record::{Origin, Record, State, Told, millis, record_id};
use crate::tags::ServiceTags;
use crate::task_definition::TaskDefinition;

/// How long a decision not to deploy is kept.
const SKIPPED_KEPT: TimeDelta = TimeDelta::days(90);

/// The newest decision or deployment of ours that concerns the repository.
fn last_of_ours(seen: &Seen) -> Option<&Record> {
    let is_meant = |record: &&Record| record.repository == seen.repository.name && record.origin != Origin::External;
    seen.history.records.iter().find(is_meant)
}

/// Whether this decision not to deploy is recorded already. Where no digest could be selected, the record of a push
/// names the pushed one: to come by again without a push is no news.
pub(super) fn is_recorded_already(seen: &Seen, skip: &Skip, digest: &str) -> bool {
    let is_same = |last: &Record| last.reason == skip.to_string() && (digest.is_empty() || last.digest == digest);
    last_of_ours(seen).is_some_and(|last| last.state == State::Skipped && is_same(last))
}

/// Whether this digest was stopped before: then the checks are asked before anything is written.
pub(super) fn was_stopped(seen: &Seen, digest: &str) -> bool {
    last_of_ours(seen).is_some_and(|last| last.state == State::Skipped && last.digest == digest)
}

impl Pass<'_> {
    /// A record that says no more than which service and which repository it is about.
    fn blank(&self, seen: &Seen, id: String, state: State, now: DateTime<Utc>) -> Record {
        Record {
            environment: self.deployer.environment.clone(),
            origin: self.origin,
            actor: self.actor.map(str::to_owned),
            generation: seen.history.generation() + 1,
            repository: seen.repository.name.clone(),
            digest_from: seen.base.as_ref().and_then(|base| running(base, seen)),
            revision_from: seen.base.as_ref().map(|base| base.arn.clone()),
            event_id: self.push.map(|push| push.event_id.clone()).unwrap_or_default(),
            slack_channel: ServiceTags::read(&seen.service.tags).channel,
            ..Record::new(&seen.service.id, id, state, now)
        }
    }

    /// The record of an intention: that of a handler that died before ECS accepted it, taken over, or a new one.
    pub(super) fn intention(&self, seen: &Seen, plan: &Plan, now: DateTime<Utc>) -> Record {
        let generation = seen.history.generation() + 1;
        let left = seen.history.left_by_deploy().filter(|left| left.digest == plan.digest);
        if let Some(left) = left {
            return Record { generation, version: left.version + 1, ..left.clone() };
        }
        let id = record_id(&seen.service.id, &plan.digest, generation, now);
        // The event tells when the tag was set, ECR only when the image was pushed first.
        let told = self.push.filter(|push| push.digest == plan.digest).and_then(|push| push.time);
        Record {
            reason: plan.reason(),
            tag: plan.tag.clone(),
            digest: plan.digest.clone(),
            notes: plan.notes.clone(),
            pushed_at: told.or(plan.pushed_at),
            ..self.blank(seen, id, State::Intended, now)
        }
    }

    /// The record of a decision not to deploy.
    pub(super) fn skipped(&self, seen: &Seen, skip: &Skip, now: DateTime<Utc>) -> Record {
        let (digest, tag) = self.candidate(seen);
        let id = record_id(&seen.service.id, skip.rule(), seen.history.generation() + 1, now);
        // That a bad image still is what the tag points to, the message about the bad release has told.
        let is_told = self.origin == Origin::Sweep && matches!(skip, Skip::Quarantined { .. });
        Record {
            told: if is_told { Told::everyone(1) } else { Told::default() },
            reason: skip.to_string(),
            tag,
            digest,
            finished_at: Some(now),
            expires_at: Some(millis(now + SKIPPED_KEPT) / 1000),
            ..self.blank(seen, id, State::Skipped, now)
        }
    }

    /// Digest and tag of the candidate; where none was selected, of what was pushed.
    pub(super) fn candidate(&self, seen: &Seen) -> (String, String) {
        match (seen.selection.digest(), self.push) {
            ("", Some(push)) => (push.digest.clone(), push.tag.clone().unwrap_or_default()),
            (digest, _) => (digest.to_owned(), seen.selection.tag().to_owned()),
        }
    }

    /// The record of the PRIMARY deployment, if somebody else has made it and it is not known yet.
    pub(super) fn external(&self, seen: &Seen, now: DateTime<Utc>) -> Option<Record> {
        let found = external(&seen.service, seen.base.as_ref()?, &seen.repository, &seen.history, now)?;
        Some(Record { environment: self.deployer.environment.clone(), ..found })
    }
}

/// What an intention becomes that a handler has left behind before it reached ECS, and that is not wanted now.
pub(super) fn abandoned(seen: &Seen, skip: &Skip, now: DateTime<Utc>) -> Option<Record> {
    let left = unsettled(seen).filter(|_| !is_done_unwritten(seen))?;
    left.advanced(State::Skipped, format!("it did not reach ECS, and is not wanted now: {skip}"), now)
}

/// Whether the service runs what a handler has left behind: it died before it could write so.
pub(super) fn is_done_unwritten(seen: &Seen) -> bool {
    let runs = seen.base.as_ref().and_then(|base| running(base, seen));
    unsettled(seen).is_some_and(|left| runs.as_ref() == Some(&left.digest))
}

/// An intention for this repository that a handler has left behind. `None` as well where it can't be told what became
/// of it.
fn unsettled(seen: &Seen) -> Option<&Record> {
    let is_of_repository = |left: &&Record| left.repository == seen.repository.name;
    seen.history.left_by_deploy().filter(is_of_repository).filter(|_| seen.base.is_some())
}

/// Digest or tag that the service runs, as its task definition names it.
fn running(base: &TaskDefinition, seen: &Seen) -> Option<String> {
    let reference = base.image_of(&seen.repository)?;
    reference.digest.or(reference.tag).map(str::to_owned)
}
