//! Which services follow a repository.

use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::types::TagFilter;

use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::tags::{SCALE_QUEUE, Tag, follow_key, is_follow_key, rollback_key};

/// Most resources that one page of `GetResources` holds.
const RESOURCES_PER_PAGE_MAX: i32 = 100;

/// A service that follows a repository, as the tagging API shows it. ECS may know newer tags: the tagging API follows
/// after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Which service.
    pub id: ServiceRef,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The tagging API.
#[derive(Debug, Clone)]
pub struct Followers {
    client: Client,
}

impl Followers {
    /// The tagging API through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every service that carries the follow tag of `repository`, sorted: one call of `GetResources` for each hundred
    /// of them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn of(&self, repository: &str) -> Result<Vec<Follower>, Error> {
        self.read(repository, Some(follow_key(repository))).await
    }

    /// Every service that is watched by `alarm`, sorted: one call of `GetResources` for each hundred of them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn watched_by(&self, alarm: &str) -> Result<Vec<Follower>, Error> {
        self.read(alarm, Some(rollback_key(alarm))).await
    }

    /// Every service that works on a queue and follows it in size, sorted: one call of `GetResources` for each hundred of
    /// them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn with_queue(&self) -> Result<Vec<Follower>, Error> {
        self.read("the services with a queue", Some(SCALE_QUEUE.to_owned())).await
    }

    /// Every service that follows any repository, sorted: one call of `GetResources` for each hundred services of the
    /// account and Region. A tag key cannot be asked for by its prefix.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn all(&self) -> Result<Vec<Follower>, Error> {
        let mut all = self.read("all services", None).await?;
        all.retain(|follower| follower.tags.iter().any(|tag| is_follow_key(&tag.key)));
        Ok(all)
    }

    async fn read(&self, resource: &str, key: Option<String>) -> Result<Vec<Follower>, Error> {
        let mut followers = Vec::new();
        for (arn, tags) in tagged(&self.client, "ecs:service", key, resource).await? {
            match ServiceRef::from_arn(&arn, None) {
                Ok(id) if id.has_cluster() => followers.push(Follower { id, tags }),
                Ok(_) => tracing::warn!(arn, "a service was passed over: its ARN names no cluster"),
                Err(error) => tracing::warn!(arn, %error, "a service was passed over"),
            }
        }
        followers.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(followers)
    }
}

/// Every resource of a `kind`, such as `ecs:service`, that has a tag of this key, or any tag: its ARN and its tags. One
/// call for each hundred of them. `resource` is what an error calls them.
///
/// # Errors
/// [`Error::Aws`].
pub(crate) async fn tagged(
    client: &Client,
    kind: &str,
    key: Option<String>,
    resource: &str,
) -> Result<Vec<(String, Vec<Tag>)>, Error> {
    let mut pages = client
        .get_resources()
        .resource_type_filters(kind)
        .set_tag_filters(key.map(|key| vec![TagFilter::builder().key(key).build()]))
        .resources_per_page(RESOURCES_PER_PAGE_MAX)
        .into_paginator()
        .send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| from_sdk("GetResources", resource, &error))?;
        all.extend(page.resource_tag_mapping_list().iter().map(|found| {
            let tags = found.tags().iter().map(|tag| Tag::new(tag.key(), tag.value())).collect();
            (found.resource_arn().unwrap_or_default().to_owned(), tags)
        }));
    }
    Ok(all)
}
