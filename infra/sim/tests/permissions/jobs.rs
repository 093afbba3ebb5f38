//! Every job of the functions, so that all that they ever call is called.

mod deployments;
mod scaling;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sim::permissions::Use;
use sim::world::{ACCOUNT, REGION, World};

type Job = (&'static str, fn() -> Pin<Box<dyn Future<Output = World>>>);

/// What all jobs have needed together, each in a world of its own.
pub(crate) async fn used() -> BTreeSet<Use> {
    let mut used = BTreeSet::new();
    for (name, job) in deployments::JOBS.iter().chain(scaling::JOBS) {
        let needed = job().await.used();
        assert!(!needed.is_empty(), "{name} has called nobody");
        used.extend(needed);
    }
    used
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn now(world: &World) -> String {
    let now = DateTime::<Utc>::from_timestamp_millis((world.seconds() * 1000.0) as i64).unwrap();
    now.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An event as EventBridge has it, from `source` about `resource`.
fn event(world: &World, source: &str, kind: &str, resource: &str, detail: &Value) -> Value {
    json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": kind, "source": source,
        "account": ACCOUNT, "time": now(world), "region": REGION, "resources": [resource], "detail": detail,
    })
}

/// An alarm of this name has gone off, which watches a metric with these dimensions.
fn alarm(world: &World, name: &str, namespace: &str, dimensions: &Value) -> Value {
    let metric = json!({"namespace": namespace, "name": "metric", "dimensions": dimensions});
    let resource = format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}");
    event(
        world,
        "aws.cloudwatch",
        "CloudWatch Alarm State Change",
        &resource,
        &json!({
            "alarmName": name, "state": {"value": "ALARM", "timestamp": now(world)},
            "previousState": {"value": "OK"},
            "configuration": {"metrics": [{"id": "m1", "metricStat": {"metric": metric, "period": 60, "stat": "Maximum"}}]},
        }),
    )
}
