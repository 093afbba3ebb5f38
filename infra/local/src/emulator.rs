//! Starts the AWS emulator as a process of its own, isolated from this machine, and ends it with everything it started.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::http::Method;
use tempfile::TempDir;

use crate::aws::{ACCOUNT, Aws, REGION};
use crate::tools::{Tools, last_lines};

/// What the emulator is started with, and the modules beside it.
const PROGRAM: [(&str, &str); 4] = [
    ("launcher.py", include_str!("launcher.py")),
    ("formation.py", include_str!("formation.py")),
    ("instances.py", include_str!("instances.py")),
    ("queues.py", include_str!("queues.py")),
];
const START_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(3);

/// A running emulator. Dropping it ends it and its functions; so does the death of this process, however it dies,
/// because the launcher watches the pipe between the two.
#[derive(Debug)]
pub struct Emulator {
    process: Child,
    state: TempDir,
}

impl Emulator {
    /// Starts the emulator on `port` and waits until it answers. `engine` is the address of the ECS engine, `functions`
    /// where the functions find AWS.
    pub async fn start(tools: &Tools, port: u16, engine: SocketAddr, functions: &str) -> Result<Self> {
        let state = tempfile::Builder::new().prefix("tidegate-local-").tempdir()?;
        let process = launch(tools, state.path(), port, engine, functions)?;
        let mut emulator = Self { process, state };
        emulator.wait_until_healthy(&Aws::new(endpoint(port))).await?;
        Ok(emulator)
    }

    /// The emulator's log.
    pub fn log(&self) -> PathBuf {
        self.state.path().join("emulator.log")
    }

    fn end_of_log(&self) -> String {
        last_lines(&fs::read_to_string(self.log()).unwrap_or_default(), 20)
    }

    async fn wait_until_healthy(&mut self, aws: &Aws) -> Result<()> {
        let url = format!("{}/_ministack/health", aws.endpoint());
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if aws.http.send(Method::GET, &url, &[], "").await.is_ok_and(|r| r.status.is_success()) {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "the emulator ended at once ({status}). If its port was taken, start again; if its installation is \
                     broken, remove target/tidegate-local. The end of its log:\n{}",
                    self.end_of_log()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the emulator does not answer at {url} after {} s: is this machine very busy, or does a proxy \
                     or firewall stand before the loopback interface? The end of its log:\n{}",
                    START_DEADLINE.as_secs(),
                    self.end_of_log()
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The end of the pipe makes the launcher end its process group: the emulator and the functions.
        drop(self.process.stdin.take());
        let deadline = Instant::now() + END_DEADLINE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Has no effect on a process that has ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The address of an emulator on `port`.
pub fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn launch(tools: &Tools, state: &Path, port: u16, engine: SocketAddr, functions: &str) -> Result<Child> {
    for (name, text) in PROGRAM {
        fs::write(state.join(name), text)?;
    }
    let launcher = state.join("launcher.py");
    let temporary = state.join("tmp");
    fs::create_dir(&temporary)?;
    let log = File::create(state.join("emulator.log"))?;
    let mut path = std::ffi::OsString::from(tools.bin());
    path.push(":/usr/local/bin:/usr/bin:/bin");
    Command::new(tools.bin().join("python"))
        .arg(&launcher)
        .arg(state)
        // The functions inherit this environment. A host variable in it could make a test pass that should not.
        .env_clear()
        .env("PATH", path)
        .env("HOME", state)
        .env("TMPDIR", &temporary)
        .env("LANG", "C.UTF-8")
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
        .env("MINISTACK_REGION", REGION)
        // The emulator hands it on to the functions.
        .env("AWS_ENDPOINT_URL", functions)
        // Functions may do what their roles allow, and nothing else. We are the account's root: our access key is its id.
        .env("AUTH", "true")
        .env("DOCKER_HOST", format!("tcp://{engine}"))
        .env("STATE_DIR", state.join("state"))
        .env("S3_DATA_DIR", state.join("s3"))
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        // AWS waits one and two minutes between the attempts of an asynchronous invocation.
        .env("LAMBDA_ASYNC_RETRY_BASE_SECONDS", "0.2")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Its own process group: Ctrl-C is for us, who then end it.
        .process_group(0)
        .spawn()
        .context("the emulator could not be started: if its installation is broken, remove target/tidegate-local")
}
