//! The example fleet: two environments, and services that follow images by a tag on them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::aws::REGION;
use crate::cloud::Cloud;
use crate::registry::{self, Behaviour, Image};

/// Where the images say they come from.
pub const SOURCE: &str = "https://github.com/example/tides";
/// The commit of the image that the services begin with.
pub const FIRST_COMMIT: &str = "0c1f6a2b9d8e7f60514233241506f7e8d9cab0b1";
/// The image of every service's second container.
pub const SIDECAR: &str = "public.ecr.aws/datadog/agent:7.59.0";

/// A service of the fleet. It begins with the image that has the tag `first`, named by its digest.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its cluster, which is its environment too.
    pub cluster: &'static str,
    /// Its name. Its repository is `tides/<name>`.
    pub name: &'static str,
    /// The tag that it follows.
    pub follows: &'static str,
    /// How many tasks it has.
    pub tasks: u64,
}

/// All services.
pub const SERVICES: [Service; 3] = [
    Service { cluster: "staging", name: "web", follows: "develop", tasks: 2 },
    Service { cluster: "staging", name: "worker", follows: "develop", tasks: 1 },
    Service { cluster: "production", name: "web", follows: "master", tasks: 3 },
];

/// Creates the repositories, with the image that the services begin with.
pub async fn create_repositories(cloud: &Cloud) -> Result<()> {
    for repository in ["tides/web", "tides/worker"] {
        cloud.create_repository(repository).await?;
        let image = Image::build(SOURCE, "1.3.0", FIRST_COMMIT, Behaviour::Healthy)?;
        cloud.push(repository, "first", &image).await?;
    }
    cloud.create_repository("tides/docs").await
}

impl Service {
    /// The key of the tag by which it follows its repository.
    pub fn follow_key(&self) -> String {
        format!("tidegate:follow/tides/{}", self.name)
    }

    /// Creates it, with its task definition and the roles that names.
    pub async fn create(&self, cloud: &Cloud) -> Result<()> {
        let family = format!("{}-{}", self.name, self.cluster);
        let first = registry::resolve(&cloud.aws, &format!("tides/{}", self.name), "first").await?;
        let first = first.with_context(|| format!("tides/{} has no image to begin with", self.name))?;
        let mut definition = definition(&family, self.name, &first);
        for (name, purpose) in [("executionRoleArn", "execution"), ("taskRoleArn", "task")] {
            definition[name] = json!(cloud.create_task_role(&format!("{family}-{purpose}")).await?);
        }
        cloud.register(&definition).await?;
        let service = json!({
            "cluster": self.cluster,
            "serviceName": self.name,
            "taskDefinition": family,
            "desiredCount": self.tasks,
            "tags": [
                { "key": self.follow_key(), "value": format!("tag:{}", self.follows) },
                // What goes live is proven good at once: nobody watches it.
                { "key": "tidegate:bake", "value": "0" },
            ],
        });
        cloud.create_service(&service).await
    }
}

/// A task definition with more to it than an image: all of it must survive.
fn definition(family: &str, service: &str, digest: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "volumes": [{ "name": "cache" }],
        "tags": [{ "key": "team", "value": "tides" }],
        "containerDefinitions": [
            {
                "name": service,
                "image": format!("{}/tides/{service}@{digest}", registry::host()),
                "essential": true,
                "environment": [{ "name": "LOG_LEVEL", "value": "info" }],
                "mountPoints": [{ "sourceVolume": "cache", "containerPath": "/var/cache" }],
                "dependsOn": [{ "containerName": "agent", "condition": "START" }],
                "logConfiguration": logs(family),
            },
            {
                "name": "agent", "image": SIDECAR, "essential": false, "memoryReservation": 64,
                "logConfiguration": logs(family),
            },
        ],
    })
}

/// Where the containers of a family log: in a stream `<family>/<container>/<task id>` of the group `/ecs/<family>`.
pub fn logs(family: &str) -> Value {
    json!({
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": format!("/ecs/{family}"),
            "awslogs-region": REGION,
            "awslogs-stream-prefix": family,
            "awslogs-create-group": "true",
        },
    })
}
