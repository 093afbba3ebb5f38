//! ECS as far as the functions see it. Rollouts end when a test says so.

mod instances;
mod scheduler;
mod service_deployments;
mod services;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

pub use self::service_deployments::ServiceDeployment;
use super::{ACCOUNT, BEGINNING, REGION};

#[derive(Debug, Clone, PartialEq)]
pub struct Ecs {
    /// By `<cluster>/<service>`.
    pub services: BTreeMap<String, Value>,
    /// By family: each revision with its tags, as registered; null where it has been deleted.
    pub families: BTreeMap<String, Vec<Value>>,
    /// What services were brought to, one after the other.
    pub turns: Vec<Turn>,
    /// The history of the services' deployments, oldest first.
    pub service_deployments: Vec<ServiceDeployment>,
    /// Whether ECS shows that history. It has none of services that are older than it, nor in every partition.
    pub service_deployments_exist: bool,
    /// By `<cluster>/<service>`.
    pub tasks: BTreeMap<String, Vec<Value>>,
    /// What ECS has resolved the tags of a deployment to, by the deployment's id.
    pub resolved: BTreeMap<String, String>,
    /// Clusters with tags, by name.
    pub tagged_clusters: BTreeMap<String, Value>,
    /// By cluster.
    pub container_instances: BTreeMap<String, Vec<Value>>,
    pub capacity_providers: Vec<Value>,
    /// ARNs of the tasks that protect themselves from scale-in.
    pub protected: BTreeSet<String>,
    /// Ids of the deployments that ECS has gone back to: they had completed before.
    steady: BTreeSet<String>,
    clusters: BTreeSet<String>,
    deployments: u64,
    start: tokio::time::Instant,
}

impl Default for Ecs {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            families: BTreeMap::new(),
            turns: Vec::new(),
            service_deployments: Vec::new(),
            service_deployments_exist: true,
            tasks: BTreeMap::new(),
            resolved: BTreeMap::new(),
            tagged_clusters: BTreeMap::new(),
            container_instances: BTreeMap::new(),
            capacity_providers: Vec::new(),
            protected: BTreeSet::new(),
            steady: BTreeSet::new(),
            clusters: BTreeSet::new(),
            deployments: 0,
            start: tokio::time::Instant::now(),
        }
    }
}

/// A service was brought to another revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// `<cluster>/<service>`.
    pub service: String,
    pub revision: String,
    pub by: By,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By {
    UpdateService,
    Others,
    Rollback,
}

/// What tests set up, do as others would, and see.
impl Ecs {
    /// A running service of `family`, with these tags.
    pub fn add_service(&mut self, cluster: &str, name: &str, family: &str, tags: &[(&str, &str)]) {
        self.add_service_with(cluster, name, family, tags, &json!({}));
    }

    /// As [`add_service`](Self::add_service), with the fields of `extra`, which reach into those that every service has.
    pub fn add_service_with(&mut self, cluster: &str, name: &str, family: &str, tags: &[(&str, &str)], extra: &Value) {
        let revision = self.newest(family);
        self.deployments += 1;
        let mut service = json!({
            "serviceArn": service_arn(cluster, name), "serviceName": name, "status": "ACTIVE", "desiredCount": 2,
            "deploymentController": {"type": "ECS"}, "events": [],
            "deploymentConfiguration": {
                "maximumPercent": 200, "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            },
            "deployments": [{
                "id": format!("ecs-svc/{}", self.deployments), "status": "PRIMARY", "taskDefinition": revision,
                "rolloutState": "COMPLETED", "createdAt": 1_794_000_000.0, "desiredCount": 2, "runningCount": 2,
            }],
        });
        merge(&mut service, extra);
        self.clusters.insert(cluster.to_owned());
        let id = format!("{cluster}/{name}");
        self.services.insert(id.clone(), service);
        self.set_tags(&id, tags);
        self.begin_service_deployment(&id, 1_794_000_000.0);
        self.service_deployment(&id).set_status("SUCCESSFUL", 1_794_000_060.0);
    }

    pub fn set_tags(&mut self, service: &str, tags: &[(&str, &str)]) {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        self.service(service)["tags"] = json!(tags);
    }

    pub fn delete_service(&mut self, service: &str) {
        self.services.remove(service).unwrap();
    }

    pub fn newest(&self, family: &str) -> String {
        let revisions = self.families.get(family).map_or(0, Vec::len);
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revisions}")
    }

