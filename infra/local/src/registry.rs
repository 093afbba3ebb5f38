//! Builds real OCI images and pushes them over HTTP, as `docker buildx build --push` does.
//!
//! An image is an index with a manifest for linux/amd64, one for linux/arm64 and an attestation, each with its own
//! configuration and layer. What becomes of a task that runs it is written in a label of the configuration, where the
//! [engine](crate::engine) reads it: the image decides, not the test that deploys it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::{Method, StatusCode};
use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_REVISION, ANNOTATION_SOURCE, ANNOTATION_VERSION, Arch, ConfigBuilder, Descriptor,
    Digest, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder,
    RootFsBuilder, Sha256Digest,
};
use sha2::{Digest as _, Sha256};

use crate::aws::{ACCOUNT, Aws, REGION};

/// The label that says what becomes of a task that runs the image.
pub const BEHAVIOUR: &str = "tidegate.local/behaviour";

/// What becomes of a task that runs an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// It runs until it is stopped.
    #[default]
    Healthy,
    /// It exits soon after its start, and says why in its log.
    Crash,
    /// It is killed soon after its start, because it needs more memory than it may have.
    OutOfMemory,
    /// Its image cannot be pulled.
    NeverPulls,
    /// Its image takes [`SLOW_PULL`] to pull; then it runs.
    Slow,
    /// The pull of its image does not come to an end.
    Stuck,
}

/// How long the pull of a slow image takes.
pub const SLOW_PULL: Duration = Duration::from_secs(2);
/// How long the pull of an image takes that is stuck: longer than anybody waits.
pub const STUCK_PULL: Duration = Duration::from_secs(600);

impl Behaviour {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Crash => "crash",
            Self::OutOfMemory => "out-of-memory",
            Self::NeverPulls => "never-pulls",
            Self::Slow => "slow",
            Self::Stuck => "stuck",
        }
    }

    /// The behaviour that a label asks for: healthy when it says nothing known.
    pub fn from_label(label: &str) -> Self {
        let unhealthy = [Self::Crash, Self::OutOfMemory, Self::NeverPulls, Self::Slow, Self::Stuck];
        unhealthy.into_iter().find(|behaviour| behaviour.label() == label).unwrap_or_default()
    }
}

/// The secret that a crashing image gives away in its log, in more than one way. It must never be told any further.
pub const LEAKED_SECRET: &str = "k1ttiwake-Under-the-pier-42";

/// The last lines in the log of an image that crashes.
pub fn crash_log() -> Vec<String> {
    vec![
        "starting with LOG_LEVEL=info".to_owned(),
        format!("DATABASE_PASSWORD={LEAKED_SECRET}"),
        format!("connecting to postgres://tides:{LEAKED_SECRET}@db.tides.internal:5432/tides"),
        format!("GET https://api.example.com/v1/tides -> 401, sent Authorization: Bearer {LEAKED_SECRET}"),
        r#"{"level":"error","message":"no tide tables: relation \"tides\" does not exist"}"#.to_owned(),
        "thread 'main' panicked at src/main.rs:42:10: the schema is 7, and this version needs 8".to_owned(),
    ]
}

/// A digest as people quote it.
pub fn short(digest: &str) -> &str {
    digest.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(digest)
}

/// The registry's host name, as it stands in image references.
pub fn host() -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com")
}

/// An image, built and ready to push.
#[derive(Debug, Clone)]
pub struct Image {
    blobs: Vec<Vec<u8>>,
    /// The manifests that get no tag.
    children: Vec<Vec<u8>>,
    /// The manifest that gets the tag.
    top: Vec<u8>,
    kind: MediaType,
}

/// Where an image says that it comes from, as labels of its configuration or as annotations of its index.
fn origin(source: &str, version: &str, revision: &str) -> HashMap<String, String> {
    HashMap::from([
        (ANNOTATION_CREATED.to_owned(), CREATED.to_owned()),
        (ANNOTATION_REVISION.to_owned(), revision.to_owned()),
        (ANNOTATION_SOURCE.to_owned(), source.to_owned()),
        (ANNOTATION_VERSION.to_owned(), version.to_owned()),
    ])
}

/// When every image was built.
const CREATED: &str = "2026-11-02T09:14:07Z";

