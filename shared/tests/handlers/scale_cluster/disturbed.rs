//! Whatever call is disturbed, and whoever comes at the same moment: the end is that of an undisturbed run.

use std::time::Duration;

use super::*;

const FATES: [Fate; 5] =
    [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Lost, Fate::Refused(500, "ServerException")];

/// All that must be the same however it came about.
fn end(world: &World) -> (i64, Vec<String>, usize) {
    let (desired, placed) = cluster(world);
    let killed = 9 - world.state().ecs.tasks["production/web"].len();
    (desired, placed, killed)
}

/// Runs `count` minutes; the call `at` of the minute `of` meets its fate.
async fn run(world: &World, count: usize, of: usize, at: usize, fate: &Fate) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for minute in 0..count {
        passes(world);
        let fate = if minute == of { fate.clone() } else { Fate::Answered };
        world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
        // The schedule is not tried again: the next minute comes.
        let _whatever = world.invoke("scale-cluster", &sweep()).await;
        calls.push(world.operations());
        world.calm();
        wait(60).await;
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn out_whatever_call_is_disturbed() {
    let disturbed = async |at: usize, fate: &Fate| {
        let world = calm();
        crowd(&world);
        let calls = run(&world, 4, 0, at, fate).await;
        (end(&world), calls.into_iter().next().unwrap())
    };
    let (expected, calls) = disturbed(usize::MAX, &Fate::Answered).await;
    assert_eq!((expected.0, expected.2), (4, 0));
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| is_write(call)) {
        for fate in &FATES {
            let (end, _) = disturbed(at, fate).await;
            assert_eq!(end, expected, "{fate:?} at call {at}, {call}");
        }
    }
}

/// The minute in which an instance is drained, and that in which it is terminated.
#[tokio::test(start_paused = true)]
async fn in_whatever_call_is_disturbed() {
    let disturbed = async |of: usize, at: usize, fate: &Fate| {
        let world = spare().await;
        world.state().groups.by_name.get_mut(GROUP).unwrap().min = 3;
        let calls = run(&world, 16, of, at, fate).await;
        (cluster(&world), calls)
    };
    let (expected, calls) = disturbed(usize::MAX, 0, &Fate::Answered).await;
    assert_eq!(expected.0, 3);
    let acting: Vec<usize> =
        (0..calls.len()).filter(|minute| calls[*minute].iter().any(|call| is_effect(call))).collect();
    assert_eq!(acting.len(), 2, "{calls:?}");
    for of in acting {
        for at in (0..calls[of].len()).filter(|at| is_write(&calls[of][*at])) {
            for fate in &FATES[..3] {
                let (end, _) = disturbed(of, at, fate).await;
                assert_eq!(end, expected, "{fate:?} at {} of minute {of}", calls[of][at]);
            }
        }
    }
}

fn is_effect(operation: &str) -> bool {
    ["UpdateContainerInstancesState", "TerminateInstanceInAutoScalingGroup"].contains(&operation)
}

/// Reads have no part in it, but for the first, which stands for all.
fn is_write(operation: &str) -> bool {
    operation == "GetItem" || !["Describe", "List", "Get"].iter().any(|begin| operation.starts_with(begin))
}

/// An event that is told once, and by nobody again.
#[tokio::test(start_paused = true)]
async fn an_instance_that_leaves_whatever_call_is_disturbed() {
    let disturbed = async |at: usize, fate: Fate| {
        let world = calm();
        let token = world.state().groups.by_name.get_mut(GROUP).unwrap().begin_terminating("i-0001");
        let event = json!({
            "id": "1", "detail-type": "EC2 Instance-terminate Lifecycle Action", "source": "aws.autoscaling", "detail": {
                "LifecycleActionToken": token, "AutoScalingGroupName": GROUP, "LifecycleHookName": "drain",
                "EC2InstanceId": "i-0001", "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            },
        });
        world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
        let delivered = world.deliver("scale-cluster", &event).await;
        let calls = world.operations();
        world.calm();
        minutes(&world, 6).await;
        assert!(delivered.is_ok(), "{delivered:?}");
        (cluster(&world), calls)
    };
    let (expected, calls) = disturbed(usize::MAX, Fate::Answered).await;
    assert!(!expected.1.iter().any(|shown| shown.starts_with("i-0001")), "{expected:?}");
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| is_write(call)) {
        for fate in FATES {
            let (end, _) = disturbed(at, fate.clone()).await;
            assert_eq!(end, expected, "{fate:?} at call {at}, {call}");
        }
    }
}

/// Two looks at the same moment, each with its own delays: nothing is done twice.
#[tokio::test(start_paused = true)]
async fn two_at_once_are_as_one() {
    for seed in 0..3 {
        let world = spare().await;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..24 {
            passes(&world);
            let mut delays = fastrand::Rng::with_seed(random.u64(..));
            world.fates(move |_, _| Fate::Late(Duration::from_millis(delays.u64(0..400))));
            let event = sweep();
            let both = [(); 2].map(|()| Box::pin(world.deliver("scale-cluster", &event)));
            for delivered in futures_util::future::join_all(both).await {
                delivered.unwrap();
            }
            world.calm();
            wait(60).await;
        }
        let what = format!("{seed}: {:?}", actions(&world));
        assert_eq!(cluster(&world).0, 2, "{what}");
        assert_eq!(actions(&world).len(), 5, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_aws_throttles_nothing_is_done() {
    let world = calm();
    crowd(&world);
    for operation in ["DescribeTasks", "DescribeServices", "ListContainerInstances", "DescribeAutoScalingGroups"] {
        world.fates(move |call, _| match call.operation == operation {
            true => Fate::Refused(400, "ThrottlingException"),
            false => Fate::Answered,
        });
        let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
        assert_eq!(response["decisions"][0]["rule"], "unreadable", "{response}");
        assert_eq!(cluster(&world).0, 2);
    }
    world.calm();
    wait(10).await;
    world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(cluster(&world).0, 4);
}

/// One cluster that can't be read does not keep others from what they need.
#[tokio::test(start_paused = true)]
async fn an_error_of_one_cluster_does_not_stop_the_others() {
    let world = calm();
    crowd(&world);
    world.state().ecs.add_cluster("aaa", &[("tidegate:scale/asg", "aaa-hosts")]);
    world.state().groups.by_name.insert("aaa-hosts".into(), Group { min: 0, max: 5, ..Group::default() });
    world.fates(|call, _| match call.body["cluster"] == "aaa" {
        true => Fate::Refused(400, "AccessDeniedException"),
        false => Fate::Answered,
    });
    let response = world.deliver("scale-cluster", &sweep()).await.unwrap();
    assert_eq!(cluster(&world).0, 4);
    assert!(response["decisions"][0]["reason"].as_str().unwrap().contains("Allow "), "{response}");
}