    /// Makes a revision INACTIVE.
    pub fn deregister(&mut self, arn: &str) {
        self.revision_mut(arn)["taskDefinition"]["status"] = json!("INACTIVE");
    }

    /// Deletes a revision: nothing is left of it but its number, which is not given again.
    pub fn delete_revision(&mut self, arn: &str) {
        *self.revision_mut(arn) = Value::Null;
    }

    /// The image of the first container that the PRIMARY deployment runs.
    pub fn running(&self, service: &str) -> String {
        let arn = self.services[service]["deployments"][0]["taskDefinition"].as_str().unwrap();
        let definition = &self.revision(arn).unwrap()["taskDefinition"];
        definition["containerDefinitions"][0]["image"].as_str().unwrap().to_owned()
    }

    pub fn end_rollout(&mut self, service: &str, state: &str) {
        let deployment = &mut self.service(service)["deployments"][0];
        deployment["rolloutState"] = json!(state);
        if state == "COMPLETED" {
            deployment["runningCount"] = deployment["desiredCount"].clone();
            deployment["pendingCount"] = json!(0);
        }
        self.end_service_deployment(service, state, self.now());
    }

    /// How far the PRIMARY deployment has come: tasks that run, and tasks that have failed; the rest is pending.
    pub fn set_progress(&mut self, service: &str, running: u64, failed: u64) {
        let deployment = &mut self.service(service)["deployments"][0];
        deployment["pendingCount"] = json!(deployment["desiredCount"].as_u64().unwrap() - running);
        deployment["runningCount"] = json!(running);
        deployment["failedTasks"] = json!(failed);
    }

    /// What the service says of itself in `events`, newest first.
    pub fn add_event(&mut self, service: &str, message: &str) {
        let now = self.now();
        let events = self.service(service)["events"].as_array_mut().unwrap();
        events.insert(0, json!({"id": format!("event-{}", events.len()), "createdAt": now, "message": message}));
    }

