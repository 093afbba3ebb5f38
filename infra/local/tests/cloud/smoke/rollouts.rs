//! ECS: how rollouts go, and what becomes of their tasks.

use anyhow::{Context as _, Result};
use local::aws::{ACCOUNT, REGION};
use local::cloud::{Cloud, primary};
use local::fleet;
use local::registry::{self, Behaviour, Image};
use serde_json::{Value, json};

use super::{code, deployment_events};
use crate::scenario;

/// A service with a sidecar and the circuit breaker, called like its family, repository and log group.
pub(super) struct Ship {
    pub(super) cloud: &'static Cloud,
    name: &'static str,
    has_health_check: bool,
}

impl Ship {
    /// Creates the service with an image that behaves like this.
    pub(super) async fn launch(cloud: &'static Cloud, name: &'static str, behaviour: Behaviour) -> Result<Self> {
        let ship = Self { cloud, name, has_health_check: false };
        ship.start(behaviour).await?;
        Ok(ship)
    }

    /// As [`Self::launch`], healthy and with a health check.
    pub(super) async fn checked(cloud: &'static Cloud, name: &'static str) -> Result<Self> {
        let ship = Self { cloud, name, has_health_check: true };
        ship.start(Behaviour::Healthy).await?;
        Ok(ship)
    }

    async fn start(&self, behaviour: Behaviour) -> Result<()> {
        let (cloud, name) = (self.cloud, self.name);
        cloud.create_repository(name).await?;
        let task_definition = self.revision("1.0.0", behaviour).await?;
        cloud
            .create_service(&json!({
                "cluster": "smoke", "serviceName": name, "taskDefinition": task_definition, "desiredCount": 1,
                "deploymentConfiguration": { "deploymentCircuitBreaker": { "enable": true, "rollback": true } },
            }))
            .await
    }

    /// Pushes an image and registers a revision with it.
    async fn revision(&self, version: &str, behaviour: Behaviour) -> Result<String> {
        let image = Image::build("https://example.com/smoke", version, "8f4e2d1", behaviour)?;
        let digest = self.cloud.push(self.name, version, &image).await?;
        let container = |name: &str, image: &str, is_essential: bool| {
            json!({
                "name": name, "image": image, "memory": 128, "essential": is_essential,
                "logConfiguration": fleet::logs(self.name),
            })
        };
        let mut app = container("app", &format!("{}/{}@{digest}", registry::host(), self.name), true);
        if self.has_health_check {
            app["healthCheck"] = json!({ "command": ["CMD", "/app", "health"] });
        }
        let sidecar = container("sidecar", "public.ecr.aws/nginx/nginx:1.29", false);
        let document = json!({ "family": self.name, "containerDefinitions": [sidecar, app] });
        self.cloud.register(&document).await
    }

    /// Rolls out a new image, and returns the id of the deployment.
    pub(super) async fn refit(&self, version: &str, behaviour: Behaviour) -> Result<String> {
        let task_definition = self.revision(version, behaviour).await?;
        let update = json!({ "cluster": "smoke", "service": self.name, "taskDefinition": task_definition });
        let updated = self.cloud.aws.ecs("UpdateService", &update).await?;
        id_of(&updated["service"])
    }

    pub(super) async fn deployment(&self) -> Result<String> {
        id_of(&self.cloud.service("smoke", self.name).await?)
    }

    /// Waits until ECS says of a deployment how it went.
    pub(super) async fn wait_for(&self, deployment: &str, state: &str) -> Result<()> {
        let event = format!("SERVICE_DEPLOYMENT_{state}");
        self.cloud
            .wait_for(&format!("{deployment} to be {state}"), || async {
                let told = deployment_events(self.cloud, deployment);
                Ok(if told.contains(&event) { Ok(()) } else { Err(format!("{told:?}")) })
            })
            .await
    }

    /// Waits until the service deployments, newest first, have these statuses.
    pub(super) async fn wait_for_statuses(&self, expected: &[&str]) -> Result<Vec<Value>> {
        self.cloud
            .wait_for(&format!("{expected:?} of {}", self.name), || async {
                let all = self.service_deployments(&json!({})).await?;
                let seen: Vec<_> = all.iter().filter_map(|rollout| rollout["status"].as_str()).collect();
                Ok(if seen == expected { Ok(all) } else { Err(format!("{seen:?}")) })
            })
            .await
    }

