//! What a decision about a cluster is made of, as AWS says now.
//!
//! Three rounds of calls, however large the cluster: what there is, what it is like, and what its tasks need.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join3, join4, try_join, try_join_all, try_join3};

use super::decide::{Demand, Group, Instance, Minute, Resources, Stage, Task};
use super::needs::{is_on_group, lacking};
use super::{ClusterScaler, Refusal};
use crate::ecs::{CapacityProvider, ClusterService, ClusterTask, ContainerInstance, Wanted};
use crate::error::Error;
use crate::groups::{AutoScalingGroup, Member};
use crate::metering::Asked;
use crate::task_definition::family_of;

/// How much of the metrics is read.
const WINDOW: TimeDelta = TimeDelta::minutes(20);

/// What was read of a cluster.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) group: Group,
    pub(super) instances: Vec<Instance>,
    pub(super) unplaced: Vec<Demand>,
    pub(super) shapes: BTreeMap<String, Resources>,
    pub(super) is_rolling_out: bool,
    pub(super) minutes: Vec<Minute>,
    /// What could not be learnt.
    pub(super) notes: Vec<String>,
}

/// How long ECS is left to find a place for tasks on an instance that has joined.
const PLACING: TimeDelta = TimeDelta::minutes(2);

/// What there is in a cluster.
struct Inventory {
    instances: Vec<ContainerInstance>,
    services: Vec<ClusterService>,
    tasks: Vec<ClusterTask>,
}

impl ClusterScaler {
    /// Reads what the decision needs.
    ///
    /// # Errors
    /// [`Error::Aws`], with the code `ClusterNotFoundException` where the cluster is gone; [`Error::Answer`].
    pub(super) async fn observe(&self, cluster: &str, group: &str) -> Result<Result<Seen, Refusal>, Error> {
        let now = self.platform.now();
        let of_group = async { try_join(self.groups.group(group), self.groups.is_refreshing(group)).await };
        let read = join4(
            Box::pin(of_group),
            Box::pin(self.ecs.capacity_providers()),
            Box::pin(self.inventory(cluster)),
            Box::pin(self.minutes(cluster, now)),
        );
        let (of_group, providers, inventory, minutes) = read.await;
        let (found, is_refreshing) = of_group?;
        let providers = providers?;
        let found = match usable(group, found, &providers) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let names = providers.into_iter().filter(|provider| provider.group == group).map(|provider| provider.name);
        let names: BTreeSet<String> = names.collect();
        let inventory = inventory?;
        let mut notes = Vec::new();
        let minutes = minutes.unwrap_or_else(|error| {
            // What tasks need is known without it. Nothing is taken away.
            notes.push(format!("how busy the cluster is can't be learnt: {error}"));
            Vec::new()
        });
        let members: BTreeSet<&str> = found.members.iter().map(|member| member.id.as_str()).collect();
        let in_group: Vec<&ContainerInstance> =
            inventory.instances.iter().filter(|instance| members.contains(instance.ec2_id.as_str())).collect();
        let on_group: Vec<&ClusterService> =
            inventory.services.iter().filter(|service| is_on_group(service, &names)).collect();

        let revisions = revisions(&on_group, &inventory.tasks);
        let protectable = protectable(&found, &in_group, &inventory.tasks);
        let (needs, protected, stopping) = join3(
            Box::pin(self.needs.of(&self.ecs, &revisions)),
            Box::pin(self.ecs.protected_tasks(cluster, &protectable)),
            Box::pin(self.stopping(cluster, &in_group)),
        )
        .await;
        let needs = needs?;
        let protected = protected.unwrap_or_else(|error| {
            notes.push(format!("which tasks protect themselves can't be learnt, so all count as if they did: {error}"));
            protectable.iter().cloned().collect()
        });
        let daemons =
            inventory.services.iter().filter(|service| service.is_daemon).map(|service| service.name.as_str());
        let reading = Reading {
            needs: &needs,
            protected: &protected,
            daemons: daemons.collect(),
            tasks: inventory.tasks.iter().chain(&stopping?).cloned().collect(),
        };
        let instances = found.members.iter().filter_map(|member| {
            let registered = in_group.iter().find(|instance| instance.ec2_id == member.id);
            reading.instance(member, registered.copied())
        });
        Ok(Ok(Seen {
            instances: instances.collect(),
            unplaced: unplaced(&on_group, &inventory.tasks, &names, &needs, joined(&in_group, now)),
            shapes: shapes(&on_group, &needs),
            is_rolling_out: on_group.iter().any(|service| service.is_rolling_out()),
            minutes,
            notes,
            group: Group {
                name: found.name,
                min: found.min,
                max: found.max,
                desired: found.desired,
                is_refreshing,
                suspended: found.suspended,
            },
        }))
    }

