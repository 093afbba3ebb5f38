//! Whether a release can be brought back: its revision and its images are looked at before it is relied on.

use futures_util::future::join;

use super::Rollbacker;
use crate::ecr::Found;
use crate::ecs::Service;
use crate::error::Error;
use crate::image::{EcrRepository, short_digest};
use crate::record::{Guard, Record};
use crate::tags::ServiceTags;
use crate::task_definition::{Draft, TaskDefinition};

/// What was found of a release.
#[derive(Debug)]
pub(super) enum Fitness {
    /// It can be brought back.
    Fit(Box<Fit>),
    /// It can't, and why.
    Unfit(String),
}

/// A release that can be brought back.
#[derive(Debug)]
pub(super) struct Fit {
    /// Its revision.
    pub(super) revision: TaskDefinition,
    /// What has to be registered first: the revision was deregistered, or names a tag, which may point elsewhere by now.
    pub(super) draft: Option<Draft>,
    /// What could not be checked.
    pub(super) notes: Vec<String>,
}

impl Rollbacker {
    /// Whether `release` can be brought back to `service`. Two calls after one another, three where its revision names a
    /// tag.
    pub(super) async fn fitness(&self, service: &Service, guard: &Guard, release: &Record) -> Result<Fitness, Error> {
        let unfit = |why: &str| Ok(Fitness::Unfit(why.to_owned()));
        let Some(arn) = &release.revision_to else { return unfit("its task definition is not known") };
        // What the record says of the image is looked for beside; mostly it is all there is to look for.
        let home = service.id.home()?;
        let (described, known) = join(self.ecs.describe_task_definition(arn), self.image(&home, release)).await;
        let Some(revision) = described? else { return unfit("its task definition was deleted") };
        let mut notes = Vec::new();
        let mut draft: Option<Draft> = None;
        let repositories = ServiceTags::read(&service.tags).repositories;
        for name in repositories {
            let repository = EcrRepository { region: home.0.clone(), account: home.1.clone(), name };
            let Some(image) = revision.image_of(&repository) else { continue };
            let digest = match image.digest {
                Some(digest) => digest.to_owned(),
                None => match self.resolved(service, release, &revision, &repository).await? {
                    // A draft holds one change.
                    Some(_) if draft.is_some() => return unfit("more than one of its images is named by a tag"),
                    Some(digest) => {
                        let tag = image.tag.unwrap_or_default();
                        draft = Some(revision.with_image(&repository, &digest, tag));
                        digest
                    }
                    None => return unfit("it names a tag, and ECS does not know any more what that was"),
                },
            };
            if guard.quarantine.contains_key(&digest) {
                return Ok(Fitness::Unfit(format!("its image {} is in quarantine", short_digest(&digest))));
            }
            let found = match &known {
                Some(found) if digest == release.digest => found.clone(),
                _ => self.ecr.image_of_digest(&repository, &digest).await,
            };
            match found {
                Ok(Found::Image(_)) => {}
                Ok(Found::Archived) => return unfit("its image is in ECR's archive"),
                Ok(Found::Nothing | Found::NoRepository) => return unfit("its image was deleted from the repository"),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => notes.push(format!("image: not checked, because {error}")),
            }
        }
        if draft.is_none() && revision.is_inactive() {
            draft = Some(revision.again());
        }
        Ok(Fitness::Fit(Box::new(Fit { revision, draft, notes })))
    }

    /// The image that the record of a release names.
    async fn image(&self, home: &(String, String), release: &Record) -> Option<Result<Found, Error>> {
        if release.digest.is_empty() {
            return None;
        }
        let (region, account) = home.clone();
        let repository = EcrRepository { account, region, name: release.repository.clone() };
        Some(self.ecr.image_of_digest(&repository, &release.digest).await)
    }

    /// The digest that a tag stood for when the release was deployed: ECS resolves it once for each deployment. `None`
    /// where ECS does not know.
    async fn resolved(
        &self,
        service: &Service,
        release: &Record,
        revision: &TaskDefinition,
        repository: &EcrRepository,
    ) -> Result<Option<String>, Error> {
        let Some(id) = &release.ecs_deployment_id else { return Ok(None) };
        let digests = self.ecs.digests_of(&service.id, id).await?;
        let mut containers = revision.images_of(repository).map(|(container, _)| container);
        Ok(containers.find_map(|container| digests.get(container).cloned()))
    }
}
