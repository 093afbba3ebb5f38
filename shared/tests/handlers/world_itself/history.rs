//! ECS's history of deployments, and the tasks that failures leave behind.

use std::time::Duration;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{DesiredStatus, ServiceDeployment, ServiceDeploymentStatus, StopServiceDeploymentStopType};
use serde_json::json;

use super::{code, sdk, with_services};
use crate::world::World;

/// A world in which `production/a` has been brought from `web:1` to `web:2`.
async fn updated() -> (World, Client) {
    let world = with_services(&["a"]);
    world.state().ecs.register(&json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "web:2"}]}));
    let client = Client::new(&sdk(&world));
    client.update_service().cluster("production").service("a").task_definition("web:2").send().await.unwrap();
    (world, client)
}

/// The history of `production/a`, newest first.
async fn history(client: &Client) -> Vec<ServiceDeployment> {
    let listed = client.list_service_deployments().cluster("production").service("a").send().await.unwrap();
    let arns = listed.service_deployments().iter().map(|brief| brief.service_deployment_arn().unwrap().to_owned());
    let arns: Vec<String> = arns.collect();
    let described = client.describe_service_deployments().set_service_deployment_arns(Some(arns.clone())).send().await;
    let described = described.unwrap();
    assert_eq!(described.failures().len(), 0);
    let found = described.service_deployments.unwrap();
    assert_eq!(found.iter().map(|found| found.service_deployment_arn().unwrap()).collect::<Vec<_>>(), arns);
    for (found, brief) in found.iter().zip(listed.service_deployments()) {
        assert_eq!(found.target_service_revision().unwrap().arn(), brief.target_service_revision_arn());
        assert_eq!((found.status(), found.created_at()), (brief.status(), brief.created_at()));
    }
    found
}

