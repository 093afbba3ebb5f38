//! The sweep of `notify`: outcomes that no event has told, and people who could not be told.

use anyhow::{Context as _, Result};
use local::cloud::Cloud;
use local::fault::Fault;
use local::registry::Behaviour;
use local::told::{Told, each};
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower};
use crate::scenario_in;
use crate::sweep::SWEPT;

#[test]
fn an_outcome_whose_event_was_lost_is_found() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let skiff = Follower::steady(cloud, "skiff").await?;
        let digest = skiff.push("1.0.0", Behaviour::Slow).await?;
        let rolling = skiff.wait_until(&digest, "rolling").await?;
        let deployment = rolling["ecs_deployment_id"].as_str().context("no id")?;
        cloud.events.lose(deployment);
        cloud.wait_until_steady(CLUSTER, "skiff").await?;
        cloud.look().await?;
        let told = Told::of(cloud, &skiff.wait_until_live(&digest).await?).await?;
        assert!(told.slack.rendered().starts_with("✅ skiff in staging: live after "), "{}", told.slack.rendered());
        assert_eq!(each(&told.documents, "/state").last().map(String::as_str), Some("succeeded"));
        let names = cloud.events.published();
        let names = names.iter().filter(|event| event["detail"]["deploymentId"] == deployment);
        let names: Vec<_> = names.filter_map(|event| event["detail"]["eventName"].as_str()).collect();
        assert!(!names.contains(&"SERVICE_DEPLOYMENT_COMPLETED"), "the event was not lost: {names:?}");
        Ok(())
    })
}

#[test]
fn how_far_a_rollout_is_stands_in_its_message() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        // Three tasks of a slow image, which are replaced one after the other.
        let convoy = Follower::steady_with(cloud, "convoy", json!({}), json!({ "desiredCount": 3 })).await?;
        let digest = convoy.push("1.0.0", Behaviour::Slow).await?;
        let record = convoy.wait_until(&digest, "rolling").await?;
        let id = record["id"].as_str().context("no id")?;
        let is_halfway = |version: &Value| {
            let version = version.to_string();
            ["1 of 3 tasks running", "2 of 3 tasks running"].iter().any(|part| version.contains(part))
        };
        cloud
            .wait_for("the message to tell how far it is", || async {
                cloud.look().await?;
                let messages = cloud.slack.messages_about(id);
                let is_told = messages.iter().flat_map(|message| &message.versions).any(is_halfway);
                Ok(if is_told { Ok(()) } else { Err(format!("{messages:?}")) })
            })
            .await?;
        let told = Told::of(cloud, &convoy.wait_until_live(&digest).await?).await?;
        assert!(told.slack.rendered().contains("live after "), "{}", told.slack.rendered());
        assert_eq!(each(&told.documents, "/state"), ["rolling", "succeeded"], "progress is for Slack alone");
        Ok(())
    })
}

#[test]
fn a_decision_not_to_deploy_is_told() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let tags = [("follow", "tag:develop"), ("hold", "spring tide, ask Ana")];
        let punt = Follower::tagged(cloud, "punt", &tags).await?;
        let digest = punt.push("1.0.0", Behaviour::Healthy).await?;
        punt.wait_for_decision(&digest, 1).await?;
        cloud.look().await?;
        let skipped = punt.skipped().await?;
        let told = Told::of(cloud, skipped.first().context("no record")?).await?;
        let seen = told.slack.rendered();
        assert!(seen.starts_with("🚫 punt in staging: not deployed"), "{seen}");
        assert!(
            seen.contains("the service is held: spring tide, ask Ana; remove its tag tidegate:hold to go on"),
            "{seen}"
        );
        assert_eq!(each(&told.documents, "/state"), ["skipped"]);
        assert_eq!(each(&told.webhook, "/type"), ["deployment.skipped"]);
        assert_eq!(each(&told.chat, "/metadata/eventType"), ["deployment.skipped"]);
        assert_eq!((told.events.len(), told.newrelic.len(), told.metrics.len()), (0, 0, 0), "nothing has run");
        Ok(())
    })
}

