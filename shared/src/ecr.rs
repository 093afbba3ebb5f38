//! What we read from ECR: which images a repository has, and which platforms they run on.

use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatusFilter, TagStatus};
use chrono::{DateTime, Utc};

use crate::error::{Error, from_sdk};
use crate::image::EcrRepository;
use crate::manifest::Platforms;

/// Most images that one page of `DescribeImages` holds.
const IMAGES_PER_PAGE_MAX: i32 = 1000;

/// The manifests we can read: an index, or one image, in OCI's and Docker's naming.
const MANIFEST_MEDIA_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// An image in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of its manifest or index.
    pub digest: String,
    /// All its tags.
    pub tags: Vec<String>,
    /// When it was pushed. Belongs to the image, not to the tag: moving a tag to an old image does not change it.
    pub pushed_at: Option<DateTime<Utc>>,
    /// Media type of the manifest, where ECR tells.
    pub manifest_media_type: Option<String>,
    /// Media type of what the manifest describes, where ECR tells. Absent means unknown, as for an index.
    pub artifact_media_type: Option<String>,
}

impl Image {
    fn read(image: &ImageDetail) -> Option<Self> {
        Some(Self {
            digest: image.image_digest()?.to_owned(),
            tags: image.image_tags().to_vec(),
            pushed_at: image.image_pushed_at().and_then(|at| DateTime::from_timestamp(at.secs(), 0)),
            manifest_media_type: image.image_manifest_media_type().map(str::to_owned),
            artifact_media_type: image.artifact_media_type().map(str::to_owned),
        })
    }

    /// Why this is no container image but a Helm chart, a signature or the like; `None` if it is one.
    #[must_use]
    pub fn why_not_an_image(&self) -> Option<String> {
        why_not_an_image(self.artifact_media_type.as_deref())
    }
}

/// Why an artifact of this media type is no container image; `None` if it is one, or if nobody says what it is.
#[must_use]
pub fn why_not_an_image(artifact_media_type: Option<&str>) -> Option<String> {
    match artifact_media_type? {
        "" | "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => None,
        other => Some(format!("the artifact is of the type {other}, not a container image")),
    }
}

/// What came of looking for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This image.
    Image(Image),
    /// There is none.
    Nothing,
    /// There is one, in ECR's archive: it can't be pulled.
    Archived,
    /// The repository does not exist in this account and Region.
    NoRepository,
}

/// A manifest as ECR keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, where ECR tells.
    pub media_type: Option<String>,
    /// The document.
    pub body: String,
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

    /// The image that `tag` points to now.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn image_of_tag(&self, repository: &EcrRepository, tag: &str) -> Result<Found, Error> {
        self.find(repository, &ImageIdentifier::builder().image_tag(tag).build()).await
    }

    /// The image with this digest.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn image_of_digest(&self, repository: &EcrRepository, digest: &str) -> Result<Found, Error> {
        self.find(repository, &ImageIdentifier::builder().image_digest(digest).build()).await
    }

    async fn find(&self, repository: &EcrRepository, id: &ImageIdentifier) -> Result<Found, Error> {
        match self.describe(repository, id, None).await {
            Ok(found) => Ok(found.map_or(Found::Nothing, Found::Image)),
            Err(error) => match error.code() {
                Some("RepositoryNotFoundException") => Ok(Found::NoRepository),
                // ECR shows archived images only when asked for them.
                Some("ImageNotFoundException") => {
                    let archived = self.describe(repository, id, Some(ImageStatusFilter::Archived)).await;
                    Ok(if matches!(archived, Ok(Some(_))) { Found::Archived } else { Found::Nothing })
                }
                _ => Err(error),
            },
        }
    }

    async fn describe(
        &self,
        repository: &EcrRepository,
        id: &ImageIdentifier,
        status: Option<ImageStatusFilter>,
    ) -> Result<Option<Image>, Error> {
        let filter = status.map(|status| DescribeImagesFilter::builder().image_status(status).build());
        let name = match (id.image_tag(), id.image_digest()) {
            (Some(tag), _) => format!("{repository}:{tag}"),
            (None, digest) => format!("{repository}@{}", digest.unwrap_or_default()),
        };
        let answer = self
            .client
            .describe_images()
            .registry_id(&repository.account)
            .repository_name(&repository.name)
            .image_ids(id.clone())
            .set_filter(filter)
            .send()
            .await
            .map_err(|error| from_sdk("DescribeImages", name, &error))?;
        Ok(answer.image_details().iter().find_map(Image::read))
    }

    /// Every tagged image of `repository` that can be pulled; `None` where the repository does not exist. One call for
    /// each thousand images.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn tagged_images(&self, repository: &EcrRepository) -> Result<Option<Vec<Image>>, Error> {
        let mut pages = self
            .client
            .describe_images()
            .registry_id(&repository.account)
            .repository_name(&repository.name)
            .filter(DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build())
            .into_paginator()
            .page_size(IMAGES_PER_PAGE_MAX)
            .send();
        let mut images = Vec::new();
        while let Some(page) = pages.next().await {
            match page.map_err(|error| from_sdk("DescribeImages", repository.to_string(), &error)) {
                Ok(page) => {
                    let active = |image: &&ImageDetail| image.image_status().is_none_or(|s| s.as_str() == "ACTIVE");
                    images.extend(page.image_details().iter().filter(active).filter_map(Image::read));
                }
                Err(error) if error.code() == Some("RepositoryNotFoundException") => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(images))
    }

    /// The platforms of an image, as its manifest names them.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn platforms(&self, repository: &EcrRepository, digest: &str) -> Result<Platforms, Error> {
        Ok(match self.manifest(repository, digest).await? {
            Ok(manifest) => crate::manifest::read(manifest.media_type.as_deref(), &manifest.body),
            Err(why) => Platforms::Unknown(why),
        })
    }

    /// The manifest of an image, or why ECR does not give it.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn manifest(&self, repository: &EcrRepository, digest: &str) -> Result<Result<Manifest, String>, Error> {
        let answer = self
            .client
            .batch_get_image()
            .registry_id(&repository.account)
            .repository_name(&repository.name)
            .image_ids(ImageIdentifier::builder().image_digest(digest).build())
            .set_accepted_media_types(Some(MANIFEST_MEDIA_TYPES.iter().map(|&t| t.to_owned()).collect()))
            .send()
            .await
            .map_err(|error| from_sdk("BatchGetImage", format!("{repository}@{digest}"), &error))?;
        let manifest = answer.images().iter().find_map(|image| {
            let media_type = image.image_manifest_media_type().map(str::to_owned);
            Some(Manifest { media_type, body: image.image_manifest()?.to_owned() })
        });
        Ok(manifest.ok_or_else(|| {
            let why = answer.failures().iter().find_map(|failure| failure.failure_reason());
            why.unwrap_or("ECR did not return the manifest").to_owned()
        }))
    }

    /// Where to fetch a blob of `repository`, such as an image's configuration: an address that is valid for a while.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn layer_url(&self, repository: &EcrRepository, digest: &str) -> Result<String, Error> {
        const OPERATION: &str = "GetDownloadUrlForLayer";
        let resource = format!("{repository}@{digest}");
        let answer = self
            .client
            .get_download_url_for_layer()
            .registry_id(&repository.account)
            .repository_name(&repository.name)
            .layer_digest(digest)
            .send()
            .await
            .map_err(|error| from_sdk(OPERATION, &resource, &error))?;
        answer.download_url.ok_or(Error::Answer { operation: OPERATION, resource, missing: "downloadUrl" })
    }
}
