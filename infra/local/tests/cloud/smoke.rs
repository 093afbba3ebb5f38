//! What the launcher adds to the emulator, one test for each behaviour: a new version of the emulator that breaks one
//! fails here.

mod ecr;
mod ecs;
mod functions;
mod instances;
mod others;
mod policies;
mod queues;
mod rollbacks;
mod rollouts;

use anyhow::{Context as _, Result};
use local::aws::ApiError;
use local::cloud::Cloud;
use serde_json::{Value, json};

fn code<T>(result: Result<T>) -> Result<String> {
    let error = result.err().context("an error was expected")?;
    Ok(error.downcast::<ApiError>()?.code)
}

fn definition(family: &str) -> Value {
    json!({
        "family": family,
        "containerDefinitions": [{ "name": "app", "image": "public.ecr.aws/nginx/nginx:1.29", "memory": 128 }],
    })
}

fn deployment_events(cloud: &Cloud, id: &str) -> Vec<String> {
    let mut events = cloud.events.published();
    events.retain(|event| event["detail"]["deploymentId"] == id);
    events.iter().filter_map(|event| event["detail"]["eventName"].as_str().map(str::to_owned)).collect()
}
