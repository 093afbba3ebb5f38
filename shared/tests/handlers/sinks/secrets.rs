//! Secrets that are rotated while the function is warm.

use aws_smithy_async::time::TimeSource;
use chrono::{DateTime, TimeDelta, Utc};
use standardwebhooks::Webhook;

use super::*;
use crate::NEWER;

const WEBHOOK: &str = "whsec_YW5vdGhlciBzZWNyZXQsIG5ld2VyIGFuZCBhcyBsb25n";
const URL: &str = "https://hooks.slack.com/services/T0/B0/slack-secret";

/// Everyone in one execution environment is told of a deployment, `rotate` happens, and of another deployment.
async fn told_before_and_after(world: &World, rotate: impl FnOnce(&World)) {
    let function = world.function("notify");
    let notifier = function.notifier();
    let tell = async |event: &Value| {
        let deadline = DateTime::<Utc>::from(world.now()) + TimeDelta::minutes(2);
        let handled = notifier.handle(event, deadline).await;
        assert!(handled.failures.is_empty(), "{:?}", handled.failures);
    };
    let id = newest_id(world);
    tell(&started(&id)).await;
    tell(&complete(world, &id)).await;
    rotate(world);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEWER, now);
    world.deliver("deploy", &push(NEWER)).await.unwrap();
    let id = newest_id(world);
    tell(&started(&id)).await;
    tell(&complete(world, &id)).await;
    assert!(is_at_rest(&record(world)), "{}", record(world));
}

/// Until the secret of `to` is read again, it refuses with `fate`.
fn refuse_the_old_one(world: &World, to: To, fate: Fate) {
    let mut is_read = false;
    world.fates(move |call, _| {
        is_read |= to.reads_secret(call);
        if to.hears(call) && !is_read { fate.clone() } else { Fate::Answered }
    });
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_read_again_once() {
    type Rotate = fn(&World);
    let rotations: [(To, Rotate); 4] = [
        (To::Slack, |world| world.state().slack_secret = "xoxb-rotated".into()),
        (To::Slack, |world| refuse_the_old_one(world, To::Slack, Fate::Refused(200, "token_revoked"))),
        (To::NewRelic, |world| world.state().newrelic_key = "NRAK-rotated".into()),
        (To::Webhook, |world| {
            world.state().hook_secret = WEBHOOK.into();
            refuse_the_old_one(world, To::Webhook, Fate::Refused(401, "bad signature"));
        }),
    ];
    for (at, (to, rotate)) in rotations.into_iter().enumerate() {
        let (world, _) = rolling().await;
        let mut reads = 0;
        told_before_and_after(&world, |world| {
            reads = world.state().calls.iter().filter(|call| to.reads_secret(call)).count();
            rotate(world);
        })
        .await;
        assert_eq!(reads, 1, "{to:?}: it is kept");
        let reads = world.state().calls.iter().filter(|call| to.reads_secret(call)).count();
        assert!((1..=2).contains(&reads), "{to:?} {at}: {reads}");
        assert_eq!(to.states(&world), to.expected(&["rolling", "succeeded", "rolling", "succeeded"]), "{to:?} {at}");
        assert_eq!(world.state().rejects.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_signing_secret_signs() {
    let (world, _) = rolling().await;
    told_before_and_after(&world, |world| {
        world.state().hook_secret = WEBHOOK.into();
        refuse_the_old_one(world, To::Webhook, Fate::Refused(401, "bad signature"));
    })
    .await;
    let hooks = world.state().hooks.clone();
    let is_signed = |secret: &str, at: usize| super::others::is_signed(&Webhook::new(secret).unwrap(), &hooks[at]);
    let before = "whsec_dGlkZWdhdGUncyBzZWNyZXQgb2YgdGhlIHRlc3Rz";
    assert!(is_signed(before, 0) && is_signed(before, 1) && is_signed(WEBHOOK, 2) && is_signed(WEBHOOK, 3));
}

/// The URL of an incoming webhook is its secret, and is made anew when it was shown to somebody.
#[tokio::test(start_paused = true)]
async fn a_rotated_url_of_slack_is_read_again() {
    let (world, _) = rolling().await;
    world.state().slack_secret = URL.into();
    told_before_and_after(&world, |world| {
        world.state().slack_secret = format!("{URL}-rotated");
        refuse_the_old_one(world, To::Slack, Fate::Refused(404, "no_service"));
    })
    .await;
    assert_eq!(To::Slack.states(&world), ["succeeded", "succeeded"]);
}

/// From an incoming webhook that was taken away to a bot token.
#[tokio::test(start_paused = true)]
async fn a_bot_token_in_place_of_a_url_is_read_too() {
    let (world, _) = rolling().await;
    world.state().slack_secret = URL.into();
    told_before_and_after(&world, |world| {
        world.state().slack_secret = "xoxb-instead".into();
        let mut is_read = false;
        world.fates(move |call, _| {
            is_read |= To::Slack.reads_secret(call);
            if call.operation == "webhook" && !is_read { Fate::Refused(403, "invalid_token") } else { Fate::Answered }
        });
    })
    .await;
    let posted = world.state().slack.values().flatten().filter(|message| message["channel"].is_string()).count();
    assert!(posted >= 1, "{:?}", world.state().slack);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_stays_wrong_is_read_twice_and_the_operator_is_told_which_parameter_to_mend() {
    for (to, mention) in
        [(To::Slack, "SSM parameter"), (To::NewRelic, "SSM parameter"), (To::Webhook, "signing secret")]
    {
        let (world, id) = rolling().await;
        world.fates(always(
            move |call| to.hears(call),
            match to {
                To::Slack => Fate::Refused(200, "invalid_auth"),
                _ => Fate::Refused(401, "refused"),
            },
        ));
        let response = world.deliver("notify", &complete(&world, &id)).await.unwrap();
        let reads = world.state().calls.iter().filter(|call| to.reads_secret(call)).count();
        let calls = world.state().calls.iter().filter(|call| to.hears(call)).count();
        assert_eq!((reads, calls), (2, 2), "{to:?}");
        let rejects = world.state().rejects.clone();
        assert_eq!(rejects.len(), 1, "{to:?}");
        assert!(rejects[0]["cause"].as_str().unwrap().contains(mention), "{to:?}: {}", rejects[0]);
        shows_no_secret(&world, &[response.to_string()]);
    }
}

/// An operator may have pasted anything.
#[tokio::test(start_paused = true)]
async fn a_parameter_that_holds_no_secret_is_refused_and_not_shown() {
    for (to, value) in [
        (To::Slack, ""),
        (To::Slack, "hunter2\nhunter2"),
        (To::Slack, "https://hunter2 hunter2"),
        (To::NewRelic, ""),
        (To::NewRelic, "hunter2\nhunter2"),
        (To::Webhook, ""),
        (To::Webhook, "hunter2"),
        (To::Webhook, "whsec_hunter2!"),
    ] {
        let (world, id) = rolling().await;
        world.state().secrets_by_name.insert(to.secret().unwrap().into(), value.into());
        let event = complete(&world, &id);
        let response = format!("{:?}", world.deliver("notify", &event).await);
        assert_eq!(untold(&record(&world)), [to], "{to:?} {value:?} {response}");
        let state = world.state();
        let shown = json!([response, state.rejects, state.table.items("")]).to_string();
        assert!(!shown.contains("hunter2"), "{to:?} {value:?}: {shown}");
        assert_eq!(state.timed_out, 0);
    }
}
