//! ECS as far as the functions see it. Rollouts end when a test says so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ACCOUNT, REGION, Refusal};

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Ecs {
    /// By `<cluster>/<service>`.
    pub(crate) services: BTreeMap<String, Value>,
    /// By family: each revision with its tags, as registered.
    pub(crate) families: BTreeMap<String, Vec<Value>>,
    deployments: u64,
}

impl Ecs {
    /// A running service of `family`, with these tags.
    pub(crate) fn add_service(&mut self, cluster: &str, name: &str, family: &str, tags: &[(&str, &str)]) {
        let revision = self.newest(family);
        self.deployments += 1;
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let service = json!({
            "serviceArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{cluster}/{name}"),
            "serviceName": name, "status": "ACTIVE", "desiredCount": 2, "tags": tags,
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
        self.services.insert(format!("{cluster}/{name}"), service);
    }

    pub(crate) fn newest(&self, family: &str) -> String {
        let revisions = self.families.get(family).map_or(0, Vec::len);
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revisions}")
    }

    /// The image of the first container that the PRIMARY deployment runs.
    pub(crate) fn running(&self, service: &str) -> String {
        let arn = self.services[service]["deployments"][0]["taskDefinition"].as_str().unwrap();
        let definition = &self.revision(arn).unwrap()["taskDefinition"];
        definition["containerDefinitions"][0]["image"].as_str().unwrap().to_owned()
    }

    pub(crate) fn end_rollout(&mut self, service: &str, state: &str) {
        self.services.get_mut(service).unwrap()["deployments"][0]["rolloutState"] = json!(state);
    }

    /// The circuit breaker: the newest deployment has failed, and ECS has gone back to the one before.
    pub(crate) fn roll_back(&mut self, service: &str) {
        let deployments = self.services.get_mut(service).unwrap()["deployments"].as_array_mut().unwrap();
        deployments[0]["status"] = json!("ACTIVE");
        deployments[0]["rolloutState"] = json!("FAILED");
        deployments[1]["status"] = json!("PRIMARY");
        deployments.swap(0, 1);
    }

    fn revision(&self, id: &str) -> Option<&Value> {
        let name = id.rsplit('/').next().unwrap();
        match name.split_once(':') {
            Some((family, revision)) => self.families.get(family)?.get(revision.parse::<usize>().ok()?.checked_sub(1)?),
            None => self.families.get(name)?.last(),
        }
    }

    pub(super) fn resources(&self, body: &Value) -> Value {
        let key = &body["TagFilters"][0]["Key"];
        let has_tag = |service: &&Value| service["tags"].as_array().unwrap().iter().any(|tag| tag["key"] == *key);
        let found = self.services.values().filter(has_tag);
        let list: Vec<Value> = found.map(|service| json!({"ResourceARN": service["serviceArn"]})).collect();
        json!({"PaginationToken": "", "ResourceTagMappingList": list})
    }

    pub(super) fn describe_services(&self, body: &Value) -> Value {
        let names = body["services"].as_array().unwrap();
        assert!(names.len() <= 10, "DescribeServices takes ten services");
        let cluster = body["cluster"].as_str().unwrap();
        let found = names.iter().filter_map(|name| self.services.get(&format!("{cluster}/{}", name.as_str().unwrap())));
        json!({"services": found.collect::<Vec<_>>(), "failures": []})
    }

    pub(super) fn describe_task_definition(&self, body: &Value) -> Result<Value, Refusal> {
        self.revision(body["taskDefinition"].as_str().unwrap()).cloned().ok_or(("ClientException", Value::Null))
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
        let key = format!("{}/{}", body["cluster"].as_str().unwrap(), body["service"].as_str().unwrap());
        if self.revision(body["taskDefinition"].as_str().unwrap()).is_none() {
            return Err(("ClientException", Value::Null));
        }
        self.deployments += 1;
        let id = format!("ecs-svc/{}", self.deployments);
        let service = self.services.get_mut(&key).ok_or(("ServiceNotFoundException", Value::Null))?;
        if let Some(configuration) = body.get("deploymentConfiguration") {
            service["deploymentConfiguration"] = configuration.clone();
        }
        let deployments = service["deployments"].as_array_mut().unwrap();
        for deployment in deployments.iter_mut() {
            deployment["status"] = json!("ACTIVE");
        }
        deployments.insert(
            0,
            json!({
                "id": id, "status": "PRIMARY", "taskDefinition": body["taskDefinition"], "rolloutState": "IN_PROGRESS",
                "createdAt": now, "desiredCount": 2, "runningCount": 0,
            }),
        );
        Ok(json!({"service": service}))
    }
}
