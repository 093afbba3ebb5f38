//! A cluster on instances of its own, which Tidegate scales: instances boot and go, ECS places tasks, CloudWatch measures.

use serde_json::Value;

use super::Case;
use crate::world::State;
use crate::world::autoscaling::Group;

const CLUSTER: &str = "hosts";
const GROUP: &str = "hosts-group";
const SERVICE: &str = "hosts/jobs";
/// Bounds of the group.
const BOUNDS: (i64, i64) = (1, 5);
/// Of these, so many fit on an instance: memory is what they are short of.
const TASKS_EACH: i64 = 3;
/// More than fit on all instances, sometimes.
pub(super) const TASKS_MAX: i64 = 17;

impl Case {
    /// Two instances, and two tasks on them.
    pub(super) fn furnish_hosts(&mut self) {
        let now = self.world.seconds();
        let mut state = self.world.state();
        state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", GROUP)]);
        let group = Group { min: BOUNDS.0, max: BOUNDS.1, desired: 2, ..Group::default() };
        state.groups.by_name.insert(GROUP.into(), group);
        boot(&mut state);
        state.ecs.add_ec2_service(CLUSTER, "jobs", 1024, 4096, 2);
        state.ecs.schedule(CLUSTER);
        for metric in ["CPUUtilization", "MemoryUtilization"] {
            state.metered.put(metric, CLUSTER, now, 20, 20.0);
        }
    }

    /// What was launched boots, what was terminated is gone, tasks are placed.
    pub(super) fn live_hosts(&mut self) {
        let now = self.world.seconds();
        if self.rng.u32(0..6) > 0 {
            return;
        }
        let mut state = self.world.state();
        for id in state.groups.by_name.get_mut(GROUP).unwrap().bury() {
            state.ecs.deregister_instance(CLUSTER, &id);
        }
        boot(&mut state);
        state.ecs.schedule(CLUSTER);
        for metric in ["CPUUtilization", "MemoryUtilization"] {
            state.metered.put(metric, CLUSTER, now, 2, 20.0);
        }
    }

    /// Somebody wants another number of tasks.
    pub(super) fn resize_hosts(&mut self) {
        let wanted = self.rng.i64(0..TASKS_MAX);
        let mut state = self.world.state();
        state.ecs.scale_service(SERVICE, wanted);
        state.ecs.schedule(CLUSTER);
    }

    /// Instances that are still to go.
    pub(super) fn draining(&self) -> Vec<Value> {
        let placed = self.world.state().ecs.placed(CLUSTER);
        placed.into_iter().filter(|shown| shown.contains("DRAINING")).map(Value::from).collect()
    }

    /// Every task has a place, as far as the group may grow.
    pub(super) fn check_hosts(&self) {
        let state = self.world.state();
        let service = &state.ecs.services[SERVICE];
        let (wanted, running) = (service["desiredCount"].as_i64().unwrap(), service["runningCount"].as_i64().unwrap());
        let group = &state.groups.by_name[GROUP];
        assert!((BOUNDS.0..=BOUNDS.1).contains(&group.desired), "I5: {group:?}");
        let possible = wanted.min(BOUNDS.1 * TASKS_EACH);
        assert!(running >= possible, "{running} of {wanted} tasks have a place: {group:?}");
    }
}

/// What the group has launched comes into the cluster.
fn boot(state: &mut State) {
    for id in state.groups.by_name.get_mut(GROUP).unwrap().launch() {
        state.ecs.register_instance(CLUSTER, &id, 4096, 15_860);
    }
}
