//! Images: what their manifests and config blobs say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::ACCOUNT;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image. Its digest is the name that a test gives it; the digests of all that it consists of are true.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub digest: String,
    pub tags: BTreeSet<String>,
    /// In seconds since the epoch.
    pub pushed_at: u64,
    pub manifest_media_type: String,
    pub artifact_media_type: Option<String>,
    pub archived: bool,
    pub manifest: String,
    /// The manifests of an index's platforms, by digest. `DescribeImages` does not show them.
    pub children: BTreeMap<String, String>,
    /// Config blobs by digest.
    pub blobs: BTreeMap<String, String>,
}

/// What tests set up.
impl Image {
    /// An index for two platforms, with an attestation as `docker buildx` adds it. It says nothing of where it is from.
    pub(super) fn index(digest: &str, pushed_at: u64) -> Self {
        let mut image = Self {
            digest: digest.into(),
            tags: BTreeSet::new(),
            pushed_at,
            manifest_media_type: String::new(),
            artifact_media_type: None,
            archived: false,
            manifest: String::new(),
            children: BTreeMap::new(),
            blobs: BTreeMap::new(),
        };
        image.be_index(&[], &[]);
        image
    }

    /// Makes it such an index: each platform's config blob has the labels, and the index has the annotations.
    pub fn be_index(&mut self, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
        self.children.clear();
        self.blobs.clear();
        let mut manifests: Vec<Value> = Vec::new();
        for (os, architecture) in [("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown")] {
            let is_attestation = os == "unknown";
            let manifest = self.add_manifest(os, architecture, if is_attestation { &[] } else { labels }, &[]);
            let mut child = json!({
                "mediaType": OCI_MANIFEST, "size": manifest.len(), "digest": digest_of(&manifest),
                "platform": {"architecture": architecture, "os": os},
            });
            if is_attestation {
                child["annotations"] = json!({
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": manifests[0]["digest"],
                });
            }
            self.children.insert(digest_of(&manifest), manifest);
            manifests.push(child);
        }
        self.manifest_media_type = OCI_INDEX.into();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        self.manifest = annotated(index, annotations).to_string();
    }

    /// Makes it a single image for `linux/amd64`: its config blob has the labels, and its manifest has the annotations.
    pub fn be_single(&mut self, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
        self.children.clear();
        self.blobs.clear();
        self.manifest_media_type = OCI_MANIFEST.into();
        self.manifest = self.add_manifest("linux", "amd64", labels, annotations);
    }

    /// A manifest; its config blob is put with the others.
    fn add_manifest(
        &mut self,
        os: &str,
        architecture: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> String {
        let mut config = json!({
            "architecture": architecture, "os": os, "created": "2026-11-16T08:55:00Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/app"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "d1".repeat(32))]},
        });
        if !labels.is_empty() {
            config["config"]["Labels"] = labels.iter().copied().collect();
        }
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_of(&config), "size": config.len()},
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 1024,
                "digest": format!("sha256:{}", "1a".repeat(32)),
            }],
        });
        self.blobs.insert(digest_of(&config), config);
        annotated(manifest, annotations).to_string()
    }
}

/// For the API.
impl Image {
    /// Digest, media type and text of the manifest that `id` names: the image's own, or that of one of its platforms.
    pub(super) fn manifest_of(&self, id: &Value) -> Option<(&str, &str, &str)> {
        if self.has_id(id) {
            return Some((&self.digest, &self.manifest_media_type, &self.manifest));
        }
        let child = self.children.get_key_value(id["imageDigest"].as_str()?).filter(|_| id["imageTag"].is_null());
        child.map(|(digest, manifest)| (digest.as_str(), OCI_MANIFEST, manifest.as_str()))
    }

    pub(super) fn status(&self) -> &'static str {
        if self.archived { "ARCHIVED" } else { "ACTIVE" }
    }

    pub(super) fn has_id(&self, id: &Value) -> bool {
        let (digest, tag) = (id["imageDigest"].as_str(), id["imageTag"].as_str());
        assert!(digest.or(tag).is_some(), "an image without digest and tag in {id}");
        digest.is_none_or(|digest| self.digest == digest) && tag.is_none_or(|tag| self.tags.contains(tag))
    }

    pub(super) fn detail(&self, body: &Value) -> Value {
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
}

fn annotated(mut manifest: Value, annotations: &[(&str, &str)]) -> Value {
    if !annotations.is_empty() {
        manifest["annotations"] = annotations.iter().copied().collect();
    }
    manifest
}

pub fn digest_of(text: &str) -> String {
    format!("sha256:{}", sha256(text))
}

/// In hexadecimal digits.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
