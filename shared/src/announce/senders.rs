//! How what is told reaches those who are not Slack.

use std::fmt;
use std::sync::Arc;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::Client as Sns;
use aws_sdk_ssm::Client as Ssm;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::delivery::{Answer, insist, with_secret};
use super::{amazon_q, cdevents, newrelic, webhook};
use crate::error::{Error, from_sdk};
use crate::http::Http;
use crate::metrics::{self, Subject};
use crate::platform::Platform;
use crate::record::{Record, millis};
use crate::secrets::Secret;
use crate::settings::{NewRelicSettings, WebhookSettings};

/// New Relic's change tracking.
#[derive(Debug)]
pub struct NewRelic {
    http: Http,
    api: String,
    secret: Secret,
    platform: Platform,
}

impl NewRelic {
    const SINK: &str = "New Relic";

    /// New Relic over `http`, with its key in the Parameter Store.
    #[must_use]
    pub fn new(http: Http, ssm: Ssm, settings: NewRelicSettings, platform: Platform) -> Self {
        let secret = Secret::new(ssm, settings.secret_name, Self::SINK, "a user key");
        Self { http, api: settings.api, secret, platform }
    }

    /// Marks what went live and what was taken back.
    ///
    /// # Errors
    /// [`Error::Sink`]; [`Error::Aws`] where the key can't be read.
    pub async fn tell(&self, record: &Record, deadline: DateTime<Utc>) -> Result<(), Error> {
        let Some(body) = newrelic::body(record, self.platform.now()) else { return Ok(()) };
        let body = &body.to_string();
        let request = async |key: SecretString| {
            let headers =
                [("content-type", "application/json".to_owned()), ("api-key", key.expose_secret().to_owned())];
            let post =
                async || Answer::of(self.http.post(&self.api, &headers, body.clone()).await, newrelic::read_answer);
            insist(&self.platform, deadline, post).await
        };
        let answer = with_secret(&self.secret, newrelic::is_about_key, request).await?;
        answer.map_err(|refusal| refusal.of(Self::SINK))
    }
}

/// A webhook of one's own.
#[derive(Debug)]
pub struct Webhook {
    http: Http,
    url: String,
    secret: Secret,
    platform: Platform,
}

impl Webhook {
    const SINK: &str = "the webhook";

    /// The webhook over `http`, with its signing secret in the Parameter Store.
    #[must_use]
    pub fn new(http: Http, ssm: Ssm, settings: WebhookSettings, platform: Platform) -> Self {
        let secret = Secret::new(ssm, settings.secret_name, Self::SINK, "the signing secret (whsec_...)");
        Self { http, url: settings.url, secret, platform }
    }

    /// Calls it.
    ///
    /// # Errors
    /// [`Error::Sink`]; [`Error::Aws`] where the secret can't be read.
    pub async fn tell(&self, record: &Record, deadline: DateTime<Utc>) -> Result<(), Error> {
        let request = async |secret: SecretString| {
            let post = async || {
                // Each attempt is signed anew, for the time is part of what is signed.
                let post = match webhook::request(record, &secret, self.platform.now()) {
                    Ok(post) => post,
                    Err(reason) => return Answer::Refused(reason),
                };
                Answer::of(self.http.post(&self.url, &post.headers, post.body).await, webhook::read_answer)
            };
            insist(&self.platform, deadline, post).await
        };
        let answer = with_secret(&self.secret, webhook::is_about_secret, request).await?;
        answer.map_err(|refusal| refusal.of(Self::SINK))
    }
}

/// An EventBridge bus.
#[derive(Debug)]
pub struct Bus {
    client: aws_sdk_eventbridge::Client,
    name: String,
}

impl Bus {
    /// The bus of this name or ARN, through `client`.
    #[must_use]
    pub fn new(client: aws_sdk_eventbridge::Client, name: String) -> Self {
        Self { client, name }
    }

