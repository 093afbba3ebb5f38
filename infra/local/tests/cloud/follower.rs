//! A service that follows an image, and what the tests do to it.

use anyhow::{Context as _, Result};
use local::cloud::Cloud;
use local::fleet;
use local::registry::{self, Behaviour, Image};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const CLUSTER: &str = "staging";
pub(crate) const SIDECAR: &str = "public.ecr.aws/datadog/agent:7.59.0";

/// A service called like its family, that follows `tag:develop` of the repository `tides/<name>`.
pub(crate) struct Follower {
    pub(crate) cloud: &'static Cloud,
    pub(crate) name: &'static str,
    pub(crate) repository: String,
}

impl Follower {
    /// A steady service with one task that runs the image `tides/<name>:first`.
    pub(crate) async fn steady(cloud: &'static Cloud, name: &'static str) -> Result<Self> {
        Self::steady_with(cloud, name, json!({}), json!({})).await
    }

    /// As [`Self::steady`], with these tags of Tidegate, such as `follow` and `hold`, and no others.
    pub(crate) async fn tagged(cloud: &'static Cloud, name: &'static str, tags: &[(&str, &str)]) -> Result<Self> {
        let key = |key: &str| match key {
            "follow" => format!("tidegate:follow/tides/{name}"),
            key => format!("tidegate:{key}"),
        };
        let tags: Value = tags.iter().map(|(name, value)| json!({ "key": key(name), "value": value })).collect();
        Self::steady_with(cloud, name, json!({}), json!({ "tags": tags })).await
    }

    /// As [`Self::steady`], with more fields of the task definition and of the service.
    pub(crate) async fn steady_with(
        cloud: &'static Cloud,
        name: &'static str,
        definition: Value,
        service: Value,
    ) -> Result<Self> {
        let follower = Self::registered(cloud, name, definition).await?;
        follower.create_service(name, service).await?;
        Ok(follower)
    }

    /// A repository with an image, and a task definition that uses it: no service yet.
    pub(crate) async fn registered(cloud: &'static Cloud, name: &'static str, definition: Value) -> Result<Self> {
        let follower = Self { cloud, name, repository: format!("tides/{name}") };
        cloud.create_repository(&follower.repository).await?;
        cloud.push(&follower.repository, "first", &follower.image("0.9.0", Behaviour::Healthy)?).await?;
        let mut document = json!({
            "family": name,
            "containerDefinitions": [
                {
                    "name": "app", "image": follower.reference("first"), "memory": 256, "essential": true,
                    "logConfiguration": fleet::logs(name),
                },
                { "name": "sidecar", "image": SIDECAR, "memory": 128, "essential": false },
            ],
        });
        merge(&mut document, definition);
        cloud.register(&document).await?;
        Ok(follower)
    }

    /// Creates a service, and waits until Tidegate has found its first deployment and told of it.
    pub(crate) async fn create_service(&self, service: &str, more: Value) -> Result<()> {
        self.start_service(service, more).await?;
        self.cloud.wait_until_found(CLUSTER, service).await?;
        Ok(())
    }

    /// Creates a service, and waits until it runs.
    pub(crate) async fn start_service(&self, service: &str, more: Value) -> Result<()> {
        let mut input = json!({
            "cluster": CLUSTER,
            "serviceName": service,
            "taskDefinition": self.name,
            "desiredCount": 1,
            "tags": [{ "key": format!("tidegate:follow/{}", self.repository), "value": "tag:develop" }],
        });
        merge(&mut input, more);
        self.cloud.create_service(&input).await?;
        self.cloud.wait_until_steady(CLUSTER, service).await?;
        Ok(())
    }

    /// An image of a version, each of a commit of its own.
    pub(crate) fn image(&self, version: &str, behaviour: Behaviour) -> Result<Image> {
        Image::build(&self.source(), version, &commit(version), behaviour)
    }

