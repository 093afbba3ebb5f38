//! What the table and its indexes hold after each story, and that the state machine is kept by conditions.

use aws_smithy_async::time::TimeSource;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::events::ServiceRef;
use shared::record::store::{Store, Written};
use shared::record::{History, Record, State};

use super::{END, STORIES, WEB, deployed, look, open, play, rest, wait};
use crate::world::World;
use crate::{NEW, NEWER, OLD, ecs_event, pushed, records};

fn store(world: &World) -> Store {
    Store::new(aws_sdk_dynamodb::Client::new(&world.sdk()), "history")
}

async fn history(world: &World) -> History {
    let arn = "arn:aws:ecs:eu-west-1:123456789012:service/production/web";
    store(world).history(&ServiceRef::from_arn(arn, None).unwrap()).await.unwrap()
}

fn now(world: &World) -> DateTime<Utc> {
    world.now().into()
}

/// The digests of the records in an index, and of what is live.
fn listed(world: &World, index: &str) -> Vec<String> {
    let items = world.state().table.items("");
    let mut items: Vec<Value> = items.into_iter().filter(|item| item.get(index).is_some()).collect();
    items.sort_by_key(|item| item["id"].to_string());
    items.iter().map(|item| item["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn after_each_story_the_indexes_list_what_they_should() {
    for story in &STORIES {
        for order in [story.events, &[]] {
            let world = play(story, order, 0, true).await;
            let is_live = story.state == "succeeded";
            assert_eq!(listed(&world, "open"), Vec::<String>::new(), "{}", story.name);
            assert_eq!(listed(&world, "day"), [OLD, NEW], "{}: what ran before is recorded too", story.name);
            assert_eq!(listed(&world, "good"), [OLD], "{}: nothing else is proven yet", story.name);
            let running = if is_live { NEW } else { OLD };
            assert_eq!(listed(&world, "live"), [running], "{}", story.name);
            let live = &world.state().table.items("LIVE#")[0];
            assert_eq!((&live["sk"], &live["repository"]), (&json!("LIVE#tides/web"), &json!("tides/web")));
            if is_live {
                let record = &records(&world)[0];
                let of_record = [&record["id"], &record["live_at"], &record["revision_to"], &record["tag"]];
                assert_eq!([&live["record"], &live["since"], &live["task_definition"], &live["tag"]], of_record);
            }
            let day = now(&world).date_naive();
            let of_day = store(&world).deployments_of(day).await.unwrap();
            assert_eq!(of_day.iter().map(|it| it.digest.as_str()).collect::<Vec<_>>(), [OLD, NEW]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_not_to_deploy_is_in_no_index_but_that_of_the_open_ones() {
    let world = pushed();
    world.state().ecs.set_tags(WEB, &[("tidegate:follow/tides/web", "master"), ("tidegate:hold", "freeze")]);
    deployed(&world, NEW).await;
    let record = &records(&world)[0];
    let lists = |record: &Value| ["open", "day", "good"].map(|index| record.get(index).is_some());
    assert_eq!((lists(record), record["state"].as_str()), ([true, false, false], Some("skipped")));
    assert!(record["expires_at"].is_u64());
    rest(&world).await;
    assert_eq!(lists(&records(&world)[0]), [false; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_rolls_is_neither_good_nor_live() {
    let world = pushed();
    deployed(&world, NEW).await;
    look(&world).await;
    assert_eq!((listed(&world, "open"), listed(&world, "good")), (vec![NEW.to_owned()], vec![OLD.to_owned()]));
    assert_eq!(listed(&world, "live"), [OLD]);
}

/// As the rollback of what was live does it.
#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_good_no_more() {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    END(&mut world.state().ecs);
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    let live = history(&world).await.records.remove(0);
    store(&world).baked(&live, now(&world)).await.unwrap().unwrap();
    assert_eq!(listed(&world, "good"), [OLD, NEW]);
    let seen = history(&world).await;
    let before = &seen.records[0];
    let taken_back = before.advanced(State::RolledBack, "an alarm", now(&world)).unwrap();
    assert_eq!(store(&world).advance(&seen, before, &taken_back).await.unwrap(), Written::Yes);
    assert_eq!((listed(&world, "good"), listed(&world, "open")), (vec![OLD.to_owned()], vec![NEW.to_owned()]));
    rest(&world).await;
    let told: Vec<Value> = world.state().published.iter().map(|it| it["state"].clone()).collect();
    assert_eq!(told, ["succeeded", "rolled_back"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_judge_at_once_one_writes() {
    let world = pushed();
    deployed(&world, NEW).await;
    let seen = history(&world).await;
    let before = &seen.records[0];
    let outcome = |state| before.advanced(state, "as seen by one of two", now(&world)).unwrap();
    for (state, written) in [
        (State::Failed, Written::Yes),
        (State::Succeeded, Written::Outrun),
        (State::Superseded, Written::Outrun),
        (State::Failed, Written::Outrun),
    ] {
        assert_eq!(store(&world).advance(&seen, before, &outcome(state)).await.unwrap(), written, "{state:?}");
    }
    assert_eq!((&records(&world)[0]["state"], &records(&world)[0]["version"]), (&json!("failed"), &json!(3)));
    assert_eq!((listed(&world, "good"), listed(&world, "live")), (vec![OLD.to_owned()], vec![OLD.to_owned()]));
    // Who reads again is refused by the state machine.
    let record = &history(&world).await.records[0];
    for state in [State::Rolling, State::Succeeded, State::Superseded, State::Failed, State::RolledBack] {
        assert_eq!(record.advanced(state, "", now(&world)), None, "{state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_live_is_never_an_older_one() {
    let world = pushed();
    for digest in [NEW, NEWER] {
        let now = world.seconds() as u64;
        world.state().ecr.push("tides/web", "master", digest, now);
        deployed(&world, digest).await;
        wait(60).await;
    }
    let seen = history(&world).await;
    let [newer, older] = [&seen.records[0], &seen.records[1]];
    let done = |record: &Record| record.advanced(State::Succeeded, "", now(&world)).unwrap();
    assert_eq!(store(&world).advance(&seen, newer, &done(newer)).await.unwrap(), Written::Yes);
    assert_eq!(listed(&world, "live"), [NEWER]);
    // Whoever has not seen that is refused, and whoever has does not touch it.
    assert_eq!(store(&world).advance(&seen, older, &done(older)).await.unwrap(), Written::Outrun);
    let seen = history(&world).await;
    assert_eq!(store(&world).advance(&seen, older, &done(older)).await.unwrap(), Written::Yes);
    assert_eq!((listed(&world, "live"), listed(&world, "good").len()), (vec![NEWER.to_owned()], 1));
    assert_eq!(open(&world).len(), 2, "nobody has been told");
}
