//! What else there is to a rollback: how long is waited, in which shapes triggers come, what people may ask, and what is
//! explained.

use super::scenarios::settle;
use super::*;

async fn live(world: &World, digest: &str) {
    release(world, digest).await;
    wait(60).await;
    completes(world).await;
    wait(30).await;
}

fn tag(world: &World, tags: &[(&str, &str)]) {
    let all = [&[("tidegate:follow/tides/web", "tag:master"), ("tidegate:rollback-on/web-5xx", "yes")], tags].concat();
    world.state().ecs.set_tags(WEB, &all);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_may_take_as_long_as_its_deadline_says() {
    for (value, minutes) in [(None, 30), (Some("5"), 5), (Some("90"), 90)] {
        let world = proven().await;
        tag(&world, &value.map(|value| ("tidegate:deadline", value)).into_iter().collect::<Vec<_>>());
        release(&world, NEWER).await;
        super::minutes(&world, minutes).await;
        assert_eq!(records(&world).last().unwrap()["state"], "rolling", "{minutes}");
        super::minutes(&world, 2).await;
        let record = records(&world).last().unwrap().clone();
        assert_eq!((&record["state"], &record["undone_by"]), (&json!("failed"), &json!("tidegate")), "{minutes}");
        let reason = format!("did not complete within {minutes} minutes (tidegate:deadline)");
        assert!(record["reason"].as_str().unwrap().contains(&reason), "{record}");
        settle(&world).await;
        assert_eq!(records(&world).last().unwrap()["state"], "failed", "what comes after is too late");
    }
}

/// A person wants it taken back, and there is nothing to go back to: it stays, and still has its end.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_taken_back_fails_at_its_deadline() {
    for (is_repeated, completes_after) in [(false, None), (true, None), (false, Some(3))] {
        let world = young();
        tag(&world, &[("tidegate:deadline", "5")]);
        release(&world, NEW).await;
        wait(60).await;
        let first = asked(&world, "0", &json!({}));
        wait(2).await;
        let request = asked(&world, "1", &json!({}));
        for (event, expected) in [(&request, "hold"), (&first, "skip"), (&request, "skip")] {
            let response = world.deliver("rollback", event).await.unwrap();
            assert_eq!(response["decisions"][0]["action"], expected, "{response}");
        }
        assert_eq!(records(&world).last().unwrap()["state"], "rolling");
        if let Some(later) = completes_after {
            minutes(&world, later).await;
            completes(&world).await;
        }
        minutes(&world, 7).await;
        if is_repeated {
            world.deliver("rollback", &request).await.unwrap();
        }
        let record = records(&world).last().unwrap().clone();
        let (state, why) = match completes_after {
            Some(_) => ("succeeded", "the rollout completed"),
            None => ("failed", "did not complete within 5 minutes"),
        };
        assert_eq!(record["state"], state, "{record}");
        assert!(record["reason"].as_str().unwrap().contains(why), "{record}");
        assert_eq!(record["recovery"]["event_id"], "1", "who asked is not forgotten: {record}");
        minutes(&world, 10).await;
        assert_eq!(watched(&world), Vec::<Value>::new(), "nothing is left to watch");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_is_watched_as_long_as_its_bake_time_says() {
    for (value, minutes, is_taken_back) in
        [("10", 9, true), ("10", 11, false), ("2", 3, false), ("60", 59, true), ("0", 0, false)]
    {
        let world = proven().await;
        tag(&world, &[("tidegate:bake", value)]);
        release(&world, NEWER).await;
        wait(60).await;
        completes(&world).await;
        wait(minutes * 60 + 1).await;
        let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
        let expected = if is_taken_back { NEW } else { NEWER };
        assert_eq!(running(&world), image(expected), "{value}, {minutes}: {response}");
        settle(&world).await;
        let good = records(&world).iter().filter(|record| record.get("good").is_some()).count();
        let good_expected = 3;
        assert_eq!(good, good_expected, "{value}, {minutes}: the recovery is as good as what it brings back");
    }
}

/// A rollout that lasts outlives the bake time of what it replaces, which goes on serving meanwhile.
#[tokio::test(start_paused = true)]
async fn what_fails_while_it_is_replaced_is_not_proven_good() {
    for (failures, expected) in [(3, NEW), (2, NEWER)] {
        let world = proven().await;
        let newer = release(&world, NEWER).await;
        wait(60).await;
        completes(&world).await;
        wait(120).await;
        release(&world, NEWEST).await;
        for _ in 0..failures {
            wait(30).await;
            fails_of(&world, &newer);
        }
        wait(600).await;
        minutes(&world, 2).await;
        let good = records(&world).iter().any(|it| it["digest"] == NEWER && it.get("baked_at").is_some());
        assert_eq!(good, failures < 3, "{failures} tasks have failed");
        let response = world.deliver("rollback", &asked(&world, "1", &json!({}))).await.unwrap();
        assert_eq!(running(&world), image(expected), "{failures}: {response}");
    }
}

/// The alarm of what a release replaces is no reason to take it back, and none to call it good.
#[tokio::test(start_paused = true)]
async fn what_does_not_help_is_not_proven_good_before_all_is_ok() {
    let world = proven().await;
    let now = world.seconds();
    world.state().alarms.insert(ALARM.into(), "ALARM".into());
    world.state().alarms_since.insert(ALARM.into(), now - 600.0);
    let revision = by_hand(&world, NEWER);
    let theirs = world.state().ecs.deploy_by_others(WEB, &revision, now, "IN_PROGRESS");
    world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &theirs)).await.unwrap();
    wait(60).await;
    completes(&world).await;
    let is_good = || records(&world).last().unwrap().get("baked_at").is_some();
    for (state, is_proven) in [("ALARM", false), ("OK", true)] {
        world.state().alarms.insert(ALARM.into(), state.into());
        minutes(&world, 20).await;
        assert_eq!((is_good(), watched(&world).is_empty()), (is_proven, is_proven), "{state}");
    }
}

