//! Which services follow a repository.

use std::collections::BTreeMap;

use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::types::TagFilter;

use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::tags::follow_key;

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

    /// Every service that carries the follow tag of `repository`, by cluster: one call of `GetResources` for each
    /// hundred of them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn of(&self, repository: &str) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut pages = self
            .client
            .get_resources()
            .resource_type_filters("ecs:service")
            .tag_filters(TagFilter::builder().key(follow_key(repository)).build())
            .into_paginator()
            .send();
        let mut by_cluster: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| from_sdk("GetResources", repository, &error))?;
            for arn in page.resource_tag_mapping_list().iter().filter_map(|found| found.resource_arn()) {
                match ServiceRef::from_arn(arn, None) {
                    Ok(found) => by_cluster.entry(found.cluster).or_default().push(found.service),
                    Err(error) => tracing::warn!(arn, %error, "a follower was passed over"),
                }
            }
        }
        Ok(by_cluster)
    }
}