impl Image {
    /// Builds an image of `version` from the commit `revision` of `source`, for both architectures. Its labels say so.
    pub fn build(source: &str, version: &str, revision: &str, behaviour: Behaviour) -> Result<Self> {
        Self::build_for(&[Arch::Amd64, Arch::ARM64], source, version, revision, behaviour)
    }

    /// As [`Self::build`], for these architectures.
    pub fn build_for(
        architectures: &[Arch],
        source: &str,
        version: &str,
        revision: &str,
        behaviour: Behaviour,
    ) -> Result<Self> {
        let mut labels = origin(source, version, revision);
        labels.insert(BEHAVIOUR.to_owned(), behaviour.label().to_owned());
        Self::assemble(architectures, &labels, None)
    }

    /// As [`Self::build`], but healthy, and where it comes from is said in annotations of the index alone.
    pub fn annotated(source: &str, version: &str, revision: &str) -> Result<Self> {
        let annotations = Some(origin(source, version, revision));
        Self::assemble(&[Arch::Amd64, Arch::ARM64], &HashMap::new(), annotations)
    }

    /// As [`Self::build`], but for this machine's architecture alone and without an index, as `docker build` makes it:
    /// the tag is on the manifest itself.
    pub fn single(source: &str, version: &str, revision: &str, behaviour: Behaviour) -> Result<Self> {
        let mut labels = origin(source, version, revision);
        labels.insert(BEHAVIOUR.to_owned(), behaviour.label().to_owned());
        let mut image = Self::empty(MediaType::ImageManifest);
        image.add_platform(Arch::default(), &labels)?;
        image.top = image.children.pop().context("an image without a manifest")?;
        Ok(image)
    }

    fn empty(kind: MediaType) -> Self {
        Self { blobs: Vec::new(), children: Vec::new(), top: Vec::new(), kind }
    }

    fn assemble(
        architectures: &[Arch],
        labels: &HashMap<String, String>,
        annotations: Option<HashMap<String, String>>,
    ) -> Result<Self> {
        let mut image = Self::empty(MediaType::ImageIndex);
        let mut manifests = Vec::new();
        for architecture in architectures {
            manifests.push(image.add_platform(architecture.clone(), labels)?);
        }
        let first = manifests.first().context("an image for no architecture")?;
        manifests.push(image.add_attestation(first)?);
        let mut index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()?;
        index.set_annotations(annotations);
        image.top = index.to_string()?.into_bytes();
        Ok(image)
    }

    /// The digest that a tag of this image points to: the index's, where it has one.
    pub fn digest(&self) -> String {
        digest_of(&self.top)
    }

    fn add_platform(&mut self, architecture: Arch, labels: &HashMap<String, String>) -> Result<Descriptor> {
        let layer = self.add_blob(MediaType::ImageLayer, empty_tar())?;
        let configuration = ImageConfigurationBuilder::default()
            .created(CREATED)
            .architecture(architecture.clone())
            .os(Os::Linux)
            .config(ConfigBuilder::default().cmd(["/app".to_owned()]).labels(labels.clone()).build()?)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids([layer.digest().to_string()]).build()?)
            .build()?;
        let configuration = self.add_blob(MediaType::ImageConfig, configuration.to_string()?.into_bytes())?;
        self.add_manifest(configuration, layer, architecture, Os::Linux)
    }

    /// What buildx adds: a manifest that is no image, with in-toto statements as its layers.
    fn add_attestation(&mut self, subject: &Descriptor) -> Result<Descriptor> {
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v1","subject":[{{"digest":"{}"}}]}}"#,
            subject.digest()
        );
        let layer =
            self.add_blob(MediaType::Other("application/vnd.in-toto+json".to_owned()), statement.into_bytes())?;
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids([layer.digest().to_string()]).build()?;
        let unknown = Arch::Other("unknown".to_owned());
        let configuration = ImageConfigurationBuilder::default()
            .architecture(unknown.clone())
            .os(Os::Other("unknown".to_owned()))
            .rootfs(rootfs)
            .build()?;
        let configuration = self.add_blob(MediaType::ImageConfig, configuration.to_string()?.into_bytes())?;
        let mut descriptor = self.add_manifest(configuration, layer, unknown, Os::Other("unknown".to_owned()))?;
        descriptor.set_annotations(Some(HashMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), subject.digest().to_string()),
        ])));
        Ok(descriptor)
    }

    fn add_manifest(&mut self, config: Descriptor, layer: Descriptor, arch: Arch, os: Os) -> Result<Descriptor> {
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers([layer])
            .build()?
            .to_string()?
            .into_bytes();
        let mut descriptor = descriptor_of(MediaType::ImageManifest, &manifest)?;
        descriptor.set_platform(Some(PlatformBuilder::default().architecture(arch).os(os).build()?));
        self.children.push(manifest);
        Ok(descriptor)
    }

    fn add_blob(&mut self, media_type: MediaType, content: Vec<u8>) -> Result<Descriptor> {
        let descriptor = descriptor_of(media_type, &content)?;
        self.blobs.push(content);
        Ok(descriptor)
    }
}

