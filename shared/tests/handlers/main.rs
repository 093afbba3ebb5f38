//! The shipped handlers in a small world behind the SDK's HTTP connector: what they do on the wire, what they leave
//! alone, and what becomes of them when they are disturbed.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod checks;
mod deploy;
mod explain;
mod load;
mod notify;
mod others;
mod outcomes;
mod policies;
mod report;
mod rollback;
mod scale_cluster;
mod scale_service;
mod sinks;
mod stalls;
mod sweep;
mod trace;
mod world_itself;

use serde_json::{Value, json};
use sim::world;

use crate::world::{HOST, World};

pub(crate) const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";
pub(crate) const NEW: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
pub(crate) const NEWER: &str = "sha256:7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";

pub(crate) fn push(digest: &str) -> Value {
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": "ECR Image Action",
        "source": "aws.ecr", "account": world::ACCOUNT, "time": "2026-11-16T08:59:58Z", "region": world::REGION,
        "resources": [], "detail": {
            "result": "SUCCESS", "repository-name": "tides/web", "image-digest": digest, "action-type": "PUSH",
            "image-tag": "master",
        },
    })
}

pub(crate) fn ecs_event(name: &str, deployment_id: &str) -> Value {
    json!({
        "version": "0", "id": "ddca6449-b258-46c0-8653-e0e3a0000001", "detail-type": "ECS Deployment State Change",
        "source": "aws.ecs", "account": world::ACCOUNT, "time": "2026-11-16T09:03:00Z", "region": world::REGION,
        "resources": [format!("arn:aws:ecs:{}:{}:service/production/web", world::REGION, world::ACCOUNT)],
        "detail": {
            "eventType": "INFO", "eventName": name, "deploymentId": deployment_id,
            "updatedAt": "2026-11-16T09:03:00Z", "reason": "as ECS would say",
        },
    })
}

/// A service `production/web` that runs [`OLD`] and follows `master`, which points to [`NEW`].
pub(crate) fn pushed() -> World {
    let world = World::new();
    let mut state = world.state();
    state.ecs.register(&json!({
        "family": "web", "networkMode": "awsvpc", "fieldOfTomorrow": {"deep": [1, null, "x"]}, "cpu": "256",
        "containerDefinitions": [
            {"name": "web", "image": format!("{HOST}/tides/web@{OLD}"), "essential": true, "novelty": {"on": true},
             "environment": [{"name": "EMPTY", "value": ""}]},
            {"name": "proxy", "image": "public.ecr.aws/envoy/envoy:v1.31", "essential": false},
        ],
        "tags": [{"key": "team", "value": "tides"}],
    }));
    state.ecs.add_service("production", "web", "web", &[("tidegate:follow/tides/web", "tag:master")]);
    state.ecr.push("tides/web", "master", NEW, 1_794_819_500);
    drop(state);
    world
}

pub(crate) fn image(digest: &str) -> String {
    format!("{HOST}/tides/web@{digest}")
}

/// The records of what Tidegate did or decided.
pub(crate) fn records(world: &World) -> Vec<Value> {
    let mut records = world.state().table.items("DEPLOYMENT#");
    records.retain(|record| record["origin"] != "external");
    records
}

/// The records of what others have deployed.
pub(crate) fn externals(world: &World) -> Vec<Value> {
    let mut records = world.state().table.items("DEPLOYMENT#");
    records.retain(|record| record["origin"] == "external");
    records
}

pub(crate) fn decision(response: &Value) -> &Value {
    let decisions = response["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 1, "{response}");
    &decisions[0]
}
