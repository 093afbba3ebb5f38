//! Deployments that turn bad, and how the release before comes back.

use anyhow::{Context as _, Result};
use local::cloud::{Cloud, primary};
use local::registry::Behaviour;
use local::told::Told;
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower};
use crate::sweep::SWEPT;
use crate::{scenario, scenario_in};

/// A service with a release that is proven good, from now on watched for ten minutes after each deployment, by an alarm
/// too. Returns the record of the release and the alarm's name.
async fn watched(cloud: &'static Cloud, name: &'static str, service: Value) -> Result<(Follower, Value, String)> {
    let health = json!({ "containerDefinitions": [{
        "name": "app", "image": format!("{}/tides/{name}:first", local::registry::host()), "memory": 256,
        "healthCheck": { "command": ["CMD", "/app", "health"] },
    }] });
    let mut service = service;
    service["tags"] = json!([
        { "key": format!("tidegate:follow/tides/{name}"), "value": "tag:develop" },
        { "key": "tidegate:bake", "value": "0" },
    ]);
    let follower = Follower::steady_with(cloud, name, health, service).await?;
    let good = follower.push("1.0.0", Behaviour::Healthy).await?;
    let record = follower.wait_until_live(&good).await?;
    assert!(record["baked_at"].is_string(), "without a bake time it is proven at once: {record:#}");
    cloud.wait_until_steady(CLUSTER, name).await?;
    let alarm = format!("{name}-5xx");
    cloud.create_alarm(&alarm).await?;
    let key = format!("tidegate:rollback-on/{alarm}");
    cloud.tag(CLUSTER, name, &[(&key, "yes"), ("tidegate:bake", "10")]).await?;
    Ok((follower, record, alarm))
}

impl Follower {
    /// Pushes a release that starts well, and waits until it is live. Returns its record.
    async fn starts_well(&self, version: &str) -> Result<Value> {
        let digest = self.push(version, Behaviour::Healthy).await?;
        let record = self.wait_until_live(&digest).await?;
        assert!(record["bake_until"].is_string() && record.get("baked_at").is_none(), "it is watched: {record:#}");
        self.cloud.wait_until_steady(CLUSTER, self.name).await?;
        Ok(record)
    }

    /// What keeps deployments from it.
    async fn guard(&self) -> Result<Value> {
        let items = self.cloud.items(CLUSTER, self.name).await?;
        Ok(items.into_iter().find(|item| item["sk"] == "GUARD").unwrap_or_default())
    }

    /// Waits until `bad` was taken back and `good` is live again, and checks what is so after each rollback: the record
    /// of both, the quarantine, and that a replay of the bad push changes nothing. Returns both records.
    async fn comes_back(&self, bad: &Value, good: &Value, state: &str) -> Result<(Value, Value)> {
        let [bad_digest, good_digest] = [bad, good].map(|record| record["digest"].as_str().unwrap_or_default());
        let taken_back = self.wait_until(bad_digest, state).await?;
        assert_eq!(taken_back["undone_by"], "tidegate", "{taken_back:#}");
        assert_eq!(taken_back["recovery"]["to"], good["id"], "{taken_back:#}");
        let back = self.wait_until_live(good_digest).await?;
        self.cloud.wait_until_steady(CLUSTER, self.name).await?;
        assert_eq!(self.runs().await?, good["revision_to"], "the very revision is back");
        let guard = self.guard().await?;
        assert_eq!(guard["quarantine"][bad_digest]["record"], taken_back["id"], "{guard:#}");
        assert!(guard["quarantine"].get(good_digest).is_none(), "{guard:#}");

        let before = (self.revisions().await?, self.deployments().await?);
        let decided = self.decisions(bad_digest).await?.len();
        self.cloud.deliver("deploy", &self.push_event(bad_digest)?).await?;
        let decision = self.wait_for_decision(bad_digest, decided + 1).await?;
        assert_eq!((&decision["action"], &decision["rule"]), (&json!("skip"), &json!("quarantine")), "{decision}");
        assert_eq!((self.revisions().await?, self.deployments().await?), before);
        Ok((taken_back, back))
    }
}

fn id(record: &Value) -> Result<&str> {
    record["id"].as_str().context("a record without id")
}

