//! Starts the fault proxy between the functions and the emulator: [microburst](https://pypi.org/project/microburst/),
//! which answers in the wire format of each AWS API, loses connections and answers, and tells what it has done.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use axum::http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::emulator::{endpoint, free_port};
use crate::http::Http;
use crate::json::text;
use crate::tools::{Tools, last_lines};

const PROGRAM: &str = include_str!("proxy.py");
const START_DEADLINE: Duration = Duration::from_secs(60);
/// More than an invocation has.
const FIRED_MAX: u32 = 2000;

/// A running proxy. It ends when it is dropped, and with this process, however that dies.
#[derive(Debug)]
pub struct Proxy {
    process: Child,
    folder: TempDir,
    http: Http,
    endpoint: String,
}

/// A request that a rule was applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The rule's number.
    pub rule: u64,
    /// The service, as in the scope of the signature; empty where the request had none.
    pub service: String,
    /// The operation, or empty.
    pub operation: String,
}

impl Proxy {
    /// Starts a proxy before `upstream`, and waits until it answers.
    pub async fn start(tools: &Tools, upstream: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidegate-proxy-").tempdir()?;
        let program = folder.path().join("proxy.py");
        fs::write(&program, PROGRAM)?;
        let log = File::create(folder.path().join("proxy.log"))?;
        let port = free_port().context("there is no free port on the loopback interface")?;
        let process = Command::new(tools.bin().join("python"))
            .arg(&program)
            .args(["--host", "127.0.0.1", "--no-resign", "--port", &port.to_string(), "--upstream", upstream])
            .env_clear()
            .env("HOME", folder.path())
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("the fault proxy could not be started")?;
        let mut proxy = Self { process, folder, http: Http::default(), endpoint: endpoint(port) };
        proxy.wait_until_healthy().await?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Has these rules from now on, and forgets what was before. Returns their numbers.
    pub async fn set_rules(&self, rules: &[Value]) -> Result<Vec<u64>> {
        let set = self.control(Method::POST, "rules", &json!(rules)).await?;
        self.control(Method::DELETE, "fired", &Value::Null).await?;
        let numbers = set.as_array().into_iter().flatten().filter_map(|rule| rule.get("id").and_then(Value::as_u64));
        let numbers: Vec<u64> = numbers.collect();
        ensure!(numbers.len() == rules.len(), "the fault proxy did not take all rules: {set}");
        Ok(numbers)
    }

    /// The requests that rules were applied to, oldest first.
    pub async fn fired(&self) -> Result<Vec<Fired>> {
        let fired = self.control(Method::GET, &format!("fired?limit={FIRED_MAX}"), &Value::Null).await?;
        let read = |it: &Value| Fired {
            rule: it.get("rule_id").and_then(Value::as_u64).unwrap_or_default(),
            service: text(it, "service").to_owned(),
            operation: text(it, "operation").to_owned(),
        };
        Ok(fired.as_array().into_iter().flatten().map(read).collect())
    }

    async fn control(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/_microburst/{path}", self.endpoint);
        let response = self.http.send(method, &url, &[("content-type", "application/json")], body.to_string()).await?;
        ensure!(response.status.is_success(), "the fault proxy refused {path}: {}", response.text());
        serde_json::from_slice(&response.body).with_context(|| format!("{path} answered {}", response.text()))
    }

    async fn wait_until_healthy(&mut self) -> Result<()> {
        let url = format!("{}/_microburst/health", self.endpoint);
        let deadline = Instant::now() + START_DEADLINE;
        while !self.http.send(Method::GET, &url, &[], "").await.is_ok_and(|answer| answer.status.is_success()) {
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("proxy.log")).unwrap_or_default();
                bail!("the fault proxy does not answer. The end of its log:\n{}", last_lines(&log, 20));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Has no effect on a process that has ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
