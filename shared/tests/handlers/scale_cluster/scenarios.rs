//! Out at once, and in by way of a drain.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_calm_cluster_is_left_alone() {
    let world = calm();
    minutes(&world, 30).await;
    assert_eq!(cluster(&world).0, 2);
    assert_eq!(actions(&world), Vec::<String>::new());
    assert_eq!(world.state().ticks.len(), 0, "there is nothing to look at sooner");
}

#[tokio::test(start_paused = true)]
async fn tasks_without_a_place_get_instances_at_once() {
    let world = calm();
    crowd(&world);
    let response = world.deliver("scale-cluster", &unplaced()).await.unwrap();
    let decision = crate::decision(&response);
    assert_eq!((&decision["action"], &decision["cluster"]), (&json!("scale"), &json!(CLUSTER)), "{decision}");
    assert_eq!((&decision["from"], &decision["to"]), (&json!(2), &json!(4)), "{decision}");
    assert_eq!(actions(&world), ["desired capacity 2 4: accepted"]);
    minutes(&world, 3).await;
    assert_eq!(world.state().ecs.services["production/web"]["runningCount"], 9);
    assert_eq!(cluster(&world).0, 4, "nothing more is needed");
    assert_eq!(actions(&world).len(), 1);
}

/// An instance has joined, and what ECS said last of a service is from before: that is no reason for another instance.
#[tokio::test(start_paused = true)]
async fn what_ecs_said_before_an_instance_joined_is_not_held_against_it() {
    let world = calm();
    crowd(&world);
    world.state().ecs.add_event("production/web", "(service web) was unable to place a task because of RESOURCE:CPU.");
    wait(60).await;
    world.state().groups.by_name.get_mut(GROUP).unwrap().desired = 4;
    boot(&mut world.state());
    // Another service was faster, and has left room enough.
    for id in ["i-0003", "i-0004"] {
        world.state().ecs.run_task(CLUSTER, id, 512, 1024);
    }
    for seconds in [10, 60, 45] {
        wait(seconds).await;
        world.deliver("scale-cluster", &sweep()).await.unwrap();
        assert_eq!(cluster(&world).0, 4, "after {seconds} s more");
    }
    // ECS had its time to look at the new ones.
    wait(30).await;
    world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(cluster(&world).0, 5);
}