    /// Where its images come from.
    pub(crate) fn source(&self) -> String {
        format!("https://github.com/{}", self.repository)
    }

    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", registry::host(), self.repository)
    }

    pub(crate) fn pinned(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", registry::host(), self.repository)
    }

    /// Pushes a new image under the tag `develop`.
    pub(crate) async fn push(&self, version: &str, behaviour: Behaviour) -> Result<String> {
        self.cloud.push(&self.repository, "develop", &self.image(version, behaviour)?).await
    }

    /// Pushes a new healthy image under this tag.
    pub(crate) async fn push_as(&self, tag: &str) -> Result<String> {
        self.cloud.push(&self.repository, tag, &self.image(tag, Behaviour::Healthy)?).await
    }

    /// Pushes a new healthy image under the tag `develop`, and AWS loses the event.
    pub(crate) async fn push_unheard(&self, version: &str) -> Result<String> {
        let image = self.image(version, Behaviour::Healthy)?;
        self.cloud.events.lose(&image.digest());
        self.cloud.push(&self.repository, "develop", &image).await
    }

    pub(crate) async fn service(&self) -> Result<Value> {
        self.cloud.service(CLUSTER, self.name).await
    }

    /// All its records.
    pub(crate) async fn history(&self) -> Result<Vec<Value>> {
        self.cloud.history(CLUSTER, self.name).await
    }

    /// The records of what Tidegate has deployed.
    pub(crate) async fn own_deployments(&self) -> Result<Vec<Value>> {
        self.cloud.own_deployments(CLUSTER, self.name).await
    }

    /// The records of decisions not to deploy.
    pub(crate) async fn skipped(&self) -> Result<Vec<Value>> {
        let mut records = self.history().await?;
        records.retain(|record| record["state"] == "skipped");
        Ok(records)
    }

    pub(crate) async fn revisions(&self) -> Result<usize> {
        Ok(self.cloud.revisions(self.name).await?.len())
    }

    pub(crate) async fn deployments(&self) -> Result<usize> {
        Ok(self.cloud.deployments_started(CLUSTER, self.name).await?.len())
    }

    /// Waits until this digest is live, and returns the record of its deployment.
    pub(crate) async fn wait_until_live(&self, digest: &str) -> Result<Value> {
        self.wait_until(digest, "succeeded").await
    }

    /// Waits until the last record of this digest has this state, and returns it.
    pub(crate) async fn wait_until(&self, digest: &str, state: &str) -> Result<Value> {
        self.cloud.wait_for_record(CLUSTER, self.name, digest, state).await
    }

    /// The revision that the service's tasks run, when they all run the same.
    pub(crate) async fn runs(&self) -> Result<String> {
        let running = self.cloud.running(CLUSTER, self.name).await?;
        match &running[..] {
            [(revision, _)] => Ok(revision.clone()),
            other => anyhow::bail!("{} runs {other:?}", self.name),
        }
    }

    /// The image of the container `app` in what the service runs.
    pub(crate) async fn runs_image(&self) -> Result<Value> {
        let definition = self.cloud.task_definition(&self.runs().await?).await?;
        Ok(definition["taskDefinition"]["containerDefinitions"][0]["image"].clone())
    }

    /// The decisions of the deploy function about this digest for this service.
    pub(crate) async fn decisions(&self, digest: &str) -> Result<Vec<Value>> {
        let mut decisions = self.cloud.decisions("deploy").await?;
        decisions.retain(|d| d["digest"] == digest && d["service"] == format!("{CLUSTER}/{}", self.name));
        Ok(decisions)
    }

    /// Waits for the `n`th decision about this digest for this service, and returns it.
    pub(crate) async fn wait_for_decision(&self, digest: &str, n: usize) -> Result<Value> {
        let what = format!("decision {n} on {digest} for {}", self.name);
        self.cloud
            .wait_for(&what, || async {
                let decisions = self.decisions(digest).await?;
                Ok(decisions.get(n - 1).cloned().ok_or_else(|| format!("{decisions:?}")))
            })
            .await
    }

    /// Waits for the decision about the push of this digest, which nobody follows.
    pub(crate) async fn wait_for_skipped_push(&self, digest: &str) -> Result<Value> {
        self.cloud
            .wait_for(&format!("a decision about {}", self.repository), || async {
                let decisions = self.cloud.decisions("deploy").await?;
                let found = decisions.iter().find(|d| d["digest"] == digest && d.get("service").is_none()).cloned();
                Ok(found.ok_or_else(|| format!("{} other decisions", decisions.len())))
            })
            .await
    }

    /// The event of the tagged push of this digest.
    pub(crate) fn push_event(&self, digest: &str) -> Result<Value> {
        let is_it = |event: &Value| event["detail"]["image-digest"] == digest && event["detail"]["image-tag"] != "";
        self.cloud.events.published().into_iter().find(is_it).context("the push was not announced")
    }
}

/// The name of the commit that an image of this version was built of.
pub(crate) fn commit(version: &str) -> String {
    let hex = Sha256::digest(version).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    hex.chars().take(40).collect()
}

/// A record without what the announcing of it writes down.
pub(crate) fn without_telling(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(record) = record.as_object_mut() {
        let beside = [
            "metrics_counted",
            "open",
            "progress",
            "provenance",
            "provenance_from",
            "tag_from",
            "tell_after",
            "telling_until",
        ];
        record.retain(|name, _| {
            let is_of_telling = name.starts_with("slack_") || name.starts_with("link") || name.ends_with("_told");
            !is_of_telling && !beside.contains(&name.as_str())
        });
    }
    record
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
