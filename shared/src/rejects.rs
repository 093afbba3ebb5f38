//! The rejects queue: where an event that can't be handled is kept, with its cause.
//!
//! Lambda's own on-failure destination leads to the same queue, for events whose invocations failed to the end.

use aws_sdk_sqs::Client;
use serde_json::{Value, json};

use crate::error::{Error, from_sdk};

/// Largest message that SQS takes, in bytes
/// ([quotas](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html)). An
/// event that Lambda was given is smaller; only its wrapping could make it larger.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The queue.
#[derive(Debug, Clone)]
pub struct Rejects {
    client: Client,
    queue_url: String,
    function: &'static str,
}

impl Rejects {
    /// The queue at `queue_url`, for what `function` can't handle.
    #[must_use]
    pub fn new(client: Client, queue_url: impl Into<String>, function: &'static str) -> Self {
        Self { client, queue_url: queue_url.into(), function }
    }

    /// Keeps `event` with the causes of its rejection.
    ///
    /// # Errors
    /// [`Error::Aws`]: then the invocation must fail, so that the platform keeps the event.
    pub async fn keep(&self, event: &Value, request_id: &str, causes: &[String]) -> Result<(), Error> {
        let message = |event: &Value| {
            json!({
                "function": self.function,
                "cause": causes.join("; "),
                "request_id": request_id,
                "event": event,
            })
            .to_string()
        };
        let mut body = message(event);
        if body.len() > MESSAGE_BYTES_MAX {
            body = message(&json!("the event is too large to be kept here; the function's log names its request id"));
        }
        self.client
            .send_message()
            .queue_url(&self.queue_url)
            .message_body(body)
            .send()
            .await
            .map_err(|error| from_sdk("SendMessage", "the rejects queue", &error))?;
        Ok(())
    }
}
