//! What each sink has been told.

use serde::{Deserialize, Serialize};

use super::is_zero;

/// The version of a record that each sink has been told; 0 where it has been told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// Slack.
    #[serde(default, rename = "slack_told", skip_serializing_if = "is_zero")]
    pub slack: u64,
    /// The SNS topic.
    #[serde(default, rename = "sns_told", skip_serializing_if = "is_zero")]
    pub sns: u64,
    /// Amazon Q Developer in chat applications.
    #[serde(default, rename = "amazon_q_told", skip_serializing_if = "is_zero")]
    pub amazon_q: u64,
    /// New Relic.
    #[serde(default, rename = "newrelic_told", skip_serializing_if = "is_zero")]
    pub newrelic: u64,
    /// EventBridge.
    #[serde(default, rename = "cdevents_told", skip_serializing_if = "is_zero")]
    pub cdevents: u64,
    /// The webhook.
    #[serde(default, rename = "webhook_told", skip_serializing_if = "is_zero")]
    pub webhook: u64,
    /// CloudWatch's metrics.
    #[serde(default, rename = "metrics_told", skip_serializing_if = "is_zero")]
    pub metrics: u64,
}

/// Who is told of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Slack.
    Slack,
    /// The SNS topic.
    Sns,
    /// Amazon Q Developer in chat applications.
    AmazonQ,
    /// New Relic.
    NewRelic,
    /// EventBridge.
    CdEvents,
    /// The webhook.
    Webhook,
    /// CloudWatch's metrics.
    Metrics,
}

impl Sink {
    /// Every sink, in the order in which they are told.
    pub const ALL: [Self; 7] =
        [Self::Metrics, Self::Sns, Self::CdEvents, Self::Slack, Self::AmazonQ, Self::NewRelic, Self::Webhook];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "Slack",
            Self::Sns => "the SNS topic",
            Self::AmazonQ => "Amazon Q's topic",
            Self::NewRelic => "New Relic",
            Self::CdEvents => "EventBridge",
            Self::Webhook => "the webhook",
            Self::Metrics => "CloudWatch",
        }
    }

    /// The attribute that remembers what it has been told.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Slack => "slack_told",
            Self::Sns => "sns_told",
            Self::AmazonQ => "amazon_q_told",
            Self::NewRelic => "newrelic_told",
            Self::CdEvents => "cdevents_told",
            Self::Webhook => "webhook_told",
            Self::Metrics => "metrics_told",
        }
    }
}

impl Told {
    /// What everyone has been told: `version`.
    #[must_use]
    pub fn everyone(version: u64) -> Self {
        let mut told = Self::default();
        Sink::ALL.into_iter().for_each(|sink| *told.of_mut(sink) = version);
        told
    }

    /// The version that `sink` has been told.
    #[must_use]
    pub fn of(&self, sink: Sink) -> u64 {
        let mut copy = *self;
        *copy.of_mut(sink)
    }

    fn of_mut(&mut self, sink: Sink) -> &mut u64 {
        match sink {
            Sink::Slack => &mut self.slack,
            Sink::Sns => &mut self.sns,
            Sink::AmazonQ => &mut self.amazon_q,
            Sink::NewRelic => &mut self.newrelic,
            Sink::CdEvents => &mut self.cdevents,
            Sink::Webhook => &mut self.webhook,
            Sink::Metrics => &mut self.metrics,
        }
    }
}
