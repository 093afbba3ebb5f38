//! What becomes of a deployment, in whatever order ECS's events come, how often, or not at all: one record with one
//! outcome, told once.

mod backlog;
mod formats;
mod sweep;
mod table;
mod two;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::ecs::Ecs;
use crate::world::{World, fleet};
use crate::{NEW, ecs_event, push, pushed, records};

pub(crate) const WEB: &str = "production/web";
const OLD_ID: &str = "ecs-svc/1";

/// Pushes, and lets the deploy function act: the id of the deployment that runs then.
pub(crate) async fn deployed(world: &World, digest: &str) -> String {
    world.deliver("deploy", &push(digest)).await.unwrap();
    primary(world)
}

pub(crate) fn primary(world: &World) -> String {
    world.state().ecs.services[WEB]["deployments"][0]["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The notify function's schedule comes round once; then a minute passes.
pub(crate) async fn look(world: &World) -> Value {
    let response = world.deliver("notify", &fleet::sweep()).await.unwrap();
    wait(60).await;
    response
}

/// The records that the schedule looks at.
pub(crate) fn open(world: &World) -> Vec<Value> {
    let mut records = world.state().table.items("DEPLOYMENT#");
    records.retain(|record| record.get("open").is_some());
    records
}

/// The schedule comes round until nothing is left to do.
pub(crate) async fn rest(world: &World) {
    for _ in 0..10 {
        look(world).await;
        if open(world).is_empty() {
            return;
        }
    }
    panic!("it never comes to rest: {:?}", open(world));
}

/// The text of every message in Slack as it is now, the oldest first.
pub(crate) fn texts(world: &World) -> Vec<String> {
    let state = world.state();
    let newest = state.slack.values().map(|versions| versions.last().unwrap());
    newest.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

/// The states that SNS was told.
fn published(world: &World) -> Vec<String> {
    world.state().published.iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect()
}

/// Sees that nobody was told or counted anything twice.
pub(crate) fn check_told_once(world: &World, situation: &str) {
    let state = world.state();
    let told: Vec<String> = state.published.iter().map(|it| format!("{} {}", it["id"], it["version"])).collect();
    let mut once = told.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), told.len(), "{situation}: SNS was told {told:?}");
    // A rollback is counted too, after what was taken back had gone live.
    let names = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().clone();
    let counted = state
        .metrics
        .iter()
        .flat_map(|line| names(line).into_iter().map(|metric| format!("{} {}", line["record"], metric["Name"])));
    let counted: Vec<String> = counted.collect();
    let once: BTreeSet<&String> = counted.iter().collect();
    assert_eq!(once.len(), counted.len(), "{situation}: {:?}", state.metrics);
}

/// The same event, as the other rule brings it.
pub(crate) fn as_action(event: &Value) -> Value {
    let mut event = event.clone();
    event["detail-type"] = json!("ECS Service Action");
    event
}

/// What ECS does, step by step, which events it sends, and what is true then.
struct Story {
    name: &'static str,
    /// The names of the events, and whether they are about the new deployment.
    events: &'static [(&'static str, bool)],
    steps: &'static [fn(&mut Ecs)],
    state: &'static str,
    undone_by: Option<&'static str>,
    /// What the last message says.
    says: &'static [&'static str],
}

const STARTED: (&str, bool) = ("SERVICE_DEPLOYMENT_IN_PROGRESS", true);
const COMPLETED: (&str, bool) = ("SERVICE_DEPLOYMENT_COMPLETED", true);
const FAILED: (&str, bool) = ("SERVICE_DEPLOYMENT_FAILED", true);
const BACK: (&str, bool) = ("SERVICE_DEPLOYMENT_IN_PROGRESS", false);
const WENT_BACK: (&str, bool) = ("SERVICE_DEPLOYMENT_COMPLETED", false);

const END: fn(&mut Ecs) = |ecs| {
    ecs.end_rollout(WEB, "COMPLETED");
    ecs.drain(WEB);
};

const STORIES: [Story; 7] = [
    Story {
        name: "it completes",
        events: &[STARTED, COMPLETED],
        steps: &[END],
        state: "succeeded",
        undone_by: None,
        says: &["live after"],
    },
    Story {
        name: "the circuit breaker goes back, which looks like a deployment",
        events: &[STARTED, FAILED, BACK, WENT_BACK],
        steps: &[|ecs| ecs.begin_roll_back(WEB), END],
        state: "failed",
        undone_by: Some("ecs"),
        says: &["failed after", "the circuit breaker threshold was exceeded", "kept serving"],
    },
    Story {
        name: "an alarm goes off",
        events: &[STARTED, FAILED, BACK, WENT_BACK],
        steps: &[
            |ecs| {
                ecs.trigger_alarms(WEB, &["web-5xx"]);
                ecs.begin_roll_back(WEB);
            },
            END,
        ],
        state: "failed",
        undone_by: Some("ecs"),
        says: &["failed after", "web-5xx", "ECS went back to"],
    },
    Story {
        name: "somebody stops it, and ECS goes back",
        events: &[STARTED, FAILED, BACK, WENT_BACK],
        steps: &[|ecs| ecs.begin_roll_back_by_person(WEB), END],
        state: "failed",
        undone_by: Some("others"),
        says: &["stopped by somebody else"],
    },
    Story {
        name: "somebody stops it, and it stays where it is",
        events: &[STARTED, FAILED],
        steps: &[|ecs| {
            ecs.stop_by_person(WEB);
            ecs.services.get_mut(WEB).unwrap()["deployments"][0]["rolloutState"] = json!("FAILED");
        }],
        state: "failed",
        undone_by: Some("others"),
        says: &["stopped by somebody else"],
    },
    Story {
        name: "it fails, and nothing goes back",
        events: &[STARTED, FAILED],
        steps: &[|ecs| ecs.end_rollout(WEB, "FAILED")],
        state: "failed",
        undone_by: None,
        says: &["failed after"],
    },
    Story {
        name: "the service is deleted",
        events: &[STARTED],
        steps: &[|ecs| ecs.delete_service(WEB)],
        state: "failed",
        undone_by: None,
        says: &["the service was deleted before the rollout completed"],
    },
];

