//! What became of a deployment: judged by its identity, from ECS's own state and events about that very deployment.
//!
//! Stable is not success, and `SERVICE_DEPLOYMENT_COMPLETED` is not *our* success: after a rollback by the circuit
//! breaker ECS completes the old deployment again, under the old id. See the
//! [deployment circuit breaker](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html).

use crate::ecs::{CLOCK_DIFFERENCE, Service};
use crate::events::{Change, DeploymentChange};
use crate::record::{Record, State};

/// What a record becomes after `change`, with the reason; `None` while it is still rolling, or is none of this event's
/// business. `service` is ECS's present view, `None` where the service is gone. ECS shows a deleted service for a while,
/// as DRAINING and then INACTIVE.
#[must_use]
pub fn judge(record: &Record, service: Option<&Service>, change: &DeploymentChange) -> Option<(State, String)> {
    let id = record.ecs_deployment_id.as_deref().filter(|_| record.state == State::Rolling)?;
    if change.deployment_id == id {
        match change.change {
            Change::Completed => return Some((State::Succeeded, "the rollout completed".into())),
            Change::Failed => return Some((State::Failed, or(&change.reason, "ECS reports the deployment as failed"))),
            Change::InProgress | Change::Other(_) => {}
        }
    }
    let Some(service) = service.filter(|service| service.status == "ACTIVE") else {
        return Some((State::Failed, "the service was deleted before the rollout completed".into()));
    };
    let primary = service.primary()?;
    if let Some(ours) = service.deployment(id) {
        return match ours.rollout_state.as_str() {
            "COMPLETED" => Some((State::Succeeded, "the rollout completed".into())),
            "FAILED" => Some((State::Failed, or(&ours.rollout_state_reason, "ECS reports the deployment as failed"))),
            _ if ours.status == "PRIMARY" => None,
            _ => Some(displaced_by(&primary.id, primary.created_at >= ours.created_at)),
        };
    }
    let started = record.started_at?;
    Some(displaced_by(&primary.id, primary.created()? > started - CLOCK_DIFFERENCE))
}

/// Another deployment is PRIMARY. A newer one took our place, or one of the same moment, for what ECS goes back to is
/// older; an older one means that ECS went back to it.
fn displaced_by(primary: &str, primary_is_newer: bool) -> (State, String) {
    if primary_is_newer {
        (State::Superseded, format!("the newer deployment {primary} took its place"))
    } else {
        (State::Failed, format!("ECS went back to the earlier deployment {primary}"))
    }
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::tests::service_with;
    use crate::record::tests::record;
    use serde_json::{Value, json};

    const OURS: &str = "ecs-svc/8251469930473958214";
    const OTHER: &str = "ecs-svc/1111111111111111111";
    /// `started_at` of the test record: 2026-11-16T09:54:37Z.
    const STARTED: f64 = 1_794_822_877.0;

    fn event(change: Change, deployment_id: &str) -> DeploymentChange {
        DeploymentChange {
            service: record(State::Rolling).service_ref(),
            change,
            deployment_id: deployment_id.into(),
            reason: "ECS deployment circuit breaker: tasks failed to start.".into(),
            updated_at: None,
        }
    }

    fn deployment(id: &str, status: &str, rollout: &str, created_at: f64) -> Value {
        json!({"id": id, "status": status, "rolloutState": rollout, "createdAt": created_at})
    }

    fn judged(change: &DeploymentChange, deployments: &[Value]) -> Option<State> {
        let service = service_with(json!({"status": "ACTIVE", "deployments": deployments}));
        judge(&record(State::Rolling), Some(&service), change).map(|(state, _)| state)
    }

    #[test]
    fn completed_is_success_only_for_our_own_deployment() {
        let rolling = [
            deployment(OURS, "PRIMARY", "IN_PROGRESS", STARTED),
            deployment(OTHER, "ACTIVE", "COMPLETED", STARTED - 3600.0),
        ];
        assert_eq!(judged(&event(Change::Completed, OURS), &rolling), Some(State::Succeeded));
        assert_eq!(judged(&event(Change::Completed, OTHER), &rolling), None);
    }

    #[test]
    fn a_rollback_by_ecs_is_a_failure_in_whatever_order_its_events_come() {
        let rolling_back = [
            deployment(OTHER, "PRIMARY", "IN_PROGRESS", STARTED - 3600.0),
            deployment(OURS, "ACTIVE", "FAILED", STARTED),
        ];
        let rolled_back = [deployment(OTHER, "PRIMARY", "COMPLETED", STARTED - 3600.0)];
        for (change, id) in [(Change::InProgress, OTHER), (Change::Failed, OURS), (Change::Completed, OTHER)] {
            for deployments in [&rolling_back[..], &rolled_back[..]] {
                assert_eq!(judged(&event(change.clone(), id), deployments), Some(State::Failed), "{change:?} {id}");
            }
        }
    }

    #[test]
    fn a_newer_deployment_supersedes() {
        let newer = deployment(OTHER, "PRIMARY", "IN_PROGRESS", STARTED + 60.0);
        let draining = [newer.clone(), deployment(OURS, "ACTIVE", "IN_PROGRESS", STARTED)];
        let started = event(Change::InProgress, OTHER);
        assert_eq!(judged(&started, &draining), Some(State::Superseded));
        assert_eq!(judged(&started, &[newer]), Some(State::Superseded));
    }

    #[test]
    fn two_deployments_of_one_moment_are_no_rollback() {
        let other = deployment(OTHER, "PRIMARY", "IN_PROGRESS", STARTED);
        let both = [other, deployment(OURS, "ACTIVE", "IN_PROGRESS", STARTED)];
        assert_eq!(judged(&event(Change::InProgress, OTHER), &both), Some(State::Superseded));
    }

    #[test]
    fn a_lost_completed_is_found_by_the_next_event_of_the_service() {
        let live = [deployment(OURS, "PRIMARY", "COMPLETED", STARTED)];
        assert_eq!(judged(&event(Change::InProgress, OURS), &live), Some(State::Succeeded));
    }

    #[test]
    fn one_that_completed_before_it_was_replaced_has_succeeded() {
        let replaced = [
            deployment(OTHER, "PRIMARY", "IN_PROGRESS", STARTED + 600.0),
            deployment(OURS, "ACTIVE", "COMPLETED", STARTED),
        ];
        assert_eq!(judged(&event(Change::InProgress, OTHER), &replaced), Some(State::Succeeded));
    }

    #[test]
    fn a_deleted_service_ends_the_record() {
        let draining = service_with(json!({"status": "DRAINING", "deployments": []}));
        for service in [None, Some(&draining)] {
            let change = event(Change::InProgress, OURS);
            let (state, reason) = judge(&record(State::Rolling), service, &change).unwrap();
            assert_eq!(state, State::Failed);
            assert!(reason.contains("deleted"));
        }
    }

    #[test]
    fn a_record_that_is_not_rolling_is_left_alone() {
        let service = service_with(json!({"deployments": [deployment(OURS, "PRIMARY", "COMPLETED", STARTED)]}));
        for state in [State::Intended, State::Succeeded, State::Failed, State::RolledBack, State::Superseded] {
            assert_eq!(judge(&record(state), Some(&service), &event(Change::Completed, OURS)), None, "{state:?}");
        }
    }
}
