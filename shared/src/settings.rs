//! The functions' settings: the one place that reads the environment.
//!
//! The stack sets every variable. A missing or malformed one stops the function at start, with a message that names
//! all of them at once.

use crate::error::Error;

/// Slack's own Web API.
const SLACK_API: &str = "https://slack.com/api";
/// New Relic's own GraphQL API.
const NEWRELIC_API: &str = "https://api.newrelic.com/graphql";

/// What every function is told by the stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `TIDEGATE_TABLE`: the DynamoDB table of the records.
    pub table: String,
    /// `TIDEGATE_TOPIC_ARN`: the SNS topic that outcomes are published to.
    pub topic_arn: String,
    /// `TIDEGATE_REJECTS_QUEUE_URL`: the SQS queue that keeps events which can't be handled.
    pub rejects_queue_url: String,
    /// `TIDEGATE_TICKS_QUEUE_URL`: the SQS queue by which a scaling function wakes itself. `None`: it looks only when its
    /// schedule, or an event, says so.
    pub ticks_queue_url: Option<String>,
    /// `TIDEGATE_ENVIRONMENT_NAME`: what people call this environment. Without it messages name the cluster.
    pub environment: Option<String>,
    /// Where and how to reach Slack. `None`: no Slack.
    pub slack: Option<SlackSettings>,
    /// `TIDEGATE_CHAT_TOPIC_ARN`: the SNS topic that Amazon Q Developer in chat applications is subscribed to.
    pub chat_topic_arn: Option<String>,
    /// Where and how to reach New Relic. `None`: no New Relic.
    pub newrelic: Option<NewRelicSettings>,
    /// `TIDEGATE_EVENT_BUS`: name or ARN of the EventBridge bus that `CDEvents` go to. `None`: none are sent.
    pub event_bus: Option<String>,
    /// The webhook. `None`: there is none.
    pub webhook: Option<WebhookSettings>,
}

/// How New Relic is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelicSettings {
    /// `TIDEGATE_NEWRELIC_SECRET`: name of the SSM SecureString parameter that holds a user key.
    pub secret_name: String,
    /// `TIDEGATE_NEWRELIC_API`: URL of its GraphQL API; that of the European Union is another one.
    pub api: String,
}

/// How the webhook is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// `TIDEGATE_WEBHOOK_URL`.
    pub url: String,
    /// `TIDEGATE_WEBHOOK_SECRET`: name of the SSM SecureString parameter that holds the signing secret.
    pub secret_name: String,
}

