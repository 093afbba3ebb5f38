//! The schedule: it finds what no event told, shows how far a rollout is, and ends what never ends.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{END, WEB, check_told_once, deployed, look, open, published, rest, texts, wait};
use crate::checks::{one_of_each, tagged};
use crate::world::fleet::{self, FOLLOW};
use crate::world::{Call, Fate, HOST, World};
use crate::{NEW, NEWER, ecs_event, externals, push, pushed, records};

const FOLLOWED: (&str, &str) = FOLLOW[0];

fn tag(world: &World, tags: &[(&str, &str)]) {
    world.state().ecs.set_tags(WEB, &[&[FOLLOWED], tags].concat());
}

/// What everybody but Slack was told, in numbers.
fn told_others(world: &World) -> [usize; 4] {
    let state = world.state();
    [state.published.len(), state.hooks.len(), state.events.len(), state.metrics.len()]
}

#[tokio::test(start_paused = true)]
async fn where_everything_is_at_rest_a_look_costs_one_call() {
    let world = pushed();
    look(&world).await;
    assert_eq!(world.operations(), ["Query"]);
    deployed(&world, NEW).await;
    END(&mut world.state().ecs);
    rest(&world).await;
    world.calm();
    look(&world).await;
    assert_eq!(world.operations(), ["Query"]);
}

