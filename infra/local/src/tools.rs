//! Installs the pinned tools: the emulator, and cargo-lambda with zig, all Python packages, into the target folder.
//!
//! Everything here blocks; call it off the async threads.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::json::{list, text};
use crate::progress::{Progress, Step};

const REQUIREMENTS: &str = include_str!("../requirements.txt");
/// The oldest Python that the emulator runs on.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// The workspace, as Cargo describes it.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The folder with the workspace's Cargo.toml.
    pub root: PathBuf,
    /// The target folder.
    pub target: PathBuf,
    /// The names of the functions: the packages beneath `functions/`.
    pub functions: Vec<String>,
}

impl Workspace {
    /// Asks Cargo about the workspace this crate belongs to.
    pub fn find() -> Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest])
            .output()
            .context("cargo could not be run: is it on the PATH?")?;
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        let path = |name: &str| metadata.get(name).and_then(Value::as_str).map(PathBuf::from);
        let root = path("workspace_root").context("cargo metadata names no workspace")?;
        let target = path("target_directory").context("cargo metadata names no target folder")?;
        let functions_folder = root.join("functions");
        let functions = list(&metadata, "packages")
            .iter()
            .filter(|p| Path::new(text(p, "manifest_path")).starts_with(&functions_folder))
            .map(|p| text(p, "name").to_owned())
            .collect();
        Ok(Self { root, target, functions })
    }

    /// Where the local cloud keeps what it makes.
    pub fn folder(&self) -> PathBuf {
        self.target.join("tidegate-local")
    }

    /// Waits until no other process holds the lock called `name`, and holds it until it is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        fs::create_dir_all(self.folder()).context("the target folder cannot be written")?;
        let lock = File::create(self.folder().join(format!("{name}.lock")))?;
        lock.lock()?;
        Ok(lock)
    }
}

/// The virtual environment with the tools.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Installs the tools, unless they are there already.
    pub fn install(workspace: &Workspace, progress: &Progress) -> Result<Self> {
        let (python, version) = find_python()?;
        let key: String = Sha256::digest(format!("{version:?}\n{REQUIREMENTS}"))
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = workspace.folder().join(format!("venv-{key}"));
        let tools = Self { folder: folder.clone() };
        let complete = folder.join("complete");
        let _lock = workspace.lock("tools")?;
        if complete.exists() {
            return Ok(tools);
        }
        progress(Step::Started("installing the emulator and cargo-lambda from PyPI (once)"));
        if folder.exists() {
            fs::remove_dir_all(&folder).context("a broken installation of the tools cannot be removed")?;
        }
        let requirements = workspace.folder().join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS)?;
        run(Command::new(python).args(["-m", "venv"]).arg(&folder), "a virtual environment cannot be made")?;
        let mut install = Command::new(tools.bin().join("python"));
        install
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"])
            // Nothing but the files that requirements.txt names by hash, and no code of theirs runs here.
            .args(["--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement"])
            .arg(&requirements);
        run(
            &mut install,
            "pip could not install the tools. It needs PyPI, or a mirror of it named in pip's configuration",
        )?;
        fs::write(&complete, "")?;
        progress(Step::Finished);
        Ok(tools)
    }

    /// The folder with the tools' programs.
    pub fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }
}

fn find_python() -> Result<(&'static str, (u32, u32))> {
    let mut found = String::new();
    for name in ["python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"] {
        let output = match Command::new(name).args(["-c", "import sys; print(*sys.version_info[:2])"]).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("{name} could not be run"))?,
        };
        let Some(version) = parse_version(&output) else {
            continue;
        };
        if version < OLDEST_PYTHON {
            found = format!(" (found only {name} {}.{})", version.0, version.1);
            continue;
        }
        let venv = Command::new(name).args(["-c", "import ensurepip, venv"]).output()?;
        if !venv.status.success() {
            bail!(
                "{name} {}.{} has no venv module, which the local cloud needs. On Debian and Ubuntu: \
                 apt-get install python3-venv",
                version.0,
                version.1
            );
        }
        return Ok((name, version));
    }
    bail!(
        "the local cloud needs Python {}.{} or newer{found} for its AWS emulator. On Debian and Ubuntu: apt-get install \
         python3-venv. On macOS: brew install python",
        OLDEST_PYTHON.0,
        OLDEST_PYTHON.1
    )
}

fn parse_version(output: &Output) -> Option<(u32, u32)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Runs a command to its end; when it fails, the error carries the end of what it said.
pub(crate) fn run(command: &mut Command, failure: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{failure}: {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!("{failure}:\n{}", last_lines(&String::from_utf8_lossy(&said), 20))
}

/// The last `n` lines of a text.
pub(crate) fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(n)..).unwrap_or_default().join("\n")
}
