//! What every function has in common: its start, and what becomes of what it handled.
//!
//! * Decisions are logged and returned.
//! * A transient failure fails the invocation: the platform tries again, twice, then hands the event to the rejects
//!   queue.
//! * Any other failure would only repeat itself: the event goes to the rejects queue at once, with its cause, and the
//!   invocation ends well. A question is answered with the cause instead.

use std::future::Future;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use chrono::{DateTime, Utc};
use futures_util::future::LocalBoxFuture;
use lambda_runtime::tracing::subscriber;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;

use crate::alarms::Alarms;
use crate::announce::Announcer;
use crate::announce::senders::{Bus, Chat, Metrics, NewRelic, Webhook};
use crate::announce::slack::Slack;
use crate::announce::sns::Topic;
use crate::clusters::Clusters;
use crate::decision::{Action, Decision, Failure, Handled};
use crate::dependencies::Directory;
use crate::deploy::Deployer;
use crate::ecr::Ecr;
use crate::ecs::Ecs;
use crate::error::Error;
use crate::events;
use crate::followers::Followers;
use crate::groups::Groups;
use crate::http::Http;
use crate::logs::Logs;
use crate::metering::Metering;
use crate::notify::Notifier;
use crate::platform::Platform;
use crate::queues::Queues;
use crate::record::store::Store;
use crate::rejects::Rejects;
use crate::rollback::Rollbacker;
use crate::scale::cluster::{ClusterScaler, Needs};
use crate::scale::memory::Memory;
use crate::scale::service::ServiceScaler;
use crate::scale::service::owner::Owners;
use crate::scale::tell::Crier;
use crate::scale::ticks::Ticks;
use crate::settings::Settings;

/// How long one attempt of an AWS call may take. Without it a lost packet would hang until the function's time-out.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What an invocation is taken to have where nobody says how long it may take.
const TIME_OUT_UNKNOWN: Duration = Duration::from_secs(60);
/// Attempts for an AWS call, the first included.
const ATTEMPTS_MAX: u32 = 4;

/// A function that has been told its settings and can reach AWS.
#[derive(Debug)]
pub struct Function {
    settings: Settings,
    sdk: SdkConfig,
    http: SharedHttpConnector,
    platform: Platform,
    name: &'static str,
    rejects: Rejects,
    metrics: Metrics,
}

