//! From a manifest to the configuration of an image: two documents, and no layer.
//!
//! An index names a child for each platform; an image's manifest names its configuration. Both may have
//! [annotations](https://github.com/opencontainers/image-spec/blob/main/annotations.md).

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{CONFIG_BYTES_MAX, Provenance};
use crate::manifest::{Platform, is_attestation, platform_of};

/// A manifest, as far as it leads to an image's provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// An [image index](https://github.com/opencontainers/image-spec/blob/main/image-index.md), or Docker's manifest
    /// list.
    Index {
        /// Its images, in its order, without the statements about them.
        children: Vec<Child>,
        /// What its annotations say.
        annotations: Provenance,
    },
    /// The [manifest](https://github.com/opencontainers/image-spec/blob/main/manifest.md) of one image.
    Image {
        /// Digest of the configuration; `None` where there is none that we would fetch.
        config: Option<String>,
        /// What its annotations say.
        annotations: Provenance,
    },
}

/// An image that an index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Digest of its manifest.
    pub digest: String,
    /// What it runs on, where the index says so.
    pub platform: Option<Platform>,
}

/// Reads the body of a manifest, of OCI or of Docker. What it is shows in its fields; media types differ, and some
/// builders leave them out. `None` where it is neither an index nor the manifest of an image.
#[must_use]
pub fn read_manifest(body: &str) -> Option<Manifest> {
    let manifest: Value = serde_json::from_str(body).ok()?;
    let annotations = manifest.get("annotations").and_then(Value::as_object).map(Provenance::of_labels);
    let annotations = annotations.unwrap_or_default();
    if let Some(children) = manifest.get("manifests").and_then(Value::as_array) {
        let children = children.iter().filter(|child| !is_attestation(child)).filter_map(child).collect();
        return Some(Manifest::Index { children, annotations });
    }
    let config = manifest.get("config").filter(|config| config.is_object())?;
    let is_small = config.get("size").and_then(Value::as_u64).is_none_or(|size| size <= CONFIG_BYTES_MAX);
    Some(Manifest::Image { config: digest_of(config).filter(|_| is_small), annotations })
}

fn child(descriptor: &Value) -> Option<Child> {
    Some(Child { digest: digest_of(descriptor)?, platform: platform_of(descriptor) })
}

/// The digest of a descriptor, if we can hold a blob against it.
fn digest_of(descriptor: &Value) -> Option<String> {
    let digest = descriptor.get("digest").and_then(Value::as_str)?;
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| digest.to_owned())
}

impl Manifest {
    /// Digest of the image for this platform, or else of the first: images that were built together come of one
    /// commit. The child may be an index again; how deep to follow is the caller's to bound.
    #[must_use]
    pub fn child_for(&self, wanted: Option<&Platform>) -> Option<&str> {
        let Self::Index { children, .. } = self else {
            return None;
        };
        let fits = |child: &&Child| wanted.is_some() && child.platform.as_ref() == wanted;
        children.iter().find(fits).or(children.first()).map(|child| child.digest.as_str())
    }

    /// Digest of the image's configuration; `None` for an index.
    #[must_use]
    pub fn config_digest(&self) -> Option<&str> {
        match self {
            Self::Index { .. } => None,
            Self::Image { config, .. } => config.as_deref(),
        }
    }

    /// What its annotations say.
    #[must_use]
    pub fn annotations(&self) -> &Provenance {
        match self {
            Self::Index { annotations, .. } | Self::Image { annotations, .. } => annotations,
        }
    }
}

