//! The decision whether a service gets a new deployment: what was seen goes in, a decision with its reason comes out.
//! No clients, no clock, no environment.
//!
//! `DECISIONS.md` shows every rule with a situation that it decides. A test writes it.

mod skip;

use chrono::{DateTime, TimeDelta, Utc};
use semver::Version;

pub use self::skip::Skip;
use super::images::{Candidate, Selection};
use crate::alarms::AlarmStates;
use crate::ecs::{CLOCK_DIFFERENCE, Deployment, Service};
use crate::image::{EcrRepository, Reference, short_digest};
use crate::policy::{Policy, version_of};
use crate::record::{History, Origin, Record, State};
use crate::tags::{Mode, ServiceTags};
use crate::task_definition::{Draft, TaskDefinition};

/// How long the sweep leaves a deployment alone that ECS has refused. Whoever mends the cause can replay the event.
const REFUSAL_PAUSE: TimeDelta = TimeDelta::hours(1);
/// `DescribeServices` may show a service as it was before. A deployment that ECS has accepted this recently is waited
/// for rather than taken for replaced.
const STALE_VIEW: TimeDelta = TimeDelta::seconds(20);

/// What was seen of one service and one repository that it follows.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// What made us look.
    pub origin: Origin,
    /// The repository.
    pub repository: &'a EcrRepository,
    /// The service, as ECS shows it now.
    pub service: &'a Service,
    /// What its policy selects now.
    pub selection: &'a Selection,
    /// The revision of the PRIMARY deployment; `None` where it was deleted.
    pub base: Option<&'a TaskDefinition>,
    /// The alarms that would watch the deployment.
    pub alarms: &'a AlarmStates,
    /// What the table knows.
    pub history: &'a History,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Skip(Skip),
    /// Another handler is at work on the service, or ECS has not caught up: look again later.
    Wait,
    /// The deployment was started by a handler that died before it could write so: write it.
    Adopt {
        /// ECS's id of the deployment.
        ecs_deployment_id: String,
    },
    /// Deploy, if the [checks](super::preflight) allow.
    Deploy(Box<Plan>),
}

/// What to deploy, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The policy that selected the image.
    pub policy: Policy,
    /// The tag by which it was selected.
    pub tag: String,
    /// The digest.
    pub digest: String,
    /// When the image was pushed, as ECR says.
    pub pushed_at: Option<DateTime<Utc>>,
    /// The revision to register.
    pub draft: Draft,
    /// What people should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Why this is deployed, for people.
    #[must_use]
    pub fn reason(&self) -> String {
        let digest = short_digest(&self.digest);
        match &self.policy {
            Policy::Tag(_) => format!("{} points to {digest} now", self.policy),
            Policy::Semver(_) => format!("{} is the highest version of {} now ({digest})", self.tag, self.policy),
            Policy::Prefix(_) | Policy::Any => {
                format!("{} is the newest image of {} now ({digest})", self.tag, self.policy)
            }
        }
    }
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Verdict {
    judge(seen).unwrap_or_else(Verdict::Skip)
}

/// What the owner of `service` wants with `repository`, as its tags say.
///
/// # Errors
/// Why nothing can be deployed, whatever the repository holds.
pub fn followed(service: &Service, repository: &EcrRepository) -> Result<(ServiceTags, Policy), Skip> {
    if service.status != "ACTIVE" {
        return Err(Skip::NotActive(service.status.clone()));
    }
    let tags = ServiceTags::read(&service.tags);
    if !tags.problems.is_empty() {
        return Err(Skip::Tags(tags.problems.into_iter().collect()));
    }
    let policy = tags.follows.get(&repository.name).cloned().ok_or(Skip::NotFollowing)?;
    if service.controller != "ECS" {
        return Err(Skip::Controller(service.controller.clone()));
    }
    Ok((tags, policy))
}

