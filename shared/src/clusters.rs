//! Which clusters are to be scaled.

use aws_sdk_resourcegroupstagging::Client;

use crate::error::Error;
use crate::followers::tagged;
use crate::tags::Tag;

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
        let mut clusters = Vec::new();
        for (arn, tags) in tagged(&self.client, "ecs:cluster", Some(key.to_owned()), key).await? {
            match arn.split_once(":cluster/").map(|(_, name)| name.to_owned()).filter(|name| !name.is_empty()) {
                Some(name) => clusters.push(Cluster { name, arn, tags }),
                None => tracing::warn!(arn, "a cluster was passed over: its ARN names none"),
            }
        }
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(clusters)
    }
}
