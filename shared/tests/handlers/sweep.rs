//! What the sweep finds, what it costs, and where it stops.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::fleet::{FOLLOW, sweep, tag_change};
use crate::world::{Call, Fate, World};
use crate::{NEW, NEWER, OLD, ecs_event, externals, image, push, pushed, records};

/// Sweeps once, as the schedule does, and waits for the next time. The response; `None` if the sweep was killed.
async fn swept(world: &World) -> Option<Value> {
    let response = world.invoke("deploy", &sweep()).await.map(Result::unwrap);
    tokio::time::sleep(Duration::from_secs(300)).await;
    response
}

/// What the sweep says of itself.
fn summary(response: &Value) -> &str {
    response["decisions"].as_array().unwrap().last().unwrap()["reason"].as_str().unwrap()
}

/// Where the next sweep goes on; empty: from the beginning.
fn cursor(world: &World) -> String {
    let place = world.state().table.items("SWEEP");
    place.first().map_or(String::new(), |place| place["after"].as_str().unwrap().to_owned())
}

/// How often each operation was called.
fn costs(world: &World) -> BTreeMap<String, usize> {
    let mut costs = BTreeMap::new();
    for operation in world.operations() {
        *costs.entry(operation).or_default() += 1;
    }
    costs
}

fn costs_of(costs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    costs.iter().map(|(operation, count)| ((*operation).to_owned(), *count)).collect()
}

/// Services in `production` that the tag has left behind: every ten of a family of their own.
fn behind(count: usize) -> World {
    let world = World::fleet(&["production"], count, OLD, |_, number| format!("f{}", number / 10));
    world.state().ecr.push("tides/web", "master", NEW, 1_794_819_500);
    world
}

fn running(world: &World, digest: &str) -> usize {
    let state = world.state();
    state.ecs.services.keys().filter(|service| state.ecs.running(service) == image(digest)).count()
}

fn rollouts(world: &World, service: &str) -> usize {
    world.state().ecs.services[service]["deployments"].as_array().unwrap().len() - 1
}

