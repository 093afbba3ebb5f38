//! A small AWS (and Slack, New Relic and a webhook) behind the HTTP connector of the SDK, for the shipped handlers to run
//! in unchanged: the SDK serialises, signs, retries and times out as it does in Lambda. Time is tokio's paused clock.
//!
//! It models what the functions use, and no more. What it can't answer it refuses loudly.

mod answers;
pub(crate) mod autoscaling;
mod cbor;
mod dependencies;
mod dynamodb;
pub(crate) mod ecr;
pub(crate) mod ecs;
pub(crate) mod fleet;
mod limits;
mod logs;
mod metering;
pub(crate) mod queues;
mod sinks;
mod slack;
mod state;
mod tagging;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::{Value, json};
use shared::announce::senders::Metrics;
use shared::lambda::Function;
use shared::platform::Platform;
use shared::settings::{NewRelicSettings, Settings, SlackSettings, WebhookSettings};
use tokio::sync::Notify;

pub(crate) use self::ecr::Image;
pub(crate) use self::sinks::Hook;
pub(crate) use self::state::State;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const CHAT: &str = "arn:aws:sns:eu-west-1:123456789012:tidegate-chat";
pub(crate) const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// When the world began, since 1970: 2026-11-16T09:00:00Z.
const BEGINNING: Duration = Duration::from_secs(1_794_819_600);

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is answered.
    Answered,
    /// It is answered, but arrives only after this long.
    Late(Duration),
    /// It is refused with this status and error code.
    Refused(u16, &'static str),
    /// It is refused with 429, and may come again after this many seconds.
    Limited(u64),
    /// It is never answered, nor applied.
    Hangs,
    /// It does not arrive, for the connection is lost.
    Lost,
    /// It is applied, and the answer lost.
    AnswerLost,
    /// The function is killed before the call arrives.
    KilledBefore,
    /// The function is killed when the call has been applied.
    KilledAfter,
}

/// A call as the wire saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) body: Value,
    /// When it arrived, since the world began. A call that has to wait for no other arrives 5 ms after it was made.
    pub(crate) at: Duration,
}

type Fates = Box<dyn FnMut(&Call, usize) -> Fate + Send>;

