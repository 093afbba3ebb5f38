//! From an image to its commit, and from a failure to its cause: what people are told, and what they are told without.

use std::time::Duration;

use serde_json::{Value, json};

use crate::outcomes::{WEB, deployed, rest, texts, wait};
use crate::world::{Call, Fate, Image, World};
use crate::{NEW, NEWER, OLD, ecs_event, pushed, records};

const SOURCE: &str = "https://github.com/tides/web";
const OLD_COMMIT: &str = "9d1e0c4a7b2f3e4d5c6b7a8f9e0d1c2b3a4f5e6d";
const COMMIT: &str = "3f9c2ab81d0e4c6f8a7b6c5d4e3f2a1b0c9d8e7f";
const STARTED: &str = "SERVICE_DEPLOYMENT_IN_PROGRESS";

fn of_commit(commit: &str) -> [(&'static str, &str); 3] {
    [
        ("org.opencontainers.image.revision", commit),
        ("org.opencontainers.image.source", SOURCE),
        ("org.opencontainers.image.version", "1.42.0"),
    ]
}

/// The old image is in ECR, and says where it is from; `new` says what the new one says.
fn traceable(new: fn(&mut Image)) -> World {
    let world = pushed();
    let mut state = world.state();
    state.ecr.push("tides/web", "before", OLD, 1_794_000_000);
    state.ecr.image_mut("tides/web", OLD).be_index(&of_commit(OLD_COMMIT), &[]);
    new(state.ecr.image_mut("tides/web", NEW));
    drop(state);
    world
}

/// The blocks of the newest version of the newest message.
fn blocks(world: &World) -> String {
    let state = world.state();
    state.slack.values().last().unwrap().last().unwrap()["blocks"].to_string()
}

async fn told(world: &World) -> Value {
    let id = deployed(world, NEW).await;
    world.deliver("notify", &ecs_event(STARTED, &id)).await.unwrap();
    records(world).remove(0)
}

#[tokio::test(start_paused = true)]
async fn an_image_leads_to_its_commit_and_to_what_has_changed() {
    type Says = (&'static str, fn(&mut Image));
    let ways: [Says; 5] = [
        ("labels of an index's images", |image| image.be_index(&of_commit(COMMIT), &[])),
        ("labels of a single image", |image| image.be_single(&of_commit(COMMIT), &[])),
        ("annotations of a manifest", |image| image.be_single(&[], &of_commit(COMMIT))),
        ("annotations of an index", |image| image.be_index(&[], &of_commit(COMMIT))),
        ("both, of which labels go first", |image| image.be_index(&of_commit(COMMIT), &of_commit(OLD_COMMIT))),
    ];
    for (way, new) in ways {
        let world = traceable(new);
        let record = told(&world).await;
        assert_eq!(record["provenance"]["revision"], COMMIT, "{way}: {record}");
        assert_eq!(record["provenance_from"]["revision"], OLD_COMMIT, "{way}: {record}");
        let blocks = blocks(&world);
        for link in [format!("{SOURCE}/commit/{COMMIT}"), format!("{SOURCE}/compare/{OLD_COMMIT}...{COMMIT}")] {
            assert!(blocks.contains(&link), "{way}: {link} in {blocks}");
        }
        assert!(texts(&world)[0].contains("1.42.0"), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_image_that_was_deleted_leaves_the_commit_of_the_new_one() {
    let world = traceable(|image| image.be_index(&of_commit(COMMIT), &[]));
    world.state().ecr.repositories.get_mut("tides/web").unwrap().remove(OLD);
    let record = told(&world).await;
    assert_eq!((&record["provenance"]["revision"], &record["provenance_from"]), (&json!(COMMIT), &json!({})));
    let blocks = blocks(&world);
    assert!(blocks.contains(&format!("{SOURCE}/commit/{COMMIT}")) && !blocks.contains("/compare/"), "{blocks}");
}

#[tokio::test(start_paused = true)]
async fn what_ran_before_is_known_from_the_history() {
    let world = traceable(|image| image.be_index(&of_commit(COMMIT), &[]));
    told(&world).await;
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    rest(&world).await;
    wait(60).await;
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEWER, now);
    world.state().ecr.image_mut("tides/web", NEWER).be_single(&of_commit("77777777"), &[]);
    let id = deployed(&world, NEWER).await;
    world.calm();
    world.deliver("notify", &ecs_event(STARTED, &id)).await.unwrap();
    let asked: Vec<Value> = {
        let state = world.state();
        let calls = state.calls.iter().filter(|call| call.operation == "BatchGetImage");
        calls.map(|call| call.body["imageIds"][0]["imageDigest"].clone()).collect()
    };
    assert_eq!(asked, [NEWER], "and nothing of the one before");
    let record = records(&world).pop().unwrap();
    assert_eq!((&record["provenance_from"]["revision"], &record["tag_from"]), (&json!(COMMIT), &json!("master")));
    assert!(blocks(&world).contains(&format!("{SOURCE}/compare/{COMMIT}...77777777")));
    // It is in the history for the one after it, and in what is live.
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    assert_eq!(world.state().table.items("LIVE#")[0]["provenance"]["revision"], "77777777");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_can_not_be_found_keeps_no_message_back() {
    let faults: [(&str, Fate, bool); 9] = [
        ("blob", Fate::Hangs, true),
        ("blob", Fate::Late(Duration::from_secs(30)), true),
        ("blob", Fate::Refused(403, "AccessDenied"), true),
        ("blob", Fate::Refused(500, "InternalError"), true),
        ("GetDownloadUrlForLayer", Fate::Refused(400, "AccessDeniedException"), false),
        ("GetDownloadUrlForLayer", Fate::Hangs, true),
        ("BatchGetImage", Fate::Refused(400, "AccessDeniedException"), false),
        ("BatchGetImage", Fate::Refused(400, "ThrottlingException"), true),
        ("BatchGetImage", Fate::Hangs, true),
    ];
    for (operation, fate, may_pass) in faults {
        let situation = format!("{operation}: {fate:?}");
        let world = traceable(|image| image.be_single(&of_commit(COMMIT), &[]));
        let id = deployed(&world, NEW).await;
        world.fates(move |call: &Call, _| if call.operation == operation { fate.clone() } else { Fate::Answered });
        let began = tokio::time::Instant::now();
        world.deliver("notify", &ecs_event(STARTED, &id)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(7), "{situation}: {:?}", began.elapsed());
        assert_eq!(
            (texts(&world).len(), records(&world)[0].get("provenance").is_some()),
            (1, !may_pass),
            "{situation}"
        );
        world.calm();
        world.state().ecs.end_rollout(WEB, "COMPLETED");
        world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
        assert_eq!(blocks(&world).contains("/compare/"), may_pass, "{situation}: the next message has it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_not_what_was_asked_for_is_not_believed() {
    let world = traceable(|image| {
        image.be_single(&of_commit(COMMIT), &[]);
        let forged = image.blobs.values().next().unwrap().replace(COMMIT, OLD_COMMIT);
        image.blobs.values_mut().for_each(|blob| blob.clone_from(&forged));
    });
    let record = told(&world).await;
    assert_eq!((record.get("provenance"), texts(&world).len()), (None, 1), "{record}");
    assert!(!blocks(&world).contains("/commit/"));
}

/// Every text that is kept or sent anywhere.
fn everything(world: &World, response: &Value) -> String {
    let state = world.state();
    let kept = json!([state.table.items(""), state.rejects, state.published, state.chat, state.events, state.metrics]);
    let sent = json!([state.slack, state.slack_threads, state.newrelic, response]);
    let hooks: Vec<&str> = state.hooks.iter().map(|hook| hook.body.as_str()).collect();
    format!("{kept} {sent} {hooks:?}")
}

const SECRETS: [&str; 4] = ["correct-horse-battery", "AKIAIOSFODNN7EXAMPLE", "s3cr3t-of-the-log", "hunter2hunter2"];

/// A service whose container logs to CloudWatch and has a secret in its environment, and whose deployment rolls.
async fn logged() -> (World, String) {
    let world = pushed();
    {
        let mut state = world.state();
        state.other_sinks = true;
        let web = &mut state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"]["containerDefinitions"][0];
        web["environment"] = json!([{"name": "DB_PASSWORD", "value": SECRETS[0]}]);
        web["portMappings"] = json!([{"containerPort": 8080}]);
        web["logConfiguration"] = json!({
            "logDriver": "awslogs",
            "options": {"awslogs-group": "/ecs/web", "awslogs-stream-prefix": "web", "awslogs-region": "eu-west-1"},
        });
    }
    let id = deployed(&world, NEW).await;
    wait(60).await;
    (world, id)
}

/// A task stops, and its container's log ends with `lines`.
fn stop(world: &World, extra: &Value, lines: &[&str]) {
    let arn = world.state().ecs.stop_task(WEB, extra);
    let task = arn.rsplit('/').next().unwrap();
    if !lines.is_empty() {
        world.log("/ecs/web", &format!("web/web/{task}"), lines);
    }
}

fn exited(code: u8) -> Value {
    json!({"containers": [{"name": "web", "exitCode": code, "lastStatus": "STOPPED"}]})
}

/// The circuit breaker goes back: the record then, and the response of the function.
async fn failed(world: &World, id: &str) -> (Value, Value) {
    world.state().ecs.roll_back(WEB);
    let response = world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_FAILED", id)).await.unwrap();
    (records(world).remove(0), response)
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_with_its_cause() {
    let with = |fields: Value| {
        let mut web = json!({"name": "web", "lastStatus": "STOPPED"});
        web.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        web
    };
    let secret = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                  failed: unable to retrieve secret from asm: AccessDeniedException: not authorized";
    let not_pulled = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    let cases = [
        ("exit code", exited(1), "container web exited with code 1"),
        (
            "memory",
            json!({"containers": [with(json!({"exitCode": 137, "reason": "OutOfMemoryError: Container killed"}))]}),
            "container web ran out of memory",
        ),
        (
            "health check",
            json!({
                "stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed container health checks",
                "containers": [with(json!({"exitCode": 137, "healthStatus": "UNHEALTHY"}))],
            }),
            "container web failed its health check",
        ),
        (
            "load balancer",
            json!({
                "stopCode": "ServiceSchedulerInitiated",
                "stoppedReason": "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/6d0ecf831eec9f09)",
                "containers": [with(json!({"exitCode": 137}))],
            }),
            "the load balancer's health checks failed",
        ),
        (
            "secrets",
            json!({"stopCode": "TaskFailedToStart", "stoppedReason": secret, "containers": [with(json!({}))]}),
            "secrets or parameters could not be fetched",
        ),
        (
            "image",
            json!({"stopCode": "TaskFailedToStart", "stoppedReason": not_pulled, "containers": [with(json!({}))]}),
            "the image of container web could not be pulled",
        ),
    ];
    for (name, extra, expected) in cases {
        let (world, id) = logged().await;
        stop(&world, &extra, &["it began", "it ended"]);
        let (record, _) = failed(&world, &id).await;
        let summary = record["diagnosis"]["summary"].as_str().unwrap();
        assert!(summary.contains(expected), "{name}: {record}");
        assert!(texts(&world)[0].contains(expected), "{name}: {:?}", texts(&world));
        let has_run = !["secrets", "image"].contains(&name);
        let lines = &record["diagnosis"]["log"]["lines"];
        assert_eq!(*lines, if has_run { json!(["it began", "it ended"]) } else { Value::Null }, "{name}");
        let threads = world.state().slack_threads.clone();
        let replies: Vec<&Value> = threads.values().flat_map(|thread| thread.values()).flatten().collect();
        assert!(
            !has_run || replies.len() == 1 && replies[0]["blocks"].to_string().contains("it ended"),
            "{name}: {replies:?}"
        );
        let told = world.state().published.last().unwrap()["diagnosis"]["summary"].clone();
        assert_eq!(told, summary, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_of_a_log_or_of_the_environment_leaves_the_account() {
    let (world, id) = logged().await;
    let lines = [
        format!("connecting as tides with {}", SECRETS[0]),
        format!("aws key {} was refused", SECRETS[1]),
        format!("password={}", SECRETS[2]),
        format!("postgres://tides:{}@db.internal/web: no route to host", SECRETS[3]),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let reason = format!("Essential container in task exited, DB_PASSWORD={}", SECRETS[0]);
    let mut extra = exited(1);
    extra["stoppedReason"] = json!(reason);
    stop(&world, &extra, &lines);
    world.state().ecs.add_event(WEB, &format!("(service web) was unable to place a task because {}", SECRETS[0]));
    let (record, response) = failed(&world, &id).await;
    let shown = record["diagnosis"]["log"]["lines"].as_array().unwrap();
    assert_eq!(shown.len(), 4);
    assert!(shown[3].as_str().unwrap().contains("db.internal"), "what helps is left: {shown:?}");
    rest(&world).await;
    assert!(world.state().hooks.len() == 1 && world.state().events.len() == 1);
    let everything = everything(&world, &response);
    for secret in SECRETS {
        assert!(!everything.contains(secret), "{secret} is in {everything}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_found_out_keeps_no_outcome_back() {
    let denied = Fate::Refused(400, "AccessDeniedException");
    let faults: [(&str, Fate, bool, bool); 8] = [
        ("GetLogEvents", denied.clone(), true, false),
        ("GetLogEvents", Fate::Hangs, true, false),
        ("GetLogEvents", Fate::Refused(400, "ThrottlingException"), true, false),
        ("ListTasks", denied.clone(), false, false),
        ("ListTasks", Fate::Hangs, false, false),
        ("DescribeTasks", denied, false, false),
        ("DescribeTasks", Fate::Hangs, false, false),
        ("DescribeTaskDefinition", Fate::Hangs, false, false),
    ];
    for (operation, fate, has_cause, has_log) in faults {
        let situation = format!("{operation}: {fate:?}");
        let (world, id) = logged().await;
        stop(&world, &exited(1), &["it ended"]);
        world.fates(move |call: &Call, _| if call.operation == operation { fate.clone() } else { Fate::Answered });
        let began = tokio::time::Instant::now();
        let (record, _) = failed(&world, &id).await;
        assert!(began.elapsed() < Duration::from_secs(20), "{situation}: {:?}", began.elapsed());
        assert_eq!((&record["state"], texts(&world).len()), (&json!("failed"), 1), "{situation}");
        let diagnosis = &record["diagnosis"];
        assert_eq!(diagnosis.to_string().contains("exited with code 1"), has_cause, "{situation}: {diagnosis}");
        assert_eq!(diagnosis.get("log").is_some(), has_log, "{situation}");
        assert!(texts(&world)[0].contains("circuit breaker"), "{situation}");
    }
}

/// Without tasks, what ECS notes about the service tells.
#[tokio::test(start_paused = true)]
async fn a_service_s_events_tell_where_no_task_does() {
    let (world, id) = logged().await;
    let targets = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/6d0ecf831eec9f09";
    let message = format!(
        "(service web) (port 8080) is unhealthy in (target-group {targets}) due to (reason Health checks failed with \
         these codes: [502])."
    );
    world.state().ecs.add_event(WEB, &message);
    world.state().ecs.trigger_alarms(WEB, &["web-5xx", "web-slow"]);
    let (record, _) = failed(&world, &id).await;
    let diagnosis = &record["diagnosis"];
    assert!(diagnosis["summary"].as_str().unwrap().contains("502"), "{record}");
    assert_eq!(diagnosis["alarms"], json!(["web-5xx", "web-slow"]));
    let threads = world.state().slack_threads.clone();
    let reply = threads.values().next().unwrap().values().next().unwrap()[0].clone();
    assert_eq!(reply["reply_broadcast"], true, "people have met it: {reply}");
}
