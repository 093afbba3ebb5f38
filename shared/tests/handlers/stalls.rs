//! A handler that stands still for longer than its lease between its intention and `UpdateService`, and then goes on: it
//! undoes nothing that came after. `infra/protocol` has why that takes a look at the lease.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::fleet::sweep;
use crate::world::{Call, Fate, World};
use crate::{NEW, NEWER, externals, image, push, pushed, records};

/// ECS does not answer what concerns `revision`, four times ten seconds and again: only the SDK's last attempt arrives.
fn slow(revision: &'static str) -> impl FnMut(&Call, usize) -> Fate + Send + 'static {
    let (mut registered, mut updated) = (0, 0);
    move |call, _| {
        let count = match call.operation.as_str() {
            "RegisterTaskDefinition" => &mut registered,
            "UpdateService" if call.body["taskDefinition"].to_string().contains(revision) => &mut updated,
            _ => return Fate::Answered,
        };
        *count += 1;
        match *count {
            1..=3 => Fate::Hangs,
            4 => Fate::Late(Duration::from_secs(9)),
            _ => Fate::Answered,
        }
    }
}

fn revisions(world: &World) -> Vec<String> {
    let calls = world.state().calls.clone();
    let started = calls.iter().filter(|call| call.operation == "UpdateService");
    let mut revisions: Vec<String> =
        started.filter_map(|call| Some(call.body["taskDefinition"].as_str()?.rsplit_once('/')?.1.to_owned())).collect();
    revisions.dedup();
    revisions
}

fn running(world: &World) -> String {
    world.state().ecs.running("production/web")
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_stood_still_does_not_undo_a_newer_one() {
    let world = pushed();
    world.fates(slow("web:2"));
    let (older, newer) = (push(NEW), push(NEWER));
    let late = world.deliver("deploy", &older);
    let newest = async {
        tokio::time::sleep(Duration::from_secs(61)).await;
        let now = world.seconds() as u64;
        world.state().ecr.push("tides/web", "master", NEWER, now);
        world.deliver("deploy", &newer).await
    };
    let (late, newest) = tokio::join!(Box::pin(late), Box::pin(newest));
    late.unwrap();
    newest.unwrap();
    world.deliver("deploy", &sweep()).await.unwrap();
    assert_eq!(running(&world), image(NEWER), "{:?}", revisions(&world));
    assert_eq!(revisions(&world).last().map(String::as_str), Some("web:3"));
    let ours = |records: Vec<Value>| records.iter().map(|record| record["state"].clone()).collect::<Vec<_>>();
    // The late one had asked for another lease in time, and the newer one has waited for it.
    assert_eq!(ours(records(&world)), [json!("rolling"), json!("rolling")]);
    assert!(externals(&world).len() <= 1, "what ran before, and nothing else: {:#?}", externals(&world));
}

/// Nobody else comes: it looks again, finds its own intention, and goes on with it.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_stood_still_alone_is_made_once() {
    let world = pushed();
    world.fates(slow("web:2"));
    world.deliver("deploy", &push(NEW)).await.unwrap();
    assert_eq!(running(&world), image(NEW));
    let records = records(&world);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["state"], "rolling");
    assert_eq!(world.state().ecs.families["web"].len(), 2);
    assert_eq!(world.state().table.items("SERVICE")[0]["lease_until"], 0);
}