#[test]
fn an_alarm_while_a_release_is_watched_brings_the_one_before_back() -> Result<()> {
    scenario(|cloud| async move {
        let (skua, good, alarm) = watched(cloud, "skua", json!({ "desiredCount": 2 })).await?;
        let bad = skua.starts_well("1.1.0").await?;
        let live = cloud.wait_for_message(id(&bad)?, "live").await?;
        let revisions = skua.revisions().await?;
        // Somebody scales meanwhile.
        let scale = json!({ "cluster": CLUSTER, "service": "skua", "desiredCount": 3 });
        cloud.aws.ecs("UpdateService", &scale).await?;
        cloud.wait_until_steady(CLUSTER, "skua").await?;

        cloud.set_alarm(&alarm, "ALARM").await?;
        let (taken_back, back) = skua.comes_back(&bad, &good, "rolled_back").await?;
        assert!(taken_back["reason"].as_str().unwrap_or_default().contains(&alarm), "{taken_back:#}");
        assert_eq!((&back["origin"], &back["recovers"]), (&json!("rollback"), &bad["id"]), "{back:#}");
        assert_eq!(taken_back["recovery"]["record"], back["id"]);
        assert_eq!(skua.revisions().await?, revisions, "nothing had to be registered");
        assert_eq!(skua.service().await?["desiredCount"], 3, "how many tasks there are stays with whoever says so");
        assert_eq!(skua.deployments().await?, 4, "the first, the good, the bad, and the good again");

        // Its own message tells what became of it, and there is one about the release that came back.
        let told = Told::of(cloud, &taken_back).await?;
        assert!(told.slack.versions.len() > live.versions.len(), "{}", told.slack.thread());
        assert!(told.slack.rendered().contains("back"), "{}", told.slack.rendered());
        let told = Told::of(cloud, &back).await?;
        assert!(told.slack.rendered().contains("skua"), "{}", told.slack.rendered());

        // The alarm's event comes again: what it was about is done.
        let is_it = |event: &Value| {
            event["detail"]["alarmName"] == json!(alarm) && event["detail"]["state"]["value"] == "ALARM"
        };
        let event = cloud.events.published().into_iter().find(is_it).context("no event of the alarm")?;
        cloud.invoke("rollback", &event).await?;
        assert_eq!(skua.deployments().await?, 4);
        Ok(())
    })
}

