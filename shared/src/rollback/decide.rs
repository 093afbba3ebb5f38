//! The decision whether a service goes back to a good release: what was seen goes in, a decision with its reason comes
//! out. No clients, no clock, no environment.
//!
//! It is about the deployment that is PRIMARY, and no other: whoever has deployed since is not undone. Where ECS goes
//! back by itself, ECS is left alone.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

mod words;

pub use self::words::{Fault, Hold, Leave};
use super::evidence::{failed_tasks, too_many};
use super::target::{Passed, candidates, is_meant};
use crate::diagnosis::StoppedTask;
use crate::ecs::{Deployment, Service};
use crate::events::RollbackAsked;
use crate::record::{History, Origin, Record, Remedy, State};
use crate::tags::ServiceTags;

/// How many deployments Tidegate takes back by itself on one service within [`BUDGET_WINDOW`]. Then it stops, for a
/// person to look.
pub const BUDGET: usize = 3;
/// See [`BUDGET`].
pub const BUDGET_WINDOW: TimeDelta = TimeDelta::hours(1);
/// How long ECS may take from the end of a rollout to its own rollback before it is not waited for any more.
const ECS_PATIENCE: TimeDelta = TimeDelta::minutes(5);

/// What was seen of one service.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The person's request, if it was one that made us look.
    pub asked: Option<&'a RollbackAsked>,
    /// The service, as ECS shows it now.
    pub service: &'a Service,
    /// What the table knows.
    pub history: &'a History,
    /// Alarms that are in ALARM, or were, and since when.
    pub alarms: &'a BTreeMap<String, DateTime<Utc>>,
    /// Tasks of the service that have stopped of late.
    pub tasks: &'a [StoppedTask],
    /// The time.
    pub now: DateTime<Utc>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Leave(Leave),
    /// Another handler is at work on the service: look again later.
    Wait,
    /// A good release was about to be brought back by a handler that died: this is its record.
    Resume(Box<Record>),
    /// Go back.
    Back(Box<Plan>),
    /// The deployment is bad, and there is no way back: leave the service as it is, and tell people.
    Hold {
        /// The record of the bad deployment.
        bad: Box<Record>,
        /// What is wrong with it.
        fault: Fault,
        /// Why nothing is done.
        why: Hold,
    },
}

/// What to take back, why, and what to bring back.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The record of the bad deployment.
    pub bad: Record,
    /// What is wrong with it.
    pub fault: Fault,
    /// Good releases, the best first. At least one.
    pub candidates: Vec<Record>,
    /// Newer releases that are not good enough, and why.
    pub passed: Vec<Passed>,
    /// Whether ECS can be told to go back: the rollout is going on, and what ECS would go back to is the first candidate.
    pub can_stop: bool,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Verdict {
    judge(seen).unwrap_or_else(Verdict::Leave)
}

fn judge(seen: &Observed<'_>) -> Result<Verdict, Leave> {
    let Observed { service, history, now, .. } = *seen;
    if service.status != "ACTIVE" {
        return Err(Leave::NotActive(service.status.clone()));
    }
    if service.controller != "ECS" {
        return Err(Leave::Controller(service.controller.clone()));
    }
    if history.is_leased(now) {
        return Ok(Verdict::Wait);
    }
    let left =
        history.current().filter(|current| current.state == State::Intended && current.origin == Origin::Rollback);
    if let Some(left) = left {
        return Ok(Verdict::Resume(Box::new(left.clone())));
    }
    let primary = service.primary().ok_or(Leave::NoPrimary)?;
    let running = history.of_deployment(&primary.id);
    refuse_another(seen, running, primary)?;
    if service.is_rolling_back() || is_about_to_go_back(seen, running, primary) {
        return Err(Leave::EcsGoesBack);
    }
    let bad = running.ok_or_else(|| Leave::Unknown(primary.id.clone()))?;
    if let Some(recovery) = failed_recovery(history, bad) {
        let fault = Fault::Failed(bad.recovery.as_ref().map_or(&bad.reason, |recovery| &recovery.why).clone());
        let why = Hold::RecoveryFailed(recovery.id.clone());
        return Ok(Verdict::Hold { bad: Box::new(bad.clone()), fault, why });
    }
    let fault = fault(seen, bad, primary)?;
    if bad.origin == Origin::External && fault.is_automatic() {
        return Err(Leave::ByOthers);
    }
    let hold = |why| Ok(Verdict::Hold { bad: Box::new(bad.clone()), fault: fault.clone(), why });
    if fault.is_automatic() && is_budget_spent(history, bad, now) {
        return hold(Hold::Budget);
    }
    let wanted = seen.asked.and_then(|asked| asked.to.as_deref());
    let (candidates, passed) = candidates(history, bad, wanted);
    let Some(first) = candidates.first() else {
        return match wanted {
            Some(wanted) => Err(Leave::NoSuchRelease(wanted.to_owned())),
            None => hold(Hold::NothingGood(passed)),
        };
    };
    let can_stop =
        service.current_service_deployment.is_some() && goes_back_to(service, primary) == first.revision_to.as_deref();
    Ok(Verdict::Back(Box::new(Plan { bad: bad.clone(), fault, candidates, passed, can_stop })))
}

