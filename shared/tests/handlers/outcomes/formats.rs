//! ARNs of other partitions and of the format before 2018, and events that are about nothing of ours.

use serde_json::{Value, json};

use super::{END, WEB, deployed, look, open, texts, wait};
use crate::world::World;
use crate::{NEW, decision, ecs_event, externals, pushed, records};

const OLD_ARN: &str = "arn:aws:ecs:eu-west-1:123456789012:service/web";
const CLUSTER: &str = "arn:aws:ecs:eu-west-1:123456789012:cluster/production";

/// An event about [`OLD_ARN`], which may tell the cluster.
fn old_event(name: &str, id: &str, cluster: Option<&str>) -> Value {
    let mut event = ecs_event(name, id);
    event["resources"] = json!([OLD_ARN]);
    event["detail"]["clusterArn"] = json!(cluster);
    event
}

/// A service with an old ARN, deployed: the id of its deployment.
async fn old_service() -> (World, String) {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    world.state().ecs.services.get_mut(WEB).unwrap()["serviceArn"] = json!(OLD_ARN);
    wait(60).await;
    END(&mut world.state().ecs);
    (world, id)
}

#[tokio::test(start_paused = true)]
async fn an_arn_without_a_cluster_leads_to_the_record_all_the_same() {
    for cluster in [Some(CLUSTER), None] {
        let (world, id) = old_service().await;
        let event = old_event("SERVICE_DEPLOYMENT_COMPLETED", &id, cluster);
        let response = world.deliver("notify", &event).await.unwrap();
        assert_eq!(decision(&response)["state"], "succeeded", "{response}");
        assert_eq!((texts(&world).len(), open(&world).len()), (1, 0));
        // Again, when nothing is open any more.
        let told = texts(&world);
        world.deliver("notify", &event).await.unwrap();
        assert_eq!((texts(&world), world.state().rejects.len()), (told, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_arn_without_a_cluster_of_an_unknown_deployment_is_skipped_and_not_rejected() {
    for name in ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED", "SERVICE_DEPLOYMENT_FAILED"] {
        let (world, _) = old_service().await;
        world.calm();
        let response = world.deliver("notify", &old_event(name, "ecs-svc/77", None)).await.unwrap();
        assert_eq!(decision(&response)["action"], "skip", "{response}");
        assert!(decision(&response)["reason"].as_str().unwrap().contains("old format"), "{response}");
        assert_eq!((world.operations(), world.state().rejects.len()), (vec!["Query".to_owned()], 0));
    }
    let (world, _) = old_service().await;
    let mut nothing = old_event("SERVICE_STEADY_STATE", "", None);
    nothing["detail-type"] = json!("ECS Service Action");
    nothing["detail"].as_object_mut().unwrap().remove("deploymentId");
    assert_eq!(decision(&world.deliver("notify", &nothing).await.unwrap())["action"], "skip");
}

#[tokio::test(start_paused = true)]
async fn a_service_with_an_old_arn_is_found_by_the_look_too() {
    let (world, _) = old_service().await;
    look(&world).await;
    assert_eq!((&records(&world)[0]["state"], open(&world).len()), (&json!("succeeded"), 0));
}

#[tokio::test(start_paused = true)]
async fn other_partitions_are_no_other_thing() {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    let arn = "arn:aws-cn:ecs:cn-north-1:123456789012:service/production/web";
    world.state().ecs.services.get_mut(WEB).unwrap()["serviceArn"] = json!(arn);
    wait(60).await;
    END(&mut world.state().ecs);
    let mut event = ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id);
    event["resources"] = json!([arn]);
    let response = world.deliver("notify", &event).await.unwrap();
    assert_eq!(decision(&response)["state"], "succeeded", "{response}");

    // What others deploy there has links of its own, and an image of its own registry.
    let mut body = world.state().ecs.families["web"][0]["taskDefinition"].clone();
    body["containerDefinitions"][0]["image"] =
        json!(format!("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/tides/web@{NEW}"));
    world.state().ecs.register(&body);
    let (revision, now) = (world.state().ecs.newest("web"), world.seconds());
    let id = world.state().ecs.deploy_by_others(WEB, &revision, now, "IN_PROGRESS");
    let mut event = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &id);
    event["resources"] = json!([arn]);
    world.deliver("notify", &event).await.unwrap();
    let found = externals(&world).pop().unwrap();
    assert_eq!((&found["service_arn"], &found["state"]), (&json!(arn), &json!("rolling")));
    let message = world.state().slack.values().last().unwrap()[0]["blocks"].to_string();
    assert!(message.contains("amazonaws.cn") && !message.contains("aws.amazon.com"), "{message}");
}