/// A handler has died with an intention in hand, over and over; then what runs is taken back.
#[tokio::test(start_paused = true)]
async fn what_deploy_has_left_behind_ends_when_a_rollback_takes_its_place() {
    let world = proven().await;
    live(&world, NEWER).await;
    let now = world.seconds() as u64;
    world.state().ecr.push("tides/web", "master", NEWEST, now);
    world.fates(|call, _| if call.operation == "UpdateService" { Fate::KilledBefore } else { Fate::Answered });
    let _lost: Result<Value, String> = world.deliver("deploy", &push(NEWEST)).await;
    world.calm();
    assert_eq!(story(&world).last().unwrap(), "push intended newest");
    wait(300).await;
    world.deliver("rollback", &alarm(&world)).await.unwrap();
    assert_eq!(running(&world), image(NEW));
    assert_eq!(
        story(&world)[2..],
        ["push rolled_back newer", "push superseded newest", "rollback rolling new"],
        "{:?}",
        records(&world)
    );
}

/// A request that comes late, or again, is about what ran when it was made.
#[tokio::test(start_paused = true)]
async fn a_late_request_is_not_about_what_ecs_has_gone_back_to_since() {
    let world = proven().await;
    live(&world, NEWER).await;
    release(&world, NEWEST).await;
    wait(60).await;
    let early = asked(&world, "1", &json!({}));
    wait(10).await;
    let newest = primary(&world);
    world.state().ecs.roll_back(WEB);
    world.deliver("notify", &failed(&newest)).await.unwrap();
    wait(60).await;
    let late = asked(&world, "2", &json!({}));
    for (event, expected, digest) in [(&early, "not-current", NEWER), (&late, "asked", NEW)] {
        let response = world.deliver("rollback", event).await.unwrap();
        assert_eq!((rule(&response), running(&world)), (expected, image(digest)), "{response}");
    }
}

