//! What a rollback depends on: tasks that fail after they ran well, alarms, and ECS when it is told to go back.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::cloud::{Cloud, primary};
use local::registry::Behaviour;
use serde_json::{Value, json};

use super::code;
use super::rollouts::Ship;
use crate::scenario;

/// The digest of the image in the container `app` of what the service runs.
async fn digest_of(ship: &Ship, service: &str) -> Result<String> {
    let service = ship.cloud.service("smoke", service).await?;
    let definition = ship.cloud.task_definition(service["taskDefinition"].as_str().context("no revision")?).await?;
    let image = definition["taskDefinition"]["containerDefinitions"][1]["image"].as_str().context("no image")?;
    Ok(image.split_once('@').context("no digest")?.1.to_owned())
}

async fn events_of(cloud: &Cloud, is_it: impl Fn(&Value) -> bool, n: usize) -> Result<Vec<Value>> {
    cloud
        .wait_for("events", || async {
            let found: Vec<Value> = cloud.events.published().into_iter().filter(&is_it).collect();
            Ok(if found.len() >= n { Ok(found) } else { Err(format!("{found:?}")) })
        })
        .await
}

#[test]
fn ecs_goes_back_when_it_is_told_to_stop_a_rollout() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-stopped", Behaviour::Healthy).await?;
        let good = ship.deployment().await?;
        ship.wait_for(&good, "COMPLETED").await?;
        let over = ship.service_deployments(&json!({})).await?[0]["serviceDeploymentArn"].clone();
        let bad = ship.refit("1.1.0", Behaviour::Stuck).await?;
        let rollout = cloud.service("smoke", "smoke-stopped").await?["currentServiceDeployment"].clone();
        let stop = |arn: &Value, how: &str| {
            let input = json!({ "serviceDeploymentArn": arn, "stopType": how });
            async move { cloud.aws.ecs("StopServiceDeployment", &input).await }
        };
        assert_eq!(code(stop(&rollout, "ABORT").await)?, "InvalidParameterException");
        assert_eq!(code(stop(&over, "ROLLBACK").await)?, "ConflictException");
        let gone = json!(format!("{}gone", rollout.as_str().context("no ARN")?));
        assert_eq!(code(stop(&gone, "ROLLBACK").await)?, "ServiceDeploymentNotFoundException");

        assert_eq!(stop(&rollout, "ROLLBACK").await?["serviceDeploymentArn"], rollout);
        assert_eq!(primary(&cloud.service("smoke", "smoke-stopped").await?)["id"], json!(good));
        ship.wait_for(&bad, "FAILED").await?;
        cloud.wait_until_steady("smoke", "smoke-stopped").await?;
        let is_told = |event: &Value| event["detail"]["deploymentId"] == json!(good);
        let told = events_of(cloud, is_told, 4).await?;
        let told: Vec<_> = told.iter().filter_map(|event| event["detail"]["eventName"].as_str()).collect();
        let [begun, done] = ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_COMPLETED"];
        assert_eq!(told, [begun, done, begun, done], "the old deployment is taken up again under its id");
        ship.wait_for_statuses(&["ROLLBACK_SUCCESSFUL", "SUCCESSFUL"]).await?;
        let input = json!({ "serviceDeploymentArns": [rollout] });
        let described = cloud.aws.ecs("DescribeServiceDeployments", &input).await?["serviceDeployments"][0].clone();
        assert_eq!(described["deploymentCircuitBreaker"]["status"], "MONITORING_COMPLETE", "{described}");
        assert_ne!(described["rollback"]["reason"], "");
        assert_eq!(code(stop(&rollout, "ROLLBACK").await)?, "ConflictException");
        Ok(())
    })
}

