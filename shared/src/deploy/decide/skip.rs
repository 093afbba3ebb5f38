//! Why nothing is deployed, in words that tell the owner what to do.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Utc};

use crate::manifest::Platform;
use crate::policy::Policy;
use crate::task_definition::revision_name;

/// Why nothing is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// The service is DRAINING or INACTIVE.
    NotActive(String),
    /// Tags that can't be read.
    Tags(Vec<String>),
    /// It no longer follows the repository.
    NotFollowing,
    /// The policy does not select the pushed tag.
    NotSelected(Policy),
    /// The deployment controller is not ECS.
    Controller(String),
    /// The repository does not exist.
    NoRepository,
    /// No image is selected.
    NothingSelected(Policy),
    /// The selected image is in ECR's archive.
    Archived(Policy),
    /// What is selected is no container image.
    NotAnImage(String),
    /// There is no PRIMARY deployment to take the task definition from.
    NoPrimary,
    /// The revision of the PRIMARY deployment was deleted.
    RevisionGone(String),
    /// No container comes from the repository.
    NoContainer,
    /// The PRIMARY deployment runs this digest.
    AlreadyRuns,
    /// The owner holds the service.
    Held(String),
    /// A range of versions would lead down.
    Downgrade {
        /// The version that runs.
        running: String,
        /// The tag of the candidate.
        candidate: String,
    },
    /// This digest is in quarantine: it has failed on this service before, or was taken back.
    Quarantined {
        /// The record of that attempt.
        record: String,
        /// What was wrong with it.
        reason: String,
    },
    /// Tidegate has stopped deploying to this service by itself.
    Stopped(String),
    /// Somebody else has replaced this digest by another one, with this deployment.
    TakenBack(String),
    /// ECS has refused this deployment a short while ago.
    Refused {
        /// When the sweep tries again.
        until: DateTime<Utc>,
        /// What ECS said.
        reason: String,
    },
    /// ECS is going back to an earlier deployment.
    RollingBack,
    /// Alarms that would watch the deployment are in ALARM already.
    AlarmFiring(Vec<String>),
    /// The new revision would be larger than ECS takes.
    TooLarge(usize),
    /// The owner only wants to be told.
    NotifyMode,
    /// The image does not run on the platform that the task definition asks for.
    Platform {
        /// The task definition's platform.
        wanted: Platform,
        /// The image's platforms.
        has: BTreeSet<Platform>,
    },
    /// Roles, secrets or parameters are missing.
    Dependencies(Vec<String>),
}