/// How Slack is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlackSettings {
    /// `TIDEGATE_SLACK_SECRET`: name of the SSM SecureString parameter that holds an incoming-webhook URL or a bot
    /// token.
    pub secret_name: String,
    /// `TIDEGATE_SLACK_CHANNEL`: id of the channel for services without a `tidegate:channel` tag.
    pub channel: Option<String>,
    /// `TIDEGATE_SLACK_API`: base URL of Slack's Web API.
    pub api: String,
}

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// [`Error::Settings`] with every variable that is missing or malformed.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn from_env() -> Result<Self, Error> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads the settings from `get`, which knows variables by name. An empty value counts as absent.
    ///
    /// # Errors
    /// [`Error::Settings`] with every variable that is missing or malformed.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let optional = |name: &str| get(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let mut problems = Vec::new();
        let mut required = |name: &str, starts_with: &str, is: &str| match optional(name) {
            Some(value) if value.starts_with(starts_with) => value,
            Some(_) => {
                problems.push(format!("{name} must be {is}"));
                String::new()
            }
            None => {
                problems.push(format!("{name} is not set; it must be {is}"));
                String::new()
            }
        };
        let table = required("TIDEGATE_TABLE", "", "the name of the DynamoDB table");
        let topic_arn = required("TIDEGATE_TOPIC_ARN", "arn:", "the ARN of the SNS topic");
        let rejects_queue_url = required("TIDEGATE_REJECTS_QUEUE_URL", "http", "the URL of the SQS rejects queue");

        let api = optional("TIDEGATE_SLACK_API").unwrap_or_else(|| SLACK_API.to_owned());
        if !api.starts_with("http") {
            problems.push("TIDEGATE_SLACK_API must be a URL".to_owned());
        }
        let channel = optional("TIDEGATE_SLACK_CHANNEL");
        if let Some(name) = channel.as_deref().filter(|c| c.starts_with('#')) {
            problems.push(format!(
                "TIDEGATE_SLACK_CHANNEL must be a channel's id (such as C0123456789), not its name {name}"
            ));
        }
        let slack = optional("TIDEGATE_SLACK_SECRET").map(|secret_name| SlackSettings {
            secret_name,
            channel,
            api: api.trim_end_matches('/').to_owned(),
        });

        let newrelic_api = optional("TIDEGATE_NEWRELIC_API").unwrap_or_else(|| NEWRELIC_API.to_owned());
        let newrelic = optional("TIDEGATE_NEWRELIC_SECRET")
            .map(|secret_name| NewRelicSettings { secret_name, api: newrelic_api.clone() });
        let webhook_url = optional("TIDEGATE_WEBHOOK_URL");
        let webhook = match (webhook_url.clone(), optional("TIDEGATE_WEBHOOK_SECRET")) {
            (Some(url), Some(secret_name)) => Some(WebhookSettings { url, secret_name }),
            (None, None) => None,
            (Some(_), None) => {
                problems.push("TIDEGATE_WEBHOOK_SECRET is not set; what goes to TIDEGATE_WEBHOOK_URL is signed".into());
                None
            }
            (None, Some(_)) => {
                problems.push("TIDEGATE_WEBHOOK_SECRET is set, and TIDEGATE_WEBHOOK_URL is not".into());
                None
            }
        };
        for (name, url) in [("TIDEGATE_NEWRELIC_API", Some(newrelic_api)), ("TIDEGATE_WEBHOOK_URL", webhook_url)] {
            if url.is_some_and(|url| !url.starts_with("http")) {
                problems.push(format!("{name} must be a URL"));
            }
        }
        let chat_topic_arn = optional("TIDEGATE_CHAT_TOPIC_ARN");
        if chat_topic_arn.as_deref().is_some_and(|arn| !arn.starts_with("arn:")) {
            problems.push("TIDEGATE_CHAT_TOPIC_ARN must be the ARN of an SNS topic".into());
        }

        let ticks_queue_url = optional("TIDEGATE_TICKS_QUEUE_URL");
        if ticks_queue_url.as_deref().is_some_and(|url| !url.starts_with("http")) {
            problems.push("TIDEGATE_TICKS_QUEUE_URL must be the URL of an SQS queue".into());
        }

        if !problems.is_empty() {
            return Err(Error::Settings(problems));
        }
        Ok(Self {
            table,
            topic_arn,
            rejects_queue_url,
            ticks_queue_url,
            environment: optional("TIDEGATE_ENVIRONMENT_NAME"),
            slack,
            chat_topic_arn,
            newrelic,
            event_bus: optional("TIDEGATE_EVENT_BUS"),
            webhook,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::read(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    const COMPLETE: &[(&str, &str)] = &[
        ("TIDEGATE_TABLE", "history"),
        ("TIDEGATE_TOPIC_ARN", "arn:aws:sns:eu-west-1:123456789012:outcomes"),
        ("TIDEGATE_REJECTS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/rejects"),
    ];

    #[test]
    fn names_every_missing_variable_at_once() {
        let text = read(&[]).unwrap_err().to_string();
        for name in ["TIDEGATE_TABLE", "TIDEGATE_TOPIC_ARN", "TIDEGATE_REJECTS_QUEUE_URL"] {
            assert!(text.contains(name), "{name} is not named in: {text}");
        }
    }

    #[test]
    fn works_without_slack() {
        assert_eq!(read(COMPLETE).unwrap().slack, None);
        let empty = [COMPLETE, &[("TIDEGATE_SLACK_SECRET", "")]].concat();
        assert_eq!(read(&empty).unwrap().slack, None);
    }

    #[test]
    fn defaults_to_slacks_own_api() {
        let vars = [COMPLETE, &[("TIDEGATE_SLACK_SECRET", "/tidegate/slack")]].concat();
        assert_eq!(read(&vars).unwrap().slack.unwrap().api, "https://slack.com/api");
    }

    #[test]
    fn a_webhook_needs_its_secret_and_urls_are_urls() {
        let half = [COMPLETE, &[("TIDEGATE_WEBHOOK_URL", "https://example.org/hook")]].concat();
        assert!(read(&half).unwrap_err().to_string().contains("TIDEGATE_WEBHOOK_SECRET is not set"));
        let whole = [&half, &[("TIDEGATE_WEBHOOK_SECRET", "/tidegate/webhook")][..]].concat();
        assert_eq!(read(&whole).unwrap().webhook.unwrap().secret_name, "/tidegate/webhook");
        let odd = [COMPLETE, &[("TIDEGATE_NEWRELIC_API", "eu"), ("TIDEGATE_CHAT_TOPIC_ARN", "chat")]].concat();
        let text = read(&odd).unwrap_err().to_string();
        assert!(text.contains("TIDEGATE_NEWRELIC_API must") && text.contains("TIDEGATE_CHAT_TOPIC_ARN must"), "{text}");
    }

    #[test]
    fn new_relic_is_reached_where_it_is_unless_told_otherwise() {
        let vars = [COMPLETE, &[("TIDEGATE_NEWRELIC_SECRET", "/tidegate/newrelic")]].concat();
        assert_eq!(read(&vars).unwrap().newrelic.unwrap().api, NEWRELIC_API);
    }

    #[test]
    fn refuses_a_channel_name() {
        let vars = [COMPLETE, &[("TIDEGATE_SLACK_CHANNEL", "#deploys")]].concat();
        assert!(read(&vars).unwrap_err().to_string().contains("not its name #deploys"));
    }

    #[test]
    fn refuses_a_topic_that_is_no_arn() {
        let vars = [("TIDEGATE_TOPIC_ARN", "outcomes"), COMPLETE[0], COMPLETE[2]];
        assert_eq!(
            read(&vars).unwrap_err(),
            Error::Settings(vec!["TIDEGATE_TOPIC_ARN must be the ARN of the SNS topic".into()])
        );
    }
}