    /// Puts the event of `record`.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Sink`] where EventBridge takes the call and not the event.
    pub async fn tell(&self, record: &Record) -> Result<(), Error> {
        let Some(event) = cdevents::event(record) else { return Ok(()) };
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source("tidegate")
            .detail_type(event.detail_type)
            .detail(event.detail.to_string())
            .resources(&record.service_arn)
            .build();
        let answer = self.client.put_events().entries(entry).send().await;
        let answer = answer.map_err(|error| from_sdk("PutEvents", &self.name, &error))?;
        match answer.entries().iter().find_map(|entry| entry.error_code()) {
            None => Ok(()),
            Some(code) => {
                let transient = matches!(code, "ThrottlingException" | "InternalFailure" | "InternalException");
                Err(Error::Sink { sink: "EventBridge", reason: code.to_owned(), transient })
            }
        }
    }
}

/// The topic that Amazon Q Developer in chat applications is subscribed to.
#[derive(Debug)]
pub struct Chat {
    client: Sns,
    topic_arn: String,
}

impl Chat {
    /// The topic `topic_arn`, through `client`.
    #[must_use]
    pub fn new(client: Sns, topic_arn: String) -> Self {
        Self { client, topic_arn }
    }

    /// Publishes the notification of `record`.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn tell(&self, record: &Record) -> Result<(), Error> {
        let Some(notification) = amazon_q::notification(record) else { return Ok(()) };
        let publish = self.client.publish().topic_arn(&self.topic_arn).message(notification.to_string());
        publish.send().await.map_err(|error| from_sdk("Publish", &self.topic_arn, &error))?;
        Ok(())
    }
}

/// Where documents of the [embedded metric format](
/// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format.html) go: a line each on
/// standard output, from where Lambda takes them to CloudWatch Logs.
#[derive(Clone)]
pub struct Metrics(Arc<dyn Fn(&Value) + Send + Sync>);

impl Metrics {
    /// Documents that go to `write`.
    #[must_use]
    pub fn new(write: impl Fn(&Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Documents on standard output.
    #[must_use]
    pub fn on_standard_output() -> Self {
        #[expect(clippy::print_stdout, reason = "a log line has fields of its own, which would spoil the format")]
        Self::new(|document| println!("{document}"))
    }

    /// Counts what became of `record`, and returns the names of all metrics that it has been counted by then.
    #[must_use]
    pub fn tell(&self, record: &Record, now: DateTime<Utc>) -> Vec<String> {
        let counted = metrics::counts(record);
        if let Some(document) = metrics::of_deployment(record, millis(now)) {
            (self.0)(&document);
        }
        record.metrics_counted.iter().cloned().chain(counted.into_iter().map(str::to_owned)).collect()
    }

    /// Counts what was done to the size of a service or a cluster, and what people have to see to, with the numbers
    /// behind it.
    pub fn scaling(&self, subject: &Subject, names: &[&'static str], inputs: Option<&Value>, now: DateTime<Utc>) {
        (self.0)(&metrics::of_scaling(subject, names, inputs, millis(now)));
    }

    /// Counts what `function` could not handle.
    pub fn rejects(&self, function: &str, count: usize, now: DateTime<Utc>) {
        (self.0)(&metrics::rejects(function, count, millis(now)));
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use crate::record::State;
    use crate::record::tests::record;

    #[test]
    fn metrics_are_lines_of_outcomes() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let metrics = Metrics::new(move |line| written.lock().unwrap().push(line.clone()));
        let now = "2026-11-16T10:00:00Z".parse().unwrap();
        assert_eq!(metrics.tell(&record(State::Rolling), now), Vec::<String>::new());
        assert_eq!(metrics.tell(&record(State::Skipped), now), Vec::<String>::new());
        assert_eq!(lines.lock().unwrap().len(), 0);
        let counted = metrics.tell(&record(State::Failed), now);
        assert_eq!(counted, ["Failed"]);
        let again = Record { metrics_counted: counted, version: 9, ..record(State::Failed) };
        assert_eq!(metrics.tell(&again, now), ["Failed"]);
        metrics.rejects("notify", 2, now);
        let lines = lines.lock().unwrap();
        assert_eq!((&lines[0]["Failed"], &lines[1]["Rejects"]), (&1.into(), &2.into()));
        assert_eq!(format!("{metrics:?}"), "Metrics");
    }
}
