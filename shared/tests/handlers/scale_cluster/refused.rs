//! What a cluster is not scaled for, and who is told.

use super::*;

/// Spoils a cluster.
type Spoil = fn(&mut crate::world::State);

const SPOILT: [(Spoil, &str); 8] = [
    (
        |state| state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", GROUP), ("tidegate:scale/cpu-hihg", "80")]),
        "misspelt",
    ),
    (
        |state| state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", GROUP), ("tidegate:scale/cpu-low", "90")]),
        "not below",
    ),
    (|state| state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", " ")]), "the value is empty"),
    (|state| state.ecs.add_cluster(CLUSTER, &[("tidegate:scale/asg", "gone")]), "there is no Auto Scaling group gone"),
    (|state| state.ecs.add_cluster("staging", &[("tidegate:scale/asg", GROUP)]), "also named by the cluster staging"),
    (|state| provider(state, "ENABLED"), "managed scaling of the capacity provider production-provider"),
    (|state| state.groups.by_name.get_mut(GROUP).unwrap().weight = Some("2"), "not counted in instances"),
    (|state| provider(state, "DISABLED"), ""),
];

fn provider(state: &mut crate::world::State, managed: &str) {
    let arn = format!("arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:0b5f:autoScalingGroupName/{GROUP}");
    state.ecs.capacity_providers.push(json!({"name": "production-provider", "status": "ACTIVE", "autoScalingGroupProvider": {
        "autoScalingGroupArn": arn, "managedScaling": {"status": managed}, "managedTerminationProtection": "DISABLED",
    }}));
}

#[tokio::test(start_paused = true)]
async fn the_owner_sees_why_a_cluster_is_not_scaled() {
    for (spoil, reason) in SPOILT {
        let world = calm();
        crowd(&world);
        spoil(&mut world.state());
        let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
        let decision = &response["decisions"][0];
        if reason.is_empty() {
            assert_eq!(cluster(&world).0, 4, "{response}");
            continue;
        }
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("refused")), "{response}");
        assert!(decision["reason"].as_str().unwrap().contains(reason), "{response}");
        assert_eq!(cluster(&world).0, 2);
        assert_eq!(actions(&world), Vec::<String>::new());
        minutes(&world, 3).await;
        let told: Vec<String> =
            world.state().slack.values().map(|versions| versions.last().unwrap()["text"].to_string()).collect();
        let told: Vec<&String> = told.iter().filter(|text| text.contains("the cluster production in")).collect();
        assert_eq!(told.len(), 1, "once, and not each minute: {told:?}");
        assert!(told[0].contains(reason), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_beyond_the_maximum_is_told() {
    let world = calm();
    world.state().ecs.scale_service("production/web", 40);
    minutes(&world, 8).await;
    assert_eq!(cluster(&world).0, 5);
    let kinds: Vec<Value> = world.state().published.iter().map(|published| published["kind"].clone()).collect();
    assert_eq!(kinds, [json!("at_maximum")], "{:?}", world.state().published);
}

/// A cluster that has not opted in is nobody's business.
#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_tag_is_left_alone() {
    let world = calm();
    crowd(&world);
    world.state().ecs.add_cluster(CLUSTER, &[("team", "tides")]);
    let response = world.deliver("scale-cluster", &unplaced()).await.unwrap();
    assert_eq!(crate::decision(&response)["action"], "skip");
    assert_eq!(world.operations(), ["GetResources"]);
}

/// The cluster was deleted, and the tagging API does not know it yet.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_gone_is_no_error() {
    let world = calm();
    world.state().ecs.delete_cluster(CLUSTER);
    let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(response["decisions"][0]["rule"], "gone", "{response}");
    assert_eq!(world.state().rejects, Vec::<Value>::new());
}
