//! Services that follow their queues, and clusters that follow their tasks.

use serde_json::{Value, json};
use sim::world::autoscaling::Group;
use sim::world::fleet::{definition, sweep};
use sim::world::queues::Queue;
use sim::world::{ACCOUNT, HOST, REGION, World};

use super::{Job, alarm, event, wait};

pub(super) const JOBS: &[Job] = &[
    ("a queue fills and is emptied", || Box::pin(queue())),
    ("a service needs more than it may have", || Box::pin(at_maximum())),
    ("a cluster grows and shrinks", || Box::pin(cluster())),
    ("a cluster needs more than it may have", || Box::pin(too_small())),
    ("an instance is taken away by others", || Box::pin(leaving())),
];

const CLUSTER: &str = "production";
const GROUP: &str = "production-hosts";

/// A worker on the queue `jobs`, which may have as many tasks.
fn worker(most: &str) -> World {
    let world = World::new();
    let mut state = world.state();
    state.ecs.register(&definition("worker", &format!("{HOST}/tides/worker:1")));
    let tags = [
        ("tidegate:scale/queue", "jobs"),
        ("tidegate:scale/min", "1"),
        ("tidegate:scale/max", most),
        ("tidegate:scale/service-time", "6"),
        ("tidegate:channel", "C0000000001"),
    ];
    let extra = json!({"desiredCount": 2, "runningCount": 2, "pendingCount": 0});
    state.ecs.add_service_with(CLUSTER, "worker", "worker", &tags, &extra);
    drop(state);
    world
}

fn fill(world: &World, visible: u32) {
    let now = world.seconds();
    let mut state = world.state();
    state.queues.insert("jobs".into(), Queue { visible, in_flight: 2, delayed: 0 });
    for metric in ["NumberOfMessagesSent", "NumberOfMessagesDeleted"] {
        state.metered.put(metric, "jobs", now, 20, f64::from(visible));
    }
    let service = state.ecs.services.get_mut("production/worker").unwrap();
    service["runningCount"] = service["desiredCount"].clone();
}

async fn look(world: &World, minutes: usize, visible: u32) {
    for _ in 0..minutes {
        fill(world, visible);
        world.deliver("scale-service", &sweep()).await.unwrap();
        wait(60).await;
    }
}

async fn queue() -> World {
    let world = worker("40");
    look(&world, 2, 300).await;
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/production/worker");
    let body = json!({"source": "tidegate", "detail-type": "Tick", "detail": {"of": [arn]}}).to_string();
    let tick = json!({"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": body}]});
    world.deliver("scale-service", &tick).await.unwrap();
    let of_queue = alarm(&world, "jobs-age", "AWS/SQS", &json!({"QueueName": "jobs"}));
    world.deliver("scale-service", &of_queue).await.unwrap();
    look(&world, 10, 0).await;
    world
}

/// People are told.
async fn at_maximum() -> World {
    let world = worker("3");
    for _ in 0..60 {
        look(&world, 1, 30_000).await;
        if !world.state().published.is_empty() {
            return world;
        }
    }
    panic!("nobody was told in an hour");
}

/// Two instances for two tasks, of which three fit on one.
fn instances() -> World {
    let world = World::new();
    let now = world.seconds();
    let mut state = world.state();
    state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", GROUP)]);
    let group = Group { min: 2, max: 4, desired: 2, ..Group::default() };
    state.groups.by_name.insert(GROUP.into(), group);
    state.ecs.add_ec2_service(CLUSTER, "web", 1024, 4096, 2);
    drop(state);
    passes(&world, now);
    world
}

/// A minute as AWS has it: what was launched boots, what was terminated is gone, ECS places tasks, CloudWatch measures.
fn passes(world: &World, now: f64) {
    let mut state = world.state();
    for id in state.groups.by_name.get_mut(GROUP).unwrap().bury() {
        state.ecs.deregister_instance(CLUSTER, &id);
    }
    for id in state.groups.by_name.get_mut(GROUP).unwrap().launch() {
        state.ecs.register_instance(CLUSTER, &id, 4096, 15_860);
    }
    state.ecs.schedule(CLUSTER);
    for metric in ["CPUUtilization", "MemoryUtilization"] {
        state.metered.put(metric, CLUSTER, now, 20, 20.0);
    }
}

async fn minutes(world: &World, count: usize) {
    for _ in 0..count {
        passes(world, world.seconds());
        world.deliver("scale-cluster", &sweep()).await.unwrap();
        wait(60).await;
    }
}

async fn minutes_until(world: &World, is_so: fn(&World) -> bool) {
    for _ in 0..90 {
        if is_so(world) {
            return;
        }
        minutes(world, 1).await;
    }
    let state = world.state();
    panic!("it has not come to that: {:?}, {:?}", state.groups, state.table.items("ACTION#"));
}

async fn cluster() -> World {
    let world = instances();
    world.state().ecs.scale_service("production/web", 9);
    minutes_until(&world, |world| world.state().groups.by_name[GROUP].instances.len() > 2).await;
    minutes(&world, 2).await;
    world.state().ecs.scale_service("production/web", 2);
    minutes_until(&world, |world| world.count("TerminateInstanceInAutoScalingGroup") > 0).await;
    world
}

/// The group may not hold what is needed: people are told.
async fn too_small() -> World {
    let world = instances();
    world.state().ecs.scale_service("production/web", 40);
    minutes_until(&world, |world| !world.state().published.is_empty()).await;
    world
}

async fn leaving() -> World {
    let world = instances();
    let task = world.state().ecs.tasks_on("i-0001")[0].clone();
    world.state().ecs.protected.insert(task);
    let token = world.state().groups.by_name.get_mut(GROUP).unwrap().begin_terminating("i-0001");
    let detail = json!({
        "LifecycleActionToken": token, "AutoScalingGroupName": GROUP, "LifecycleHookName": "drain",
        "EC2InstanceId": "i-0001", "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "Origin": "AutoScalingGroup", "Destination": "EC2",
    });
    let event: Value = event(&world, "aws.autoscaling", "EC2 Instance-terminate Lifecycle Action", "", &detail);
    world.deliver("scale-cluster", &event).await.unwrap();
    minutes_until(&world, |world| world.count("RecordLifecycleActionHeartbeat") > 0).await;
    minutes_until(&world, |world| world.count("CompleteLifecycleAction") > 0).await;
    world
}
