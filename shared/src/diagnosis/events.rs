//! From ECS's words about a service to causes. See its
//! [event messages](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html).

use super::causes::{Cause, Kind, container_unhealthy, of_words, targets_unhealthy};
use super::tasks::StoppedTask;

/// What an event says about why this deployment failed. `None` where it says nothing, or is about another deployment,
/// as far as it tells: most events name none.
pub(super) fn of_event(message: &str, deployment_id: &str, tasks: &[StoppedTask]) -> Option<Cause> {
    let is_of_other = message.contains("ecs-svc/") && !message.contains(deployment_id);
    let task = between(message, "(task ", ")").and_then(|id| tasks.iter().find(|task| task.id() == id));
    if is_of_other || task.is_some_and(|task| !task.is_of(deployment_id)) {
        return None;
    }
    let lower = message.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if has(&["is unhealthy in", "is not healthy in"]) {
        return Some(Cause::new(Kind::TargetHealth, targets_unhealthy(message)).in_words(failed_check(message)));
    }
    if has(&["failed container health checks"]) {
        return Some(Cause::new(Kind::ContainerHealth, container_unhealthy()));
    }
    if has(&["is unable to consistently start tasks"]) {
        return Some(Cause::new(
            Kind::Repeated,
            "tasks fail to start again and again, and ECS waits ever longer between",
        ));
    }
    if has(&["operations are being throttled"]) {
        let cause = Cause::new(Kind::Outside, "ECS was throttled");
        return Some(cause.because(Some("not the release's doing")));
    }
    if has(&["unable to stop or start tasks during a deployment"]) {
        let what = "ECS could neither start nor stop a task";
        let why = "minimumHealthyPercent and maximumPercent leave no room";
        return Some(Cause::new(Kind::Placement, what).because(Some(why)));
    }
    let is_unplaced = has(&[
        "unable to place",
        "could not launch",
        "failed to launch",
        "unable to reach steady state",
        "waiting for amazon ecs agent",
        "have been misconfigured",
        "has been misconfigured",
    ]);
    let words = reason_in(message);
    is_unplaced.then(|| {
        let unplaced = || Cause::new(Kind::Placement, "no place was found for a task").in_words(words);
        of_words(words, None).unwrap_or_else(unplaced)
    })
}

/// Why a target is unhealthy, and on which port it was asked: `(port 8080) … due to (reason Health checks failed with
/// these codes: [502])`.
fn failed_check(message: &str) -> String {
    let reason = between(message, "(reason ", ")").or_else(|| between(message, "due to `", "`"));
    match (between(message, "(port ", ")"), reason) {
        (Some(port), Some(reason)) => format!("{reason}, port {port}"),
        (None, Some(reason)) => reason.to_owned(),
        _ => String::new(),
    }
}

/// The reason in `… because …`, `… Reason: …` or `… (error …)`, or all of it behind the name of the service.
fn reason_in(message: &str) -> &str {
    let of = |mark| message.split_once(mark).map(|(_, reason)| reason);
    let behind_name = || message.split_once(") ").map(|(_, rest)| rest);
    let reason = of("Reason: ").or_else(|| of(" because ")).or_else(|| of("(error ")).or_else(behind_name);
    reason.unwrap_or(message).trim_end_matches(['.', ')', ' '])
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found.trim())
}
