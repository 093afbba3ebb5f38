//! The history of a service's deployments: ECS's own account of how each of them went.

use serde_json::{Value, json};

use super::{Ecs, last_part};
use crate::world::ecr::sha256;
use crate::world::tagging::page;
use crate::world::wire::Refusal;
use crate::world::{ACCOUNT, REGION};

/// How many tasks may fail before the circuit breaker breaks.
const THRESHOLD: u64 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceDeployment {
    /// `<cluster>/<service>`.
    pub service: String,
    /// Id of the deployment that it is about, as `deployments` of the service show it: `ecs-svc/<digits>`.
    pub deployment: String,
    /// The task definition.
    pub revision: String,
    /// As ECS shows it, but for the counts of tasks: those are the deployment's.
    pub shown: Value,
}

impl ServiceDeployment {
    pub fn arn(&self) -> String {
        self.shown["serviceDeploymentArn"].as_str().unwrap().to_owned()
    }

    /// Brings it into `status`; one that is over has a time for that.
    pub fn set_status(&mut self, status: &str, now: f64) {
        self.shown["status"] = json!(status);
        self.shown["updatedAt"] = json!(now);
        if !is_open(status) {
            self.shown["finishedAt"] = json!(now);
        }
        if status == "STOPPED" {
            self.shown["stoppedAt"] = json!(now);
        }
        if !matches!(status, "PENDING" | "IN_PROGRESS") {
            for watcher in ["deploymentCircuitBreaker", "alarms"] {
                if self.shown[watcher]["status"] == "MONITORING" {
                    self.shown[watcher]["status"] = json!("MONITORING_COMPLETE");
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        is_open(self.shown["status"].as_str().unwrap())
    }
}

/// What tests set up, do as others would, and see.
impl Ecs {
    /// The newest entry in the history of a service.
    pub fn service_deployment(&mut self, service: &str) -> &mut ServiceDeployment {
        let mut history = self.service_deployments.iter_mut();
        history.rfind(|entry| entry.service == service).unwrap()
    }

    /// Rollback alarms go off during the newest deployment: they are why ECS rolls back if it does next.
    pub fn trigger_alarms(&mut self, service: &str, names: &[&str]) {
        self.service_deployment(service).shown["alarms"] =
            json!({"status": "TRIGGERED", "alarmNames": names, "triggeredAlarmNames": names});
    }

    /// Somebody stops the newest deployment, which stays where it is.
    pub fn stop_by_person(&mut self, service: &str) {
        let now = self.now();
        self.service_deployment(service).set_status("STOPPED", now);
    }

    /// Somebody stops the newest deployment, and ECS goes back for it.
    pub fn begin_roll_back_by_person(&mut self, service: &str) {
        self.go_back(service, "Service deployment rolled back at the request of a person.", false);
    }

    /// Writes down that the PRIMARY deployment of `service` has begun, and that what was going on before is over.
    pub(super) fn begin_service_deployment(&mut self, service: &str, now: f64) {
        for before in self.service_deployments.iter_mut().filter(|before| before.service == service) {
            if before.is_open() {
                before.set_status("STOPPED", now);
            }
        }
        let view = &self.services[service];
        let ids: Vec<&str> = view["deployments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|deployment| deployment["id"].as_str().unwrap())
            .collect();
        let (cluster, _) = service.split_once('/').unwrap();
        let configuration = &view["deploymentConfiguration"];
        let watches = |on: &Value| if on["enable"] == true { "MONITORING" } else { "DISABLED" };
        let alarms = &configuration["alarms"];
        let breaker = &configuration["deploymentCircuitBreaker"];
        let sources: Vec<Value> = ids.iter().skip(1).map(|id| json!({"arn": revision_arn(service, id)})).collect();
        let shown = json!({
            "serviceDeploymentArn": arn("service-deployment", service, &random(ids[0])),
            "serviceArn": view["serviceArn"],
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{cluster}"),
            "createdAt": now, "startedAt": now, "updatedAt": now, "status": "IN_PROGRESS",
            "deploymentConfiguration": configuration, "sourceServiceRevisions": sources,
            "targetServiceRevision": {"arn": revision_arn(service, ids[0])},
            "deploymentCircuitBreaker": {"status": watches(breaker), "failureCount": 0, "threshold": THRESHOLD},
            "alarms": {
                "status": watches(alarms), "alarmNames": alarms["alarmNames"].as_array().cloned().unwrap_or_default(),
                "triggeredAlarmNames": [],
            },
        });
        let (service, deployment) = (service.to_owned(), ids[0].to_owned());
        let revision = view["deployments"][0]["taskDefinition"].as_str().unwrap().to_owned();
        self.service_deployments.push(ServiceDeployment { service, deployment, revision, shown });
    }

    /// The newest deployment's rollout, or its rollback, has come to this end.
    pub(super) fn end_service_deployment(&mut self, service: &str, rollout_state: &str, now: f64) {
        let newest = self.service_deployment(service);
        let end = match (newest.shown["status"].as_str().unwrap(), rollout_state) {
            ("IN_PROGRESS", "COMPLETED") => "SUCCESSFUL",
            // Without a rollback there is no better word.
            ("IN_PROGRESS", "FAILED") => "STOPPED",
            ("ROLLBACK_IN_PROGRESS", "COMPLETED") => "ROLLBACK_SUCCESSFUL",
            ("ROLLBACK_IN_PROGRESS", "FAILED") => "ROLLBACK_FAILED",
            _ => return,
        };
        newest.set_status(end, now);
        if rollout_state == "FAILED" && newest.shown["alarms"]["status"] != "TRIGGERED" {
            newest.shown["deploymentCircuitBreaker"]["status"] = json!("TRIGGERED");
        }
    }

    /// The newest deployment goes back to that of the id `to`.
    pub(super) fn roll_service_deployment_back(&mut self, service: &str, to: &str, reason: &str, breaks: bool) {
        let now = self.now();
        let newest = self.service_deployment(service);
        newest.set_status("ROLLBACK_IN_PROGRESS", now);
        newest.shown["statusReason"] = json!(reason);
        newest.shown["rollback"] =
            json!({"reason": reason, "startedAt": now, "serviceRevisionArn": revision_arn(service, to)});
        if breaks {
            newest.shown["deploymentCircuitBreaker"] =
                json!({"status": "TRIGGERED", "failureCount": THRESHOLD, "threshold": THRESHOLD});
        }
    }
}

/// The API.
impl Ecs {
    pub(in crate::world) fn list_service_deployments(&self, body: &Value) -> Result<Value, Refusal> {
        let service = format!("{}/{}", self.cluster(body)?, last_part(&body["service"]));
        if !self.services.contains_key(&service) {
            return Err(("ServiceNotFoundException", Value::Null));
        }
        let (after, before) = (body["createdAt"]["after"].as_f64(), body["createdAt"]["before"].as_f64());
        let is_wanted = |entry: &&ServiceDeployment| {
            let created = entry.shown["createdAt"].as_f64().unwrap();
            let statuses = body["status"].as_array();
            entry.service == service
                && statuses.is_none_or(|statuses| statuses.is_empty() || statuses.contains(&entry.shown["status"]))
                && after.is_none_or(|after| after <= created)
                && before.is_none_or(|before| created <= before)
        };
        let found = self.service_deployments.iter().rev().filter(|_| self.service_deployments_exist).filter(is_wanted);
        let found = found.map(brief).collect();
        let (page, token) = page(found, &body["maxResults"], (20, 100), &body["nextToken"])?;
        Ok(json!({"serviceDeployments": page, "nextToken": token}))
    }

    pub(in crate::world) fn describe_service_deployments(&self, body: &Value) -> Result<Value, Refusal> {
        let arns = body["serviceDeploymentArns"].as_array().unwrap();
        if !(1..=20).contains(&arns.len()) {
            return Err(("InvalidParameterException", Value::Null));
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for arn in arns {
            let mut history = self.service_deployments.iter().filter(|_| self.service_deployments_exist);
            match history.find(|entry| entry.shown["serviceDeploymentArn"] == *arn) {
                Some(entry) => found.push(self.with_counts(entry)),
                None => failures.push(json!({"arn": arn, "reason": "MISSING"})),
            }
        }
        Ok(json!({"serviceDeployments": found, "failures": failures}))
    }

    /// Goes back at once, where the deployment is going on or on its way back already.
    pub(in crate::world) fn stop_service_deployment(&mut self, body: &Value) -> Result<Value, Refusal> {
        let arn = &body["serviceDeploymentArn"];
        if body["stopType"] != "ROLLBACK" {
            return Err(("InvalidParameterException", Value::Null));
        }
        let mut history = self.service_deployments.iter().filter(|_| self.service_deployments_exist);
        let entry = history.find(|entry| entry.shown["serviceDeploymentArn"] == *arn);
        let entry = entry.ok_or(("ServiceDeploymentNotFoundException", Value::Null))?;
        if !entry.is_open() {
            return Err(("ConflictException", Value::Null));
        }
        let is_going_back = entry.shown["status"] != "IN_PROGRESS";
        let service = entry.service.clone();
        if !is_going_back && self.to_go_back_to(&service).is_none() {
            return Err(("ConflictException", Value::Null));
        }
        if !is_going_back {
            self.begin_roll_back_by_person(&service);
        }
        Ok(json!({"serviceDeploymentArn": arn}))
    }

    /// What the containers of a deployment run: the digest of a pinned image, or what `resolved` says of its deployment.
    pub(in crate::world) fn describe_service_revisions(&self, body: &Value) -> Result<Value, Refusal> {
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for arn in body["serviceRevisionArns"].as_array().unwrap() {
            let mut history = self.service_deployments.iter();
            let entry = history.find(|entry| entry.shown["targetServiceRevision"]["arn"] == *arn);
            let Some(entry) = entry else {
                failures.push(json!({"arn": arn, "reason": "MISSING"}));
                continue;
            };
            let definition = &self.revision(&entry.revision).unwrap()["taskDefinition"];
            let containers = definition["containerDefinitions"].as_array().unwrap().iter();
            let images = containers.map(|container| {
                let image = container["image"].as_str().unwrap();
                let digest = image.split_once('@').map(|(_, digest)| digest);
                let digest = digest.or(self.resolved.get(&entry.deployment).map(String::as_str));
                json!({"containerName": container["name"], "image": image, "imageDigest": digest})
            });
            found.push(json!({
                "serviceRevisionArn": arn, "taskDefinition": entry.revision,
                "containerImages": images.collect::<Vec<_>>(),
            }));
        }
        Ok(json!({"serviceRevisions": found, "failures": failures}))
    }

    /// `currentServiceDeployment` of a service.
    pub(super) fn current_service_deployment(&self, service: &str) -> Option<String> {
        let mut history = self.service_deployments.iter().filter(|_| self.service_deployments_exist);
        history.rfind(|entry| entry.service == service).map(ServiceDeployment::arn)
    }

    /// A deployment that the service no longer shows has no tasks.
    fn with_counts(&self, entry: &ServiceDeployment) -> Value {
        let service = self.services.get(&entry.service);
        let deployments = service.and_then(|service| service["deployments"].as_array()).cloned().unwrap_or_default();
        let with_counts = |revision: &Value| {
            let is_it = |deployment: &&Value| {
                revision["arn"] == revision_arn(&entry.service, deployment["id"].as_str().unwrap())
            };
            let deployment = deployments.iter().find(is_it).unwrap_or(&Value::Null);
            let count = |name: &str| deployment[name].as_u64().unwrap_or_default();
            json!({
                "arn": revision["arn"], "requestedTaskCount": count("desiredCount"),
                "runningTaskCount": count("runningCount"), "pendingTaskCount": count("pendingCount"),
            })
        };
        let mut shown = entry.shown.clone();
        shown["targetServiceRevision"] = with_counts(&shown["targetServiceRevision"]);
        let sources = shown["sourceServiceRevisions"].as_array().unwrap().iter().map(with_counts).collect();
        shown["sourceServiceRevisions"] = sources;
        let failed = deployments.iter().find(|deployment| deployment["id"] == entry.deployment);
        if let Some(failed) = failed.and_then(|deployment| deployment.get("failedTasks")) {
            shown["deploymentCircuitBreaker"]["failureCount"] = failed.clone();
        }
        shown
    }
}

fn is_open(status: &str) -> bool {
    matches!(status, "PENDING" | "IN_PROGRESS" | "STOP_REQUESTED" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS")
}

fn brief(entry: &ServiceDeployment) -> Value {
    const FIELDS: [&str; 8] = [
        "serviceDeploymentArn",
        "serviceArn",
        "clusterArn",
        "startedAt",
        "createdAt",
        "finishedAt",
        "status",
        "statusReason",
    ];
    let fields = FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), entry.shown.get(*name)?.clone())));
    let mut brief: Value = fields.collect::<serde_json::Map<_, _>>().into();
    brief["targetServiceRevisionArn"] = entry.shown["targetServiceRevision"]["arn"].clone();
    brief
}

fn arn(kind: &str, service: &str, id: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{service}/{id}")
}

/// A service revision's ARN ends with the digits of the deployment's id.
fn revision_arn(service: &str, deployment: &str) -> String {
    arn("service-revision", service, deployment.trim_start_matches("ecs-svc/"))
}

/// What maps to nothing, but is the same in every run.
fn random(id: &str) -> String {
    sha256(id).chars().take(21).collect()
}
