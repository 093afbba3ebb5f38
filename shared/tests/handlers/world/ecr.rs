//! ECR: repositories, their images, and the tags that point to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::ACCOUNT;
use super::tagging::page;
use super::wire::Refusal;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Ecr {
    /// By name: the images by digest.
    pub(crate) repositories: BTreeMap<String, BTreeMap<String, Image>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) tags: BTreeSet<String>,
    /// In seconds since the epoch.
    pub(crate) pushed_at: u64,
    pub(crate) manifest_media_type: String,
    pub(crate) artifact_media_type: Option<String>,
    pub(crate) archived: bool,
    pub(crate) manifest: String,
}

impl Ecr {
    /// Points `tag` to the image `digest`, which is an index for two platforms unless the repository has it already.
    pub(crate) fn push(&mut self, repository: &str, tag: &str, digest: &str, pushed_at: u64) {
        let images = self.repositories.entry(repository.into()).or_default();
        for image in images.values_mut() {
            image.tags.remove(tag);
        }
        let image = images.entry(digest.into()).or_insert_with(|| Image::index(digest, pushed_at));
        image.tags.insert(tag.into());
    }

    pub(crate) fn untag(&mut self, repository: &str, tag: &str) {
        for image in self.repositories.get_mut(repository).unwrap().values_mut() {
            image.tags.remove(tag);
        }
    }

    pub(crate) fn image_mut(&mut self, repository: &str, digest: &str) -> &mut Image {
        self.repositories.get_mut(repository).unwrap().get_mut(digest).unwrap()
    }

    pub(super) fn describe_images(&self, body: &Value) -> Result<Value, Refusal> {
        let images = self.repository(body)?;
        let status = body["filter"]["imageStatus"].as_str().unwrap_or("ACTIVE");
        let seen: Vec<&Image> = images.values().filter(|image| ["ANY", image.status()].contains(&status)).collect();
        let Some(ids) = body["imageIds"].as_array() else { return listed(&seen, body) };
        if ids.len() > 100 || body.get("maxResults").is_some() || body.get("nextToken").is_some() {
            return Err(("InvalidParameterException", Value::Null));
        }
        let image = |id: &Value| seen.iter().find(|image| image.has_id(id)).map(|image| image.detail(body));
        let details: Option<Vec<Value>> = ids.iter().map(image).collect();
        Ok(json!({"imageDetails": details.ok_or(("ImageNotFoundException", Value::Null))?}))
    }

    pub(super) fn batch_get_image(&self, body: &Value) -> Result<Value, Refusal> {
        let stored = self.repository(body)?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for id in body["imageIds"].as_array().unwrap() {
            match stored.values().find(|image| image.has_id(id)) {
                Some(image) if !image.archived => images.push(image.manifest(id, body)),
                Some(_) => failures.push(failure(id, "ImageInaccessible")),
                None => failures.push(failure(id, "ImageNotFound")),
            }
        }
        match images.len() + failures.len() {
            1..=100 => Ok(json!({"images": images, "failures": failures})),
            _ => Err(("InvalidParameterException", Value::Null)),
        }
    }

    fn repository(&self, body: &Value) -> Result<&BTreeMap<String, Image>, Refusal> {
        let ours = body.get("registryId").is_none_or(|registry| registry == ACCOUNT);
        let found = self.repositories.get(body["repositoryName"].as_str().unwrap()).filter(|_| ours);
        found.ok_or(("RepositoryNotFoundException", Value::Null))
    }
}

impl Image {
    fn index(digest: &str, pushed_at: u64) -> Self {
        let child = |number: u8, architecture: &str, os: &str| {
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1024,
                "digest": format!("sha256:{}", format!("{number:02x}").repeat(32)),
                "platform": {"architecture": architecture, "os": os},
            })
        };
        let mut attestation = child(0xa7, "unknown", "unknown");
        attestation["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": format!("sha256:{}", "01".repeat(32)),
        });
        let manifests = [child(1, "amd64", "linux"), child(2, "arm64", "linux"), attestation];
        Self {
            digest: digest.into(),
            tags: BTreeSet::new(),
            pushed_at,
            manifest_media_type: OCI_INDEX.into(),
            artifact_media_type: None,
            archived: false,
            manifest: json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string(),
        }
    }

    fn status(&self) -> &'static str {
        if self.archived { "ARCHIVED" } else { "ACTIVE" }
    }

    fn has_id(&self, id: &Value) -> bool {
        let (digest, tag) = (id["imageDigest"].as_str(), id["imageTag"].as_str());
        assert!(digest.or(tag).is_some(), "an image without digest and tag in {id}");
        digest.is_none_or(|digest| self.digest == digest) && tag.is_none_or(|tag| self.tags.contains(tag))
    }

    fn detail(&self, body: &Value) -> Value {
        let mut detail = json!({
            "registryId": ACCOUNT, "repositoryName": body["repositoryName"], "imageDigest": self.digest,
            "imagePushedAt": self.pushed_at, "imageManifestMediaType": self.manifest_media_type,
            "imageStatus": self.status(),
        });
        if !self.tags.is_empty() {
            detail["imageTags"] = json!(self.tags);
        }
        if let Some(media_type) = &self.artifact_media_type {
            detail["artifactMediaType"] = json!(media_type);
        }
        detail
    }

    fn manifest(&self, id: &Value, body: &Value) -> Value {
        let mut id = id.clone();
        id["imageDigest"] = json!(self.digest);
        json!({
            "registryId": ACCOUNT, "repositoryName": body["repositoryName"], "imageId": id,
            "imageManifest": self.manifest, "imageManifestMediaType": self.manifest_media_type,
        })
    }
}

fn listed(images: &[&Image], body: &Value) -> Result<Value, Refusal> {
    let tagged = |image: &Image| match body["filter"]["tagStatus"].as_str() {
        Some("TAGGED") => !image.tags.is_empty(),
        Some("UNTAGGED") => image.tags.is_empty(),
        _ => true,
    };
    let details = images.iter().filter(|image| tagged(image)).map(|image| image.detail(body)).collect();
    let (details, token) = page(details, &body["maxResults"], (100, 1000), &body["nextToken"])?;
    Ok(json!({"imageDetails": details, "nextToken": token}))
}

fn failure(id: &Value, code: &str) -> Value {
    json!({"imageId": id, "failureCode": code, "failureReason": "as AWS would say"})
}
