//! Builds the functions as `sam build` does, with cargo-lambda, but for this machine and unoptimised.

use std::fs;
use std::io::{BufRead as _, BufReader, Cursor, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::progress::{Progress, Step};
use crate::tools::{Tools, Workspace, last_lines};

/// Builds all functions. Blocks.
pub fn functions(workspace: &Workspace, tools: &Tools, progress: &Progress) -> Result<()> {
    ensure!(!workspace.functions.is_empty(), "there is no package beneath {}/functions", workspace.root.display());
    // Two builds at once would write the same files.
    let _lock = workspace.lock("build")?;
    progress(Step::Started("building the functions"));
    // cargo finds cargo-lambda on the PATH. The zig it brings is for other machines; this one has a linker.
    let mut path = std::ffi::OsString::from(tools.bin());
    path.push(":");
    path.push(inherited_path());
    let mut command = Command::new("cargo");
    command
        .args(["lambda", "build", "--compiler", "cargo", "--color", "never"])
        .args(workspace.functions.iter().flat_map(|name| ["--package", name]))
        .current_dir(&workspace.root)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut build = command.spawn().context("cargo lambda could not be run")?;
    let mut said = String::new();
    for line in build.stderr.take().map(BufReader::new).into_iter().flat_map(BufReader::lines) {
        let line = line?;
        progress(Step::Detail(line.trim()));
        said.push_str(&line);
        said.push('\n');
    }
    if !build.wait()?.success() {
        bail!("the functions do not build:\n{}", last_lines(&said, 60));
    }
    progress(Step::Finished);
    Ok(())
}

/// The zip of a function that was built, as `sam package` makes it, but not compressed: it does not travel far, and
/// compressing takes longer than everything else in a warm start.
pub fn zip(workspace: &Workspace, function: &str) -> Result<Vec<u8>> {
    // Another process may be building: what it has not finished writing does not run.
    let _lock = workspace.lock("build")?;
    let bootstrap = workspace.target.join("lambda").join(function).join("bootstrap");
    let code = fs::read(&bootstrap).with_context(|| format!("{function} was not built: {}", bootstrap.display()))?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o755);
    zip.start_file("bootstrap", stored)?;
    zip.write_all(&code)?;
    Ok(zip.finish()?.into_inner())
}

fn inherited_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
