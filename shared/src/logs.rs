//! What tasks have logged: the end of a stream in CloudWatch Logs.

use aws_sdk_cloudwatchlogs::Client;

use crate::error::{Error, from_sdk};

/// CloudWatch Logs.
#[derive(Debug, Clone)]
pub struct Logs {
    client: Client,
}

impl Logs {
    /// CloudWatch Logs through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The last `count` events of a stream, oldest first; none where there is no such stream.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn last(&self, group: &str, stream: &str, count: i32) -> Result<Vec<String>, Error> {
        let answer = self
            .client
            .get_log_events()
            .log_group_name(group)
            .log_stream_name(stream)
            .limit(count)
            .start_from_head(false)
            .send()
            .await
            .map_err(|error| from_sdk("GetLogEvents", group, &error));
        match answer {
            Ok(answer) => {
                let messages = answer.events.unwrap_or_default().into_iter().filter_map(|event| event.message);
                Ok(messages.collect())
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
