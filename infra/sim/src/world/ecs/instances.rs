//! Container instances, and the cluster as a whole.

use serde_json::{Value, json};

use super::{Ecs, last_part};
use crate::world::tagging::page;
use crate::world::wire::Refusal;
use crate::world::{ACCOUNT, REGION};

/// What tests set up.
impl Ecs {
    /// A cluster with these tags.
    pub fn add_cluster(&mut self, name: &str, tags: &[(&str, &str)]) {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}");
        self.clusters.insert(name.to_owned());
        self.tagged_clusters.insert(name.to_owned(), json!({"clusterArn": arn, "tags": tags}));
    }

    /// The tagging API shows a cluster for a while after it was deleted.
    pub fn delete_cluster(&mut self, name: &str) {
        assert!(self.clusters.remove(name));
    }

    /// The instance registers with the cluster.
    pub fn register_instance(&mut self, cluster: &str, ec2_id: &str, cpu: i64, memory: i64) {
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster}/{ec2_id}");
        let ports = json!({"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2376"]});
        let now = self.now();
        self.container_instances.entry(cluster.to_owned()).or_default().push(json!({
            "containerInstanceArn": arn, "ec2InstanceId": ec2_id, "status": "ACTIVE", "agentConnected": true,
            "registeredAt": now, "registeredResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": memory}, ports,
            ],
        }));
    }

    /// The instance is gone, and its tasks with it.
    pub fn deregister_instance(&mut self, cluster: &str, ec2_id: &str) {
        let instances = self.container_instances.get_mut(cluster).unwrap();
        instances.retain(|instance| instance["ec2InstanceId"] != ec2_id);
        for tasks in self.tasks.values_mut() {
            tasks.retain(|task| !is_on(task, ec2_id));
        }
    }

    /// ECS's status of an instance.
    pub fn status_of(&self, cluster: &str, ec2_id: &str) -> String {
        let mut instances = self.container_instances[cluster].iter();
        let instance = instances.find(|instance| instance["ec2InstanceId"] == ec2_id);
        instance.map_or("gone", |instance| instance["status"].as_str().unwrap()).to_owned()
    }

    /// The tasks on an instance that run.
    pub fn tasks_on(&self, ec2_id: &str) -> Vec<String> {
        let tasks = self.tasks.values().flatten().filter(|task| is_on(task, ec2_id) && holds(task));
        tasks.map(|task| task["taskArn"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn remaining(&self, instance: &Value) -> Value {
        let mut remaining = instance["registeredResources"].clone();
        let arn = &instance["containerInstanceArn"];
        let tasks = self.tasks.values().flatten().filter(|task| task["containerInstanceArn"] == *arn && holds(task));
        for task in tasks {
            for (at, of) in [(0, "cpu"), (1, "memory")] {
                let held: i64 = task[of].as_str().unwrap().parse().unwrap();
                remaining[at]["integerValue"] = json!(remaining[at]["integerValue"].as_i64().unwrap() - held);
            }
        }
        remaining
    }
}

/// Whether a task is on an instance, by the instance's id.
pub(super) fn is_on(task: &Value, ec2_id: &str) -> bool {
    task["containerInstanceArn"].as_str().is_some_and(|arn| arn.ends_with(&format!("/{ec2_id}")))
}

/// Whether a task has a place still.
pub(super) fn holds(task: &Value) -> bool {
    task["lastStatus"] != "STOPPED"
}

/// The API.
impl Ecs {
    pub(in crate::world) fn list_container_instances(&self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let wanted = body["filter"].as_str().map(|filter| {
            let id = filter.strip_prefix("ec2InstanceId in ['").and_then(|rest| rest.strip_suffix("']"));
            id.unwrap_or_else(|| panic!("the filter {filter}"))
        });
        let all = self.container_instances.get(&cluster).into_iter().flatten();
        let found = all.filter(|instance| wanted.is_none_or(|wanted| instance["ec2InstanceId"] == wanted));
        let arns = found.map(|instance| instance["containerInstanceArn"].clone()).collect();
        let (page, token) = page(arns, &body["maxResults"], (100, 100), &body["nextToken"])?;
        Ok(json!({"containerInstanceArns": page, "nextToken": token}))
    }

    pub(in crate::world) fn describe_container_instances(&self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let ids = body["containerInstances"].as_array().unwrap();
        assert!((1..=100).contains(&ids.len()), "{body}");
        let all = self.container_instances.get(&cluster).into_iter().flatten();
        let found = all.filter(|instance| ids.contains(&instance["containerInstanceArn"])).map(|instance| {
            let mut shown = instance.clone();
            shown["remainingResources"] = self.remaining(instance);
            shown
        });
        Ok(json!({"containerInstances": found.collect::<Vec<_>>(), "failures": []}))
    }

    pub(in crate::world) fn update_container_instances_state(&mut self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let ids = body["containerInstances"].as_array().unwrap();
        assert!((1..=10).contains(&ids.len()), "{body}");
        let mut failures = Vec::new();
        for id in ids {
            let mut all = self.container_instances.entry(cluster.clone()).or_default().iter_mut();
            match all.find(|instance| instance["containerInstanceArn"] == *id) {
                Some(instance) => instance["status"] = body["status"].clone(),
                None => failures.push(json!({"arn": id, "reason": "MISSING"})),
            }
        }
        Ok(json!({"containerInstances": [], "failures": failures}))
    }

    pub(in crate::world) fn list_services(&self, body: &Value) -> Result<Value, Refusal> {
        let prefix = format!("{}/", self.cluster(body)?);
        let found = self.services.iter().filter(|(id, _)| id.starts_with(&prefix));
        let arns = found.map(|(_, service)| service["serviceArn"].clone()).collect();
        let (page, token) = page(arns, &body["maxResults"], (10, 100), &body["nextToken"])?;
        Ok(json!({"serviceArns": page, "nextToken": token}))
    }

    pub(in crate::world) fn get_task_protection(&self, body: &Value) -> Result<Value, Refusal> {
        self.cluster(body)?;
        let ids = body["tasks"].as_array().unwrap();
        assert!((1..=100).contains(&ids.len()), "{body}");
        let shown =
            |id: &Value| json!({"taskArn": id, "protectionEnabled": self.protected.contains(id.as_str().unwrap())});
        Ok(json!({"protectedTasks": ids.iter().map(shown).collect::<Vec<_>>(), "failures": []}))
    }

    pub(in crate::world) fn describe_capacity_providers(&self, body: &Value) -> Result<Value, Refusal> {
        let fargate = json!({"name": "FARGATE", "status": "ACTIVE"});
        let all = std::iter::once(fargate).chain(self.capacity_providers.iter().cloned()).collect();
        let (page, token) = page(all, &body["maxResults"], (10, 10), &body["nextToken"])?;
        Ok(json!({"capacityProviders": page, "nextToken": token}))
    }

    /// ARN of an instance by EC2's id.
    pub fn instance_arn(&self, cluster: &str, ec2_id: &str) -> Value {
        let mut all = self.container_instances[cluster].iter();
        let found = all.find(|instance| last_part(&instance["containerInstanceArn"]) == ec2_id);
        found.unwrap()["containerInstanceArn"].clone()
    }
}
