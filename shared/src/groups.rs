//! Auto Scaling groups: what instances a cluster has, and how it gets more or fewer.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use aws_sdk_autoscaling::types::InstanceRefreshStatus;

use crate::error::{Error, from_sdk};

/// Of the refreshes of a group the newest comes first; an older one is over.
const REFRESHES_READ: i32 = 1;

/// An Auto Scaling group. See
/// [AutoScalingGroup](https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AutoScalingGroup.html).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoScalingGroup {
    /// Its name.
    pub name: String,
    /// Fewest instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Instances that it is to have.
    pub desired: u32,
    /// Its instances.
    pub members: Vec<Member>,
    /// Processes that somebody has suspended (`Launch`, `Terminate`, …).
    pub suspended: BTreeSet<String>,
    /// Whether its capacity counts something other than instances: vCPUs, memory or weights.
    pub counts_otherwise: bool,
    /// Whether it is being deleted.
    pub is_deleted: bool,
}

/// An instance of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// EC2's id.
    pub id: String,
    /// Its [lifecycle state](https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html), such
    /// as `InService`.
    pub lifecycle: String,
    /// Its Availability Zone.
    pub zone: Option<String>,
    /// Whether the group keeps it from scale-in.
    pub is_protected: bool,
}

/// A lifecycle action of a terminating instance that waits for us.
#[derive(Debug, Clone, Copy)]
pub struct Action<'a> {
    /// Name of the group.
    pub group: &'a str,
    /// Name of the hook.
    pub hook: &'a str,
    /// Its token.
    pub token: &'a str,
    /// EC2's id of the instance.
    pub instance: &'a str,
}

/// EC2 Auto Scaling's API.
#[derive(Debug, Clone)]
pub struct Groups {
    client: Client,
}

impl Groups {
    /// EC2 Auto Scaling through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The group called `name`, or `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn group(&self, name: &str) -> Result<Option<AutoScalingGroup>, Error> {
        let sent = self.client.describe_auto_scaling_groups().auto_scaling_group_names(name).send().await;
        let answer = sent.map_err(|error| from_sdk("DescribeAutoScalingGroups", name, &error))?;
        let mut found = answer.auto_scaling_groups().iter().map(read);
        Ok(found.find(|group| group.name == name))
    }

    /// Whether an [instance refresh](https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-instance-refresh.html) of
    /// the group is going on.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn is_refreshing(&self, name: &str) -> Result<bool, Error> {
        const OPERATION: &str = "DescribeInstanceRefreshes";
        let request = self.client.describe_instance_refreshes().auto_scaling_group_name(name);
        let answer =
            match request.max_records(REFRESHES_READ).send().await.map_err(|error| from_sdk(OPERATION, name, &error)) {
                // There is no such group, and so no refresh of it.
                Err(error) if error.code() == Some("ValidationError") => return Ok(false),
                answered => answered?,
            };
        let is_over = |status: &InstanceRefreshStatus| {
            use InstanceRefreshStatus::{Cancelled, Failed, RollbackFailed, RollbackSuccessful, Successful};
            matches!(status, Cancelled | Failed | RollbackFailed | RollbackSuccessful | Successful)
        };
        let newest = answer.instance_refreshes().first().and_then(|refresh| refresh.status());
        Ok(newest.is_some_and(|status| !is_over(status)))
    }

    /// `SetDesiredCapacity`, whatever cooldown there is: our windows are the cooldown.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn set_desired(&self, name: &str, desired: u32) -> Result<(), Error> {
        let desired = i32::try_from(desired).unwrap_or(i32::MAX);
        let request = self.client.set_desired_capacity().auto_scaling_group_name(name).desired_capacity(desired);
        let sent = request.honor_cooldown(false).send().await;
        sent.map_err(|error| from_sdk("SetDesiredCapacity", name, &error)).map(drop)
    }

    /// Terminates an instance of a group, and lowers the group's desired capacity by one in the same call, so that the
    /// group neither chooses another one nor launches a replacement. The group refuses to go below its minimum.
    ///
    /// It is called once: where the answer is lost, a second call could lower the capacity once more. The next look knows
    /// what has become of it.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn terminate(&self, instance: &str) -> Result<(), Error> {
        let request = self.client.terminate_instance_in_auto_scaling_group().instance_id(instance);
        let request = request.should_decrement_desired_capacity(true).customize();
        let sent = request.config_override(Builder::new().retry_config(RetryConfig::disabled())).send().await;
        sent.map_err(|error| from_sdk("TerminateInstanceInAutoScalingGroup", instance, &error)).map(drop)
    }

    /// Lets the group go on with a termination. That nothing waits any more is no error.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn complete(&self, action: Action<'_>) -> Result<(), Error> {
        let request = self.client.complete_lifecycle_action().auto_scaling_group_name(action.group);
        let request = request.lifecycle_hook_name(action.hook).lifecycle_action_token(action.token);
        let sent = request.instance_id(action.instance).lifecycle_action_result("CONTINUE").send().await;
        over(sent.map_err(|error| from_sdk("CompleteLifecycleAction", action.instance, &error)).map(drop))
    }

    /// Asks the group to wait on with a termination. That nothing waits any more is no error.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn heartbeat(&self, action: Action<'_>) -> Result<(), Error> {
        let request = self.client.record_lifecycle_action_heartbeat().auto_scaling_group_name(action.group);
        let request = request.lifecycle_hook_name(action.hook).lifecycle_action_token(action.token);
        let sent = request.instance_id(action.instance).send().await;
        over(sent.map_err(|error| from_sdk("RecordLifecycleActionHeartbeat", action.instance, &error)).map(drop))
    }
}

/// What waited has been completed by somebody, or has run out of time: "No active Lifecycle Action found".
fn over(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Aws { code, message, .. })
            if code == "ValidationError" && message.to_lowercase().contains("lifecycle action") =>
        {
            Ok(())
        }
        result => result,
    }
}

fn read(group: &aws_sdk_autoscaling::types::AutoScalingGroup) -> AutoScalingGroup {
    let count = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
    let members = group.instances().iter().map(|instance| Member {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        lifecycle: instance.lifecycle_state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        zone: instance.availability_zone().map(str::to_owned),
        is_protected: instance.protected_from_scale_in().unwrap_or_default(),
    });
    let weighs = |weight: Option<&str>| weight.is_some_and(|weight| weight.trim() != "1");
    let by_other_units = group.desired_capacity_type().is_some_and(|kind| !kind.is_empty() && kind != "units");
    let suspended = group.suspended_processes().iter().filter_map(|process| process.process_name());
    AutoScalingGroup {
        name: group.auto_scaling_group_name().unwrap_or_default().to_owned(),
        min: count(group.min_size()),
        max: count(group.max_size()),
        desired: count(group.desired_capacity()),
        members: members.collect(),
        suspended: suspended.map(str::to_owned).collect(),
        counts_otherwise: by_other_units
            || group.instances().iter().any(|instance| weighs(instance.weighted_capacity())),
        // Only a group that is being deleted has a status.
        is_deleted: group.status().is_some_and(|status| !status.is_empty()),
    }
}
