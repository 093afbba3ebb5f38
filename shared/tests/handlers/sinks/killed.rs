//! Killed at any call, with everybody to be told.

use super::*;

/// A way in which a call can go wrong once.
const FATES: [Fate; 5] =
    [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Lost, Fate::Refused(500, "ServerException")];

async fn everyone_is_told_whatever_call_is_disturbed(end: fn(&World, &str) -> Value, state: &str) {
    let run = async |at: usize, fate: Fate| {
        let (world, id) = rolling().await;
        let event = end(&world, &id);
        world.fates(move |_, number| if number == at { fate.clone() } else { Fate::Answered });
        world.deliver("notify", &event).await.unwrap();
        world
    };
    let undisturbed = run(usize::MAX, Fate::Answered).await;
    let calls = undisturbed.state().calls.clone();
    assert!(is_at_rest(&record(&undisturbed)));
    for fate in FATES {
        for (at, call) in calls.iter().enumerate() {
            let situation = format!("{fate:?} at call {at}, {}", call.operation);
            let world = run(at, fate.clone()).await;
            // A function that is killed when all is told leaves it to the sweep to say so.
            sweeps(&world, 2).await;
            let record = record(&world);
            assert_eq!(record["state"], state, "{situation}");
            assert!(is_at_rest(&record), "{situation}: {record}");
            assert_eq!(record.get("telling_until"), None, "{situation}");
            for to in To::ALL {
                // What can't be told from a repetition may be repeated, where it was not written down that it is told.
                let expected = to.expected(&[state]);
                let told = to.news(&world);
                match to {
                    To::Slack | To::NewRelic => {
                        assert!(
                            expected.len() <= told.len() && told.len() <= 2 * expected.len(),
                            "{situation}: {told:?}"
                        );
                        assert!(told.iter().all(|told| expected.contains(told)), "{situation}: {told:?}");
                    }
                    _ => assert_eq!(told, expected, "{to:?}, {situation}"),
                }
            }
            assert_eq!(world.state().rejects.len(), 0, "{situation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everyone_is_told_of_a_success() {
    everyone_is_told_whatever_call_is_disturbed(complete, "succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn everyone_is_told_of_a_failure() {
    everyone_is_told_whatever_call_is_disturbed(fail, "failed").await;
}
