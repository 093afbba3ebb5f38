//! What was changed, and how things stood just before: what safety is judged by.

use std::time::Duration;

use serde_json::Value;

use super::wire::Refusal;
use super::{Call, State, World};

/// The calls that change ECS or an Auto Scaling group.
const CHANGING: [&str; 6] = [
    "RegisterTaskDefinition",
    "UpdateService",
    "StopServiceDeployment",
    "UpdateContainerInstancesState",
    "SetDesiredCapacity",
    "TerminateInstanceInAutoScalingGroup",
];

/// A change that AWS has accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When, since the world began.
    pub at: Duration,
    /// The function that asked for it.
    pub by: &'static str,
    pub operation: String,
    pub body: Value,
    /// `<cluster>/<service>`, where it is about a service.
    pub service: String,
    /// The service as it was.
    pub before: Value,
    /// Its item `GUARD` as it was: what must not be deployed.
    pub guard: Value,
    /// The groups' desired capacity as it was, by name, with the bounds.
    pub group: Option<(i64, i64, i64)>,
}

impl State {
    /// How things stand before `call`, if it changes something.
    pub(super) fn about_to_change(&self, call: &Call, at: Duration) -> Option<Change> {
        if !CHANGING.contains(&call.operation.as_str()) {
            return None;
        }
        let service = self.ecs.service_of(&call.operation, &call.body);
        let guard = self.table.item(&format!("SERVICE#{service}"), "GUARD");
        let group = call.body["AutoScalingGroupName"].as_str().and_then(|name| self.groups.by_name.get(name));
        Some(Change {
            at,
            by: call.by,
            operation: call.operation.clone(),
            body: call.body.clone(),
            before: self.ecs.services.get(&service).cloned().unwrap_or_default(),
            guard: guard.unwrap_or_default(),
            group: group.map(|group| (group.min, group.desired, group.max)),
            service,
        })
    }

    /// From now on, until it is called again, a stale answer tells of this moment.
    pub fn remember(&mut self) {
        self.remembered = Some(self.ecs.clone());
    }
}

impl World {
    /// What ECS answers that does not know of the newest yet; `None` where it always does.
    pub(super) fn remembered(&self, call: &Call) -> Option<Result<Value, Refusal>> {
        let state = self.state();
        let ecs = state.remembered.as_ref()?;
        match call.operation.as_str() {
            "DescribeServices" => Some(ecs.describe_services(&call.body)),
            "ListServiceDeployments" => Some(ecs.list_service_deployments(&call.body)),
            "DescribeServiceDeployments" => Some(ecs.describe_service_deployments(&call.body)),
            "ListTasks" => Some(ecs.list_tasks(&call.body)),
            _ => None,
        }
    }
}