/// A request names what it takes back, or means what ran when it was made. It is never about anything newer, and is acted
/// on once.
fn refuse_another(seen: &Observed<'_>, running: Option<&Record>, primary: &Deployment) -> Result<(), Leave> {
    let Some(asked) = seen.asked else { return Ok(()) };
    let records = &seen.history.records;
    let is_of_event = |record: &&Record| record.recovery.as_ref().is_some_and(|it| it.event_id == asked.event_id);
    if let Some(done) = records.iter().filter(|_| !asked.event_id.is_empty()).find(is_of_event) {
        return Err(Leave::DoneBefore(done.id.clone()));
    }
    // Somebody has asked before and after, or it was found meanwhile: there was one answer to both.
    let answered =
        running.filter(|_| asked.to.is_none()).and_then(|running| Some((running, running.recovery.as_ref()?)));
    if let Some((running, _)) = answered.filter(|(_, recovery)| asked.time.is_some_and(|time| time <= recovery.at)) {
        return Err(Leave::DoneBefore(running.id.clone()));
    }
    if let Some((running, to)) = running.zip(asked.to.as_deref()).filter(|(running, to)| is_meant(running, to)) {
        return Err(Leave::Runs { release: to.to_owned(), record: running.id.clone() });
    }
    let another = |asked: String| {
        let current = running.map_or_else(|| primary.id.clone(), |running| running.id.clone());
        Err(Leave::NotCurrent { asked, current })
    };
    match &asked.undoes {
        Some(undoes) if primary.id != *undoes && running.is_none_or(|running| running.id != *undoes) => {
            return another(undoes.clone());
        }
        Some(_) => return Ok(()),
        None => {}
    }
    if asked.to.is_none()
        && let Some(brought) = running.and_then(|running| brought_back(seen.history, running))
    {
        return Err(Leave::BroughtBack(brought.id.clone()));
    }
    let Some((time, created)) = asked.time.zip(primary.created()) else { return Ok(()) };
    // The time of an event has no fraction. Who names no release means what they saw go bad, and that has not begun in the
    // same second.
    let earliest = i64::from(asked.to.is_none());
    let is_newer = time.timestamp() < created.timestamp() + earliest;
    // ECS may have gone back to it since.
    let is_another = running.is_some_and(|running| ran_at(seen.history, running, time).is_some_and(|it| it != running));
    match is_newer || is_another {
        true => another(format!("what ran at {} UTC", time.format("%H:%M:%S"))),
        false => Ok(()),
    }
}

/// The deployment that was the newest at `time`, of all that had not ended; `running` is PRIMARY now.
fn ran_at<'a>(history: &'a History, running: &Record, time: DateTime<Utc>) -> Option<&'a Record> {
    let had_ended = |it: &Record| {
        let is_over = matches!(it.state, State::Failed | State::Superseded | State::RolledBack);
        is_over && it.finished_at.is_none_or(|at| at <= time)
    };
    let begun = |it: &&Record| it.started_at.is_some_and(|at| at.timestamp() <= time.timestamp());
    history.records.iter().filter(begun).find(|it| it.id == running.id || !had_ended(it))
}

