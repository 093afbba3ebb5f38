//! EC2 Auto Scaling: groups, as far as the functions see them. Instances come and go when a test says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::wire::Refusal;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group {
    pub min: i64,
    pub max: i64,
    pub desired: i64,
    /// Lifecycle state by instance.
    pub instances: BTreeMap<String, &'static str>,
    /// Instances that are protected from scale-in.
    pub protected: BTreeSet<String>,
    pub suspended: Vec<&'static str>,
    /// `InProgress`, say, of the newest instance refresh.
    pub refresh: Option<&'static str>,
    /// What an instance counts for; `None`: as usual.
    pub weight: Option<&'static str>,
    /// The tokens of lifecycle actions that wait, by instance, and how often they were asked to wait on.
    pub waiting: BTreeMap<String, (String, usize)>,
    pub launched: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Groups {
    pub by_name: BTreeMap<String, Group>,
}

impl Group {
    /// Launches what lacks: the new instances.
    pub fn launch(&mut self) -> Vec<String> {
        let mut launched = Vec::new();
        while self.counted() < self.desired {
            self.launched += 1;
            let id = format!("i-{:04}", self.launched);
            self.instances.insert(id.clone(), "InService");
            launched.push(id);
        }
        launched
    }

    /// Instances that are terminating are gone; those of which a lifecycle hook waits stay.
    pub fn bury(&mut self) -> Vec<String> {
        let is_gone = |state: &str| state == "Terminating" || state == "Terminating:Proceed";
        let gone = self.instances.iter().filter(|(_, state)| is_gone(state)).map(|(id, _)| id.clone());
        let gone: Vec<String> = gone.collect();
        self.instances.retain(|_, state| !is_gone(state));
        gone
    }

    /// The group itself begins to terminate an instance, and a lifecycle hook waits. The group replaces it.
    pub fn begin_terminating(&mut self, id: &str) -> String {
        let token = format!("token-of-{id}");
        self.instances.insert(id.to_owned(), "Terminating:Wait");
        self.waiting.insert(id.to_owned(), (token.clone(), 0));
        token
    }

    fn counted(&self) -> i64 {
        self.instances.values().filter(|state| !state.starts_with("Terminating")).count() as i64
    }
}

fn invalid(message: &str) -> Refusal {
    ("ValidationError", json!({"message": message}))
}

/// The API.
impl Groups {
    fn group(&mut self, body: &Value) -> Result<&mut Group, Refusal> {
        let name = body["AutoScalingGroupName"].as_str().unwrap();
        self.by_name.get_mut(name).ok_or_else(|| invalid("AutoScalingGroup name not found - null"))
    }

    pub(super) fn describe(&self, body: &Value) -> Value {
        let name = body["AutoScalingGroupNames.member.1"].as_str().unwrap();
        let found = self.by_name.get(name).map(|group| {
            let instances = group.instances.iter().map(|(id, state)| {
                json!({
                    "InstanceId": id, "LifecycleState": state, "HealthStatus": "Healthy", "AvailabilityZone": "eu-west-1a",
                    "ProtectedFromScaleIn": group.protected.contains(id), "WeightedCapacity": group.weight.unwrap_or("1"),
                })
            });
            let suspended = group.suspended.iter().map(|name| json!({"ProcessName": name}));
            json!({
                "AutoScalingGroupName": name, "MinSize": group.min, "MaxSize": group.max,
                "DesiredCapacity": group.desired, "DefaultCooldown": 300, "HealthCheckType": "EC2",
                "CreatedTime": "2026-01-01T00:00:00Z", "Instances": instances.collect::<Vec<_>>(),
                "SuspendedProcesses": suspended.collect::<Vec<_>>(),
            })
        });
        json!({"AutoScalingGroups": found.into_iter().collect::<Vec<_>>()})
    }

    pub(super) fn describe_refreshes(&mut self, body: &Value) -> Result<Value, Refusal> {
        let refresh = self.group(body)?.refresh.map(|status| json!({"InstanceRefreshId": "1", "Status": status}));
        Ok(json!({"InstanceRefreshes": refresh.into_iter().collect::<Vec<_>>()}))
    }

    pub(super) fn set_desired(&mut self, body: &Value) -> Result<Value, Refusal> {
        assert_eq!(body["HonorCooldown"], "false");
        let desired: i64 = body["DesiredCapacity"].as_str().unwrap().parse().unwrap();
        let group = self.group(body)?;
        if !(group.min..=group.max).contains(&desired) {
            return Err(invalid("New SetDesiredCapacity value is out of the group's bounds"));
        }
        group.desired = desired;
        Ok(json!({}))
    }

    /// A second call for the same instance lowers the capacity once more: whether AWS would refuse it is not written
    /// down anywhere.
    pub(super) fn terminate(&mut self, body: &Value) -> Result<Value, Refusal> {
        assert_eq!(body["ShouldDecrementDesiredCapacity"], "true");
        let id = body["InstanceId"].as_str().unwrap();
        let group = self.by_name.values_mut().find(|group| group.instances.contains_key(id));
        let group = group.ok_or_else(|| invalid("Instance Id not found - No managed instance found"))?;
        if group.desired <= group.min {
            return Err(invalid("Currently, desiredSize equals minSize"));
        }
        group.desired -= 1;
        group.instances.insert(id.to_owned(), "Terminating");
        Ok(json!({"Activity": {
            "ActivityId": "1", "AutoScalingGroupName": "group", "Cause": "as asked", "StartTime": "2026-11-16T09:00:00Z",
            "StatusCode": "InProgress",
        }}))
    }

    pub(super) fn complete(&mut self, body: &Value) -> Result<Value, Refusal> {
        assert_eq!(body["LifecycleActionResult"], "CONTINUE");
        let id = body["InstanceId"].as_str().unwrap().to_owned();
        let group = self.group(body)?;
        group.waits(&id, body)?;
        group.waiting.remove(&id);
        group.instances.insert(id, "Terminating:Proceed");
        Ok(json!({}))
    }

    pub(super) fn heartbeat(&mut self, body: &Value) -> Result<Value, Refusal> {
        let id = body["InstanceId"].as_str().unwrap().to_owned();
        let group = self.group(body)?;
        group.waits(&id, body)?;
        group.waiting.get_mut(&id).unwrap().1 += 1;
        Ok(json!({}))
    }
}

impl Group {
    fn waits(&self, id: &str, body: &Value) -> Result<(), Refusal> {
        let is_so = self.waiting.get(id).is_some_and(|(token, _)| body["LifecycleActionToken"] == *token);
        is_so.then_some(()).ok_or_else(|| invalid("No active Lifecycle Action found with instance ID"))
    }
}
