//! A small AWS (and Slack) behind the HTTP connector of the SDK, for the shipped handlers to run in unchanged: the SDK
//! serialises, signs, retries and times out as it does in Lambda. Time is tokio's paused clock.
//!
//! It models what the deploy and notify functions use, and no more. What it can't answer it refuses loudly.

mod dynamodb;
mod ecs;

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
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::lambda::Function;
use shared::platform::Platform;
use shared::settings::{Settings, SlackSettings};
use tokio::sync::Notify;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is answered.
    Answered,
    /// It is answered, but arrives only after this long.
    Late(Duration),
    /// It is refused with this status and error code.
    Refused(u16, &'static str),
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
}

type Fates = Box<dyn FnMut(&Call, usize) -> Fate + Send>;

pub(crate) struct State {
    pub(crate) calls: Vec<Call>,
    fates: Fates,
    pub(crate) ecs: ecs::Ecs,
    pub(crate) table: dynamodb::Table,
    /// Digest by repository and tag.
    pub(crate) images: BTreeMap<(String, String), String>,
    pub(crate) rejects: Vec<Value>,
    pub(crate) published: Vec<Value>,
    /// Messages by their `ts`, each with all its versions.
    pub(crate) slack: BTreeMap<String, Vec<Value>>,
    pub(crate) slack_secret: String,
}

/// The world; clones share it.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
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
        // 2026-11-16T09:00:00Z
        UNIX_EPOCH + Duration::from_secs(1_794_819_600) + self.start.elapsed()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let state = State {
            calls: Vec::new(),
            fates: Box::new(|_, _| Fate::Answered),
            ecs: ecs::Ecs::default(),
            table: dynamodb::Table::default(),
            images: BTreeMap::new(),
            rejects: Vec::new(),
            published: Vec::new(),
            slack: BTreeMap::new(),
            slack_secret: "xoxb-secret".into(),
        };
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

    /// Moves the tag `master` at the next chance: a fate is decided while the state is in use.
    pub(crate) fn state_later(&self, digest: &'static str) {
        let world = self.clone();
        tokio::spawn(async move {
            world.state().images.insert(("tides/web".into(), "master".into()), digest.into());
        });
    }

    pub(crate) fn calm(&self) {
        self.fates(|_, _| Fate::Answered);
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

    pub(crate) fn function(&self, name: &'static str) -> Function {
        let world = self.clone();
        let sleep = SharedAsyncSleep::new(TokioSleep::new());
        let credentials = Credentials::new("key", "aws-secret", None, None, "world");
        let connector = SharedHttpConnector::new(world.clone());
        let shared = connector.clone();
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client_fn(move |_, _| shared.clone()))
            .sleep_impl(sleep.clone())
            .time_source(world.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(4))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(10)).build())
            .build();
        let settings = Settings {
            table: "history".into(),
            topic_arn: format!("arn:aws:sns:{REGION}:{ACCOUNT}:outcomes"),
            rejects_queue_url: format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/rejects"),
            environment: None,
            slack: Some(SlackSettings {
                secret_name: "/tidegate/slack".into(),
                channel: Some("C0123456789".into()),
                api: "https://slack.com/api".into(),
            }),
        };
        Function::new(name, settings, sdk, connector, Platform::new(SharedTimeSource::new(world), sleep))
    }

    fn deadline(&self) -> DateTime<Utc> {
        (self.now() + Duration::from_secs(120)).into()
    }

    /// Invokes a function once; `None` if it was killed. The error is what the platform would see.
    pub(crate) async fn invoke(&self, name: &'static str, event: &Value) -> Option<Result<Value, String>> {
        let function = self.function(name);
        let invocation = async {
            let deadline = self.deadline();
            let handled = match name {
                "deploy" => function.deployer().handle(event, deadline).await,
                "notify" => function.notifier().handle(event, deadline).await,
                other => panic!("there is no function {other}"),
            };
            function.conclude(handled, event, "request-1").await.map_err(|error| error.error_message)
        };
        tokio::select! {
            biased;
            () = self.killed.notified() => None,
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
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.clone();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let call = read(&request);
            let fate = {
                let mut state = world.state();
                let at = state.calls.len();
                state.calls.push(call.clone());
                (state.fates)(&call, at)
            };
            match fate {
                Fate::Answered => Ok(world.answer(&call, &request)),
                Fate::Late(delay) => {
                    tokio::time::sleep(delay).await;
                    Ok(world.answer(&call, &request))
                }
                Fate::Refused(status, code) => {
                    let body = json!({"__type": code, "message": "refused by the test", "ok": false, "error": code});
                    Ok(respond(status, &body))
                }
                Fate::AnswerLost => {
                    world.answer(&call, &request);
                    Err(ConnectorError::io("connection reset".into()))
                }
                Fate::KilledBefore => {
                    world.killed.notify_one();
                    std::future::pending().await
                }
                Fate::KilledAfter => {
                    world.answer(&call, &request);
                    world.killed.notify_one();
                    std::future::pending().await
                }
            }
        })
    }
}