/// The world; clones share it.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    /// Of the invocation that this clone is for.
    killed: Arc<Notify>,
    start: tokio::time::Instant,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl TimeSource for World {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + BEGINNING + self.start.elapsed()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        // The SDK's retries wait for random times of this thread.
        fastrand::seed(0);
        let state = State::new();
        let start = tokio::time::Instant::now();
        Self { state: Arc::new(Mutex::new(state)), killed: Arc::new(Notify::new()), start }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Decides the fate of each call from now on; calls are counted from 0.
    pub(crate) fn fates(&self, fates: impl FnMut(&Call, usize) -> Fate + Send + 'static) {
        let mut state = self.state();
        state.calls.clear();
        state.fates = Box::new(fates);
    }

    /// Changes the state at the next chance: a fate is decided while it is in use.
    pub(crate) fn later(&self, change: impl FnOnce(&mut State) + Send + 'static) {
        let world = self.clone();
        tokio::spawn(async move { change(&mut world.state()) });
    }

    /// Moves the tag `master` of `tides/web` at the next chance.
    pub(crate) fn state_later(&self, digest: &'static str) {
        let now = self.seconds() as u64;
        self.later(move |state| state.ecr.push("tides/web", "master", digest, now));
    }

    /// The time in seconds since the epoch.
    pub(crate) fn seconds(&self) -> f64 {
        self.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    pub(crate) fn calm(&self) {
        self.fates(|_, _| Fate::Answered);
    }

    /// The calls, by when they arrived: those in one line were made at once, the next line waited for them.
    pub(crate) fn steps(&self) -> Vec<Vec<String>> {
        let mut steps: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for call in &self.state().calls {
            steps.entry(call.at).or_default().push(call.operation.clone());
        }
        steps.values_mut().for_each(|operations| operations.sort());
        steps.into_values().collect()
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        self.state().calls.iter().map(|call| call.operation.clone()).collect()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// The one body that `operation` was called with.
    pub(crate) fn body(&self, operation: &str) -> Value {
        let state = self.state();
        let mut bodies = state.calls.iter().filter(|call| call.operation == operation);
        let body = bodies.next().unwrap_or_else(|| panic!("{operation} was not called")).body.clone();
        assert_eq!(bodies.next(), None, "{operation} was called more than once");
        body
    }

    /// What an SDK client of this world is made of.
    pub(crate) fn sdk(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "key",
                "aws-secret",
                None,
                None,
                "world",
            )))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(self.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(4))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(10)).build())
            .build()
    }

    pub(crate) fn function(&self, name: &'static str) -> Function {
        let settings = Settings {
            table: "history".into(),
            topic_arn: format!("arn:aws:sns:{REGION}:{ACCOUNT}:outcomes"),
            rejects_queue_url: format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/rejects"),
            ticks_queue_url: Some(format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/ticks")),
            slack: Some(SlackSettings {
                secret_name: "/tidegate/slack".into(),
                channel: Some("C0123456789".into()),
                api: "https://slack.com/api".into(),
            }),
            ..self.other_sinks()
        };
        let platform = Platform::new(SharedTimeSource::new(self.clone()), SharedAsyncSleep::new(TokioSleep::new()));
        let world = self.clone();
        let metrics = Metrics::new(move |document| world.state().metrics.push(document.clone()));
        Function::new(name, settings, self.sdk(), SharedHttpConnector::new(self.clone()), platform)
            .with_metrics(metrics)
    }

    /// The settings of the sinks beside Slack and the topic, where a test wants them.
    fn other_sinks(&self) -> Settings {
        if !self.state().other_sinks {
            return Settings::default();
        }
        Settings {
            chat_topic_arn: Some(CHAT.into()),
            newrelic: Some(NewRelicSettings {
                secret_name: "/tidegate/newrelic".into(),
                api: "https://api.newrelic.com/graphql".into(),
            }),
            event_bus: Some("default".into()),
            webhook: Some(WebhookSettings {
                url: "https://hooks.example/tidegate".into(),
                secret_name: "/tidegate/webhook".into(),
            }),
            ..Settings::default()
        }
    }

    /// Invokes a function once; `None` if it was killed, by a fate or for taking too long. The error is what the
    /// platform would see.
    pub(crate) async fn invoke(&self, name: &'static str, event: &Value) -> Option<Result<Value, String>> {
        // A fate kills the invocation that made the call, and no other.
        let world = Self { killed: Arc::new(Notify::new()), ..self.clone() };
        let function = world.function(name);
        let time_out = self.state().time_out;
        let invocation = async {
            let deadline = (self.now() + time_out).into();
            let handled = match name {
                "deploy" => function.deployer().handle(event, deadline).await,
                "notify" => function.notifier().handle(event, deadline).await,
                "rollback" => function.rollbacker().handle(event, deadline).await,
                "scale-service" => function.service_scaler().handle(event, deadline).await,
                "scale-cluster" => function.cluster_scaler().handle(event, deadline).await,
                other => panic!("there is no function {other}"),
            };
            function.conclude(handled, event, "request-1").await.map_err(|error| error.error_message)
        };
        tokio::select! {
            biased;
            () = world.killed.notified() => None,
            () = tokio::time::sleep(time_out) => {
                self.state().timed_out += 1;
                None
            }
            result = Box::pin(invocation) => Some(result),
        }
    }

    /// Invokes as the platform does: again after a kill or an error, twice at most.
    pub(crate) async fn deliver(&self, name: &'static str, event: &Value) -> Result<Value, String> {
        let mut last = Err("never invoked".to_owned());
        for wait_minutes in [0, 1, 2] {
            tokio::time::sleep(Duration::from_secs(60 * wait_minutes)).await;
            last = self.invoke(name, event).await.unwrap_or_else(|| Err("killed".to_owned()));
            if last.is_ok() {
                break;
            }
        }
        last
    }
}

impl HttpConnector for World {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let world = self.clone();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // It is read to its end, for the SDK watches that it gets through.
            let body = ByteStream::new(request.take_body()).collect().await.unwrap().into_bytes();
            *request.body_mut() = SdkBody::from(body);
            let (protocol, call) = wire::read(&request, world.start.elapsed());
            let fate = {
                let mut state = world.state();
                let number = state.calls.len();
                state.calls.push(call.clone());
                (state.fates)(&call, number)
            };
            let answer = || protocol.answer(&call.operation, world.answer(&call, &request));
            match fate {
                Fate::Answered => Ok(answer()),
                Fate::Late(delay) => {
                    tokio::time::sleep(delay).await;
                    Ok(answer())
                }
                Fate::Refused(status, code) => {
                    Ok(protocol.refuse(status, code, &json!({"message": "refused by the test"})))
                }
                Fate::Limited(seconds) => Ok(protocol.limit(seconds)),
                Fate::Hangs => std::future::pending().await,
                Fate::Lost => Err(ConnectorError::io("connection reset".into())),
                Fate::AnswerLost => {
                    answer();
                    Err(ConnectorError::io("connection reset".into()))
                }
                Fate::KilledBefore => {
                    world.killed.notify_one();
                    std::future::pending().await
                }
                Fate::KilledAfter => {
                    answer();
                    world.killed.notify_one();
                    std::future::pending().await
                }
            }
        })
    }
}
