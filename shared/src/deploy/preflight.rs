//! The checks that a deployment must pass before ECS is asked for it. They are read beside the intention, because each
//! needs a call of its own; what can't be checked is said, and stops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::PoisonError;
use std::time::Duration;

use super::decide::Skip;
use super::images::Images;
use crate::alarms::AlarmStates;
use crate::dependencies::{self, Dependency, Directory, Existence};
use crate::image::EcrRepository;
use crate::manifest::{self, Check, Platforms};
use crate::platform::Platform;
use crate::task_definition::TaskDefinition;

/// How long the checks may take. A deployment is not to wait for an API that is out of order.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the checks have found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The image's platforms.
    pub platforms: Platforms,
    /// What the task definition names.
    pub dependencies: BTreeMap<Dependency, Existence>,
}

/// Judges the findings: what people should know, or why the deployment must not start.
///
/// # Errors
/// Why not.
pub fn judge(base: &TaskDefinition, findings: &Findings) -> Result<Vec<String>, Skip> {
    let mut notes = Vec::new();
    match manifest::check(&manifest::wanted(base.body()), &findings.platforms) {
        Check::Fits => {}
        Check::Lacks { wanted, has } => return Err(Skip::Platform { wanted, has }),
        Check::CannotTell(why) => notes.push(format!("platform: not checked, because {why}")),
    }
    let mut missing = Vec::new();
    for (dependency, existence) in &findings.dependencies {
        match existence {
            Existence::Exists => {}
            Existence::Missing(what) => missing.push(what.clone()),
            Existence::CannotTell(why) => notes.push(format!("{dependency}: not checked, because {why}")),
        }
    }
    if missing.is_empty() { Ok(notes) } else { Err(Skip::Dependencies(missing)) }
}

fn late() -> String {
    format!("there was no answer within {} seconds", PATIENCE.as_secs())
}

/// What was looked up in one invocation: services share roles and secrets.
#[derive(Debug)]
pub(super) struct Preflight<'a> {
    directory: &'a Directory,
    platform: &'a Platform,
    known: std::sync::Mutex<BTreeMap<Dependency, Existence>>,
}

impl<'a> Preflight<'a> {
    pub(super) fn new(directory: &'a Directory, platform: &'a Platform) -> Self {
        Self { directory, platform, known: std::sync::Mutex::default() }
    }

    /// Runs the checks for `digest` on a service that runs `base`.
    pub(super) async fn check(
        &self,
        images: &Images<'_>,
        repository: &EcrRepository,
        digest: &str,
        base: &TaskDefinition,
    ) -> Findings {
        let wanted = dependencies::of(base.body());
        let reading = futures_util::future::join(
            self.platform.within(PATIENCE, images.platforms(repository, digest)),
            self.platform.within(PATIENCE, self.look_up(&wanted, repository)),
        );
        let (platforms, found) = reading.await;
        Findings {
            platforms: platforms.unwrap_or_else(|| Platforms::Unknown(late())),
            dependencies: found.unwrap_or_else(|| {
                wanted.into_iter().map(|dependency| (dependency, Existence::CannotTell(late()))).collect()
            }),
        }
    }

    /// The states of alarms, if `asking` for them does not take too long.
    pub(super) async fn alarms(&self, asking: impl Future<Output = AlarmStates>) -> AlarmStates {
        let states = self.platform.within(PATIENCE, asking).await;
        states.unwrap_or_else(|| AlarmStates { unknown: Some(late()), ..AlarmStates::default() })
    }

    async fn look_up(
        &self,
        wanted: &BTreeSet<Dependency>,
        repository: &EcrRepository,
    ) -> BTreeMap<Dependency, Existence> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let new: BTreeSet<Dependency> = wanted.iter().filter(|wanted| !known.contains_key(*wanted)).cloned().collect();
        let mut found: BTreeMap<Dependency, Existence> =
            known.into_iter().filter(|(known, _)| wanted.contains(known)).collect();
        if !new.is_empty() {
            let looked_up = self.directory.look_up(&new, (&repository.region, &repository.account)).await;
            self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(looked_up.iter().cloned());
            found.extend(looked_up);
        }
        found
    }
}
