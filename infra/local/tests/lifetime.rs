//! Nothing stays behind: the emulator and the functions end with whoever started them, however that ends.

#![expect(clippy::disallowed_methods, reason = "processes end on this machine's clock")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use local::aws::Aws;
use local::emulator::{self, Emulator};
use local::engine::Engine;
use local::tools::{Tools, Workspace};
use tokio::runtime::Runtime;

/// How long the end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts an emulator whose state is beneath `folder`, and its engine.
async fn start() -> Result<(Emulator, Engine)> {
    let progress = local::progress::lines();
    let tools = Tools::install(&Workspace::find()?, &progress)?;
    let port = emulator::free_port()?;
    let engine = Engine::start(Aws::new(emulator::endpoint(port))).await?;
    Ok((Emulator::start(&tools, port, engine.address(), &emulator::endpoint(port)).await?, engine))
}

/// Everything that runs out of this folder: the launcher, and the functions that it unpacked there.
fn processes(folder: &Path) -> Result<Vec<String>> {
    let output = Command::new("ps").args(["-axo", "command"]).output().context("ps could not be run")?;
    let folder = folder.to_str().context("a folder with an odd name")?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter(|line| line.contains(folder)).map(str::to_owned).collect())
}

fn wait_until_nothing_is_left(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let processes = processes(folder)?;
        if processes.is_empty() && !folder.exists() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left behind: {} {processes:?}", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn state_of(emulator: &Emulator) -> Result<std::path::PathBuf> {
    Ok(emulator.log().parent().context("a log without a folder")?.to_owned())
}

#[test]
fn the_emulator_ends_when_it_is_dropped() -> Result<()> {
    let (emulator, engine) = Runtime::new()?.block_on(start())?;
    let state = state_of(&emulator)?;
    assert_eq!(processes(&state)?.len(), 1);
    drop((emulator, engine));
    wait_until_nothing_is_left(&state)
}

#[test]
fn the_emulator_ends_when_its_owner_panics() -> Result<()> {
    let (emulator, engine) = Runtime::new()?.block_on(start())?;
    let state = state_of(&emulator)?;
    let owner = std::thread::spawn(move || {
        let _owned = (emulator, engine);
        panic!("on purpose");
    });
    assert!(owner.join().is_err());
    wait_until_nothing_is_left(&state)
}

#[test]
fn the_emulator_ends_when_its_owner_is_killed() -> Result<()> {
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["--exact", "an_owner_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(owner.stdout.take().context("no output")?);
    let state = said.lines().find_map(|line| line.ok()?.strip_prefix("state: ").map(str::to_owned));
    let state = state.context("the owner did not start")?;
    assert_eq!(processes(Path::new(&state))?.len(), 1);
    owner.kill()?;
    owner.wait()?;
    wait_until_nothing_is_left(Path::new(&state))
}

#[test]
#[ignore = "a process for the test above"]
fn an_owner_that_waits_to_be_killed() -> Result<()> {
    let (emulator, _engine) = Runtime::new()?.block_on(start())?;
    println!("\nstate: {}", state_of(&emulator)?.display());
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn the_demo_ends_on_ctrl_c_with_everything_it_started() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = BufReader::new(demo.stdout.take().context("no output")?).lines();
    // By then the deploy function has run.
    said.find(|line| line.as_ref().is_ok_and(|line| line.contains("staging/web is deployed")))
        .context("no story")??;
    assert!(processes(folder.path())?.len() >= 2, "the emulator and a function");
    let interrupt = Command::new("kill").args(["-INT", &demo.id().to_string()]).status()?;
    assert!(interrupt.success());
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    assert_eq!(demo.wait()?.code(), Some(130), "{rest:?}");
    assert!(processes(folder.path())?.is_empty());
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}
