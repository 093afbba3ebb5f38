//! Who is told what of a deployment, by the functions as they are deployed, with no more rights than their roles have.

use anyhow::{Context as _, Result};
use local::cloud::{Cloud, primary};
use local::registry::{Behaviour, LEAKED_SECRET, short};
use local::told::{Told, each};
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower, commit};
use crate::scenario;

/// A service that runs version 1.0.0, which Tidegate has deployed, and that record.
async fn released(cloud: &'static Cloud, name: &'static str) -> Result<(Follower, Value)> {
    let platform = json!({ "runtimePlatform": { "operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64" } });
    let follower = Follower::steady_with(cloud, name, platform, json!({})).await?;
    let digest = follower.push("1.0.0", Behaviour::Healthy).await?;
    let record = follower.wait_until_live(&digest).await?;
    cloud.wait_until_steady(CLUSTER, name).await?;
    Ok((follower, record))
}

#[test]
fn a_deployment_is_told_to_everyone_with_its_commit() -> Result<()> {
    scenario(|cloud| async move {
        let (pelican, before) = released(cloud, "pelican").await?;
        let digest = pelican.push("1.1.0", Behaviour::Slow).await?;
        let told = Told::of(cloud, &pelican.wait_until_live(&digest).await?).await?;
        let record = &told.record;
        let id = record["id"].as_str().context("no id")?;
        let (from, to) = (commit("1.0.0"), commit("1.1.0"));
        let [short_from, short_to] = [&from, &to].map(|commit| commit.chars().take(7).collect::<String>());
        let (source, compare) = (pelican.source(), format!("{}/compare/{from}...{to}", pelican.source()));

        // Slack: one message, which began with the rollout.
        let seen = told.slack.rendered();
        let lines: Vec<&str> = seen.lines().collect();
        let [head, change, facts, foot] = lines[..] else { anyhow::bail!("other lines than four: {seen}") };
        assert!(head.starts_with("✅ pelican in staging: live after ") && head.ends_with('s'), "{seen}");
        assert_eq!(change, format!("1.0.0 ({short_from}) → 1.1.0 ({short_to}) · compare"));
        assert!(facts.starts_with("push of tides/pelican:develop · "), "{seen}");
        assert!(facts.contains("s from push to live · console"), "{seen}");
        assert_eq!(foot, format!("deployment {id} · revision pelican:3, was pelican:2 · image {}", short(&digest)));
        let blocks = told.slack.latest().to_string();
        assert!(blocks.contains(&format!("<{compare}|compare>")), "{blocks}");
        assert!(blocks.contains(&format!("<{source}/commit/{to}|{short_to}>")), "{blocks}");
        let first = told.slack.versions.first().context("no version")?.to_string();
        assert!(first.contains("rolling out, 0 of 1 task running"), "{first}");
        assert!(told.slack.replies.is_empty(), "{}", told.slack.thread());

        // The topic.
        assert_eq!(each(&told.documents, "/state"), ["rolling", "succeeded"]);
        let document = told.document();
        for (pointer, value) in [
            ("/schema", json!("tidegate.deployment/1")),
            ("/origin", json!("push")),
            ("/environment", json!("staging")),
            ("/image/repository", json!("tides/pelican")),
            ("/image/digest", json!(digest)),
            ("/image/digestFrom", before["digest"].clone()),
            ("/image/revision", json!(to)),
            ("/image/version", json!("1.1.0")),
            ("/image/source", json!(source)),
            ("/image/from/revision", json!(from)),
            ("/image/from/version", json!("1.0.0")),
            ("/taskDefinition/from", before["revision_to"].clone()),
            ("/taskDefinition/to", record["revision_to"].clone()),
            ("/ecsDeploymentId", record["ecs_deployment_id"].clone()),
            ("/links/compare", json!(compare)),
            ("/diagnosis", Value::Null),
        ] {
            assert_eq!(document.pointer(pointer), Some(&value), "{pointer} of {document:#}");
        }

        // The webhook: the same documents, signed. The stand-in has checked the signatures.
        assert_eq!(each(&told.webhook, "/type"), ["deployment.rolling", "deployment.succeeded"]);
        assert_eq!(told.webhook.last().map(|call| &call["data"]), Some(document));
        let calls = cloud.webhook.requests_about(id);
        let ids: Vec<_> = calls.iter().map(|call| call.headers.get("webhook-id").map(|id| id.as_bytes())).collect();
        let versions = told.documents.iter().map(|document| format!("{id}-{}", document["version"]));
        assert_eq!(ids, versions.collect::<Vec<_>>().iter().map(|id| Some(id.as_bytes())).collect::<Vec<_>>());

        // EventBridge.
        let types = ["dev.cdeventsx.tidegate-deployment.started.0.1.0", "dev.cdevents.service.upgraded.0.3.0"];
        assert_eq!(each(&told.events, "/detail-type"), types);
        assert_eq!(each(&told.events, "/detail/context/type"), types);
        assert_eq!(each(&told.events, "/source"), ["tidegate"; 2]);
        let event = told.events.last().context("no event")?;
        assert_eq!(event["detail"]["context"]["id"], format!("{id}-succeeded"));
        assert_eq!(&event["detail"]["customData"], document);
        let artifact = each(&told.events, "/detail/subject/content/artifactId").pop().unwrap_or_default();
        let hex = digest.trim_start_matches("sha256:");
        assert!(artifact.starts_with(&format!("pkg:oci/pelican@sha256%3A{hex}?")), "{artifact}");

        // Amazon Q: a notification cannot be edited, so there are two in one thread.
        assert_eq!(each(&told.chat, "/metadata/eventType"), ["deployment.rolling", "deployment.succeeded"]);
        assert_eq!(each(&told.chat, "/metadata/threadId"), [id; 2]);
        let notification = told.chat.last().context("no notification")?;
        let title = notification["content"]["title"].as_str().unwrap_or_default();
        assert!(title.starts_with(":white_check_mark: pelican in staging: live after "), "{title}");
        let description = notification["content"]["description"].as_str().unwrap_or_default();
        assert!(description.contains(&compare), "{description}");

        // New Relic: one marker, for what went live.
        assert_eq!(told.newrelic.len(), 1, "{:#?}", told.newrelic);
        let change = &told.newrelic[0]["variables"]["changeTrackingEvent"];
        assert_eq!(change["entitySearch"]["query"], "name = 'pelican'");
        let deployment = &change["categoryAndTypeData"]["categoryFields"]["deployment"];
        assert_eq!((&deployment["version"], &deployment["commit"]), (&json!("1.1.0"), &json!(to)), "{change:#}");
        assert_eq!(deployment["changelog"], json!(compare));

        // CloudWatch: one line, as it was printed, with the directive at its top.
        assert_eq!(told.metrics.len(), 1, "{:#?}", told.metrics);
        let metrics = &told.metrics[0];
        let directive = &metrics["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&directive["Namespace"], &metrics["Succeeded"]), (&json!("Tidegate"), &json!(1)), "{metrics:#}");
        assert_eq!((&metrics["Environment"], &metrics["Service"]), (&json!("staging"), &json!("pelican")));
        for seconds in ["RolloutSeconds", "PushToLiveSeconds"] {
            assert!(metrics[seconds].as_u64().is_some_and(|seconds| (1..120).contains(&seconds)), "{metrics:#}");
        }
        Ok(())
    })
}

#[test]
fn why_an_image_has_failed_is_told_and_its_secrets_are_not() -> Result<()> {
    scenario(|cloud| async move {
        let (kittiwake, good) = released(cloud, "kittiwake").await?;
        let bad = kittiwake.push("1.1.0", Behaviour::Crash).await?;
        let told = Told::of(cloud, &kittiwake.wait_until(&bad, "failed").await?).await?;
        let record = &told.record;
        let id = record["id"].as_str().context("no id")?;
        let after = cloud.wait_until_steady(CLUSTER, "kittiwake").await?;
        assert_eq!(primary(&after)["id"], good["ecs_deployment_id"], "ECS went back");

        let diagnosis = &record["diagnosis"];
        let (summary, log) = (diagnosis["summary"].as_str().unwrap_or_default(), &diagnosis["log"]);
        assert!(summary.contains("container app") && summary.contains("code 1"), "{diagnosis:#}");
        assert_eq!(record["undone_by"], "ecs", "{record:#}");
        assert_eq!((&log["container"], &log["group"]), (&json!("app"), &json!("/ecs/kittiwake")), "{diagnosis:#}");
        let lines = log["lines"].as_array().context("no lines")?;
        let last = "thread 'main' panicked at src/main.rs:42:10: the schema is 7, and this version needs 8";
        assert_eq!(lines.last(), Some(&json!(last)), "{lines:#?}");
        let masked = |line: &&Value| line.as_str().is_some_and(|line| line.contains("DATABASE_PASSWORD=***"));
        assert_eq!(lines.iter().filter(masked).count(), 1, "{lines:#?}");

        // Slack: why it is so in the message, and the log in its thread. Nothing was out of order for anybody.
        let seen = told.slack.rendered();
        assert!(seen.starts_with("❌ kittiwake in staging: failed after "), "{seen}");
        assert!(seen.contains(summary) && seen.contains("1.0.0 kept serving"), "{seen}");
        let [reply] = &told.slack.replies[..] else { anyhow::bail!("other than one reply: {}", told.slack.thread()) };
        assert!(
            !reply.is_broadcast && reply.rendered().contains("Last lines of the log of app"),
            "{}",
            reply.rendered()
        );
        for line in [last, "DATABASE_PASSWORD=***", "postgres://***@db.tides", "no tide tables"] {
            assert!(reply.rendered().contains(line), "{line}: {}", reply.rendered());
        }

        // Everyone else.
        let document = told.document();
        assert_eq!((&document["state"], &document["undoneBy"]), (&json!("failed"), &json!("ecs")));
        assert_eq!(document["diagnosis"]["summary"], diagnosis["summary"]);
        assert_eq!(document["diagnosis"]["log"], *log);
        assert_eq!(told.webhook.last().map(|call| &call["data"]), Some(document));
        let types = each(&told.events, "/detail-type");
        assert_eq!(types.last().map(String::as_str), Some("dev.cdeventsx.tidegate-deployment.failed.0.1.0"));
        let description = each(&told.chat, "/content/description").pop().unwrap_or_default();
        assert!(description.contains(summary) && description.contains(last), "{description}");
        assert_eq!(told.newrelic, Vec::<Value>::new(), "it never changed what the charts show");
        assert_eq!(told.metrics.len(), 1, "{:#?}", told.metrics);
        assert_eq!(told.metrics[0]["Failed"], 1, "{:#?}", told.metrics);

        // The log gives a secret away, and nobody has passed it on.
        let (group, stream) = (log["group"].as_str().unwrap_or_default(), log["stream"].as_str().unwrap_or_default());
        let logged = cloud.last_lines(group, stream, 50).await?.join("\n");
        assert!(logged.matches(LEAKED_SECRET).count() >= 3, "{logged}");
        let mut written = format!("{} {:?}", told.everything(), cloud.items(CLUSTER, "kittiwake").await?);
        for request in cloud.slack.exchanges_about(id) {
            written = format!("{written} {}", request.body);
        }
        for function in &cloud.functions {
            written = format!("{written} {}", cloud.log(function, "").await?.join("\n"));
        }
        assert!(!written.contains(LEAKED_SECRET), "{written}");
        Ok(())
    })
}

#[test]
fn a_deployment_by_somebody_else_is_told_when_ecs_tells_of_it() -> Result<()> {
    scenario(|cloud| async move {
        let (gannet, ours) = released(cloud, "gannet").await?;
        let mut containers =
            cloud.task_definition(&gannet.runs().await?).await?["taskDefinition"]["containerDefinitions"].clone();
        let theirs = cloud.push(&gannet.repository, "by-hand", &gannet.image("1.0.1", Behaviour::Healthy)?).await?;
        containers[0]["image"] = json!(gannet.pinned(&theirs));
        containers[0]["environment"] = json!([{ "name": "LOG_LEVEL", "value": "hush-debug" }]);
        let revision = cloud
            .register(&json!({
                "family": "gannet",
                "containerDefinitions": containers,
                "runtimePlatform": { "operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64" },
            }))
            .await?;
        let update = json!({ "cluster": CLUSTER, "service": "gannet", "taskDefinition": revision });
        let updated = cloud.aws.ecs("UpdateService", &update).await?;

        let told = Told::of(cloud, &gannet.wait_until_live(&theirs).await?).await?;
        let record = &told.record;
        let expected = json!({
            "origin": "external", "actor": "root", "state": "succeeded",
            "ecs_deployment_id": primary(&updated["service"])["id"], "digest_from": ours["digest"],
            "revision_from": ours["revision_to"], "revision_to": revision,
            "changed_by_others":
                ["containerDefinitions[app].environment[LOG_LEVEL] (added)", "containerDefinitions[app].image"],
        });
        for (name, value) in expected.as_object().context("not an object")? {
            assert_eq!(&record[name], value, "{name} of {record:#}");
        }
        let seen = told.slack.rendered();
        assert!(seen.starts_with("✅ gannet in staging: live"), "{seen}");
        assert!(seen.contains("deployed by root, not by Tidegate"), "{seen}");
        assert!(seen.contains("environment[LOG_LEVEL] (added)"), "{seen}");
        let document = told.document();
        assert_eq!((&document["origin"], &document["actor"]), (&json!("external"), &json!("root")), "{document:#}");
        assert_eq!(document["image"]["version"], "1.0.1", "{document:#}");
        assert_eq!(told.newrelic.len(), 1, "{:#?}", told.newrelic);
        assert_eq!(told.newrelic[0]["variables"]["changeTrackingEvent"]["user"], "root");
        assert_eq!(told.metrics.len(), 1, "{:#?}", told.metrics);
        assert_eq!(told.metrics[0]["DeployedByOthers"], 1, "{:#?}", told.metrics);
        assert!(!told.everything().contains("hush-debug"), "a value of a variable was told");
        Ok(())
    })
}
