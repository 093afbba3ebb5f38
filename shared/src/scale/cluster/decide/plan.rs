//! What a look at a cluster ends with: steps, reasons, and what is told to people.

use std::fmt;

use super::memory::State;
use super::seen::Leaving;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Let these instances take tasks again (container instance ARNs).
    Undrain(Vec<String>),
    /// Let these instances take no more tasks (container instance ARNs).
    Drain(Vec<String>),
    /// Give the group this desired capacity.
    SetDesired(u32),
    /// Terminate this instance (EC2's id), and lower the desired capacity with it.
    Terminate(String),
    /// Let the group go on with this termination.
    Complete(Leaving),
    /// Ask the group to wait on.
    Heartbeat(Leaving),
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// Why, for people.
    pub reason: String,
    /// What people should know, and may have to do something about. The same ones come with each look for as long as
    /// they hold: who tells them remembers their [`Notice::key`].
    pub notices: Vec<Notice>,
    /// What to remember.
    pub state: State,
    /// How many instances the group should have, before its bounds. Those that drain are among them until they are gone.
    pub wanted: u32,
    /// Whether to look again before the next minute.
    pub is_restless: bool,
}

/// What people should know of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// The tasks need more instances than the group may have.
    AtMaximum {
        /// How many they need.
        wanted: u32,
        /// How many there may be (`MaxSize`).
        max: u32,
        /// Tasks that wait for a place.
        unplaced: u32,
    },
    /// Tasks of this service are larger than any instance of the group.
    CannotFit {
        /// The service.
        service: String,
        /// How many of them wait.
        tasks: u32,
    },
    /// ECS does not place tasks of this service, though a new or empty instance would hold them.
    InVain {
        /// The service.
        service: String,
        /// How many of them wait.
        tasks: u32,
    },
    /// These instances of the group have not come into the cluster in time (EC2's ids).
    SlowBoot(Vec<String>),
    /// ECS has not reached the agents of these instances for a while (EC2's ids).
    Lost(Vec<String>),
    /// The group has fewer instances than it is to have, for a while.
    NotLaunched {
        /// How many are missing.
        missing: u32,
        /// Whether somebody has suspended the group's `Launch`.
        is_suspended: bool,
    },
    /// This instance was to go, and did not become empty in time: it takes tasks again (EC2's id).
    GaveUp(String),
    /// These instances are DRAINING and empty since long, and it was not us, or we do not know it any more (EC2's ids).
    LeftDraining(Vec<String>),
    /// CloudWatch has no fresh minutes of the cluster: it does not scale in, and not out on CPU or memory.
    Blind,
}

impl Notice {
    /// What tells a notice from others: its kind, and the service or the instance it is about. Not its numbers.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::AtMaximum { .. } => "at-maximum".into(),
            Self::CannotFit { service, .. } => format!("cannot-fit:{service}"),
            Self::InVain { service, .. } => format!("in-vain:{service}"),
            Self::SlowBoot(_) => "slow-boot".into(),
            Self::Lost(_) => "lost".into(),
            Self::NotLaunched { .. } => "not-launched".into(),
            Self::GaveUp(instance) => format!("gave-up:{instance}"),
            Self::LeftDraining(_) => "left-draining".into(),
            Self::Blind => "blind".into(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMaximum { wanted, max, unplaced } => write!(
                f,
                "the tasks need {wanted} instances, the group's maximum is {max}, and {} for a place",
                waiting(*unplaced)
            ),
            Self::CannotFit { service, tasks } => write!(
                f,
                "{} for a place, and each is larger than any instance of the group",
                waiting_of(service, *tasks)
            ),
            Self::InVain { service, tasks } => write!(
                f,
                "{} for a place though a new or empty instance would hold them: a placement constraint, or a limit \
                 that instances do not report, keeps them out, and more instances do not help",
                waiting_of(service, *tasks)
            ),
            Self::SlowBoot(instances) => write!(
                f,
                "{} not come into the cluster within 15 minutes: look at the launch template and its user data",
                have(instances)
            ),
            Self::Lost(instances) => {
                write!(f, "ECS does not reach the agent of {}", instances.join(", "))
            }
            Self::NotLaunched { missing, is_suspended: true } => {
                write!(f, "{} missing: the group's Launch is suspended", instances(*missing))
            }
            Self::NotLaunched { missing, is_suspended: false } => write!(
                f,
                "{} missing for more than 15 minutes: see the group's activity for why it launches none",
                instances(*missing)
            ),
            Self::GaveUp(instance) => write!(
                f,
                "{instance} was to go, and its tasks did not move within 15 minutes: it takes tasks again, and is left \
                 alone for 30 minutes"
            ),
            Self::LeftDraining(instances) => write!(
                f,
                "{} DRAINING and empty for more than 30 minutes: nobody here knows why, so nobody here ends it",
                are(instances)
            ),
            Self::Blind => f.write_str(
                "CloudWatch has no fresh CPU and memory of the cluster: it does not scale in, and out only for tasks that \
                 wait",
            ),
        }
    }
}

/// `1 instance`, `2 instances`.
pub(super) fn instances(count: u32) -> String {
    counted(count, "instance", "instances")
}

/// `1 task waits`, `2 tasks wait`.
pub(super) fn waiting(tasks: u32) -> String {
    counted(tasks, "task waits", "tasks wait")
}

/// `1 task of web waits`, `2 tasks of web wait`.
fn waiting_of(service: &str, tasks: u32) -> String {
    if tasks == 1 { format!("1 task of {service} waits") } else { format!("{tasks} tasks of {service} wait") }
}

fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn have(instances: &[String]) -> String {
    format!("{} {}", instances.join(", "), if instances.len() == 1 { "has" } else { "have" })
}

fn are(instances: &[String]) -> String {
    format!("{} {}", instances.join(", "), if instances.len() == 1 { "is" } else { "are" })
}
