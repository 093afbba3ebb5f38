//! Clusters that follow what their tasks need.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use local::aws::{ACCOUNT, REGION};
use local::cloud::Cloud;
use local::events::spot_warning;
use local::json::{list, text};
use serde_json::{Value, json};

use crate::scenario;

/// All windows are over after this time.
const LONG: Duration = Duration::from_secs(20 * 60);

/// A cluster with a group of instances for two tasks each, and a service.
struct Dock {
    cloud: &'static Cloud,
    name: &'static str,
}

impl Dock {
    async fn build(cloud: &'static Cloud, name: &'static str, max: u32, tasks: u32) -> Result<Self> {
        cloud.create_fleet(name, &[("tidegate:scale/asg", name)], (1, max), tasks).await?;
        Ok(Self { cloud, name })
    }

    /// Lets the function look at this cluster alone, and returns its decision.
    async fn look(&self) -> Result<Value> {
        let detail = json!({ "of": [format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{}", self.name)] });
        let tick = json!({ "source": "tidegate", "detail-type": "Tick", "detail": detail });
        self.cloud
            .wait_for("a look that no other one is in the way of", || async {
                let answer = self.cloud.invoke("scale-cluster", &tick).await?;
                let decision = list(&answer, "decisions").iter().find(|it| text(it, "cluster") == self.name).cloned();
                let decision = decision.with_context(|| format!("no decision about {}: {answer}", self.name))?;
                Ok(if decision["rule"] == "busy" { Err(decision.to_string()) } else { Ok(decision) })
            })
            .await
    }

    async fn set_tasks(&self, tasks: u64) -> Result<()> {
        let input = json!({ "cluster": self.name, "service": self.name, "desiredCount": tasks });
        self.cloud.aws.ecs("UpdateService", &input).await?;
        self.wait_for_running(tasks).await
    }

    async fn wait_for_running(&self, tasks: u64) -> Result<()> {
        self.cloud
            .wait_for(&format!("{tasks} tasks of {} to run", self.name), || async {
                let service = self.cloud.service(self.name, self.name).await?;
                let is_it = service["runningCount"] == tasks && service["pendingCount"] == 0;
                Ok(if is_it { Ok(()) } else { Err(service.to_string()) })
            })
            .await
    }

    /// Waits until the group is to have so many instances and has no others, all of them in the cluster, and the function,
    /// which looks at it all the time, has nothing more to do.
    async fn wait_for_group(&self, what: &str, is_it: impl Fn(u32) -> bool) -> Result<u32> {
        self.cloud
            .wait_for(&format!("the group {} to have {what}", self.name), || async {
                let (desired, members) = self.cloud.group(self.name).await?;
                let joined = self.cloud.container_instances(self.name).await?;
                let decision = self.look().await?;
                let are_active = joined.iter().all(|instance| text(instance, "status") == "ACTIVE");
                let are_all = [members.len(), joined.len()] == [desired as usize; 2];
                let is_settled = decision["action"] == "skip" && are_active && are_all;
                let seen = || format!("{desired}: {members:?}; {decision}");
                Ok(if is_settled && is_it(desired) { Ok(desired) } else { Err(seen()) })
            })
            .await
    }

    /// Nothing of it is busy, as CloudWatch tells.
    async fn is_calm(&self) -> Result<()> {
        self.meter(&[12.0, 11.0, 12.0]).await
    }

    async fn meter(&self, cpu: &[f64]) -> Result<()> {
        let cluster = ("ClusterName", self.name);
        self.cloud.meter("AWS/ECS", cluster, "CPUUtilization", cpu).await?;
        self.cloud.meter("AWS/ECS", cluster, "MemoryUtilization", &vec![20.0; cpu.len()]).await
    }

    /// What its tasks were stopped for.
    fn stops(&self) -> Vec<String> {
        let mut events = self.cloud.events.published();
        events.retain(|event| event["detail-type"] == "ECS Task State Change" && event.to_string().contains(self.name));
        events.iter().map(|event| text(&event["detail"], "stoppedReason").to_owned()).collect()
    }
}

#[test]
fn a_cluster_gets_instances_for_tasks_without_room_and_drains_what_it_does_not_need() -> Result<()> {
    scenario(|cloud| async move {
        let slipway = Dock::build(cloud, "slipway", 4, 2).await?;
        slipway.wait_for_running(2).await?;
        slipway.wait_for_group("room for the next task", |desired| desired >= 2).await?;
        // The event of the tasks that find no place wakes the function; nobody looks.
        slipway.set_tasks(6).await?;
        let largest = slipway.wait_for_group("room for six tasks and the next", |desired| desired >= 3).await?;

        slipway.set_tasks(1).await?;
        cloud.wait_until_steady("slipway", "slipway").await?;
        slipway.is_calm().await?;
        let soon = slipway.look().await?;
        assert_eq!(soon["action"], "skip", "{soon}");
        let before = cloud.group("slipway").await?.0;
        assert_eq!(before, largest);
        cloud.let_time_pass("slipway", "slipway", LONG).await?;
        slipway.is_calm().await?;
        let goes = slipway.look().await?;
        assert_eq!(goes["action"], "scale", "{goes}");
        slipway.wait_for_group("one instance less", |desired| desired < before).await?;
        slipway.wait_for_running(1).await?;
        let stops = slipway.stops();
        ensure!(stops.iter().all(|reason| reason.starts_with("Scaling activity initiated by")), "{stops:?}");
        let actions = cloud.scaling_actions("slipway").await?;
        ensure!(actions.iter().all(|action| action["outcome"] == "accepted"), "{actions:#?}");
        Ok(())
    })
}

#[test]
fn a_hot_cluster_gets_instances() -> Result<()> {
    scenario(|cloud| async move {
        let stokehold = Dock::build(cloud, "stokehold", 4, 2).await?;
        stokehold.wait_for_running(2).await?;
        let before = stokehold.wait_for_group("room for the next task", |desired| desired >= 2).await?;
        // What CloudWatch has is of the instances that there were at that time.
        cloud.let_time_pass("stokehold", "stokehold", LONG).await?;
        stokehold.meter(&[90.0, 93.0, 95.0]).await?;
        let out = stokehold.look().await?;
        assert_eq!((&out["action"], &out["from"]), (&json!("scale"), &json!(before)), "{out}");
        stokehold.wait_for_group("more instances", |desired| desired > before).await?;
        Ok(())
    })
}

#[test]
fn an_instance_that_the_group_takes_away_is_drained_first() -> Result<()> {
    scenario(|cloud| async move {
        let anchorage = Dock::build(cloud, "anchorage", 4, 2).await?;
        anchorage.wait_for_running(2).await?;
        let size = anchorage.wait_for_group("room for the next task", |desired| desired >= 2).await?;
        let hook = [
            ("AutoScalingGroupName", "anchorage"),
            ("LifecycleHookName", "drain"),
            ("LifecycleTransition", "autoscaling:EC2_INSTANCE_TERMINATING"),
        ];
        cloud.aws.autoscaling("PutLifecycleHook", &hook).await?;
        let instances = cloud.container_instances("anchorage").await?;
        let busy = instances.iter().find(|instance| instance["runningTasksCount"] == 2).context("spread")?;
        let id = text(busy, "ec2InstanceId");
        let terminate = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", "false")];
        cloud.aws.autoscaling("TerminateInstanceInAutoScalingGroup", &terminate).await?;
        cloud
            .wait_for("the instance to be gone", || async {
                let running =
                    cloud.service("anchorage", "anchorage").await?["runningCount"].as_u64().unwrap_or_default();
                ensure!(running >= 2, "a task was stopped before another one ran");
                let (_, members) = cloud.group("anchorage").await?;
                Ok(if members.iter().all(|it| it.id != id) { Ok(()) } else { Err(format!("{members:?}")) })
            })
            .await?;
        let stops = anchorage.stops();
        ensure!(stops.iter().all(|reason| reason.starts_with("Scaling activity initiated by")), "{stops:?}");
        assert_eq!(cloud.group("anchorage").await?.0, size, "the group replaces it");
        Ok(())
    })
}

#[test]
fn an_instance_that_spot_takes_back_is_drained() -> Result<()> {
    scenario(|cloud| async move {
        let pontoon = Dock::build(cloud, "pontoon", 4, 2).await?;
        pontoon.wait_for_running(2).await?;
        pontoon.wait_for_group("room for the next task", |desired| desired >= 2).await?;
        let instances = cloud.container_instances("pontoon").await?;
        let busy = instances.iter().find(|instance| instance["runningTasksCount"] == 2).context("spread")?;
        cloud.events.publish(&spot_warning(text(busy, "ec2InstanceId"))).await?;
        cloud
            .wait_for("the instance to be empty", || async {
                let running = cloud.service("pontoon", "pontoon").await?["runningCount"].as_u64().unwrap_or_default();
                ensure!(running >= 2, "a task was stopped before another one ran");
                let instances = cloud.container_instances("pontoon").await?;
                let it = instances.iter().find(|it| it["ec2InstanceId"] == busy["ec2InstanceId"]).context("gone")?;
                let is_empty = it["status"] == "DRAINING" && it["runningTasksCount"] == 0;
                Ok(if is_empty { Ok(()) } else { Err(it.to_string()) })
            })
            .await?;
        // EC2 takes it, and nobody else.
        pontoon.look().await?;
        assert!(cloud.group("pontoon").await?.1.iter().any(|member| member.id == text(busy, "ec2InstanceId")));
        Ok(())
    })
}

#[test]
fn a_group_of_a_capacity_provider_with_managed_scaling_is_left_alone() -> Result<()> {
    scenario(|cloud| async move {
        let lighter = Dock::build(cloud, "lighter", 4, 2).await?;
        let groups = [("AutoScalingGroupNames.member.1", "lighter")];
        let described = cloud.aws.autoscaling("DescribeAutoScalingGroups", &groups).await?;
        let arn = local::aws::elements(&described, "AutoScalingGroupARN").next().context("no ARN")?;
        let provider = json!({
            "name": "lighter",
            "autoScalingGroupProvider": { "autoScalingGroupArn": arn, "managedScaling": { "status": "ENABLED" } },
        });
        cloud.aws.ecs("CreateCapacityProvider", &provider).await?;
        let attach =
            json!({ "cluster": "lighter", "capacityProviders": ["lighter"], "defaultCapacityProviderStrategy": [] });
        cloud.aws.ecs("PutClusterCapacityProviders", &attach).await?;
        // More than there is room for.
        let input = json!({ "cluster": "lighter", "service": "lighter", "desiredCount": 4 });
        cloud.aws.ecs("UpdateService", &input).await?;
        let refused = lighter.look().await?;
        assert_eq!((&refused["action"], &refused["rule"]), (&json!("skip"), &json!("refused")), "{refused}");
        assert!(text(&refused, "reason").contains("lighter"), "{refused}");
        let mut messages = cloud.slack.messages();
        messages.retain(|message| message.rendered().contains("lighter"));
        assert_eq!(messages.len(), 1, "{messages:?}");
        Ok(())
    })
}
