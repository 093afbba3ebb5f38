//! What is found wrong before ECS is asked for a deployment, and the deployment once it is mended.

use anyhow::{Context as _, Result};
use local::cloud::Cloud;
use local::registry::{self, Behaviour, Image};
use oci_spec::image::Arch;
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

/// Pushes an image and returns its digest, once it was refused by `rule`: in the log, in a record, and nowhere else.
async fn refused(follower: &Follower, rule: &str, reason: &str) -> Result<String> {
    let digest = follower.push("1.0.0", Behaviour::Healthy).await?;
    refused_digest(follower, &digest, rule, reason).await?;
    Ok(digest)
}

async fn refused_digest(follower: &Follower, digest: &str, rule: &str, reason: &str) -> Result<()> {
    let decision = follower.wait_for_decision(digest, 1).await?;
    assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!(rule)), "{decision}");
    assert_eq!(decision["reason"], reason);
    let skipped = follower.skipped().await?;
    let told: Vec<_> = skipped.iter().map(|record| (record["digest"].as_str(), record["reason"].as_str())).collect();
    assert_eq!(told, [(Some(digest), Some(reason))]);
    assert_eq!(follower.own_deployments().await?, Vec::<Value>::new());
    assert_eq!((follower.revisions().await?, follower.deployments().await?), (1, 1));
    Ok(())
}

/// Delivers the push of this digest again, which is deployed now.
async fn deployed_at_last(follower: &Follower, digest: &str) -> Result<()> {
    follower.cloud.deliver("deploy", &follower.push_event(digest)?).await?;
    follower.wait_until_live(digest).await?;
    assert_eq!((follower.revisions().await?, follower.deployments().await?), (2, 2));
    Ok(())
}

/// A service whose tasks need this secret.
async fn with_secret(cloud: &'static Cloud, name: &'static str, secret: &str) -> Result<Follower> {
    let container = json!({
        "name": "app", "image": format!("{}/tides/{name}:first", registry::host()), "memory": 64,
        "secrets": [{ "name": "TOKEN", "valueFrom": secret }],
    });
    Follower::steady_with(cloud, name, json!({ "containerDefinitions": [container] }), json!({})).await
}

#[test]
fn an_image_without_the_platform_that_the_tasks_need_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let platform = json!({ "operatingSystemFamily": "LINUX", "cpuArchitecture": "ARM64" });
        let kelp = Follower::steady_with(cloud, "kelp", json!({ "runtimePlatform": platform }), json!({})).await?;
        let build = |architectures: &[Arch]| {
            Image::build_for(architectures, "https://example.com/kelp", "1.0.0", "8f4e2d1", Behaviour::Healthy)
        };
        let digest = cloud.push(&kelp.repository, "develop", &build(&[Arch::Amd64])?).await?;
        let reason = "the task definition asks for linux/arm64, and the image has linux/amd64; build it for \
                      linux/arm64 too";
        refused_digest(&kelp, &digest, "platform", reason).await?;

        let digest = cloud.push(&kelp.repository, "develop", &build(&[Arch::Amd64, Arch::ARM64])?).await?;
        kelp.wait_until_live(&digest).await?;
        Ok(())
    })
}

#[test]
fn a_service_whose_role_was_deleted_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let role = cloud.create_task_role("groyne-execution").await?;
        let definition = json!({ "executionRoleArn": role });
        let groyne = Follower::steady_with(cloud, "groyne", definition, json!({})).await?;
        cloud.aws.iam("DeleteRole", &[("RoleName", "groyne-execution")]).await?;
        let reason =
            "tasks could not start: the role groyne-execution does not exist; mend that, or the task definition";
        let digest = refused(&groyne, "dependencies", reason).await?;

        cloud.create_task_role("groyne-execution").await?;
        deployed_at_last(&groyne, &digest).await
    })
}

#[test]
fn a_service_whose_secret_was_deleted_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let secret = json!({ "Name": "oyster/token", "SecretString": "{\"key\":\"hush\"}" });
        let created = cloud.aws.secrets("CreateSecret", &secret).await?;
        let arn = created["ARN"].as_str().context("a secret without ARN")?;
        let oyster = with_secret(cloud, "oyster", &format!("{arn}:key::")).await?;
        cloud.aws.secrets("DeleteSecret", &json!({ "SecretId": arn })).await?;
        let (_, name) = arn.rsplit_once(':').context("an ARN without a name")?;
        let reason = format!(
            "tasks could not start: the secret {name} is scheduled for deletion; mend that, or the task definition"
        );
        let digest = refused(&oyster, "dependencies", &reason).await?;

        cloud.aws.secrets("RestoreSecret", &json!({ "SecretId": arn })).await?;
        deployed_at_last(&oyster, &digest).await
    })
}

#[test]
fn a_service_whose_parameter_was_deleted_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let parameter = json!({ "Name": "/mussel/token", "Type": "SecureString", "Value": "hush" });
        cloud.aws.ssm("PutParameter", &parameter).await?;
        let mussel = with_secret(cloud, "mussel", "/mussel/token").await?;
        cloud.aws.ssm("DeleteParameter", &json!({ "Name": "/mussel/token" })).await?;
        let reason = "tasks could not start: the parameter /mussel/token does not exist; mend that, or the task \
                      definition";
        let digest = refused(&mussel, "dependencies", reason).await?;

        cloud.aws.ssm("PutParameter", &parameter).await?;
        deployed_at_last(&mussel, &digest).await
    })
}

#[test]
fn a_service_whose_alarm_is_firing_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let alarm = json!({
            "AlarmName": "siren-5xx", "Namespace": "AWS/ApplicationELB", "MetricName": "HTTPCode_Target_5XX_Count",
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "ignore",
        });
        cloud.aws.cloudwatch("PutMetricAlarm", &alarm).await?;
        let state = |value: &str| json!({ "AlarmName": "siren-5xx", "StateValue": value, "StateReason": "on purpose" });
        cloud.aws.cloudwatch("SetAlarmState", &state("ALARM")).await?;
        let tags = [("follow", "tag:develop"), ("rollback-on/siren-5xx", "yes")];
        let siren = Follower::tagged(cloud, "siren", &tags).await?;
        let reason = "siren-5xx is in ALARM already, so ECS would not heed it during the deployment; it is deployed \
                      once all is OK. To deploy a fix before, take the alarm off the service";
        let digest = refused(&siren, "alarm", reason).await?;

        cloud.aws.cloudwatch("SetAlarmState", &state("OK")).await?;
        deployed_at_last(&siren, &digest).await
    })
}

#[test]
fn a_service_whose_definition_has_no_container_of_the_repository_is_told_so() -> Result<()> {
    scenario(|cloud| async move {
        let stranger = Follower::registered(cloud, "stranger", json!({})).await?;
        let container = json!({ "name": "app", "image": "public.ecr.aws/nginx/nginx:1.27", "memory": 64 });
        cloud.register(&json!({ "family": "stranger", "containerDefinitions": [container] })).await?;
        stranger.start_service("stranger", json!({})).await?;
        let digest = stranger.push("1.0.0", Behaviour::Healthy).await?;
        let decision = stranger.wait_for_decision(&digest, 1).await?;
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("no-container")), "{decision}");
        assert_eq!(cloud.deployments_started(CLUSTER, "stranger").await?.len(), 1);
        let recorded: Vec<_> = stranger.history().await?.iter().map(|record| record["state"].clone()).collect();
        assert_eq!(recorded, ["skipped"], "what it runs is none of the images that it follows");
        Ok(())
    })
}