    /// The cluster's container instances, services and tasks.
    async fn inventory(&self, cluster: &str) -> Result<Inventory, Error> {
        let instances = async {
            let arns = self.ecs.list_container_instances(cluster, None).await?;
            self.ecs.container_instances(cluster, &arns).await
        };
        let services = async {
            let arns = self.ecs.list_services(cluster).await?;
            self.ecs.cluster_services(cluster, &arns).await
        };
        let tasks = async {
            let arns = self.ecs.list_tasks(cluster, Wanted::Running).await?;
            self.ecs.cluster_tasks(cluster, &arns).await
        };
        let (instances, services, tasks) = try_join3(Box::pin(instances), Box::pin(services), Box::pin(tasks)).await?;
        Ok(Inventory { instances, services, tasks })
    }

    /// The tasks of draining instances that are to stop, and have not yet: they may be at their last work.
    async fn stopping(&self, cluster: &str, instances: &[&ContainerInstance]) -> Result<Vec<ClusterTask>, Error> {
        let draining = instances.iter().filter(|instance| instance.status == "DRAINING");
        let of_instances = draining.map(|instance| async move {
            let arns = self.ecs.list_tasks(cluster, Wanted::StoppingOn(&instance.arn)).await?;
            self.ecs.cluster_tasks(cluster, &arns).await
        });
        let tasks = try_join_all(of_instances.map(Box::pin)).await?;
        Ok(tasks.into_iter().flatten().filter(|task| task.last_status != "STOPPED").collect())
    }

    /// The cluster's [metrics](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/available-metrics.html).
    async fn minutes(&self, cluster: &str, now: DateTime<Utc>) -> Result<Vec<Minute>, Error> {
        let asked = ["CPUUtilization", "MemoryUtilization"].map(|metric| Asked {
            namespace: "AWS/ECS",
            metric,
            dimensions: vec![("ClusterName", cluster.to_owned())],
            statistic: "Average",
        });
        let read = self.metering.minutes(&asked, now, WINDOW).await?;
        let of = |at: usize, end: &DateTime<Utc>| read.get(at).and_then(|minutes| minutes.get(end)).copied();
        let ends: BTreeSet<DateTime<Utc>> = read.iter().flat_map(|minutes| minutes.keys().copied()).collect();
        Ok(ends.into_iter().map(|end| Minute { end, cpu: of(0, &end), memory: of(1, &end) }).collect())
    }
}

/// The group, if we may scale it.
fn usable(
    name: &str,
    group: Option<AutoScalingGroup>,
    providers: &[CapacityProvider],
) -> Result<AutoScalingGroup, Refusal> {
    let group = group.filter(|group| !group.is_deleted).ok_or_else(|| Refusal::NoGroup(name.to_owned()))?;
    if let Some(owner) = providers.iter().find(|provider| provider.is_managed && provider.group == name) {
        return Err(Refusal::Managed { group: group.name, provider: owner.name.clone() });
    }
    if group.counts_otherwise {
        return Err(Refusal::NotInInstances(group.name));
    }
    Ok(group)
}

/// The revisions that services of the group are brought to, and those of all tasks.
fn revisions(services: &[&ClusterService], tasks: &[ClusterTask]) -> BTreeSet<String> {
    let of_services = services.iter().filter_map(|service| service.primary()).map(|primary| &primary.task_definition);
    let placed = tasks.iter().filter(|task| task.instance.is_some() || task.capacity_provider.is_some());
    let all = of_services.chain(placed.map(|task| &task.task_definition));
    all.filter(|arn| !arn.is_empty()).cloned().collect()
}

/// The tasks on the group's instances that may protect themselves; none where nothing can be taken away in any case.
fn protectable(group: &AutoScalingGroup, instances: &[&ContainerInstance], tasks: &[ClusterTask]) -> Vec<String> {
    if group.desired <= group.min {
        return Vec::new();
    }
    let ours: BTreeSet<&str> = instances.iter().map(|instance| instance.arn.as_str()).collect();
    let of_services = tasks.iter().filter(|task| task.service.is_some());
    let on_ours = of_services.filter(|task| task.instance.as_deref().is_some_and(|arn| ours.contains(arn)));
    on_ours.map(|task| task.arn.clone()).collect()
}