/// Its bake time is over while ECS goes back to it from something newer.
#[tokio::test(start_paused = true)]
async fn what_has_failed_is_not_proven_good_while_ecs_goes_back_to_it() {
    let world = proven().await;
    let bad = release(&world, NEWER).await;
    wait(60).await;
    completes(&world).await;
    wait(480).await;
    release(&world, NEWEST).await;
    for _ in 0..3 {
        wait(10).await;
        fails_of(&world, &bad);
    }
    world.state().ecs.begin_roll_back(WEB);
    wait(120).await;
    minutes(&world, 2).await;
    assert_eq!(records(&world).iter().find(|it| it["digest"] == NEWER).unwrap().get("baked_at"), None);
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    minutes(&world, 2).await;
    assert_eq!(running(&world), image(NEW), "{:?}", story(&world));
}

/// It is theirs, and stays; but nobody goes back to it.
#[tokio::test(start_paused = true)]
async fn what_others_have_deployed_and_fails_is_not_proven_good() {
    for (failures, expected) in [(3, NEW), (2, NEWER)] {
        let world = proven().await;
        let (revision, now) = (by_hand(&world, NEWER), world.seconds());
        let theirs = world.state().ecs.deploy_by_others(WEB, &revision, now, "IN_PROGRESS");
        world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_IN_PROGRESS", &theirs)).await.unwrap();
        wait(60).await;
        completes(&world).await;
        for _ in 0..failures {
            wait(30).await;
            fails_of(&world, &theirs);
        }
        minutes(&world, 15).await;
        assert_eq!(running(&world), image(NEWER), "{failures}");
        let good = records(&world).iter().any(|it| it["digest"] == NEWER && it.get("baked_at").is_some());
        assert_eq!(good, failures < 3, "{failures} tasks have failed");
        release(&world, NEWEST).await;
        wait(1).await;
        let response = world.deliver("rollback", &asked(&world, "1", &json!({}))).await.unwrap();
        assert_eq!(running(&world), image(expected), "{failures}: {response}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_counts_in_whatever_shape_it_comes() {
    let direct = |event: &Value| {
        let detail = &event["detail"];
        json!({
            "source": "aws.cloudwatch", "alarmArn": event["resources"][0], "accountId": ACCOUNT, "time": event["time"],
            "region": REGION, "alarmData": {"alarmName": ALARM, "state": detail["state"], "previousState": {}},
        })
    };
    let wrapped = |event: &Value| {
        let since = event["detail"]["state"]["timestamp"].as_str().unwrap().replace('Z', "+0000");
        let message = json!({"AlarmName": ALARM, "NewStateValue": "ALARM", "StateChangeTime": since});
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message.to_string()}}]})
    };
    for shape in [|event: &Value| event.clone(), direct, wrapped] {
        let world = proven().await;
        live(&world, NEWER).await;
        let event = shape(&alarm(&world));
        let response = world.deliver("rollback", &event).await.unwrap();
        assert_eq!((rule(&response), running(&world)), ("alarm", image(NEW)), "{event}: {response}");
    }
}