    /// A deployment of `revision` that is none of ours; its id.
    pub fn deploy_by_others(&mut self, service: &str, revision: &str, now: f64, rollout_state: &str) -> String {
        self.deploy(service, revision, now, By::Others);
        self.end_rollout(service, rollout_state);
        self.services[service]["deployments"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The circuit breaker: the newest deployment has failed, and ECS has gone back to the one before.
    pub fn roll_back(&mut self, service: &str) {
        self.begin_roll_back(service);
        self.end_rollout(service, "COMPLETED");
    }

    /// The newest deployment has failed, and ECS goes back to the last completed one, which keeps its id. It does so for
    /// the alarms that were triggered, or else for its circuit breaker.
    pub fn begin_roll_back(&mut self, service: &str) {
        match self.service_deployment(service).shown["alarms"]["status"] == "TRIGGERED" {
            true => self.go_back(service, "Service deployment rolled back because of alarms.", false),
            false => {
                let reason = "Service deployment rolled back because the circuit breaker threshold was exceeded.";
                self.go_back(service, reason, true);
            }
        }
    }

    fn go_back(&mut self, service: &str, reason: &str, breaks: bool) {
        let before = self.to_go_back_to(service).unwrap();
        let deployments = self.service(service)["deployments"].as_array_mut().unwrap();
        deployments[0]["status"] = json!("ACTIVE");
        deployments[0]["rolloutState"] = json!("FAILED");
        let mut before = deployments.remove(before);
        before["status"] = json!("PRIMARY");
        before["rolloutState"] = json!("IN_PROGRESS");
        let revision = before["taskDefinition"].as_str().unwrap().to_owned();
        let id = before["id"].as_str().unwrap().to_owned();
        deployments.insert(0, before);
        self.steady.insert(id.clone());
        self.roll_service_deployment_back(service, &id, reason, breaks);
        self.turns.push(Turn { service: service.into(), revision, by: By::Rollback });
    }

    /// Where the deployment stands that ECS would go back to: the last one that has completed, if need be before ECS was
    /// going back to it.
    pub fn to_go_back_to(&self, service: &str) -> Option<usize> {
        let others = || self.services[service]["deployments"].as_array().unwrap().iter().enumerate().skip(1);
        let is_steady = |deployment: &Value| {
            deployment["rolloutState"] == "COMPLETED" || self.steady.contains(deployment["id"].as_str().unwrap())
        };
        others().find(|(_, deployment)| is_steady(deployment)).map(|(at, _)| at)
    }

    /// `<cluster>/<service>` of a call that is about a service, or else nothing.
    pub(super) fn service_of(&self, operation: &str, body: &Value) -> String {
        match operation {
            "UpdateService" => format!("{}/{}", last_part(&body["cluster"]), last_part(&body["service"])),
            "StopServiceDeployment" => {
                let arn = &body["serviceDeploymentArn"];
                let mut history = self.service_deployments.iter();
                let found = history.find(|entry| entry.shown["serviceDeploymentArn"] == *arn);
                found.map(|entry| entry.service.clone()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }

    /// The tasks of all deployments but the PRIMARY one have stopped, and ECS no longer shows them.
    pub fn drain(&mut self, service: &str) {
        self.service(service)["deployments"].as_array_mut().unwrap().truncate(1);
    }

    /// The tasks of deployments that were overtaken before they had completed have stopped. What ran before them stays.
    pub fn drain_overtaken(&mut self, service: &str) {
        let deployments = self.service(service)["deployments"].as_array_mut().unwrap();
        let has_stopped =
            |deployment: &Value| deployment["status"] != "PRIMARY" && deployment["rolloutState"] != "COMPLETED";
        deployments.retain(|deployment| !has_stopped(deployment));
    }

    /// In seconds since the epoch.
    fn now(&self) -> f64 {
        (BEGINNING + self.start.elapsed()).as_secs_f64()
    }

    fn service(&mut self, id: &str) -> &mut Value {
        self.services.get_mut(id).unwrap()
    }

    fn revision_mut(&mut self, arn: &str) -> &mut Value {
        let (family, revision) = arn.rsplit('/').next().unwrap().split_once(':').unwrap();
        &mut self.families.get_mut(family).unwrap()[revision.parse::<usize>().unwrap() - 1]
    }

    fn deploy(&mut self, service: &str, revision: &str, now: f64, by: By) {
        self.turns.push(Turn { service: service.into(), revision: revision.into(), by });
        self.deployments += 1;
        let id = format!("ecs-svc/{}", self.deployments);
        let desired = self.services[service]["desiredCount"].clone();
        let deployments = self.service(service)["deployments"].as_array_mut().unwrap();
        for deployment in deployments.iter_mut() {
            deployment["status"] = json!("ACTIVE");
        }
        deployments.insert(
            0,
            json!({
                "id": id, "status": "PRIMARY", "taskDefinition": revision, "rolloutState": "IN_PROGRESS",
                "createdAt": now, "desiredCount": desired, "runningCount": 0,
            }),
        );
        self.begin_service_deployment(service, now);
    }
}

fn service_arn(cluster: &str, name: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{cluster}/{name}")
}

/// The name in a name or an ARN.
fn last_part(id: &Value) -> String {
    id.as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

fn merge(into: &mut Value, extra: &Value) {
    match (into, extra) {
        (Value::Object(into), Value::Object(extra)) => {
            for (name, value) in extra {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, extra) => *into = extra.clone(),
    }
}
