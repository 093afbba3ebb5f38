//! The part of ECS that no emulator has: containers that start, stay, crash, or never come because their image cannot
//! be pulled.
//!
//! The emulator starts the containers of a task through the Docker Engine API. This is that API, as far as the
//! emulator's client goes, with nothing behind it: a "container" is an entry in a map. What becomes of it is decided by
//! the image, which the engine reads from the emulator's registry. Images of other registries (sidecars) always run.

pub mod worker;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Json, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aws::Aws;
use crate::http::Server;
use crate::json::text;
use crate::registry::{self, Behaviour, SLOW_PULL, STUCK_PULL};
use worker::Work;

/// How long a crashing container runs.
const CRASH_AFTER: Duration = Duration::from_millis(300);
/// The exit code of what was killed for its use of memory.
const KILLED: i64 = 137;

/// How long a container of an image that has turned bad passes its health check.
const UNHEALTHY_AFTER: Duration = Duration::from_millis(300);

/// The engine, which ends when it is dropped.
#[derive(Debug)]
pub struct Engine {
    server: Server,
    containers: Arc<Containers>,
}

#[derive(Debug)]
struct Containers {
    aws: Aws,
    all: Mutex<HashMap<String, Container>>,
    turned_bad: Mutex<HashSet<String>>,
}

#[derive(Debug, Clone)]
struct Container {
    image: String,
    labels: Value,
    behaviour: Behaviour,
    work: Option<Work>,
    started: Option<Instant>,
    exit_code: Option<i64>,
}

impl Container {
    /// Looks at the clock: a crashing container has exited when its time has come.
    fn settle(&mut self) {
        let code = match self.behaviour {
            Behaviour::Crash => 1,
            Behaviour::OutOfMemory => KILLED,
            Behaviour::Healthy | Behaviour::NeverPulls | Behaviour::Slow | Behaviour::Stuck => return,
        };
        if self.exit_code.is_none() && self.started.is_some_and(|at| at.elapsed() > CRASH_AFTER) {
            self.exit_code = Some(code);
        }
    }

    /// What it has written to its standard output, all at once: nobody follows it that closely.
    fn log(&self) -> Vec<u8> {
        let lines = match self.behaviour {
            Behaviour::Crash => registry::crash_log(),
            _ => vec!["started".to_owned()],
        };
        lines.iter().flat_map(|line| frame(line)).collect()
    }

    fn status(&self) -> &'static str {
        match (self.exit_code, self.started) {
            (Some(_), _) => "exited",
            (None, Some(_)) => "running",
            (None, None) => "created",
        }
    }
}