/// The event of a failed deployment with the ARN of before 2018 can't be placed; the schedule comes within a minute.
#[tokio::test(start_paused = true)]
async fn an_event_without_a_cluster_is_left_to_the_schedule() {
    let world = proven().await;
    let id = release(&world, NEWER).await;
    wait(60).await;
    world.state().ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"] = json!({});
    world.state().ecs.end_rollout(WEB, "FAILED");
    let mut event = failed(&id);
    event["resources"] = json!([format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/web")]);
    assert_eq!(rule(&world.deliver("rollback", &event).await.unwrap()), "no-cluster");
    minute(&world).await;
    assert_eq!(running(&world), image(NEW));
}

#[tokio::test(start_paused = true)]
async fn what_is_explained_is_what_is_done() {
    type Fault = fn(&World) -> Value;
    let faults: [(Fault, &str); 4] = [
        (alarm, "alarm"),
        (|world| asked(world, "1", &json!({"to": "web:1"})), "asked"),
        (|world| asked(world, "1", &json!({"to": "web:9"})), "no-such-release"),
        (
            |world| {
                task_fails(world);
                task_fails(world);
                task_fails(world)
            },
            "tasks-failed",
        ),
    ];
    for (fault, expected) in faults {
        let world = proven().await;
        live(&world, NEWER).await;
        let event = fault(&world);
        wait(1).await;
        let before = world.state().table.items("");
        let question = json!({"source": "tidegate", "detail-type": "Explain", "detail": {"event": event}});
        let explained = world.deliver("rollback", &question).await.unwrap();
        let after = world.state().table.items("");
        assert_eq!((after, running(&world)), (before, image(NEWER)));
        let done = world.deliver("rollback", &event).await.unwrap();
        let [explained, done] = [explained, done].map(|it| it["decisions"][0].clone());
        for field in ["service", "action", "rule", "reason"] {
            assert_eq!(explained[field], done[field], "{expected}: {explained} {done}");
        }
        assert_eq!(done["rule"], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_can_not_be_met_says_why() {
    let world = proven().await;
    for (service, expected) in [
        ("production/nowhere", "there is no service production/nowhere"),
        ("nowhere/web", "there is no service nowhere/web"),
        ("web", "names no service"),
    ] {
        let event = asked(&world, "1", &json!({"service": service}));
        let response = world.deliver("rollback", &event).await.unwrap();
        let decision = &response["decisions"][0];
        assert!(decision["reason"].as_str().unwrap().contains(expected), "{response}");
        assert_eq!(decision["action"], "reject", "{response}");
    }
    assert_eq!(world.state().rejects.len(), 3);
    let release = json!({"source": "tidegate", "detail-type": "Release", "detail": {"service": WEB, "actor": "ana"}});
    let response = world.deliver("deploy", &release).await.unwrap();
    assert_eq!(rule(&response), "nothing-to-release", "{response}");
}

/// Tidegate has stopped: nothing is deployed, until a person lets it.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_is_deployed_again_when_a_person_releases_it() {
    let world = proven().await;
    live(&world, NEWER).await;
    world.deliver("rollback", &alarm(&world)).await.unwrap();
    let recovery = primary(&world);
    wait(60).await;
    world.state().ecs.roll_back(WEB);
    for name in ["notify", "rollback"] {
        world.deliver(name, &failed(&recovery)).await.unwrap();
    }
    calm_down(&world);
    release(&world, FIXED).await;
    assert_eq!((running(&world), is_held(&world)), (image(NEWER), true));
    let event = json!({"source": "tidegate", "detail-type": "Release", "detail": {"service": WEB, "actor": "ana"}});
    let response = world.deliver("deploy", &event).await.unwrap();
    assert_eq!((rule(&response), running(&world), is_held(&world)), ("released", image(FIXED), false), "{response}");
    settle(&world).await;
    assert_eq!(
        (story(&world).last().unwrap().as_str(), quarantine(&world)),
        ("release succeeded fixed", vec!["newer".to_owned()])
    );
}

/// What runs was deployed by somebody else long ago, by the tag `v1`.
fn deployed_by_tag(world: &World, is_known: bool) {
    let mut state = world.state();
    let mut definition = state.ecs.families["web"][0]["taskDefinition"].clone();
    definition["containerDefinitions"][0]["image"] = json!(format!("{}/tides/web:v1", crate::world::HOST));
    state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"] = definition;
    state.ecs.services.get_mut(WEB).unwrap()["deployments"][0]["createdAt"] = json!(1_794_000_000.0);
    if is_known {
        state.ecs.resolved.insert("ecs-svc/1".into(), OLD.into());
    }
}

/// The good release was deployed by somebody else, by a tag. What that was when it was deployed is pinned.
#[tokio::test(start_paused = true)]
async fn a_release_that_names_a_tag_comes_back_as_the_digest_that_ecs_has_resolved_it_to() {
    for is_known in [true, false] {
        let world = young();
        deployed_by_tag(&world, is_known);
        live(&world, NEW).await;
        // The tag has moved since.
        let seconds = world.seconds() as u64;
        world.state().ecr.push("tides/web", "v1", FIXED, seconds);
        let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
        let action = &response["decisions"][0]["action"];
        match is_known {
            true => assert_eq!((action, running(&world)), (&json!("rollback"), image(OLD)), "{response}"),
            false => assert_eq!((action, running(&world)), (&json!("hold"), image(NEW)), "{response}"),
        }
    }
}

/// Hundreds of decisions not to deploy came after the last good release.
#[tokio::test(start_paused = true)]
async fn a_good_release_of_long_ago_is_found() {
    let world = proven().await;
    tag(&world, &[("tidegate:hold", "freeze")]);
    for number in 0..30 {
        wait(60).await;
        let digest: &'static str = Box::leak(format!("sha256:{number:064x}").into_boxed_str());
        release(&world, digest).await;
    }
    tag(&world, &[]);
    live(&world, NEWER).await;
    let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
    assert_eq!((rule(&response), running(&world)), ("alarm", image(NEW)), "{response}");
}

/// Tidegate dies between telling ECS to stop and writing so: the notify function knows whose doing it was.
#[tokio::test(start_paused = true)]
async fn what_ecs_was_told_to_stop_is_recorded_as_ours_by_whoever_comes_first() {
    let world = proven().await;
    let bad = release(&world, NEWER).await;
    wait(60).await;
    let event = alarm(&world);
    world.fates(|call, _| if call.operation == "StopServiceDeployment" { Fate::KilledAfter } else { Fate::Answered });
    world.invoke("rollback", &event).await;
    world.calm();
    world.deliver("notify", &failed(&bad)).await.unwrap();
    let record = records(&world).last().unwrap().clone();
    let told = [&record["state"], &record["undone_by"], &record["recovery"]["remedy"]];
    assert_eq!(told, ["failed", "tidegate", "stop"], "{record}");
    assert!(record["reason"].as_str().unwrap().contains("web-5xx went into ALARM"), "{record}");
}

/// The service has two repositories: what comes back is the release of the whole service.
#[tokio::test(start_paused = true)]
async fn only_the_task_definition_goes_back() {
    let world = proven().await;
    world.state().ecs.services.get_mut(WEB).unwrap()["desiredCount"] = json!(7);
    live(&world, NEWER).await;
    world.calm();
    world.deliver("rollback", &alarm(&world)).await.unwrap();
    let mut body = world.body("UpdateService");
    let fields = body.as_object_mut().unwrap();
    assert_eq!(fields.remove("taskDefinition").unwrap(), "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:2");
    fields.retain(|name, _| !["cluster", "service"].contains(&name.as_str()));
    assert!(fields.is_empty(), "{fields:?}");
}

/// Whoever may not stop a rollout may still deploy.
#[tokio::test(start_paused = true)]
async fn without_the_permission_to_stop_a_rollout_the_good_release_is_deployed() {
    let world = proven().await;
    release(&world, NEWER).await;
    wait(60).await;
    let event = alarm(&world);
    world.fates(|call, _| match call.operation.as_str() {
        "StopServiceDeployment" | "ListServiceDeployments" => Fate::Refused(400, "AccessDeniedException"),
        _ => Fate::Answered,
    });
    world.deliver("rollback", &event).await.unwrap();
    world.calm();
    settle(&world).await;
    assert_eq!(running(&world), image(NEW));
    assert_eq!(story(&world).split_off(2), ["push failed newer", "rollback succeeded new"]);
    assert_eq!(world.state().rejects, Vec::<Value>::new());
}
