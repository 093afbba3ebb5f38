//! What tells that a deployment has turned bad after it was live: tasks that failed.
//!
//! A failed health check of a load balancer looks like an ordinary scale-in but for ECS's words, so the words decide
//! (see [`causes`](crate::diagnosis)); what the scheduler, a person, Spot or the instance has ended does not count.

use chrono::{DateTime, Utc};

use crate::diagnosis::{StoppedTask, failure_of};

/// How many tasks that have failed are too many for a service of this size: half of them, but three at least and two
/// hundred at most, as ECS's own
/// [circuit breaker](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html) counts.
pub(super) fn too_many(desired_count: i64) -> usize {
    usize::try_from(desired_count).unwrap_or(0).div_ceil(2).clamp(3, 200)
}

/// How many tasks of the deployment `id` have failed in this time by their own fault, and what most of them died of.
/// `None` where none has.
#[must_use]
pub(super) fn failed_tasks(
    tasks: &[StoppedTask],
    id: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Option<(usize, String)> {
    let ours = tasks.iter().filter(|task| task.is_of(id) && task.last_status == "STOPPED");
    let in_time = ours.filter(|task| task.stopped_at.is_some_and(|at| from < at && at <= until));
    let causes: Vec<String> = in_time.filter_map(failure_of).collect();
    let most = causes.iter().max_by_key(|cause| causes.iter().filter(|other| other == cause).count())?;
    Some((causes.len(), most.clone()))
}