#[tokio::test(start_paused = true)]
async fn what_no_event_told_is_found() {
    for event in [sweep(), tag_change("production/web")] {
        let world = pushed();
        let response = world.deliver("deploy", &event).await.unwrap();
        assert_eq!(response["decisions"][0]["action"], "deploy", "{response}");
        assert_eq!(world.state().ecs.running("production/web"), image(NEW));
        let origin = if event == sweep() { "sweep" } else { "tags" };
        assert_eq!((&records(&world)[0]["origin"], &records(&world)[0]["tag"]), (&json!(origin), &json!("master")));

        let before = (records(&world), world.state().ecs.clone());
        world.deliver("deploy", &sweep()).await.unwrap();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        assert_eq!((records(&world), world.state().ecs.clone()), before, "and it was found once");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_deploy_is_recorded_once_with_the_names_of_what_they_changed() {
    for (rollout, state) in [("COMPLETED", "succeeded"), ("IN_PROGRESS", "rolling")] {
        let world = pushed();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        let mut changed = world.body("RegisterTaskDefinition");
        changed["containerDefinitions"][0]["environment"][0]["value"] = json!("hunter2");
        changed["memory"] = json!("512");
        world.state().ecs.register(&changed);
        let (revision, now) = (world.state().ecs.newest("web"), world.seconds() + 1.0);
        let id = world.state().ecs.deploy_by_others("production/web", &revision, now, rollout);
        for _ in 0..3 {
            swept(&world).await.unwrap();
        }
        let found = externals(&world);
        assert_eq!(found.len(), 2, "the one that was there at first, and this one");
        let found = &found[1];
        assert_eq!((&found["state"], &found["ecs_deployment_id"]), (&json!(state), &json!(id)));
        assert_eq!((&found["digest"], &found["revision_to"]), (&json!(NEW), &json!(revision)));
        assert_eq!(found["changed_by_others"], json!(["containerDefinitions[web].environment[EMPTY]", "memory"]));
        assert!(!found.to_string().contains("hunter2"));
        assert_eq!(rollouts(&world, "production/web"), 2, "it runs the digest that is followed, and is left alone");

        world.state().ecs.end_rollout("production/web", "COMPLETED");
        world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
        assert_eq!(externals(&world)[1]["state"], "succeeded");
        assert_eq!(records(&world)[0]["state"], "superseded", "ours has its outcome too");
    }
}

/// Other tools put back what a person took away.
#[tokio::test(start_paused = true)]
async fn who_goes_back_by_hand_is_not_fought_and_the_next_image_is_deployed() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (revision, now) = ("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:1", world.seconds());
    let others = world.state().ecs.deploy_by_others("production/web", revision, now, "IN_PROGRESS");
    for event in [sweep(), push(NEW), sweep()] {
        world.deliver("deploy", &event).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(OLD));
    }
    let recorded = |world: &World| {
        let found = externals(world).into_iter().find(|found| found["ecs_deployment_id"] == others.as_str()).unwrap();
        found["state"].clone()
    };
    let skipped: Vec<Value> = records(&world).into_iter().filter(|record| record["state"] == "skipped").collect();
    assert_eq!((recorded(&world), skipped.len()), (json!("rolling"), 1));
    assert!(skipped[0]["reason"].as_str().unwrap().contains("set and remove tidegate:hold"));

    world.deliver("deploy", &tag_change("production/web")).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEW), "its owner has touched the tags");

    let now = world.seconds() + 60.0;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.state().ecs.deploy_by_others("production/web", revision, now, "COMPLETED");
    world.state().ecr.push("tides/web", "master", NEWER, 1_794_819_600);
    world.deliver("deploy", &push(NEWER)).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
    let ours = world.state().ecs.services["production/web"]["deployments"][0]["id"].as_str().unwrap().to_owned();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &ours)).await.unwrap();
    assert_eq!(recorded(&world), "superseded");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_quiet_services_cost_forty_four_calls_and_no_write() {
    let world = World::fleet(&["production", "staging"], 100, OLD, |cluster, _| cluster.to_owned());
    swept(&world).await.unwrap();
    assert_eq!(externals(&world).len(), 200, "what was there is known from now on");
    world.calm();
    let response = swept(&world).await.unwrap();
    assert_eq!(summary(&response), "the sweep has looked at all 200 services that follow a repository");
    assert_eq!(response["decisions"].as_array().unwrap().len(), 1, "no news");
    let quiet =
        [("BatchGetItem", 20), ("DescribeImages", 1), ("DescribeServices", 20), ("GetItem", 1), ("GetResources", 2)];
    assert_eq!(costs(&world), costs_of(&quiet));

    // One of them is held while its tag moves: it costs its own calls, every time.
    let follow = [("tidegate:follow/tides/web", "tag:next"), ("tidegate:hold", "not yet")];
    world.state().ecs.set_tags("staging/s042", &follow);
    world.state().ecr.push("tides/web", "next", NEW, 1_794_819_500);
    swept(&world).await.unwrap();
    world.calm();
    swept(&world).await.unwrap();
    let restless = [
        ("BatchGetItem", 20),
        ("DescribeImages", 3),
        ("DescribeServices", 21),
        ("DescribeTaskDefinition", 1),
        ("GetItem", 1),
        ("GetResources", 2),
        ("Query", 1),
    ];
    assert_eq!(costs(&world), costs_of(&restless));
}

