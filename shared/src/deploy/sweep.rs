//! The sweep: a schedule looks at every service that follows something, finds what events have missed (ECR's are sent
//! on a best-effort basis), and writes down what others have deployed.
//!
//! It is cheap where nothing has happened: for ten services one call of ECS and one of the table, and one of ECR for
//! every tag that is followed. It ends early when AWS asks to be called less, or when its time is up; the next sweep
//! goes on from there, so that no service is left out for ever.

use std::collections::BTreeMap;

use futures_util::future::try_join;

use super::images::Images;
use super::pass::Pass;
use super::{PAGE_TIME, followed_repositories, pages};
use crate::decision::{Action, Decision, Handled};
use crate::ecs::Service;
use crate::error::Error;
use crate::events::ServiceRef;
use crate::record::ServiceItem;
use crate::tags::ServiceTags;

/// How far a sweep has come.
#[derive(Debug, Default)]
struct Progress {
    /// Services that were looked at.
    looked_at: usize,
    /// The last of them.
    last: Option<String>,
    /// Why it ended early.
    stopped: Option<String>,
}

impl Pass<'_> {
    /// Looks at every service that follows a repository.
    pub(super) async fn sweep(&self) -> Result<Handled, Error> {
        let store = &self.deployer.store;
        let (followers, cursor) = match try_join(self.deployer.followers.all(), store.sweep_cursor()).await {
            Ok(read) => read,
            Err(error) if error.is_throttling() => return Ok(summary(0, 0, Some(error.to_string())).into()),
            Err(error) => return Err(error),
        };
        let mut services: Vec<ServiceRef> = followers.into_iter().map(|follower| follower.id).collect();
        let total = services.len();
        // In the order of the services, which is not that of their names: `p/web` comes before `p-eu/web`.
        let after = cursor.as_deref().and_then(|after| after.split_once('/'));
        let begin = services
            .partition_point(|id| after.is_some_and(|after| (id.cluster.as_str(), id.service.as_str()) <= after));
        services.rotate_left(begin % total.max(1));

        let (mut handled, progress) = self.swept(services).await;
        if !self.explain {
            handled.decisions.retain(is_news);
            let next = progress.stopped.as_ref().and(progress.last.or_else(|| cursor.clone()));
            if next != cursor
                && let Err(error) = store.keep_sweep_cursor(next.as_deref()).await
            {
                // The next sweep begins where this one did, which is no harm.
                tracing::warn!(%error, "the sweep's place is lost");
            }
        }
        handled.decisions.push(summary(progress.looked_at, total, progress.stopped));
        Ok(handled)
    }

    async fn swept(&self, services: Vec<ServiceRef>) -> (Handled, Progress) {
        let mut handled = Handled::default();
        let mut progress = Progress::default();
        for page in pages(services) {
            if !self.deployer.platform.has_time(self.deadline, PAGE_TIME) {
                progress.stopped = Some("its time was up".into());
                break;
            }
            let mut of_page = self.swept_page(&page).await.unwrap_or_else(Handled::from);
            let throttled = of_page.failures.iter().find(|failure| failure.error.is_throttling());
            progress.stopped = throttled.map(|failure| failure.error.to_string());
            // What may pass is looked at again by the next sweep.
            of_page.failures.retain(|failure| {
                let passes = failure.error.is_transient();
                if passes {
                    tracing::warn!(service = failure.service, error = %failure.error, "left to the next sweep");
                }
                !passes
            });
            handled.extend(of_page);
            if progress.stopped.is_some() {
                break;
            }
            progress.looked_at += page.len();
            progress.last = page.last().map(ToString::to_string);
        }
        (handled, progress)
    }

    async fn swept_page(&self, ids: &[ServiceRef]) -> Result<Handled, Error> {
        let Some(first) = ids.first() else { return Ok(Handled::default()) };
        let home = first.home()?;
        let (services, items) = try_join(self.describe(ids), self.deployer.store.service_items(ids)).await?;
        let mut restless = Vec::new();
        for id in ids {
            let is_quiet = match self.is_quiet(id, &services, &items, &home).await {
                Err(error) if error.is_transient() => return Err(error),
                // It is met again where it concerns this service alone.
                Err(_) => false,
                Ok(is_quiet) => is_quiet,
            };
            if self.explain || !is_quiet {
                restless.push(id.clone());
            }
        }
        match restless.is_empty() {
            true => Ok(Handled::default()),
            false => Ok(self.page(&restless, &|tags| followed_repositories(tags, &home)).await),
        }
    }

    /// Whether nothing has happened to a service since its item was written: the same deployment is PRIMARY, and its
    /// digest is what the policy selects. More is not known without the history and the task definition.
    async fn is_quiet(
        &self,
        id: &ServiceRef,
        services: &BTreeMap<String, Service>,
        items: &BTreeMap<String, ServiceItem>,
        home: &(String, String),
    ) -> Result<bool, Error> {
        let (Some(service), Some(item)) = (services.get(&id.service), items.get(&id.to_string())) else {
            return Ok(false);
        };
        let primary = service.primary().map(|primary| &primary.id);
        if item.lease_until != 0 || primary.is_none() || primary != item.ecs_deployment_id.as_ref() {
            return Ok(false);
        }
        let tags = ServiceTags::read(&service.tags);
        let repositories = followed_repositories(&tags, home);
        let ([repository], Some(policy), true) =
            (repositories.as_slice(), tags.follows.values().next(), tags.problems.is_empty())
        else {
            return Ok(false);
        };
        let selection = self.images.selected(repository, policy, Images::BEGINNING).await?;
        Ok(!item.digest.is_empty() && selection.digest() == item.digest)
    }
}

/// Whether something was done or written down.
fn is_news(decision: &Decision) -> bool {
    decision.action != Action::Skip || decision.record.is_some()
}

fn summary(looked_at: usize, total: usize, stopped: Option<String>) -> Decision {
    let reason = match stopped {
        None => format!("the sweep has looked at all {total} services that follow a repository"),
        Some(why) => format!(
            "the sweep has looked at {looked_at} of {total} services and ended early, because {why}; the next one goes on \
             from there"
        ),
    };
    Decision { rule: Some("sweep"), ..Decision::new(Action::Skip, reason) }
}