    /// What became of the tasks that a deployment has started and that have stopped.
    pub(super) async fn stopped(&self, deployment: &str) -> Result<Vec<Value>> {
        let stopped = json!({ "cluster": "smoke", "startedBy": deployment, "desiredStatus": "STOPPED" });
        let listed = self.cloud.aws.ecs("ListTasks", &stopped).await?;
        let input = json!({ "cluster": "smoke", "tasks": listed["taskArns"] });
        let described = self.cloud.aws.ecs("DescribeTasks", &input).await?;
        let tasks = described["tasks"].as_array().context("no tasks")?;
        assert!(tasks.iter().all(|task| task["lastStatus"] == "STOPPED" && task["startedBy"] == deployment));
        Ok(tasks.clone())
    }

    /// The service deployments, newest first.
    pub(super) async fn service_deployments(&self, more: &Value) -> Result<Vec<Value>> {
        let mut input = json!({ "cluster": "smoke", "service": self.name });
        if let (Some(input), Some(more)) = (input.as_object_mut(), more.as_object()) {
            input.extend(more.clone());
        }
        let listed = self.cloud.aws.ecs("ListServiceDeployments", &input).await?;
        Ok(listed["serviceDeployments"].as_array().context("no service deployments")?.clone())
    }
}

fn id_of(service: &Value) -> Result<String> {
    Ok(primary(service)["id"].as_str().context("a service without a deployment")?.to_owned())
}

fn container<'a>(task: &'a Value, name: &str) -> Result<&'a Value> {
    let mut containers = task["containers"].as_array().into_iter().flatten();
    containers.find(|container| container["name"] == name).with_context(|| format!("no container {name} in {task}"))
}

#[test]
fn a_task_that_crashed_says_so_and_its_log_can_be_read() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-crash", Behaviour::Crash).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "FAILED").await?;
        let stopped = ship.stopped(&deployment).await?;
        let task = stopped.first().context("no stopped task")?;
        assert_eq!(task["stopCode"], "EssentialContainerExited");
        assert_eq!(task["stoppedReason"], "Essential container in task exited");
        let (app, sidecar) = (container(task, "app")?, container(task, "sidecar")?);
        assert_eq!((&app["exitCode"], app.get("reason")), (&json!(1), None));
        assert_eq!((&sidecar["exitCode"], sidecar.get("reason")), (&json!(143), None), "it was only stopped with it");

        let id = task["taskArn"].as_str().and_then(|arn| arn.rsplit('/').next()).context("a task without ARN")?;
        let (group, stream) = ("/ecs/smoke-crash", format!("smoke-crash/app/{id}"));
        let written = registry::crash_log();
        cloud
            .wait_for("its log", || async {
                let lines = cloud.last_lines(group, &stream, 100).await?;
                Ok(if lines == written { Ok(()) } else { Err(format!("{lines:?}")) })
            })
            .await?;
        assert_eq!(cloud.last_lines(group, &stream, 2).await?, written[written.len() - 2..]);
        assert!(written.concat().contains(registry::LEAKED_SECRET));
        assert_eq!(code(cloud.last_lines(group, "smoke-crash/app/gone", 2).await)?, "ResourceNotFoundException");

        let both = json!({ "cluster": "smoke", "startedBy": deployment, "serviceName": "smoke-crash" });
        assert_eq!(code(cloud.aws.ecs("ListTasks", &both).await)?, "InvalidParameterException");
        Ok(())
    })
}

#[test]
fn a_task_that_ran_out_of_memory_says_so_of_its_container() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-memory", Behaviour::OutOfMemory).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "FAILED").await?;
        let stopped = ship.stopped(&deployment).await?;
        let task = stopped.first().context("no stopped task")?;
        assert_eq!(task["stoppedReason"], "Essential container in task exited");
        let app = container(task, "app")?;
        assert_eq!(app["exitCode"], 137);
        assert_eq!(app["reason"], "OutOfMemoryError: Container killed due to memory usage");
        Ok(())
    })
}

#[test]
fn a_task_that_never_started_has_no_exit_code() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-pull", Behaviour::NeverPulls).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "FAILED").await?;
        let stopped = ship.stopped(&deployment).await?;
        let task = stopped.first().context("no stopped task")?;
        assert_eq!(task["stopCode"], "TaskFailedToStart");
        let app = container(task, "app")?;
        let image = app["image"].as_str().context("a container without an image")?;
        let reason = format!(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {image}: \
             {image}: not found"
        );
        assert_eq!((&task["stoppedReason"], &app["reason"]), (&json!(reason), &json!(reason)));
        assert_eq!(app.get("exitCode"), None);
        assert_eq!(container(task, "sidecar")?.get("exitCode"), None);
        let [rollout] = &ship.service_deployments(&json!({})).await?[..] else {
            anyhow::bail!("not one service deployment");
        };
        assert_eq!(rollout["status"], "STOPPED", "there is nothing to go back to");
        Ok(())
    })
}