/// Pushes an image under a tag: blobs first, then the manifests without a tag, then the index with it. Returns the
/// index's digest, or that of the only manifest.
pub async fn push(aws: &Aws, repository: &str, tag: &str, image: &Image) -> Result<String> {
    push_children(aws, repository, image).await?;
    put_manifest(aws, repository, tag, &image.kind, &image.top).await
}

/// Pushes an image without any tag. Returns the index's digest.
pub async fn push_untagged(aws: &Aws, repository: &str, image: &Image) -> Result<String> {
    push_children(aws, repository, image).await?;
    put_manifest(aws, repository, &image.digest(), &image.kind, &image.top).await
}

async fn push_children(aws: &Aws, repository: &str, image: &Image) -> Result<()> {
    for blob in &image.blobs {
        push_blob(aws, repository, blob).await?;
    }
    for manifest in &image.children {
        put_manifest(aws, repository, &digest_of(manifest), &MediaType::ImageManifest, manifest).await?;
    }
    Ok(())
}

async fn push_blob(aws: &Aws, repository: &str, blob: &[u8]) -> Result<()> {
    let base = format!("{}/v2/{repository}/blobs", aws.endpoint());
    let digest = digest_of(blob);
    if aws.http.send(Method::HEAD, &format!("{base}/{digest}"), &[], "").await?.status == StatusCode::OK {
        return Ok(());
    }
    let upload = aws.http.send(Method::POST, &format!("{base}/uploads/"), &[], "").await?;
    if upload.status == StatusCode::NOT_FOUND {
        bail!("the repository {repository} does not exist: create it before pushing to it");
    }
    let location =
        upload.headers.get("location").and_then(|l| l.to_str().ok()).context("an upload without location")?;
    let url = format!("{}{location}?digest={digest}", aws.endpoint());
    let headers = [("content-type", "application/octet-stream")];
    let done = aws.http.send(Method::PUT, &url, &headers, blob.to_vec()).await?;
    ensure!(done.status == StatusCode::CREATED, "the blob {digest} was refused: {}", done.text());
    Ok(())
}

async fn put_manifest(aws: &Aws, repository: &str, reference: &str, kind: &MediaType, body: &[u8]) -> Result<String> {
    let url = format!("{}/v2/{repository}/manifests/{reference}", aws.endpoint());
    let headers = [("content-type", kind.as_ref())];
    let done = aws.http.send(Method::PUT, &url, &headers, body.to_vec()).await?;
    ensure!(done.status == StatusCode::CREATED, "the manifest {repository}:{reference} was refused: {}", done.text());
    Ok(digest_of(body))
}

/// The behaviour of the image at `reference` (a tag or a digest), or `None` when there is no such image. `slow` to
/// fail: a registry that does not answer is an error, not a missing image.
pub async fn behaviour(aws: &Aws, repository: &str, reference: &str) -> Result<Option<Behaviour>> {
    let Some(mut manifest) = get(aws, &format!("{repository}/manifests/{reference}")).await? else {
        return Ok(None);
    };
    if let Some(children) = manifest.get("manifests").and_then(|m| m.as_array()) {
        // As the engine on any machine does: the child for this machine.
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let child = children.iter().find(|c| {
            c.pointer("/platform/os").is_some_and(|os| os == "linux")
                && c.pointer("/platform/architecture").is_some_and(|a| a == architecture)
        });
        let Some(digest) = child.and_then(|c| c.get("digest")).and_then(|d| d.as_str()) else {
            return Ok(None);
        };
        let Some(child) = get(aws, &format!("{repository}/manifests/{digest}")).await? else {
            return Ok(None);
        };
        manifest = child;
    }
    let Some(digest) = manifest.pointer("/config/digest").and_then(|d| d.as_str()) else {
        return Ok(None);
    };
    let Some(configuration) = get(aws, &format!("{repository}/blobs/{digest}")).await? else {
        return Ok(None);
    };
    let label = configuration.get("config").and_then(|c| c.get("Labels")).and_then(|l| l.get(BEHAVIOUR));
    Ok(Some(label.and_then(|l| l.as_str()).map(Behaviour::from_label).unwrap_or_default()))
}

