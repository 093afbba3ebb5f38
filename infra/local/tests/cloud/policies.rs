//! What the tags of a service ask for: which images it follows, holds, and only telling.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::registry::Behaviour;
use serde_json::json;

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

#[test]
fn a_service_that_follows_a_range_of_versions_never_goes_down() -> Result<()> {
    scenario(|cloud| async move {
        let pilot = Follower::tagged(cloud, "pilot", &[("follow", "semver:1.x")]).await?;
        let lower = pilot.push_as("1.4.0").await?;
        pilot.wait_until_live(&lower).await?;
        let highest = pilot.push_as("1.5.0").await?;
        pilot.wait_until_live(&highest).await?;

        pilot.push_as("1.4.1").await?;
        let decision = pilot.wait_for_decision(&highest, 2).await?;
        assert_eq!((&decision["tag"], &decision["rule"]), (&json!("1.5.0"), &json!("already-runs")), "{decision}");
        let other = pilot.push_as("2.0.0").await?;
        let decision = pilot.wait_for_decision(&other, 1).await?;
        assert_eq!(decision["reason"], "the service follows semver:1.x", "{decision}");
        cloud.wait_until_steady(CLUSTER, "pilot").await?;
        assert_eq!(pilot.runs_image().await?, pilot.pinned(&highest));
        assert_eq!(pilot.deployments().await?, 3);
        Ok(())
    })
}

#[test]
fn a_service_that_follows_a_prefix_takes_the_newest_image_that_has_it() -> Result<()> {
    scenario(|cloud| async move {
        let cove = Follower::tagged(cloud, "cove", &[("follow", "prefix:main-")]).await?;
        let first = cove.push_as("main-9").await?;
        let record = cove.wait_until_live(&first).await?;
        assert_eq!((&record["tag"], &record["origin"]), (&json!("main-9"), &json!("push")));
        let other = cove.push_as("pr-7").await?;
        let decision = cove.wait_for_decision(&other, 1).await?;
        assert_eq!(decision["rule"], "not-selected", "{decision}");
        // ECR tells when an image was pushed to the second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = cove.push_as("main-10").await?;
        cove.wait_until_live(&second).await?;
        cloud.wait_until_steady(CLUSTER, "cove").await?;
        assert_eq!(cove.runs_image().await?, cove.pinned(&second));
        Ok(())
    })
}

#[test]
fn pushes_during_a_hold_become_one_deployment_when_it_goes() -> Result<()> {
    scenario(|cloud| async move {
        let tags = [("follow", "tag:develop"), ("hold", "the harbour festival, ask Ana")];
        let sluice = Follower::tagged(cloud, "sluice", &tags).await?;
        let mut newest = String::new();
        for version in ["1.0.0", "1.0.1"] {
            newest = sluice.push(version, Behaviour::Healthy).await?;
            let decision = sluice.wait_for_decision(&newest, 1).await?;
            assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("held")), "{decision}");
            let reason = decision["reason"].as_str().unwrap_or_default();
            assert!(reason.contains("the harbour festival, ask Ana"), "{reason}");
        }
        assert_eq!(sluice.skipped().await?.len(), 2);
        assert_eq!((sluice.revisions().await?, sluice.deployments().await?), (1, 1));

        cloud.untag(CLUSTER, "sluice", "tidegate:hold").await?;
        let record = sluice.wait_until_live(&newest).await?;
        assert_eq!(record["origin"], "tags");
        cloud.wait_until_steady(CLUSTER, "sluice").await?;
        assert_eq!(sluice.runs_image().await?, sluice.pinned(&newest));
        assert_eq!((sluice.revisions().await?, sluice.deployments().await?), (2, 2));
        let message = cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?;
        assert!(message.rendered().contains("sluice"), "{}", message.rendered());
        Ok(())
    })
}

#[test]
fn a_service_in_mode_notify_is_told_of_and_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let tags = [("follow", "tag:develop"), ("mode", "notify")];
        let lightship = Follower::tagged(cloud, "lightship", &tags).await?;
        let digest = lightship.push("1.0.0", Behaviour::Healthy).await?;
        let decision = lightship.wait_for_decision(&digest, 1).await?;
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("notify-mode")), "{decision}");
        let skipped = lightship.skipped().await?;
        assert_eq!((skipped.len(), &skipped[0]["digest"]), (1, &json!(digest)));
        assert_eq!((lightship.revisions().await?, lightship.deployments().await?), (1, 1));

        cloud.tag(CLUSTER, "lightship", &[("tidegate:mode", "auto")]).await?;
        lightship.wait_until_live(&digest).await?;
        Ok(())
    })
}

#[test]
fn a_tag_that_cannot_be_read_stops_the_deployment_and_is_named() -> Result<()> {
    scenario(|cloud| async move {
        let tags = [("follow", "tag:develop"), ("holld", "the pilot is ill")];
        let shallows = Follower::tagged(cloud, "shallows", &tags).await?;
        let digest = shallows.push("1.0.0", Behaviour::Healthy).await?;
        let decision = shallows.wait_for_decision(&digest, 1).await?;
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("tags")), "{decision}");
        let reason = decision["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("tidegate:holld"), "{reason}");
        assert_eq!(shallows.skipped().await?[0]["reason"], decision["reason"]);
        assert_eq!((shallows.revisions().await?, shallows.deployments().await?), (1, 1));
        Ok(())
    })
}
