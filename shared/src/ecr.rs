//! What we read from ECR: which image a tag points to now.

use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::ImageIdentifier;
use chrono::{DateTime, Utc};

use crate::error::{Error, from_sdk};
use crate::image::EcrRepository;

/// An image in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of its manifest or index.
    pub digest: String,
    /// When it was pushed. Belongs to the image, not to the tag: moving a tag to an old image does not change it.
    pub pushed_at: Option<DateTime<Utc>>,
}

/// ECR's API.
#[derive(Debug, Clone)]
pub struct Ecr {
    client: Client,
}

impl Ecr {
    /// ECR through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The image that `tag` points to now; `None` where tag or repository are gone.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn image_of_tag(&self, repository: &EcrRepository, tag: &str) -> Result<Option<Image>, Error> {
        let resource = || format!("{repository}:{tag}");
        let answer = self
            .client
            .describe_images()
            .registry_id(&repository.account)
            .repository_name(&repository.name)
            .image_ids(ImageIdentifier::builder().image_tag(tag).build())
            .send()
            .await
            .map_err(|error| from_sdk("DescribeImages", resource(), &error));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => match error.code() {
                Some("ImageNotFoundException" | "RepositoryNotFoundException") => return Ok(None),
                _ => return Err(error),
            },
        };
        Ok(answer.image_details().iter().find_map(|image| {
            Some(Image {
                digest: image.image_digest()?.to_owned(),
                pushed_at: image.image_pushed_at().and_then(|at| DateTime::from_timestamp(at.secs(), 0)),
            })
        }))
    }
}
