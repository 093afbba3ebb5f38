//! Instances: they boot, take tasks as far as they have room, drain, and go.

use anyhow::{Context as _, Result};
use local::cloud::Cloud;
use local::json::{list, text};
use serde_json::{Value, json};

use super::code;
use crate::scenario;

/// A cluster with a group of instances for two tasks each, and a service.
struct Yard {
    cloud: &'static Cloud,
    name: &'static str,
}

impl Yard {
    async fn build(cloud: &'static Cloud, name: &'static str, min: u32, tasks: u32) -> Result<Self> {
        cloud.create_fleet(name, &[], (min, 3), tasks).await?;
        Ok(Self { cloud, name })
    }

    async fn wait_for_running(&self, tasks: u64) -> Result<Value> {
        self.cloud
            .wait_for(&format!("{tasks} tasks of {} to run", self.name), || async {
                let service = self.cloud.service(self.name, self.name).await?;
                let is_it = service["runningCount"] == tasks && service["pendingCount"] == 0;
                Ok(if is_it { Ok(service.clone()) } else { Err(service.to_string()) })
            })
            .await
    }

    async fn update(&self, tasks: u32) -> Result<()> {
        let input = json!({ "cluster": self.name, "service": self.name, "desiredCount": tasks });
        self.cloud.aws.ecs("UpdateService", &input).await?;
        Ok(())
    }

    async fn set_desired(&self, capacity: &str) -> Result<String> {
        let input = [("AutoScalingGroupName", self.name), ("DesiredCapacity", capacity), ("HonorCooldown", "false")];
        self.cloud.aws.autoscaling("SetDesiredCapacity", &input).await
    }

    /// The tasks of each instance.
    async fn tasks(&self) -> Result<Vec<usize>> {
        let mut counts = Vec::new();
        for instance in self.cloud.container_instances(self.name).await? {
            let input = json!({ "cluster": self.name, "containerInstance": instance["containerInstanceArn"] });
            let tasks = self.cloud.aws.ecs("ListTasks", &input).await?;
            counts.push(list(&tasks, "taskArns").len());
        }
        counts.sort_unstable();
        Ok(counts)
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let mut events = self.cloud.events.published();
        events.retain(|event| event["detail-type"] == kind && event.to_string().contains(self.name));
        events
    }
}

#[test]
fn tasks_without_room_wait_until_a_new_instance_has_joined() -> Result<()> {
    scenario(|cloud| async move {
        let yard = Yard::build(cloud, "smoke-full", 1, 3).await?;
        let service = yard.wait_for_running(2).await?;
        let said = text(&list(&service, "events")[0], "message").to_owned();
        assert!(said.starts_with("(service smoke-full) was unable to place a task because no container"), "{said}");
        let failure = cloud
            .wait_for("the event of the failure", || async {
                let found = yard.events("ECS Service Action");
                let is_it = |event: &&Value| event["detail"]["eventName"] == "SERVICE_TASK_PLACEMENT_FAILURE";
                Ok(found.iter().find(is_it).cloned().ok_or_else(|| format!("{found:?}")))
            })
            .await?;
        assert_eq!(failure["detail"]["reason"], "RESOURCE:CPU");
        let free = &cloud.container_instances("smoke-full").await?[0];
        let free = list(free, "remainingResources").iter().find(|it| it["name"] == "CPU").context("no CPU")?;
        assert_eq!(free["integerValue"], 0);

        assert_eq!(code(yard.set_desired("4").await)?, "ValidationError", "the bounds are kept");
        yard.set_desired("2").await?;
        let (desired, members) = cloud.group("smoke-full").await?;
        assert_eq!((desired, members.len(), members[1].state.as_str()), (2, 2, "Pending"), "it boots");
        yard.wait_for_running(3).await?;
        assert_eq!(yard.tasks().await?, [1, 2]);
        let (_, members) = cloud.group("smoke-full").await?;
        assert!(members.iter().all(|member| member.state == "InService"), "{members:?}");
        let found = json!({ "cluster": "smoke-full", "filter": format!("ec2InstanceId == {}", members[1].id) });
        let found = cloud.aws.ecs("ListContainerInstances", &found).await?;
        assert_eq!(list(&found, "containerInstanceArns").len(), 1, "{found}");
        Ok(())
    })
}

