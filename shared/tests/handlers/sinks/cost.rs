//! What an event costs, and how long it takes when nobody answers.

use super::*;
use crate::world::fleet::tag_change;

/// With Slack and the topic alone, as most will have it.
#[tokio::test(start_paused = true)]
async fn the_beginning_and_the_end_of_a_rollout_cost_this() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let id = newest_id(&world);
    world.calm();
    world.deliver("notify", &started(&id)).await.unwrap();
    assert_eq!(
        world.steps(),
        [
            vec!["Query"],
            vec!["DescribeServices"],
            // How far it is, and which commits it brings.
            vec!["UpdateItem"],
            vec!["BatchGetImage", "BatchGetImage"],
            vec!["BatchGetImage"],
            vec!["GetDownloadUrlForLayer"],
            vec!["blob"],
            vec!["UpdateItem"],
            // The telling is taken, done, noted, and given back. That there is no metric is noted at once.
            vec!["UpdateItem"],
            vec!["GetParameter", "Publish", "UpdateItem"],
            vec!["UpdateItem", "chat.postMessage"],
            vec!["UpdateItem"],
            vec!["UpdateItem"],
        ]
    );
    let event = complete(&world, &id);
    world.calm();
    world.deliver("notify", &event).await.unwrap();
    assert_eq!(
        world.steps(),
        [
            vec!["Query"],
            vec!["DescribeServices"],
            vec!["TransactWriteItems"],
            vec!["UpdateItem"],
            vec!["GetParameter", "Publish", "UpdateItem"],
            vec!["UpdateItem", "chat.update"],
            vec!["UpdateItem"],
            vec!["UpdateItem"],
        ]
    );
    world.calm();
    world.deliver("notify", &event).await.unwrap();
    assert_eq!(world.steps(), [vec!["Query"], vec!["DescribeServices"]], "a replay looks, and that is all");
    world.calm();
    world.deliver("notify", &sweep()).await.unwrap();
    assert_eq!(world.operations(), ["Query"], "nothing is open");
}

/// Everyone but ECS and the table.
fn is_outside(call: &Call) -> bool {
    To::ALL.iter().any(|to| to.hears(call) || to.reads_secret(call))
        || ["ListTasks", "DescribeTasks", "GetLogEvents", "BatchGetImage", "GetDownloadUrlForLayer", "blob"]
            .contains(&call.operation.as_str())
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_written_in_time_when_nobody_else_answers() {
    type End = fn(&World, &str) -> Value;
    let ends: [(End, &str); 2] = [(complete, "succeeded"), (fail, "failed")];
    for (end, state) in ends {
        let (world, id) = rolling().await;
        let event = end(&world, &id);
        world.fates(always(is_outside, Fate::Hangs));
        let began = tokio::time::Instant::now();
        world.invoke("notify", &event).await.unwrap().unwrap_err();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(75), "{state} took {took:?}");
        assert_eq!((record(&world)["state"].as_str(), world.state().timed_out), (Some(state), 0));
        let written = world.state().calls.iter().find(|call| call.operation == "TransactWriteItems").unwrap().at;
        assert!(written < Duration::from_secs(20), "{state} is written at {written:?}");
        world.calm();
        sweeps(&world, 3).await;
        assert!(is_at_rest(&record(&world)));
    }
}

/// Another invocation has been killed while it was telling, so this one begins late.
#[tokio::test(start_paused = true)]
async fn who_begins_to_tell_late_ends_in_time() {
    for late in [60, 80, 100, 105, 110, 111] {
        let (world, id) = rolling().await;
        let event = complete(&world, &id);
        // The first writes the outcome, takes the telling, and is gone.
        world.fates(|call, _| if call.operation == "Publish" { Fate::KilledBefore } else { Fate::Answered });
        assert_eq!(world.invoke("notify", &event).await, None);
        tokio::time::sleep(Duration::from_secs(120 - late)).await;
        world.fates(always(is_outside, Fate::Hangs));
        world.invoke("notify", &event).await.unwrap().unwrap_err();
        assert_eq!(world.state().timed_out, 0, "{late} s late");
        world.calm();
        sweeps(&world, 5).await;
        assert!(is_at_rest(&record(&world)), "{late} s late");
    }
}

/// Many deployments that nobody could be told of.
#[tokio::test(start_paused = true)]
async fn a_sweep_ends_in_time_when_nobody_answers() {
    for (services, each) in [(1, 4), (5, 1), (3, 3)] {
        let (world, _) = rolling().await;
        {
            let mut state = world.state();
            for number in 1..services {
                let follow = [("tidegate:follow/tides/web", "tag:master")];
                state.ecs.add_service("production", &format!("s{number}"), "web", &follow);
            }
        }
        for number in 1..services {
            world.deliver("deploy", &tag_change(&format!("production/s{number}"))).await.unwrap();
        }
        for version in 1..each {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let digest: &'static str = [OTHERS[0], OTHERS[1], OTHERS[2]][version - 1];
            let now = world.seconds() as u64;
            world.state().ecr.push("tides/web", "master", digest, now);
            world.deliver("deploy", &push(digest)).await.unwrap();
        }
        world.fates(always(is_outside, Fate::Hangs));
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            world.invoke("notify", &sweep()).await.unwrap().unwrap();
        }
        assert_eq!(world.state().timed_out, 0, "{services} services, {each} deployments");
        world.calm();
        let services_there: Vec<String> = world.state().ecs.services.keys().cloned().collect();
        for service in services_there {
            world.state().ecs.end_rollout(&service, "COMPLETED");
        }
        sweeps(&world, 30).await;
        assert!(records(&world).iter().all(is_at_rest), "{services} services, {each} deployments");
    }
}

const OTHERS: [&str; 3] = [
    "sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "sha256:2222222222222222222222222222222222222222222222222222222222222222",
    "sha256:3333333333333333333333333333333333333333333333333333333333333333",
];