/// Whether `body` is the blob that `digest` names. Of the
/// [algorithms](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests), ECR has sha256 only.
#[must_use]
pub fn matches_digest(digest: &str, body: &[u8]) -> bool {
    let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    digest.strip_prefix("sha256:") == Some(hash.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn digest(character: char) -> String {
        format!("sha256:{}", character.to_string().repeat(64))
    }

    fn platform(os: &str, architecture: &str) -> Platform {
        Platform { os: os.into(), architecture: architecture.into() }
    }

    fn read(manifest: &Value) -> Manifest {
        read_manifest(&manifest.to_string()).unwrap()
    }

    /// What `docker buildx build --platform linux/amd64,linux/arm64 --annotation index:…` pushes. Provenance
    /// attestations are its default.
    fn buildx_index() -> Value {
        let attestation = |itself: char, about: char| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(itself), "size": 840,
                   "annotations": {"vnd.docker.reference.digest": digest(about),
                                   "vnd.docker.reference.type": "attestation-manifest"},
                   "platform": {"architecture": "unknown", "os": "unknown"}})
        };
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                attestation('c', 'a'),
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest('a'), "size": 1248,
                 "platform": {"architecture": "amd64", "os": "linux"}},
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest('b'), "size": 1248,
                 "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
                attestation('d', 'b'),
            ],
            "annotations": {
                "org.opencontainers.image.created": "2026-11-16T09:52:10.482Z",
                "org.opencontainers.image.revision": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d",
                "org.opencontainers.image.source": "https://github.com/tides/web",
                "org.opencontainers.image.version": "master"
            }
        })
    }

    /// What kaniko pushes: one manifest in Docker's format, without annotations.
    fn kaniko_manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2316,
                       "digest": digest('e')},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 3_623_807,
                        "digest": digest('f')}]
        })
    }

    #[test]
    fn the_samples_are_what_the_specification_says() {
        let index = buildx_index().to_string();
        oci_spec::image::ImageIndex::from_reader(index.as_bytes()).unwrap();
        oci_spec::image::ImageManifest::from_reader(kaniko_manifest().to_string().as_bytes()).unwrap();
    }

    #[test]
    fn an_index_leads_to_the_image_of_the_platform_and_never_to_an_attestation() {
        let index = read(&buildx_index());
        assert_eq!(index.child_for(Some(&platform("linux", "arm64"))), Some(digest('b').as_str()));
        assert_eq!(index.child_for(Some(&platform("linux", "amd64"))), Some(digest('a').as_str()));
        assert_eq!(index.child_for(Some(&platform("linux", "s390x"))), Some(digest('a').as_str()), "the first");
        assert_eq!(index.child_for(None), Some(digest('a').as_str()), "the first");
        assert_eq!(index.config_digest(), None);
    }

    #[test]
    fn annotations_are_read_like_labels() {
        let index = read(&buildx_index());
        assert_eq!(index.annotations().source.as_deref(), Some("https://github.com/tides/web"));
        let mut manifest = kaniko_manifest();
        assert!(read(&manifest).annotations().is_empty());
        manifest["annotations"] = json!({"org.opencontainers.image.version": "v1.2.0", "tides.example": 3});
        assert_eq!(read(&manifest).annotations().version.as_deref(), Some("v1.2.0"));
    }

    #[test]
    fn a_manifest_leads_to_its_configuration() {
        let manifest = read(&kaniko_manifest());
        assert_eq!(manifest.config_digest(), Some(digest('e').as_str()));
        assert_eq!(manifest.child_for(None), None);
    }

    #[test]
    fn a_docker_manifest_list_needs_neither_media_type_nor_platforms() {
        let list = read(&json!({"schemaVersion": 2, "manifests": [{"digest": digest('a')}, {"digest": digest('b')}]}));
        assert_eq!(list.child_for(Some(&platform("linux", "arm64"))), Some(digest('a').as_str()));
    }

    #[test]
    fn what_could_not_be_fetched_or_verified_is_not_led_to() {
        let mut manifest = kaniko_manifest();
        for (size, wrong) in [
            (json!(CONFIG_BYTES_MAX + 1), digest('e')),
            (json!(2), String::new()),
            (json!(2), "sha256:00".to_owned()),
            (json!(2), digest('E')),
            (json!(2), digest('e').replace("256", "512")),
            (json!(2), format!("{}/../x", digest('e'))),
        ] {
            manifest["config"] = json!({"size": size, "digest": wrong});
            assert_eq!(read(&manifest).config_digest(), None, "{wrong}");
            assert_eq!(read(&json!({"manifests": [{"digest": "sha256:00"}]})).child_for(None), None);
        }
    }

    #[test]
    fn neither_an_index_nor_an_image_is_none() {
        let schema_1 = json!({"schemaVersion": 1, "history": [{"v1Compatibility": "{}"}]}).to_string();
        let deep = "[".repeat(5000);
        for body in ["", "<html>", "[]", "{}", "null", r#"{"manifests": {}}"#, r#"{"config": "x"}"#, &schema_1, &deep] {
            assert_eq!(read_manifest(body), None, "{body}");
        }
    }

    #[test]
    fn a_blob_is_held_against_its_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(matches_digest(empty, b""));
        assert!(!matches_digest(empty, b"{}"));
        for wrong in ["", "sha256:", "sha512:e3b0", empty.strip_prefix("sha256:").unwrap(), &empty.to_uppercase()] {
            assert!(!matches_digest(wrong, b""), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(body in "\\PC{0,60}", digest in "(sha256:)?\\PC{0,70}") {
            let _ignored = read_manifest(&body);
            let _ignored = matches_digest(&digest, body.as_bytes());
        }

        #[test]
        fn the_child_that_is_taken_is_an_image(kinds in proptest::collection::vec(0..4_u8, 0..6)) {
            let descriptors: Vec<Value> = kinds.iter().zip('0'..).map(|(kind, character)| {
                let mut child = json!({"digest": digest(character)});
                match kind {
                    0 => child["platform"] = json!({"os": "linux", "architecture": "arm64"}),
                    1 => child["platform"] = json!({"os": "unknown", "architecture": "unknown"}),
                    2 => child["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"}),
                    _ => {}
                }
                child
            }).collect();
            let index = read(&json!({"manifests": descriptors}));
            let is_image = |kind: &u8| matches!(kind, 0 | 3);
            let expected = kinds.iter().position(|kind| *kind == 0).or(kinds.iter().position(is_image));
            let taken = index.child_for(Some(&platform("linux", "arm64")));
            prop_assert_eq!(taken, expected.and_then(|at| descriptors[at]["digest"].as_str()));
        }
    }
}
