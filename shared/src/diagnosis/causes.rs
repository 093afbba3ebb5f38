//! From ECS's words about a task to a cause in words for people.
//!
//! The words are those of the
//! [error messages](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html) of
//! stopped tasks, and of the pages that list leads to. They change between agents and platform versions, so they are
//! looked for in parts, in any case, and what is not known is told as ECS says it.

use super::tasks::{StoppedContainer, StoppedTask};

/// What kind of cause it is. The order is that of telling: what says most about the release comes first.
///
/// 1. A program that ran and ended by itself, or for want of memory: the fault is in the image or in its configuration,
///    the container is known, and its log says more.
/// 2. A program that ran, but not well: the same, only less certain. It may have been slow, or the check wrong.
/// 3. What kept tasks from starting: in the order in which a task needs it. No line of the release has run.
/// 4. Alarms say that something is wrong, not what.
/// 5. What is not the release's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    OutOfMemory,
    Exit,
    ContainerHealth,
    TargetHealth,
    Pull,
    Start,
    Access,
    Log,
    Volume,
    Network,
    Placement,
    Alarm,
    Unexplained,
    Outside,
    Repeated,
}

/// A cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) kind: Kind,
    /// What happened.
    pub(super) what: String,
    /// Why, where that is known.
    pub(super) why: Option<&'static str>,
    /// ECS's words, if they say more.
    pub(super) words: String,
}

impl Cause {
    pub(super) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, words: String::new() }
    }

    pub(super) fn because(self, why: Option<&'static str>) -> Self {
        Self { why, ..self }
    }

    pub(super) fn in_words(self, words: impl Into<String>) -> Self {
        Self { words: words.into(), ..self }
    }
}

/// Why a task has stopped. `None` where that is ordinary: the scheduler stops tasks in every deployment.
pub(super) fn of_task(task: &StoppedTask) -> Option<Cause> {
    if !task.is_ending() {
        return None;
    }
    let reason = task.stopped_reason.to_lowercase();
    let known = out_of_memory(task).or_else(|| outside(task, &reason));
    if known.is_some() || reason.contains("scaling activity initiated by") {
        return known;
    }
    let known = not_started(task).or_else(|| unhealthy(task, &reason));
    // The scheduler stops tasks with SIGTERM and SIGKILL: their exit codes are its doing.
    if known.is_some() || task.stop_code == "ServiceSchedulerInitiated" {
        return known;
    }
    exited(task).or_else(|| {
        let cause = Cause::new(Kind::Unexplained, "the task stopped").in_words(&task.stopped_reason);
        (!task.stopped_reason.is_empty()).then_some(cause)
    })
}

/// Only ECS's words say so. Exit code 137 does not: a program that ignores SIGTERM ends with it too.
fn out_of_memory(task: &StoppedTask) -> Option<Cause> {
    let is_out = |text: &str| text.contains("OutOfMemoryError");
    let containers = task.containers.iter().filter(|container| is_out(&container.reason));
    match named(containers) {
        Some(containers) => Some(Cause::new(Kind::OutOfMemory, format!("{containers} ran out of memory"))),
        None => is_out(&task.stopped_reason).then(|| Cause::new(Kind::OutOfMemory, "the task ran out of memory")),
    }
}

fn outside(task: &StoppedTask, reason: &str) -> Option<Cause> {
    let has = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
    let what = match task.stop_code.as_str() {
        "SpotInterruption" => "Spot capacity was taken back",
        "TerminationNotice" => "the instance went away",
        _ if has(&["spot task was interrupted"]) => "Spot capacity was taken back",
        "InfrastructureHealth" => "AWS replaced failing infrastructure",
        _ if has(&["performing maintenance on the underlying"]) => "AWS did maintenance on the infrastructure",
        _ if has(&["draining", "host ec2"]) => "the instance went away",
        "UserInitiated" => "somebody stopped the task",
        _ => return None,
    };
    Some(Cause::new(Kind::Outside, what).because(Some("not the release's doing")))
}

