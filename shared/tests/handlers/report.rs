//! DORA's report, asked of the notify function.

use std::time::Duration;

use aws_smithy_async::time::TimeSource;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::world::{Fate, World};
use crate::{ecs_event, push, pushed, records};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn asked(detail: Value) -> Value {
    json!({"source": "tidegate", "detail-type": "Report", "detail": detail})
}

fn digest(number: u64) -> String {
    format!("sha256:{number:064x}")
}

/// An image is pushed and rolled out, which comes to this end after `minutes`.
async fn deployment(world: &World, number: u64, minutes: u64, end: &str) {
    let digest = digest(number);
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", Box::leak(digest.clone().into_boxed_str()), now);
    let mut pushed = push(&digest);
    pushed["time"] = json!(DateTime::<Utc>::from(world.now()));
    world.deliver("deploy", &pushed).await.unwrap();
    let id = records(world).last().unwrap()["ecs_deployment_id"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    match end {
        "FAILED" => world.state().ecs.roll_back("production/web"),
        end => world.state().ecs.end_rollout("production/web", end),
    }
    world.deliver("notify", &ecs_event(&format!("SERVICE_DEPLOYMENT_{end}"), &id)).await.unwrap();
}

/// Somebody deploys an image of theirs to production/web, and it completes.
async fn by_others(world: &World, number: u64) {
    let image = crate::image(&digest(number));
    world.state().ecs.register(&json!({"family": "web", "containerDefinitions": [{"name": "web", "image": image}]}));
    let (revision, now) = (world.state().ecs.newest("web"), world.seconds());
    let id = world.state().ecs.deploy_by_others("production/web", &revision, now, "COMPLETED");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
}

/// Five days: two deployments, none, a failure and its repair, one by others and one of another service, none.
async fn five_days() -> World {
    let world = pushed();
    deployment(&world, 1, 2, "COMPLETED").await;
    deployment(&world, 2, 4, "COMPLETED").await;
    tokio::time::sleep(2 * DAY).await;
    deployment(&world, 3, 3, "FAILED").await;
    deployment(&world, 4, 6, "COMPLETED").await;
    tokio::time::sleep(DAY).await;
    by_others(&world, 5).await;
    let follow = [("tidegate:follow/tides/web", "tag:master")];
    world.state().ecs.add_service("staging", "web", "web", &follow);
    world.deliver("deploy", &crate::world::fleet::tag_change("staging/web")).await.unwrap();
    world.state().ecs.end_rollout("staging/web", "COMPLETED");
    world.deliver("notify", &crate::world::fleet::sweep()).await.unwrap();
    tokio::time::sleep(DAY).await;
    world
}

#[tokio::test(start_paused = true)]
async fn every_day_of_the_window_counts_and_what_never_served_is_kept_apart() {
    let world = five_days().await;
    let answer = world.deliver("notify", &asked(json!({"days": 5, "service": "production/web"}))).await.unwrap();
    let report = &answer["report"];
    assert_eq!(
        (&report["from"], &report["to"], &report["days"]),
        (&json!("2026-11-16"), &json!("2026-11-20"), &json!(5))
    );
    let services = report["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{services:?}");
    let web = &services[0];
    assert_eq!((&web["cluster"], &web["service"]), (&json!("production"), &json!("web")));
    assert_eq!(
        web["counts"],
        json!({
            "deployments": 4, "by_others": 1, "succeeded": 4, "rolled_back": 0, "failed_before_serving": 1,
            "superseded": 0, "brought_back": 0,
        })
    );
    let frequency = &web["deployment_frequency"];
    assert_eq!((&frequency["per_day"], &frequency["days_with_deployments"]), (&json!(0.8), &json!(3)));
    let days: Vec<(&str, u64, u64)> = frequency["by_day"]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| {
            let count = |name: &str| day[name].as_u64().unwrap();
            (day["date"].as_str().unwrap(), count("deployments"), count("by_others"))
        })
        .collect();
    let expected =
        [("2026-11-16", 2, 0), ("2026-11-17", 0, 0), ("2026-11-18", 1, 0), ("2026-11-19", 1, 1), ("2026-11-20", 0, 0)];
    assert_eq!(days, expected);
    assert_eq!((&web["change_fail_rate"]["value"], &web["change_fail_rate"]["of"]), (&json!(0.0), &json!(4)));
    assert_eq!(
        (&web["failed_before_serving_rate"]["count"], &web["failed_before_serving_rate"]["of"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(web["rework_rate"]["count"], 1, "the repair");
    assert_eq!(web["push_to_live"]["of"], 3, "of what others deployed no push is known");
    assert!((240..250).contains(&web["push_to_live"]["median_seconds"].as_u64().unwrap()), "{}", web["push_to_live"]);
    assert_eq!(web["change_lead_time"]["median_seconds"], Value::Null);
    assert!(web["change_lead_time"]["unknown_because"].as_str().unwrap().contains("commit"));
}

#[tokio::test(start_paused = true)]
async fn the_answer_has_the_report_and_its_text_and_decides_nothing() {
    let world = five_days().await;
    let before = world.state().table.items("");
    world.calm();
    let answer = world.deliver("notify", &asked(json!({"days": 5}))).await.unwrap();
    let mut names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!((names, &answer["decisions"]), (vec!["decisions", "report", "text"], &json!([])));
    assert_eq!(answer["report"]["schema"], "tidegate.dora/1");
    let services: Vec<String> = answer["report"]["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| format!("{}/{}", service["cluster"].as_str().unwrap(), service["service"].as_str().unwrap()))
        .collect();
    assert_eq!(services, ["production/web", "staging/web"]);
    let text = answer["text"].as_str().unwrap();
    for part in ["from 2026-11-16 to 2026-11-20: 5 days", "production/web", "staging/web", "all services"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(world.state().table.items(""), before);
    assert!(world.operations().iter().all(|operation| operation == "Query"), "{:?}", world.operations());
    assert_eq!((world.operations().len(), world.state().rejects.len()), (6, 0), "a day each, and the day before");
}

#[tokio::test(start_paused = true)]
async fn days_are_read_to_their_last_page() {
    let world = pushed();
    for number in 1..=7 {
        deployment(&world, number, 1, "COMPLETED").await;
    }
    let whole = world.deliver("notify", &asked(json!({"days": 1}))).await.unwrap();
    world.state().table.page_max = Some(2);
    world.calm();
    let paged = world.deliver("notify", &asked(json!({"days": 1}))).await.unwrap();
    assert_eq!(paged, whole);
    assert_eq!(whole["report"]["total"]["counts"]["deployments"], 7);
    assert!(world.operations().len() >= 5, "{:?}", world.operations());
}

#[tokio::test(start_paused = true)]
async fn a_window_without_deployments_and_a_service_that_is_not_known_are_answered() {
    let world = five_days().await;
    tokio::time::sleep(3 * DAY).await;
    let quiet = world.deliver("notify", &asked(json!({"days": 2}))).await.unwrap();
    assert_eq!(quiet["report"]["services"], json!([]));
    let unknown = world.deliver("notify", &asked(json!({"days": 30, "service": "production/wbe"}))).await.unwrap();
    assert_eq!(unknown["report"]["services"], json!([]));
    assert_eq!(unknown["report"]["total"]["deployment_frequency"]["per_day"], Value::Null);
    let year = world.deliver("notify", &asked(json!({"days": 366}))).await.unwrap();
    assert_eq!(year["report"]["days"], 366);
    let default = world.deliver("notify", &asked(json!({}))).await.unwrap();
    assert_eq!(default["report"]["days"], 90);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_answered_is_said_and_nothing_is_kept_of_it() {
    let world = five_days().await;
    for days in [json!(0), json!(367), json!("seven"), json!(-3), json!(1.5)] {
        let answer = world.deliver("notify", &asked(json!({"days": days}))).await.unwrap();
        let decision = crate::decision(&answer);
        assert_eq!(decision["action"], "reject", "{days}");
        assert!(decision["reason"].as_str().unwrap().contains("from 1 to 366"), "{decision}");
    }
    // What may pass is an error, so that whoever asks can ask again.
    world.fates(|_, _| Fate::Refused(400, "ThrottlingException"));
    world.invoke("notify", &asked(json!({"days": 2}))).await.unwrap().unwrap_err();
    world.fates(|_, _| Fate::Refused(400, "AccessDeniedException"));
    let answer = world.deliver("notify", &asked(json!({"days": 2}))).await.unwrap();
    assert!(crate::decision(&answer)["reason"].as_str().unwrap().contains("Allow Query"), "{answer}");
    let deploy = world.deliver("deploy", &asked(json!({}))).await.unwrap();
    assert_eq!(crate::decision(&deploy)["action"], "reject");
    assert_eq!(world.state().rejects, Vec::<Value>::new());
}