impl Skip {
    /// The rule's name, as decisions and records carry it.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotActive(_) => "not-active",
            Self::Tags(_) => "tags",
            Self::NotFollowing => "not-following",
            Self::NotSelected(_) => "not-selected",
            Self::Controller(_) => "controller",
            Self::NoRepository => "no-repository",
            Self::NothingSelected(_) => "nothing-selected",
            Self::Archived(_) => "archived",
            Self::NotAnImage(_) => "not-an-image",
            Self::NoPrimary => "no-primary",
            Self::RevisionGone(_) => "revision-gone",
            Self::NoContainer => "no-container",
            Self::AlreadyRuns => "already-runs",
            Self::Held(_) => "held",
            Self::Downgrade { .. } => "downgrade",
            Self::Quarantined { .. } => "quarantine",
            Self::Stopped(_) => "stopped",
            Self::TakenBack(_) => "taken-back",
            Self::Refused { .. } => "refused",
            Self::RollingBack => "rolling-back",
            Self::AlarmFiring(_) => "alarm",
            Self::TooLarge(_) => "too-large",
            Self::NotifyMode => "notify-mode",
            Self::Platform { .. } => "platform",
            Self::Dependencies(_) => "dependencies",
        }
    }

    /// Whether the decision belongs in the service's history: something was there to deploy, or should have been. That
    /// a service runs what it should, or that it is going away, is no news; nor is what only lasts for moments.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        !matches!(
            self,
            Self::NotActive(_)
                | Self::NotFollowing
                | Self::NotSelected(_)
                | Self::NoPrimary
                | Self::AlreadyRuns
                | Self::Refused { .. }
                | Self::RollingBack
        )
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotActive(status) => write!(f, "the service is {status}, not ACTIVE"),
            Self::Tags(problems) => {
                write!(f, "the service's tags can't be read, so nothing is deployed: {}", problems.join("; "))
            }
            Self::NotFollowing => f.write_str("the service no longer follows this repository"),
            Self::NotSelected(policy) => write!(f, "the service follows {policy}"),
            Self::Controller(controller) => write!(
                f,
                "the deployment controller is {controller}: ECS takes a new task definition by UpdateService only from \
                 services with the controller ECS"
            ),
            Self::NoRepository => f.write_str(
                "the repository does not exist in this account and Region; is the tag tidegate:follow/<repository> \
                 spelt like the repository?",
            ),
            Self::NothingSelected(Policy::Tag(tag)) => {
                write!(f, "no image of the repository has the tag {tag}; push one")
            }
            Self::NothingSelected(policy) => {
                write!(f, "no image of the repository is selected by {policy}; push one, or change the follow tag")
            }
            Self::Archived(policy) => write!(
                f,
                "the image of {policy} is in ECR's archive and can't be pulled; restore it, or push a new one"
            ),
            Self::NotAnImage(what) => write!(f, "{what}; follow a tag that names an image"),
            Self::NoPrimary => f.write_str("the service has no PRIMARY deployment to take the task definition from"),
            Self::RevisionGone(arn) => write!(
                f,
                "the task definition {} that the service runs was deleted, so there is nothing to copy; update the \
                 service to a revision that exists",
                revision_name(arn)
            ),
            Self::NoContainer => f.write_str(
                "no container of the task definition uses an image of this repository; is the follow tag on the right \
                 service?",
            ),
            Self::AlreadyRuns => f.write_str("the service already runs this digest"),
            Self::Held(reason) => write!(f, "the service is held: {reason}; remove its tag tidegate:hold to go on"),
            Self::Downgrade { running, candidate } => write!(
                f,
                "{candidate} is the highest version to be found, and lower than {running}, which runs; to go back on \
                 purpose, follow tag:{candidate}"
            ),
            Self::Quarantined { record, reason } => write!(
                f,
                "this digest is in quarantine, because it went bad on this service before (record {record}: {reason}); \
                 push a new image, or release this one"
            ),
            Self::Stopped(reason) => write!(f, "Tidegate has stopped deploying to this service: {reason}"),
            Self::TakenBack(deployment) => write!(
                f,
                "somebody else has replaced this image by another one ({deployment}), and it is not put back unasked; push \
                 a new image, or set and remove tidegate:hold to have this one again"
            ),
            Self::Refused { until, reason } => {
                write!(
                    f,
                    "ECS refused this deployment ({reason}); it is tried again after {} UTC",
                    until.format("%H:%M")
                )
            }
            Self::RollingBack => f.write_str(
                "ECS is going back to the earlier deployment; a new one now would have nothing to fall back on, so it \
                 comes when ECS is done",
            ),
            Self::AlarmFiring(alarms) => write!(
                f,
                "{} in ALARM already, so ECS would not heed {} during the deployment; it is deployed once all is OK. To \
                 deploy a fix before, take the alarm off the service",
                names(alarms, "is", "are"),
                if alarms.len() == 1 { "it" } else { "them" },
            ),
            Self::TooLarge(size) => {
                write!(f, "with the digest the task definition would have {size} bytes; ECS takes 65,536: shorten it")
            }
            Self::NotifyMode => {
                f.write_str("the service's tidegate:mode is notify: this would be deployed in mode auto")
            }
            Self::Platform { wanted, has } => {
                let has: Vec<String> = has.iter().map(ToString::to_string).collect();
                let has = if has.is_empty() { "no platform at all".to_owned() } else { has.join(", ") };
                write!(f, "the task definition asks for {wanted}, and the image has {has}; build it for {wanted} too")
            }
            Self::Dependencies(missing) => {
                write!(f, "tasks could not start: {}; mend that, or the task definition", missing.join("; "))
            }
        }
    }
}

fn names(alarms: &[String], is: &str, are: &str) -> String {
    let verb = if alarms.len() == 1 { is } else { are };
    format!("{} {verb}", alarms.join(", "))
}