/// From the event to the call by which the group gets instances.
#[tokio::test(start_paused = true)]
async fn a_look_takes_five_rounds_of_calls_before_it_acts() {
    let world = calm();
    crowd(&world);
    world.calm();
    world.deliver("scale-cluster", &unplaced()).await.unwrap();
    let steps: Vec<String> = world.steps().iter().map(|calls| calls.join(" ")).collect();
    insta::assert_snapshot!(steps.join("\n"));
    // What tasks need is known by now to an environment that stays warm; here each invocation is cold.
    let inputs = world.state().table.items("ACTION#")[0]["inputs"].clone();
    insta::assert_json_snapshot!(inputs);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_not_needed_drains_and_goes() {
    let world = spare().await;
    assert_eq!(cluster(&world).0, 4);
    let mut fewest = Vec::new();
    for _ in 0..40 {
        minute(&world).await;
        fewest.push(world.state().ecs.tasks["production/web"].len());
    }
    assert_eq!(cluster(&world), (2, vec!["i-0001 ACTIVE 1".to_owned(), "i-0002 ACTIVE 1".to_owned()]));
    assert_eq!(
        actions(&world),
        [
            "desired capacity 2 4: accepted",
            "drain: accepted",
            "terminate 4 3: accepted",
            "drain: accepted",
            "terminate 3 2: accepted"
        ],
    );
    assert!(fewest.iter().all(|tasks| *tasks == 2), "{fewest:?}");
    let set: Vec<String> =
        world.operations().into_iter().filter(|operation| operation == "SetDesiredCapacity").collect();
    assert_eq!(set.len(), 1, "the desired capacity is never lowered but by a termination");
}

/// A task that takes its time to stop is not cut off.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_about_to_stop_is_waited_for() {
    let world = spare().await;
    while instances_with(&world, "DRAINING").is_empty() {
        minute(&world).await;
    }
    let draining = instances_with(&world, "DRAINING").remove(0);
    world.state().ecs.stopping_task(CLUSTER, &draining, 256, 512);
    minutes(&world, 5).await;
    assert_eq!(world.state().ecs.status_of(CLUSTER, &draining), "DRAINING");
    assert_eq!(cluster(&world).0, 4);
    world.state().ecs.stopped(&draining);
    minutes(&world, 2).await;
    assert_eq!(world.state().ecs.status_of(CLUSTER, &draining), "gone");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_protect_themselves_or_are_nobodys_keep_their_instances() {
    let world = spare().await;
    minute(&world).await;
    // Those without tasks of the service could go.
    let empty = instances_with(&world, " 0");
    assert_eq!(empty.len(), 2);
    keep(&mut world.state(), &empty);
    minutes(&world, 30).await;
    assert_eq!(cluster(&world).0, 4);
    assert_eq!(actions(&world).len(), 1);
}

/// Somebody runs a task on one of two instances, the group protects the other, and all tasks of `web` protect themselves.
fn keep(state: &mut crate::world::State, empty: &[String]) {
    state.ecs.run_task(CLUSTER, &empty[0], 256, 512);
    state.groups.by_name.get_mut(GROUP).unwrap().protected.insert(empty[1].clone());
    let arn = |task: &Value| task["taskArn"].as_str().unwrap().to_owned();
    let tasks: Vec<String> = state.ecs.tasks["production/web"].iter().map(arn).collect();
    state.ecs.protected.extend(tasks);
}

#[tokio::test(start_paused = true)]
async fn a_hot_cluster_gets_an_instance() {
    let world = calm();
    minutes(&world, 3).await;
    let now = world.seconds();
    world.state().metered.put("CPUUtilization", CLUSTER, now, 3, 95.0);
    let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(cluster(&world).0, 3, "{response}");
}

#[tokio::test(start_paused = true)]
async fn without_metrics_nothing_goes() {
    let world = spare().await;
    for _ in 0..30 {
        passes(&world);
        world.state().metered.clear();
        world.deliver("scale-cluster", &sweep()).await.unwrap();
        wait(60).await;
    }
    assert_eq!(cluster(&world).0, 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_while_a_deployment_is_going_on() {
    let world = spare().await;
    world.state().ecs.services.get_mut("production/web").unwrap()["deployments"][0]["rolloutState"] =
        json!("IN_PROGRESS");
    minutes(&world, 30).await;
    assert_eq!(cluster(&world).0, 4);
    world.state().ecs.services.get_mut("production/web").unwrap()["deployments"][0]["rolloutState"] =
        json!("COMPLETED");
    minutes(&world, 30).await;
    assert_eq!(cluster(&world).0, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_at_once_when_what_was_remembered_is_lost() {
    let world = spare().await;
    minutes(&world, 9).await;
    assert_eq!(actions(&world).len(), 1);
    world.state().table.remove("SCALING#production", "STATE");
    minutes(&world, 9).await;
    assert_eq!(actions(&world).len(), 1);
    minutes(&world, 30).await;
    assert_eq!(cluster(&world).0, 2);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_says_what_would_be_done_and_writes_nothing() {
    let world = calm();
    crowd(&world);
    let table = world.state().table.items("");
    for event in [unplaced(), sweep()] {
        world.calm();
        let asked = json!({"source": "tidegate", "detail-type": "Explain", "detail": {"event": event}});
        let response = world.deliver("scale-cluster", &asked).await.unwrap();
        let decision = &response["decisions"][0];
        assert_eq!((&decision["action"], &decision["to"]), (&json!("scale"), &json!(4)), "{response}");
        let reads = |operation: &String| ["Describe", "List", "Get"].iter().any(|begin| operation.starts_with(begin));
        assert!(world.operations().iter().all(reads), "{:?}", world.operations());
    }
    assert_eq!(world.state().table.items(""), table);
    assert_eq!(cluster(&world).0, 2);
}

/// The schedule sends ticks while there is something to wait for; a tick looks, and sends none.
#[tokio::test(start_paused = true)]
async fn the_cluster_is_looked_at_more_often_while_there_is_something_to_do() {
    let world = calm();
    crowd(&world);
    world.deliver("scale-cluster", &sweep()).await.unwrap();
    let ticks = std::mem::take(&mut world.state().ticks);
    let delays: Vec<i64> = ticks.iter().map(|(delay, _)| *delay).collect();
    assert_eq!(delays, [15, 30, 45]);
    let message = json!({"Records": [{"eventSource": "aws:sqs", "body": ticks[0].1.to_string()}]});
    let response = world.deliver("scale-cluster", &message).await.unwrap();
    assert_eq!(response["decisions"][0]["cluster"], CLUSTER, "{response}");
    assert_eq!(world.state().ticks.len(), 0);
}

/// An alarm is a reason to look now, if it is about a cluster or a group, or does not say.
#[tokio::test(start_paused = true)]
async fn an_alarm_wakes_whom_it_is_about() {
    for (dimensions, is_looked_at) in [
        (json!({"ClusterName": CLUSTER}), true),
        (json!({"ClusterName": CLUSTER, "ServiceName": "web"}), true),
        (json!({"ClusterName": "staging"}), false),
        (json!({"AutoScalingGroupName": GROUP}), true),
        (json!({"AutoScalingGroupName": "others"}), false),
        (json!({"QueueName": "jobs"}), false),
        (json!({}), true),
    ] {
        let world = calm();
        crowd(&world);
        let event = alarm("ALARM", &dimensions);
        world.deliver("scale-cluster", &event).await.unwrap();
        assert_eq!(cluster(&world).0 == 4, is_looked_at, "{dimensions}");
        assert_eq!(world.state().rejects, Vec::<Value>::new());
    }
    for state in ["OK", "INSUFFICIENT_DATA"] {
        let world = calm();
        crowd(&world);
        world.deliver("scale-cluster", &alarm(state, &json!({"ClusterName": CLUSTER}))).await.unwrap();
        assert_eq!(world.operations(), Vec::<String>::new());
    }
}

fn alarm(state: &str, dimensions: &Value) -> Value {
    let metric = json!({"metric": {"namespace": "AWS/ECS", "name": "CPUUtilization", "dimensions": dimensions}});
    json!({
        "version": "0", "id": "4c8f6d2a-0002", "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
        "account": ACCOUNT, "time": "2026-11-16T09:00:00Z", "region": REGION, "resources": [], "detail": {
            "alarmName": "production-hot", "state": {"value": state, "timestamp": "2026-11-16T09:00:00.000+0000"},
            "configuration": {"metrics": [{"id": "m1", "metricStat": metric, "returnData": true}]},
        },
    })
}

/// What is neither for clusters nor known to be of no consequence is kept.
#[tokio::test(start_paused = true)]
async fn what_is_for_others_is_rejected() {
    let world = calm();
    world.deliver("scale-cluster", &crate::push(crate::NEW)).await.unwrap();
    assert_eq!(world.state().rejects.len(), 1);
}

/// Listings have pages, and calls that describe take so many at once: the world refuses more.
#[tokio::test(start_paused = true)]
async fn a_large_cluster_is_read_page_by_page() {
    let world = calm();
    for number in 0..12 {
        world.state().ecs.add_ec2_service(CLUSTER, &format!("small-{number}"), 1, 1, 12);
    }
    minute(&world).await;
    world.calm();
    let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(response["decisions"][0]["action"], "skip", "{response}");
    for (operation, calls) in [
        ("ListTasks", 2),
        ("DescribeTasks", 2),
        ("ListServices", 1),
        ("DescribeServices", 2),
        ("DescribeTaskDefinition", 13),
    ] {
        assert_eq!(world.count(operation), calls, "{operation}");
    }
    assert_eq!(cluster(&world).0, 2);
}
