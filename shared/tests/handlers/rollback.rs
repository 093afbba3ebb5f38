//! What becomes of a deployment that turns bad.

mod cost;
mod details;
mod disturbed;
mod scenarios;
mod speed;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::outcomes::{WEB, deployed, look, primary, wait};
use crate::world::fleet::sweep;
use crate::world::{ACCOUNT, Fate, REGION, World};
use crate::{NEW, NEWER, OLD, ecs_event, image, push, pushed};

const ALARM: &str = "web-5xx";
const NEWEST: &str = "sha256:a8cfb6bd2c3a0b1e6a7d7ab2e6ecd3b0e2f1d0c9b8a7968574635241302f1e0d";
const FIXED: &str = "sha256:b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eaf";
const LATEST: &str = "sha256:1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";

/// What the tests call a digest.
fn called(digest: &str) -> &str {
    match digest {
        OLD => "old",
        NEW => "new",
        NEWER => "newer",
        NEWEST => "newest",
        FIXED => "fixed",
        LATEST => "latest",
        other => other,
    }
}

/// Every record of the service, oldest first.
fn records(world: &World) -> Vec<Value> {
    world.state().table.items("DEPLOYMENT#")
}

/// The records but for decisions not to deploy: what made them, their state, and the first digits of their digest.
fn story(world: &World) -> Vec<String> {
    let mut records = records(world);
    records.retain(|record| record["state"] != "skipped");
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let line = |record: &Value| {
        let digest = called(record["digest"].as_str().unwrap());
        format!("{} {} {digest}", text(record, "origin"), text(record, "state"))
    };
    records.iter().map(line).collect()
}

/// Moves the tag to `digest`, and lets the deploy function act: the id of the deployment that runs then.
async fn release(world: &World, digest: &str) -> String {
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", digest, now);
    deployed(world, digest).await
}

/// The newest rollout completes, and ECS says so.
async fn completes(world: &World) {
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    world.state().ecs.drain(WEB);
    let id = primary(world);
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
}

/// The rollback function's schedule, and then that of notify, come round once; then a minute passes.
async fn minute(world: &World) -> Value {
    let response = world.deliver("rollback", &sweep()).await.unwrap();
    look(world).await;
    response
}

/// As many minutes.
async fn minutes(world: &World, count: usize) {
    for _ in 0..count {
        minute(world).await;
    }
}

/// `NEW` was released, has completed and was watched long enough. Before it ran what somebody had deployed.
async fn proven() -> World {
    let world = young();
    world.state().ecs.services.get_mut(WEB).unwrap()["deployments"][0]["createdAt"] = json!(1_794_000_000.0);
    release(&world, NEW).await;
    wait(60).await;
    completes(&world).await;
    minute(&world).await;
    wait(660).await;
    minutes(&world, 2).await;
    assert_eq!(watched(&world), Vec::<Value>::new(), "nothing is left to watch");
    world
}

/// The service was created a moment ago, with what somebody has deployed.
fn young() -> World {
    let world = pushed();
    watched_by_alarm(&world);
    let mut state = world.state();
    state.ecr.push("tides/web", "v1", OLD, 1_794_000_000);
    state.ecs.services.get_mut(WEB).unwrap()["deployments"][0]["createdAt"] = json!(1_794_819_590.0);
    drop(state);
    world
}

/// A revision of somebody else's that runs this digest.
fn by_hand(world: &World, digest: &str) -> String {
    let mut state = world.state();
    let base = state.ecs.families["web"][0]["taskDefinition"].clone();
    let mut definition = json!({"family": "web", "containerDefinitions": base["containerDefinitions"]});
    definition["containerDefinitions"][0]["image"] = json!(image(digest));
    state.ecs.register(&definition);
    state.ecs.newest("web")
}