fn not_started(task: &StoppedTask) -> Option<Cause> {
    let of_container = task.containers.iter().find_map(|container| of_words(&container.reason, Some(&container.name)));
    of_container.or_else(|| of_words(&task.stopped_reason, container_meant(task).map(|one| one.name.as_str())))
}

/// The container whose image ECS names, or the only one.
fn container_meant(task: &StoppedTask) -> Option<&StoppedContainer> {
    match task.containers.as_slice() {
        [only] => Some(only),
        all => all.iter().find(|one| !one.image.is_empty() && task.stopped_reason.contains(&one.image)),
    }
}

/// What kept a task from starting, in ECS's words. `None` where they say nothing of that.
pub(super) fn of_words(words: &str, container: Option<&str>) -> Option<Cause> {
    let lower = words.to_lowercase();
    // What can't be fetched is told behind this phrase, which names everything that could be meant.
    let lower = lower.replace("unable to pull secrets or registry auth", "");
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let container = container.map_or_else(|| "a container".to_owned(), |name| format!("container {name}"));
    let is_initialization = has(&["resourceinitializationerror"]);
    let (kind, what) = if has(&["cannotpullcontainer"]) {
        (Kind::Pull, format!("the image of {container} could not be pulled"))
    } else if has(&["logging driver", "logger args", "log driver"]) {
        (Kind::Log, "the log driver could not be started".to_owned())
    } else if has(&["unable to assume the role", "trust relationship", "iam permissions policies"]) {
        (Kind::Access, "ECS could not use a role of the task".to_owned())
    } else if has(&["registry auth", "ecr registry", "amazon ecr"]) {
        (Kind::Pull, "ECS could not log in to the registry".to_owned())
    } else if has(&["network interface", "configure eni", "unused device index", "eni attachment"]) {
        (Kind::Network, "the task got no network interface".to_owned())
    } else if has(&["volume", "ephemeralstorage", "efs utils", "failed to mount", "mount.nfs", "mounting"])
        && !has(&["cannotstartcontainer"])
    {
        (Kind::Volume, "a volume could not be attached".to_owned())
    } else if is_initialization && has(&["secret", "ssm", "asm", "parameter", "environment file", "env file"]) {
        (Kind::Access, "secrets or parameters could not be fetched".to_owned())
    } else if is_initialization {
        (Kind::Start, "the task could not be prepared".to_owned())
    } else if has(&[
        "cannotstartcontainer",
        "cannotcreatecontainer",
        "containerruntime",
        "dockertimeout",
        "cannotinspectcontainer",
    ]) {
        (Kind::Start, format!("{container} could not be started"))
    } else if has(&[
        "capacity is unavailable",
        "empty capacity provider",
        "no container instance",
        "you've reached the limit",
        "you’ve reached the limit",
        "above your limit",
        "provisioning capacity limit",
        "resource:cpu",
        "resource:memory",
        "resource:eni",
        "resource:ports",
        "resource:fargate",
        "not compatible with",
    ]) {
        (Kind::Placement, "no place was found for a task".to_owned())
    } else {
        return None;
    };
    // What is prepared on the host may time out too, with no connection involved.
    let is_remote = matches!(kind, Kind::Pull | Kind::Access | Kind::Log | Kind::Volume);
    let why = why(&lower).filter(|why| is_remote || *why != NO_CONNECTION);
    Some(Cause::new(kind, what).because(why).in_words(words))
}

const NO_CONNECTION: &str = "no connection: see route, NAT gateway or VPC endpoints, security groups and DNS";