fn read(request: &HttpRequest) -> Call {
    let text = String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap();
    if let Some(target) = request.headers().get("x-amz-target") {
        let operation = target.rsplit('.').next().unwrap().to_owned();
        return Call { operation, body: serde_json::from_str(&text).unwrap() };
    }
    if let Some(method) = request.uri().strip_prefix("https://slack.com/api/") {
        return Call { operation: method.to_owned(), body: serde_json::from_str(&text).unwrap() };
    }
    if request.uri().starts_with("https://hooks.slack.com/") {
        return Call { operation: "webhook".into(), body: serde_json::from_str(&text).unwrap() };
    }
    let fields: BTreeMap<String, String> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    Call { operation: fields["Action"].clone(), body: json!(fields) }
}

fn respond(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string()))
}

impl World {
    fn answer(&self, call: &Call, request: &HttpRequest) -> HttpResponse {
        let now = self.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let mut state = self.state();
        let Call { operation, body } = call;
        let result = match operation.as_str() {
            "GetResources" => Ok(state.ecs.resources(body)),
            "DescribeServices" => Ok(state.ecs.describe_services(body)),
            "DescribeTaskDefinition" => state.ecs.describe_task_definition(body),
            "RegisterTaskDefinition" => Ok(state.ecs.register(body)),
            "UpdateService" => state.ecs.update_service(body, now),
            "DescribeImages" => state.describe_images(body),
            "Query" => Ok(state.table.query(body)),
            "UpdateItem" => state.table.update_item(body),
            "TransactWriteItems" => state.table.transact(body),
            "GetParameter" => Ok(json!({"Parameter": {"Name": body["Name"], "Value": state.slack_secret}})),
            "SendMessage" => {
                state.rejects.push(serde_json::from_str(body["MessageBody"].as_str().unwrap()).unwrap());
                Ok(json!({"MessageId": "1"}))
            }
            "Publish" => {
                state.published.push(serde_json::from_str(body["Message"].as_str().unwrap()).unwrap());
                let xml = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
                return HttpResponse::new(200.try_into().unwrap(), SdkBody::from(xml));
            }
            "chat.postMessage" | "chat.update" => {
                let token = request.headers().get("authorization").unwrap_or_default();
                Ok(state.slack(operation, body, token))
            }
            "webhook" => {
                state.slack.entry("webhook".into()).or_default().push(body.clone());
                return HttpResponse::new(200.try_into().unwrap(), SdkBody::from("ok"));
            }
            other => panic!("the world has no {other}"),
        };
        match result {
            Ok(answer) => respond(200, &answer),
            Err((code, extra)) => {
                let mut answer = json!({"__type": code, "message": "as AWS would say"});
                answer.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
                respond(400, &answer)
            }
        }
    }
}

/// An error code, and what comes with it.
pub(crate) type Refusal = (&'static str, Value);

impl State {
    fn describe_images(&self, body: &Value) -> Result<Value, Refusal> {
        let name = |value: &Value| value.as_str().unwrap().to_owned();
        let key = (name(&body["repositoryName"]), name(&body["imageIds"][0]["imageTag"]));
        let digest = self.images.get(&key).ok_or(("ImageNotFoundException", Value::Null))?;
        Ok(json!({"imageDetails": [{"imageDigest": digest, "imageTags": [key.1], "imagePushedAt": 1_794_819_500.0}]}))
    }

    fn slack(&mut self, method: &str, body: &Value, authorization: &str) -> Value {
        if authorization != format!("Bearer {}", self.slack_secret) {
            return json!({"ok": false, "error": "invalid_auth"});
        }
        let ts = match method {
            "chat.update" => body["ts"].as_str().unwrap().to_owned(),
            _ => format!("1794819600.{:06}", self.slack.len()),
        };
        if method == "chat.update" && !self.slack.contains_key(&ts) {
            return json!({"ok": false, "error": "message_not_found"});
        }
        self.slack.entry(ts.clone()).or_default().push(body.clone());
        json!({"ok": true, "channel": body["channel"], "ts": ts})
    }
}
