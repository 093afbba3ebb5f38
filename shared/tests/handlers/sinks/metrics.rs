//! CloudWatch's metrics: a line for each outcome, and none for what is only repeated.

use super::*;
use crate::{NEWER, image};

/// The lines, but for those of the rejects queue.
fn lines(world: &World) -> Vec<Value> {
    let state = world.state();
    state.metrics.iter().filter(|line| line["message"] == "deployment").cloned().collect()
}

/// The names of the metrics in a line.
fn names(line: &Value) -> Vec<&str> {
    let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
    metrics.iter().map(|metric| metric["Name"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_one_line_however_often_it_is_told() {
    type End = fn(&World, &str) -> Value;
    let ends: [(End, &[&str]); 2] =
        [(complete, &["Succeeded", "RolloutSeconds", "PushToLiveSeconds"]), (fail, &["Failed"])];
    for (end, expected) in ends {
        let (world, id) = rolling().await;
        for _ in 0..2 {
            world.deliver("notify", &started(&id)).await.unwrap();
        }
        assert_eq!(lines(&world), Vec::<Value>::new(), "a beginning is no outcome");
        tokio::time::sleep(Duration::from_secs(90)).await;
        let event = end(&world, &id);
        for _ in 0..3 {
            world.deliver("notify", &event).await.unwrap();
            world.deliver("notify", &completed("ecs-svc/1")).await.unwrap();
        }
        sweeps(&world, 3).await;
        let lines = lines(&world);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(names(&lines[0]), expected);
        assert_eq!(lines[0]["record"], record(&world)["id"]);
        assert_eq!((&lines[0]["Environment"], &lines[0]["Service"]), (&json!("production"), &json!("web")));
        for name in expected {
            let least = if name.ends_with("Seconds") { 90 } else { 1 };
            assert!(lines[0][name].as_u64().unwrap() >= least, "{name}");
        }
    }
}

/// A sink that is out of order brings the record back again and again; the metrics are not counted with it.
#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_makes_no_second_line() {
    let (world, id) = rolling().await;
    world.fates(always(|call| To::Webhook.hears(call), Fate::Refused(500, "oops")));
    world.deliver("notify", &complete(&world, &id)).await.unwrap_err();
    sweeps(&world, 20).await;
    assert_eq!(lines(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_gives_way_and_what_others_deploy_is_counted_by_itself() {
    let (world, id) = rolling().await;
    world.deliver("notify", &started(&id)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let by_hand = json!({"family": "web", "containerDefinitions": [{"name": "web", "image": image(NEWER)}]});
    world.state().ecs.register(&by_hand);
    let (revision, now) = (world.state().ecs.newest("web"), world.seconds());
    let others = world.state().ecs.deploy_by_others("production/web", &revision, now, "IN_PROGRESS");
    world.deliver("notify", &started(&others)).await.unwrap();
    world.deliver("notify", &complete(&world, &others)).await.unwrap();
    world.deliver("notify", &completed(&others)).await.unwrap();
    let lines = lines(&world);
    let counted: Vec<(Vec<&str>, &str)> =
        lines.iter().map(|line| (names(line), line["origin"].as_str().unwrap())).collect();
    assert_eq!(counted[0], (vec!["Superseded"], "push"));
    assert_eq!((counted[1].0[0], counted[1].1, counted.len()), ("DeployedByOthers", "external", 2));
}

#[tokio::test(start_paused = true)]
async fn what_lands_in_the_rejects_queue_is_counted_and_a_question_is_not() {
    let rejected = |world: &World| -> Vec<(Value, Value)> {
        let state = world.state();
        let lines = state.metrics.iter().filter(|line| line["message"] == "rejects");
        lines.map(|line| (line["Function"].clone(), line["Rejects"].clone())).collect()
    };
    let unknown = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
    for function in ["deploy", "notify"] {
        let (world, _) = rolling().await;
        world.deliver(function, &unknown).await.unwrap();
        assert_eq!(world.state().rejects.len(), 1);
        assert_eq!(rejected(&world), [(json!(function), json!(1))]);
        for kind in ["Explain", "Report"] {
            let question = json!({"source": "tidegate", "detail-type": kind, "detail": {"days": "many"}});
            world.deliver(function, &question).await.unwrap();
        }
        assert_eq!((rejected(&world).len(), world.state().rejects.len()), (1, 1), "{function}");
    }
    // Two who refuse are one event.
    let (world, id) = rolling().await;
    let is_topic = |call: &Call| call.operation == "Publish";
    world.fates(always(is_topic, Fate::Refused(403, "AuthorizationError")));
    world.deliver("notify", &complete(&world, &id)).await.unwrap();
    assert_eq!((rejected(&world), world.state().rejects.len()), (vec![(json!("notify"), json!(1))], 1));
    // An event that could not be kept is not counted: the platform has it still.
    let (world, _) = rolling().await;
    world.fates(always(|call| call.operation == "SendMessage", Fate::Refused(500, "oops")));
    world.invoke("notify", &unknown).await.unwrap().unwrap_err();
    assert_eq!(rejected(&world), []);
}
