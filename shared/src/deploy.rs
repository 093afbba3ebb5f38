//! Deploy: a push becomes a rollout on every service that follows the image.
//!
//! An event is only a hint that something changed. [`Deployer`] reads the truth (ECR, ECS, the record), lets
//! [`decide`](decide::decide) judge it, and acts; so that it is safe to repeat, to reorder, to run twice at once, and to
//! kill between any two calls:
//!
//! * the intention is written before the effect, under a lease that expires and a generation that fences: a handler
//!   that was outrun notices when it settles, and looks again;
//! * whoever finds the effect of a handler that died writes down what it could not.
//!
//! It never waits for a rollout. The outcome comes by event, to [`notify`](crate::notify).

pub mod decide;
mod revisions;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::{join, try_join};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use self::decide::{Observed, Skip, Verdict, decide, why_deploy};
use self::revisions::Revisions;
use crate::decision::{Action, Decision, Handled};
use crate::ecr::{Ecr, Image};
use crate::ecs::{Ecs, SERVICES_PER_CALL_MAX, Service};
use crate::error::Error;
use crate::events::{self, Event, ImageAction};
use crate::followers::Followers;
use crate::image::Reference;
use crate::platform::Platform;
use crate::record::store::{Store, Written};
use crate::record::{History, Record, ServiceItem, State, millis, record_id};
use crate::tags::{Policy, ServiceTags};
use crate::task_definition::{Draft, TaskDefinition};

/// How many services, or pages of services, are worked on at once.
const CONCURRENCY: usize = 8;
/// How long a handler has an intention to itself. Longer than registering and updating take with all their retries.
const LEASE: Duration = Duration::from_secs(60);

/// The deploy function.
#[derive(Debug, Clone)]
pub struct Deployer {
    /// ECS.
    pub ecs: Ecs,
    /// ECR.
    pub ecr: Ecr,
    /// The tagging API.
    pub followers: Followers,
    /// The records.
    pub store: Store,
    /// The clock.
    pub platform: Platform,
}

