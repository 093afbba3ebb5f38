//! ECR: repositories, their images, and the tags that point to them.

mod images;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ACCOUNT;
use super::tagging::page;
use super::wire::Refusal;

pub use self::images::{Image, digest_of, sha256};

/// Where blobs are.
const LAYERS: &str = "https://layers.example/";
/// What a URL of a blob is signed with: who has it needs nothing else.
const SIGNATURE: &str = "signed-by-ecr";

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Ecr {
    /// By name: the images by digest.
    pub repositories: BTreeMap<String, BTreeMap<String, Image>>,
}

impl Ecr {
    /// Points `tag` to the image `digest`, which is an index for two platforms unless the repository has it already.
    pub fn push(&mut self, repository: &str, tag: &str, digest: &str, pushed_at: u64) {
        let images = self.repositories.entry(repository.into()).or_default();
        for image in images.values_mut() {
            image.tags.remove(tag);
        }
        let image = images.entry(digest.into()).or_insert_with(|| Image::index(digest, pushed_at));
        image.tags.insert(tag.into());
    }

    pub fn untag(&mut self, repository: &str, tag: &str) {
        for image in self.repositories.get_mut(repository).unwrap().values_mut() {
            image.tags.remove(tag);
        }
    }

    pub fn image_mut(&mut self, repository: &str, digest: &str) -> &mut Image {
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
            match stored.values().find_map(|image| Some((image, image.manifest_of(id)?))) {
                Some((image, _)) if image.archived => failures.push(failure(id, "ImageInaccessible")),
                Some((_, (digest, media_type, manifest))) => {
                    let id = json!({"imageDigest": digest, "imageTag": id["imageTag"]});
                    images.push(json!({
                        "registryId": ACCOUNT, "repositoryName": body["repositoryName"], "imageId": id,
                        "imageManifest": manifest, "imageManifestMediaType": media_type,
                    }));
                }
                None => failures.push(failure(id, "ImageNotFound")),
            }
        }
        match images.len() + failures.len() {
            1..=100 => Ok(json!({"images": images, "failures": failures})),
            _ => Err(("InvalidParameterException", Value::Null)),
        }
    }

    pub(super) fn get_download_url_for_layer(&self, body: &Value) -> Result<Value, Refusal> {
        let digest = body["layerDigest"].as_str().unwrap();
        match self.repository(body)?.values().any(|image| image.blobs.contains_key(digest)) {
            true => {
                let repository = body["repositoryName"].as_str().unwrap();
                let url = format!("{LAYERS}{repository}/{digest}?X-Amz-Expires=3600&X-Amz-Signature={SIGNATURE}");
                Ok(json!({"downloadUrl": url, "layerDigest": digest}))
            }
            false => Err(("LayersNotFoundException", Value::Null)),
        }
    }

    /// What is at a URL that [`get_download_url_for_layer`](Self::get_download_url_for_layer) gave.
    pub(super) fn blob(&self, url: &str, authorization: Option<&str>) -> Result<Value, Refusal> {
        // As S3 does.
        if authorization.is_some() {
            return Err(("InvalidArgument", json!({"message": "Only one auth mechanism allowed"})));
        }
        let (path, query) = url.strip_prefix(LAYERS).unwrap().split_once('?').unwrap_or_default();
        if !query.ends_with(SIGNATURE) {
            return Err(("SignatureDoesNotMatch", Value::Null));
        }
        let (repository, digest) = path.rsplit_once('/').unwrap();
        let mut images = self.repositories.get(repository).into_iter().flat_map(BTreeMap::values);
        let blob = images.find_map(|image| image.blobs.get(digest)).ok_or(("NoSuchKey", Value::Null))?;
        Ok(json!(blob))
    }

    fn repository(&self, body: &Value) -> Result<&BTreeMap<String, Image>, Refusal> {
        let ours = body.get("registryId").is_none_or(|registry| registry == ACCOUNT);
        let found = self.repositories.get(body["repositoryName"].as_str().unwrap()).filter(|_| ours);
        found.ok_or(("RepositoryNotFoundException", Value::Null))
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