#[tokio::test(start_paused = true)]
async fn while_one_deployment_rolls_a_look_costs_three_calls_whatever_the_history() {
    let world = pushed();
    for number in 0..30 {
        let digest = format!("sha256:{number:064x}");
        let now = world.seconds() as u64;
        world.state().ecr.push("tides/web", "master", &digest, now);
        deployed(&world, &digest).await;
        wait(60).await;
        END(&mut world.state().ecs);
        rest(&world).await;
    }
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEW, now);
    deployed(&world, NEW).await;
    look(&world).await;
    world.calm();
    look(&world).await;
    assert_eq!(world.operations(), ["Query", "Query", "DescribeServices"], "nothing has happened since");
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_in_slack_and_nowhere_else() {
    let world = pushed();
    world.state().other_sinks = true;
    world.state().ecs.services.get_mut(WEB).unwrap()["desiredCount"] = json!(2);
    deployed(&world, NEW).await;
    look(&world).await;
    let before = told_others(&world);
    for (running, failed, shown) in [(1, 0, "1 of 2 tasks running"), (1, 3, "1 of 2 tasks running, 3 failed")] {
        world.state().ecs.set_progress(WEB, running, failed);
        for _ in 0..2 {
            look(&world).await;
        }
        assert!(texts(&world)[0].contains(shown), "{:?}", texts(&world));
        let versions = world.state().slack.values().next().unwrap().len();
        assert_eq!(versions, if failed == 0 { 2 } else { 3 }, "an edit for each news");
    }
    assert_eq!(told_others(&world), before);
    assert_eq!(records(&world)[0]["version"], 2);
    END(&mut world.state().ecs);
    rest(&world).await;
    assert_eq!((published(&world), texts(&world).len()), (vec!["rolling".to_owned(), "succeeded".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn without_slack_s_token_progress_is_told_to_nobody() {
    let world = pushed();
    world.state().slack_secret = "https://hooks.slack.com/services/T0/B0/secret".into();
    deployed(&world, NEW).await;
    for minute in 0..8 {
        world.state().ecs.set_progress(WEB, minute % 3, 0);
        look(&world).await;
    }
    assert_eq!(world.count("webhook"), 1, "that it takes long");
    END(&mut world.state().ecs);
    rest(&world).await;
    assert_eq!(world.count("webhook"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_intention_that_nobody_takes_up_is_given_up_after_an_hour() {
    for at in ["RegisterTaskDefinition", "UpdateService"] {
        let world = pushed();
        world.fates(move |call, _| if call.operation == at { Fate::KilledBefore } else { Fate::Answered });
        world.invoke("deploy", &push(NEW)).await;
        world.calm();
        world.state().ecs.set_tags(WEB, &[("team", "tides")]);
        for _ in 0..60 {
            look(&world).await;
        }
        assert_eq!((&records(&world)[0]["state"], texts(&world).len()), (&json!("intended"), 0), "{at}");
        rest(&world).await;
        assert_eq!(records(&world)[0]["state"], "failed");
        let texts = texts(&world);
        assert!(texts.len() == 1 && texts[0].contains("never confirmed"), "{texts:?}");
        let item = &world.state().table.items("SERVICE")[0];
        assert_eq!((&item["lease_until"], &item["digest"]), (&json!(0), &json!("")));

        // Who follows again gets what is new.
        tag(&world, &[]);
        let now = world.seconds() as u64;
        world.state().ecr.push("tides/web", "master", NEWER, now);
        deployed(&world, NEWER).await;
        assert_eq!(records(&world)[1]["state"], "rolling");
    }
}

#[tokio::test(start_paused = true)]
async fn an_intention_that_somebody_is_at_work_on_is_not_given_up() {
    let world = pushed();
    world.fates(|call, _| if call.operation == "UpdateService" { Fate::KilledBefore } else { Fate::Answered });
    world.invoke("deploy", &push(NEW)).await;
    world.calm();
    wait(4000).await;
    let event = push(NEW);
    world.fates(|call, _| match call.operation.as_str() {
        "UpdateService" => Fate::Late(Duration::from_secs(8)),
        _ => Fate::Answered,
    });
    tokio::join!(async { world.deliver("deploy", &event).await.unwrap() }, async {
        wait(1).await;
        look(&world).await;
    });
    assert_eq!(records(&world)[0]["state"], "rolling");
}

/// Many decisions not to deploy have come since.
#[tokio::test(start_paused = true)]
async fn a_record_behind_the_newest_of_the_history_is_found() {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    let body =
        json!({"family": "web", "containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{NEW}")}]});
    for number in 0..30 {
        wait(60).await;
        world.state().ecs.register(&body);
        let (revision, now) = (world.state().ecs.newest("web"), world.seconds());
        world.state().ecs.deploy_by_others(WEB, &revision, now, "COMPLETED");
        world.deliver("deploy", &crate::checks::sweep()).await.unwrap();
        assert_eq!(externals(&world).len(), number + 2);
    }
    assert_eq!(records(&world)[0]["state"], "rolling", "nobody has told");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    rest(&world).await;
    let record = &records(&world)[0];
    assert_eq!(record["state"], "superseded", "{record}");
    assert!(world.count("GetItem") > 0);
}

#[tokio::test(start_paused = true)]
async fn each_decision_not_to_deploy_is_told_once_and_laid_to_rest() {
    for it in one_of_each() {
        let world = it.world();
        for event in [push(NEW), tagged(WEB), crate::checks::sweep()] {
            world.deliver("deploy", &event).await.unwrap();
        }
        let expected = usize::from(it.rule != "not-active");
        assert_eq!(open(&world).len(), expected, "{}", it.name);
        for _ in 0..3 {
            look(&world).await;
        }
        assert_eq!((open(&world).len(), texts(&world).len()), (0, expected), "{}", it.name);
        for text in texts(&world) {
            let reason: String = records(&world)[0]["reason"].as_str().unwrap().chars().take(20).collect();
            assert!(text.contains("not deployed") && text.contains(&reason), "{}: {text}", it.name);
        }
        assert_eq!(world.state().metrics.len(), 0, "{}: nothing has run", it.name);
        assert_eq!(world.state().published.len(), expected, "{}", it.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_and_an_event_at_once_make_one_message() {
    for delay in [0, 6, 12, 18, 25, 40] {
        let world = pushed();
        world.state().other_sinks = true;
        let id = deployed(&world, NEW).await;
        END(&mut world.state().ecs);
        let event = ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id);
        tokio::join!(async { world.deliver("notify", &event).await.unwrap() }, async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            look(&world).await
        });
        rest(&world).await;
        assert_eq!((texts(&world).len(), world.count("chat.postMessage")), (1, 1), "{delay}");
        assert_eq!(world.state().hooks.len(), 1, "{delay}");
        check_told_once(&world, &format!("{delay} ms later"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_that_is_behind_the_table_harms_nothing() {
    let world = pushed();
    world.state().table.hold_indexes();
    let id = deployed(&world, NEW).await;
    END(&mut world.state().ecs);
    look(&world).await;
    assert_eq!(records(&world)[0]["state"], "rolling", "it is not in the index yet");
    world.state().table.release_indexes();
    world.state().table.hold_indexes();
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    let told = (records(&world), texts(&world), told_others(&world));
    for _ in 0..3 {
        look(&world).await;
    }
    assert_eq!((records(&world), texts(&world), told_others(&world)), told, "it is still in the index");
    world.state().table.release_indexes();
    world.calm();
    look(&world).await;
    assert_eq!(world.operations(), ["Query"]);
}

/// A world with something of everything that is open.
async fn with_everything_open() -> World {
    let world = pushed();
    for name in ["api", "held", "worker"] {
        world.state().ecs.add_service("production", name, "web", &FOLLOW);
    }
    let hold = [FOLLOWED, ("tidegate:hold", "freeze")];
    world.state().ecs.set_tags("production/held", &hold);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    wait(60).await;
    world.state().ecs.roll_back("production/api");
    END(&mut world.state().ecs);
    world.state().ecs.set_progress("production/worker", 1, 0);
    world.calm();
    world
}

fn summary(world: &World) -> BTreeSet<String> {
    let shown = |record: Value| format!("{} {}", record["service"], record["state"]);
    records(world).into_iter().map(shown).collect()
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_a_look_and_the_next_come_to_the_same() {
    let undisturbed = with_everything_open().await;
    undisturbed.invoke("notify", &fleet::sweep()).await.unwrap().unwrap();
    let calls = undisturbed.operations().len();
    let expected = summary(&undisturbed);
    assert_eq!(expected.len(), 4, "{expected:?}");
    // From a message's post, and what is sent at once with it, until it is written down where it is.
    let unknown: Vec<_> = {
        let state = undisturbed.state();
        let is_note = |call: &Call| call.body.to_string().contains("slack_ts = ");
        let posts = (0..calls).filter(|at| state.calls[*at].operation == "chat.postMessage");
        let first = |at: usize| state.calls.iter().position(|call| call.at == state.calls[at].at).unwrap();
        posts.map(|at| first(at)..=at + state.calls[at..].iter().position(is_note).unwrap_or(0)).collect()
    };
    let kills = [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")];
    for at in (0..calls).step_by(2) {
        let world = with_everything_open().await;
        let fate = kills[at / 2 % kills.len()].clone();
        let situation = format!("{fate:?} at call {at}");
        world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
        world.invoke("notify", &fleet::sweep()).await;
        world.calm();
        // Who was killed has the telling for as long as it could have lived.
        wait(180).await;
        for _ in 0..3 {
            look(&world).await;
        }
        assert_eq!(summary(&world), expected, "{situation}");
        let left: Vec<Value> = open(&world).iter().map(|record| record["service"].clone()).collect();
        assert_eq!(left, ["worker"], "{situation}: it goes on");
        let texts = texts(&world);
        // A message whose id was lost is posted again.
        assert!(texts.len() == 4 || texts.len() == 5 && unknown.iter().any(|it| it.contains(&at)), "{situation}");
        for says in ["live", "failed", "1 of 2 tasks running", "not deployed"] {
            assert!(texts.iter().any(|text| text.contains(says)), "{situation}: {says} in {texts:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_can_not_be_read_does_not_stop_the_others() {
    let world = with_everything_open().await;
    world.fates(|call: &Call, _| match call.operation == "DescribeServices" && call.body["services"][0] == "api" {
        true => Fate::Refused(400, "AccessDeniedException"),
        false => Fate::Answered,
    });
    look(&world).await;
    let states = summary(&world);
    assert!(states.contains(r#""web" "succeeded""#) && states.contains(r#""api" "rolling""#), "{states:?}");
    world.calm();
    look(&world).await;
    assert!(summary(&world).contains(r#""api" "failed""#));
}
