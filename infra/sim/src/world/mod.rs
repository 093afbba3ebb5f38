//! A small AWS (and Slack, New Relic and a webhook) behind the HTTP connector of the SDK, for the shipped handlers to run
//! in unchanged: the SDK serialises, signs, retries and times out as it does in Lambda. Time is tokio's paused clock.
//!
//! It models what the functions use, and no more. What it can't answer it refuses loudly.

mod answers;
pub mod autoscaling;
mod cbor;
pub mod changes;
mod dependencies;
mod dynamodb;
pub mod ecr;
pub mod ecs;
pub mod fleet;
mod instance;
mod limits;
mod logs;
mod metering;
pub mod queues;
mod sinks;
mod slack;
mod state;
mod tagging;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
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

use crate::permissions::{self, Use};

pub use self::ecr::Image;
pub use self::instance::WarmInstances;
pub use self::sinks::Hook;
pub use self::state::State;

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-west-1";
pub const CHAT: &str = "arn:aws:sns:eu-west-1:123456789012:tidegate-chat";
pub const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// When the world began, since 1970: 2026-11-16T09:00:00Z.
const BEGINNING: Duration = Duration::from_secs(1_794_819_600);

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
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
    /// It is applied at once, and the answer arrives after this long: what it says may be old by then.
    Slow(Duration),
    /// A read of ECS is answered from what was true when the world last remembered: [`State::remember`].
    Stale,
    /// The function is killed before the call arrives.
    KilledBefore,
    /// The function is killed when the call has been applied.
    KilledAfter,
}

impl Fate {
    /// What it is called in a summary.
    fn name(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Late(_) => "late requests",
            Self::Slow(_) => "slow answers",
            Self::Stale => "stale reads",
            Self::Refused(400, _) => "throttled",
            Self::Refused(..) => "refused with 5xx",
            Self::Limited(_) => "limited with 429",
            Self::Hangs => "black holes",
            Self::Lost => "resets",
            Self::AnswerLost => "answers lost",
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
        }
    }
}

/// A call as the wire saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function that made it; empty where that is not known.
    pub by: &'static str,
    pub operation: String,
    pub body: Value,
    /// When it arrived, since the world began. A call that has to wait for no other arrives 5 ms after it was made.
    pub at: Duration,
}

/// How many worlds there were in this process.
static WORLDS: AtomicU64 = AtomicU64::new(0);

type Fates = Box<dyn FnMut(&Call, usize) -> Fate + Send>;