#[test]
fn tasks_that_fail_while_a_release_is_watched_bring_the_one_before_back() -> Result<()> {
    scenario(|cloud| async move {
        let (cormorant, good, _) = watched(cloud, "cormorant", json!({ "desiredCount": 3 })).await?;
        let bad = cormorant.starts_well("1.1.0").await?;
        cloud.turn_bad(bad["digest"].as_str().context("no digest")?);
        let (taken_back, _) = cormorant.comes_back(&bad, &good, "rolled_back").await?;
        let reason = taken_back["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("tasks have failed") && reason.contains("health check"), "{reason}");
        Ok(())
    })
}

#[test]
fn an_alarm_in_the_middle_of_a_rollout_makes_ecs_go_back() -> Result<()> {
    scenario(|cloud| async move {
        let (dunlin, good, alarm) = watched(cloud, "dunlin", json!({})).await?;
        let digest = dunlin.push("1.1.0", Behaviour::Stuck).await?;
        let bad = dunlin.wait_until(&digest, "rolling").await?;
        let deployments = dunlin.deployments().await?;
        cloud.set_alarm(&alarm, "ALARM").await?;
        let (stopped, _) = dunlin.comes_back(&bad, &good, "failed").await?;
        assert_eq!(stopped["recovery"]["remedy"], "stop", "{stopped:#}");
        assert_eq!(dunlin.deployments().await?, deployments, "ECS takes the old deployment up again");
        assert_eq!(primary(&dunlin.service().await?)["id"], good["ecs_deployment_id"]);
        let told = Told::of(cloud, &stopped).await?;
        assert!(told.slack.rendered().contains(&alarm), "{}", told.slack.thread());
        Ok(())
    })
}

#[test]
fn a_person_takes_a_release_back_and_lets_it_out_again() -> Result<()> {
    scenario(|cloud| async move {
        let (puffin, good, _) = watched(cloud, "puffin", json!({})).await?;
        let bad = puffin.starts_well("1.1.0").await?;
        // The time of an event has no fraction.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let service = json!("staging/puffin");
        let asked = json!({ "service": service, "reason": "customers can't pay", "actor": "ana" });
        cloud.ask("Rollback", &asked).await?;
        let (taken_back, back) = puffin.comes_back(&bad, &good, "rolled_back").await?;
        assert_eq!((&taken_back["recovery"]["actor"], &back["actor"]), (&json!("ana"), &json!("ana")), "{back:#}");
        assert!(taken_back["reason"].as_str().unwrap_or_default().contains("customers can't pay"), "{taken_back:#}");
        let told = Told::of(cloud, &taken_back).await?;
        assert!(told.slack.rendered().contains("ana"), "{}", told.slack.rendered());

        // Asked again, it goes no further back.
        let deployments = puffin.deployments().await?;
        let again = json!({ "source": "tidegate", "detail-type": "Rollback", "detail": asked });
        assert_eq!(cloud.invoke("rollback", &again).await?["decisions"][0]["action"], "skip");
        assert_eq!(puffin.deployments().await?, deployments);

        // It was not the release after all.
        let release = json!({ "service": service, "digest": bad["digest"], "actor": "ana" });
        cloud.ask("Release", &release).await?;
        let released = puffin.wait_until_live(bad["digest"].as_str().context("no digest")?).await?;
        assert_eq!((&released["origin"], &released["actor"]), (&json!("release"), &json!("ana")), "{released:#}");
        assert_ne!(released["id"], bad["id"], "it is a deployment of its own");
        assert_eq!(puffin.guard().await?["quarantine"], json!({}));
        Ok(())
    })
}

#[test]
fn a_new_image_after_a_rollback_is_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let (plover, good, alarm) = watched(cloud, "plover", json!({})).await?;
        let bad = plover.starts_well("1.1.0").await?;
        cloud.set_alarm(&alarm, "ALARM").await?;
        plover.comes_back(&bad, &good, "rolled_back").await?;
        cloud.set_alarm(&alarm, "OK").await?;
        let fixed = plover.starts_well("1.1.1").await?;
        assert_eq!(plover.runs_image().await?, plover.pinned(fixed["digest"].as_str().context("no digest")?));
        Ok(())
    })
}

/// Lets the bake time of a record pass.
async fn baked(cloud: &Cloud, record: &Value) -> Result<()> {
    let input = json!({
        "TableName": cloud.stack.output("TableName")?,
        "Key": { "pk": { "S": record["pk"] }, "sk": { "S": record["sk"] } },
        "UpdateExpression": "SET bake_until = :past",
        "ExpressionAttributeValues": { ":past": { "S": record["live_at"] } },
    });
    cloud.aws.dynamodb("UpdateItem", &input).await?;
    Ok(())
}

#[test]
fn the_sweep_proves_releases_and_finds_what_no_event_told() -> Result<()> {
    scenario_in(&SWEPT, |cloud| async move {
        let (petrel, _, alarm) = watched(cloud, "petrel", json!({})).await?;
        let is_watched = || async {
            let services = cloud.listed("watch", "watch", "watch").await?;
            anyhow::Ok(services.iter().any(|item| item["pk"] == "SERVICE#staging/petrel"))
        };
        let good = petrel.starts_well("1.1.0").await?;
        assert!(is_watched().await?);
        cloud.watch().await?;
        assert!(petrel.wait_until_live(good["digest"].as_str().context("no digest")?).await?.get("baked_at").is_none());
        baked(cloud, &good).await?;
        cloud.watch().await?;
        let proven = petrel.wait_until_live(good["digest"].as_str().context("no digest")?).await?;
        assert!(proven["baked_at"].is_string(), "{proven:#}");
        let releases = cloud.listed("good", "good", "staging/petrel").await?;
        assert_eq!(releases.last().map(|release| release["id"].clone()), Some(good["id"].clone()));
        cloud.watch().await?;
        assert!(!is_watched().await?, "there is nothing left to watch");

        let bad = petrel.starts_well("1.2.0").await?;
        cloud.events.lose(&alarm);
        cloud.set_alarm(&alarm, "ALARM").await?;
        cloud.watch().await?;
        petrel.comes_back(&bad, &proven, "rolled_back").await?;
        Ok(())
    })
}
