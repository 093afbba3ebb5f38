//! Slack with an incoming webhook: what was sent can't be edited, so it is told less.

use super::*;

const URL: &str = "https://hooks.slack.com/services/T0/B0/slack-secret";

async fn rolling_with_webhook() -> (World, String) {
    let (world, id) = rolling().await;
    world.state().slack_secret = URL.into();
    (world, id)
}

fn told(world: &World) -> Vec<String> {
    To::Slack.states(world)
}

#[tokio::test(start_paused = true)]
async fn it_is_told_the_outcome() {
    let (world, id) = rolling_with_webhook().await;
    let first = world.deliver("notify", &started(&id)).await.unwrap();
    sweeps(&world, 3).await;
    assert_eq!(told(&world), Vec::<String>::new());
    let event = complete(&world, &id);
    let second = world.deliver("notify", &event).await.unwrap();
    world.deliver("notify", &event).await.unwrap();
    sweeps(&world, 3).await;
    assert_eq!(told(&world), ["succeeded"]);
    assert_eq!(To::Sns.states(&world), ["rolling", "succeeded"], "others wait for nothing");
    assert!(is_at_rest(&record(&world)));
    shows_no_secret(&world, &[first.to_string(), second.to_string()]);
}

/// Progress is told to nobody who can't edit.
#[tokio::test(start_paused = true)]
async fn a_long_rollout_is_told_at_its_beginning_by_the_sweep_and_at_its_end() {
    for has_event in [true, false] {
        let (world, id) = rolling_with_webhook().await;
        if has_event {
            world.deliver("notify", &started(&id)).await.unwrap();
        }
        sweeps(&world, 4).await;
        assert_eq!(told(&world), Vec::<String>::new());
        sweeps(&world, 2).await;
        assert_eq!(told(&world), ["rolling"]);
        world.state().ecs.set_progress("production/web", 1, 1);
        sweeps(&world, 10).await;
        world.deliver("notify", &started(&id)).await.unwrap();
        assert_eq!(told(&world), ["rolling"]);
        world.state().ecs.end_rollout("production/web", "COMPLETED");
        sweeps(&world, 3).await;
        assert_eq!(told(&world), ["rolling", "succeeded"]);
        assert!(is_at_rest(&record(&world)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_no_thread() {
    let (world, id) = rolling_with_webhook().await;
    sweeps(&world, 6).await;
    world.deliver("notify", &fail(&world, &id)).await.unwrap();
    sweeps(&world, 2).await;
    assert_eq!(told(&world), ["rolling", "failed"]);
    assert_eq!((world.count("chat.postMessage"), world.state().slack_threads.len()), (0, 0));
    assert!(is_at_rest(&record(&world)));
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_sent_again_by_the_sweep() {
    for fate in [Fate::Refused(500, "oops"), Fate::Limited(600), Fate::Lost, Fate::Refused(404, "no_service")] {
        let (world, id) = rolling_with_webhook().await;
        let event = complete(&world, &id);
        world.fates(always(|call| call.operation == "webhook", fate.clone()));
        let response = format!("{:?}", world.deliver("notify", &event).await);
        assert_eq!(To::Sns.states(&world), ["succeeded"]);
        world.calm();
        sweeps(&world, 6).await;
        assert_eq!(told(&world), ["succeeded"], "{fate:?}");
        assert!(is_at_rest(&record(&world)), "{fate:?}");
        shows_no_secret(&world, &[response]);
    }
}

/// What began with a bot token, and the other way round.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_way_to_slack_during_a_rollout_loses_no_outcome() {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    world.state().slack_secret = URL.into();
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    assert_eq!(told(&world), ["rolling", "succeeded"]);
    assert!(is_at_rest(&record(&world)));

    let (world, id) = rolling_with_webhook().await;
    sweeps(&world, 6).await;
    world.state().slack_secret = "xoxb-now".into();
    world.deliver("notify", &fail(&world, &id)).await.unwrap();
    sweeps(&world, 1).await;
    let state = world.state();
    let of_bot: Vec<&Value> = state.slack.iter().filter(|(ts, _)| *ts != "webhook").flat_map(|(_, all)| all).collect();
    assert_eq!(of_bot.len(), 1);
    assert_eq!((state_of(&of_bot[0]["text"]), &of_bot[0]["channel"]), ("failed".into(), &json!("C0123456789")));
    assert_eq!(state.slack_threads.len(), 1);
}
