//! Pushes that become deployments, and pushes that do not.

use std::time::Duration;

use anyhow::{Context as _, Result};
use local::cloud::primary;
use local::registry::{self, Behaviour};
use serde_json::json;

use crate::follower::{CLUSTER, Follower, SIDECAR, without_telling};
use crate::scenario;

#[test]
fn a_push_is_rolled_out_recorded_and_announced_in_one_message() -> Result<()> {
    scenario(|cloud| async move {
        let quay = Follower::steady_with(cloud, "quay", json!({}), json!({ "desiredCount": 2 })).await?;
        let before = quay.service().await?;
        // Slow enough that there is time to tell of its beginning.
        let digest = quay.push("1.0.0", Behaviour::Slow).await?;
        let record = quay.wait_until_live(&digest).await?;

        let after = cloud.wait_until_steady(CLUSTER, "quay").await?;
        assert_eq!(quay.runs_image().await?, quay.pinned(&digest));
        let expected = json!({
            "cluster": CLUSTER,
            "service": "quay",
            "repository": "tides/quay",
            "tag": "develop",
            "digest": digest,
            "revision_from": before["taskDefinition"],
            "revision_to": after["taskDefinition"],
            "ecs_deployment_id": primary(&after)["id"],
        });
        for (name, value) in expected.as_object().context("not an object")? {
            assert_eq!(&record[name], value, "{name} of {record}");
        }
        let times = ["pushed_at", "detected_at", "started_at", "finished_at"];
        let times: Vec<&str> = times.iter().filter_map(|name| record[name].as_str()).collect();
        assert_eq!(times.len(), 4, "{record}");
        let history = quay.history().await?;
        let origins: Vec<_> = history.iter().map(|record| record["origin"].as_str()).collect();
        assert_eq!(origins, [Some("external"), Some("push")], "the deployment that was found, and ours: {history:#?}");
        let revision = cloud.task_definition(&quay.runs().await?).await?;
        assert_eq!(revision["tags"], json!([{ "key": "tidegate:tag/tides/quay", "value": "develop" }]));

        let id = record["id"].as_str().context("no id")?;
        let message = cloud.wait_for_message(id, "live").await?;
        assert!(message.versions.len() >= 2, "the message was edited in place: {message:?}");
        assert_eq!(record["slack_channel"], message.channel.as_str());
        cloud
            .wait_for("the topic to be told", || async {
                let announced = cloud.announcements().await?;
                let is_told = announced.iter().any(|told| told["id"] == id);
                Ok(if is_told { Ok(()) } else { Err(format!("{announced:?}")) })
            })
            .await?;
        Ok(())
    })
}

#[test]
fn only_the_image_changes_in_a_task_definition() -> Result<()> {
    scenario(|cloud| async move {
        let more = json!({
            "cpu": "256",
            "memory": "512",
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "executionRoleArn": cloud.create_task_role("mooring-execution").await?,
            "taskRoleArn": cloud.create_task_role("mooring-task").await?,
            "volumes": [{ "name": "cache" }],
            "trustedExecutionConfiguration": { "enabled": true },
            "tags": [{ "key": "team", "value": "tides" }, { "key": "cost-centre", "value": "4711" }],
            "containerDefinitions": [
                {
                    "name": "app",
                    "image": format!("{}/tides/mooring:first", registry::host()),
                    "essential": true,
                    "environment": [{ "name": "MODE", "value": "tidal" }],
                    "linuxParameters": { "initProcessEnabled": true },
                    "fromTheFuture": { "nested": [1, { "deep": null }] },
                },
                { "name": "sidecar", "image": SIDECAR, "essential": false },
            ],
        });
        let mooring = Follower::steady_with(cloud, "mooring", more, json!({})).await?;
        let before = cloud.task_definition(&mooring.runs().await?).await?;
        let digest = mooring.push("1.0.0", Behaviour::Healthy).await?;
        mooring.wait_until_live(&digest).await?;
        cloud.wait_until_steady(CLUSTER, "mooring").await?;
        let after = cloud.task_definition(&mooring.runs().await?).await?;

        let mut expected = before["taskDefinition"].clone();
        expected["containerDefinitions"][0]["image"] = json!(mooring.pinned(&digest));
        for changing in ["taskDefinitionArn", "revision", "registeredAt"] {
            expected[changing] = after["taskDefinition"][changing].clone();
        }
        assert_eq!(after["taskDefinition"], expected);
        let mut tags = before["tags"].as_array().cloned().context("no tags")?;
        tags.push(json!({ "key": "tidegate:tag/tides/mooring", "value": "develop" }));
        assert_eq!(after["tags"], json!(tags));
        Ok(())
    })
}