#[test]
fn a_service_revision_tells_which_image_its_tag_stood_for() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::launch(cloud, "smoke-revision", Behaviour::Healthy).await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "COMPLETED").await?;
        let revision = ship.service_deployments(&json!({})).await?[0]["targetServiceRevisionArn"].clone();
        let input = json!({ "serviceRevisionArns": [revision, format!("{}0", revision.as_str().context("no ARN")?)] });
        let described = cloud.aws.ecs("DescribeServiceRevisions", &input).await?;
        assert_eq!(described["failures"].as_array().map(Vec::len), Some(1), "{described}");
        let images = &described["serviceRevisions"][0]["containerImages"];
        let digests: Vec<_> = [0, 1].iter().filter_map(|at| images[at]["imageDigest"].as_str()).collect();
        // The sidecar's is named by a tag.
        assert_eq!(images[0]["containerName"], "sidecar", "{images}");
        assert!(digests.len() == 2 && digests.iter().all(|digest| digest.starts_with("sha256:")), "{images}");
        assert_eq!(digests[1], digest_of(&ship, "smoke-revision").await?);
        Ok(())
    })
}

#[test]
fn a_task_that_fails_its_health_check_is_replaced_and_told() -> Result<()> {
    scenario(|cloud| async move {
        let ship = Ship::checked(cloud, "smoke-health").await?;
        let deployment = ship.deployment().await?;
        ship.wait_for(&deployment, "COMPLETED").await?;
        cloud.turn_bad(&digest_of(&ship, "smoke-health").await?);
        let is_told = |event: &Value| {
            event["detail-type"] == "ECS Task State Change" && event["detail"]["startedBy"] == json!(deployment)
        };
        let told = events_of(cloud, is_told, 2).await?;
        for event in &told {
            let task = &event["detail"];
            assert_eq!((&task["lastStatus"], &task["group"]), (&json!("STOPPED"), &json!("service:smoke-health")));
            assert_eq!(task["stopCode"], "ServiceSchedulerInitiated");
            assert_eq!(task["stoppedReason"], "Task failed container health checks");
            assert!(task["stoppedAt"].is_string() && task.get("healthStatus").is_none(), "{task}");
        }
        let stopped = ship.stopped(&deployment).await?;
        let task = stopped.iter().find(|task| task["taskArn"] == told[0]["detail"]["taskArn"]).context("no task")?;
        let app = task["containers"][1].clone();
        assert_eq!((&app["name"], &app["healthStatus"]), (&json!("app"), &json!("UNHEALTHY")), "{task}");
        let primary = primary(&cloud.service("smoke", "smoke-health").await?);
        assert_eq!((&primary["id"], &primary["rolloutState"]), (&json!(deployment), &json!("COMPLETED")));
        // It would go on like this.
        let input = json!({ "cluster": "smoke", "service": "smoke-health", "desiredCount": 0 });
        cloud.aws.ecs("UpdateService", &input).await?;
        Ok(())
    })
}

#[test]
fn an_alarm_that_changes_its_state_says_so_once_with_its_time() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_alarm("smoke-goes-off").await?;
        cloud.set_alarm("smoke-goes-off", "ALARM").await?;
        cloud.set_alarm("smoke-goes-off", "ALARM").await?;
        let is_told = |event: &Value| event["detail"]["alarmName"] == "smoke-goes-off";
        events_of(cloud, is_told, 2).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let told = events_of(cloud, is_told, 2).await?;
        let states: Vec<_> = told.iter().filter_map(|event| event["detail"]["state"]["value"].as_str()).collect();
        assert_eq!(states, ["OK", "ALARM"]);
        let last = &told[1];
        assert_eq!(
            (&last["source"], &last["detail"]["previousState"]["value"]),
            (&json!("aws.cloudwatch"), &json!("OK"))
        );
        let at = last["detail"]["state"]["timestamp"].as_str().unwrap_or_default();
        assert!(at.ends_with("+0000") && at.contains('.'), "{at}");
        let input = json!({ "AlarmNames": ["smoke-goes-off"] });
        let described = cloud.aws.cloudwatch("DescribeAlarms", &input).await?["MetricAlarms"][0].clone();
        assert!(described["StateTransitionedTimestamp"].is_f64(), "not cut to seconds: {described}");
        Ok(())
    })
}
