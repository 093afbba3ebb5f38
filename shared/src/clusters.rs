//! Which clusters are to be scaled.

use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::types::TagFilter;

use crate::error::{Error, from_sdk};
use crate::tags::Tag;

/// Most resources that one page of `GetResources` holds.
const RESOURCES_PER_PAGE_MAX: i32 = 100;

/// A cluster with its tags, as the tagging API shows it: it follows ECS after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The tagging API, as far as clusters are concerned.
#[derive(Debug, Clone)]
pub struct Clusters {
    client: Client,
}

impl Clusters {
    /// The tagging API through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every cluster with a tag of this key, sorted by name: one call of `GetResources` for each hundred of them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn with(&self, key: &str) -> Result<Vec<Cluster>, Error> {
        let mut pages = self
            .client
            .get_resources()
            .resource_type_filters("ecs:cluster")
            .tag_filters(TagFilter::builder().key(key).build())
            .resources_per_page(RESOURCES_PER_PAGE_MAX)
            .into_paginator()
            .send();
        let mut clusters = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| from_sdk("GetResources", key, &error))?;
            for found in page.resource_tag_mapping_list() {
                let arn = found.resource_arn().unwrap_or_default();
                let tags = found.tags().iter().map(|tag| Tag::new(tag.key(), tag.value())).collect();
                match arn.split_once(":cluster/") {
                    Some((_, name)) if !name.is_empty() => {
                        clusters.push(Cluster { name: name.to_owned(), arn: arn.to_owned(), tags })
                    }
                    _ => tracing::warn!(arn, "a cluster was passed over: its ARN names none"),
                }
            }
        }
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(clusters)
    }
}