/// Whether an intention that this service's history holds is, or may be, in the hands of another handler.
fn is_in_progress(seen: &Observed<'_>) -> bool {
    let Observed { service, history, now, .. } = seen;
    let is_unseen = |record: &Record| {
        record.state == State::Rolling
            && record.started_at.is_some_and(|started| *now - started < STALE_VIEW)
            && record.ecs_deployment_id.as_ref().is_some_and(|id| service.deployment(id).is_none())
    };
    history.is_leased(*now) || history.current().is_some_and(is_unseen)
}

fn judge(seen: &Observed<'_>) -> Result<Verdict, Skip> {
    let Observed { repository, service, history, .. } = seen;
    let (tags, policy) = followed(service, repository)?;
    let (image, tag) = match &seen.selection.candidate {
        Candidate::Image { image, tag } => (image, tag),
        Candidate::Nothing => return Err(Skip::NothingSelected(policy)),
        Candidate::Archived => return Err(Skip::Archived(policy)),
        Candidate::NoRepository => return Err(Skip::NoRepository),
    };
    if let Some(what) = image.why_not_an_image() {
        return Err(Skip::NotAnImage(what));
    }
    let primary = service.primary().ok_or(Skip::NoPrimary)?;
    let base = seen.base.ok_or_else(|| Skip::RevisionGone(primary.task_definition.clone()))?;
    if base.images_of(repository).next().is_none() {
        return Err(Skip::NoContainer);
    }
    let draft = base.with_image(repository, &image.digest, tag);
    if is_in_progress(seen) {
        return Ok(Verdict::Wait);
    }
    if draft.changes.is_empty() {
        // If the handler that started this deployment died before it could write down ECS's id, this is the moment.
        let unwritten = |left: &&Record| left.digest == image.digest;
        return match history.left_by_deploy().filter(unwritten) {
            Some(_) => Ok(Verdict::Adopt { ecs_deployment_id: primary.id.clone() }),
            None => Err(Skip::AlreadyRuns),
        };
    }
    if let Some(reason) = tags.hold {
        return Err(Skip::Held(reason));
    }
    refuse_downgrade(seen, &policy, base, tag)?;
    refuse_what_failed(seen, &image.digest)?;
    refuse_what_was_taken_back(seen, base, &image.digest)?;
    if service.is_rolling_back() {
        return Err(Skip::RollingBack);
    }
    // What runs may have set it off, and nothing could be brought back in its place: only a fix helps.
    let runs_bad = history.of_deployment(&primary.id).is_some_and(Record::is_left_bad);
    if !seen.alarms.firing.is_empty() && !runs_bad {
        return Err(Skip::AlarmFiring(seen.alarms.firing.iter().cloned().collect()));
    }
    if let Some(size) = draft.excess_size() {
        return Err(Skip::TooLarge(size));
    }
    if tags.mode == Mode::Notify {
        return Err(Skip::NotifyMode);
    }
    let notes = notes_on(seen.alarms);
    let (tag, digest) = (tag.clone(), image.digest.clone());
    Ok(Verdict::Deploy(Box::new(Plan { policy, tag, digest, pushed_at: image.pushed_at, draft, notes })))
}

/// A range of versions never leads down: the newer version may only be missing from a listing, or from the repository
/// for the moment. The same version pushed again is no step down.
fn refuse_downgrade(seen: &Observed<'_>, policy: &Policy, base: &TaskDefinition, tag: &str) -> Result<(), Skip> {
    let Policy::Semver(_) = policy else { return Ok(()) };
    let (Some(candidate), Some(running)) = (version_of(tag), running_version(seen, base)) else { return Ok(()) };
    match candidate < running {
        true => Err(Skip::Downgrade { running: running.to_string(), candidate: tag.to_owned() }),
        false => Ok(()),
    }
}

/// The highest version that is known of what the service runs: by the tags of its image, or else by the tag that was
/// written on its revision.
fn running_version(seen: &Observed<'_>, base: &TaskDefinition) -> Option<Version> {
    let references = base.images_of(seen.repository).filter_map(|(_, image)| Reference::parse(image));
    let tags_of = |digest: &str| {
        let images = seen.selection.listing.iter().filter(move |image| image.digest == digest);
        images.flat_map(|image| &image.tags).filter_map(|tag| version_of(tag)).max()
    };
    let of_images = references.flat_map(|reference| {
        [reference.tag.and_then(version_of), reference.digest.and_then(tags_of)].into_iter().flatten()
    });
    of_images.max().or_else(|| base.image_tag(seen.repository).and_then(version_of))
}