#[test]
fn what_the_scheduler_stops_was_not_stopped_by_a_person() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-drain", Behaviour::Healthy).await?;
        let first = ship.deployment().await?;
        ship.wait_for(&first, "COMPLETED").await?;
        let second = ship.refit("1.0.1", Behaviour::Healthy).await?;
        ship.wait_for(&second, "COMPLETED").await?;
        cloud.wait_until_steady("smoke", "smoke-drain").await?;
        let stopped = ship.stopped(&first).await?;
        let task = stopped.first().context("no stopped task")?;
        assert_eq!(task["stopCode"], "ServiceSchedulerInitiated");
        assert_eq!(task["stoppedReason"], format!("Scaling activity initiated by (deployment {first})"));
        let running = cloud.aws.ecs("ListTasks", &json!({ "cluster": "smoke", "startedBy": second })).await?;
        let input = json!({ "cluster": "smoke", "task": running["taskArns"][0], "reason": "on purpose" });
        let task = cloud.aws.ecs("StopTask", &input).await?["task"].clone();
        assert_eq!((&task["stopCode"], &task["stoppedReason"]), (&json!("UserInitiated"), &json!("on purpose")));
        Ok(())
    })
}

#[test]
fn a_rollback_is_told_in_the_service_deployment_that_failed() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-rollback", Behaviour::Healthy).await?;
        let good = ship.deployment().await?;
        ship.wait_for(&good, "COMPLETED").await?;
        let bad = ship.refit("1.1.0", Behaviour::Crash).await?;
        ship.wait_for(&bad, "FAILED").await?;
        let all = ship.wait_for_statuses(&["ROLLBACK_SUCCESSFUL", "SUCCESSFUL"]).await?;
        let digits = |id: &str| id.trim_start_matches("ecs-svc/").to_owned();
        let revision =
            |id: &str| format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service-revision/smoke/smoke-rollback/{}", digits(id));
        assert_eq!(all[0]["targetServiceRevisionArn"], revision(&bad));
        assert_eq!(all[1]["targetServiceRevisionArn"], revision(&good));
        let arn = all[0]["serviceDeploymentArn"].as_str().context("no ARN")?;
        assert!(!arn.contains(&digits(&bad)), "its ARN says nothing of the deployment's id: {arn}");
        let since = json!({ "createdAt": { "after": all[1]["createdAt"] } });
        assert_eq!(ship.service_deployments(&since).await?.len(), 1);

        let gone = format!("{arn}gone");
        let input = json!({ "serviceDeploymentArns": [arn, gone] });
        let described = cloud.aws.ecs("DescribeServiceDeployments", &input).await?;
        assert_eq!(described["failures"], json!([{ "arn": gone, "reason": "MISSING" }]));
        let rollout = &described["serviceDeployments"][0];
        assert_eq!(rollout["status"], "ROLLBACK_SUCCESSFUL");
        assert_eq!(rollout["rollback"]["serviceRevisionArn"], revision(&good));
        assert_ne!(rollout["rollback"]["reason"], "");
        assert_eq!(rollout["targetServiceRevision"]["arn"], revision(&bad));
        assert_eq!(rollout["sourceServiceRevisions"][0]["arn"], revision(&good));
        let breaker = &rollout["deploymentCircuitBreaker"];
        assert_eq!(breaker, &json!({ "status": "TRIGGERED", "failureCount": 3, "threshold": 3 }));
        assert!(rollout["finishedAt"].is_f64() && rollout["createdAt"].is_f64(), "{rollout}");
        let current = cloud.service("smoke", "smoke-rollback").await?;
        assert_eq!(current.get("currentServiceDeployment"), None);
        Ok(())
    })
}

#[test]
fn a_newer_deployment_stops_the_service_deployment_before() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-superseded", Behaviour::Stuck).await?;
        let going_on = ship.service_deployments(&json!({ "status": ["IN_PROGRESS"] })).await?;
        assert_eq!(going_on.len(), 1, "{going_on:?}");
        let current = cloud.service("smoke", "smoke-superseded").await?;
        assert_eq!(current["currentServiceDeployment"], going_on[0]["serviceDeploymentArn"]);
        let second = ship.refit("1.0.1", Behaviour::Healthy).await?;
        ship.wait_for(&second, "COMPLETED").await?;
        ship.wait_for_statuses(&["SUCCESSFUL", "STOPPED"]).await?;
        Ok(())
    })
}
