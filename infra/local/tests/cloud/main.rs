//! The functions as they are built and deployed, end to end in the local cloud.
//!
//! All tests share one cloud and run at the same time, so each has services and repositories of its own. Those of the
//! sweeps, which look at every service, share another one.
//! The cloud ends with the test process: statics are not dropped, but the emulator watches its parent.

#![expect(clippy::indexing_slicing, reason = "JSON values are indexed by name: a name that is missing gives null")]

mod announcements;
mod asked;
mod checks;
mod conformance;
mod deployments;
mod explain;
mod failures;
mod follower;
mod look;
mod permissions;
mod policies;
mod rollback;
mod scale;
mod smoke;
mod sweep;
mod telling;

use std::future::Future;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use local::cloud::{Cloud, SlackSecret};
use tokio::runtime::Runtime;

type Shared = LazyLock<Result<(Runtime, Cloud)>>;

static CLOUD: Shared = LazyLock::new(start);

fn start() -> Result<(Runtime, Cloud)> {
    let runtime = Runtime::new()?;
    let cloud = runtime.block_on(Cloud::start(SlackSecret::BotToken, &local::progress::lines()))?;
    Ok((runtime, cloud))
}

/// Runs a test in the shared cloud.
fn scenario<F>(test: impl FnOnce(&'static Cloud) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    scenario_in(&CLOUD, test)
}

fn scenario_in<F>(shared: &'static Shared, test: impl FnOnce(&'static Cloud) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    run_in(shared, |cloud| async move {
        test(cloud).await?;
        permissions::hold(cloud).await
    })
}

/// Runs a test without looking at what the functions were allowed.
fn run_in<F>(shared: &'static Shared, test: impl FnOnce(&'static Cloud) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (runtime, cloud) =
        shared.as_ref().map_err(|error| anyhow::anyhow!("the local cloud did not start: {error:#}"))?;
    runtime.block_on(test(cloud)).context("in the local cloud")
}
