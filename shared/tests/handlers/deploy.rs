//! What a push leads to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{ACCOUNT, Call, Fate};
use crate::{NEW, NEWER, OLD, decision, externals, image, push, pushed, records};

#[tokio::test(start_paused = true)]
async fn what_is_registered_differs_from_its_base_in_the_image_and_our_tag_alone() {
    let world = pushed();
    let base = world.state().ecs.families["web"][0].clone();
    world.deliver("deploy", &push(NEW)).await.unwrap();

    let mut expected = base["taskDefinition"].clone();
    for field in ["taskDefinitionArn", "revision", "status", "registeredAt", "compatibilities"] {
        expected.as_object_mut().unwrap().remove(field);
    }
    expected["containerDefinitions"][0]["image"] = json!(image(NEW));
    expected["tags"] = json!([{"key": "team", "value": "tides"}, {"key": "tidegate:tag/tides/web", "value": "master"}]);
    assert_eq!(world.body("RegisterTaskDefinition"), expected, "on the wire, with fields no SDK knows");
}

#[tokio::test(start_paused = true)]
async fn an_update_sends_the_revision_and_the_circuit_breaker_and_never_a_desired_count() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(
        world.body("UpdateService"),
        json!({
            "cluster": "production", "service": "web", "taskDefinition": world.state().ecs.newest("web"),
            "deploymentConfiguration": {
                "maximumPercent": 200, "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": {"enable": true, "rollback": true},
            },
        })
    );
}

