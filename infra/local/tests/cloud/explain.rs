//! Asking what would be done, and that it is done then.

use anyhow::Result;
use local::cloud::Cloud;
use local::explain::rendered;
use local::registry::{Behaviour, short};
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

/// A service that is behind what it follows: its image was pushed before it was there. Returns the event of the push.
async fn behind(cloud: &'static Cloud, name: &'static str, service: Value) -> Result<(Follower, String, Value)> {
    let follower = Follower::registered(cloud, name, json!({})).await?;
    let digest = follower.push("1.0.0", Behaviour::Healthy).await?;
    follower.wait_for_skipped_push(&digest).await?;
    follower.create_service(name, service).await?;
    let event = follower.push_event(&digest)?;
    Ok((follower, digest, event))
}

/// The one decision of an answer, as far as it does not tell what was done.
fn decided(answer: &Value) -> Vec<Value> {
    let names = ["service", "action", "reason", "repository", "tag", "digest", "notes"];
    assert_eq!(answer["decisions"].as_array().map(Vec::len), Some(1), "{answer}");
    names.map(|name| answer["decisions"][0][name].clone()).to_vec()
}

#[test]
fn what_is_explained_is_what_then_happens() -> Result<()> {
    scenario(|cloud| async move {
        let (beacon, digest, event) = behind(cloud, "beacon", json!({})).await?;
        let before = cloud.items(CLUSTER, "beacon").await?;
        let explained = cloud.explain("deploy", &event).await?;
        assert_eq!(cloud.items(CLUSTER, "beacon").await?, before);
        assert_eq!((beacon.revisions().await?, beacon.deployments().await?), (1, 1));
        let decision = &explained["decisions"][0];
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("deploy"), &json!("deploy")), "{decision}");
        assert_eq!(decision["changes"], json!(["containerDefinitions[app].image"]));
        let told = rendered(&explained)?;
        let expected = format!("staging/beacon: deploy, because tag:develop points to {} now", short(&digest));
        assert!(told.starts_with(&expected), "{told}");

        let done = cloud.invoke("deploy", &event).await?;
        assert_eq!(decided(&done), decided(&explained));
        beacon.wait_until_live(&digest).await?;
        assert_eq!(beacon.decisions(&digest).await?.len(), 1, "what was explained is no decision in the log");
        Ok(())
    })
}

#[test]
fn a_decision_not_to_deploy_is_explained_and_not_recorded() -> Result<()> {
    scenario(|cloud| async move {
        let tags = json!({ "tags": [
            { "key": "tidegate:follow/tides/gull", "value": "tag:develop" },
            { "key": "tidegate:hold", "value": "nesting" },
        ] });
        let (gull, _, event) = behind(cloud, "gull", tags).await?;
        let before = cloud.items(CLUSTER, "gull").await?;
        let explained = cloud.explain("deploy", &event).await?;
        assert_eq!(explained["decisions"][0]["rule"], "held", "{explained}");
        assert_eq!(cloud.items(CLUSTER, "gull").await?, before);

        let done = cloud.invoke("deploy", &event).await?;
        assert_eq!(decided(&done), decided(&explained));
        assert_eq!(gull.skipped().await?.len(), 1);
        Ok(())
    })
}

#[test]
fn an_event_that_cannot_be_read_is_explained_and_not_rejected() -> Result<()> {
    scenario(|cloud| async move {
        let event = json!({ "id": "explained-malformed", "source": "aws.ecr", "detail-type": "ECR Image Action" });
        let explained = cloud.explain("deploy", &event).await?;
        assert_eq!(explained["decisions"][0]["action"], "reject", "{explained}");
        let rejects = cloud.rejects().await?;
        assert!(rejects.iter().all(|reject| !reject.to_string().contains("explained-malformed")), "{rejects:?}");
        Ok(())
    })
}
