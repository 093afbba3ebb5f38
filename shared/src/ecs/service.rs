//! A service as `DescribeServices` shows it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::diagnosis::ServiceEvent;
use crate::events::ServiceRef;
use crate::platform::from_seconds;
use crate::tags::Tag;
use crate::task_definition::read_tags;

/// ECS creates a deployment before our clock notes that it was accepted; clocks may differ by this much.
pub const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(30);

/// A service as `DescribeServices` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Which service.
    pub id: ServiceRef,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: String,
    /// Tasks that ECS is to run.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that are on their way to run.
    pub pending: u32,
    /// `REPLICA` or `DAEMON`.
    pub scheduling: String,
    /// How many task sets it has: deployments of controllers other than ECS.
    pub task_sets: usize,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its deployments, as ECS lists them.
    pub deployments: Vec<Deployment>,
    /// ARN of the service deployment that runs now, where ECS tells.
    pub current_service_deployment: Option<String>,
    /// What ECS has noted about it of late.
    pub events: Vec<ServiceEvent>,
    /// The deployment configuration, as ECS wrote it.
    deployment_configuration: Value,
}

/// A deployment of a service. See
/// [Deployment](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html).
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// `ecs-svc/<digits>`.
    pub id: String,
    /// `PRIMARY`, `ACTIVE` or `INACTIVE`.
    #[serde(default)]
    pub status: String,
    /// ARN of the revision it runs.
    #[serde(default)]
    pub task_definition: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`; absent for some controllers.
    #[serde(default)]
    pub rollout_state: String,
    /// ECS's words about the state.
    #[serde(default)]
    pub rollout_state_reason: String,
    /// Tasks wanted. Task sets of other controllers have another name for it.
    #[serde(default, alias = "computedDesiredCount")]
    pub desired_count: i64,
    /// Tasks running.
    #[serde(default)]
    pub running_count: i64,
    /// Tasks on their way to run.
    #[serde(default)]
    pub pending_count: i64,
    /// Tasks that have failed to start or to become healthy.
    #[serde(default)]
    pub failed_tasks: i64,
    /// When it was created: seconds since 1970.
    #[serde(default)]
    pub created_at: f64,
}

/// The items of a list, as far as they can be read: an odd one does not hide the others.
pub(super) fn read_all<'a, T: Deserialize<'a>>(list: Option<&'a Value>) -> Vec<T> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| T::deserialize(item).ok()).collect()
}

impl Deployment {
    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Option<DateTime<Utc>> {
        from_seconds(self.created_at)
    }
}

impl Service {
    /// Reads one service of an answer of `DescribeServices`. `None` where it has no name.
    #[must_use]
    pub fn read(cluster: &str, answer: &Value) -> Option<Self> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (arn, name) = (text("serviceArn"), text("serviceName"));
        let count = |key: &str| answer.get(key).and_then(Value::as_u64).and_then(|count| count.try_into().ok());
        let controller = answer.pointer("/deploymentController/type").and_then(Value::as_str);
        Some(Self {
            id: ServiceRef { cluster: cluster.to_owned(), service: name, arn },
            status: text("status"),
            controller: controller.unwrap_or("ECS").to_owned(),
            desired: count("desiredCount").unwrap_or_default(),
            running: count("runningCount").unwrap_or_default(),
            pending: count("pendingCount").unwrap_or_default(),
            scheduling: Some(text("schedulingStrategy")).filter(|it| !it.is_empty()).unwrap_or("REPLICA".into()),
            task_sets: answer.get("taskSets").and_then(Value::as_array).map_or(0, Vec::len),
            tags: answer.get("tags").map(read_tags).unwrap_or_default(),
            deployments: read_all(answer.get("deployments")),
            current_service_deployment: Some(text("currentServiceDeployment")).filter(|arn| !arn.is_empty()),
            events: read_all(answer.get("events")),
            deployment_configuration: answer.get("deploymentConfiguration").cloned().unwrap_or_default(),
        })
        .filter(|service| !service.id.service.is_empty())
    }

    /// The deployment that ECS is bringing the service to, or has brought it to.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
    }

    /// A deployment by its id.
    #[must_use]
    pub fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }

    /// Whether ECS is bringing back an earlier deployment because a newer one has failed. ECS takes the old deployment
    /// up again under its old id.
    #[must_use]
    pub fn is_rolling_back(&self) -> bool {
        self.primary().filter(|primary| primary.rollout_state == "IN_PROGRESS").is_some_and(|primary| {
            let mut others = self.deployments.iter();
            others.any(|other| other.rollout_state == "FAILED" && other.created_at > primary.created_at)
        })
    }

    /// Whether a deployment is going on, or two of them share the tasks.
    #[must_use]
    pub fn is_rolling_out(&self) -> bool {
        let is_going_on = |deployment: &Deployment| deployment.rollout_state == "IN_PROGRESS";
        self.deployments.iter().any(is_going_on) || self.deployments.len() > 1 || self.task_sets > 1
    }

    /// Whether ECS replaces its tasks a few at a time. Other strategies shift traffic between two sets of tasks, and a
    /// deployment is done when the service deployment is.
    #[must_use]
    pub fn is_rolling_update(&self) -> bool {
        self.strategy() == "ROLLING"
    }

    fn strategy(&self) -> &str {
        self.deployment_configuration.get("strategy").and_then(Value::as_str).unwrap_or("ROLLING")
    }

    /// The names of the CloudWatch alarms that ECS watches during a deployment of this service.
    #[must_use]
    pub fn deployment_alarms(&self) -> Vec<String> {
        let alarms =
            self.deployment_configuration.get("alarms").filter(|alarms| alarms.get("enable") == Some(&true.into()));
        let names = alarms.and_then(|alarms| alarms.get("alarmNames")).and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Whether ECS ends a rollout whose tasks fail.
    #[must_use]
    pub fn has_circuit_breaker(&self) -> bool {
        self.is_set("/deploymentCircuitBreaker/enable")
    }

    /// Whether ECS goes back by itself when a rollout has failed.
    #[must_use]
    pub fn goes_back_by_itself(&self) -> bool {
        let by_breaker = self.has_circuit_breaker() && self.is_set("/deploymentCircuitBreaker/rollback");
        by_breaker || !self.alarms_that_roll_back().is_empty()
    }

    fn is_set(&self, pointer: &str) -> bool {
        self.deployment_configuration.pointer(pointer) == Some(&Value::Bool(true))
    }

    /// The names of the CloudWatch alarms by which ECS goes back itself.
    #[must_use]
    pub fn alarms_that_roll_back(&self) -> Vec<String> {
        if self.is_set("/alarms/rollback") { self.deployment_alarms() } else { Vec::new() }
    }

    /// The deployment configuration with the circuit breaker and its rollback on, to be sent with a deployment. `None`
    /// where the owner has turned the breaker on already, with whatever settings; chose a strategy other than rolling;
    /// or has lifecycle hooks, whose roles we would have to hand on. ECS shows a breaker that was never configured as
    /// `{"enable": false, "rollback": false}`.
    pub(super) fn with_circuit_breaker(&self) -> Option<Value> {
        let configuration = &self.deployment_configuration;
        let hooks = configuration.get("lifecycleHooks").and_then(Value::as_array).map_or(0, Vec::len);
        if self.has_circuit_breaker() || !self.is_rolling_update() || hooks > 0 {
            return None;
        }
        let mut configuration = match configuration {
            Value::Object(fields) => fields.clone(),
            _ => serde_json::Map::new(),
        };
        let breaker = configuration.entry("deploymentCircuitBreaker").or_insert_with(|| json!({}));
        if let Value::Object(breaker) = breaker {
            breaker.insert("enable".into(), true.into());
            breaker.insert("rollback".into(), true.into());
        }
        Some(Value::Object(configuration))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A service of the cluster `production` with these fields, to build tests on.
    pub(crate) fn service_with(fields: Value) -> Service {
        let mut answer = json!({
            "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/production/web", "serviceName": "web",
        });
        answer.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Service::read("production", &answer).unwrap()
    }

    fn service(configuration: Value) -> Service {
        service_with(json!({"deploymentConfiguration": configuration}))
    }

    #[test]
    fn the_circuit_breaker_is_turned_on_and_all_else_is_kept() {
        let configuration = json!({
            "maximumPercent": 150, "fieldOfTomorrow": {"x": 1},
            "deploymentCircuitBreaker": {"enable": false, "rollback": false, "resetOnHealthyTask": true},
        });
        let sent = service(configuration).with_circuit_breaker().unwrap();
        assert_eq!(
            sent,
            json!({
                "maximumPercent": 150, "fieldOfTomorrow": {"x": 1},
                "deploymentCircuitBreaker": {"enable": true, "rollback": true, "resetOnHealthyTask": true},
            })
        );
    }

    #[test]
    fn what_the_owner_has_set_is_left_alone() {
        let on = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": false}});
        assert_eq!(service(on).with_circuit_breaker(), None);
        assert_eq!(service(json!({"strategy": "BLUE_GREEN"})).with_circuit_breaker(), None);
        assert_eq!(service(json!({"lifecycleHooks": [{"roleArn": "x"}]})).with_circuit_breaker(), None);
    }

    #[test]
    fn a_service_without_any_configuration_gets_the_breaker() {
        let sent = service(Value::Null).with_circuit_breaker().unwrap();
        assert_eq!(sent, json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}}));
    }

    #[test]
    fn a_rollback_by_ecs_is_told_from_a_rollout() {
        let with = |newer: &str, primary: &str| {
            service_with(json!({"deployments": [
                {"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": primary, "createdAt": 1.0},
                {"id": "ecs-svc/2", "status": "ACTIVE", "rolloutState": newer, "createdAt": 2.0},
            ]}))
        };
        assert!(with("FAILED", "IN_PROGRESS").is_rolling_back());
        assert!(!with("FAILED", "COMPLETED").is_rolling_back(), "it has ended");
        assert!(!with("IN_PROGRESS", "IN_PROGRESS").is_rolling_back());
    }

    #[test]
    fn alarms_that_are_configured_and_switched_off_do_not_count() {
        let alarms = |enable: bool| service(json!({"alarms": {"alarmNames": ["web-5xx"], "enable": enable}}));
        assert_eq!(alarms(true).deployment_alarms(), ["web-5xx"]);
        assert!(alarms(false).deployment_alarms().is_empty() && service(Value::Null).deployment_alarms().is_empty());
    }

    #[test]
    fn an_odd_deployment_does_not_hide_the_others() {
        let answer = json!({"serviceName": "web", "deployments": [
            {"status": "PRIMARY"}, {"id": "ecs-svc/1", "status": "PRIMARY", "rolloutState": "STATE_OF_TOMORROW"},
        ]});
        let service = Service::read("production", &answer).unwrap();
        assert_eq!(service.primary().unwrap().rollout_state, "STATE_OF_TOMORROW");
    }
}