/// The digest that a tag points to, if the image exists.
pub async fn resolve(aws: &Aws, repository: &str, reference: &str) -> Result<Option<String>> {
    let url = format!("{}/v2/{repository}/manifests/{reference}", aws.endpoint());
    let response = aws.http.send(Method::HEAD, &url, &[], "").await?;
    let digest = response.headers.get("docker-content-digest").and_then(|d| d.to_str().ok());
    Ok(digest.filter(|_| response.status == StatusCode::OK).map(str::to_owned))
}

async fn get(aws: &Aws, path: &str) -> Result<Option<serde_json::Value>> {
    let response = aws.http.send(Method::GET, &format!("{}/v2/{path}", aws.endpoint()), &[], "").await?;
    if response.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(response.status == StatusCode::OK, "the registry answered {}: {}", response.status, response.text());
    Ok(Some(serde_json::from_slice(&response.body)?))
}

fn descriptor_of(media_type: MediaType, content: &[u8]) -> Result<Descriptor> {
    let digest: Sha256Digest = hex(content).parse()?;
    Ok(Descriptor::new(media_type, content.len() as u64, Digest::from(digest)))
}

fn digest_of(content: &[u8]) -> String {
    format!("sha256:{}", hex(content))
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar archive without entries: two blocks of zeros.
fn empty_tar() -> Vec<u8> {
    vec![0; 1024]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_an_index_of_two_platforms_and_an_attestation() -> Result<()> {
        let image = Image::build("https://example.com/web", "1.0.0", "8f4e2d1", Behaviour::Crash)?;
        let index: serde_json::Value = serde_json::from_slice(&image.top)?;
        let platforms: Vec<_> = index["manifests"]
            .as_array()
            .context("no manifests")?
            .iter()
            .map(|m| (m["platform"]["os"].as_str(), m["platform"]["architecture"].as_str()))
            .collect();
        let (linux, unknown) = (Some("linux"), Some("unknown"));
        assert_eq!(platforms, [(linux, Some("amd64")), (linux, Some("arm64")), (unknown, unknown)]);
        assert_eq!(
            index["manifests"][2]["annotations"]["vnd.docker.reference.digest"],
            index["manifests"][0]["digest"]
        );
        Ok(())
    }

    #[test]
    fn where_an_image_comes_from_is_in_its_labels_or_in_its_annotations() -> Result<()> {
        let parts = |image: &Image| {
            let top: serde_json::Value = serde_json::from_slice(&image.top)?;
            let has_labels = image.blobs.iter().any(|blob| String::from_utf8_lossy(blob).contains(ANNOTATION_REVISION));
            anyhow::Ok((top["manifests"].is_array(), top["annotations"][ANNOTATION_REVISION] == "8f4e2d1", has_labels))
        };
        let (source, version, revision) = ("https://example.com/web", "1.0.0", "8f4e2d1");
        let built = Image::build(source, version, revision, Behaviour::Healthy)?;
        assert_eq!(parts(&built)?, (true, false, true));
        assert_eq!(parts(&Image::annotated(source, version, revision)?)?, (true, true, false));
        assert_eq!(parts(&Image::single(source, version, revision, Behaviour::Healthy)?)?, (false, false, true));
        Ok(())
    }

    #[test]
    fn every_behaviour_survives_its_label() {
        use Behaviour::{Crash, Healthy, NeverPulls, OutOfMemory, Slow};
        for behaviour in [Healthy, Crash, OutOfMemory, NeverPulls, Slow] {
            assert_eq!(Behaviour::from_label(behaviour.label()), behaviour);
        }
        assert_eq!(Behaviour::from_label("dances"), Behaviour::Healthy);
    }
}