#[test]
fn an_event_delivered_again_changes_nothing() -> Result<()> {
    scenario(|cloud| async move {
        let buoy = Follower::steady(cloud, "buoy").await?;
        let digest = buoy.push("1.0.0", Behaviour::Healthy).await?;
        buoy.wait_until_live(&digest).await?;
        cloud.wait_until_steady(CLUSTER, "buoy").await?;
        let seen = || async {
            let history = buoy.history().await?.iter().map(without_telling).collect::<Vec<_>>();
            anyhow::Ok((buoy.revisions().await?, buoy.deployments().await?, history))
        };
        let before = seen().await?;
        assert_eq!((before.0, before.1), (2, 2), "one revision and one deployment more than the first");

        let event = buoy.push_event(&digest)?;
        cloud.deliver("deploy", &event).await?;
        cloud.deliver("deploy", &event).await?;
        cloud.events.publish(&event).await?;
        let last = buoy.wait_for_decision(&digest, 4).await?;
        assert_eq!(last["action"], "skip");
        assert_eq!(last["reason"], "the service already runs this digest");
        assert_eq!(seen().await?, before);
        Ok(())
    })
}

#[test]
fn an_event_delivered_twice_at_once_starts_one_rollout() -> Result<()> {
    scenario(|cloud| async move {
        let reef = Follower::registered(cloud, "reef", json!({})).await?;
        let digest = reef.push("1.0.0", Behaviour::Healthy).await?;
        // The service comes after the push, so that only the two deliveries below find it.
        reef.wait_for_skipped_push(&digest).await?;
        reef.create_service("reef", json!({})).await?;
        let event = reef.push_event(&digest)?;
        let (one, other) = tokio::join!(cloud.invoke("deploy", &event), cloud.invoke("deploy", &event));
        // Both may speak of the one deployment: whoever finds it unwritten writes it down.
        let decisions = [one?, other?].map(|response| response["decisions"][0].clone());
        assert!(decisions.iter().any(|decision| decision["action"] == "deploy"), "{decisions:#?}");
        reef.wait_until_live(&digest).await?;
        let history = reef.own_deployments().await?;
        let seen = (reef.revisions().await?, reef.deployments().await?, history.len());
        assert_eq!(seen, (2, 2, 1), "{decisions:#?}\n{history:#?}\n{:#?}", reef.decisions(&digest).await?);
        Ok(())
    })
}

#[test]
fn a_push_during_a_rollout_supersedes_it() -> Result<()> {
    scenario(|cloud| async move {
        // Two tasks of a slow image: the first must be up before the second is started.
        let estuary = Follower::steady_with(cloud, "estuary", json!({}), json!({ "desiredCount": 2 })).await?;
        let older = estuary.push("1.0.0", Behaviour::Slow).await?;
        estuary.wait_until(&older, "rolling").await?;
        let newer = estuary.push("1.0.1", Behaviour::Healthy).await?;
        let history = cloud
            .wait_for("the newer image to be live", || async {
                let history = estuary.own_deployments().await?;
                let is_live = history.iter().any(|r| r["digest"] == newer && r["state"] == "succeeded");
                Ok(if is_live { Ok(history) } else { Err(format!("{history:?}")) })
            })
            .await?;
        let outcomes: Vec<_> = history.iter().map(|r| (r["digest"].as_str(), r["state"].as_str())).collect();
        let expected = [(Some(older.as_str()), Some("superseded")), (Some(newer.as_str()), Some("succeeded"))];
        assert_eq!(outcomes, expected, "{history:#?}");
        cloud.wait_until_steady(CLUSTER, "estuary").await?;
        assert_eq!(estuary.runs_image().await?, estuary.pinned(&newer));
        for record in history {
            let id = record["id"].as_str().context("a record without id")?;
            let word = if record["state"] == "superseded" { "superseded" } else { "live" };
            cloud.wait_for_message(id, word).await?;
        }
        Ok(())
    })
}

