//! Instances that somebody else takes away.

use super::*;

/// The group is about to terminate an instance, and a lifecycle hook waits for us.
fn terminating(world: &World, id: &str) -> Value {
    let token = world.state().groups.by_name.get_mut(GROUP).unwrap().begin_terminating(id);
    json!({
        "version": "0", "id": "4c8f6d2a-0003", "detail-type": "EC2 Instance-terminate Lifecycle Action",
        "source": "aws.autoscaling", "account": ACCOUNT, "time": "2026-11-16T09:00:00Z", "region": REGION, "resources": [],
        "detail": {
            "LifecycleActionToken": token, "AutoScalingGroupName": GROUP, "LifecycleHookName": "drain",
            "EC2InstanceId": id, "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            "Origin": "AutoScalingGroup", "Destination": "EC2",
        },
    })
}

fn interrupted(id: &str) -> Value {
    json!({
        "version": "0", "id": "4c8f6d2a-0004", "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2", "account": ACCOUNT, "time": "2026-11-16T09:00:00Z", "region": REGION,
        "resources": [format!("arn:aws:ec2:eu-west-1a:instance/{id}")],
        "detail": {"instance-id": id, "instance-action": "terminate"},
    })
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_its_group_terminates_drains_first() {
    let world = calm();
    let event = terminating(&world, "i-0001");
    world.deliver("scale-cluster", &event).await.unwrap();
    assert_eq!(world.state().ecs.status_of(CLUSTER, "i-0001"), "DRAINING");
    assert_eq!(world.state().groups.by_name[GROUP].instances["i-0001"], "Terminating:Wait", "its task is still there");
    minute(&world).await;
    assert_eq!(world.state().ecs.tasks_on("i-0001").len(), 0);
    minutes(&world, 3).await;
    assert_eq!(world.state().ecs.status_of(CLUSTER, "i-0001"), "gone");
    assert_eq!(world.state().ecs.services["production/web"]["runningCount"], 2);
    assert_eq!(cluster(&world).0, 2, "the group replaces it itself");
    let mut done = actions(&world);
    // It is told to go on until the group does not show it any more.
    done.dedup();
    assert_eq!(done, ["drain: accepted", "complete lifecycle action: accepted"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_asked_to_wait_while_tasks_are_left_and_not_for_ever() {
    let world = calm();
    let task = world.state().ecs.tasks_on("i-0001")[0].clone();
    world.state().ecs.protected.insert(task);
    let event = terminating(&world, "i-0001");
    world.deliver("scale-cluster", &event).await.unwrap();
    minutes(&world, 10).await;
    assert!(world.state().groups.by_name[GROUP].waiting["i-0001"].1 > 0, "it was asked to wait on");
    minutes(&world, 10).await;
    assert_eq!(world.state().ecs.status_of(CLUSTER, "i-0001"), "gone");
}

#[tokio::test(start_paused = true)]
async fn a_spot_instance_drains_before_it_is_taken_back() {
    let world = calm();
    world.deliver("scale-cluster", &interrupted("i-0002")).await.unwrap();
    assert_eq!(world.state().ecs.status_of(CLUSTER, "i-0002"), "DRAINING");
    assert_eq!(world.count("CompleteLifecycleAction"), 0);
    // Those of others are nobody's business.
    let response = world.deliver("scale-cluster", &interrupted("i-9999")).await.unwrap();
    assert_eq!(crate::decision(&response)["rule"], "not-asked");
    assert_eq!(world.state().rejects, Vec::<Value>::new());
}

/// The warning comes again, and the group's own event with it.
#[tokio::test(start_paused = true)]
async fn what_is_told_twice_is_done_once() {
    let world = calm();
    let event = terminating(&world, "i-0001");
    for event in [&event, &interrupted("i-0001"), &event] {
        world.deliver("scale-cluster", event).await.unwrap();
    }
    minutes(&world, 4).await;
    let mut done = actions(&world);
    // It is told to go on until the group does not show it any more.
    done.dedup();
    assert_eq!(done, ["drain: accepted", "complete lifecycle action: accepted"]);
}
