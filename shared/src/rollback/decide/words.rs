//! What is wrong with a deployment, and why nothing is done about it, in words that tell people what to do.

use std::fmt;

use chrono::{DateTime, Utc};

use super::BUDGET;
use crate::rollback::target::Passed;

/// What is wrong with a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// ECS has given it up, and does not go back.
    Failed(String),
    /// ECS has gone back to it after it was taken back for this.
    Returned(String),
    /// It was not done in time; after this many minutes.
    Overdue(i64),
    /// These alarms went off.
    Alarms(Vec<String>),
    /// Tasks have failed after it was live, or in a rollout that has no circuit breaker.
    Tasks {
        /// How many.
        failed: usize,
        /// What most of them died of.
        what: String,
    },
    /// A person wants it taken back.
    Asked {
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
}

impl Fault {
    /// The rule's name, as decisions carry it.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Failed(_) => "rollout-failed",
            Self::Returned(_) => "returned",
            Self::Overdue(_) => "deadline",
            Self::Alarms(_) => "alarm",
            Self::Tasks { .. } => "tasks-failed",
            Self::Asked { .. } => "asked",
        }
    }

    /// Whether nobody has asked for it.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self, Self::Asked { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::Returned(why) => write!(f, "ECS went back to it after it was taken back: {why}"),
            Self::Overdue(minutes) => {
                write!(f, "the rollout did not complete within {minutes} minutes (tidegate:deadline)")
            }
            Self::Alarms(names) => write!(f, "{} went into ALARM", names.join(", ")),
            Self::Tasks { failed, what } => write!(f, "{failed} tasks have failed: {what}"),
            Self::Asked { actor, reason } => {
                let actor = if actor.is_empty() { "somebody" } else { actor };
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                write!(f, "{actor} asked for it{reason}")
            }
        }
    }
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// The service is DRAINING or INACTIVE.
    NotActive(String),
    /// The deployment controller is not ECS.
    Controller(String),
    /// There is no PRIMARY deployment.
    NoPrimary,
    /// The PRIMARY deployment is not known.
    Unknown(String),
    /// The request is about another deployment than the one that is PRIMARY.
    NotCurrent {
        /// What was to be taken back.
        asked: String,
        /// What is PRIMARY.
        current: String,
    },
    /// This very request was acted on before.
    DoneBefore(String),
    /// What runs was brought back already, and nobody has said what to go back to instead.
    BroughtBack(String),
    /// What was asked for runs already.
    Runs {
        /// What was asked for.
        release: String,
        /// The record of its deployment.
        record: String,
    },
    /// What was asked for is not among the releases.
    NoSuchRelease(String),
    /// ECS goes back by itself.
    EcsGoesBack,
    /// Somebody else has made the deployment.
    ByOthers,
    /// What was to be done about it has been done.
    Settled(String),
    /// It is being rolled out, and nothing is wrong.
    Rolling,
    /// It is being watched, and nothing is wrong.
    Baking(DateTime<Utc>),
    /// It is live, and these alarms have been in ALARM since before its rollout: that is not its doing, and it has not
    /// helped.
    StillInAlarm(Vec<String>),
    /// It is live, and not watched any more.
    Live,
}

impl Leave {
    /// The rule's name, as decisions carry it.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotActive(_) => "not-active",
            Self::Controller(_) => "controller",
            Self::NoPrimary => "no-primary",
            Self::Unknown(_) => "unknown",
            Self::NotCurrent { .. } => "not-current",
            Self::DoneBefore(_) => "done-before",
            Self::BroughtBack(_) => "brought-back",
            Self::Runs { .. } => "runs",
            Self::NoSuchRelease(_) => "no-such-release",
            Self::EcsGoesBack => "ecs-goes-back",
            Self::ByOthers => "by-others",
            Self::Settled(_) => "settled",
            Self::Rolling => "rolling",
            Self::Baking(_) => "baking",
            Self::StillInAlarm(_) => "still-in-alarm",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotActive(status) => write!(f, "the service is {status}, not ACTIVE"),
            Self::Controller(controller) => {
                write!(f, "the deployment controller is {controller}; Tidegate goes back only where it is ECS")
            }
            Self::NoPrimary => f.write_str("the service has no PRIMARY deployment"),
            Self::Unknown(id) => write!(f, "Tidegate does not know the deployment {id} that runs"),
            Self::NotCurrent { asked, current } => {
                write!(
                    f,
                    "{asked} was to be taken back, and it does not run any more: {current} does, and is left alone"
                )
            }
            Self::DoneBefore(record) => write!(f, "this request was acted on before (record {record})"),
            Self::BroughtBack(record) => write!(
                f,
                "what runs was brought back already (record {record}); to go back further, name the release with `to`"
            ),
            Self::NoSuchRelease(what) => {
                write!(f, "{what} is no release of this service; name a record, a digest, a tag or a revision")
            }
            Self::Runs { release, record } => write!(f, "{release} runs already (record {record})"),
            Self::EcsGoesBack => {
                f.write_str("ECS is going back to the earlier deployment by itself, and is left alone")
            }
            Self::ByOthers => {
                f.write_str("somebody else has deployed this, and has to take it back; or ask for a rollback")
            }
            Self::Settled(what) => write!(f, "it has been seen to: {what}"),
            Self::Rolling => f.write_str("it is being rolled out, and nothing is known to be wrong"),
            Self::Baking(until) => {
                write!(
                    f,
                    "it is live and watched until {} UTC, and nothing is known to be wrong",
                    until.format("%H:%M")
                )
            }
            Self::StillInAlarm(names) => write!(
                f,
                "{} has been in ALARM since before this was rolled out; it counts as good once all is OK",
                names.join(", ")
            ),
            Self::Live => f.write_str("it is live, and its bake time (tidegate:bake) is over"),
        }
    }
}

/// Why a bad deployment is not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// There is no release that is known to be good.
    NothingGood(Vec<Passed>),
    /// Too many were taken back in a short time.
    Budget,
    /// The good release could not be brought back; this is the record of the attempt.
    RecoveryFailed(String),
}

const UNTIL: &str = "so nothing more is deployed until somebody has looked and releases the service";

impl Hold {
    /// Whether nothing more may be deployed before a person has looked. A newer image is welcome where only this one is
    /// bad.
    #[must_use]
    pub fn stops_deployments(&self) -> bool {
        matches!(self, Self::Budget | Self::RecoveryFailed(_))
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingGood(passed) if passed.is_empty() => f.write_str(
                "there is no earlier release that is proven good, so the service is left as it is; push a new image",
            ),
            Self::NothingGood(passed) => {
                let passed: Vec<String> = passed.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "no earlier release can be brought back ({}), so the service is left as it is; push a new image",
                    passed.join("; ")
                )
            }
            Self::Budget => write!(f, "{BUDGET} deployments were taken back within an hour, {UNTIL}"),
            Self::RecoveryFailed(record) => {
                write!(f, "the good release could not be brought back (record {record}), {UNTIL}")
            }
        }
    }
}