/// A digest in quarantine is not tried again, nor anything while Tidegate has stopped by itself. An attempt that ECS
/// refused says nothing about the image; but the sweep would repeat it for ever.
fn refuse_what_failed(seen: &Observed<'_>, digest: &str) -> Result<(), Skip> {
    let guard = &seen.history.guard;
    if let Some(held) = &guard.held {
        return Err(Skip::Stopped(held.reason.clone()));
    }
    if let Some(entry) = guard.quarantine.get(digest) {
        return Err(Skip::Quarantined { record: entry.record.clone(), reason: entry.reason.clone() });
    }
    let Some(last) = seen.history.latest_of(digest) else { return Ok(()) };
    match (last.state, last.ecs_deployment_id.is_some()) {
        // The events that tell so have not come yet, or were lost.
        (State::Rolling, true) if has_gone_back(seen, last) => {
            Err(Skip::Quarantined { record: last.id.clone(), reason: "ECS went back to the earlier deployment".into() })
        }
        (State::Failed, false) if seen.origin == Origin::Sweep => {
            let until = last.finished_at.unwrap_or(last.detected_at) + REFUSAL_PAUSE;
            match seen.now < until {
                true => Err(Skip::Refused { until, reason: last.reason.clone() }),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// What somebody else has replaced by another image is not put back by a replay or by the sweep: that would be a fight
/// with a person who went back by hand. Any other image is deployed, and so is this one once its owner touches our tags.
fn refuse_what_was_taken_back(seen: &Observed<'_>, base: &TaskDefinition, digest: &str) -> Result<(), Skip> {
    let Some(primary) = seen.service.primary().filter(|_| !matches!(seen.origin, Origin::Tags | Origin::Release))
    else {
        return Ok(());
    };
    let of_repository =
        |record: &&Record| record.repository == seen.repository.name && record.ecs_deployment_id.is_some();
    let is_ours = |record: &&Record| record.origin != Origin::External;
    let by_us = seen.history.records.iter().filter(is_ours);
    let is_by_us = by_us.clone().any(|record| record.ecs_deployment_id.as_ref() == Some(&primary.id));
    let is_left = seen.history.current().is_some_and(|current| current.state == State::Intended);
    // A tag may mean the candidate itself.
    let is_pinned = |image: &str| Reference::parse(image).is_some_and(|image| image.digest.is_some());
    let is_another = base.images_of(seen.repository).any(|(_, image)| is_pinned(image));
    if is_by_us || is_left || !is_another {
        return Ok(());
    }
    let last = by_us.clone().find(of_repository).filter(|last| last.digest == digest);
    match last.and_then(|last| last.started_at).zip(primary.created()) {
        Some((started, created)) if created > started => Err(Skip::TakenBack(primary.id.clone())),
        _ => Ok(()),
    }
}

/// Whether ECS has gone back from the newest deployment, which it accepted, to one from before.
fn has_gone_back(seen: &Observed<'_>, last: &Record) -> bool {
    let is_newest = seen.history.current().is_some_and(|current| current.id == last.id);
    let primary = seen.service.primary().filter(|primary| last.ecs_deployment_id.as_ref() != Some(&primary.id));
    let created = primary.and_then(Deployment::created);
    is_newest && created.zip(last.started_at).is_some_and(|(created, started)| created < started - CLOCK_DIFFERENCE)
}

fn notes_on(alarms: &AlarmStates) -> Vec<String> {
    let missing = alarms.missing.iter().map(|name| format!("alarm {name}: it does not exist, so it watches nothing"));
    let unknown = alarms.unknown.iter().map(|why| format!("alarms: not checked, because {why}"));
    let firing = alarms.firing.iter().map(|name| {
        format!("alarm {name}: it is in ALARM, and what runs has gone bad; it does not watch this deployment")
    });
    missing.chain(unknown).chain(firing).collect()
}

#[cfg(test)]
mod tests;