#[test]
fn pushes_in_quick_succession_end_with_the_newest() -> Result<()> {
    scenario(|cloud| async move {
        let delta = Follower::steady(cloud, "delta").await?;
        for version in ["1.0.0", "1.0.1"] {
            delta.push(version, Behaviour::Healthy).await?;
        }
        let newest = delta.push("1.0.2", Behaviour::Healthy).await?;
        cloud
            .wait_for("all to be decided and the newest to be live", || async {
                let history = delta.own_deployments().await?;
                let is_live = history.iter().any(|r| r["digest"] == newest && r["state"] == "succeeded");
                let is_quiet = history.iter().all(|r| r["finished_at"].is_string());
                Ok(if is_live && is_quiet { Ok(()) } else { Err(format!("{history:?}")) })
            })
            .await?;
        cloud.wait_until_steady(CLUSTER, "delta").await?;
        assert_eq!(delta.runs_image().await?, delta.pinned(&newest));
        Ok(())
    })
}

#[test]
fn a_push_that_nobody_follows_is_skipped_with_its_reason() -> Result<()> {
    scenario(|cloud| async move {
        let lagoon = Follower::registered(cloud, "lagoon", json!({})).await?;
        let digest = lagoon.push("1.0.0", Behaviour::Healthy).await?;
        let decision = lagoon.wait_for_skipped_push(&digest).await?;
        assert_eq!(decision["action"], "skip");
        assert_eq!(decision["repository"], "tides/lagoon");
        assert_eq!(decision.get("service"), None);
        let reason = decision["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("no service follows tides/lagoon"), "{reason}");
        Ok(())
    })
}

#[test]
fn another_tag_and_a_push_without_a_tag_are_not_deployed() -> Result<()> {
    scenario(|cloud| async move {
        let dock = Follower::steady(cloud, "dock").await?;
        registry::push_untagged(&cloud.aws, &dock.repository, &dock.image("1.0.0", Behaviour::Healthy)?).await?;
        let digest = cloud.push(&dock.repository, "main", &dock.image("1.0.1", Behaviour::Healthy)?).await?;
        let decision = dock.wait_for_decision(&digest, 1).await?;
        assert_eq!(decision["action"], "skip");
        assert_eq!(decision["reason"], "the service follows tag:develop");
        assert_eq!((dock.revisions().await?, dock.deployments().await?), (1, 1));
        let origins: Vec<_> = dock.history().await?.iter().map(|record| record["origin"].clone()).collect();
        assert_eq!(origins, ["external"], "nothing but the deployment that the service was created with");
        Ok(())
    })
}

#[test]
fn a_service_of_code_deploy_is_skipped_with_its_reason() -> Result<()> {
    scenario(|cloud| async move {
        let more = json!({ "deploymentController": { "type": "CODE_DEPLOY" } });
        let marina = Follower::steady_with(cloud, "marina", json!({}), more).await?;
        let digest = marina.push("1.0.0", Behaviour::Healthy).await?;
        let decision = marina.wait_for_decision(&digest, 1).await?;
        assert_eq!(decision["action"], "skip");
        let reason = decision["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("CODE_DEPLOY"), "{reason}");
        assert_eq!((marina.revisions().await?, marina.deployments().await?), (1, 1));
        Ok(())
    })
}

#[test]
fn services_of_one_family_share_the_new_revision() -> Result<()> {
    scenario(|cloud| async move {
        let pier = Follower::steady(cloud, "pier").await?;
        pier.create_service("pier-second", json!({})).await?;
        let digest = pier.push("1.0.0", Behaviour::Healthy).await?;
        let first = pier.wait_until_live(&digest).await?;
        let second = cloud.wait_for_record(CLUSTER, "pier-second", &digest, "succeeded").await?;
        assert_eq!(first["revision_to"], second["revision_to"]);
        assert_eq!(pier.revisions().await?, 2);
        Ok(())
    })
}

#[test]
fn a_deployment_leaves_the_number_of_tasks_alone() -> Result<()> {
    scenario(|cloud| async move {
        let wharf = Follower::steady_with(cloud, "wharf", json!({}), json!({ "desiredCount": 2 })).await?;
        let digest = wharf.push("1.0.0", Behaviour::Slow).await?;
        wharf.wait_until(&digest, "rolling").await?;
        // Somebody scales while the rollout is under way.
        let scale = json!({ "cluster": CLUSTER, "service": "wharf", "desiredCount": 3 });
        cloud.aws.ecs("UpdateService", &scale).await?;
        wharf.wait_until_live(&digest).await?;
        let after = cloud.wait_until_steady(CLUSTER, "wharf").await?;
        assert_eq!(after["desiredCount"], 3);
        let digest = wharf.push("1.0.1", Behaviour::Healthy).await?;
        wharf.wait_until_live(&digest).await?;
        assert_eq!(wharf.service().await?["desiredCount"], 3);
        Ok(())
    })
}

#[test]
fn an_event_that_cannot_be_read_is_rejected_once_with_its_cause() -> Result<()> {
    scenario(|cloud| async move {
        for (function, source, kind) in [
            ("deploy", "aws.ecr", "ECR Image Action"),
            ("notify", "aws.ecs", "ECS Deployment State Change"),
            ("rollback", "tidegate", "Rollback"),
        ] {
            let id = format!("malformed-{function}");
            let event = json!({
                "version": "0", "id": id, "source": source, "detail-type": kind, "time": "2026-11-02T09:14:07Z",
                "account": "123456789012", "region": "eu-west-1", "resources": [],
                "detail": { "action-type": "PUSH", "result": "SUCCESS", "image-tag": "develop",
                            "eventName": "SERVICE_DEPLOYMENT_COMPLETED" },
            });
            cloud.deliver(function, &event).await?;
            let reject = cloud
                .wait_for("the rejected event", || async {
                    let rejects = cloud.rejects().await?;
                    let found = rejects.iter().find(|reject| reject["event"]["id"] == id).cloned();
                    Ok(found.ok_or_else(|| format!("{rejects:?}")))
                })
                .await?;
            assert_eq!(reject["event"], event);
            assert_eq!(reject["function"], function);
            assert_ne!(reject["cause"].as_str().unwrap_or_default(), "");
            // Longer than the platform would need for two more attempts.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let rejects = cloud.rejects().await?;
            assert_eq!(rejects.iter().filter(|reject| reject.to_string().contains(&id)).count(), 1);
        }
        Ok(())
    })
}

#[test]
fn the_response_tells_the_decision() -> Result<()> {
    scenario(|cloud| async move {
        let event = json!({
            "version": "0", "id": "by-hand", "source": "aws.ecr", "detail-type": "ECR Image Action",
            "time": "2026-11-02T09:14:07Z", "account": "123456789012", "region": "eu-west-1", "resources": [],
            "detail": { "result": "SUCCESS", "repository-name": "tides/nowhere", "image-digest": format!("sha256:{:064x}", 7),
                        "action-type": "PUSH", "image-tag": "develop" },
        });
        let response = cloud.invoke("deploy", &event).await?;
        assert_eq!(response["decisions"][0]["action"], "skip", "{response}");
        assert_eq!(response["decisions"][0]["repository"], "tides/nowhere");
        Ok(())
    })
}
