//! Deployments that somebody else has made: a person, Terraform, a script in CI. They belong to the history too, or it
//! would lie.

use chrono::{DateTime, TimeDelta, Utc};

use super::{History, Origin, Record, State, Told, record_id};
use crate::ecs::{CLOCK_DIFFERENCE, Service};
use crate::image::EcrRepository;
use crate::tags::ServiceTags;
use crate::task_definition::TaskDefinition;

/// How long before its deployment a revision is registered by whoever deploys it.
const REGISTERED_BEFORE_MAX: TimeDelta = TimeDelta::hours(1);

/// The reason of such a deployment.
pub const SOMEBODY_ELSE: &str = "somebody else has deployed this, not Tidegate";

/// The record of the PRIMARY deployment of `service`, which runs `base`, if somebody else has made it and it is not
/// known yet. What has ended before it was seen is told to nobody.
#[must_use]
pub fn external(
    service: &Service,
    base: &TaskDefinition,
    repository: &EcrRepository,
    history: &History,
    now: DateTime<Utc>,
) -> Option<Record> {
    let primary = service.primary()?;
    // It may be the work of a handler that died.
    let is_ours = history.current().is_some_and(|current| current.state == State::Intended);
    if is_ours || history.knows(&primary.id) {
        return None;
    }
    let started = primary.created().unwrap_or(now);
    // ECS goes back to what is older than the history that was read.
    let newest = history.records.iter().filter_map(|record| record.started_at).max();
    if newest.is_some_and(|newest| started < newest - CLOCK_DIFFERENCE) {
        return None;
    }
    let state = match primary.rollout_state.as_str() {
        "IN_PROGRESS" => State::Rolling,
        "FAILED" => State::Failed,
        _ => State::Succeeded,
    };
    let before = history.records.iter().find(|record| record.has_stayed());
    let image = base.image_of(repository);
    let digest = image.and_then(|image| image.digest).unwrap_or_default();
    let tag = image.and_then(|image| image.tag).or_else(|| base.image_tag(repository));
    let tags = ServiceTags::read(&service.tags);
    let generation = history.generation() + 1;
    // It came before whatever is written with it.
    let id = record_id(&service.id, &primary.id, generation, now - TimeDelta::milliseconds(1));
    let found = Record {
        reason: match history.item.is_some() || state.is_open() {
            true => SOMEBODY_ELSE.into(),
            false => "it ran before Tidegate first deployed".into(),
        },
        origin: Origin::External,
        actor: actor(base, started),
        generation,
        repository: repository.name.clone(),
        tag: tag.unwrap_or_default().to_owned(),
        digest: digest.to_owned(),
        digest_from: before.map(|before| before.digest.clone()).filter(|digest| !digest.is_empty()),
        tag_from: before.map(|before| before.tag.clone()).filter(|tag| !tag.is_empty()),
        revision_from: before.and_then(|before| before.revision_to.clone()),
        revision_to: Some(base.arn.clone()),
        ecs_deployment_id: Some(primary.id.clone()),
        service_deployment_arn: service.current_service_deployment.clone(),
        started_at: Some(started),
        deadline_at: Some(started + tags.deadline),
        live_at: (state == State::Succeeded).then_some(started),
        finished_at: (!state.is_open()).then_some(started),
        slack_channel: tags.channel,
        told: Told::everyone(if state.is_open() { 0 } else { 1 }),
        ..Record::new(&service.id, id, state, now)
    };
    let watched = found.watched(tags.bake);
    // What has run for longer than that has proven itself.
    let baked_at = watched.bake_until.filter(|until| *until <= now).or(watched.baked_at);
    Some(Record { baked_at, ..watched })
}

/// Who registered the revision, which was most likely for this deployment if it was shortly before.
fn actor(base: &TaskDefinition, started: DateTime<Utc>) -> Option<String> {
    let registered = base.registered_at?;
    let is_for_this = registered <= started + CLOCK_DIFFERENCE && started - registered <= REGISTERED_BEFORE_MAX;
    let principal = base.registered_by.as_deref().filter(|_| is_for_this)?;
    // `…:user/ana`, `…:assumed-role/ci/session`, or `…:root`.
    let (_, name) = principal.rsplit_once(':')?;
    let name = name.split_once('/').map_or(name, |(_, name)| name);
    Some(name.to_owned()).filter(|name| !name.is_empty())
}
