//! What people ask of the history: by the table's indexes, and by the questions that `notify` answers.

use anyhow::{Context as _, Result};
use local::explain::rendered;
use local::registry::Behaviour;
use local::told::each;
use serde_json::{Value, json};

use crate::follower::{CLUSTER, Follower};
use crate::scenario;

#[test]
fn the_indexes_answer_what_people_ask() -> Result<()> {
    scenario(|cloud| async move {
        let ledger = Follower::tagged(cloud, "ledger", &[("follow", "tag:develop"), ("bake", "0")]).await?;
        let ours = |items: Vec<Value>| -> Vec<Value> {
            items.into_iter().filter(|item| item["pk"] == "SERVICE#staging/ledger").collect()
        };
        let good = ledger.push("1.0.0", Behaviour::Slow).await?;
        let rolling = ledger.wait_until(&good, "rolling").await?;
        let open = ours(cloud.listed("open", "open", "open").await?);
        let names = ["ecs_deployment_id", "id", "open", "pk", "sk"];
        let expected = names.map(|name| (name.to_owned(), rolling[name].clone())).into_iter().collect();
        assert_eq!(
            open,
            [Value::Object(expected)],
            "what is rolling is open, and the index holds no more than it needs"
        );

        let live = ledger.wait_until_live(&good).await?;
        cloud.wait_until_steady(CLUSTER, "ledger").await?;
        let bad = ledger.push("1.1.0", Behaviour::NeverPulls).await?;
        let failed = ledger.wait_until(&bad, "failed").await?;
        cloud.tag(CLUSTER, "ledger", &[("tidegate:hold", "stocktaking")]).await?;
        let held = ledger.push("1.2.0", Behaviour::Healthy).await?;
        ledger.wait_until(&held, "skipped").await?;
        for record in [&live, &failed] {
            cloud.wait_until_told(CLUSTER, "ledger", record["id"].as_str().context("no id")?).await?;
        }

        // What is not at rest: no deployment any more. What was not deployed is told by what comes next.
        let open = ours(cloud.listed("open", "open", "open").await?);
        let skipped = each(&ledger.skipped().await?, "/id");
        assert!(each(&open, "/id").iter().all(|id| skipped.contains(id)), "{open:#?}");
        // All deployments of a day. What was held is none.
        let mut deployments = Vec::new();
        let mut days: Vec<&str> = [&live, &failed].iter().filter_map(|it| it["day"].as_str()).collect();
        days.dedup();
        for day in days {
            deployments.extend(ours(cloud.listed("days", "day", day).await?));
        }
        deployments.retain(|record| record["origin"] != "external");
        assert_eq!(each(&deployments, "/digest"), [&*good, &*bad]);
        assert_eq!(each(&deployments, "/state"), ["succeeded", "failed"]);
        // The last good release.
        let releases = cloud.listed("good", "good", "staging/ledger").await?;
        assert_eq!(each(&releases, "/digest").last(), Some(&good));
        assert_eq!(each(&releases, "/origin"), ["external", "push"]);
        // What is live everywhere.
        let everywhere = ours(cloud.listed("live", "live", "live").await?);
        assert_eq!(each(&everywhere, "/digest"), [good], "{everywhere:#?}");
        assert_eq!(each(&everywhere, "/record"), [live["id"].as_str().unwrap_or_default()]);
        assert_eq!(everywhere[0]["provenance"]["version"], "1.0.0", "{everywhere:#?}");
        Ok(())
    })
}

#[test]
fn notify_answers_questions_and_does_nothing() -> Result<()> {
    scenario(|cloud| async move {
        let logbook = Follower::steady(cloud, "logbook").await?;
        let good = logbook.push("1.0.0", Behaviour::Healthy).await?;
        let live = logbook.wait_until_live(&good).await?;
        cloud.wait_until_steady(CLUSTER, "logbook").await?;
        let bad = logbook.push("1.1.0", Behaviour::Crash).await?;
        let failed = logbook.wait_until(&bad, "failed").await?;
        for record in [&live, &failed] {
            cloud.wait_until_told(CLUSTER, "logbook", record["id"].as_str().context("no id")?).await?;
        }
        cloud.wait_until_steady(CLUSTER, "logbook").await?;
        let before = cloud.items(CLUSTER, "logbook").await?;

        // What an event would lead to.
        let published = cloud.events.published();
        let is_completion = |event: &&Value| {
            event["detail"]["deploymentId"] == live["ecs_deployment_id"]
                && event["detail"]["eventName"] == "SERVICE_DEPLOYMENT_COMPLETED"
        };
        let event = published.iter().find(is_completion).context("no event")?;
        let explained = cloud.explain("notify", event).await?;
        let decision = &explained["decisions"][0];
        assert_eq!((&decision["action"], &decision["record"]), (&json!("record"), &live["id"]), "{explained:#}");
        assert_eq!(
            rendered(&explained)?.lines().next(),
            Some("staging/logbook: record, because the rollout completed")
        );
        let swept =
            cloud.explain("notify", &json!({ "source": "tidegate", "detail-type": "Sweep", "detail": {} })).await?;
        assert!(swept["decisions"].as_array().is_some_and(|decisions| !decisions.is_empty()), "{swept:#}");

        // How well deployments go. Two days: it may be midnight.
        let detail = json!({ "days": 2, "service": "staging/logbook" });
        let question = json!({ "source": "tidegate", "detail-type": "Report", "detail": detail });
        let answer = cloud.invoke("notify", &question).await?;
        let report = &answer["report"];
        assert_eq!((&report["schema"], &report["days"]), (&json!("tidegate.dora/1"), &json!(2)), "{answer:#}");
        assert_eq!(report["services"].as_array().map(Vec::len), Some(1), "{report:#}");
        let counts = &report["services"][0]["counts"];
        let expected = json!({
            "deployments": 2, "by_others": 1, "succeeded": 2, "rolled_back": 0, "failed_before_serving": 1,
            "superseded": 0, "brought_back": 0,
        });
        assert_eq!(*counts, expected, "{report:#}");
        let table = answer["text"].as_str().unwrap_or_default();
        assert!(table.contains("\nstaging/logbook ") && table.contains("33% (1/3)"), "{table}");
        let wrong = json!({ "source": "tidegate", "detail-type": "Report", "detail": { "days": 0 } });
        let refused = cloud.invoke("notify", &wrong).await?;
        assert_eq!(refused["decisions"][0]["action"], "reject", "{refused:#}");

        assert_eq!(cloud.items(CLUSTER, "logbook").await?, before);
        let rejects = cloud.rejects().await?;
        assert!(rejects.iter().all(|reject| reject["event"]["detail-type"] != "Report"), "{rejects:#?}");
        Ok(())
    })
}