#[tokio::test(start_paused = true)]
async fn every_page_of_services_is_looked_at() {
    let world = behind(250);
    for number in 0..245 {
        world.state().ecs.set_tags(&format!("production/s{number:03}"), &[("team", "others")]);
    }
    let response = swept(&world).await.unwrap();
    assert_eq!(summary(&response), "the sweep has looked at all 5 services that follow a repository");
    assert_eq!((running(&world, NEW), world.count("GetResources")), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_sweep_ends_early_and_the_next_one_goes_on_behind_it() {
    for operation in [
        "DescribeServices",
        "BatchGetItem",
        "Query",
        "DescribeImages",
        "DescribeTaskDefinition",
        "TransactWriteItems",
        "RegisterTaskDefinition",
        "UpdateService",
    ] {
        let world = behind(30);
        let mut pages = 0;
        // Each page is described twice: to see whether it is quiet, and to see it again with its history.
        world.fates(move |call, _| {
            pages += usize::from(call.operation == "DescribeServices");
            match pages > 2 && call.operation == operation {
                true => Fate::Refused(400, "ThrottlingException"),
                false => Fate::Answered,
            }
        });
        let response = swept(&world).await.unwrap();
        assert!(summary(&response).starts_with("the sweep has looked at 10 of 30"), "{operation}: {response}");
        assert!(summary(&response).contains("ThrottlingException"), "{operation}: {response}");
        assert_eq!((running(&world, NEW) / 10, cursor(&world).as_str()), (1, "production/s009"), "{operation}");

        world.calm();
        swept(&world).await.unwrap();
        let first = world.state().calls.iter().find(|call| call.operation == "DescribeServices").unwrap().body.clone();
        assert_eq!(first["services"][0], "s010", "{operation}");
        assert_eq!((running(&world, NEW), cursor(&world).as_str()), (30, ""), "{operation}");
        assert_eq!(world.state().rejects, Vec::<Value>::new(), "{operation}");
        assert!((0..30).all(|number| rollouts(&world, &format!("production/s{number:03}")) == 1), "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_can_not_read_or_keep_its_place_is_no_error_either() {
    for (operation, updated) in [("GetResources", 0), ("GetItem", 0), ("PutItem", 20)] {
        let world = behind(30);
        world.fates(move |call, _| match call.operation == operation || call.body["service"] == "s020" {
            true => Fate::Refused(400, "ThrottlingException"),
            false => Fate::Answered,
        });
        let response = swept(&world).await.unwrap();
        assert!(summary(&response).contains("ended early"), "{operation}: {response}");
        assert_eq!((running(&world, NEW) / 10 * 10, cursor(&world).as_str()), (updated, ""), "{operation}");
        world.calm();
        swept(&world).await.unwrap();
        assert_eq!((running(&world, NEW), world.state().rejects.len()), (30, 0), "{operation}");
    }
}

/// The order of clusters, `p` before `p-eu`, is not that of what services are called: `p-eu/…` sorts before `p/…`.
#[tokio::test(start_paused = true)]
async fn short_sweeps_come_round_to_every_service() {
    let world = World::fleet(&["p", "p-eu", "q"], 20, OLD, |_, _| "web".to_owned());
    world.state().ecr.push("tides/web", "master", NEW, 1_794_819_500);
    world.state().time_out = Duration::from_secs(50);
    for (sweep, place) in ["p/s019", "p-eu/s019", "q/s019"].into_iter().enumerate() {
        world.fates(|call, _| match call.operation.as_str() {
            "BatchGetItem" => Fate::Late(Duration::from_secs(4)),
            _ => Fate::Answered,
        });
        let response = swept(&world).await.unwrap();
        assert!(
            summary(&response).contains("20 of 60 services and ended early, because its time was up"),
            "{response}"
        );
        assert_eq!((running(&world, NEW), cursor(&world).as_str()), (20 * (sweep + 1), place));
    }
    world.calm();
    swept(&world).await.unwrap();
    assert_eq!((cursor(&world).as_str(), world.state().timed_out), ("", 0), "a whole round ends at the beginning");
}

#[tokio::test(start_paused = true)]
async fn sweeps_and_pushes_beside_each_other_make_one_rollout_each() {
    for other in [sweep(), push(NEW), tag_change("production/s003")] {
        let world = behind(12);
        for delay in [0, 7, 23, 41] {
            let swept = sweep();
            let (first, second) = tokio::join!(world.deliver("deploy", &swept), async {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                world.deliver("deploy", &other).await
            });
            first.unwrap();
            second.unwrap();
        }
        assert_eq!(running(&world, NEW), 12);
        assert!((0..12).all(|number| rollouts(&world, &format!("production/s{number:03}")) == 1));
        assert_eq!((records(&world).len(), externals(&world).len()), (12, 12));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_service_stops_no_other_and_the_sweep_leaves_it_alone_for_an_hour() {
    let world = behind(12);
    let refuse = |call: &Call, _| match call.operation == "UpdateService" && call.body["service"] == "s003" {
        true => Fate::Refused(400, "AccessDeniedException"),
        false => Fate::Answered,
    };
    world.fates(refuse);
    swept(&world).await.unwrap();
    assert_eq!((running(&world, NEW), world.state().rejects.len()), (11, 1));
    let failed = || records(&world).into_iter().filter(|record| record["state"] == "failed").count();
    assert_eq!(failed(), 1);

    for _ in 0..10 {
        swept(&world).await.unwrap();
    }
    assert_eq!((failed(), world.state().rejects.len()), (1, 1), "within the hour it is not tried again");
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!((failed(), world.state().rejects.len()), (2, 2), "but a replayed push does try");

    world.calm();
    for _ in 0..11 {
        swept(&world).await.unwrap();
    }
    assert_eq!(running(&world, NEW), 11);
    for _ in 0..2 {
        swept(&world).await.unwrap();
    }
    assert_eq!(running(&world, NEW), 12, "an hour later the sweep tries again");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_may_not_be_read_stops_no_service_of_another() {
    let world = World::fleet(&["production"], 10, OLD, |_, _| "web".to_owned());
    world.state().ecs.set_tags("production/s000", &[("tidegate:follow/tides/private", "tag:master")]);
    let deny = |call: &Call, _| match call.body["repositoryName"] == "tides/private" {
        true => Fate::Refused(400, "AccessDeniedException"),
        false => Fate::Answered,
    };
    world.fates(|_, _| Fate::Answered);
    swept(&world).await.unwrap();
    world.fates(deny);
    world.state().ecr.push("tides/web", "master", NEW, 1_794_819_500);
    swept(&world).await.unwrap();
    assert_eq!(running(&world, NEW), 9);
}

#[tokio::test(start_paused = true)]
async fn what_ecs_takes_back_is_not_deployed_by_sweeps() {
    for told in [true, false] {
        let world = pushed();
        world.deliver("deploy", &push(NEW)).await.unwrap();
        let id = records(&world)[0]["ecs_deployment_id"].as_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_secs(100)).await;
        world.state().ecs.begin_roll_back("production/web");
        swept(&world).await.unwrap();
        world.state().ecs.end_rollout("production/web", "COMPLETED");
        world.state().ecs.drain("production/web");
        if told {
            world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_FAILED", &id)).await.unwrap();
        }
        for _ in 0..3 {
            swept(&world).await.unwrap();
        }
        assert_eq!(world.count("UpdateService"), 1, "told: {told}");
        assert_eq!(world.state().ecs.running("production/web"), image(OLD));
        assert_eq!(externals(&world).len(), 1, "the old deployment is known");
        let item = world.state().table.items("SERVICE")[0].clone();
        assert_eq!((&item["digest"], &item["ecs_deployment_id"]), (&json!(""), &json!("ecs-svc/1")), "told: {told}");

        world.state().ecr.push("tides/web", "master", NEWER, 1_794_830_000);
        swept(&world).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(NEWER), "a newer image is deployed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_not_to_deploy_is_recorded_once_however_often_it_is_swept() {
    for (key, value, rule) in [
        ("tidegate:hold", "holiday freeze", "held: holiday freeze"),
        ("tidegate:mode", "notify", "mode is notify"),
        ("tidegate:mode", "atuo", "`atuo` is no mode"),
    ] {
        let world = pushed();
        world.state().ecs.set_tags("production/web", &[FOLLOW[0], (key, value)]);
        for _ in 0..3 {
            swept(&world).await.unwrap();
        }
        let skipped = records(&world);
        assert_eq!((skipped.len(), world.count("UpdateService")), (1, 0), "{value}");
        assert!(skipped[0]["reason"].as_str().unwrap().contains(rule), "{}", skipped[0]);

        world.state().ecs.set_tags("production/web", &FOLLOW);
        swept(&world).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{value}: found when it was changed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_or_has_an_arn_of_old_stops_no_other() {
    let world = pushed();
    let old_arn = json!({"serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/legacy"});
    world.state().ecs.add_service_with("production", "legacy", "web", &FOLLOW, &old_arn);
    world.state().ecs.add_service("production", "gone", "web", &FOLLOW);
    let leaving = world.clone();
    world.fates(move |call, _| {
        if call.operation == "GetResources" {
            leaving.later(|state| state.ecs.delete_service("production/gone"));
        }
        Fate::Answered
    });
    let response = swept(&world).await.unwrap();
    assert_eq!(summary(&response), "the sweep has looked at all 2 services that follow a repository");
    assert_eq!(world.state().ecs.running("production/web"), image(NEW));
    assert_eq!(world.state().ecs.running("production/legacy"), image(OLD), "its cluster can't be told");
    assert_eq!(world.state().rejects, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_the_next_sweep_or_tag_change_ends_what_was_begun() {
    let undisturbed = behind(2);
    swept(&undisturbed).await.unwrap();
    let calls = undisturbed.operations().len();
    for kill in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")] {
        for at in 0..calls {
            let next = if at % 2 == 0 { sweep() } else { tag_change("production/s000") };
            let world = behind(2);
            let fate = kill.clone();
            world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
            swept(&world).await;
            world.deliver("deploy", &next).await.unwrap();
            swept(&world).await.unwrap();

            let situation = format!("{kill:?} at call {at}, then {}", next["detail-type"]);
            assert_eq!(running(&world, NEW), 2, "{situation}");
            let services = ["production/s000", "production/s001"];
            assert_eq!(services.map(|service| rollouts(&world, service)), [1, 1], "{situation}");
            let states: Vec<Value> = records(&world).iter().map(|record| record["state"].clone()).collect();
            assert_eq!(states, ["rolling", "rolling"], "{situation}");
            assert!(world.state().table.items("SERVICE").iter().all(|item| item["lease_until"] == 0), "{situation}");
            assert_eq!((externals(&world).len(), world.state().rejects.len()), (2, 0), "{situation}");
        }
    }
}

/// The handler dies, and when somebody looks again the image is not wanted any more.
#[tokio::test(start_paused = true)]
async fn what_a_dead_handler_left_behind_gets_its_outcome() {
    let held = [FOLLOW[0], ("tidegate:hold", "holiday freeze")];
    for (kill, wanted, tags, state, left) in [
        (Fate::KilledBefore, OLD, &FOLLOW[..], "skipped", OLD),
        (Fate::KilledBefore, NEW, &held, "skipped", OLD),
        (Fate::KilledAfter, NEWER, &held, "rolling", NEW),
    ] {
        let world = behind(1);
        let fate = kill.clone();
        world.fates(move |call, _| if call.operation == "UpdateService" { fate.clone() } else { Fate::Answered });
        assert_eq!(swept(&world).await, None);
        world.calm();
        world.state().ecr.push("tides/web", "master", wanted, 1_794_830_000);
        world.state().ecs.set_tags("production/s000", tags);
        for _ in 0..2 {
            swept(&world).await.unwrap();
        }
        let situation = format!("{kill:?}, {tags:?}");
        let of_new = records(&world).into_iter().find(|record| record["digest"] == NEW).unwrap();
        assert_eq!((of_new["state"].as_str().unwrap(), running(&world, left)), (state, 1), "{situation}: {of_new}");
        assert_eq!(world.state().table.items("SERVICE")[0]["lease_until"], 0, "{situation}");
        assert_eq!(externals(&world).len(), 1, "{situation}: the one that was there at first");

        world.state().ecr.push("tides/web", "master", NEWER, 1_794_840_000);
        world.state().ecs.set_tags("production/s000", &FOLLOW);
        swept(&world).await.unwrap();
        assert_eq!(running(&world, NEWER), 1, "{situation}: it goes on from there");
    }
}
