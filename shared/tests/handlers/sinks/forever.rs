//! A sink that never takes anything.

use aws_smithy_async::time::TimeSource;
use chrono::{DateTime, TimeDelta, Utc};

use tokio::time::Instant;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A sweep every so many minutes until then, in one execution environment: a day has many.
async fn sweeps_until(world: &World, end: Instant, minutes: u64) {
    let notifier = world.function("notify").notifier();
    let pause = Duration::from_secs(60 * minutes);
    while Instant::now() + pause < end {
        tokio::time::sleep(pause).await;
        let deadline = DateTime::<Utc>::from(world.now()) + TimeDelta::minutes(2);
        let handled = notifier.handle(&sweep(), deadline).await;
        assert_eq!(handled.failures, [], "a sweep leaves it to the next");
    }
}

/// When something was sent to `to`: the beginning of each attempt, which may be more than one request.
fn attempts(world: &World, to: To) -> Vec<Duration> {
    let state = world.state();
    let mut attempts: Vec<Duration> = Vec::new();
    for call in state.calls.iter().filter(|call| to.hears(call) || to.reads_secret(call)) {
        if attempts.last().is_none_or(|last| call.at - *last > Duration::from_secs(50)) {
            attempts.push(call.at);
        }
    }
    attempts
}

/// A day and a bit.
#[tokio::test(start_paused = true)]
async fn who_never_takes_it_is_asked_ever_less_and_not_after_a_day() {
    for (to, fate) in [
        (To::Slack, Fate::Refused(200, "channel_not_found")),
        (To::NewRelic, Fate::Refused(503, "oops")),
        (To::Webhook, Fate::Limited(3600)),
    ] {
        let (world, id) = rolling().await;
        world.deliver("notify", &started(&id)).await.unwrap();
        world.fates(always(move |call| to.hears(call), fate.clone()));
        let began = Instant::now();
        let _either = world.deliver("notify", &complete(&world, &id)).await;
        // Sweeps that do nothing yet are left out, to save time.
        sweeps_until(&world, began + HOUR, 1).await;
        sweeps_until(&world, began + 23 * HOUR, 5).await;
        sweeps_until(&world, began + 24 * HOUR, 1).await;
        let of_day = attempts(&world, to);
        assert!((25..40).contains(&of_day.len()), "{to:?}: {of_day:?}");
        assert_eq!(untold(&record(&world)), [to]);
        assert!(record(&world)["open"].is_string());
        // Once the first of them are over, each pause is about as long as it has been tried, up to an hour.
        let pauses: Vec<u64> = of_day.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert!(pauses.windows(2).skip(3).all(|pair| pair[0] <= pair[1] + 360), "{to:?}: {pauses:?}");
        assert!(pauses.iter().all(|pause| (55..=3960).contains(pause)), "{to:?}: {pauses:?}");

        sweeps(&world, 5).await;
        let (all, record) = (attempts(&world, to).len(), record(&world));
        assert_eq!((record["open"].clone(), untold(&record)), (Value::Null, vec![to]), "{to:?} {record}");
        assert_eq!(record.get("telling_until"), None);
        let calls = world.state().calls.len();
        sweeps(&world, 10).await;
        assert_eq!((attempts(&world, to).len(), world.state().calls.len() - calls), (all, 10), "one query each");
        for other in To::ALL.into_iter().filter(|other| *other != to) {
            assert_eq!(other.states(&world), other.expected(&["rolling", "succeeded"]), "{other:?} beside {to:?}");
        }
    }
}

/// What was refused must not keep the next state from the others, nor from who has come round.
#[tokio::test(start_paused = true)]
async fn who_refused_the_beginning_does_not_delay_the_end() {
    let (world, id) = rolling().await;
    world.fates(always(|call| To::Webhook.hears(call), Fate::Refused(410, "gone")));
    world.deliver("notify", &started(&id)).await.unwrap();
    sweeps(&world, 20).await;
    // No event tells that it is over.
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    sweeps(&world, 1).await;
    for other in To::ALL.into_iter().filter(|other| *other != To::Webhook) {
        assert_eq!(other.states(&world), other.expected(&["rolling", "succeeded"]), "{other:?}");
    }
    world.calm();
    sweeps(&world, 3).await;
    assert_eq!(To::Webhook.states(&world), ["succeeded"]);
    assert!(is_at_rest(&record(&world)));
}

/// The progress of a rollout is for Slack, whoever else refuses its beginning.
#[tokio::test(start_paused = true)]
async fn who_refuses_the_beginning_does_not_keep_progress_from_slack() {
    let (world, id) = rolling().await;
    world.fates(always(|call| To::Webhook.hears(call), Fate::Refused(410, "gone")));
    world.deliver("notify", &started(&id)).await.unwrap();
    sweeps(&world, 9).await;
    world.state().ecs.set_progress("production/web", 1, 0);
    sweeps(&world, 2).await;
    let shown = world.state().slack.values().next().unwrap().last().unwrap()["text"].clone();
    assert!(shown.as_str().unwrap().contains("1 of 2 tasks"), "{shown}");
}

/// Nor does it keep a newer deployment from anybody.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_can_not_be_told_is_in_no_other_deployments_way() {
    let (world, id) = rolling().await;
    world.fates(always(|call| To::Sns.hears(call), Fate::Refused(500, "oops")));
    world.deliver("notify", &complete(&world, &id)).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", crate::NEWER, now);
    world.deliver("deploy", &push(crate::NEWER)).await.unwrap();
    let newer = newest_id(&world);
    let _tried_again = world.invoke("notify", &started(&newer)).await;
    let _tried_again = world.invoke("notify", &complete(&world, &newer)).await;
    for to in To::ALL.into_iter().filter(|to| *to != To::Sns) {
        assert_eq!(to.states(&world), to.expected(&["succeeded", "rolling", "succeeded"]), "{to:?}");
    }
    world.calm();
    sweeps(&world, 5).await;
    assert_eq!(To::Sns.states(&world), ["succeeded", "succeeded"], "the newest state of each");
    assert!(records(&world).iter().all(is_at_rest));
}
