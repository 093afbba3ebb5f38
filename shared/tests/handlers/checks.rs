//! Why nothing is deployed: each check with its reason, what it leaves behind, and what happens once the cause is mended.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{ACCOUNT, Call, Fate, HOST, REGION, State, World};
use crate::{NEW, NEWER, OLD, decision, ecs_event, image, push, pushed, records};

const FOLLOW: (&str, &str) = ("tidegate:follow/tides/web", "tag:master");
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tides/db-a1b2c3";

pub(crate) fn sweep() -> Value {
    json!({"source": "tidegate", "detail-type": "Sweep", "detail": {}})
}

/// The tags of a service were changed.
pub(crate) fn tagged(service: &str) -> Value {
    json!({
        "id": "bb2b8a36-1c6c-4f1c-9d38-8a4a0e8d5b5e", "source": "aws.tag", "detail-type": "Tag Change on Resource",
        "account": ACCOUNT, "region": REGION, "time": "2026-11-16T08:59:58Z",
        "resources": [format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{service}")],
        "detail": {"changed-tag-keys": ["tidegate:hold"], "service": "ecs", "resource-type": "service"},
    })
}

/// The revision that `production/web` runs at first.
fn definition(state: &mut State) -> &mut Value {
    &mut state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"]
}

fn service(state: &mut State) -> &mut Value {
    state.ecs.services.get_mut("production/web").unwrap()
}

fn tag(state: &mut State, tags: &[(&str, &str)]) {
    state.ecs.set_tags("production/web", &[&[FOLLOW], tags].concat());
}

/// As [`pushed`], with all that can be checked, and nothing amiss.
pub(crate) fn furnished() -> World {
    let world = pushed();
    let mut state = world.state();
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/tides/{name}");
    let parameter = |name: &str| format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name}");
    let body = definition(&mut state);
    body["runtimePlatform"] = json!({"operatingSystemFamily": "LINUX", "cpuArchitecture": "ARM64"});
    (body["executionRoleArn"], body["taskRoleArn"]) = (json!(role("pull")), json!(role("task")));
    body["containerDefinitions"][0]["secrets"] = json!([
        {"name": "DB", "valueFrom": format!("{SECRET}:password::")}, {"name": "KEY", "valueFrom": "/web/key"},
        {"name": "TOKEN", "valueFrom": parameter("web/token")}, {"name": "FLAG", "valueFrom": parameter("flag")},
    ]);
    state.roles.extend(["pull", "task"].map(str::to_owned));
    state.secrets.insert(SECRET.into(), false);
    state.parameters.extend(["/web/key", "/web/token", "flag"].map(str::to_owned));
    state.alarms.extend(["web-5xx", "web-slow"].map(|name| (name.to_owned(), "OK".to_owned())));
    state.composite_alarms.insert("web-all".into(), "OK".into());
    tag(&mut state, &[("tidegate:rollback-on/web-slow", "yes"), ("tidegate:rollback-on/web-all", "yes")]);
    service(&mut state)["deploymentConfiguration"]["alarms"] = json!({"alarmNames": ["web-5xx"], "enable": true});
    drop(state);
    world
}

type Change = fn(&mut State);

/// A way in which a deployment is stopped, and one of mending it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static str,
    reason: &'static str,
    pub(crate) cause: Change,
    mend: Change,
}

impl Case {
    pub(crate) fn world(&self) -> World {
        let world = furnished();
        (self.cause)(&mut world.state());
        world
    }
}

fn case(name: &'static str, rule: &'static str, reason: &'static str, cause: Change, mend: Change) -> Case {
    Case { name, rule, reason, cause, mend }
}

fn point_master(state: &mut State) {
    state.ecr.push("tides/web", "master", NEWER, 1_794_819_700);
}

/// Somebody brings the service to a new revision with an image of the repository.
fn mend_by_hand(state: &mut State) {
    let body =
        json!({"family": "web", "containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web:1")}]});
    state.ecs.register(&body);
    let revision = state.ecs.newest("web");
    state.ecs.deploy_by_others("production/web", &revision, 1_794_819_700.0, "COMPLETED");
}