/// What the tasks of the cluster are.
struct Reading<'a> {
    needs: &'a BTreeMap<String, Resources>,
    protected: &'a BTreeSet<String>,
    daemons: BTreeSet<&'a str>,
    tasks: Vec<ClusterTask>,
}

impl Reading<'_> {
    /// An instance of the group. `None` where the group does not count it: it is in standby, or detached.
    fn instance(&self, member: &Member, registered: Option<&ContainerInstance>) -> Option<Instance> {
        let stage = stage(member, registered)?;
        let tasks =
            self.tasks.iter().filter(|task| registered.is_some_and(|it| task.instance.as_ref() == Some(&it.arn)));
        Some(Instance {
            id: member.id.clone(),
            container_instance: registered.map(|registered| registered.arn.clone()),
            stage,
            zone: member.zone.clone(),
            registered: registered.map(|registered| registered.registered.clone().into()).unwrap_or_default(),
            remaining: registered.map(|registered| registered.remaining.clone().into()).unwrap_or_default(),
            tasks: tasks.map(|task| self.task(task)).collect(),
            is_protected: member.is_protected,
        })
    }

    fn task(&self, task: &ClusterTask) -> Task {
        Task {
            arn: task.arn.clone(),
            service: task.service.clone(),
            needs: self.needs.get(&task.task_definition).cloned().unwrap_or_else(|| task.holds.clone().into()),
            is_daemon: task.service.as_deref().is_some_and(|service| self.daemons.contains(service)),
            is_protected: self.protected.contains(&task.arn),
        }
    }
}

/// Where an instance is in its life, by its [lifecycle](https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html)
/// in the group, and by ECS's
/// [status](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-instance-draining.html) of it.
fn stage(member: &Member, registered: Option<&ContainerInstance>) -> Option<Stage> {
    let lifecycle = member.lifecycle.as_str();
    match (lifecycle.split(':').next().unwrap_or_default(), registered) {
        ("Terminating", _) => Some(Stage::Terminating),
        ("Pending", None) | ("InService", None) => Some(Stage::Booting),
        ("Pending" | "InService", Some(registered)) => Some(match registered.status.as_str() {
            "DRAINING" => Stage::Draining,
            "REGISTERING" => Stage::Booting,
            "ACTIVE" if registered.is_connected => Stage::Active,
            _ => Stage::Lost,
        }),
        // Standby, detached, quarantined, terminated, or waiting in a warm pool.
        _ => None,
    }
}

/// When the newest instance joined, if ECS may not have looked at it for every task: what it said before then is not
/// about the room that there is now.
fn joined(instances: &[&ContainerInstance], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let newest = instances.iter().filter_map(|instance| instance.registered_at).max()?;
    (now - newest < PLACING).then_some(newest)
}

/// The tasks without a place, by service.
fn unplaced(
    services: &[&ClusterService],
    tasks: &[ClusterTask],
    providers: &BTreeSet<String>,
    needs: &BTreeMap<String, Resources>,
    joined: Option<DateTime<Utc>>,
) -> Vec<Demand> {
    let lacking = services.iter().filter_map(|service| {
        let needs = needs.get(&service.primary()?.task_definition)?.clone();
        let is_blocked = service.blocked_since().is_some_and(|since| joined.is_none_or(|joined| joined <= since));
        Some(Demand { service: service.name.clone(), needs, tasks: lacking(service), is_blocked })
    });
    let mut demands: Vec<Demand> = lacking.filter(|demand| demand.tasks > 0).collect();
    // ECS keeps them back until there is a place, and counts them as pending.
    let waits = |task: &&ClusterTask| {
        let by = task.capacity_provider.as_ref();
        task.last_status == "PROVISIONING" && task.instance.is_none() && by.is_some_and(|by| providers.contains(by))
    };
    for task in tasks.iter().filter(waits) {
        let needs = needs.get(&task.task_definition).cloned().unwrap_or_else(|| task.holds.clone().into());
        let service = task.service.clone().unwrap_or_else(|| family_of(&task.task_definition).to_owned());
        match demands.iter_mut().find(|demand| demand.service == service && demand.needs == needs) {
            Some(demand) => demand.tasks = demand.tasks.saturating_add(1),
            None => demands.push(Demand { service, needs, tasks: 1, is_blocked: false }),
        }
    }
    demands
}