#[tokio::test(start_paused = true)]
async fn five_dependent_calls_lead_from_a_push_to_update_service() {
    let world = pushed();
    world.state().roles.insert("pull".into());
    let role = format!("arn:aws:iam::{ACCOUNT}:role/pull");
    world.state().ecs.families.get_mut("web").unwrap()[0]["taskDefinition"]["executionRoleArn"] = json!(role);
    let follow = [("tidegate:follow/tides/web", "master"), ("tidegate:rollback-on/web-5xx", "yes")];
    world.state().ecs.set_tags("production/web", &follow);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(
        world.steps(),
        [
            vec!["GetResources"],
            vec!["DescribeServices", "Query"],
            vec!["DescribeAlarms", "DescribeImages", "DescribeTaskDefinition"],
            vec!["BatchGetImage", "GetRole", "TransactWriteItems"],
            vec!["RegisterTaskDefinition"],
            vec!["UpdateService"],
            vec!["TransactWriteItems"],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_deploy_costs_no_call_and_one_nobody_follows_costs_one() {
    let world = pushed();
    world.calm();
    let mut untagged = push(NEW);
    untagged["detail"]["image-tag"] = json!("");
    let response = world.deliver("deploy", &untagged).await.unwrap();
    assert_eq!((decision(&response)["action"].as_str(), world.operations().len()), (Some("skip"), 0));

    let mut unfollowed = push(NEW);
    unfollowed["detail"]["repository-name"] = json!("tides/unknown");
    let response = world.deliver("deploy", &unfollowed).await.unwrap();
    let reason = decision(&response)["reason"].as_str().unwrap();
    assert!(reason.contains("tidegate:follow/tides/unknown"), "it says how to follow: {reason}");
    assert_eq!(world.operations(), ["GetResources"]);

    world.calm();
    let mut unselected = push(NEW);
    unselected["detail"]["image-tag"] = json!("develop");
    let response = world.deliver("deploy", &unselected).await.unwrap();
    assert_eq!(decision(&response)["reason"], "the service follows tag:master");
    assert_eq!(world.operations(), ["GetResources"]);
}

#[tokio::test(start_paused = true)]
async fn the_deployment_that_was_found_is_recorded_with_the_first_of_ours() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let found = externals(&world);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["state"], &found[0]["digest"]), (&json!("succeeded"), &json!(OLD)));
    assert_eq!(found[0]["ecs_deployment_id"], "ecs-svc/1");
    assert_eq!(found[0]["slack_told"], found[0]["version"], "what ended before we saw it is no news");

    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(externals(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_base_is_what_the_service_runs_and_not_the_newest_revision_of_its_family() {
    let world = pushed();
    let mut experiment = world.state().ecs.families["web"][0]["taskDefinition"].clone();
    experiment["cpu"] = json!("4096");
    world.state().ecs.register(&experiment);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(world.body("RegisterTaskDefinition")["cpu"], "256");
    assert!(world.state().ecs.families["web"].len() == 3, "the experiment stays as it was");
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_changes_nothing() {
    let world = pushed();
    world.deliver("deploy", &push(NEW)).await.unwrap();
    let before = (records(&world), world.state().ecs.clone());
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(decision(&response)["reason"], "the service already runs this digest");
    let after = (records(&world), world.state().ecs.clone());
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn two_copies_at_once_make_one_rollout() {
    let world = pushed();
    let event = push(NEW);
    let (first, second) = tokio::join!(world.deliver("deploy", &event), world.deliver("deploy", &event));
    let actions = [first.unwrap(), second.unwrap()].map(|response| decision(&response)["action"].clone());
    assert!(actions.contains(&json!("deploy")) && actions.contains(&json!("skip")), "{actions:?}");
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 1));
    assert_eq!(records(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_view_of_ecs_from_before_another_handlers_deployment_is_not_acted_on() {
    let world = pushed();
    // The first handler has seen the service, and reads the history when the second has long finished.
    world.fates(|call, number| match call.operation.as_str() {
        "Query" if number < 5 => Fate::Late(Duration::from_secs(5)),
        _ => Fate::Answered,
    });
    let event = push(NEW);
    let (first, second) = tokio::join!(world.deliver("deploy", &event), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.deliver("deploy", &event).await
    });
    assert_eq!(decision(&first.unwrap())["action"], "skip");
    assert_eq!(decision(&second.unwrap())["action"], "deploy");
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn services_of_one_family_share_the_revision() {
    let world = pushed();
    let follow = [("tidegate:follow/tides/web", "master")];
    world.state().ecs.add_service("production", "web-internal", "web", &follow);
    world.state().ecs.add_service("staging", "web", "web", &follow);
    let response = world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(response["decisions"].as_array().unwrap().len(), 3);
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 3));
    for service in ["production/web", "production/web-internal", "staging/web"] {
        assert_eq!(world.state().ecs.running(service), image(NEW), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_moving_while_an_older_push_is_handled_ends_with_the_newest() {
    let world = pushed();
    let (older, newer) = (push(NEW), push(NEWER));
    let moved = world.clone();
    world.fates(move |call, _| {
        if call.operation == "RegisterTaskDefinition" {
            moved.state_later(NEWER);
        }
        Fate::Answered
    });
    let (first, second) = tokio::join!(world.deliver("deploy", &older), async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        world.deliver("deploy", &newer).await
    });
    first.unwrap();
    second.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
    assert_eq!(records(&world).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_call_and_delivered_again_the_result_is_the_same() {
    let undisturbed = pushed();
    undisturbed.deliver("deploy", &push(NEW)).await.unwrap();
    let calls = undisturbed.operations().len();
    for kill in [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Refused(500, "ServerException")] {
        for at in 0..calls {
            let world = pushed();
            let fate = kill.clone();
            world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
            world.deliver("deploy", &push(NEW)).await.unwrap();

            let situation = format!("{kill:?} at call {at}");
            assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{situation}");
            let records = records(&world);
            assert_eq!(records.len(), 1, "{situation}: {records:?}");
            assert_eq!(records[0]["state"], "rolling", "{situation}");
            let primary = world.state().ecs.services["production/web"]["deployments"][0]["id"].clone();
            assert_eq!(records[0]["ecs_deployment_id"], primary, "{situation}");
            assert_eq!(world.state().ecs.families["web"].len(), 2, "{situation}");
            assert_eq!(world.state().table.items("SERVICE")[0]["lease_until"], 0, "{situation}");
            assert_eq!(world.state().rejects, Vec::<Value>::new(), "{situation}");
        }
    }
}

/// A push to two services that share a family, whose first and second invocations are killed.
#[tokio::test(start_paused = true)]
async fn killed_twice_at_any_two_calls_the_result_is_the_same() {
    let world = || {
        let world = pushed();
        world.state().ecs.add_service("production", "web-2", "web", &[("tidegate:follow/tides/web", "master")]);
        world
    };
    let undisturbed = world();
    undisturbed.deliver("deploy", &push(NEW)).await.unwrap();
    let calls = undisturbed.operations().len();
    let kills = [Fate::KilledBefore, Fate::KilledAfter];
    for (first, second) in (0..calls).flat_map(|first| (first % 4..calls).step_by(4).map(move |second| (first, second)))
    {
        let world = world();
        let fates = [kills[(first + second) % 2].clone(), kills[first % 2].clone()];
        let situation = format!("{fates:?} at call {first} of the first and {second} of the second");
        world.fates(move |_, number| match number {
            number if number == first => fates[0].clone(),
            number if number == first + 1 + second => fates[1].clone(),
            _ => Fate::Answered,
        });
        world.deliver("deploy", &push(NEW)).await.unwrap();
        let states: Vec<Value> = records(&world).iter().map(|record| record["state"].clone()).collect();
        assert_eq!(states, ["rolling", "rolling"], "{situation}");
        let state = world.state();
        assert_eq!(state.ecs.families["web"].len(), 2, "{situation}");
        for service in ["production/web", "production/web-2"] {
            let rollouts = state.ecs.services[service]["deployments"].as_array().unwrap().len() - 1;
            assert_eq!((state.ecs.running(service), rollouts), (image(NEW), 1), "{service}: {situation}");
        }
        assert!(state.table.items("SERVICE").iter().all(|item| item["lease_until"] == 0), "{situation}");
        assert_eq!(state.rejects, Vec::<Value>::new(), "{situation}");
    }
}

/// ECS can't know that a request is one that it has had before, and would make a second revision of it.
#[tokio::test(start_paused = true)]
async fn a_revision_is_registered_once_whatever_becomes_of_the_answer() {
    let fates = [Fate::AnswerLost, Fate::Slow(Duration::from_secs(11))];
    for fate in fates {
        let world = pushed();
        world.fates(move |call, _| match call.operation.as_str() {
            "RegisterTaskDefinition" => fate.clone(),
            _ => Fate::Answered,
        });
        world.invoke("deploy", &push(NEW)).await.unwrap().expect("there is nothing to try again");
        assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 1));
        assert_eq!(world.state().ecs.families["web"].len(), 2);
        assert_eq!(world.state().ecs.running("production/web"), image(NEW));
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_was_not_registered_is_asked_for_again() {
    let fates =
        [Fate::Lost, Fate::Hangs, Fate::Refused(500, "ServerException"), Fate::Refused(400, "ThrottlingException")];
    for fate in fates {
        let world = pushed();
        let mut count = 0;
        world.fates(move |call, _| match call.operation.as_str() {
            "RegisterTaskDefinition" => {
                count += 1;
                if count < 4 { fate.clone() } else { Fate::Answered }
            }
            _ => Fate::Answered,
        });
        world.invoke("deploy", &push(NEW)).await.unwrap().expect("there is nothing to try again");
        assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (4, 1));
        assert_eq!(world.state().ecs.families["web"].len(), 2);
    }
}

/// The answer is lost, and so is the way to find out. The next service of the family finds what is there.
#[tokio::test(start_paused = true)]
async fn a_revision_that_nobody_could_look_for_is_found_by_the_next_service() {
    let world = pushed();
    world.state().ecs.add_service("staging", "web", "web", &[("tidegate:follow/tides/web", "master")]);
    let mut refused = None;
    world.fates(move |call, _| match (call.operation.as_str(), &mut refused) {
        ("RegisterTaskDefinition", refused @ None) => {
            *refused = Some(0);
            Fate::AnswerLost
        }
        ("DescribeTaskDefinition", Some(count @ 0..4)) => {
            *count += 1;
            Fate::Refused(500, "ServerException")
        }
        _ => Fate::Answered,
    });
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!((world.count("RegisterTaskDefinition"), world.count("UpdateService")), (1, 2));
    assert_eq!(world.state().ecs.families["web"].len(), 2);
    for service in ["production/web", "staging/web"] {
        assert_eq!(world.state().ecs.running(service), image(NEW), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_recorded_and_the_event_kept_once() {
    let world = pushed();
    let refuse = |call: &Call, _| match call.operation.as_str() {
        "UpdateService" => Fate::Refused(400, "AccessDeniedException"),
        _ => Fate::Answered,
    };
    world.fates(refuse);
    let response = world.invoke("deploy", &push(NEW)).await.unwrap().expect("it must not be tried again");
    assert_eq!(decision(&response)["action"], "reject");
    assert_eq!(records(&world)[0]["state"], "failed");
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0]["event"], push(NEW));
    assert!(rejects[0]["cause"].as_str().unwrap().contains("Allow UpdateService in the function's role"));

    world.calm();
    world.deliver("deploy", &rejects[0]["event"]).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEW), "once allowed, the kept event deploys");
}

#[tokio::test(start_paused = true)]
async fn one_service_that_fails_does_not_stop_the_others() {
    let world = pushed();
    world.state().ecs.add_service("staging", "web", "web", &[("tidegate:follow/tides/web", "master")]);
    world.fates(|call, _| match call.body["cluster"] == "production" && call.operation == "UpdateService" {
        true => Fate::Refused(400, "InvalidParameterException"),
        false => Fate::Answered,
    });
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(world.state().ecs.running("staging/web"), image(NEW));
    assert_eq!(world.state().ecs.running("production/web"), image(OLD));
}

#[tokio::test(start_paused = true)]
async fn throttling_is_left_to_the_platform_and_an_unknown_event_is_not() {
    let world = pushed();
    world.fates(|_, _| Fate::Refused(400, "ThrottlingException"));
    let error = world.invoke("deploy", &push(NEW)).await.unwrap().unwrap_err();
    assert!(error.contains("GetResources") && error.contains("ThrottlingException"), "{error}");

    world.calm();
    let unknown = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
    for function in ["deploy", "notify"] {
        let response = world.invoke(function, &unknown).await.unwrap().unwrap();
        assert_eq!(decision(&response)["action"], "reject");
    }
    let rejects = world.state().rejects.clone();
    assert_eq!(rejects.len(), 2);
    assert_eq!((&rejects[0]["function"], &rejects[1]["function"]), (&json!("deploy"), &json!("notify")));
}
