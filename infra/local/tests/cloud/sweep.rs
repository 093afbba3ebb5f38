//! The sweep: what events have missed, and what others have deployed.

use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use local::registry::Behaviour;
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower, without_telling};
use crate::{Shared, scenario_in, start};

/// It would find the services of other tests, and they would find it.
pub(crate) static SWEPT: Shared = LazyLock::new(start);

#[test]
fn a_push_whose_event_was_lost_is_found() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let driftwood = Follower::steady(cloud, "driftwood").await?;
        let digest = driftwood.push_unheard("1.0.0").await?;
        cloud.sweep().await?;
        let record = driftwood.wait_until_live(&digest).await?;
        assert_eq!((&record["origin"], &record["tag"]), (&json!("sweep"), &json!("develop")));
        assert!(driftwood.push_event(&digest).is_err(), "the event was not lost");
        cloud.wait_until_steady(CLUSTER, "driftwood").await?;
        assert_eq!(driftwood.runs_image().await?, driftwood.pinned(&digest));
        let message = cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?;
        assert!(message.rendered().contains("driftwood"), "{}", message.rendered());
        Ok(())
    })
}

#[test]
fn a_service_that_was_created_after_the_push_is_found() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let dinghy = Follower::registered(cloud, "dinghy", json!({})).await?;
        let digest = dinghy.push("1.0.0", Behaviour::Healthy).await?;
        dinghy.wait_for_skipped_push(&digest).await?;
        dinghy.create_service("dinghy", json!({})).await?;
        cloud.sweep().await?;
        assert_eq!(dinghy.wait_until_live(&digest).await?["origin"], "sweep");
        Ok(())
    })
}

#[test]
fn a_held_service_is_found_and_its_reason_recorded_once() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let tags = [("follow", "tag:develop"), ("hold", "low water")];
        let barge = Follower::tagged(cloud, "barge", &tags).await?;
        let digest = barge.push_unheard("1.0.0").await?;
        cloud.sweep().await?;
        cloud.sweep().await?;
        let skipped = barge.skipped().await?;
        let of_digest: Vec<&Value> = skipped.iter().filter(|record| record["digest"] == digest).collect();
        assert_eq!(of_digest.len(), 1, "{skipped:#?}");
        assert_eq!(of_digest[0]["reason"], "the service is held: low water; remove its tag tidegate:hold to go on");
        assert_eq!((barge.revisions().await?, barge.deployments().await?), (1, 1));
        Ok(())
    })
}

#[test]
fn a_deployment_by_somebody_else_is_recorded_with_the_names_of_what_it_changed() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let tug = Follower::steady(cloud, "tug").await?;
        let digest = tug.push("1.0.0", Behaviour::Healthy).await?;
        tug.wait_until_live(&digest).await?;
        cloud.wait_until_steady(CLUSTER, "tug").await?;

        // Somebody registers a revision of their own, and updates the service.
        let ours = cloud.task_definition(&tug.runs().await?).await?;
        let mut containers = ours["taskDefinition"]["containerDefinitions"].clone();
        containers[0]["environment"] = json!([{ "name": "ANCHOR_KEY", "value": "hush-1234" }]);
        containers[1]["memory"] = json!(192);
        let theirs = cloud.register(&json!({ "family": "tug", "containerDefinitions": containers })).await?;
        let update = json!({ "cluster": CLUSTER, "service": "tug", "taskDefinition": theirs });
        cloud.aws.ecs("UpdateService", &update).await?;
        cloud.wait_until_steady(CLUSTER, "tug").await?;
        cloud.sweep().await?;

        let found = tug.history().await?.pop().context("no record")?;
        assert_eq!(found["origin"], "external", "{found:#}");
        assert_eq!(
            (&found["revision_from"], &found["revision_to"]),
            (&ours["taskDefinition"]["taskDefinitionArn"], &json!(theirs))
        );
        let changed =
            ["containerDefinitions[app].environment[ANCHOR_KEY] (added)", "containerDefinitions[sidecar].memory"];
        assert_eq!(found["changed_by_others"], json!(changed));
        tug.wait_until(&digest, "succeeded").await?;

        // The next push keeps it, and says so.
        let next = tug.push("1.0.1", Behaviour::Healthy).await?;
        let record = tug.wait_until_live(&next).await?;
        assert_eq!(record["changed_by_others"], json!(changed));
        cloud.wait_until_steady(CLUSTER, "tug").await?;
        let kept = cloud.task_definition(&tug.runs().await?).await?;
        assert_eq!(kept["taskDefinition"]["containerDefinitions"][0]["environment"], containers[0]["environment"]);
        let message = cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?.rendered();
        assert!(message.contains("environment[ANCHOR_KEY] (added)"), "{message}");
        let written = format!("{:?}{message}", cloud.items(CLUSTER, "tug").await?);
        assert!(!written.contains("hush-1234"), "{written}");
        Ok(())
    })
}

#[test]
fn a_sweep_that_finds_nothing_writes_nothing() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let raft = Follower::steady(cloud, "raft").await?;
        let digest = raft.push("1.0.0", Behaviour::Healthy).await?;
        let record = raft.wait_until_live(&digest).await?;
        cloud.wait_for_message(record["id"].as_str().context("no id")?, "live").await?;
        cloud.wait_until_steady(CLUSTER, "raft").await?;
        let seen = || async {
            anyhow::Ok(cloud.items(CLUSTER, "raft").await?.iter().map(without_telling).collect::<Vec<_>>())
        };
        let before = seen().await?;
        let answer = cloud.sweep().await?;
        let decisions = answer["decisions"].as_array().context("no decisions")?;
        assert!(decisions.iter().all(|decision| decision["service"] != "staging/raft"), "{answer:#}");
        let summary = decisions.last().and_then(|decision| decision["reason"].as_str()).unwrap_or_default();
        assert!(summary.starts_with("the sweep has looked at all"), "{answer:#}");
        assert_eq!(seen().await?, before);
        Ok(())
    })
}
