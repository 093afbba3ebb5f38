//! Much that is open at once, and what stays open because it can't be told.

use std::time::Duration;

use aws_smithy_async::time::TimeSource;
use serde_json::Value;
use shared::events::ServiceRef;
use shared::record::store::{Guarding, Store};
use shared::record::{History, Record, ServiceItem, State, record_id};

use super::{END, deployed, look, open, primary, published, wait};
use crate::world::{Fate, World};
use crate::{NEW, ecs_event, pushed, records};

/// A world with as many more records in this state, each of a service of its own, which is gone.
async fn with_records(count: usize, state: State) -> World {
    let world = pushed();
    let store = Store::new(aws_sdk_dynamodb::Client::new(&world.sdk()), "history");
    let now = world.now().into();
    for number in 0..count {
        let service = format!("arn:aws:ecs:eu-west-1:123456789012:service/production/gone-{number:03}");
        let service = ServiceRef::from_arn(&service, None).unwrap();
        let record = Record {
            started_at: Some(now),
            ecs_deployment_id: Some(format!("ecs-svc/9{number}")),
            ..Record::new(&service, record_id(&service, "test", 1, now), state, now)
        };
        store.write(&History::default(), &ServiceItem::default(), &[&record], Guarding::Not).await.unwrap();
    }
    wait(60).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_ends_a_look_early_and_not_the_work() {
    let world = with_records(30, State::Rolling).await;
    world.fates(|call, _| match call.operation.as_str() {
        "Publish" => Fate::Late(Duration::from_secs(8)),
        _ => Fate::Answered,
    });
    let response = look(&world).await;
    let summary = response["decisions"].as_array().unwrap().last().unwrap()["reason"].as_str().unwrap();
    assert_eq!(summary, "the sweep has looked at 12 of 30 services with something to do");
    for _ in 0..3 {
        look(&world).await;
    }
    assert_eq!((open(&world).len(), published(&world).len(), world.state().timed_out), (0, 30, 0));
}

/// A sink that is out of order keeps records open for a day; they must not be in the way of the others.
#[tokio::test(start_paused = true)]
async fn two_hundred_records_that_can_not_be_told_do_not_hide_what_has_just_happened() {
    let world = with_records(210, State::Rolling).await;
    world.fates(|call, _| match call.operation.as_str() {
        "chat.postMessage" => Fate::Refused(200, "channel_not_found"),
        _ => Fate::Answered,
    });
    look(&world).await;
    assert_eq!((open(&world).len(), published(&world).len(), world.state().timed_out), (210, 210, 0));
    assert!(records(&world).iter().all(|record| record["state"] == "failed"));
    deployed(&world, NEW).await;
    END(&mut world.state().ecs);
    look(&world).await;
    assert_eq!(records(&world).iter().filter(|record| record["state"] == "succeeded").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_day_nobody_is_told_any_more_and_the_record_is_at_rest() {
    let world = pushed();
    let id = deployed(&world, NEW).await;
    END(&mut world.state().ecs);
    world.fates(|call, _| match call.operation.as_str() {
        "chat.postMessage" => Fate::Refused(200, "channel_not_found"),
        _ => Fate::Answered,
    });
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
    assert_eq!(world.state().rejects.len(), 1);
    for _ in 0..23 {
        wait(3600).await;
        look(&world).await;
        assert_eq!(open(&world).len(), 1);
    }
    wait(7200).await;
    look(&world).await;
    assert_eq!(open(&world), Vec::<Value>::new());
    assert!(world.count("chat.postMessage") > 20);
    assert_eq!((published(&world).len(), primary(&world)), (1, id));
    assert_eq!(world.state().rejects.len(), 1, "a look rejects nothing");
}