impl Function {
    /// Starts the function called `name` in this process.
    ///
    /// # Errors
    /// [`Error::Settings`] with everything that is wrong with the environment.
    pub async fn start(name: &'static str) -> Result<Self, Error> {
        subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_span_list(false)
            .with_max_level(lambda_runtime::tracing::Level::INFO)
            .init();
        let settings = Settings::from_env().inspect_err(|error| tracing::error!(%error, "can't start"))?;
        let sleep = SharedAsyncSleep::new(TokioSleep::new());
        let sdk = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            )
            .load()
            .await;
        let http = Connector::builder()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .connector_settings(
                HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ATTEMPT_TIMEOUT).build(),
            )
            .sleep_impl(sleep.clone())
            .build();
        let platform = Platform::new(SharedTimeSource::new(SystemTimeSource::new()), sleep);
        Ok(Self::new(name, settings, sdk, SharedHttpConnector::new(http), platform))
    }

    /// A function of these parts: what a test or a simulation gives it.
    #[must_use]
    pub fn new(
        name: &'static str,
        settings: Settings,
        sdk: SdkConfig,
        http: SharedHttpConnector,
        platform: Platform,
    ) -> Self {
        let rejects = Rejects::new(aws_sdk_sqs::Client::new(&sdk), &settings.rejects_queue_url, name);
        Self { settings, sdk, http, platform, name, rejects, metrics: Metrics::on_standard_output() }
    }

    /// The same function, with other metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The deploy function's handler.
    #[must_use]
    pub fn deployer(&self) -> Deployer {
        Deployer {
            ecs: self.ecs(),
            ecr: self.ecr(),
            followers: self.followers(),
            alarms: self.alarms(),
            directory: Directory::new(
                aws_sdk_iam::Client::new(&self.sdk),
                aws_sdk_secretsmanager::Client::new(&self.sdk),
                aws_sdk_ssm::Client::new(&self.sdk),
            ),
            store: self.store(),
            environment: self.settings.environment.clone().unwrap_or_default(),
            platform: self.platform.clone(),
        }
    }

    /// The rollback function's handler.
    #[must_use]
    pub fn rollbacker(&self) -> Rollbacker {
        Rollbacker {
            ecs: self.ecs(),
            ecr: self.ecr(),
            followers: self.followers(),
            alarms: self.alarms(),
            store: self.store(),
            environment: self.settings.environment.clone().unwrap_or_default(),
            platform: self.platform.clone(),
        }
    }

    /// The cluster function's handler.
    #[must_use]
    pub fn cluster_scaler(&self) -> ClusterScaler {
        ClusterScaler {
            ecs: self.ecs(),
            groups: Groups::new(aws_sdk_autoscaling::Client::new(&self.sdk)),
            clusters: Clusters::new(aws_sdk_resourcegroupstagging::Client::new(&self.sdk)),
            metering: Metering::new(aws_sdk_cloudwatch::Client::new(&self.sdk)),
            memory: self.memory(),
            ticks: self.ticks(),
            crier: self.crier(),
            needs: Needs::default(),
            environment: self.settings.environment.clone().unwrap_or_default(),
            platform: self.platform.clone(),
        }
    }

    /// The notify function's handler.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        let http = Http::new(self.http.clone());
        let platform = self.platform.clone();
        let ssm = || aws_sdk_ssm::Client::new(&self.sdk);
        let sns = aws_sdk_sns::Client::new(&self.sdk);
        let Settings { topic_arn, slack, environment, chat_topic_arn, newrelic, event_bus, webhook, .. } =
            self.settings.clone();
        Notifier {
            ecs: self.ecs(),
            ecr: self.ecr(),
            logs: Logs::new(aws_sdk_cloudwatchlogs::Client::new(&self.sdk)),
            store: self.store(),
            announcer: Announcer {
                topic: Topic::new(sns.clone(), topic_arn),
                metrics: self.metrics.clone(),
                chat: chat_topic_arn.map(|arn| Chat::new(sns, arn)),
                newrelic: newrelic.map(|settings| NewRelic::new(http.clone(), ssm(), settings, platform.clone())),
                bus: event_bus.map(|name| Bus::new(aws_sdk_eventbridge::Client::new(&self.sdk), name)),
                webhook: webhook.map(|settings| Webhook::new(http.clone(), ssm(), settings, platform.clone())),
                slack: slack.map(|settings| Slack::new(http.clone(), ssm(), settings, platform.clone())),
                platform: platform.clone(),
            },
            environment: environment.unwrap_or_default(),
            http,
            platform,
        }
    }

    /// The scale-service function's handler.
    #[must_use]
    pub fn service_scaler(&self) -> ServiceScaler {
        ServiceScaler {
            ecs: self.ecs(),
            followers: self.followers(),
            queues: Queues::new(aws_sdk_sqs::Client::new(&self.sdk)),
            metering: Metering::new(aws_sdk_cloudwatch::Client::new(&self.sdk)),
            owners: Owners::new(aws_sdk_applicationautoscaling::Client::new(&self.sdk)),
            memory: self.memory(),
            ticks: self.ticks(),
            crier: self.crier(),
            environment: self.settings.environment.clone().unwrap_or_default(),
            platform: self.platform.clone(),
        }
    }

    fn memory(&self) -> Memory {
        Memory::new(aws_sdk_dynamodb::Client::new(&self.sdk), &self.settings.table)
    }

    fn ticks(&self) -> Ticks {
        Ticks::new(aws_sdk_sqs::Client::new(&self.sdk), self.settings.ticks_queue_url.clone())
    }

    /// Those who are told what people have to see to in scaling.
    fn crier(&self) -> Crier {
        let http = Http::new(self.http.clone());
        let ssm = aws_sdk_ssm::Client::new(&self.sdk);
        let slack = self.settings.slack.clone();
        Crier {
            topic: Topic::new(aws_sdk_sns::Client::new(&self.sdk), &self.settings.topic_arn),
            slack: slack.map(|settings| Slack::new(http, ssm, settings, self.platform.clone())),
            metrics: self.metrics.clone(),
        }
    }

    fn alarms(&self) -> Alarms {
        Alarms::new(aws_sdk_cloudwatch::Client::new(&self.sdk))
    }

    fn followers(&self) -> Followers {
        Followers::new(aws_sdk_resourcegroupstagging::Client::new(&self.sdk))
    }

    fn ecr(&self) -> Ecr {
        Ecr::new(aws_sdk_ecr::Client::new(&self.sdk))
    }

    fn ecs(&self) -> Ecs {
        Ecs::new(aws_sdk_ecs::Client::new(&self.sdk), self.platform.clone())
    }

    fn store(&self) -> Store {
        Store::new(aws_sdk_dynamodb::Client::new(&self.sdk), &self.settings.table)
    }

    /// Serves the Lambda Runtime API with `handler`, which is given an event and the time by which it must be done.
    ///
    /// # Errors
    /// Those of the Runtime API.
    pub async fn run<F, R>(&self, handler: F) -> Result<(), lambda_runtime::Error>
    where
        F: Fn(Value, DateTime<Utc>) -> R,
        R: Future<Output = Handled>,
    {
        let handler = &handler;
        let serve = |invocation: LambdaEvent<Value>| async move {
            let (event, context) = invocation.into_parts();
            let deadline = self.deadline(context.deadline);
            // Behind a pointer: an SDK call is a deep tree of futures, too deep for the compiler to lay out in one.
            let handling: LocalBoxFuture<'_, Handled> = Box::pin(handler(event.clone(), deadline));
            let handled = handling.await;
            self.conclude(handled, &event, &context.request_id).await
        };
        lambda_runtime::run(service_fn(serve)).await
    }

    /// When the invocation ends, as the Runtime API says in milliseconds since 1970. Emulators of it have been seen to
    /// name a time long past.
    fn deadline(&self, millis: u64) -> DateTime<Utc> {
        let now = self.platform.now();
        let told = i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis);
        told.filter(|deadline| *deadline > now).unwrap_or(now + TIME_OUT_UNKNOWN)
    }

    /// What becomes of what was handled: see the module.
    ///
    /// # Errors
    /// A transient failure, for the platform to try again.
    pub async fn conclude(&self, mut handled: Handled, event: &Value, request_id: &str) -> Result<Value, Diagnostic> {
        // A question is answered to whoever asks, and to nobody else.
        let is_question = events::is_question(event);
        let kind = if is_question { "explanation" } else { "decision" };
        for decision in &handled.decisions {
            log(kind, decision);
        }
        let (transient, mut last): (Vec<_>, Vec<_>) =
            std::mem::take(&mut handled.failures).into_iter().partition(|failure| failure.error.is_transient());
        for failure in &transient {
            tracing::warn!(service = failure.service, error = %failure.error, "will be tried again");
        }
        // One of them would bring the rest back with it: the event is kept once, when it can't be handled any more.
        if transient.is_empty() && !last.is_empty() {
            if !is_question {
                let causes: Vec<String> = last.iter().map(cause).collect();
                self.rejects.keep(event, request_id, &causes).await.map_err(retry)?;
                self.metrics.rejects(self.name, 1, self.platform.now());
                for failure in &last {
                    tracing::error!(service = failure.service, error = %failure.error, "the event is in the rejects queue");
                }
            }
            for failure in last.drain(..) {
                let reason = failure.error.to_string();
                let rejected = Decision { service: failure.service, ..Decision::new(Action::Reject, reason) };
                log(kind, &rejected);
                handled.decisions.push(rejected);
            }
        }
        match transient.into_iter().next() {
            Some(failure) => Err(retry(failure.error)),
            None => Ok(handled.response()),
        }
    }
}

fn cause(failure: &Failure) -> String {
    match &failure.service {
        Some(service) => format!("{service}: {}", failure.error),
        None => failure.error.to_string(),
    }
}

fn retry(error: Error) -> Diagnostic {
    Diagnostic { error_type: "Retryable".into(), error_message: error.to_string() }
}

fn log(kind: &str, decision: &Decision) {
    let Decision { service, reason, rule, repository, tag, digest, revision, record, ecs_deployment_id, .. } = decision;
    let Decision { cluster, from, to, .. } = decision;
    let action = serde_json::to_value(decision.action).unwrap_or_default();
    tracing::info!(
        service,
        cluster,
        action = action.as_str(),
        from,
        to,
        reason,
        rule,
        repository,
        tag,
        digest,
        revision,
        record,
        ecs_deployment_id,
        state = decision.state,
        notes = (!decision.notes.is_empty()).then(|| decision.notes.join("; ")),
        "{kind}"
    );
}