/// Makes the document so long that `room` bytes are left to ECS's limit once the image is pinned.
fn fill(state: &mut State, room: usize) {
    let size = |state: &mut State| {
        let mut body = definition(state).clone();
        for field in ["taskDefinitionArn", "revision", "status", "registeredAt", "compatibilities"] {
            body.as_object_mut().unwrap().remove(field);
        }
        body["containerDefinitions"][0]["image"] = json!(image(NEW));
        body.to_string().len()
    };
    definition(state)["containerDefinitions"][0]["image"] = json!(format!("{HOST}/tides/web:1"));
    definition(state)["containerDefinitions"][0]["command"] = json!([""]);
    let filler = "x".repeat(65_536 - room - size(state));
    definition(state)["containerDefinitions"][0]["command"] = json!([filler]);
}

/// Fills the document up to one byte more than fits with the digest; without, it has room.
fn overfill(state: &mut State) {
    fill(state, 1);
    let command = &mut definition(state)["containerDefinitions"][0]["command"][0];
    *command = json!(format!("{}xx", command.as_str().unwrap()));
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    vec![
        case("platform", "platform", "asks for linux/arm64, and the image has linux/amd64; build it for linux/arm64 too",
            |it| { let image = it.ecr.image_mut("tides/web", NEW); image.manifest = image.manifest.replace("arm64", "amd64"); }, point_master),
        case("archived", "archived", "in ECR's archive and can't be pulled; restore it, or push",
            |it| it.ecr.image_mut("tides/web", NEW).archived = true, |it| it.ecr.image_mut("tides/web", NEW).archived = false),
        case("too large", "too-large", "would have 65537 bytes; ECS takes 65,536: shorten it", overfill, |it| fill(it, 0)),
        case("CodeDeploy", "controller", "controller is CODE_DEPLOY",
            |it| service(it)["deploymentController"]["type"] = json!("CODE_DEPLOY"), |it| service(it)["deploymentController"]["type"] = json!("ECS")),
        case("external controller", "controller", "controller is EXTERNAL",
            |it| service(it)["deploymentController"]["type"] = json!("EXTERNAL"), |it| service(it)["deploymentController"]["type"] = json!("ECS")),
        case("draining", "not-active", "DRAINING, not ACTIVE", |it| service(it)["status"] = json!("DRAINING"), |it| service(it)["status"] = json!("ACTIVE")),
        case("inactive", "not-active", "INACTIVE, not ACTIVE", |it| service(it)["status"] = json!("INACTIVE"), |it| service(it)["status"] = json!("ACTIVE")),
        case("no repository", "no-repository", "spelt like the repository", |it| it.ecr.repositories.clear(), point_master),
        case("no such tag", "nothing-selected", "has the tag master; push one", |it| it.ecr.untag("tides/web", "master"), point_master),
        case("no such prefix", "nothing-selected", "selected by prefix:mas; push one, or change the follow tag",
            |it| { it.ecr.untag("tides/web", "master"); it.ecs.set_tags("production/web", &[(FOLLOW.0, "prefix:mas")]); }, point_master),
        case("a chart under the tag", "not-an-image", "not a container image; follow a tag that names an image",
            |it| it.ecr.image_mut("tides/web", NEW).artifact_media_type = Some("application/vnd.cncf.helm.config.v1+json".into()), point_master),
        case("revision deleted", "revision-gone", "task definition web:1 that the service runs was deleted",
            |it| { let arn = it.ecs.newest("web"); it.ecs.delete_revision(&arn); }, mend_by_hand),
        case("no container of ours", "no-container", "is the follow tag on the right service?",
            |it| definition(it)["containerDefinitions"][0]["image"] = json!("tides/web:1"), mend_by_hand),
        case("execution role missing", "dependencies", "could not start: the role pull does not exist; mend that",
            |it| { it.roles.remove("pull"); }, |it| { it.roles.insert("pull".into()); }),
        case("task role missing", "dependencies", "the role task does not exist",
            |it| { it.roles.remove("task"); }, |it| { it.roles.insert("task".into()); }),
        case("secret missing", "dependencies", "the secret tides/db-a1b2c3 does not exist", |it| it.secrets.clear(), |it| { it.secrets.insert(SECRET.into(), false); }),
        case("secret going", "dependencies", "the secret tides/db-a1b2c3 is scheduled for deletion",
            |it| { it.secrets.insert(SECRET.into(), true); }, |it| { it.secrets.insert(SECRET.into(), false); }),
        case("parameter missing by name", "dependencies", "the parameter /web/key does not exist",
            |it| { it.parameters.remove("/web/key"); }, |it| { it.parameters.insert("/web/key".into()); }),
        case("parameter missing by ARN", "dependencies", "the parameter /web/token does not exist",
            |it| { it.parameters.remove("/web/token"); }, |it| { it.parameters.insert("/web/token".into()); }),
        case("parameter without a path missing by ARN", "dependencies", "the parameter /flag does not exist",
            |it| { it.parameters.remove("flag"); }, |it| { it.parameters.insert("flag".into()); }),
        case("all missing", "dependencies", "the role pull does not exist; the role task does not exist; the secret",
            |it| { it.roles.clear(); it.secrets.clear(); },
            |it| { it.roles.extend(["pull", "task"].map(str::to_owned)); it.secrets.insert(SECRET.into(), false); }),
        case("deployment alarm", "alarm", "web-5xx is in ALARM already, so ECS would not heed it",
            |it| { it.alarms.insert("web-5xx".into(), "ALARM".into()); }, |it| { it.alarms.insert("web-5xx".into(), "OK".into()); }),
        case("alarm by tag", "alarm", "web-slow is in ALARM",
            |it| { it.alarms.insert("web-slow".into(), "ALARM".into()); }, |it| { it.alarms.insert("web-slow".into(), "OK".into()); }),
        case("composite alarm", "alarm", "web-all is in ALARM",
            |it| { it.composite_alarms.insert("web-all".into(), "ALARM".into()); }, |it| { it.composite_alarms.insert("web-all".into(), "INSUFFICIENT_DATA".into()); }),
        case("hold", "held", "the service is held: holiday freeze; remove its tag tidegate:hold", |it| tag(it, &[("tidegate:hold", "holiday freeze")]), |it| tag(it, &[])),
        case("hold without a reason", "held", "held: no reason given", |it| tag(it, &[("tidegate:hold", " ")]), |it| tag(it, &[])),
        case("notify", "notify-mode", "would be deployed in mode auto", |it| tag(it, &[("tidegate:mode", "notify")]), |it| tag(it, &[("tidegate:mode", "auto")])),
        case("mode", "tags", "tidegate:mode: `atuo` is no mode; use auto or notify", |it| tag(it, &[("tidegate:mode", "atuo")]), |it| tag(it, &[])),
        case("misspelt", "tags", "tidegate:holld: Tidegate knows no such tag", |it| tag(it, &[("tidegate:holld", "x")]), |it| tag(it, &[])),
        case("channel", "tags", "tidegate:channel: the value is empty", |it| tag(it, &[("tidegate:channel", "")]), |it| tag(it, &[])),
        case("no alarm", "tags", "the key names no alarm", |it| tag(it, &[("tidegate:rollback-on/", "yes")]), |it| tag(it, &[])),
        case("not yes", "tags", "`no` is not `yes`", |it| tag(it, &[("tidegate:rollback-on/web-5xx", "no")]), |it| tag(it, &[])),
        case("no name", "tags", "names no repository", |it| tag(it, &[("tidegate:follow/", "master")]), |it| tag(it, &[])),
        case("empty", "tags", "names no tag", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "")]), |it| tag(it, &[])),
        case("no tag", "tags", "`tag:` names no tag", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "tag:")]), |it| tag(it, &[])),
        case("no prefix", "tags", "`prefix:` names no prefix", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "prefix:")]), |it| tag(it, &[])),
        case("glob", "tags", "`glob:` is no policy; use tag:", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "glob:v*")]), |it| tag(it, &[])),
        case("two words", "tags", "has a space in its tag", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "two words")]), |it| tag(it, &[])),
        case("a bare number", "tags", "`1` is no version range; write 1.x", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "semver:1")]), |it| tag(it, &[])),
        case("two ranges", "tags", "write any, or one like 1.x", |it| it.ecs.set_tags("production/web", &[(FOLLOW.0, "semver:^1.2")]), |it| tag(it, &[])),
    ]
}