/// The world; clones share it.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    /// Of the invocation that this clone is for.
    killed: Arc<Notify>,
    /// The function that this clone is for.
    by: &'static str,
    /// The Region that the SDK is told. Each world has one of its own, because the SDK keeps its quota of retries by
    /// Region for the whole process: worlds would spend each other's, and the same seed would not be the same run.
    region: Region,
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

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world at its beginning.
    pub fn new() -> Self {
        // The SDK's retries wait for random times of this thread.
        fastrand::seed(0);
        let state = State::new();
        let start = tokio::time::Instant::now();
        let region = Region::new(format!("{REGION}-{}", WORLDS.fetch_add(1, Ordering::Relaxed)));
        Self { state: Arc::new(Mutex::new(state)), killed: Arc::new(Notify::new()), by: "", region, start }
    }

    /// All there is. It is for one at a time.
    pub fn state(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => state,
            // What has failed before is told by its own panic.
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => panic!("the world is asked twice at once"),
        }
    }

    /// Decides the fate of each call from now on; calls are counted from 0.
    pub fn fates(&self, fates: impl FnMut(&Call, usize) -> Fate + Send + 'static) {
        let mut state = self.state();
        state.calls.clear();
        state.fates = Box::new(fates);
    }

    /// Changes the state at the next chance: a fate is decided while it is in use.
    pub fn later(&self, change: impl FnOnce(&mut State) + Send + 'static) {
        let world = self.clone();
        tokio::spawn(async move { change(&mut world.state()) });
    }

    /// Moves the tag `master` of `tides/web` at the next chance.
    pub fn state_later(&self, digest: &'static str) {
        let now = self.seconds() as u64;
        self.later(move |state| state.ecr.push("tides/web", "master", digest, now));
    }

    /// A number that was not given out before.
    pub fn number(&self) -> u64 {
        let mut state = self.state();
        state.numbers += 1;
        state.numbers
    }

    /// How long the world has existed.
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time in seconds since the epoch.
    pub fn seconds(&self) -> f64 {
        self.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
    }

    pub fn calm(&self) {
        self.fates(|_, _| Fate::Answered);
    }

    /// The calls, by when they arrived: those in one line were made at once, the next line waited for them.
    pub fn steps(&self) -> Vec<Vec<String>> {
        let mut steps: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for call in &self.state().calls {
            steps.entry(call.at).or_default().push(call.operation.clone());
        }
        steps.values_mut().for_each(|operations| operations.sort());
        steps.into_values().collect()
    }

    pub fn operations(&self) -> Vec<String> {
        self.state().calls.iter().map(|call| call.operation.clone()).collect()
    }

    pub fn count(&self, operation: &str) -> usize {
        self.state().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// The one body that `operation` was called with.
    pub fn body(&self, operation: &str) -> Value {
        let state = self.state();
        let mut bodies = state.calls.iter().filter(|call| call.operation == operation);
        let body = bodies.next().unwrap_or_else(|| panic!("{operation} was not called")).body.clone();
        assert_eq!(bodies.next(), None, "{operation} was called more than once");
        body
    }

    /// The permissions that all calls since the world began have needed.
    pub fn used(&self) -> BTreeSet<Use> {
        self.state().used.clone()
    }

    /// What an SDK client of this world is made of.
    pub fn sdk(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(self.region.clone())
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

    pub fn function(&self, name: &'static str) -> Function {
        let world = Self { by: name, ..self.clone() };
        let settings = Settings {
            table: "history".into(),
            topic_arn: format!("arn:aws:sns:{REGION}:{ACCOUNT}:outcomes"),
            rejects_queue_url: format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/rejects"),
            ticks_queue_url: Some(format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}-ticks")),
            slack: Some(SlackSettings {
                secret_name: "/tidegate/slack".into(),
                channel: Some("C0123456789".into()),
                api: "https://slack.com/api".into(),
            }),
            ..self.other_sinks()
        };
        let platform = Platform::new(SharedTimeSource::new(self.clone()), SharedAsyncSleep::new(TokioSleep::new()));
        let (sdk, connector) = (world.sdk(), SharedHttpConnector::new(world.clone()));
        let metrics = Metrics::new(move |document| world.state().metrics.push(document.clone()));
        Function::new(name, settings, sdk, connector, platform).with_metrics(metrics)
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

    /// Invokes as the platform does: again after a kill or an error, twice at most.
    pub async fn deliver(&self, name: &'static str, event: &Value) -> Result<Value, String> {
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
            let (protocol, call) = wire::read(&request, world.by, world.start.elapsed());
            let fate = {
                let mut state = world.state();
                let needed = permissions::uses(&call, &state);
                state.used.extend(needed);
                let number = state.calls.len();
                state.calls.push(call.clone());
                let fate = (state.fates)(&call, number);
                if fate != Fate::Answered {
                    *state.met.entry(fate.name()).or_default() += 1;
                }
                fate
            };
            let answer = || protocol.answer(&call.operation, world.answer(&call, &request));
            match fate {
                Fate::Answered => Ok(answer()),
                Fate::Late(delay) => {
                    tokio::time::sleep(delay).await;
                    Ok(answer())
                }
                Fate::Slow(delay) => {
                    let answer = answer();
                    tokio::time::sleep(delay).await;
                    Ok(answer)
                }
                Fate::Stale => {
                    let result = world.remembered(&call).unwrap_or_else(|| world.answer(&call, &request));
                    Ok(protocol.answer(&call.operation, result))
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