/// Lets the pause after a refusal pass, which is a minute at least.
async fn after_the_pause(cloud: &Cloud, record: &Value) -> Result<()> {
    let input = json!({
        "TableName": cloud.stack.output("TableName")?,
        "Key": { "pk": { "S": record["pk"] }, "sk": { "S": record["sk"] } },
        "UpdateExpression": "SET tell_after = :past",
        "ExpressionAttributeValues": { ":past": { "N": "1" } },
    });
    cloud.aws.dynamodb("UpdateItem", &input).await?;
    Ok(())
}

#[test]
fn who_refuses_is_told_later_and_all_others_at_once() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let cutter = Follower::steady(cloud, "cutter").await?;
        let image = cutter.image("1.0.0", Behaviour::Healthy)?;
        let digest = image.digest();
        // The digest is in the requests of all three, in full or in part.
        let part = local::registry::short(&digest).to_owned();
        cloud.slack.fail(&part, Fault::Refused("not_in_channel"), 1000);
        cloud.newrelic.fail("name = 'cutter'", Fault::Refused("the entity is gone"), 1000);
        cloud.webhook.fail(&part, Fault::Refused("closed today"), 1000);
        cloud.push(&cutter.repository, "develop", &image).await?;

        let record = cutter.wait_until_live(&digest).await?;
        let id = record["id"].as_str().context("no id")?;
        let is_tried = |record: &Value| record["tell_after"].is_u64() && record["cdevents_told"] == record["version"];
        let refused = cloud
            .wait_for("those who listen to be told, and the rest to be put off", || async {
                let record = cutter.wait_until_live(&digest).await?;
                Ok(if is_tried(&record) { Ok(record) } else { Err(record.to_string()) })
            })
            .await?;
        for sink in ["sns", "amazon_q", "cdevents", "metrics"] {
            assert_eq!(refused[format!("{sink}_told")], refused["version"], "{sink}: {refused:#}");
        }
        for sink in ["slack", "newrelic", "webhook"] {
            assert_ne!(refused[format!("{sink}_told")], refused["version"], "{sink}: {refused:#}");
        }
        assert_eq!(cloud.slack.messages_about(id).len(), 0);
        assert_eq!(cloud.newrelic.accepted_about(id).len() + cloud.webhook.accepted_about(id).len(), 0);
        cloud.wait_until_steady(CLUSTER, "cutter").await?;
        assert_eq!(cutter.runs_image().await?, cutter.pinned(&digest), "the deployment went on");

        cloud.slack.mend(&part);
        cloud.newrelic.mend("name = 'cutter'");
        cloud.webhook.mend(&part);
        after_the_pause(cloud, &refused).await?;
        cloud.look().await?;
        let told = Told::of(cloud, &record).await?;
        assert!(told.slack.rendered().starts_with("✅ cutter in staging: live"), "{}", told.slack.rendered());
        assert_eq!(told.slack.versions.len(), 1, "the newest state, and nothing else");
        assert_eq!(each(&told.webhook, "/type"), ["deployment.succeeded"]);
        assert_eq!(told.newrelic.len(), 1, "{:?}", told.newrelic);
        assert_eq!(each(&told.documents, "/state"), ["rolling", "succeeded"], "who has heard it hears no more");
        assert_eq!((told.chat.len(), told.events.len(), told.metrics.len()), (2, 2, 1));
        for (sink, cause) in [(&cloud.newrelic, "the entity is gone"), (&cloud.webhook, "closed today")] {
            assert!(sink.requests_about(id).iter().any(|request| request.error.contains(cause)), "{cause}");
        }
        // Another test's sweep may have found the end before its event came, and a sweep rejects nothing.
        let rejects = cloud.rejects().await?;
        let causes: Vec<String> = rejects.iter().map(Value::to_string).filter(|it| it.contains("cutter")).collect();
        assert!(causes.iter().any(|cause| cause.contains("not_in_channel")), "{causes:#?}");
        Ok(())
    })
}