/// Usual reasons, whatever it is that failed. More special ones stand before those that others' words hold too.
const REASONS: &[(&[&str], &str)] = &[
    (
        &["descriptor matching platform", "no matching manifest", "exec format error"],
        "it is not built for the platform of the tasks",
    ),
    (&["toomanyrequests", "too many requests", "pull rate limit"], "the registry's rate limit is reached"),
    (&["no space left"], "no disk space is left"),
    (&["insufficientfreeaddresses", "insufficient free addresses"], "the subnet has no free addresses"),
    (&["tagpolicyviolation"], "a tag policy forbids it"),
    (
        &[
            "timeout",
            "timed out",
            "connection issue",
            "request canceled",
            "deadline exceeded",
            "context canceled",
            "no route to host",
            "connection refused",
            "no such host",
            "network configuration",
            "signal: killed",
            "invalid memory address",
        ],
        NO_CONNECTION,
    ),
    (&["executable file not found"], "its command is not in the image"),
    (&["pull access denied", "role has the permissions"], "not found, or the role may not pull it"),
    (
        &[
            "accessdenied",
            "access denied",
            "not authorized",
            "unauthorized",
            "forbidden",
            "no basic auth credentials",
            "permission",
            "unable to assume",
            "trust relationship",
            "authorization failed",
        ],
        "a permission is missing",
    ),
    (
        &[
            "not found",
            "notfound",
            "manifest unknown",
            "does not exist",
            "can't find",
            "cannot find",
            "no such file",
            "invalid ssm parameters",
            "did not contain json key",
        ],
        "not found",
    ),
    (&["is required", "invalid"], "wrong configuration"),
];

fn why(lower: &str) -> Option<&'static str> {
    REASONS.iter().find(|(parts, _)| parts.iter().any(|part| lower.contains(part))).map(|(_, why)| *why)
}

fn unhealthy(task: &StoppedTask, reason: &str) -> Option<Cause> {
    if reason.contains("container health check") {
        let unhealthy = task.containers.iter().filter(|container| container.health_status == "UNHEALTHY");
        let what =
            named(unhealthy).map_or_else(container_unhealthy, |names| format!("{names} failed its health check"));
        return Some(Cause::new(Kind::ContainerHealth, what));
    }
    let words = if reason.contains("elb health check") { "" } else { task.stopped_reason.as_str() };
    let cause = || Cause::new(Kind::TargetHealth, targets_unhealthy(&task.stopped_reason)).in_words(words);
    reason.contains("health check").then(cause)
}

/// What is told where no container is known.
pub(super) fn container_unhealthy() -> String {
    "a container failed its health check".to_owned()
}

/// What is told of the health of targets; the same for tasks and events, so that they are told as one.
pub(super) fn targets_unhealthy(words: &str) -> String {
    let group = words.split_once("targetgroup/").and_then(|(_, rest)| rest.split(['/', ')', ' ']).next());
    match group.filter(|group| !group.is_empty()) {
        Some(group) => format!("the load balancer's health checks failed in target group {group}"),
        None => "the load balancer's health checks failed".to_owned(),
    }
}

fn exited(task: &StoppedTask) -> Option<Cause> {
    let culprits: Vec<(&str, i64)> =
        task.culprits().into_iter().filter_map(|one| Some((one.name.as_str(), one.exit_code?))).collect();
    let (first, rest) = culprits.split_first()?;
    let also: String = rest.iter().map(|(name, code)| format!(", {name} with code {code}")).collect();
    let cause = Cause::new(Kind::Exit, format!("container {} exited with code {}{also}", first.0, first.1));
    Some(cause.because(meaning_of(first.1).filter(|_| rest.is_empty())))
}

/// What an exit code says: those of [shells](https://tldp.org/LDP/abs/html/exitcodes.html), and 128 more than the
/// number of the signal that ended a program.
fn meaning_of(exit_code: i64) -> Option<&'static str> {
    Some(match exit_code {
        0 => "it ended by itself, and a service must not",
        126 => "its command can't be executed",
        127 => "its command was not found",
        132 => "illegal instruction (SIGILL)",
        134 => "it gave up (SIGABRT)",
        135 => "bus error (SIGBUS)",
        137 => "it was killed (SIGKILL), and ECS does not say that memory was short",
        139 => "it read or wrote where it must not (SIGSEGV)",
        143 => "it was told to end (SIGTERM)",
        _ => return None,
    })
}

fn named<'a>(containers: impl Iterator<Item = &'a StoppedContainer>) -> Option<String> {
    let names: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("container {}", names.join(" and ")))
}
