//! What became of a deployment: judged by its identity, from ECS's own state and events about that very deployment.
//!
//! Stable is not success, and `SERVICE_DEPLOYMENT_COMPLETED` is not *our* success: after a rollback by the circuit
//! breaker ECS completes the old deployment again, under the old id. See the
//! [deployment circuit breaker](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html).
//!
//! What ECS says of the service deployment comes first, then its view of the service, then the event: an event may be
//! older than what ECS shows, and where ECS's answer is the older one, the event says more.

use chrono::{DateTime, Utc};

use crate::ecs::{CLOCK_DIFFERENCE, Deployment, Service, ServiceDeployment};
use crate::events::{Change, DeploymentChange};
use crate::record::{Record, Recovery, Remedy, State, UndoneBy};

/// What was seen of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Its record.
    pub record: &'a Record,
    /// ECS's present view of the service; `None` where the service is gone. ECS shows a deleted service for a while, as
    /// DRAINING and then INACTIVE.
    pub service: Option<&'a Service>,
    /// ECS's account of the rollout, where it was asked for and has one.
    pub service_deployment: Option<&'a ServiceDeployment>,
    /// The event that made us look, if it was one.
    pub change: Option<&'a DeploymentChange>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What a rolling record becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its state.
    pub state: State,
    /// Why, for people.
    pub reason: String,
    /// When ECS ended the deployment, where it tells.
    pub at: Option<DateTime<Utc>>,
    /// Who took it back, where somebody did.
    pub undone_by: Option<UndoneBy>,
}

impl Outcome {
    fn new(state: State, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), at: None, undone_by: None }
    }

    /// `record` with this outcome; `None` where the state machine refuses.
    #[must_use]
    pub fn of(self, record: &Record, now: DateTime<Utc>) -> Option<Record> {
        // ECS's clock is not ours: nothing ends before it has begun, or after now.
        let at = self.at.map_or(now, |at| at.min(now).max(record.started_at.unwrap_or(at).min(now)));
        // What ECS takes back because we have told it to, it calls the request of somebody.
        let is_stopped = |recovery: &&Recovery| recovery.remedy == Remedy::Stop && self.state == State::Failed;
        let (reason, undone_by) = match record.recovery.as_ref().filter(is_stopped) {
            Some(recovery) => (recovery.why.clone(), Some(UndoneBy::Tidegate)),
            None => (self.reason, self.undone_by),
        };
        Some(Record { undone_by, ..record.advanced(self.state, reason, at)? })
    }
}

/// Whether the outcome can't be told without ECS's account of the rollout: something went wrong, or the service has
/// another strategy than a rolling update, by which the tasks are there before the deployment is done.
#[must_use]
pub fn needs_account(record: &Record, service: Option<&Service>) -> bool {
    let Some((id, service)) = rolling(record).zip(service) else { return false };
    let is_fine = service.deployment(id).is_some_and(|ours| ours.status == "PRIMARY" && ours.rollout_state != "FAILED");
    !is_fine || !service.is_rolling_update()
}

/// The outcome of the deployment; `None` while it is still rolling, or is none of this event's business.
#[must_use]
pub fn judge(seen: &Observed<'_>) -> Option<Outcome> {
    let id = rolling(seen.record)?;
    let account = seen.service_deployment.filter(|account| account.is_of(id));
    let service = seen.service.filter(|service| service.status == "ACTIVE");
    if let Some(outcome) = account.and_then(|account| by_account(seen, account, service)) {
        return Some(outcome);
    }
    let ours = service.and_then(|service| service.deployment(id));
    // By other strategies the tasks are there before the deployment is done.
    let is_done_when_shown = service.is_none_or(Service::is_rolling_update) || account.is_none();
    if is_done_when_shown {
        let shown = ours.and_then(by_rollout_state);
        let outcome = shown.or_else(|| by_event(seen.change.filter(|change| change.deployment_id == id)?));
        if let Some(outcome) = outcome {
            let is_displaced = |service| displaced(seen, id, service) == Some(false);
            let has_gone_back = outcome.state == State::Failed && service.is_some_and(is_displaced);
            return Some(Outcome { undone_by: has_gone_back.then_some(UndoneBy::Ecs), ..outcome });
        }
    }
    let Some(service) = service else {
        return Some(Outcome::new(State::Failed, "the service was deleted before the rollout completed"));
    };
    let by = displaced(seen, id, service).zip(service.primary());
    let by = by.filter(|_| !is_going_on(account) && !may_be_unseen(seen, ours, account));
    by.map(|(is_newer, primary)| displaced_by(&primary.id, is_newer))
}

