//! Containers that work on a queue: they receive a message, take their time, and delete it, one after the other.
//!
//! A container does so whose environment has [`QUEUE`]. When it is stopped it finishes the message that it has in hand.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Containers;
use crate::json::{list, text};
use crate::listeners;

/// The variable that names the queue.
pub const QUEUE: &str = "LOCAL_QUEUE";
/// The variable that says how long a message takes, in milliseconds.
pub const MILLISECONDS: &str = "LOCAL_MILLISECONDS";
/// How long a container waits before it asks an empty queue again.
const IDLE: Duration = Duration::from_secs(1);

/// What a container works on.
#[derive(Debug, Clone)]
pub(super) struct Work {
    queue: String,
    time: Duration,
}

impl Work {
    /// What the request to create a container asks for.
    pub(super) fn asked_for(request: &Value) -> Option<Self> {
        let variable = |name: &str| {
            let all = list(request, "Env").iter().filter_map(Value::as_str);
            all.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let time = variable(MILLISECONDS).and_then(|value| value.parse().ok()).unwrap_or(1000);
        Some(Self { queue: variable(QUEUE)?.to_owned(), time: Duration::from_millis(time) })
    }
}

/// Lets a container begin to work, if it has something to work on. It ends with the container.
pub(super) fn start(containers: &Arc<Containers>, id: &str) {
    let Some(work) = containers.lock().get(id).and_then(|container| container.work.clone()) else { return };
    let (containers, id) = (Arc::clone(containers), id.to_owned());
    tokio::spawn(async move {
        let queue = listeners::queue_url(&containers.aws, &work.queue);
        let is_stopped = || containers.lock().get(&id).is_none_or(|container| container.exit_code.is_some());
        while !is_stopped() {
            let receive = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 1 });
            // The emulator may have ended before us, and the queue may not be there yet.
            let answer = containers.aws.sqs("ReceiveMessage", &receive).await.unwrap_or_default();
            let Some(message) = list(&answer, "Messages").first() else {
                tokio::time::sleep(IDLE).await;
                continue;
            };
            tokio::time::sleep(work.time).await;
            let delete = json!({ "QueueUrl": queue, "ReceiptHandle": text(message, "ReceiptHandle") });
            _ = containers.aws.sqs("DeleteMessage", &delete).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_a_queue_in_its_environment_works_on_it() {
        let request = json!({ "Env": ["PATH=/bin", "LOCAL_QUEUE=jobs", "LOCAL_MILLISECONDS=250"] });
        let work = Work::asked_for(&request).map(|work| (work.queue, work.time));
        assert_eq!(work, Some(("jobs".to_owned(), Duration::from_millis(250))));
        assert!(Work::asked_for(&json!({ "Env": ["PATH=/bin"] })).is_none());
    }
}
