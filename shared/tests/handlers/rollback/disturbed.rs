//! Whatever call is disturbed, and whoever comes at the same moment: the end is that of an undisturbed run.

use std::time::Duration;

use super::scenarios::settle;
use super::*;

const FATES: [Fate; 5] =
    [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Lost, Fate::Refused(500, "ServerException")];

/// Something is wrong: the event that tells so.
type Fault = fn(&World) -> Value;

struct Situation {
    name: &'static str,
    is_live: bool,
    fault: Fault,
}

const SITUATIONS: [Situation; 5] = [
    Situation { name: "its alarm goes off in the bake", is_live: true, fault: alarm },
    Situation { name: "its alarm goes off in the rollout", is_live: false, fault: alarm },
    Situation {
        name: "its rollout fails and ECS stays there, and the good revision was deregistered",
        is_live: false,
        fault: |world| {
            let id = primary(world);
            let mut state = world.state();
            state.ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"]["deploymentCircuitBreaker"] =
                json!({"enable": true, "rollback": false});
            state.ecs.deregister("web:2");
            state.ecs.end_rollout(WEB, "FAILED");
            failed(&id)
        },
    },
    Situation {
        name: "its tasks fail, and the good image was deleted",
        is_live: true,
        fault: |world| {
            world.state().ecr.repositories.get_mut("tides/web").unwrap().remove(NEW);
            task_fails(world);
            task_fails(world);
            task_fails(world)
        },
    },
    Situation {
        name: "a person wants the release before the last",
        is_live: true,
        fault: |world| asked(world, "1", &json!({"to": "web:1"})),
    },
];

/// The bad release is out, and something is wrong with it.
async fn bad(situation: &Situation) -> (World, Value) {
    let world = proven().await;
    release(&world, NEWER).await;
    wait(60).await;
    if situation.is_live {
        completes(&world).await;
    }
    wait(30).await;
    let event = (situation.fault)(&world);
    wait(1).await;
    (world, event)
}

/// All that must be the same however it came about.
fn end(world: &World) -> (Vec<String>, String, Vec<String>, bool, usize, usize) {
    let revisions = world.state().ecs.families["web"].len();
    let turns = world.state().ecs.turns.len();
    (story(world), running(world), quarantine(world), is_held(world), revisions, turns)
}

#[tokio::test(start_paused = true)]
async fn whatever_call_is_disturbed_the_end_is_the_same() {
    for situation in &SITUATIONS {
        let run = async |at: usize, fate: Fate| {
            let (world, event) = bad(situation).await;
            world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
            let delivered = world.deliver("rollback", &event).await;
            let calls = world.state().calls.clone();
            world.calm();
            assert!(delivered.is_ok(), "{}: {delivered:?}", situation.name);
            (world, calls)
        };
        let (undisturbed, calls) = run(usize::MAX, Fate::Answered).await;
        settle(&undisturbed).await;
        let expected = end(&undisturbed);
        for fate in FATES {
            for (at, call) in calls.iter().enumerate() {
                let what = format!("{}: {fate:?} at call {at}, {}", situation.name, call.operation);
                let (world, _) = run(at, fate.clone()).await;
                settle(&world).await;
                assert_eq!(end(&world), expected, "{what}: {:#?}", records(&world));
                assert_eq!(world.state().rejects, Vec::<Value>::new(), "{what}");
                assert!(world.state().table.items("SERVICE").iter().all(|item| item["lease_until"] == 0), "{what}");
            }
        }
    }
}