fn is_going_on(account: Option<&ServiceDeployment>) -> bool {
    account.is_some_and(|account| matches!(account.status.as_str(), "PENDING" | "IN_PROGRESS"))
}

/// Whether the deployment may be too young for ECS's answer, which need not be its newest.
fn may_be_unseen(seen: &Observed<'_>, ours: Option<&Deployment>, account: Option<&ServiceDeployment>) -> bool {
    let is_young = seen.record.started_at.is_some_and(|started| seen.now - started < CLOCK_DIFFERENCE);
    ours.is_none() && account.is_none() && is_young
}

/// Whether another deployment is PRIMARY, and if so whether it is newer than this one.
fn displaced(seen: &Observed<'_>, id: &str, service: &Service) -> Option<bool> {
    let primary = service.primary().filter(|primary| primary.id != id)?;
    Some(match service.deployment(id) {
        Some(ours) => primary.created_at >= ours.created_at,
        None => primary.created()? > seen.record.started_at? - CLOCK_DIFFERENCE,
    })
}

fn rolling(record: &Record) -> Option<&str> {
    record.ecs_deployment_id.as_deref().filter(|_| record.state == State::Rolling)
}

/// What ECS's account says. See
/// [the states of a service deployment](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-deployment-states.html).
fn by_account(seen: &Observed<'_>, account: &ServiceDeployment, service: Option<&Service>) -> Option<Outcome> {
    let words = [account.rollback_reason().unwrap_or_default(), &account.status_reason];
    let words = words.into_iter().find(|words| !words.is_empty());
    let undone_by = if account.was_ended_by_ecs() { UndoneBy::Ecs } else { UndoneBy::Others };
    let gone_back = |end: &str| Outcome {
        undone_by: Some(undone_by),
        ..Outcome::new(State::Failed, format!("{}{end}", words.unwrap_or("the deployment was rolled back")))
    };
    let outcome = match account.status.as_str() {
        "SUCCESSFUL" => Outcome::new(State::Succeeded, COMPLETED),
        "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" | "ROLLBACK_SUCCESSFUL" => gone_back(""),
        "ROLLBACK_FAILED" => gone_back("; going back has failed too, look at the service"),
        "STOPPED" | "STOP_REQUESTED" => {
            let id = seen.record.ecs_deployment_id.as_deref()?;
            let primary = service.and_then(Service::primary);
            let is_newer = service.and_then(|service| displaced(seen, id, service));
            // It may have been stopped because of a newer deployment, which ECS's view of the service does not show yet.
            let is_settled = account.finished().is_some_and(|finished| seen.now - finished > CLOCK_DIFFERENCE);
            let ours = service.and_then(|service| service.deployment(id));
            let has_failed = ours.is_some_and(|ours| ours.rollout_state == "FAILED");
            match (primary, is_newer) {
                (Some(primary), Some(true)) => displaced_by(&primary.id, true),
                // That one may have failed since, and ECS gone back from it.
                _ if account.overtaken_by.is_some() => displaced_by(account.overtaken_by.as_deref()?, true),
                _ if account.was_ended_by_ecs() => Outcome::new(State::Failed, words.unwrap_or(FAILED)),
                (_, None) if !is_settled && !has_failed => return None,
                _ => Outcome {
                    undone_by: Some(UndoneBy::Others),
                    ..Outcome::new(State::Failed, words.unwrap_or("the deployment was stopped"))
                },
            }
        }
        _ => return None,
    };
    Some(Outcome { at: account.finished(), ..outcome })
}

fn by_rollout_state(ours: &Deployment) -> Option<Outcome> {
    match ours.rollout_state.as_str() {
        "COMPLETED" => Some(Outcome::new(State::Succeeded, COMPLETED)),
        "FAILED" => Some(Outcome::new(State::Failed, or(&ours.rollout_state_reason, FAILED))),
        _ => None,
    }
}