/// The record that tells that `running` was brought back: its own, or that of the bad deployment which ECS was told to
/// stop.
fn brought_back<'a>(history: &'a History, running: &'a Record) -> Option<&'a Record> {
    let is_stopped_for_it = |record: &&Record| {
        let recovery = record.recovery.as_ref().filter(|recovery| recovery.remedy == Remedy::Stop);
        record.id > running.id && recovery.is_some_and(|recovery| recovery.to.as_ref() == Some(&running.id))
    };
    match running.origin == Origin::Rollback {
        true => Some(running),
        false => history.records.iter().find(is_stopped_for_it),
    }
}

/// Whether ECS has ended the rollout, and is left the time to go back by itself.
fn is_about_to_go_back(seen: &Observed<'_>, running: Option<&Record>, primary: &Deployment) -> bool {
    let has_way =
        seen.service.deployments.iter().any(|other| other.id != primary.id && other.rollout_state == "COMPLETED");
    let ended = running.and_then(|running| running.finished_at).unwrap_or(seen.now);
    let is_in_time = seen.now - ended < ECS_PATIENCE;
    primary.rollout_state == "FAILED" && seen.service.goes_back_by_itself() && has_way && is_in_time
}

/// The attempt to bring a good release back in the place of `bad`, where it has failed and `bad` runs still, or again.
fn failed_recovery<'a>(history: &'a History, bad: &Record) -> Option<&'a Record> {
    history.recovery_of(bad).filter(|attempt| attempt.state == State::Failed)
}

fn fault(seen: &Observed<'_>, bad: &Record, primary: &Deployment) -> Result<Fault, Leave> {
    if let Some(asked) = seen.asked {
        return Ok(Fault::Asked { actor: asked.actor.clone(), reason: asked.reason.clone() });
    }
    if let Some(recovery) = bad.recovery.as_ref().filter(|_| has_returned(seen.history, bad, primary)) {
        return Ok(Fault::Returned(recovery.why.clone()));
    }
    if let Some(recovery) = &bad.recovery {
        let is_told = bad.state == State::Failed;
        return match recovery.remedy {
            // It takes ECS a while to show that it goes back.
            Remedy::Stop if is_told && seen.now - recovery.at < ECS_PATIENCE => Err(Leave::EcsGoesBack),
            // ECS was about to be told, or has not heard it.
            Remedy::Stop => Ok(Fault::Failed(recovery.why.clone())),
            // That nothing was done about it doesn't let it roll for ever.
            Remedy::Hold if bad.state == State::Rolling => {
                overdue(bad, seen.now).ok_or(Leave::Settled(recovery.reason.clone()))
            }
            Remedy::Deploy | Remedy::Hold => Err(Leave::Settled(recovery.reason.clone())),
        };
    }
    match bad.state {
        State::Rolling => {
            // The event that tells so may be the one that made us look.
            if primary.rollout_state == "FAILED" {
                let reason = Some(primary.rollout_state_reason.clone()).filter(|reason| !reason.is_empty());
                return Ok(Fault::Failed(reason.unwrap_or_else(|| "ECS reports the deployment as failed".into())));
            }
            let has_breaker = seen.service.has_circuit_breaker();
            let tasks = || tasks(seen, &primary.id, bad.started_at?, seen.now).filter(|_| !has_breaker);
            alarms(seen, bad).or_else(tasks).or_else(|| overdue(bad, seen.now)).ok_or(Leave::Rolling)
        }
        State::Succeeded => match bad.bake_until {
            Some(until) if bad.baked_at.is_none() => alarms(seen, bad)
                .or_else(|| tasks(seen, &primary.id, bad.live_at?, until))
                .ok_or_else(|| match still_in_alarm(seen, bad) {
                    _ if seen.now <= until => Leave::Baking(until),
                    names if names.is_empty() => Leave::Live,
                    names => Leave::StillInAlarm(names),
                }),
            _ => Err(Leave::Live),
        },
        State::Failed if bad.undone_by.is_none() => Ok(Fault::Failed(bad.reason.clone())),
        _ => Err(Leave::Settled(bad.reason.clone())),
    }
}

