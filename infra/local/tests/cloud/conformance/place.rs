//! Where a scenario is played, and what must be there before it begins: what people, Terraform and CI make, and no
//! function of ours.

use anyhow::{Context as _, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use local::aws::{ACCOUNT, REGION};
use local::cloud::Cloud;
use local::registry::{Behaviour, Image};
use serde_json::{Value, json};
use sim::world::World;
use sim::world::ecr::digest_of;
use sim::world::queues::Queue;

/// The model or the emulator.
#[derive(Clone)]
pub(super) enum Place {
    Model(World),
    Emulator(&'static Cloud),
}

impl Place {
    /// A model in which there is nothing.
    pub(super) fn model() -> Self {
        Self::Model(World::new())
    }

    /// What the clients of the SDK are made of.
    pub(super) fn sdk(&self) -> SdkConfig {
        match self {
            Self::Model(world) => world.sdk(),
            Self::Emulator(cloud) => SdkConfig::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new(REGION))
                .endpoint_url(cloud.aws.endpoint())
                .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                    ACCOUNT, "secret", None, None, "tests",
                )))
                .build(),
        }
    }

    /// What ECS answers to a request that the SDK's types cannot say.
    pub(super) async fn raw_ecs(&self, operation: &str, body: &Value) -> Result<Value> {
        let world = match self {
            Self::Emulator(cloud) => return cloud.aws.ecs(operation, body).await,
            Self::Model(world) => world,
        };
        let mut request = HttpRequest::new(SdkBody::from(body.to_string()));
        request.set_uri("https://ecs.eu-west-1.amazonaws.com/")?;
        request.set_method("POST")?;
        request.headers_mut().insert("x-amz-target", format!("AmazonEC2ContainerServiceV20141113.{operation}"));
        let response = world.call(request).await.context("the model does not answer")?;
        serde_json::from_slice(response.body().bytes().context("a body that is not there yet")?).context("no JSON")
    }

    /// The table of the template.
    pub(super) fn table(&self) -> Result<String> {
        match self {
            Self::Model(_) => Ok("history".to_owned()),
            Self::Emulator(cloud) => Ok(cloud.stack.output("TableName")?.to_owned()),
        }
    }

    /// An empty repository.
    pub(super) async fn repository(&self, name: &str) -> Result<()> {
        match self {
            Self::Model(world) => drop(world.state().ecr.repositories.entry(name.to_owned()).or_default()),
            Self::Emulator(cloud) => cloud.create_repository(name).await?,
        }
        Ok(())
    }

    /// An image of a version, for two platforms and with an attestation, pushed under this tag: its digest.
    pub(super) async fn push(&self, repository: &str, tag: &str, version: &str) -> Result<String> {
        self.push_of(repository, tag, version, Behaviour::Healthy).await
    }

    /// As [`Self::push`]; in the emulator its tasks behave like this. In the model a test says how rollouts go.
    pub(super) async fn push_of(&self, repository: &str, tag: &str, version: &str, how: Behaviour) -> Result<String> {
        match self {
            Self::Model(world) => {
                let (digest, now) = (digest_of(&format!("{repository} {version}")), world.seconds() as u64);
                world.state().ecr.push(repository, tag, &digest, now);
                Ok(digest)
            }
            Self::Emulator(cloud) => {
                let image = Image::build("https://example.com/conformance", version, "8f4e2d1", how)?;
                cloud.push(repository, tag, &image).await
            }
        }
    }

    /// Puts another tag on an image.
    pub(super) async fn tag(&self, repository: &str, digest: &str, tag: &str) -> Result<()> {
        match self {
            Self::Model(world) => {
                let now = world.seconds() as u64;
                world.state().ecr.push(repository, tag, digest, now);
            }
            Self::Emulator(cloud) => {
                let ask = json!({ "repositoryName": repository, "imageIds": [{ "imageDigest": digest }] });
                let image = cloud.aws.ecr("BatchGetImage", &ask).await?["images"][0].clone();
                let put = json!({
                    "repositoryName": repository, "imageTag": tag, "imageManifest": image["imageManifest"],
                    "imageManifestMediaType": image["imageManifestMediaType"],
                });
                cloud.aws.ecr("PutImage", &put).await?;
            }
        }
        Ok(())
    }

    /// A service of `family` with two tasks, whose first deployment has completed.
    pub(super) async fn service(&self, cluster: &str, name: &str, family: &str, tags: &[(&str, &str)]) -> Result<()> {
        match self {
            Self::Model(world) => world.state().ecs.add_service(cluster, name, family, tags),
            Self::Emulator(cloud) => {
                let tags: Value = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
                let service = json!({
                    "cluster": cluster, "serviceName": name, "taskDefinition": family, "desiredCount": 2, "tags": tags,
                });
                cloud.create_service(&service).await?;
                cloud.wait_until_steady(cluster, name).await?;
            }
        }
        Ok(())
    }

    /// Waits until what is being rolled out, or brought back, has completed.
    pub(super) async fn completed(&self, cluster: &str, name: &str) -> Result<()> {
        match self {
            Self::Model(world) => {
                let id = format!("{cluster}/{name}");
                let mut state = world.state();
                state.ecs.end_rollout(&id, "COMPLETED");
                state.ecs.drain(&id);
            }
            Self::Emulator(cloud) => {
                cloud.wait_until_steady(cluster, name).await?;
                cloud
                    .wait_for("the old tasks to stop", || async {
                        let service = cloud.service(cluster, name).await?;
                        let mut all = service["deployments"].as_array().into_iter().flatten();
                        // A deployment that has failed is shown on.
                        let has_failed = |it: &Value| it["rolloutState"] == "FAILED" && it["runningCount"] == 0;
                        let is_alone = all.all(|it| it["status"] == "PRIMARY" || has_failed(it));
                        Ok(if is_alone { Ok(()) } else { Err(service["deployments"].to_string()) })
                    })
                    .await?;
            }
        }
        Ok(())
    }

    /// Makes a revision INACTIVE.
    pub(super) async fn deregister(&self, arn: &str) -> Result<()> {
        match self {
            Self::Model(world) => world.state().ecs.deregister(arn),
            Self::Emulator(cloud) => {
                cloud.aws.ecs("DeregisterTaskDefinition", &json!({ "taskDefinition": arn })).await?;
            }
        }
        Ok(())
    }

    /// A metric alarm in this state.
    pub(super) async fn alarm(&self, name: &str, alarm_state: &str) -> Result<()> {
        match self {
            Self::Model(world) => drop(world.state().alarms.insert(name.to_owned(), alarm_state.to_owned())),
            Self::Emulator(cloud) => {
                cloud.create_alarm(name).await?;
                cloud.set_alarm(name, alarm_state).await?;
            }
        }
        Ok(())
    }

    /// A composite alarm that is OK.
    pub(super) async fn composite_alarm(&self, name: &str, of: &str) -> Result<()> {
        match self {
            Self::Model(world) => drop(world.state().composite_alarms.insert(name.to_owned(), "OK".to_owned())),
            Self::Emulator(cloud) => {
                let alarm = json!({ "AlarmName": name, "AlarmRule": format!("ALARM({of})") });
                cloud.aws.cloudwatch("PutCompositeAlarm", &alarm).await?;
                cloud.set_alarm(name, "OK").await?;
            }
        }
        Ok(())
    }

    /// A role.
    pub(super) async fn role(&self, name: &str) -> Result<()> {
        match self {
            Self::Model(world) => drop(world.state().roles.insert(name.to_owned())),
            Self::Emulator(cloud) => drop(cloud.create_task_role(name).await?),
        }
        Ok(())
    }

    /// A secret: its ARN.
    pub(super) async fn secret(&self, name: &str) -> Result<String> {
        match self {
            Self::Model(world) => {
                let arn = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-a1b2c3");
                let mut state = world.state();
                state.secrets.insert(name.to_owned(), false);
                state.secrets.insert(arn.clone(), false);
                Ok(arn)
            }
            Self::Emulator(cloud) => {
                let secret = json!({ "Name": name, "SecretString": "hush" });
                let made = cloud.aws.secrets("CreateSecret", &secret).await?;
                Ok(made["ARN"].as_str().context("a secret without ARN")?.to_owned())
            }
        }
    }

    /// A secret parameter with the value `hush`.
    pub(super) async fn parameter(&self, name: &str) -> Result<()> {
        match self {
            Self::Model(world) => {
                let mut state = world.state();
                state.parameters.insert(name.to_owned());
                state.secrets_by_name.insert(name.to_owned(), "hush".to_owned());
            }
            Self::Emulator(cloud) => {
                let parameter = json!({ "Name": name, "Type": "SecureString", "Value": "hush" });
                cloud.aws.ssm("PutParameter", &parameter).await?;
            }
        }
        Ok(())
    }

    /// The topic of the outcomes.
    pub(super) fn topic(&self) -> Result<String> {
        match self {
            Self::Model(_) => Ok(format!("arn:aws:sns:{REGION}:{ACCOUNT}:outcomes")),
            Self::Emulator(cloud) => Ok(cloud.stack.output("TopicArn")?.to_owned()),
        }
    }

    /// A queue of somebody's, in which nothing waits.
    pub(super) async fn queue(&self, name: &str) -> Result<()> {
        match self {
            Self::Model(world) => {
                world.state().queues.insert(name.to_owned(), Queue::default());
            }
            Self::Emulator(cloud) => cloud.create_queue(name).await?,
        }
        Ok(())
    }

    /// Lines in the stream of a log group.
    #[expect(clippy::disallowed_methods, reason = "the emulator refuses lines that are old by this machine's clock")]
    pub(super) async fn log(&self, group: &str, stream: &str, lines: &[&str]) -> Result<()> {
        match self {
            Self::Model(world) => world.log(group, stream, lines),
            Self::Emulator(cloud) => {
                let (now, of) = (chrono::Utc::now().timestamp_millis(), json!({ "logGroupName": group }));
                cloud.aws.logs("CreateLogGroup", &of).await?;
                let mut of = of;
                of["logStreamName"] = json!(stream);
                cloud.aws.logs("CreateLogStream", &of).await?;
                let events = lines.iter().map(|line| json!({ "timestamp": now, "message": line }));
                of["logEvents"] = events.collect();
                cloud.aws.logs("PutLogEvents", &of).await?;
            }
        }
        Ok(())
    }
}