impl Deployer {
    /// Handles an event as EventBridge delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Image(push)) => match push.why_not_deployable() {
                Some(reason) => skip_push(&push, reason).into(),
                None => self.pushed(&push, deadline).await.unwrap_or_else(Handled::from),
            },
            Ok(Event::Ignored { reason }) => Decision::new(Action::Skip, reason).into(),
            Ok(Event::Deployment(_)) => {
                Error::Input("the deploy function takes ECR events; this one is for notify".into()).into()
            }
            Err(error) => error.into(),
        }
    }

    async fn pushed(&self, push: &ImageAction, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let name = &push.repository.name;
        let followers = self.followers.of(name).await?;
        if followers.is_empty() {
            let how = format!("no service follows {name}; give one the tag {}", crate::tags::follow_key(name));
            return Ok(skip_push(push, how).into());
        }
        let (image, services) = try_join(self.image_of(push), self.services(&followers)).await?;

        let mut handled = Handled::default();
        handled.decisions.extend(missing(&followers, &services).iter().map(|service| gone(push, service)));
        let revisions = Revisions::new(&self.ecs);
        let (image, revisions) = (image.as_ref(), &revisions);
        let mut results = stream::iter(services)
            .map(|service| async move {
                let id = service.id.clone();
                (id, Box::pin(self.converge(push, image.cloned(), service, revisions, deadline)).await)
            })
            .buffer_unordered(CONCURRENCY);
        while let Some((id, result)) = results.next().await {
            handled.add(id, result);
        }
        handled.decisions.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(handled)
    }

    async fn image_of(&self, push: &ImageAction) -> Result<Option<Image>, Error> {
        self.ecr.image_of_tag(&push.repository, push.tag.as_deref().unwrap_or_default()).await
    }

    async fn services(&self, followers: &BTreeMap<String, Vec<String>>) -> Result<Vec<Service>, Error> {
        let calls = followers
            .iter()
            .flat_map(|(cluster, services)| services.chunks(SERVICES_PER_CALL_MAX).map(move |page| (cluster, page)));
        let pages: Vec<Vec<Service>> = stream::iter(calls)
            .map(|(cluster, page)| self.ecs.describe_services(cluster, page))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(pages.into_iter().flatten().collect())
    }

    /// Brings one service to the image its policy selects: observe, decide, act, and look again where somebody else
    /// was faster.
    async fn converge(
        &self,
        push: &ImageAction,
        mut image: Option<Image>,
        mut service: Service,
        revisions: &Revisions<'_>,
        deadline: DateTime<Utc>,
    ) -> Result<Decision, Error> {
        loop {
            let id = service.id.clone();
            let Some(seen) = self.observe(service, revisions).await? else {
                return Ok(gone(push, &id.to_string()));
            };
            let Seen { history, base, .. } = &seen;
            let service_now = &seen.service;
            let verdict = decide(&Observed {
                push,
                service: service_now,
                image: image.as_ref(),
                base: base.as_ref(),
                history,
                now: self.platform.now(),
            });
            let acted = match verdict {
                Verdict::Skip(reason) => return Ok(skip_service(push, service_now, image.as_ref(), &reason)),
                Verdict::Wait => None,
                Verdict::Adopt { ecs_deployment_id } => self.adopt(&seen, ecs_deployment_id).await?,
                Verdict::Deploy { policy, digest, draft } => {
                    let Some(base) = base else {
                        return Ok(skip_service(push, service_now, image.as_ref(), &Skip::NoPrimary));
                    };
                    let image = image.as_ref();
                    let intention = Intention { push, service: service_now, image, policy, digest, base };
                    self.deploy(&intention, &draft, history, revisions).await?
                }
            };
            if let Some(record) = acted {
                return Ok(Decision::about(Action::Deploy, &record));
            }
            self.platform.look_again(deadline, || format!("another invocation is at work on {id}")).await?;
            let (described, now_at) = try_join(self.ecs.describe_service(&id), self.image_of(push)).await?;
            image = now_at;
            match described {
                Some(described) => service = described,
                None => return Ok(gone(push, &id.to_string())),
            }
        }
    }

    /// What the table knows of a service that ECS has just shown, and the revision it runs. `None` where the service is
    /// gone since.
    ///
    /// Nobody can write an intention after this history was read without ours being refused. But one that was settled
    /// between ECS's view and the history is not in that view: then ECS is asked again.
    async fn observe(&self, service: Service, revisions: &Revisions<'_>) -> Result<Option<Seen>, Error> {
        let (history, base) = join(self.store.history(&service.id), base_of(&service, revisions)).await;
        let (history, base) = (history?, base?);
        let newest = history.current().and_then(|record| record.ecs_deployment_id.as_deref());
        if newest.is_none_or(|id| service.deployment(id).is_some()) {
            return Ok(Some(Seen { service, history, base }));
        }
        let Some(service) = self.ecs.describe_service(&service.id).await? else {
            return Ok(None);
        };
        let base = base_of(&service, revisions).await?;
        Ok(Some(Seen { service, history, base }))
    }

    /// Deploys: intention, revision, `UpdateService`, and what came of it. `None` where another handler was faster.
    async fn deploy(
        &self,
        intention: &Intention<'_>,
        draft: &Draft,
        history: &History,
        revisions: &Revisions<'_>,
    ) -> Result<Option<Record>, Error> {
        let now = self.platform.now();
        let record = intention.record(draft, history, now);
        let item = ServiceItem {
            generation: record.generation,
            record: record.id.clone(),
            digest: record.digest.clone(),
            lease_until: millis(now + LEASE),
        };
        if self.store.intend(history, &item, &record).await? == Written::Outrun {
            return Ok(None);
        }
        let effect = async {
            let revision = revisions.register(&intention.base.arn, draft).await?;
            let updated = self.ecs.start_deployment(intention.service, &revision).await?;
            Ok((revision, updated))
        };
        match effect.await {
            Ok((revision, updated)) => self.settle(&record, &updated, Some(revision)).await,
            // The platform will try again, and whoever comes then finds the intention and its expired lease.
            Err(error) if Error::is_transient(&error) => Err(error),
            Err(error) => {
                if let Some(failed) = record.advanced(State::Failed, error.to_string(), self.platform.now()) {
                    self.store.settle(&record, &failed).await?;
                }
                Err(error)
            }
        }
    }

    /// Writes down the deployment that a handler started and could not write down.
    async fn adopt(&self, seen: &Seen, ecs_deployment_id: String) -> Result<Option<Record>, Error> {
        let Seen { service, history, .. } = seen;
        tracing::info!(service = %service.id, ecs_deployment_id, "a deployment is written down after the fact");
        let revision = service.primary().map(|primary| primary.task_definition.clone());
        match history.current() {
            Some(record) => self.settle(record, service, revision).await,
            None => Ok(None),
        }
    }

    async fn settle(
        &self,
        record: &Record,
        service: &Service,
        revision: Option<String>,
    ) -> Result<Option<Record>, Error> {
        let Some(primary) = service.primary() else {
            return Err(Error::Answer {
                operation: "UpdateService",
                resource: service.id.to_string(),
                missing: "a PRIMARY deployment",
            });
        };
        let reason = record.reason.clone();
        let Some(mut rolling) = record.advanced(State::Rolling, reason, self.platform.now()) else {
            return Ok(None);
        };
        rolling.ecs_deployment_id = Some(primary.id.clone());
        rolling.revision_to = revision.or(rolling.revision_to);
        match self.store.settle(record, &rolling).await? {
            Written::Yes => Ok(Some(rolling)),
            Written::Outrun => Ok(None),
        }
    }
}