/// Whether ECS has gone back to what was taken back: a newer deployment overtook the good release before it had completed,
/// and failed, so that `bad` is the last that had. Who has released its digest since wants it.
fn has_returned(history: &History, bad: &Record, primary: &Deployment) -> bool {
    let newer = |attempt: &Record| history.records.iter().any(|it| it.id > attempt.id && it.started_at.is_some());
    let is_overtaken = history.recovery_of(bad).is_some_and(|attempt| match attempt.state {
        // Nobody may have told yet that it was.
        State::Rolling => newer(attempt),
        state => state == State::Superseded,
    });
    is_overtaken && primary.rollout_state == "COMPLETED" && history.guard.quarantine.contains_key(&bad.digest)
}

/// The alarms of the service's tags that went off while it was rolled out or watched. ECS heeds its own by itself; what
/// was in ALARM before is not this deployment's doing.
fn alarms(seen: &Observed<'_>, bad: &Record) -> Option<Fault> {
    let until = bad.bake_until.unwrap_or(seen.now);
    let by_ecs = if bad.state == State::Rolling { seen.service.alarms_that_roll_back() } else { Vec::new() };
    let mut names = alarms_where(seen, bad, |started, since| started < since && since <= until);
    names.retain(|name| !by_ecs.contains(name));
    (!names.is_empty()).then_some(Fault::Alarms(names))
}

/// The alarms of the service's tags that were in ALARM when its rollout began, and are.
fn still_in_alarm(seen: &Observed<'_>, bad: &Record) -> Vec<String> {
    alarms_where(seen, bad, |started, since| since <= started)
}

fn alarms_where(
    seen: &Observed<'_>,
    bad: &Record,
    is_meant: impl Fn(DateTime<Utc>, DateTime<Utc>) -> bool,
) -> Vec<String> {
    // What was proven good is not doubted because tasks of the bad release still set off an alarm.
    let Some(started) = bad.started_at.filter(|_| bad.origin != Origin::Rollback) else { return Vec::new() };
    let mut names: Vec<String> = ServiceTags::read(&seen.service.tags).rollback_on.into_iter().collect();
    names.retain(|name| seen.alarms.get(name).is_some_and(|since| is_meant(started, *since)));
    names
}

/// The tasks of the deployment `id` that have failed in this time, where they are too many.
fn tasks(seen: &Observed<'_>, id: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<Fault> {
    let (failed, what) = failed_tasks(seen.tasks, id, from, until)?;
    let size = seen.service.primary().map_or(0, |primary| primary.desired_count);
    (failed >= too_many(size)).then_some(Fault::Tasks { failed, what })
}

/// What speaks against a release whose bake time was over while something newer took its place: from then on nobody has
/// judged it, though it ran.
pub(super) fn speaks_against(seen: &Observed<'_>, replaced: &Record) -> Option<Fault> {
    let (id, live, until) = (replaced.ecs_deployment_id.as_deref()?, replaced.live_at?, replaced.bake_until?);
    alarms(seen, replaced).or_else(|| tasks(seen, id, live, until))
}

/// Without a circuit breaker ECS tries for ever, and never says that a deployment has failed.
fn overdue(bad: &Record, now: DateTime<Utc>) -> Option<Fault> {
    let (started, deadline) = (bad.started_at?, bad.deadline_at?);
    (now > deadline).then(|| Fault::Overdue((deadline - started).num_minutes()))
}

fn is_budget_spent(history: &History, bad: &Record, now: DateTime<Utc>) -> bool {
    let others = history.records.iter().filter(|record| record.id != bad.id);
    let spent = others.filter_map(|record| record.recovery.as_ref()).filter(|recovery| {
        let is_automatic = recovery.actor.is_none() && recovery.event_id.is_empty();
        matches!(recovery.remedy, Remedy::Stop | Remedy::Deploy) && is_automatic && now - recovery.at < BUDGET_WINDOW
    });
    spent.count() >= BUDGET
}

/// The revision that ECS would go back to, if the rollout of `primary` is going on: that of the deployment that it
/// replaces and that has completed.
fn goes_back_to<'a>(service: &'a Service, primary: &Deployment) -> Option<&'a str> {
    if primary.rollout_state != "IN_PROGRESS" {
        return None;
    }
    let completed =
        service.deployments.iter().filter(|other| other.id != primary.id && other.rollout_state == "COMPLETED");
    completed.max_by(|a, b| a.created_at.total_cmp(&b.created_at)).map(|other| other.task_definition.as_str())
}

#[cfg(test)]
mod tests;