/// What one task of each service needs that has a task definition, but for those that are on each instance in any case.
fn shapes(services: &[&ClusterService], needs: &BTreeMap<String, Resources>) -> BTreeMap<String, Resources> {
    let others = services.iter().filter(|service| !service.is_daemon && service.status == "ACTIVE");
    let shape = |service: &&&ClusterService| {
        Some((service.name.clone(), needs.get(&service.primary()?.task_definition)?.clone()))
    };
    others.filter_map(|service| shape(&service)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::{Deployment, Room};

    #[test]
    fn an_instance_is_where_its_group_and_ecs_say() {
        let registered = |status: &str, is_connected| ContainerInstance {
            arn: "arn".into(),
            ec2_id: "i-1".into(),
            status: status.into(),
            is_connected,
            registered_at: None,
            registered: Room::default(),
            remaining: Room::default(),
        };
        for (lifecycle, instance, expected) in [
            ("Pending", None, Some(Stage::Booting)),
            ("Pending:Wait", None, Some(Stage::Booting)),
            ("InService", None, Some(Stage::Booting)),
            ("InService", Some(("REGISTERING", true)), Some(Stage::Booting)),
            ("Pending:Wait", Some(("ACTIVE", true)), Some(Stage::Active)),
            ("InService", Some(("ACTIVE", true)), Some(Stage::Active)),
            ("InService", Some(("ACTIVE", false)), Some(Stage::Lost)),
            ("InService", Some(("REGISTRATION_FAILED", true)), Some(Stage::Lost)),
            ("InService", Some(("DRAINING", true)), Some(Stage::Draining)),
            ("InService", Some(("DRAINING", false)), Some(Stage::Draining)),
            ("Terminating", None, Some(Stage::Terminating)),
            ("Terminating:Wait", Some(("ACTIVE", true)), Some(Stage::Terminating)),
            ("Standby", Some(("ACTIVE", true)), None),
            ("Detaching", Some(("ACTIVE", true)), None),
            ("Warmed:Stopped", None, None),
            ("", Some(("ACTIVE", true)), None),
        ] {
            let member = Member { id: "i-1".into(), lifecycle: lifecycle.into(), zone: None, is_protected: false };
            let instance = instance.map(|(status, is_connected)| registered(status, is_connected));
            assert_eq!(stage(&member, instance.as_ref()), expected, "{lifecycle} {instance:?}");
        }
    }

    fn waiting(service: Option<&str>, provider: Option<&str>, status: &str) -> ClusterTask {
        ClusterTask {
            arn: "task".into(),
            service: service.map(str::to_owned),
            instance: None,
            capacity_provider: provider.map(str::to_owned),
            task_definition: "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:1".into(),
            last_status: status.into(),
            holds: Room { cpu: 256, ..Room::default() },
        }
    }

    #[test]
    fn tasks_that_wait_for_capacity_count_beside_those_that_ecs_has_not_made_yet() {
        let definition = waiting(None, None, "").task_definition;
        let shape = Resources { cpu: 512, ..Resources::default() };
        let needs = BTreeMap::from([(definition.clone(), shape.clone())]);
        let providers = BTreeSet::from(["ours".to_owned()]);
        let primary = Deployment {
            status: "PRIMARY".into(),
            task_definition: definition,
            desired_count: 6,
            running_count: 1,
            pending_count: 2,
            rollout_state: "COMPLETED".into(),
            ..Deployment::default()
        };
        let service = ClusterService {
            name: "web".into(),
            status: "ACTIVE".into(),
            is_daemon: false,
            launch_type: String::new(),
            capacity_providers: providers.clone(),
            desired: 6,
            running: 1,
            pending: 2,
            deployments: vec![primary],
            maximum_percent: 200,
            events: Vec::new(),
        };
        let tasks = [
            waiting(Some("web"), Some("ours"), "PROVISIONING"),
            waiting(Some("web"), Some("ours"), "PROVISIONING"),
            waiting(Some("api"), Some("FARGATE"), "PROVISIONING"),
            waiting(Some("web"), Some("ours"), "PENDING"),
            waiting(None, Some("ours"), "PROVISIONING"),
        ];
        let demands = unplaced(&[&service], &tasks, &providers, &needs, None);
        // Those that somebody runs by themselves have the name of their family.
        assert_eq!(demands, [Demand { service: "web".into(), needs: shape, tasks: 6, is_blocked: false }]);
    }
}
