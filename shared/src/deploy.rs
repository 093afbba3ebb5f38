//! Deploy: a push becomes a rollout on every service that follows the image.
//!
//! An event is only a hint that something changed. For every service that it may concern, a pass reads the truth (ECR,
//! ECS, the record), lets [`decide`](decide::decide) judge it, and acts. A push, a change of a service's tags and the
//! sweep differ only in which services they look at.
//!
//! It never waits for a rollout. The outcome comes by event, to [`notify`](crate::notify).

pub mod decide;
mod explain;
pub mod images;
mod pass;
pub mod preflight;
mod records;
mod release;
mod sweep;
mod watch;

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use self::decide::Skip;
use self::images::Images;
use self::pass::Pass;
use self::preflight::Preflight;
use crate::alarms::Alarms;
use crate::decision::{Action, Decision, Handled};
use crate::dependencies::Directory;
use crate::ecr::Ecr;
use crate::ecs::{Ecs, SERVICES_PER_CALL_MAX};
use crate::error::Error;
use crate::events::{self, Event, ImageAction, ServiceRef};
use crate::followers::{Follower, Followers};
use crate::image::EcrRepository;
use crate::platform::Platform;
use crate::record::Origin;
use crate::record::store::Store;
use crate::revisions::Revisions;
use crate::tags::ServiceTags;

/// How many pages of services are worked on at once.
const PAGES_AT_ONCE: usize = 2;
/// What a page of services may take: at worst each registers a revision of its own, and ECS lets one through in a
/// second.
const PAGE_TIME: Duration = Duration::from_secs(35);

/// The deploy function.
#[derive(Debug, Clone)]
pub struct Deployer {
    /// ECS.
    pub ecs: Ecs,
    /// ECR.
    pub ecr: Ecr,
    /// The tagging API.
    pub followers: Followers,
    /// CloudWatch.
    pub alarms: Alarms,
    /// What tasks need beside their image.
    pub directory: Directory,
    /// The records.
    pub store: Store,
    /// What people call this environment; empty where it has no name but the cluster's.
    pub environment: String,
    /// The clock.
    pub platform: Platform,
}

impl Deployer {
    /// Handles an event as EventBridge delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Explain(asked)) => self.look_at(events::read(&asked), true, deadline).await,
            event => self.look_at(event, false, deadline).await,
        }
    }

    /// Looks at what `event` may concern. To `explain` is to stop before anything is written.
    async fn look_at(&self, event: Result<Event, Error>, explain: bool, deadline: DateTime<Utc>) -> Handled {
        let looked = match event {
            Ok(Event::Image(push)) => match push.why_not_deployable() {
                Some(reason) => Ok(skip_push(&push, "not-deployable", reason).into()),
                None => Box::pin(self.pass(Origin::Push, Some(&push), explain, deadline).pushed(&push)).await,
            },
            Ok(Event::Tagged(service)) => {
                Box::pin(self.pass(Origin::Tags, None, explain, deadline).tagged(service)).await
            }
            Ok(Event::Sweep) => Box::pin(self.pass(Origin::Sweep, None, explain, deadline).sweep()).await,
            Ok(Event::Ignored { reason }) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, reason) }.into())
            }
            Ok(Event::Cluster(change)) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, change.tells_nothing()) }.into())
            }
            Ok(Event::Release(asked)) => Box::pin(self.released(&asked, explain, deadline)).await,
            Ok(Event::Deployment(_) | Event::Report(_)) => Err(not_for_us("notify")),
            Ok(Event::Stopped(_) | Event::Alarm(_) | Event::Rollback(_)) => Err(not_for_us("rollback")),
            Ok(Event::Tick(_)) => Err(not_for_us("scale-service")),
            Ok(Event::Leaving(_)) => Err(not_for_us("scale-cluster")),
            Ok(Event::Explain(_)) => Err(Error::Input("an explanation can't be explained".into())),
            Err(error) => Err(error),
        };
        looked.unwrap_or_else(Handled::from)
    }

    fn pass<'a>(
        &'a self,
        origin: Origin,
        push: Option<&'a ImageAction>,
        explain: bool,
        deadline: DateTime<Utc>,
    ) -> Pass<'a> {
        Pass {
            deployer: self,
            origin,
            actor: None,
            push,
            explain,
            deadline,
            images: Images::new(&self.ecr),
            revisions: Revisions::new(&self.ecs),
            preflight: Preflight::new(&self.directory, &self.platform),
        }
    }
}

