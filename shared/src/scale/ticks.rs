//! How a scaling function looks again before its schedule does: messages to itself that SQS delivers later.
//!
//! Only the schedule sends them, never a tick: Lambda
//! [stops a function](https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html) that sends itself messages
//! in a chain.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::error::{Error, from_sdk};
use crate::events::tick;

/// When the ticks come, in seconds after the schedule.
const DELAYS: [i32; 3] = [15, 30, 45];
/// Most ARNs in a message: SQS takes
/// [1 MiB](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html) for a batch.
const ARNS_MAX: usize = 500;

/// The queue of ticks.
#[derive(Debug, Clone)]
pub struct Ticks {
    client: Client,
    queue_url: Option<String>,
}

impl Ticks {
    /// The queue at `queue_url`; none are sent where there is none.
    #[must_use]
    pub fn new(client: Client, queue_url: Option<String>) -> Self {
        Self { client, queue_url }
    }

    /// Sends the ticks of the minute to come, to look at `arns` again.
    ///
    /// # Errors
    /// [`Error::Aws`]. The next minute's schedule looks at them in any case.
    pub async fn send(&self, arns: &[&str]) -> Result<(), Error> {
        let Some(queue_url) = &self.queue_url else { return Ok(()) };
        for some in arns.chunks(ARNS_MAX) {
            let body = tick(some).to_string();
            let entry = |delay: i32| {
                let entry = SendMessageBatchRequestEntry::builder().id(format!("after-{delay}")).delay_seconds(delay);
                entry.message_body(&body).build()
            };
            let entries: Result<Vec<_>, _> = DELAYS.into_iter().map(entry).collect();
            let entries = entries.map_err(|error| Error::Input(format!("a tick can't be sent: {error}")))?;
            let send = self.client.send_message_batch().queue_url(queue_url).set_entries(Some(entries)).send().await;
            let sent = send.map_err(|error| from_sdk("SendMessageBatch", "the queue of ticks", &error))?;
            if let Some(failed) = sent.failed().first() {
                tracing::warn!(code = failed.code(), "a tick was not sent");
            }
        }
        Ok(())
    }
}