/// The function is killed and never tried again: the schedule finds what it has left behind.
#[tokio::test(start_paused = true)]
async fn what_a_dead_handler_has_left_is_taken_up_by_the_schedule() {
    for situation in SITUATIONS.iter().filter(|situation| situation.fault as usize != SITUATIONS[4].fault as usize) {
        let (undisturbed, event) = bad(situation).await;
        undisturbed.calm();
        undisturbed.deliver("rollback", &event).await.unwrap();
        let calls = undisturbed.operations();
        settle(&undisturbed).await;
        for fate in [Fate::KilledBefore, Fate::KilledAfter] {
            for (at, call) in calls.iter().enumerate() {
                let what = format!("{}: {fate:?} at call {at}, {call}", situation.name);
                let (world, event) = bad(situation).await;
                let of_call = fate.clone();
                world.fates(move |_, number| if number == at { of_call.clone() } else { Fate::Answered });
                world.invoke("rollback", &event).await;
                world.calm();
                // The schedules of the others come round first. The alarm is on still.
                wait(61).await;
                for other in ["deploy", "notify"] {
                    world.deliver(other, &sweep()).await.unwrap();
                }
                minutes(&world, 2).await;
                settle(&world).await;
                assert_eq!(end(&world), end(&undisturbed), "{what}: {:#?}", records(&world));
            }
        }
    }
}

/// A new image is pushed while the bad one is taken back. Whoever is first, the new one runs in the end, and the bad one
/// never again.
#[tokio::test(start_paused = true)]
async fn a_push_at_the_same_moment_is_not_undone() {
    for situation in &SITUATIONS[..4] {
        for seed in 0..12 {
            let (world, event) = bad(situation).await;
            let mut random = fastrand::Rng::with_seed(seed);
            world.fates(move |_, _| Fate::Late(Duration::from_millis(random.u64(0..400))));
            let now = world.seconds() as u64;
            world.state().ecr.push("tides/web", "master", FIXED, now);
            let pushed = push(FIXED);
            let notified = sweep();
            let deliveries = [("rollback", &event), ("deploy", &pushed), ("notify", &notified), ("rollback", &event)];
            let deliveries = deliveries.map(|(name, event)| Box::pin(world.deliver(name, event)));
            for delivered in futures_util::future::join_all(deliveries).await {
                delivered.unwrap();
            }
            world.calm();
            calm_down(&world);
            settle(&world).await;
            // ECS was going back, or the alarm was on still.
            world.deliver("deploy", &sweep()).await.unwrap();
            settle(&world).await;
            let what = format!("{}, {seed}: {:?}", situation.name, story(&world));
            assert_eq!(running(&world), image(FIXED), "{what}");
            // By the push, or by the sweep where the alarm was on still.
            assert!(story(&world).last().unwrap().ends_with(" succeeded fixed"), "{what}");
            assert!(quarantine(&world).iter().all(|digest| digest == "newer"), "{what}");
            let turns = world.state().ecs.turns.clone();
            assert!(turns.len() <= 4, "{what}: {turns:?}");
        }
    }
}

/// The handler is dead, and before anybody comes by the tag is moved back to the good image, by hand.
#[tokio::test(start_paused = true)]
async fn a_tag_that_is_moved_back_meanwhile_comes_to_the_same_end() {
    for situation in &SITUATIONS[..3] {
        let (undisturbed, event) = bad(situation).await;
        undisturbed.calm();
        undisturbed.deliver("rollback", &event).await.unwrap();
        for (at, call) in undisturbed.operations().iter().enumerate() {
            let what = format!("{}: killed after call {at}, {call}", situation.name);
            let (world, event) = bad(situation).await;
            world.fates(move |_, number| if number == at { Fate::KilledAfter } else { Fate::Answered });
            world.invoke("rollback", &event).await;
            world.calm();
            calm_down(&world);
            wait(61).await;
            release(&world, NEW).await;
            settle(&world).await;
            world.deliver("deploy", &sweep()).await.unwrap();
            settle(&world).await;
            assert_eq!(running(&world), image(NEW), "{what}: {:#?}", records(&world));
            let newest = story(&world).pop().unwrap();
            assert!(!newest.contains("rolling") && !newest.contains("intended"), "{what}: {newest}");
        }
    }
}
