//! Why a cluster is not scaled, though its owner wants it: two who write the same number would fight for it, and what is
//! not understood is not guessed at.

use std::fmt;

use super::Goals;
use super::tags::{self, ClusterTags};
use crate::clusters::Cluster;

/// Why a cluster is not scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its tags can't be read.
    Tags(Vec<String>),
    /// Other clusters name the same group.
    Shared { group: String, others: Vec<String> },
    /// There is no such group, or it is being deleted.
    NoGroup(String),
    /// ECS itself scales the group.
    Managed { group: String, provider: String },
    /// The group's capacity counts something other than instances.
    NotInInstances(String),
}

impl Refusal {
    /// What the tags ask for, if it can be done as far as the tags tell. `all` are the clusters that have opted in.
    pub(super) fn of_tags(cluster: &Cluster, all: &[Cluster]) -> Result<Goals, Self> {
        let ClusterTags { group, goal, problems } = ClusterTags::read(&cluster.tags);
        let group = match group {
            Some(group) if problems.is_empty() => group,
            _ => return Err(Self::Tags(problems.into_iter().collect())),
        };
        let same = |other: &&Cluster| ClusterTags::read(&other.tags).group.as_ref() == Some(&group);
        let others = all.iter().filter(|other| other.arn != cluster.arn).filter(same);
        let others: Vec<String> = others.map(|other| other.name.clone()).collect();
        match others.is_empty() {
            true => Ok(Goals { group, goal }),
            false => Err(Self::Shared { group, others }),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(problems) => write!(f, "{}", problems.join("; ")),
            Self::Shared { group, others } => {
                let others = others.join(", ");
                write!(f, "the Auto Scaling group {group} is also named by the cluster {others}; each needs its own")
            }
            Self::NoGroup(group) => {
                write!(f, "there is no Auto Scaling group {group}; correct the tag {}", tags::GROUP)
            }
            Self::Managed { group, provider } => write!(
                f,
                "ECS scales the Auto Scaling group {group} itself, by the managed scaling of the capacity provider \
                 {provider}; turn that off, or remove the tag {}",
                tags::GROUP
            ),
            Self::NotInInstances(group) => write!(
                f,
                "the capacity of the Auto Scaling group {group} is not counted in instances; use units without weights"
            ),
        }
    }
}
