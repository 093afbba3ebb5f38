//! A deployment that somebody else has started is written down when ECS tells of it.

use super::{DeploymentChange, Notifier};
use crate::announce::NEWS_AGE_MAX;
use crate::ecs::Service;
use crate::error::Error;
use crate::image::EcrRepository;
use crate::record::external::{SOMEBODY_ELSE, external};
use crate::record::store::{Guarding, Written};
use crate::record::{History, Record, ServiceItem, Told, Watch};
use crate::tags::ServiceTags;
use crate::task_definition::TaskDefinition;

impl Notifier {
    /// The record of the deployment that `change` is about, where the service follows a repository and somebody else has
    /// deployed an image of it.
    pub(super) async fn found(
        &self,
        service: Option<&Service>,
        history: &History,
        change: &DeploymentChange,
    ) -> Result<Option<Record>, Error> {
        let now = self.platform.now();
        let Some(service) = service.filter(|service| service.status == "ACTIVE") else { return Ok(None) };
        let Some(primary) = service.primary().filter(|primary| primary.id == change.deployment_id) else {
            return Ok(None);
        };
        let repositories = ServiceTags::read(&service.tags).repositories;
        // While a handler is at work on the service its item is not ours to change; the deploy function's sweep comes.
        if repositories.is_empty() || history.knows(&primary.id) || history.is_leased(now) {
            return Ok(None);
        }
        let (region, account) = service.id.home()?;
        let Some(base) = self.ecs.describe_task_definition(&primary.task_definition).await? else { return Ok(None) };
        let mut followed = repositories.into_iter().map(|name| EcrRepository {
            account: account.clone(),
            region: region.clone(),
            name,
        });
        let Some(repository) = followed.find(|repository| base.image_of(repository).is_some()) else {
            return Ok(None);
        };
        let Some(mut found) = external(service, &base, &repository, history, now) else { return Ok(None) };
        found.environment.clone_from(&self.environment);
        found.changed_by_others = self.changed_since_ours(&base, history).await?;
        // An event has told of it, so it is news, even if it has ended; but not what ECS takes up again.
        if found.started_at.is_some_and(|started| now - started < NEWS_AGE_MAX) {
            found.told = Told::default();
            found.reason = SOMEBODY_ELSE.into();
        }
        Ok(Some(found))
    }

    /// Writes what was found, if nobody else has decided anything about the service meanwhile.
    pub(super) async fn write_found(&self, history: &History, found: &Record) -> Result<Written, Error> {
        let item = ServiceItem {
            generation: found.generation,
            record: found.id.clone(),
            digest: found.digest.clone(),
            ecs_deployment_id: found.ecs_deployment_id.clone(),
            lease_until: 0,
            watch: Some(Watch::Watch),
        };
        self.store.write(history, &item, &[found], Guarding::Not).await
    }

    async fn changed_since_ours(&self, base: &TaskDefinition, history: &History) -> Result<Vec<String>, Error> {
        let Some(ours) = history.our_last_revision().filter(|ours| *ours != base.arn) else { return Ok(Vec::new()) };
        Ok(self.ecs.describe_task_definition(ours).await?.map(|ours| base.differences_from(&ours)).unwrap_or_default())
    }
}