impl Pass<'_> {
    /// An image was pushed: looks at every service that may take it.
    async fn pushed(&self, push: &ImageAction) -> Result<Handled, Error> {
        let name = &push.repository.name;
        let followers = self.deployer.followers.of(name).await?;
        if followers.is_empty() {
            return Ok(skip_push(push, "nobody-follows", nobody_follows(name)).into());
        }
        let mut handled = Handled::default();
        let mut takers = Vec::with_capacity(followers.len());
        for follower in followers {
            match why_not_meant(&follower, push) {
                Some(skip) => handled.decisions.push(Decision {
                    service: Some(follower.id.to_string()),
                    ..skip_push(push, skip.rule(), skip.to_string())
                }),
                None => takers.push(follower.id),
            }
        }
        let pages = pages(takers);
        let mut left = 0;
        let mut results = stream::iter(pages)
            .map(|page| async move {
                match self.deployer.platform.has_time(self.deadline, PAGE_TIME) {
                    true => Ok(Box::pin(self.page(&page, &|_| vec![push.repository.clone()])).await),
                    false => Err(page.len()),
                }
            })
            .buffer_unordered(PAGES_AT_ONCE);
        while let Some(result) = results.next().await {
            match result {
                Ok(of_page) => handled.extend(of_page),
                Err(services) => left += services,
            }
        }
        drop(results);
        handled.decisions.sort_by(|a, b| a.service.cmp(&b.service));
        if left > 0 {
            let why = format!("there was no time for {left} services; this event will be tried again for them");
            handled.failures.push(Error::Busy(why).into());
        }
        Ok(handled)
    }

    /// The tags of a service have changed: looks at the service, and at every repository that it follows.
    async fn tagged(&self, service: ServiceRef) -> Result<Handled, Error> {
        let home = service.home()?;
        let handled = self.page(&[service], &|tags| followed_repositories(tags, &home)).await;
        Ok(handled)
    }
}

/// The repositories that a service follows, or would if its tags could be read, each in the service's own account and Region.
fn followed_repositories(tags: &ServiceTags, (region, account): &(String, String)) -> Vec<EcrRepository> {
    let repository =
        |name: &String| EcrRepository { account: account.clone(), region: region.clone(), name: name.clone() };
    tags.repositories.iter().map(repository).collect()
}

/// Why a push can't concern a follower, as its tags tell that the tagging API shows: a service for which that is so is
/// not even looked at. One whose tags can't be read is, so that its owner is told.
fn why_not_meant(follower: &Follower, push: &ImageAction) -> Option<Skip> {
    let tags = ServiceTags::read(&follower.tags);
    let policy = tags.follows.get(&push.repository.name)?;
    let is_meant = policy.may_select(push.tag.as_deref().unwrap_or_default());
    (!is_meant && tags.problems.is_empty()).then(|| Skip::NotSelected(policy.clone()))
}

/// Services by cluster, as many together as `DescribeServices` takes.
fn pages(services: Vec<ServiceRef>) -> Vec<Vec<ServiceRef>> {
    let of_one_cluster = services.chunk_by(|a, b| a.cluster == b.cluster);
    of_one_cluster.flat_map(|services| services.chunks(SERVICES_PER_CALL_MAX).map(<[ServiceRef]>::to_vec)).collect()
}

fn not_for_us(function: &str) -> Error {
    Error::Input(format!("the deploy function takes ECR events and changes of tags; this one is for {function}"))
}

fn nobody_follows(repository: &str) -> String {
    format!("no service follows {repository}; give one the tag {}", crate::tags::follow_key(repository))
}

fn skip_push(push: &ImageAction, rule: &'static str, reason: impl Into<String>) -> Decision {
    Decision {
        rule: Some(rule),
        repository: Some(push.repository.name.clone()),
        tag: push.tag.clone(),
        digest: Some(push.digest.clone()),
        ..Decision::new(Action::Skip, reason)
    }
}