#[test]
fn an_instance_that_drains_gives_its_tasks_to_others_and_goes() -> Result<()> {
    scenario(|cloud| async move {
        let yard = Yard::build(cloud, "smoke-drain", 2, 2).await?;
        yard.wait_for_running(2).await?;
        cloud.wait_until_steady("smoke-drain", "smoke-drain").await?;
        let instances = cloud.container_instances("smoke-drain").await?;
        let arn = instances[0]["containerInstanceArn"].clone();
        let drain = json!({ "cluster": "smoke-drain", "containerInstances": [arn], "status": "DRAINING" });
        let answer = cloud.aws.ecs("UpdateContainerInstancesState", &drain).await?;
        assert_eq!(answer["containerInstances"][0]["status"], "DRAINING", "{answer}");
        cloud
            .wait_for("the instance to be empty", || async {
                let fewest = cloud.service("smoke-drain", "smoke-drain").await?["runningCount"].as_u64().unwrap_or(0);
                anyhow::ensure!(fewest >= 2, "a task was stopped before another one ran: {fewest}");
                let tasks = yard.tasks().await?;
                Ok(if tasks == [0, 2] { Ok(()) } else { Err(format!("{tasks:?}")) })
            })
            .await?;
        assert!(!yard.events("ECS Container Instance State Change").is_empty());

        let id = text(&instances[0], "ec2InstanceId");
        let terminate = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", "true")];
        let refused = cloud.aws.autoscaling("TerminateInstanceInAutoScalingGroup", &terminate).await;
        assert_eq!(code(refused)?, "ValidationError", "the group keeps its least");
        let smaller = [("AutoScalingGroupName", "smoke-drain"), ("MinSize", "1")];
        cloud.aws.autoscaling("UpdateAutoScalingGroup", &smaller).await?;
        cloud.aws.autoscaling("TerminateInstanceInAutoScalingGroup", &terminate).await?;
        let (desired, members) = cloud.group("smoke-drain").await?;
        assert_eq!((desired, members.len()), (1, 1), "{members:?}");
        assert!(members.iter().all(|member| member.id != id));
        assert_eq!(yard.wait_for_running(2).await?["desiredCount"], 2);
        Ok(())
    })
}

#[test]
fn a_termination_waits_for_whoever_completes_it() -> Result<()> {
    scenario(|cloud| async move {
        let yard = Yard::build(cloud, "smoke-hook", 1, 1).await?;
        let hook = [
            ("AutoScalingGroupName", "smoke-hook"),
            ("LifecycleHookName", "drain"),
            ("LifecycleTransition", "autoscaling:EC2_INSTANCE_TERMINATING"),
        ];
        cloud.aws.autoscaling("PutLifecycleHook", &hook).await?;
        yard.wait_for_running(1).await?;
        let (_, members) = cloud.group("smoke-hook").await?;
        let id = members[0].id.clone();
        let terminate = [("InstanceId", &*id), ("ShouldDecrementDesiredCapacity", "false")];
        cloud.aws.autoscaling("TerminateInstanceInAutoScalingGroup", &terminate).await?;
        let event = cloud
            .wait_for("the event of the termination", || async {
                let found = yard.events("EC2 Instance-terminate Lifecycle Action");
                Ok(found.first().cloned().ok_or_else(|| "none".to_owned()))
            })
            .await?;
        let detail = &event["detail"];
        assert_eq!((&detail["EC2InstanceId"], &detail["LifecycleHookName"]), (&json!(id), &json!("drain")));
        let (desired, members) = cloud.group("smoke-hook").await?;
        let states: Vec<_> = members.iter().map(|member| member.state.as_str()).collect();
        assert_eq!((desired, states.contains(&"Terminating:Wait"), members.len()), (1, true, 2), "{members:?}");

        let token = text(detail, "LifecycleActionToken");
        let action = [("AutoScalingGroupName", "smoke-hook"), ("LifecycleHookName", "drain")];
        let by_token =
            [&action[..], &[("LifecycleActionToken", token), ("LifecycleActionResult", "CONTINUE")]].concat();
        cloud.aws.autoscaling("RecordLifecycleActionHeartbeat", &by_token).await?;
        cloud.aws.autoscaling("CompleteLifecycleAction", &by_token).await?;
        assert!(cloud.group("smoke-hook").await?.1.iter().all(|member| member.id != id));
        let again = cloud.aws.autoscaling("CompleteLifecycleAction", &by_token).await;
        assert_eq!(code(again)?, "ValidationError");
        yard.wait_for_running(1).await?;
        Ok(())
    })
}

#[test]
fn the_scheduler_spares_tasks_that_protect_themselves() -> Result<()> {
    scenario(|cloud| async move {
        let yard = Yard::build(cloud, "smoke-protect", 2, 2).await?;
        yard.wait_for_running(2).await?;
        cloud.wait_until_steady("smoke-protect", "smoke-protect").await?;
        let tasks = cloud.aws.ecs("ListTasks", &json!({ "cluster": "smoke-protect" })).await?;
        let protect = json!({ "cluster": "smoke-protect", "tasks": tasks["taskArns"], "protectionEnabled": true });
        cloud.aws.ecs("UpdateTaskProtection", &protect).await?;
        let ask = json!({ "cluster": "smoke-protect", "tasks": tasks["taskArns"] });
        let told = cloud.aws.ecs("GetTaskProtection", &ask).await?;
        assert!(list(&told, "protectedTasks").iter().all(|task| task["protectionEnabled"] == true), "{told}");
        yard.update(1).await?;
        assert_eq!(cloud.service("smoke-protect", "smoke-protect").await?["runningCount"], 2);
        Ok(())
    })
}