impl Engine {
    /// Starts an engine whose images come from the registry of `aws`.
    pub async fn start(aws: Aws) -> Result<Self> {
        let containers = Arc::new(Containers { aws, all: Mutex::default(), turned_bad: Mutex::default() });
        let server = Server::start(Router::new().fallback(serve).with_state(Arc::clone(&containers))).await?;
        Ok(Self { server, containers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// From now on, containers of the image with this digest fail their health check, those that run and those to come.
    pub fn turn_bad(&self, digest: &str) {
        self.containers.turned_bad().insert(digest.to_owned());
    }
}

async fn serve(State(containers): State<Arc<Containers>>, request: Request) -> Response {
    let method = request.method().clone();
    let path = decode(request.uri().path());
    let query = decode(request.uri().query().unwrap_or_default());
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    // Every path but the first ones comes with the version of the API, such as /v1.43/containers/json.
    let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => rest,
        None => path.trim_start_matches('/'),
    };
    match path.split_once('/') {
        None if path == "_ping" => "OK".into_response(),
        None => Json(json!({ "ApiVersion": "1.43", "MinAPIVersion": "1.24", "Version": "24.0" })).into_response(),
        Some(("distribution", image)) => containers.distribution(image.trim_end_matches("/json")).await,
        Some(("images", "create")) => containers.pull(&pulled_image(&query)).await,
        Some(("images", image)) => containers.image(image.trim_end_matches("/json")).await,
        Some(("containers", "json")) => Json(json!([])).into_response(),
        Some(("containers", "create")) => containers.create(&body).await,
        Some(("containers", rest)) => {
            if let Some(id) = rest.strip_suffix("/start") {
                worker::start(&containers, id);
            }
            containers.container(&method, rest)
        }
        Some(_) => Json(json!([])).into_response(),
    }
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turned_bad(&self) -> MutexGuard<'_, HashSet<String>> {
        self.turned_bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the health check of a container says.
    fn health(&self, container: &Container) -> &'static str {
        let is_bad = container.image.split_once('@').is_some_and(|(_, digest)| self.turned_bad().contains(digest));
        match container.started {
            Some(at) if is_bad && at.elapsed() > UNHEALTHY_AFTER => "unhealthy",
            Some(_) => "healthy",
            None => "starting",
        }
    }

    /// The behaviour of an image, or a response that says why it cannot be had.
    async fn behaviour(&self, image: &str) -> Result<Behaviour, Response> {
        let Some((repository, reference)) = ours(image) else {
            return Ok(Behaviour::Healthy);
        };
        match registry::behaviour(&self.aws, repository, reference).await {
            Ok(Some(behaviour)) => Ok(behaviour),
            Ok(None) => Err(not_found(&format!("manifest for {image} not found: manifest unknown"))),
            Err(error) => {
                let message = json!({ "message": format!("{error:#}") });
                Err((StatusCode::INTERNAL_SERVER_ERROR, Json(message)).into_response())
            }
        }
    }

    /// What a tag points to, which the emulator asks to pin a deployment's tasks to one digest.
    async fn distribution(&self, image: &str) -> Response {
        let digest = match ours(image) {
            None => Some(made_up_digest(image)),
            Some((repository, reference)) => {
                registry::resolve(&self.aws, repository, reference).await.unwrap_or_default()
            }
        };
        let Some(digest) = digest else {
            return not_found("manifest unknown");
        };
        let descriptor = json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1 });
        Json(json!({ "Descriptor": descriptor, "Platforms": [] })).into_response()
    }

    async fn pull(&self, image: &str) -> Response {
        match self.behaviour(image).await {
            Ok(Behaviour::NeverPulls) => not_found(&format!("manifest for {image} not found: manifest unknown")),
            Ok(behaviour) => {
                let time = match behaviour {
                    Behaviour::Slow => SLOW_PULL,
                    Behaviour::Stuck => STUCK_PULL,
                    _ => Duration::ZERO,
                };
                tokio::time::sleep(time).await;
                Json(json!({ "status": "done" })).into_response()
            }
            Err(response) => response,
        }
    }

    async fn image(&self, image: &str) -> Response {
        match self.behaviour(image).await {
            Ok(Behaviour::NeverPulls) => not_found("no such image"),
            Ok(_) => {
                let id = made_up_digest(image);
                Json(json!({ "Id": id, "RepoTags": [], "RepoDigests": [image], "Config": {} })).into_response()
            }
            Err(response) => response,
        }
    }

    async fn create(&self, body: &[u8]) -> Response {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let image = text(&request, "Image");
        let behaviour = match self.behaviour(image).await {
            Ok(Behaviour::NeverPulls) => return not_found("no such image"),
            Ok(behaviour) => behaviour,
            Err(response) => return response,
        };
        let container = Container {
            image: image.to_owned(),
            labels: request.get("Labels").cloned().unwrap_or(json!({})),
            behaviour,
            work: Work::asked_for(&request),
            started: None,
            exit_code: None,
        };
        let mut all = self.lock();
        let id = format!("{:064x}", all.len() + 1);
        all.insert(id.clone(), container);
        (StatusCode::CREATED, Json(json!({ "Id": id, "Warnings": [] }))).into_response()
    }

    /// Everything about one container. Removed ones are kept, so that ids stay unique, and are found no more.
    fn container(&self, method: &Method, rest: &str) -> Response {
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        let mut all = self.lock();
        let Some(container) = all.get_mut(id) else {
            return not_found("no such container");
        };
        container.settle();
        match (method, action) {
            (&Method::POST, "start") => container.started = Some(Instant::now()),
            (&Method::POST, "stop" | "kill") => container.exit_code = container.exit_code.or(Some(0)),
            (&Method::DELETE, "") => container.exit_code = container.exit_code.or(Some(0)),
            (&Method::GET, "logs") => return Body::from(container.log()).into_response(),
            // The emulator waits only for containers that it saw exited.
            (&Method::POST, "wait") => {
                return Json(json!({ "StatusCode": container.exit_code.unwrap_or(0) })).into_response();
            }
            _ => return Json(inspection(id, container, self.health(container))).into_response(),
        }
        StatusCode::NO_CONTENT.into_response()
    }
}