/// What was read of a service, in an order that makes it safe to act on.
struct Seen {
    service: Service,
    history: History,
    base: Option<TaskDefinition>,
}

async fn base_of(service: &Service, revisions: &Revisions<'_>) -> Result<Option<TaskDefinition>, Error> {
    match service.primary() {
        Some(primary) => revisions.base(&primary.task_definition).await.map(Some),
        None => Ok(None),
    }
}

/// What is about to be deployed, and where.
struct Intention<'a> {
    push: &'a ImageAction,
    service: &'a Service,
    image: Option<&'a Image>,
    policy: Policy,
    digest: String,
    base: &'a TaskDefinition,
}

impl Intention<'_> {
    /// The record of this intention: that of a handler that died before ECS accepted it, taken over, or a new one.
    fn record(&self, draft: &Draft, history: &History, now: DateTime<Utc>) -> Record {
        let generation = history.generation() + 1;
        let left = history.current().filter(|left| left.state == State::Intended && left.digest == self.digest);
        if let Some(left) = left {
            return Record { generation, version: left.version + 1, ..left.clone() };
        }
        let from = draft.changes.first().and_then(|change| Reference::parse(&change.from));
        let id = &self.service.id;
        Record {
            id: record_id(id, &self.digest, generation, now),
            cluster: id.cluster.clone(),
            service: id.service.clone(),
            service_arn: id.arn.clone(),
            state: State::Intended,
            reason: why_deploy(&self.policy, &self.digest),
            version: 1,
            generation,
            repository: self.push.repository.name.clone(),
            tag: self.push.tag.clone().unwrap_or_default(),
            digest: self.digest.clone(),
            digest_from: from.and_then(|from| from.digest.or(from.tag)).map(str::to_owned),
            revision_from: Some(self.base.arn.clone()),
            revision_to: None,
            ecs_deployment_id: None,
            event_id: self.push.event_id.clone(),
            pushed_at: self.push.time.or(self.image.and_then(|image| image.pushed_at)),
            detected_at: now,
            started_at: None,
            finished_at: None,
            slack_channel: ServiceTags::read(&self.service.tags).channel,
            slack_ts: None,
            slack_told: 0,
            sns_told: 0,
            telling_until: 0,
        }
    }
}

/// Followers that the tagging API still knows and ECS does not.
fn missing(followers: &BTreeMap<String, Vec<String>>, found: &[Service]) -> Vec<String> {
    let is_found = |cluster: &str, name: &str| {
        found.iter().any(|service| service.id.cluster == cluster && service.id.service == name)
    };
    let names = followers.iter().flat_map(|(cluster, names)| names.iter().map(move |name| (cluster, name)));
    names
        .filter(|(cluster, name)| !is_found(cluster, name))
        .map(|(cluster, name)| format!("{cluster}/{name}"))
        .collect()
}

fn gone(push: &ImageAction, service: &str) -> Decision {
    Decision { service: Some(service.to_owned()), ..skip_push(push, "the service no longer exists") }
}

fn skip_push(push: &ImageAction, reason: impl Into<String>) -> Decision {
    Decision {
        repository: Some(push.repository.name.clone()),
        tag: push.tag.clone(),
        digest: Some(push.digest.clone()),
        ..Decision::new(Action::Skip, reason)
    }
}

fn skip_service(push: &ImageAction, service: &Service, image: Option<&Image>, reason: &Skip) -> Decision {
    let digest = image.map_or(&push.digest, |image| &image.digest);
    Decision {
        service: Some(service.id.to_string()),
        digest: Some(digest.clone()),
        ..skip_push(push, reason.to_string())
    }
}
