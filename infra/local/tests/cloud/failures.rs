//! Images that do not run.

use anyhow::{Context as _, Result};
use local::cloud::primary;
use local::registry::Behaviour;
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower, without_telling};
use crate::scenario;

#[test]
fn a_crashing_image_fails_and_its_replay_is_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let breakwater = Follower::steady(cloud, "breakwater").await?;
        let digest = breakwater.push("1.0.0", Behaviour::Healthy).await?;
        let good = breakwater.wait_until_live(&digest).await?;
        cloud.wait_until_steady(CLUSTER, "breakwater").await?;

        let bad = breakwater.push("1.1.0", Behaviour::Crash).await?;
        let failed = breakwater.wait_until(&bad, "failed").await?;
        assert_ne!(failed["reason"].as_str().unwrap_or_default(), "");
        let told = cloud.wait_for_message(failed["id"].as_str().context("no id")?, "failed").await?;
        assert!(told.rendered().contains("breakwater"), "{}", told.rendered());

        // ECS went back by itself, under the good deployment's id.
        let after = cloud.wait_until_steady(CLUSTER, "breakwater").await?;
        assert_eq!(primary(&after)["id"], good["ecs_deployment_id"]);
        assert_eq!(breakwater.runs().await?, good["revision_to"]);
        let before = (breakwater.revisions().await?, breakwater.deployments().await?);
        assert_eq!(breakwater.skipped().await?, Vec::<Value>::new());

        cloud.deliver("deploy", &breakwater.push_event(&bad)?).await?;
        let decision = breakwater.wait_for_decision(&bad, 2).await?;
        assert_eq!(decision["action"], "skip", "{decision}");
        assert_eq!(decision["rule"], "quarantine", "{decision}");
        assert_eq!((breakwater.revisions().await?, breakwater.deployments().await?), before);
        assert_eq!(breakwater.skipped().await?[0]["reason"], decision["reason"]);

        // The old deployment completed a second time; its record and its message did not move.
        let history = breakwater.own_deployments().await?;
        let states: Vec<_> = history.iter().map(|record| record["state"].as_str()).collect();
        assert_eq!(states, [Some("succeeded"), Some("failed")]);
        assert_eq!(without_telling(&history[0]), without_telling(&good));
        Ok(())
    })
}

#[test]
fn an_image_that_cannot_be_pulled_fails() -> Result<()> {
    scenario(|cloud| async move {
        let shoal = Follower::steady(cloud, "shoal").await?;
        let first = shoal.runs().await?;
        let bad = shoal.push("1.0.0", Behaviour::NeverPulls).await?;
        let failed = shoal.wait_until(&bad, "failed").await?;
        cloud.wait_until_steady(CLUSTER, "shoal").await?;
        assert_eq!(shoal.runs().await?, first);
        cloud.wait_for_message(failed["id"].as_str().context("no id")?, "failed").await?;
        Ok(())
    })
}

#[test]
fn a_new_image_after_a_bad_one_is_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let sandbar = Follower::steady(cloud, "sandbar").await?;
        let bad = sandbar.push("1.0.0", Behaviour::Crash).await?;
        sandbar.wait_until(&bad, "failed").await?;
        let fixed = sandbar.push("1.0.1", Behaviour::Healthy).await?;
        sandbar.wait_until_live(&fixed).await?;
        cloud.wait_until_steady(CLUSTER, "sandbar").await?;
        assert_eq!(sandbar.runs_image().await?, json!(sandbar.pinned(&fixed)));
        Ok(())
    })
}