/// Every order of every selection of `events`.
fn orders<T: Copy>(events: &[T]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for at in 0..events.len() {
        let others: Vec<T> = [&events[..at], &events[at + 1..]].concat();
        all.extend(orders(&others).into_iter().map(|rest| [vec![events[at]], rest].concat()));
    }
    all
}

/// Plays `story` with these events, ECS coming to the story's steps before the event `moment` and those after it.
async fn play(story: &Story, order: &[(&str, bool)], moment: usize, has_history: bool) -> World {
    let world = pushed();
    world.state().ecs.service_deployments_exist = has_history;
    let id = deployed(&world, NEW).await;
    wait(60).await;
    let mut steps = story.steps.iter();
    let mut is_behind = false;
    for (at, (name, is_new)) in order.iter().enumerate() {
        if at >= moment
            && let Some(step) = steps.next()
        {
            step(&mut world.state().ecs);
        }
        is_behind |= !steps.as_slice().is_empty() && *name == FAILED.0;
        let event = ecs_event(name, if *is_new { &id } else { OLD_ID });
        world.deliver("notify", &event).await.unwrap();
        // Some come twice, and some by both rules.
        match (at + moment) % 3 {
            0 => drop(world.deliver("notify", &as_action(&event)).await.unwrap()),
            1 => drop(world.deliver("notify", &event).await.unwrap()),
            _ => {}
        }
        wait(1).await;
    }
    steps.for_each(|step| step(&mut world.state().ecs));
    rest(&world).await;
    let situation = format!("{}, {order:?}, {moment}, {has_history}", story.name);
    check(story, &world, is_behind || !has_history, &situation);
    let before = (records(&world), texts(&world));
    for (name, is_new) in story.events {
        world.deliver("notify", &ecs_event(name, if *is_new { &id } else { OLD_ID })).await.unwrap();
    }
    assert_eq!((records(&world), texts(&world)), before, "{situation}: it comes again");
    world
}

/// `is_vague`: ECS could not say all when the outcome was judged.
fn check(story: &Story, world: &World, is_vague: bool, situation: &str) {
    let records = records(world);
    assert_eq!(records.len(), 1, "{situation}: {records:?}");
    let record = &records[0];
    assert_eq!(record["state"], story.state, "{situation}: {record}");
    assert_eq!(record["version"], 3, "{situation}: an intention, a rollout, an outcome: {record}");
    let texts = texts(world);
    assert_eq!(texts.len(), 1, "{situation}: {texts:?}");
    if !is_vague {
        assert_eq!(record["undone_by"].as_str(), story.undone_by, "{situation}: {record}");
        for says in story.says {
            assert!(texts[0].contains(says), "{situation}: {}", texts[0]);
        }
    }
    check_told_once(world, situation);
    let state = world.state();
    assert_eq!(state.metrics.len(), 1, "{situation}");
    assert_eq!(state.published.last().unwrap()["state"], story.state, "{situation}");
    assert_eq!(state.rejects, Vec::<Value>::new(), "{situation}");
}

/// Plays `story` in every order of every selection of its events, or in each `stride`th.
async fn play_all(story: &Story, stride: usize) {
    for (at, order) in orders(story.events).iter().enumerate().step_by(stride) {
        play(story, order, at % (order.len() + 1), at % 5 != 1).await;
    }
    play(story, story.events, 1, true).await;
    play(story, &[], 0, false).await;
}

macro_rules! told_in_any_order {
    ($($name:ident: $at:literal,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            Box::pin(play_all(&STORIES[$at], STORIES[$at].events.len() * 2 - 1)).await;
        }
    )*};
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes"]
async fn every_story_ends_well_in_every_order_of_its_events() {
    for story in &STORIES {
        Box::pin(play_all(story, 1)).await;
    }
}

told_in_any_order! {
    a_success_is_told_once_whatever_events_come: 0,
    a_rollback_by_the_circuit_breaker_is_a_failure_whatever_events_come: 1,
    a_rollback_by_alarms_is_a_failure_that_names_them_whatever_events_come: 2,
    a_stop_by_somebody_that_goes_back_is_theirs_whatever_events_come: 3,
    a_stop_by_somebody_that_stays_is_theirs_whatever_events_come: 4,
    a_failure_without_rollback_is_one_whatever_events_come: 5,
    a_deletion_ends_the_record_whatever_events_come: 6,
}
