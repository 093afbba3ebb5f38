//! Services and task definitions.

use serde_json::{Value, json};

use super::{By, Ecs, last_part, service_arn};
use crate::world::wire::Refusal;
use crate::world::{ACCOUNT, REGION};

/// The API.
impl Ecs {
    /// By ARN or `<family>:<revision>`, or the newest ACTIVE one of a family.
    pub(super) fn revision(&self, id: &str) -> Option<&Value> {
        let name = id.rsplit('/').next().unwrap();
        let found = match name.split_once(':') {
            Some((family, revision)) => self.families.get(family)?.get(revision.parse::<usize>().ok()?.checked_sub(1)?),
            None => self.families.get(name)?.iter().rev().find(|revision| is_active(revision)),
        };
        found.filter(|revision| !revision.is_null())
    }

    pub(super) fn cluster(&self, body: &Value) -> Result<String, Refusal> {
        let cluster = last_part(&body["cluster"]);
        match self.clusters.contains(&cluster) {
            true => Ok(cluster),
            false => Err(("ClusterNotFoundException", Value::Null)),
        }
    }

    pub(in crate::world) fn describe_services(&self, body: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(body)?;
        let names: Vec<String> = body["services"].as_array().unwrap().iter().map(last_part).collect();
        if !(1..=10).contains(&names.len()) {
            return Err(("InvalidParameterException", Value::Null));
        }
        let with_tags = includes_tags(body);
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            let id = format!("{cluster}/{name}");
            match self.services.get(&id) {
                Some(service) => {
                    let mut service = if with_tags { service.clone() } else { without_tags(service) };
                    if let Some(arn) = self.current_service_deployment(&id) {
                        service["currentServiceDeployment"] = json!(arn);
                    }
                    services.push(service);
                }
                None => failures.push(json!({"arn": service_arn(&cluster, &name), "reason": "MISSING"})),
            }
        }
        Ok(json!({"services": services, "failures": failures}))
    }

    pub(in crate::world) fn describe_task_definition(&self, body: &Value) -> Result<Value, Refusal> {
        let found = self.revision(body["taskDefinition"].as_str().unwrap()).ok_or(("ClientException", Value::Null))?;
        Ok(if includes_tags(body) { found.clone() } else { without_tags(found) })
    }

    pub fn register(&mut self, body: &Value) -> Value {
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

    pub(in crate::world) fn update_service(&mut self, body: &Value, now: f64) -> Result<Value, Refusal> {
        let id = format!("{}/{}", self.cluster(body)?, last_part(&body["service"]));
        let service = self.services.get(&id).ok_or(("ServiceNotFoundException", Value::Null))?;
        if service["status"] != "ACTIVE" {
            return Err(("ServiceNotActiveException", Value::Null));
        }
        if service["deploymentController"]["type"] != "ECS" {
            return Err(("InvalidParameterException", Value::Null));
        }
        if let Some(count) = body["desiredCount"].as_u64() {
            self.service(&id)["desiredCount"] = json!(count);
            self.service(&id)["deployments"][0]["desiredCount"] = json!(count);
        }
        if body["taskDefinition"].is_null() {
            return Ok(json!({"service": without_tags(&self.services[&id])}));
        }
        let revision = self.revision(body["taskDefinition"].as_str().unwrap()).filter(|revision| is_active(revision));
        let revision = revision.ok_or(("ClientException", Value::Null))?["taskDefinition"]["taskDefinitionArn"].clone();
        // What runs already is not deployed again unless that is asked for.
        let service = &self.services[&id];
        let deploys = service["deployments"][0]["taskDefinition"] != revision || body["forceNewDeployment"] == true;
        if let Some(configuration) = body.get("deploymentConfiguration") {
            self.service(&id)["deploymentConfiguration"] = configuration.clone();
        }
        if deploys {
            self.deploy(&id, revision.as_str().unwrap(), now, By::UpdateService);
        }
        Ok(json!({"service": without_tags(&self.services[&id])}))
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