fn statuses(history: &[ServiceDeployment]) -> Vec<&str> {
    history.iter().map(|entry| entry.status().unwrap().as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_and_its_entry_in_the_history_keep_step() {
    let (world, client) = updated().await;
    world.state().ecs.set_progress("production/a", 1, 2);
    let entry = &history(&client).await[0];
    let service =
        client.describe_services().cluster("production").services("a").send().await.unwrap().services.unwrap();
    let id = service[0].deployments()[0].id().unwrap();
    assert_eq!(service[0].current_service_deployment(), entry.service_deployment_arn());
    let target = entry.target_service_revision().unwrap();
    assert!(target.arn().unwrap().ends_with(&id.replace("ecs-svc/", "service-revision/production/a/")), "{target:?}");
    let counts = (target.requested_task_count(), target.running_task_count(), target.pending_task_count());
    assert_eq!(counts, (2, 1, 1));
    assert_eq!(entry.source_service_revisions()[0].running_task_count(), 2);
    let breaker = entry.deployment_circuit_breaker().unwrap();
    assert_eq!((breaker.status().unwrap().as_str(), breaker.failure_count()), ("DISABLED", 2));
    assert_eq!((entry.started_at().unwrap().secs(), entry.finished_at()), (1_794_819_600, None));

    tokio::time::sleep(Duration::from_secs(60)).await;
    world.state().ecs.end_rollout("production/a", "COMPLETED");
    world.state().ecs.drain("production/a");
    let entries = history(&client).await;
    assert_eq!(statuses(&entries), ["SUCCESSFUL", "SUCCESSFUL"]);
    assert_eq!(entries[0].finished_at().unwrap().secs(), 1_794_819_660);
    assert_eq!(entries[0].target_service_revision().unwrap().running_task_count(), 2);
    assert_eq!(entries[0].source_service_revisions()[0].running_task_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_deployment_is_in_the_history() {
    type Change = fn(&World);
    let breaks: Change = |world| world.state().ecs.begin_roll_back("production/a");
    let rings: Change = |world| {
        world.state().ecs.trigger_alarms("production/a", &["errors"]);
        world.state().ecs.begin_roll_back("production/a");
    };
    let is_over: Change = |world| world.state().ecs.roll_back("production/a");
    let recovers: Change = |world| world.state().ecs.end_rollout("production/a", "COMPLETED");
    let stops: Change = |world| world.state().ecs.stop_by_person("production/a");
    let takes_back: Change = |world| world.state().ecs.begin_roll_back_by_person("production/a");
    let fails: Change = |world| world.state().ecs.end_rollout("production/a", "FAILED");
    let replaces: Change = |world| {
        let (now, first) = (world.seconds(), world.state().ecs.newest("web").replace(":2", ":1"));
        world.state().ecs.deploy_by_others("production/a", &first, now, "IN_PROGRESS");
    };
    for (changes, newest, before, breaker, alarms) in [
        (&[breaks][..], "ROLLBACK_IN_PROGRESS", "SUCCESSFUL", "TRIGGERED", &[][..]),
        (&[is_over], "ROLLBACK_SUCCESSFUL", "SUCCESSFUL", "TRIGGERED", &[]),
        (&[rings, recovers], "ROLLBACK_SUCCESSFUL", "SUCCESSFUL", "DISABLED", &["errors"]),
        (&[breaks, fails], "ROLLBACK_FAILED", "SUCCESSFUL", "TRIGGERED", &[]),
        (&[stops, recovers], "STOPPED", "SUCCESSFUL", "DISABLED", &[]),
        (&[takes_back, recovers], "ROLLBACK_SUCCESSFUL", "SUCCESSFUL", "DISABLED", &[]),
        (&[fails], "STOPPED", "SUCCESSFUL", "TRIGGERED", &[]),
        (&[replaces], "IN_PROGRESS", "STOPPED", "DISABLED", &[]),
        (&[replaces, recovers], "SUCCESSFUL", "STOPPED", "DISABLED", &[]),
        (&[breaks, replaces], "IN_PROGRESS", "STOPPED", "DISABLED", &[]),
    ] {
        let (world, client) = updated().await;
        changes.iter().for_each(|change| change(&world));
        let entries = history(&client).await;
        assert_eq!(statuses(&entries)[..2], [newest, before]);
        let entry = &entries[0];
        assert_eq!(entry.deployment_circuit_breaker().unwrap().status().unwrap().as_str(), breaker, "{newest}");
        assert_eq!(entry.alarms().unwrap().triggered_alarm_names(), alarms, "{newest}");
        assert_eq!(entry.finished_at().is_some(), !newest.ends_with("IN_PROGRESS"), "{newest}");
        if let Some(rollback) = entry.rollback() {
            assert!(rollback.service_revision_arn().unwrap().ends_with("service-revision/production/a/1"));
        }
        assert_eq!(entry.rollback().is_some(), newest.starts_with("ROLLBACK"), "{newest}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_history_is_listed_in_part_or_not_at_all() {
    let (world, client) = updated().await;
    let list = || client.list_service_deployments().cluster("production").service("a");
    let first = list().max_results(1).send().await.unwrap();
    let rest = list().max_results(1).next_token(first.next_token().unwrap()).send().await.unwrap();
    assert_eq!((rest.service_deployments().len(), rest.next_token()), (1, None));
    let successful = list().status(ServiceDeploymentStatus::Successful).send().await.unwrap();
    assert_eq!(successful.service_deployments()[0].created_at().unwrap().secs(), 1_794_000_000);
    let after = aws_sdk_ecs::types::CreatedAt::builder().after(aws_smithy_types::DateTime::from_secs(1_794_819_600));
    assert_eq!(list().created_at(after.build()).send().await.unwrap().service_deployments().len(), 1);
    assert_eq!(code(list().service("b").send().await), "ServiceNotFoundException");

    let describe =
        |arns: Vec<String>| client.describe_service_deployments().set_service_deployment_arns(Some(arns)).send();
    let arn = first.service_deployments()[0].service_deployment_arn().unwrap().to_owned();
    assert_eq!(code(describe(vec![arn.clone(); 21]).await), "InvalidParameterException");
    world.state().ecs.service_deployments_exist = false;
    assert_eq!(describe(vec![arn]).await.unwrap().failures()[0].reason(), Some("MISSING"));
    assert_eq!(list().send().await.unwrap().service_deployments().len(), 0);
    let services = client.describe_services().cluster("production").services("a").send().await.unwrap();
    assert_eq!(services.services()[0].current_service_deployment(), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_has_events_and_stopped_tasks_for_an_hour() {
    let (world, client) = updated().await;
    world.state().ecs.add_event("production/a", "(service a) is unhealthy");
    let services = client.describe_services().cluster("production").services("a").send().await.unwrap();
    assert_eq!(services.services()[0].events()[0].message(), Some("(service a) is unhealthy"));

    let arn = world.state().ecs.stop_task("production/a", &json!({"stoppedReason": "Task failed"}));
    world.state().ecs.roll_back("production/a");
    let list = || client.list_tasks().cluster("production");
    let stopped = || list().service_name("a").desired_status(DesiredStatus::Stopped);
    assert_eq!(list().service_name("a").send().await.unwrap().task_arns().len(), 0, "it runs no more");
    assert_eq!(stopped().send().await.unwrap().task_arns(), std::slice::from_ref(&arn));
    let describe = |tasks: Vec<String>| client.describe_tasks().cluster("production").set_tasks(Some(tasks)).send();
    let described = describe(vec![arn.clone(), "none".into()]).await.unwrap();
    let task = &described.tasks()[0];
    assert_eq!((task.stopped_reason(), described.failures().len()), (Some("Task failed"), 1));
    assert_eq!(task.stop_code().unwrap().as_str(), "EssentialContainerExited");
    assert_eq!((task.started_by(), task.group()), (Some("ecs-svc/2"), Some("service:a")));
    assert_eq!(task.containers()[0].image(), Some("web:2"), "it was one of the deployment that failed");

    let both = list().started_by("ecs-svc/2").desired_status(DesiredStatus::Stopped);
    assert_eq!(code(both.send().await), "InvalidParameterException");
    assert_eq!(code(stopped().started_by("ecs-svc/2").send().await), "InvalidParameterException");
    assert_eq!(code(list().service_name("b").send().await), "ServiceNotFoundException");
    assert_eq!(code(describe(vec![arn.clone(); 101]).await), "InvalidParameterException");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stopped().send().await.unwrap().task_arns().len(), 0);
    assert_eq!(describe(vec![arn]).await.unwrap().tasks().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_stopped_while_it_goes_on() {
    let (world, client) = updated().await;
    let arn = history(&client).await[0].service_deployment_arn().unwrap().to_owned();
    let stop = || {
        let stop = client.stop_service_deployment().service_deployment_arn(&arn);
        stop.stop_type(StopServiceDeploymentStopType::Rollback).send()
    };
    stop().await.unwrap();
    assert_eq!(statuses(&history(&client).await), ["ROLLBACK_IN_PROGRESS", "SUCCESSFUL"]);
    stop().await.unwrap();
    let turns = world.state().ecs.turns.len();
    assert_eq!(turns, 2, "once there, once back");
    world.state().ecs.end_rollout("production/a", "COMPLETED");
    assert_eq!(code(stop().await), "ConflictException");
    let unknown = client.stop_service_deployment().service_deployment_arn("arn:none");
    let unknown = unknown.stop_type(StopServiceDeploymentStopType::Rollback).send().await;
    assert_eq!(code(unknown), "ServiceDeploymentNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_service_revision_tells_what_its_tag_was_resolved_to() {
    let (world, client) = updated().await;
    world.state().ecs.resolved.insert("ecs-svc/2".into(), "sha256:00".into());
    let revision = |digits: u32| {
        let arn = format!("arn:aws:ecs:eu-west-1:123456789012:service-revision/production/a/{digits}");
        client.describe_service_revisions().service_revision_arns(arn).send()
    };
    let known = revision(2).await.unwrap();
    let image = &known.service_revisions()[0].container_images()[0];
    assert_eq!((image.container_name(), image.image_digest()), (Some("web"), Some("sha256:00")));
    let unresolved = revision(1).await.unwrap();
    assert_eq!(unresolved.service_revisions()[0].container_images()[0].image_digest(), None);
    assert_eq!(revision(9).await.unwrap().failures().len(), 1);
}
