//! Two deployments of one service, and views of ECS that are not its newest.

use serde_json::{Value, json};

use super::{END, WEB, as_action, check_told_once, deployed, look, open, primary, rest, texts, wait};
use crate::world::{Call, Fate, World};
use crate::{NEW, NEWER, OLD, ecs_event, image, push, pushed, records};

const STARTED: &str = "SERVICE_DEPLOYMENT_IN_PROGRESS";
const COMPLETED: &str = "SERVICE_DEPLOYMENT_COMPLETED";
const FAILED: &str = "SERVICE_DEPLOYMENT_FAILED";

fn states(world: &World) -> Vec<String> {
    records(world).iter().map(|record| record["state"].as_str().unwrap().to_owned()).collect()
}

fn move_master(world: &World, digest: &str) {
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", digest, now);
}

/// A second push while the first one rolls: the ids of both deployments.
async fn overtaken() -> (World, String, String) {
    let world = pushed();
    let first = deployed(&world, NEW).await;
    wait(60).await;
    move_master(&world, NEWER);
    let second = deployed(&world, NEWER).await;
    wait(1).await;
    (world, first, second)
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_push_overtakes_is_superseded_and_its_message_says_so() {
    let names = |order: &[usize], first: &str, second: &str| -> Vec<Value> {
        let all = [(STARTED, first), (STARTED, second), (FAILED, first), (COMPLETED, second)];
        order.iter().map(|at| ecs_event(all[*at].0, all[*at].1)).collect()
    };
    // ECS does not say of an overtaken deployment that it failed; if it did, nothing would change.
    for order in [&[0, 1, 3][..], &[1, 0, 3], &[3, 1, 0], &[1, 2, 3], &[3, 2], &[3], &[0], &[]] {
        let (world, first, second) = overtaken().await;
        for event in names(order, &first, &second) {
            if event["detail"]["eventName"] == COMPLETED {
                END(&mut world.state().ecs);
            }
            world.deliver("notify", &event).await.unwrap();
            world.deliver("notify", &as_action(&event)).await.unwrap();
        }
        END(&mut world.state().ecs);
        rest(&world).await;
        assert_eq!(states(&world), ["superseded", "succeeded"], "{order:?}");
        let texts = texts(&world);
        assert_eq!(texts.len(), 2, "{order:?}: {texts:?}");
        let of = |digest: &str| texts.iter().find(|text| text.contains(digest.get(7..19).unwrap())).unwrap().clone();
        let (old, new) = (of(NEW), of(NEWER));
        assert!(old.contains("superseded") && old.contains(&format!("the newer deployment {second}")), "{old}");
        assert!(new.contains("live"), "{new}");
        check_told_once(&world, &format!("{order:?}"));
    }
}

/// It has not failed itself, so it may be deployed again.
#[tokio::test(start_paused = true)]
async fn what_was_overtaken_by_a_failure_is_superseded_and_not_a_failure() {
    for events in [&[][..], &[(FAILED, 1)], &[(STARTED, 0), (COMPLETED, 2)]] {
        let (world, first, second) = overtaken().await;
        wait(60).await;
        world.state().ecs.roll_back(WEB);
        world.state().ecs.drain(WEB);
        for (name, which) in events {
            let id = [&first, &second, "ecs-svc/1"][*which];
            world.deliver("notify", &ecs_event(name, id)).await.unwrap();
        }
        rest(&world).await;
        assert_eq!(states(&world), ["superseded", "failed"], "{events:?}");
        assert!(records(&world)[0]["reason"].as_str().unwrap().contains(&second));
        move_master(&world, NEW);
        deployed(&world, NEW).await;
        assert_eq!(world.state().ecs.running(WEB), image(NEW), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_nobody_told_before_the_next_push_stays_a_success() {
    let world = pushed();
    let first = deployed(&world, NEW).await;
    wait(60).await;
    END(&mut world.state().ecs);
    wait(60).await;
    move_master(&world, NEWER);
    let second = deployed(&world, NEWER).await;
    wait(60).await;
    // ECS shows the first no more, but in its history.
    END(&mut world.state().ecs);
    for id in [&second, &first] {
        world.deliver("notify", &ecs_event(COMPLETED, id)).await.unwrap();
    }
    assert_eq!(states(&world), ["succeeded", "succeeded"]);
    rest(&world).await;
    let live = world.state().table.items("LIVE#");
    assert_eq!((live.len(), &live[0]["digest"]), (1, &json!(NEWER)), "whichever was judged last");
}

#[tokio::test(start_paused = true)]
async fn what_ecs_goes_back_to_is_no_success_of_the_one_before() {
    let world = pushed();
    let first = deployed(&world, NEW).await;
    wait(60).await;
    END(&mut world.state().ecs);
    world.deliver("notify", &ecs_event(COMPLETED, &first)).await.unwrap();
    let told = texts(&world);
    move_master(&world, NEWER);
    let second = deployed(&world, NEWER).await;
    wait(60).await;
    world.state().ecs.roll_back(WEB);
    for (name, id) in [(FAILED, &second), (STARTED, &first), (COMPLETED, &first)] {
        world.deliver("notify", &ecs_event(name, id)).await.unwrap();
    }
    rest(&world).await;
    assert_eq!(states(&world), ["succeeded", "failed"]);
    assert_eq!(texts(&world)[0], told[0], "what was live before is live again, and was no news");
    assert_eq!(world.state().table.items("LIVE#")[0]["digest"], NEW);
    check_told_once(&world, "two");
    assert_eq!(primary(&world), first);
}

/// ECS answers for a while as it was before the push.
async fn with_old_view() -> (World, String, Value) {
    let world = pushed();
    let before = world.state().ecs.services[WEB].clone();
    let id = deployed(&world, NEW).await;
    let now = world.state().ecs.services.insert(WEB.into(), before).unwrap();
    (world, id, now)
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_ecs_from_before_the_deployment_ends_nothing() {
    for event in [None, Some(STARTED), Some("SERVICE_DEPLOYMENT_OF_TOMORROW")] {
        let (world, id, now) = with_old_view().await;
        match event {
            Some(name) => drop(world.deliver("notify", &ecs_event(name, &id)).await.unwrap()),
            None => drop(look(&world).await),
        }
        assert_eq!(states(&world), ["rolling"], "{event:?}");
        world.state().ecs.services.insert(WEB.into(), now);
        END(&mut world.state().ecs);
        rest(&world).await;
        assert_eq!((states(&world), texts(&world).len()), (vec!["succeeded".to_owned()], 1), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_says_more_than_an_older_answer_of_ecs() {
    for (name, state) in [(COMPLETED, "succeeded"), (FAILED, "failed")] {
        for is_unseen in [true, false] {
            let (world, id, now) = with_old_view().await;
            if !is_unseen {
                world.state().ecs.services.insert(WEB.into(), now);
            }
            wait(60).await;
            world.deliver("notify", &ecs_event(name, &id)).await.unwrap();
            assert_eq!(states(&world), [state], "{name}, {is_unseen}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_shifts_traffic_is_live_when_its_deployment_is_over_and_not_when_its_tasks_are_there() {
    let world = pushed();
    world.state().ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"]["strategy"] = json!("BLUE_GREEN");
    let id = deployed(&world, NEW).await;
    wait(60).await;
    world.state().ecs.services.get_mut(WEB).unwrap()["deployments"][0]["rolloutState"] = json!("COMPLETED");
    world.deliver("notify", &ecs_event(STARTED, &id)).await.unwrap();
    look(&world).await;
    assert_eq!(states(&world), ["rolling"], "the tasks are there, and traffic is not");
    let now = world.seconds();
    world.state().ecs.service_deployment(WEB).set_status("SUCCESSFUL", now);
    world.deliver("notify", &ecs_event(COMPLETED, &id)).await.unwrap();
    assert_eq!(states(&world), ["succeeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_deployment_that_goes_back_before_its_end_has_failed() {
    let world = pushed();
    world.state().ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"]["strategy"] = json!("BLUE_GREEN");
    deployed(&world, NEW).await;
    wait(60).await;
    world.state().ecs.trigger_alarms(WEB, &["web-5xx"]);
    // The tasks were there already.
    world.state().ecs.services.get_mut(WEB).unwrap()["deployments"][0]["rolloutState"] = json!("COMPLETED");
    look(&world).await;
    assert_eq!(states(&world), ["rolling"]);
    world.state().ecs.services.get_mut(WEB).unwrap()["deployments"][0]["rolloutState"] = json!("IN_PROGRESS");
    world.state().ecs.roll_back(WEB);
    rest(&world).await;
    let record = &records(&world)[0];
    assert_eq!((&record["state"], &record["undone_by"]), (&json!("failed"), &json!("ecs")));
    assert_eq!(record["diagnosis"]["alarms"], json!(["web-5xx"]));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_can_not_be_had_keeps_no_outcome_from_people() {
    let refusals: [(u16, &str); 3] =
        [(400, "AccessDeniedException"), (400, "ThrottlingException"), (500, "ServerException")];
    for (status, code) in refusals {
        for operation in ["ListServiceDeployments", "DescribeServiceDeployments"] {
            let world = pushed();
            let id = deployed(&world, NEW).await;
            wait(60).await;
            world.state().ecs.roll_back(WEB);
            world.fates(move |call: &Call, _| match call.operation == operation {
                true => Fate::Refused(status, code),
                false => Fate::Answered,
            });
            let event = ecs_event(FAILED, &id);
            let told = world.deliver("notify", &event).await;
            let may_pass = code != "AccessDeniedException";
            assert_eq!(told.is_err(), may_pass, "{operation} {code}: what may pass is tried again");
            if may_pass {
                look(&world).await;
                assert_eq!(states(&world), ["rolling"]);
                world.calm();
            }
            rest(&world).await;
            let record = &records(&world)[0];
            assert_eq!((&record["state"], &record["undone_by"]), (&json!("failed"), &json!("ecs")), "{operation}");
            assert_eq!(texts(&world).len(), 1);
        }
    }
}

/// It takes the deploy function minutes to write down what an invocation of it has started and could not.
#[tokio::test(start_paused = true)]
async fn what_was_adopted_late_is_judged_by_its_whole_time() {
    let world = pushed();
    world.fates(|call, _| match call.operation.as_str() {
        "UpdateService" => Fate::KilledAfter,
        _ => Fate::Answered,
    });
    world.invoke("deploy", &push(NEW)).await;
    world.calm();
    wait(60).await;
    world.state().ecs.add_event(WEB, "(service web) is unable to place a task");
    world.state().ecs.stop_task(WEB, &json!({"containers": [{"name": "web", "exitCode": 3, "lastStatus": "STOPPED"}]}));
    wait(240).await;
    world.deliver("deploy", &crate::checks::sweep()).await.unwrap();
    assert_eq!(states(&world), ["rolling"], "adopted");
    world.state().ecs.trigger_alarms(WEB, &["web-5xx"]);
    world.state().ecs.roll_back(WEB);
    world.state().ecs.drain(WEB);
    rest(&world).await;
    let record = &records(&world)[0];
    assert_eq!((&record["state"], &record["undone_by"]), (&json!("failed"), &json!("ecs")), "{record}");
    assert_eq!(record["diagnosis"]["alarms"], json!(["web-5xx"]), "{record}");
    assert!(record["diagnosis"].to_string().contains("exited with code 3"), "{record}");
    let minute = |field: &str| record[field].as_str().unwrap().get(..17).unwrap();
    assert_eq!(minute("started_at"), minute("detected_at"));
    assert_eq!(world.state().ecs.running(WEB), image(OLD));
    assert_eq!(open(&world), Vec::<Value>::new());
}