/// A line as the Engine API sends it: the stream that it is of, its length, itself.
fn frame(line: &str) -> Vec<u8> {
    let line = format!("{line}\n");
    let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
    [&[1, 0, 0, 0], &length.to_be_bytes()[..], line.as_bytes()].concat()
}

fn inspection(id: &str, container: &Container, health: &str) -> Value {
    let status = container.status();
    json!({
        "Id": id,
        "Name": "/task",
        "Image": made_up_digest(&container.image),
        "State": {
            "Status": status,
            "Running": status == "running",
            "ExitCode": container.exit_code.unwrap_or(0),
            "Health": { "Status": health },
        },
        "Config": { "Image": container.image, "Labels": container.labels, "Tty": false },
        "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "127.0.0.1" } }, "Ports": {} },
    })
}

/// Splits a reference to an image of our registry into repository and tag or digest.
fn ours(image: &str) -> Option<(&str, &str)> {
    let rest = image.strip_prefix(registry::host().as_str())?.strip_prefix('/')?;
    Some(rest.split_once('@').or_else(|| rest.split_once(':')).unwrap_or((rest, "latest")))
}

fn pulled_image(query: &str) -> String {
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let (image, tag) = (value("fromImage"), value("tag"));
    match tag {
        "" => image.to_owned(),
        digest if digest.starts_with("sha256:") => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    }
}

/// Undoes the percent-encoding of the few characters that image references have.
fn decode(text: &str) -> String {
    text.replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

fn not_found(message: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "message": message }))).into_response()
}

fn made_up_digest(text: &str) -> String {
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_to_our_registry_are_ours() {
        let host = registry::host();
        assert_eq!(ours(&format!("{host}/tides/web:develop")), Some(("tides/web", "develop")));
        assert_eq!(ours(&format!("{host}/tides/web@sha256:ab")), Some(("tides/web", "sha256:ab")));
        assert_eq!(ours(&format!("{host}/web")), Some(("web", "latest")));
        assert_eq!(ours("public.ecr.aws/datadog/agent:7"), None);
        assert_eq!(ours(&format!("{host}.example.com/web:1")), None);
    }

    #[test]
    fn the_image_of_a_pull() {
        assert_eq!(pulled_image("tag=7&fromImage=datadog/agent"), "datadog/agent:7");
        assert_eq!(pulled_image("fromImage=a/b&tag=sha256:ab&platform="), "a/b@sha256:ab");
    }

    #[test]
    fn a_crashing_container_exits_by_itself_and_a_healthy_one_does_not() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        let container = |behaviour, started| Container {
            image: String::new(),
            labels: Value::Null,
            behaviour,
            work: None,
            started,
            exit_code: None,
        };
        for (mut container, expected, code) in [
            (container(Behaviour::Crash, long_ago), "exited", Some(1)),
            (container(Behaviour::OutOfMemory, long_ago), "exited", Some(KILLED)),
            (container(Behaviour::Healthy, long_ago), "running", None),
            (container(Behaviour::Crash, None), "created", None),
        ] {
            container.settle();
            assert_eq!((container.status(), container.exit_code), (expected, code));
        }
    }

    #[test]
    fn an_image_that_turns_bad_fails_its_health_check_and_others_do_not() {
        let aws = Aws::new("http://127.0.0.1:1");
        let containers = Containers { aws, all: Mutex::default(), turned_bad: Mutex::default() };
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        let container = |image: &str, started| Container {
            image: image.to_owned(),
            labels: Value::Null,
            behaviour: Behaviour::Healthy,
            work: None,
            started,
            exit_code: None,
        };
        assert_eq!(containers.health(&container("tides/web@sha256:01", long_ago)), "healthy");
        containers.turned_bad().insert("sha256:01".to_owned());
        assert_eq!(containers.health(&container("tides/web@sha256:01", long_ago)), "unhealthy");
        assert_eq!(containers.health(&container("tides/web@sha256:01", Some(Instant::now()))), "healthy");
        assert_eq!(containers.health(&container("tides/web@sha256:02", long_ago)), "healthy");
        assert_eq!(containers.health(&container("tides/web@sha256:01", None)), "starting");
    }

    #[test]
    fn a_line_of_a_log_comes_with_its_length() {
        assert_eq!(frame("hello"), b"\x01\0\0\0\0\0\0\x06hello\n");
    }
}