/// One case for each rule.
pub(crate) fn one_of_each() -> Vec<Case> {
    let mut cases = cases();
    cases.dedup_by_key(|it| it.rule);
    cases
}

fn contains(value: &Value, part: &str) -> bool {
    value.as_str().unwrap_or_default().contains(part)
}

fn running(world: &World) -> String {
    world.state().ecs.running("production/web")
}

/// Where the tag `master` leads in the end.
fn goal(world: &World) -> String {
    let state = world.state();
    let mut images = state.ecr.repositories["tides/web"].values();
    image(&images.find(|image| image.tags.contains("master")).unwrap().digest)
}

#[tokio::test(start_paused = true)]
async fn each_check_stops_says_why_once_and_is_found_mended_by_the_sweep() {
    for it in cases() {
        let (name, world) = (it.name, it.world());
        let before = world.state().ecs.clone();
        let response = world.deliver("deploy", &push(NEW)).await.unwrap();
        let decided = decision(&response);
        assert_eq!((&decided["rule"], &decided["action"]), (&json!(it.rule), &json!("skip")), "{name}: {response}");
        assert!(contains(&decided["reason"], it.reason), "{name}: {response}");
        let recorded = records(&world);
        let shown = |record: &Value| ["state", "reason", "id", "digest"].map(|field| record[field].clone());
        let skipped = [json!("skipped"), decided["reason"].clone(), decided["record"].clone(), json!(NEW)];
        let expected = if it.rule == "not-active" { vec![] } else { vec![skipped] };
        assert_eq!(recorded.iter().map(shown).collect::<Vec<_>>(), expected, "{name}");
        for event in [sweep(), push(NEW), tagged("production/web")] {
            world.deliver("deploy", &event).await.unwrap();
            assert_eq!(records(&world), recorded, "{name}: again, by {}", event["detail-type"]);
        }
        assert_eq!(world.state().ecs, before, "{name}: nothing was registered or updated");

        (it.mend)(&mut world.state());
        for _ in 0..2 {
            world.deliver("deploy", &sweep()).await.unwrap();
        }
        assert_eq!(running(&world), goal(&world), "{name}");
        assert_eq!((world.count("UpdateService"), records(&world).len()), (1, recorded.len() + 1), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_check_that_stopped_a_push_is_found_mended_by_its_replay() {
    for it in one_of_each() {
        let world = it.world();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        (it.mend)(&mut world.state());
        for _ in 0..2 {
            world.deliver("deploy", &push(NEW)).await.unwrap();
        }
        assert_eq!(running(&world), goal(&world), "{}", it.name);
        assert_eq!(world.count("UpdateService"), 1, "{}", it.name);
    }
}

#[tokio::test(start_paused = true)]
async fn who_changes_the_tags_is_told_each_reason_before_anything_is_pushed() {
    for it in cases().into_iter().filter(|it| it.rule != "not-active") {
        let world = it.world();
        for event in [tagged("production/web"), sweep(), tagged("production/web")] {
            let response = world.deliver("deploy", &event).await.unwrap();
            assert!(event == sweep() || decision(&response)["rule"] == it.rule, "{}: {response}", it.name);
            let records = records(&world);
            assert_eq!(records.len(), 1, "{}: {records:?}", it.name);
            assert!(contains(&records[0]["reason"], it.reason), "{}: {records:?}", it.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_ecs_refuses_is_tried_again_by_the_sweep_after_an_hour_and_not_before() {
    let world = pushed();
    world.fates(|call, _| match call.operation == "UpdateService" {
        true => Fate::Refused(400, "AccessDeniedException"),
        false => Fate::Answered,
    });
    world.deliver("deploy", &push(NEW)).await.unwrap();
    for (minutes, attempts) in [(1, 0), (50, 0), (10, 1), (1, 0), (62, 1)] {
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
        let before = world.count("UpdateService");
        world.deliver("deploy", &sweep()).await.unwrap();
        assert_eq!(world.count("UpdateService") - before, attempts, "after {minutes} minutes more");
    }
    world.calm();
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    world.deliver("deploy", &sweep()).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEW));
}

#[tokio::test(start_paused = true)]
async fn a_service_or_cluster_that_is_deleted_meanwhile_is_skipped() {
    for deleted in ["service", "cluster"] {
        let world = pushed();
        let meanwhile = world.clone();
        world.fates(move |call, _| match (call.operation.as_str(), deleted) {
            ("GetResources", "service") => {
                meanwhile.later(|state| state.ecs.delete_service("production/web"));
                Fate::Answered
            }
            ("DescribeServices", "cluster") => Fate::Refused(400, "ClusterNotFoundException"),
            _ => Fate::Answered,
        });
        let response = world.deliver("deploy", &push(NEW)).await.unwrap();
        assert_eq!((&decision(&response)["rule"], records(&world).len()), (&json!("gone"), 0), "{deleted}: {response}");
        assert_eq!((world.count("RegisterTaskDefinition"), world.state().rejects.len()), (0, 0), "{deleted}");
    }
}

/// Deploys, and says in how many seconds and with which notes.
async fn deployed(world: &World, name: &str) -> (f64, Vec<String>) {
    let start = world.seconds();
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(decision(&response)["action"], "deploy", "{name}: {response}");
    assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{name}");
    let notes = &records(world)[0]["notes"];
    assert_eq!(notes, &decision(&response)["notes"], "{name}");
    (world.seconds() - start, serde_json::from_value(notes.clone()).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_checked_is_said_and_stops_nothing() {
    let causes: &[(&str, &str, Change)] = &[
        ("nothing amiss", "", |_| {}),
        ("exactly as large as ECS takes", "", |it| fill(it, 0)),
        ("a single manifest", "platform: not checked, because the manifest of a single image", |it| {
            it.ecr.image_mut("tides/web", NEW).manifest = json!({"config": {}, "layers": []}).to_string();
        }),
        ("an unreadable manifest", "platform: not checked, because its manifest is not JSON", |it| {
            it.ecr.image_mut("tides/web", NEW).manifest = "<html>".into();
        }),
        ("no platform is asked for", "platform: not checked, because the task definition has no complete", |it| {
            definition(it)["runtimePlatform"].take();
        }),
        ("a secret of another Region", "secret db: not checked, because the secret db is in another", |it| {
            let far = format!("arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:db");
            definition(it)["containerDefinitions"][0]["secrets"][0]["valueFrom"] = json!(far);
        }),
        ("a role of another account", "role pull: not checked, because the role pull is in another account", |it| {
            definition(it)["executionRoleArn"] = json!("arn:aws:iam::210987654321:role/pull");
        }),
        ("an alarm is missing", "alarm web-slow: it does not exist, so it watches nothing", |it| {
            it.alarms.remove("web-slow");
        }),
        ("all revisions are INACTIVE", "", |it| {
            let arn = it.ecs.newest("web");
            it.ecs.deregister(&arn);
        }),
        ("a newer revision is ACTIVE, and ours is not", "", |it| {
            let arn = it.ecs.newest("web");
            it.ecs.deregister(&arn);
            it.ecs.register(&json!({"family": "web", "containerDefinitions": [{"name": "experiment", "image": "x"}]}));
        }),
    ];
    for (name, expected, cause) in causes {
        let world = furnished();
        cause(&mut world.state());
        let (_, notes) = deployed(&world, name).await;
        assert_eq!(notes.len(), usize::from(!expected.is_empty()), "{name}: {notes:?}");
        assert!(notes.concat().contains(expected), "{name}: {notes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_denied_throttled_or_hangs_costs_a_note_and_little_time() {
    let fates = [
        Fate::Refused(400, "AccessDeniedException"),
        Fate::Refused(400, "ThrottlingException"),
        Fate::Late(Duration::from_secs(60)),
        Fate::Refused(500, "InternalServerError"),
    ];
    for (operation, expected) in [
        ("BatchGetImage", "platform: not checked"),
        ("GetRole", "role pull: not checked"),
        ("DescribeSecret", "secret tides/db-a1b2c3: not checked"),
        ("DescribeParameters", "parameter /web/token: not checked"),
        ("DescribeAlarms", "alarms: not checked"),
    ] {
        for fate in &fates {
            let (name, world, fate) = (format!("{operation} {fate:?}"), furnished(), fate.clone());
            world.fates(move |call, _| if call.operation == operation { fate.clone() } else { Fate::Answered });
            let (seconds, notes) = deployed(&world, &name).await;
            assert!(notes.iter().any(|note| note.starts_with(expected)), "{name}: {notes:?}");
            assert!(seconds < 12.0, "{name} took {seconds} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_ecs_goes_back_nothing_is_deployed_and_the_sweep_does_it_afterwards() {
    let world = pushed();
    mend_by_hand(&mut world.state());
    world.state().ecs.begin_roll_back("production/web");
    for event in [push(NEW), sweep()] {
        let response = world.deliver("deploy", &event).await.unwrap();
        let decided = response["decisions"].as_array().unwrap();
        assert!(event == sweep() || decided[0]["rule"] == "rolling-back", "{response}");
        assert_eq!((world.count("UpdateService"), records(&world).len()), (0, 0));
    }
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    for _ in 0..2 {
        world.deliver("deploy", &sweep()).await.unwrap();
    }
    assert_eq!((world.count("UpdateService"), records(&world).len()), (1, 1));
    assert_eq!(world.state().ecs.running("production/web"), image(NEW));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_in_progress_of_another_digest_is_superseded() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    point_master(&mut world.state());
    world.deliver("deploy", &push(NEWER)).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
    let newest = records(&world)[1]["ecs_deployment_id"].as_str().unwrap().to_owned();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &newest)).await.unwrap();
    let states: Vec<Value> = records(&world).iter().map(|record| record["state"].clone()).collect();
    assert_eq!(states, ["superseded", "rolling"]);
}

#[tokio::test(start_paused = true)]
async fn of_three_pushes_during_a_hold_the_newest_is_deployed_once_when_it_goes() {
    for finally in [vec![tagged("production/web")], vec![sweep()], vec![tagged("production/web"), sweep(), push(NEWER)]]
    {
        let world = pushed();
        tag(&mut world.state(), &[("tidegate:hold", "holiday freeze")]);
        for (at, digest) in [(1, NEW), (2, OLD.replace('9', "8").as_str()), (3, NEWER)].iter().copied() {
            world.state().ecr.push("tides/web", "master", digest, 1_794_819_600 + at);
            for event in [push(digest), tagged("production/web"), push(digest), sweep()] {
                world.deliver("deploy", &event).await.unwrap();
            }
        }
        let candidates: BTreeSet<String> = records(&world).iter().map(|it| it["digest"].to_string()).collect();
        assert_eq!((records(&world).len(), candidates.len()), (3, 3), "each candidate is recorded once");
        assert_eq!((&records(&world)[2]["digest"], world.count("UpdateService")), (&json!(NEWER), 0));

        tag(&mut world.state(), &[]);
        futures_util::future::join_all(finally.iter().map(|event| world.deliver("deploy", event))).await;
        assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
        assert_eq!((world.count("UpdateService"), records(&world).len()), (1, 4));
    }
}

/// The newest decision not to deploy is remembered for each repository, not for the service.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_for_two_repositories_gets_one_record_for_each() {
    let causes: [(&str, Change); 2] = [
        ("held", |it| {
            it.ecs.set_tags("production/web", &[FOLLOW, ("tidegate:follow/tides/proxy", "v1"), ("tidegate:hold", "x")])
        }),
        ("dependencies", |it| {
            it.roles.clear();
            it.ecs.set_tags("production/web", &[FOLLOW, ("tidegate:follow/tides/proxy", "v1")]);
        }),
    ];
    for (name, cause) in causes {
        let world = furnished();
        definition(&mut world.state())["containerDefinitions"][1]["image"] = json!(format!("{HOST}/tides/proxy:v0"));
        world.state().ecr.push("tides/proxy", "v1", NEWER, 100);
        cause(&mut world.state());
        for _ in 0..4 {
            world.deliver("deploy", &sweep()).await.unwrap();
        }
        let recorded = records(&world);
        let repositories: Vec<&Value> = recorded.iter().map(|record| &record["repository"]).collect();
        assert_eq!(repositories, ["tides/proxy", "tides/web"], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_changed_is_named_and_kept_and_our_own_deployments_name_nothing() {
    for by_sweep in [false, true] {
        let world = pushed();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        world.state().ecs.end_rollout("production/web", "COMPLETED");
        tokio::time::sleep(Duration::from_secs(60)).await;

        let mut body = world.state().ecs.families["web"][1]["taskDefinition"].clone();
        body["cpu"] = json!("512");
        body["containerDefinitions"][0]["environment"] = json!([{"name": "LOG_LEVEL", "value": "TELL-TALE"}]);
        let now = world.seconds();
        let revision = world.state().ecs.register(&body)["taskDefinition"]["taskDefinitionArn"].clone();
        world.state().ecs.deploy_by_others("production/web", revision.as_str().unwrap(), now, "COMPLETED");
        if by_sweep {
            world.deliver("deploy", &sweep()).await.unwrap();
        }
        point_master(&mut world.state());
        world.calm();
        world.deliver("deploy", &push(NEWER)).await.unwrap();

        let variables = "containerDefinitions[web].environment";
        let changed = json!([
            format!("{variables}[EMPTY] (removed)"),
            format!("{variables}[LOG_LEVEL] (added)"),
            "cpu",
            "tags[team]"
        ]);
        let last = records(&world).pop().unwrap();
        assert_eq!(last["changed_by_others"], changed, "by sweep: {by_sweep}");
        let registered = world.body("RegisterTaskDefinition");
        assert_eq!(
            (&registered["cpu"], &registered["containerDefinitions"][0]["environment"][0]["value"]),
            (&json!("512"), &json!("TELL-TALE"))
        );
        assert!(!world.state().table.items("").iter().any(|item| item.to_string().contains("TELL-TALE")));

        world.state().ecs.end_rollout("production/web", "COMPLETED");
        world.state().ecr.push("tides/web", "master", NEW, 1_794_819_900);
        world.deliver("deploy", &push(NEW)).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(NEW));
        assert_eq!(records(&world).pop().unwrap().get("changed_by_others"), None, "that was nobody but us");
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_the_task_definition_appear_nowhere() {
    let refuse = |operation: &'static str| {
        move |call: &Call, _| match call.operation == operation {
            true => Fate::Refused(400, "InvalidParameterException"),
            false => Fate::Answered,
        }
    };
    let mut situations: Vec<(&str, World)> = one_of_each().iter().map(|it| (it.name, it.world())).collect();
    for operation in ["none", "RegisterTaskDefinition", "UpdateService", "GetRole"] {
        let world = furnished();
        world.fates(refuse(operation));
        situations.push((operation, world));
    }
    for (name, world) in situations {
        if let Some(body) = world.state().ecs.families.get_mut("web").and_then(|all| all[0].get_mut("taskDefinition")) {
            let container = &mut body["containerDefinitions"][0];
            container["environment"] = json!([{"name": "PASSWORD", "value": "TELL-TALE"}]);
            container["dockerLabels"] = json!({"label": "TELL-TALE"});
            container["healthCheck"] = json!({"command": ["CMD", "TELL-TALE"]});
        }
        let asked = json!({"source": "tidegate", "detail-type": "Explain", "detail": {"event": push(NEW)}});
        let mut said = Vec::new();
        for event in [asked, push(NEW), sweep(), tagged("production/web")] {
            said.push(world.deliver("deploy", &event).await.unwrap());
        }
        let id = records(&world).iter().find_map(|record| record["ecs_deployment_id"].as_str().map(str::to_owned));
        let done = ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", id.as_deref().unwrap_or("ecs-svc/1"));
        said.push(world.deliver("notify", &done).await.unwrap());
        let state = world.state();
        let kept = json!([said, state.table.items(""), state.rejects, state.published, state.slack]);
        assert!(!kept.to_string().contains("TELL-TALE"), "{name}: {kept}");
    }
}