/// The digests that must not be deployed, as the tests call them.
fn quarantine(world: &World) -> Vec<String> {
    let guards = world.state().table.items("GUARD");
    let digests = guards.iter().flat_map(|guard| guard["quarantine"].as_object().unwrap().keys());
    digests.map(|digest| called(digest).to_owned()).collect()
}

/// Whether Tidegate has stopped deploying by itself.
fn is_held(world: &World) -> bool {
    world.state().table.items("GUARD").iter().any(|guard| guard.get("held").is_some())
}

/// The alarm is OK again.
fn calm_down(world: &World) {
    world.state().alarms.insert(ALARM.into(), "OK".into());
}

/// Without what differs from run to run: ids of records, and times.
fn plain(text: &str) -> String {
    let is_id = |word: &str| word.len() == 26 && word.starts_with("01");
    let word = |word: &str| if is_id(word.trim_end_matches([')', ','])) { "…".to_owned() } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The services whose deployments are not proven.
fn watched(world: &World) -> Vec<Value> {
    let mut items = world.state().table.items("SERVICE");
    items.retain(|item| item.get("watch").is_some());
    items
}

fn watched_by_alarm(world: &World) {
    let tags = [("tidegate:follow/tides/web", "tag:master"), ("tidegate:rollback-on/web-5xx", "yes")];
    world.state().ecs.set_tags(WEB, &tags);
    world.state().alarms.insert(ALARM.into(), "OK".into());
}

fn now(world: &World) -> String {
    let now = DateTime::<Utc>::from_timestamp_millis((world.seconds() * 1000.0) as i64).unwrap();
    now.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The alarm goes off: its event.
fn alarm(world: &World) -> Value {
    let (time, seconds) = (now(world), world.seconds());
    world.state().alarms.insert(ALARM.into(), "ALARM".into());
    world.state().alarms_since.insert(ALARM.into(), seconds + 0.001);
    json!({
        "version": "0", "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92", "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch", "account": ACCOUNT, "time": time, "region": REGION,
        "resources": [format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{ALARM}")],
        "detail": {
            "alarmName": ALARM, "state": {"value": "ALARM", "reason": "Threshold Crossed", "timestamp": time},
            "previousState": {"value": "OK"},
        },
    })
}

/// A task of this deployment fails: its ARN.
fn fails_of(world: &World, deployment: &str) -> String {
    let failed = json!({
        "startedBy": deployment, "containers": [{"name": "web", "exitCode": 1, "lastStatus": "STOPPED"}],
    });
    world.state().ecs.stop_task(WEB, &failed)
}

/// A task of what runs fails: its event.
fn task_fails(world: &World) -> Value {
    let arn = fails_of(world, &primary(world));
    let mut task = world.state().ecs.tasks[WEB].iter().find(|task| task["taskArn"] == *arn).unwrap().clone();
    task["stoppedAt"] = json!(now(world));
    json!({
        "version": "0", "id": arn, "detail-type": "ECS Task State Change", "source": "aws.ecs", "account": ACCOUNT,
        "time": now(world), "region": REGION, "resources": [arn], "detail": task,
    })
}

/// A person asks for a rollback, with these fields in the detail.
fn asked(world: &World, id: &str, detail: &Value) -> Value {
    let mut event = json!({
        "version": "0", "id": id, "source": "tidegate", "detail-type": "Rollback", "account": ACCOUNT,
        "time": now(world), "region": REGION, "resources": [],
        "detail": {"service": WEB, "reason": "checkout is broken", "actor": "ana"},
    });
    event["detail"].as_object_mut().unwrap().extend(detail.as_object().unwrap().clone());
    event
}

fn running(world: &World) -> String {
    world.state().ecs.running(WEB)
}

fn rule(response: &Value) -> &str {
    response["decisions"][0]["rule"].as_str().unwrap_or_default()
}

/// The event that this deployment has failed.
fn failed(id: &str) -> Value {
    ecs_event("SERVICE_DEPLOYMENT_FAILED", id)
}
