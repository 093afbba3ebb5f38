//! What is built, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use super::Load;

/// An image, and the tags that it is pushed under: an event each.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) at: Duration,
    pub(super) repository: String,
    pub(super) tags: Vec<String>,
    pub(super) digest: String,
}

/// Builds with so many events in all, in the order of their time. No repository has two in one second: which of them
/// is newer ECR could not say.
pub(super) fn builds(load: Load, repositories: usize, rng: &mut Rng) -> Vec<Build> {
    let seconds = load.minutes * 60;
    let mut taken: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut events = 0;
    let mut times = Vec::new();
    while events < load.events {
        let repository = rng.usize(0..repositories);
        let kind = Kind::any(rng);
        let tags = kind.tags(0).len().min(load.events - events);
        let at = rng.u64(0..seconds);
        if taken.insert((at, repository)) {
            events += tags;
            times.push((at, repository, kind, tags));
        }
        assert!(
            (taken.len() as u64) < seconds * repositories as u64,
            "so many pushes do not fit into {} minutes",
            load.minutes
        );
    }
    times.sort_unstable_by_key(|(at, repository, ..)| (*at, *repository));
    let build = |(number, (at, repository, kind, tags)): (usize, (u64, usize, Kind, usize))| Build {
        at: Duration::from_secs(at),
        repository: format!("tides/r{repository:02}"),
        tags: kind.tags(number + 1).into_iter().take(tags).collect(),
        digest: format!("sha256:{:064x}", 0x10_0000 + number),
    };
    times.into_iter().enumerate().map(build).collect()
}

/// Where a build comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A branch of somebody's, which nobody follows.
    Branch,
    /// The main branch: the tag that moves, and one of its own.
    Main,
    /// A version.
    Release,
}

impl Kind {
    fn any(rng: &mut Rng) -> Self {
        match rng.u32(0..100) {
            0..80 => Self::Branch,
            80..98 => Self::Main,
            _ => Self::Release,
        }
    }

    fn tags(self, number: usize) -> Vec<String> {
        match self {
            Self::Branch => vec![format!("pr-{number}")],
            Self::Main => vec!["master".to_owned(), format!("main-{number}")],
            Self::Release => vec![format!("1.{number}.0")],
        }
    }
}
