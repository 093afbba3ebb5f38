//! ECS as far as the functions see it. Rollouts end when a test says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::wire::Refusal;
use super::{ACCOUNT, REGION};

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Ecs {
    /// By `<cluster>/<service>`.
    pub(crate) services: BTreeMap<String, Value>,
    /// By family: each revision with its tags, as registered; null where it has been deleted.
    pub(crate) families: BTreeMap<String, Vec<Value>>,
    /// What services were brought to, one after the other.
    pub(crate) turns: Vec<Turn>,
    clusters: BTreeSet<String>,
    deployments: u64,
}

/// A service was brought to another revision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    /// `<cluster>/<service>`.
    pub(crate) service: String,
    pub(crate) revision: String,
    pub(crate) by: By,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum By {
    UpdateService,
    Others,
    Rollback,
}

/// What tests set up, do as others would, and see.
impl Ecs {
    /// A running service of `family`, with these tags.
    pub(crate) fn add_service(&mut self, cluster: &str, name: &str, family: &str, tags: &[(&str, &str)]) {
        self.add_service_with(cluster, name, family, tags, &json!({}));
    }

    /// As [`add_service`](Self::add_service), with the fields of `extra`, which reach into those that every service has.
    pub(crate) fn add_service_with(
        &mut self,
        cluster: &str,
        name: &str,
        family: &str,
        tags: &[(&str, &str)],
        extra: &Value,
    ) {
        let revision = self.newest(family);
        self.deployments += 1;
        let mut service = json!({
            "serviceArn": service_arn(cluster, name), "serviceName": name, "status": "ACTIVE", "desiredCount": 2,
            "deploymentController": {"type": "ECS"},
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
    }

    pub(crate) fn set_tags(&mut self, service: &str, tags: &[(&str, &str)]) {
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        self.service(service)["tags"] = json!(tags);
    }

    pub(crate) fn delete_service(&mut self, service: &str) {
        self.services.remove(service).unwrap();
    }

    pub(crate) fn newest(&self, family: &str) -> String {
        let revisions = self.families.get(family).map_or(0, Vec::len);
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revisions}")
    }

    /// Makes a revision INACTIVE.
    pub(crate) fn deregister(&mut self, arn: &str) {
        self.revision_mut(arn)["taskDefinition"]["status"] = json!("INACTIVE");
    }

    /// Deletes a revision: nothing is left of it but its number, which is not given again.
    pub(crate) fn delete_revision(&mut self, arn: &str) {
        *self.revision_mut(arn) = Value::Null;
    }

    /// The image of the first container that the PRIMARY deployment runs.
    pub(crate) fn running(&self, service: &str) -> String {
        let arn = self.services[service]["deployments"][0]["taskDefinition"].as_str().unwrap();
        let definition = &self.revision(arn).unwrap()["taskDefinition"];
        definition["containerDefinitions"][0]["image"].as_str().unwrap().to_owned()
    }

    pub(crate) fn end_rollout(&mut self, service: &str, state: &str) {
        self.service(service)["deployments"][0]["rolloutState"] = json!(state);
    }

    /// A deployment of `revision` that is none of ours; its id.
    pub(crate) fn deploy_by_others(&mut self, service: &str, revision: &str, now: f64, rollout_state: &str) -> String {
        self.deploy(service, revision, now, By::Others);
        self.end_rollout(service, rollout_state);
        self.services[service]["deployments"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The circuit breaker: the newest deployment has failed, and ECS has gone back to the one before.
    pub(crate) fn roll_back(&mut self, service: &str) {
        self.begin_roll_back(service);
        self.end_rollout(service, "COMPLETED");
    }

    /// The newest deployment has failed, and ECS goes back to the last completed one, which keeps its id.
    pub(crate) fn begin_roll_back(&mut self, service: &str) {
        let deployments = self.service(service)["deployments"].as_array_mut().unwrap();
        deployments[0]["status"] = json!("ACTIVE");
        deployments[0]["rolloutState"] = json!("FAILED");
        let completed = deployments.iter().position(|deployment| deployment["rolloutState"] == "COMPLETED");
        let mut before = deployments.remove(completed.unwrap());
        before["status"] = json!("PRIMARY");
        before["rolloutState"] = json!("IN_PROGRESS");
        let revision = before["taskDefinition"].as_str().unwrap().to_owned();
        deployments.insert(0, before);
        self.turns.push(Turn { service: service.into(), revision, by: By::Rollback });
    }

    /// The tasks of all deployments but the PRIMARY one have stopped, and ECS no longer shows them.
    pub(crate) fn drain(&mut self, service: &str) {
        self.service(service)["deployments"].as_array_mut().unwrap().truncate(1);
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
        let deployments = self.service(service)["deployments"].as_array_mut().unwrap();
        for deployment in deployments.iter_mut() {
            deployment["status"] = json!("ACTIVE");
        }
        deployments.insert(
            0,
            json!({
                "id": id, "status": "PRIMARY", "taskDefinition": revision, "rolloutState": "IN_PROGRESS",
                "createdAt": now, "desiredCount": 2, "runningCount": 0,
            }),
        );
    }
}

/// The API.
impl Ecs {
    /// By ARN or `<family>:<revision>`, or the newest ACTIVE one of a family.
    fn revision(&self, id: &str) -> Option<&Value> {
        let name = id.rsplit('/').next().unwrap();
        let found = match name.split_once(':') {
            Some((family, revision)) => self.families.get(family)?.get(revision.parse::<usize>().ok()?.checked_sub(1)?),
            None => self.families.get(name)?.iter().rev().find(|revision| is_active(revision)),
        };
        found.filter(|revision| !revision.is_null())
    }

    fn cluster(&self, body: &Value) -> Result<String, Refusal> {
        let cluster = last_part(&body["cluster"]);
        match self.clusters.contains(&cluster) {
            true => Ok(cluster),
            false => Err(("ClusterNotFoundException", Value::Null)),
        }
    }

    pub(super) fn describe_services(&self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let names: Vec<String> = body["services"].as_array().unwrap().iter().map(last_part).collect();
        if !(1..=10).contains(&names.len()) {
            return Err(("InvalidParameterException", Value::Null));
        }
        let with_tags = includes_tags(body);
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            match self.services.get(&format!("{cluster}/{name}")) {
                Some(service) if with_tags => services.push(service.clone()),
                Some(service) => services.push(without_tags(service)),
                None => failures.push(json!({"arn": service_arn(&cluster, &name), "reason": "MISSING"})),
            }
        }
        Ok(json!({"services": services, "failures": failures}))
    }

    pub(super) fn describe_task_definition(&self, body: &Value) -> Result<Value, Refusal> {
        let found = self.revision(body["taskDefinition"].as_str().unwrap()).ok_or(("ClientException", Value::Null))?;
        Ok(if includes_tags(body) { found.clone() } else { without_tags(found) })
    }

    pub(crate) fn register(&mut self, body: &Value) -> Value {
        let family = body["family"].as_str().unwrap().to_owned();
        let revision = self.families.entry(family.clone()).or_default().len() + 1;
        let mut definition = body.clone();
        let tags = definition.as_object_mut().unwrap().remove("tags").unwrap_or_else(|| json!([]));
        definition["taskDefinitionArn"] =
            json!(format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revision}"));
        definition["revision"] = json!(revision);
        definition["status"] = json!("ACTIVE");
        definition["registeredAt"] = json!(1_794_000_000.25);
        definition["compatibilities"] = json!(["EC2"]);
        let registered = json!({"taskDefinition": definition, "tags": tags});
        self.families.get_mut(&family).unwrap().push(registered.clone());
        registered
    }

    pub(super) fn update_service(&mut self, body: &Value, now: f64) -> Result<Value, Refusal> {
        let id = format!("{}/{}", self.cluster(body)?, last_part(&body["service"]));
        let service = self.services.get(&id).ok_or(("ServiceNotFoundException", Value::Null))?;
        if service["status"] != "ACTIVE" {
            return Err(("ServiceNotActiveException", Value::Null));
        }
        if service["deploymentController"]["type"] != "ECS" {
            return Err(("InvalidParameterException", Value::Null));
        }
        let revision = self.revision(body["taskDefinition"].as_str().unwrap()).filter(|revision| is_active(revision));
        let revision = revision.ok_or(("ClientException", Value::Null))?["taskDefinition"]["taskDefinitionArn"].clone();
        // What runs already is not deployed again unless that is asked for.
        if service["deployments"][0]["taskDefinition"] != revision || body["forceNewDeployment"] == true {
            self.deploy(&id, revision.as_str().unwrap(), now, By::UpdateService);
        }
        let service = self.service(&id);
        if let Some(configuration) = body.get("deploymentConfiguration") {
            service["deploymentConfiguration"] = configuration.clone();
        }
        Ok(json!({"service": without_tags(service)}))
    }
}

fn is_active(revision: &Value) -> bool {
    revision["taskDefinition"]["status"] == "ACTIVE"
}

fn includes_tags(body: &Value) -> bool {
    body["include"].as_array().is_some_and(|include| include.contains(&json!("TAGS")))
}

fn without_tags(resource: &Value) -> Value {
    let mut resource = resource.clone();
    resource.as_object_mut().unwrap().remove("tags");
    resource
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