fn by_event(change: &DeploymentChange) -> Option<Outcome> {
    let outcome = match change.change {
        Change::Completed => Outcome::new(State::Succeeded, COMPLETED),
        Change::Failed => Outcome::new(State::Failed, or(&change.reason, FAILED)),
        Change::InProgress | Change::Other(_) => return None,
    };
    Some(Outcome { at: change.updated_at, ..outcome })
}

/// Another deployment is, or was, PRIMARY. A newer one took our place, or one of the same moment, for what ECS goes back to is
/// older; an older one means that ECS went back to it.
fn displaced_by(id: &str, is_newer: bool) -> Outcome {
    if is_newer {
        Outcome::new(State::Superseded, format!("the newer deployment {id} took its place"))
    } else {
        Outcome {
            undone_by: Some(UndoneBy::Ecs),
            ..Outcome::new(State::Failed, format!("ECS went back to the earlier deployment {id}"))
        }
    }
}

const COMPLETED: &str = "the rollout completed";
const FAILED: &str = "ECS reports the deployment as failed";

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::{service_deployment, service_with};
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

    fn seen<'a>(
        record: &'a Record,
        service: Option<&'a Service>,
        change: Option<&'a DeploymentChange>,
    ) -> Observed<'a> {
        let now = "2026-11-16T10:00:00Z".parse().unwrap();
        Observed { record, service, service_deployment: None, change, now }
    }

    fn judged(change: &DeploymentChange, deployments: &[Value]) -> Option<State> {
        let service = service_with(json!({"status": "ACTIVE", "deployments": deployments}));
        judge(&seen(&record(State::Rolling), Some(&service), Some(change))).map(|outcome| outcome.state)
    }

    /// What is judged of a rolling deployment by ECS's account, and by the deployments of the service.
    fn by_account(account: &Value, deployments: &[Value]) -> Option<Outcome> {
        let service = service_with(json!({"status": "ACTIVE", "deployments": deployments}));
        let account = service_deployment(account);
        let record = record(State::Rolling);
        judge(&Observed { service_deployment: Some(&account), ..seen(&record, Some(&service), None) })
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
            let outcome = judge(&seen(&record(State::Rolling), service, Some(&change))).unwrap();
            assert_eq!(outcome.state, State::Failed);
            assert!(outcome.reason.contains("deleted"));
        }
    }

    #[test]
    fn a_record_that_is_not_rolling_is_left_alone() {
        let service = service_with(json!({"deployments": [deployment(OURS, "PRIMARY", "COMPLETED", STARTED)]}));
        for state in [State::Intended, State::Succeeded, State::Failed, State::RolledBack, State::Superseded] {
            let change = event(Change::Completed, OURS);
            assert_eq!(judge(&seen(&record(state), Some(&service), Some(&change))), None, "{state:?}");
        }
    }

    #[test]
    fn what_ecs_shows_counts_more_than_an_event() {
        let failed = [deployment(OURS, "ACTIVE", "FAILED", STARTED), deployment(OTHER, "PRIMARY", "COMPLETED", 1.0)];
        assert_eq!(judged(&event(Change::Completed, OURS), &failed), Some(State::Failed));
        let stale = [deployment(OURS, "PRIMARY", "IN_PROGRESS", STARTED)];
        assert_eq!(judged(&event(Change::Completed, OURS), &stale), Some(State::Succeeded), "ECS's answer is older");
    }

    #[test]
    fn the_account_of_ecs_says_how_it_ended() {
        let rolling = [deployment(OURS, "PRIMARY", "IN_PROGRESS", STARTED)];
        let newer = [deployment(OTHER, "PRIMARY", "IN_PROGRESS", STARTED + 60.0)];
        let triggered = json!({"status": "TRIGGERED"});
        let by_breaker = json!({"status": "ROLLBACK_SUCCESSFUL", "deploymentCircuitBreaker": triggered,
            "rollback": {"reason": "Circuit breaker rolled back"}, "finishedAt": STARTED + 90.0});
        for (account, deployments, state, undone_by, reason) in [
            (json!({"status": "SUCCESSFUL"}), &rolling, State::Succeeded, None, "completed"),
            (by_breaker, &rolling, State::Failed, Some(UndoneBy::Ecs), "Circuit breaker rolled back"),
            (json!({"status": "ROLLBACK_FAILED"}), &rolling, State::Failed, Some(UndoneBy::Others), "has failed too"),
            (json!({"status": "ROLLBACK_IN_PROGRESS"}), &rolling, State::Failed, Some(UndoneBy::Others), "rolled back"),
            (json!({"status": "STOPPED"}), &newer, State::Superseded, None, OTHER),
            (
                json!({"status": "STOPPED", "statusReason": "Stopped by ana", "finishedAt": STARTED}),
                &rolling,
                State::Failed,
                Some(UndoneBy::Others),
                "by ana",
            ),
            (
                json!({"status": "STOPPED", "deploymentCircuitBreaker": {"status": "TRIGGERED"}}),
                &rolling,
                State::Failed,
                None,
                FAILED,
            ),
        ] {
            let outcome = by_account(&account, deployments).unwrap();
            assert_eq!((outcome.state, outcome.undone_by), (state, undone_by), "{account}");
            assert!(outcome.reason.contains(reason), "{}", outcome.reason);
        }
        assert_eq!(by_account(&json!({"status": "IN_PROGRESS"}), &rolling), None);
        let just_now = json!({"status": "STOPPED", "finishedAt": STARTED + 320.0});
        assert_eq!(by_account(&just_now, &rolling), None, "a newer deployment may have stopped it");
        assert_eq!(by_account(&json!({"status": "STATUS_OF_TOMORROW"}), &rolling), None);
    }

    #[test]
    fn an_answer_of_ecs_that_is_older_than_the_deployment_ends_nothing() {
        let before = service_with(json!({
            "status": "ACTIVE", "deployments": [deployment(OTHER, "PRIMARY", "COMPLETED", STARTED - 3600.0)],
        }));
        let record = record(State::Rolling);
        let going_on = service_deployment(&json!({"status": "IN_PROGRESS"}));
        let with_account = Observed { service_deployment: Some(&going_on), ..seen(&record, Some(&before), None) };
        assert_eq!(judge(&with_account), None);
        let at = |seconds: i64| Observed {
            now: record.started_at.unwrap() + chrono::TimeDelta::seconds(seconds),
            ..seen(&record, Some(&before), None)
        };
        assert_eq!(judge(&at(5)), None);
        assert_eq!(judge(&at(60)).unwrap().undone_by, Some(UndoneBy::Ecs));
    }

    #[test]
    fn an_account_of_another_deployment_is_not_used() {
        let other = json!({"status": "SUCCESSFUL", "targetServiceRevision": {"arn": "service-revision/p/web/1"}});
        assert_eq!(by_account(&other, &[deployment(OURS, "PRIMARY", "IN_PROGRESS", STARTED)]), None);
    }

    #[test]
    fn blue_and_green_are_done_when_the_account_says_so() {
        let shown = deployment(OURS, "PRIMARY", "COMPLETED", STARTED);
        let service = service_with(json!({
            "status": "ACTIVE", "deployments": [shown], "deploymentConfiguration": {"strategy": "BLUE_GREEN"},
        }));
        let record = record(State::Rolling);
        assert!(needs_account(&record, Some(&service)));
        let change = event(Change::Completed, OURS);
        for (status, expected) in [("IN_PROGRESS", None), ("SUCCESSFUL", Some(State::Succeeded))] {
            let account = service_deployment(&json!({"status": status}));
            let seen = Observed { service_deployment: Some(&account), ..seen(&record, Some(&service), Some(&change)) };
            assert_eq!(judge(&seen).map(|outcome| outcome.state), expected, "{status}");
        }
    }

    #[test]
    fn an_outcome_has_the_time_of_ecs_within_reason() {
        let record = record(State::Rolling);
        let now = "2026-11-16T10:00:00Z".parse().unwrap();
        let ended = |at: &str| {
            let outcome = Outcome { at: Some(at.parse().unwrap()), ..Outcome::new(State::Succeeded, "") };
            outcome.of(&record, now).unwrap().finished_at.unwrap()
        };
        assert_eq!(ended("2026-11-16T09:58:00Z"), "2026-11-16T09:58:00Z".parse::<DateTime<Utc>>().unwrap());
        assert_eq!(ended("2026-11-16T10:58:00Z"), now);
        assert_eq!(ended("2026-11-16T08:58:00Z"), record.started_at.unwrap());
    }
}
