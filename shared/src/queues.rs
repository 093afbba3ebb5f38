//! The SQS queues that services work on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::QueueAttributeName as Name;

use crate::error::{Error, from_sdk};

/// The queue as `GetQueueAttributes` shows it now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Queue {
    /// Messages that wait (`ApproximateNumberOfMessages`).
    pub visible: f64,
    /// Messages that are being worked on, or hidden after a failure (`ApproximateNumberOfMessagesNotVisible`).
    pub in_flight: f64,
    /// Messages that are not to be worked on yet (`ApproximateNumberOfMessagesDelayed`).
    pub delayed: f64,
    /// Whether messages of one group wait for each other.
    pub is_fifo: bool,
}

/// SQS's API.
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
    /// URL by name: it never changes.
    urls: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Queues {
    /// SQS through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, urls: Arc::default() }
    }

    /// The queue called `name` as it is now: one call, and once one more for its URL. `None` where there is no such
    /// queue.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Answer`].
    pub async fn look(&self, name: &str) -> Result<Option<Queue>, Error> {
        let Some(url) = self.url(name).await? else { return Ok(None) };
        let counts = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
            Name::ApproximateNumberOfMessagesDelayed,
        ];
        let get = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(counts.to_vec()));
        let answer = match get.send().await {
            Ok(answer) => answer,
            Err(error) if is_gone(error.code()) => {
                self.urls.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                return Ok(None);
            }
            Err(error) => return Err(from_sdk("GetQueueAttributes", name, &error)),
        };
        let count = |of: &Name| answer.attributes().and_then(|known| known.get(of)?.parse::<f64>().ok());
        let [visible, in_flight, delayed] = counts.each_ref().map(count);
        let missing =
            || Error::Answer { operation: "GetQueueAttributes", resource: name.into(), missing: "its counts" };
        Ok(Some(Queue {
            visible: visible.ok_or_else(missing)?,
            in_flight: in_flight.ok_or_else(missing)?,
            delayed: delayed.unwrap_or_default(),
            // The name of a FIFO queue says so, and that of no other does.
            is_fifo: name.ends_with(".fifo"),
        }))
    }

    async fn url(&self, name: &str) -> Result<Option<String>, Error> {
        let known = self.urls.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let answer = match self.client.get_queue_url().queue_name(name).send().await {
            Ok(answer) => answer,
            Err(error) if is_gone(error.code()) => {
                return Ok(None);
            }
            Err(error) => return Err(from_sdk("GetQueueUrl", name, &error)),
        };
        let url = answer.queue_url.ok_or_else(|| Error::Answer {
            operation: "GetQueueUrl",
            resource: name.into(),
            missing: "a URL",
        })?;
        self.urls.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), url.clone());
        Ok(Some(url))
    }
}

/// Whether SQS says that there is no such queue: in the words of its old protocol, or of its new one.
fn is_gone(code: Option<&str>) -> bool {
    matches!(code, Some("AWS.SimpleQueueService.NonExistentQueue" | "QueueDoesNotExist"))
}
