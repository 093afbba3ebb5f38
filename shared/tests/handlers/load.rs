//! Many services at once, within the rates that ECS lets an account have.

use std::time::Duration;

use serde_json::Value;

use crate::world::fleet::{sweep, tag_change};
use crate::world::{Call, Fate, World};
use crate::{NEW, NEWER, OLD, push, records};

const LATER: u64 = 1_794_819_500;

/// Services that the tag `master` of `tides/web` has left behind.
fn behind(clusters: &[&str], count: usize, family: impl Fn(&str, usize) -> String) -> World {
    let world = World::fleet(clusters, count, OLD, family);
    world.state().ecr.push("tides/web", "master", NEW, LATER);
    world
}

fn push_to(repository: &str) -> Value {
    let mut event = push(NEW);
    event["detail"]["repository-name"] = repository.into();
    event
}

fn own(cluster: &str, number: usize) -> String {
    format!("{cluster}-{number}")
}

/// How many services run the new image after one rollout each.
fn done(world: &World) -> usize {
    let state = world.state();
    let is_done = |id: &&String| {
        let rollouts = state.ecs.services[*id]["deployments"].as_array().unwrap().len() - 1;
        assert!(rollouts <= 1, "{id} was rolled out {rollouts} times");
        state.ecs.running(id).ends_with(NEW)
    };
    state.ecs.services.keys().filter(is_done).count()
}

/// How many calls were throttled, and how many invocations took too long.
fn refused(world: &World) -> (usize, usize) {
    let state = world.state();
    (state.throttled, state.timed_out)
}

fn assert_one_revision_for_each_family(world: &World) {
    for (family, revisions) in &world.state().ecs.families {
        assert_eq!(revisions.len(), 2, "revisions of {family}");
    }
}

fn assert_nothing_is_left(world: &World) {
    let state = world.state();
    assert_eq!(state.rejects, Vec::<Value>::new());
    assert!(state.table.items("SERVICE").iter().all(|item| item["lease_until"] == 0));
    assert!(state.table.items("DEPLOYMENT#").iter().all(|record| record["state"] != "intended"));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_followers_are_rolled_out_without_being_throttled_once() {
    let clusters: Vec<String> = (0..20).map(|number| format!("c{number:02}")).collect();
    let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
    let one = |_: &str, _: usize| "web".to_owned();
    // Clusters, services in each, whether each has a family of its own, and the calls that a service may cost.
    for (clusters, count, has_own, time_out, most) in [
        (&["production"][..], 100, true, 300, 6.5),
        (&["production"], 100, true, 60, 6.5),
        (&["production"], 100, false, 300, 4.5),
        (&clusters, 5, false, 300, 4.5),
    ] {
        let world = if has_own { behind(clusters, count, own) } else { behind(clusters, count, one) };
        world.state().time_out = Duration::from_secs(time_out);
        world.deliver("deploy", &push(NEW)).await.unwrap();

        let situation = format!("{} clusters, own families: {has_own}, {time_out} s", clusters.len());
        assert_eq!((done(&world), records(&world).len()), (100, 100), "{situation}");
        assert_one_revision_for_each_family(&world);
        assert_nothing_is_left(&world);
        assert_eq!(refused(&world), (0, 0), "{situation}");
        assert_eq!(world.count("UpdateService"), 100, "{situation}");
        // What is handed on is looked at again by each retry.
        let handed_on = world.count("GetResources") - 1;
        let each = (world.operations().len() as f64) / 100.0;
        assert!(each <= most + 1.2 * (handed_on as f64), "{situation}: {each} calls for each service, {handed_on}");
        assert_eq!(handed_on > 0, time_out == 60, "{situation}: handed on {handed_on} times");
    }
}

#[tokio::test(start_paused = true)]
async fn while_others_spend_half_of_what_ecs_allows_nothing_is_lost() {
    let world = behind(&["production"], 100, own);
    world.state().limits.others = 1;
    let mut last = world.deliver("deploy", &push(NEW)).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(300)).await;
        last = world.deliver("deploy", &sweep()).await;
    }
    last.unwrap();
    assert_eq!((done(&world), records(&world).len()), (100, 100));
    assert!(refused(&world).0 > 0, "they were in our way");
    assert_nothing_is_left(&world);
}

#[tokio::test(start_paused = true)]
async fn one_of_a_hundred_that_fails_stops_no_other() {
    let world = behind(&["production"], 100, |_, number| format!("f{}", number % 7));
    let refuse = |call: &Call, _| match call.operation == "UpdateService" && call.body["service"] == "s042" {
        true => Fate::Refused(400, "InvalidParameterException"),
        false => Fate::Answered,
    };
    world.fates(refuse);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!((done(&world), refused(&world)), (99, (0, 0)));
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 1);
    assert!(rejects[0]["cause"].as_str().unwrap().contains("production/s042"));
}

#[tokio::test(start_paused = true)]
async fn two_pushes_at_once_with_sixty_followers_each_are_rolled_out() {
    let world = behind(&["production"], 60, own);
    world.add_fleet("tides/api", &["staging"], 60, OLD, own);
    world.state().ecr.push("tides/api", "master", NEW, LATER);
    let pushes = ["tides/web", "tides/api"].map(push_to);
    let (web, api) = tokio::join!(world.deliver("deploy", &pushes[0]), world.deliver("deploy", &pushes[1]));
    web.unwrap();
    api.unwrap();
    assert_eq!((done(&world), records(&world).len()), (120, 120));
    assert_nothing_is_left(&world);
}

#[tokio::test(start_paused = true)]
async fn what_three_short_invocations_leave_over_is_done_by_sweeps() {
    let world = behind(&["production", "staging"], 150, own);
    let _handed_on: Result<Value, String> = world.deliver("deploy", &push(NEW)).await;
    assert!(done(&world) >= 200, "{} after the push", done(&world));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(300)).await;
        world.deliver("deploy", &sweep()).await.unwrap();
    }
    assert_eq!((done(&world), records(&world).len(), refused(&world).1), (300, 300, 0));
    assert_one_revision_for_each_family(&world);
    assert_nothing_is_left(&world);
}

/// What ECR said for the first services is old when the last ones are looked at.
#[tokio::test(start_paused = true)]
async fn an_older_image_does_not_win_because_the_handler_is_slow() {
    let world = behind(&["production"], 30, |_, _| "web".to_owned());
    world.fates(|call, _| match call.operation == "UpdateService" && call.at < Duration::from_secs(1) {
        true => Fate::Late(Duration::from_secs(8)),
        false => Fate::Answered,
    });
    let (event, tagged) = (push(NEW), tag_change("production/s025"));
    let (slow, fast) = tokio::join!(world.deliver("deploy", &event), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.state().ecr.push("tides/web", "master", NEWER, LATER + 1);
        world.deliver("deploy", &tagged).await
    });
    slow.unwrap();
    fast.unwrap();
    let state = world.state();
    let updates = state.calls.iter().filter(|call| call.operation == "UpdateService" && call.body["service"] == "s025");
    assert_eq!((updates.count(), state.ecs.running("production/s025").ends_with(NEWER)), (1, true));
}
