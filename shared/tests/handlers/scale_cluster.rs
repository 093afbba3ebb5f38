//! A cluster gets the instances that its tasks need, and loses those that they do not.

mod disturbed;
mod leaving;
mod refused;
mod scenarios;

use serde_json::{Value, json};

use crate::outcomes::wait;
use crate::world::autoscaling::Group;
use crate::world::fleet::sweep;
use crate::world::{ACCOUNT, Fate, REGION, World};

const CLUSTER: &str = "production";
const GROUP: &str = "production-hosts";

/// The cluster `production` on a group of two to five instances, with a service `web` that has two tasks, of which three
/// fit on an instance. CloudWatch says that there is little to do.
fn calm() -> World {
    let world = World::new();
    let now = world.seconds();
    let mut state = world.state();
    state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", GROUP), ("team", "tides")]);
    let group = Group { min: 2, max: 5, desired: 2, ..Group::default() };
    state.groups.by_name.insert(GROUP.into(), group);
    boot(&mut state);
    state.ecs.add_ec2_service(CLUSTER, "web", 1024, 4096, 2);
    state.ecs.schedule(CLUSTER);
    meter(&mut state, now);
    drop(state);
    world
}

/// What the group has launched comes into the cluster.
fn boot(state: &mut crate::world::State) {
    for id in state.groups.by_name.get_mut(GROUP).unwrap().launch() {
        state.ecs.register_instance(CLUSTER, &id, 4096, 15_860);
    }
}

fn meter(state: &mut crate::world::State, now: f64) {
    state.metered.put("CPUUtilization", CLUSTER, now, 20, 20.0);
    state.metered.put("MemoryUtilization", CLUSTER, now, 20, 20.0);
}

/// A minute as AWS has it: what was launched boots, what was terminated is gone, ECS places tasks, CloudWatch measures.
fn passes(world: &World) {
    let now = world.seconds();
    let mut state = world.state();
    let gone = state.groups.by_name.get_mut(GROUP).unwrap().bury();
    for id in gone {
        state.ecs.deregister_instance(CLUSTER, &id);
    }
    boot(&mut state);
    state.ecs.schedule(CLUSTER);
    meter(&mut state, now);
}

/// The schedule comes round, and a minute passes.
async fn minute(world: &World) -> Value {
    passes(world);
    let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
    wait(60).await;
    response
}

async fn minutes(world: &World, count: usize) {
    for _ in 0..count {
        minute(world).await;
    }
}

/// Desired capacity, and the instances with ECS's status and the number of their tasks.
fn cluster(world: &World) -> (i64, Vec<String>) {
    let state = world.state();
    (state.groups.by_name[GROUP].desired, state.ecs.placed(CLUSTER))
}

/// The instances of which this is shown.
fn instances_with(world: &World, what: &str) -> Vec<String> {
    let shown = cluster(world).1.into_iter().filter(|shown| shown.contains(what));
    shown.map(|shown| shown.split(' ').next().unwrap().to_owned()).collect()
}

/// What was changed, as `<what> <from> <to>: <outcome>`.
fn actions(world: &World) -> Vec<String> {
    let items = world.state().table.items("ACTION#");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let numbers = |item: &Value| match item.get("to") {
        Some(to) => format!(" {} {to}", item["from"]),
        None => String::new(),
    };
    items.iter().map(|item| format!("{}{}: {}", text(&item["what"]), numbers(item), text(&item["outcome"]))).collect()
}

/// The event of ECS that a task of `web` found no place.
fn unplaced() -> Value {
    json!({
        "version": "0", "id": "4c8f6d2a-0001", "detail-type": "ECS Service Action", "source": "aws.ecs",
        "account": ACCOUNT, "time": "2026-11-16T09:00:00Z", "region": REGION,
        "resources": [format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{CLUSTER}/web")],
        "detail": {
            "eventType": "ERROR", "eventName": "SERVICE_TASK_PLACEMENT_FAILURE", "reason": "RESOURCE:CPU",
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{CLUSTER}"),
            "createdAt": "2026-11-16T09:00:00Z",
        },
    })
}

/// Nine tasks are wanted: more than two instances hold.
fn crowd(world: &World) {
    let mut state = world.state();
    state.ecs.scale_service("production/web", 9);
    state.ecs.schedule(CLUSTER);
}

/// There were four instances for nine tasks, and then two tasks are enough.
async fn spare() -> World {
    let world = calm();
    crowd(&world);
    minutes(&world, 3).await;
    world.state().ecs.scale_service("production/web", 2);
    world
}
