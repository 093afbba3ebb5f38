//! Rollback: a deployment that turns bad is taken back, and the last release that is proven good is brought back.
//!
//! An event (a failed deployment, a failed task, an alarm, a person's request), or the sweep, only says which service to
//! look at. [`Rollbacker`] reads what ECS and the table say, lets [`decide`](decide::decide) judge, and acts: at most
//! four dependent calls from the event to `UpdateService`.
//!
//! The bad digest goes into quarantine in the same write, so that no event can bring it back.

mod act;
mod bring_back;
pub mod decide;
mod evidence;
mod fitness;
mod records;
mod stop;
mod sweep;
pub mod target;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all, join3};
use serde_json::Value;

use self::decide::{Leave, Observed, Verdict, decide};
use self::target::is_meant;
use crate::alarms::Alarms;
use crate::decision::{Action, Decision, Handled};
use crate::diagnosis::StoppedTask;
use crate::ecr::Ecr;
use crate::ecs::{Ecs, Service};
use crate::error::Error;
use crate::events::{self, Change, Event, RollbackAsked, ServiceRef};
use crate::followers::Followers;
use crate::platform::Platform;
use crate::record::store::Store;
use crate::record::{History, Record, State};
use crate::tags::ServiceTags;

/// A history with fewer records than this holds all there are.
const RECORDS_MANY: usize = 20;
/// How many releases of long ago are looked at.
const RELEASES_MAX: i32 = 50;

/// The rollback function.
#[derive(Debug, Clone)]
pub struct Rollbacker {
    /// ECS.
    pub ecs: Ecs,
    /// ECR.
    pub ecr: Ecr,
    /// The tagging API.
    pub followers: Followers,
    /// CloudWatch.
    pub alarms: Alarms,
    /// The records.
    pub store: Store,
    /// What people call this environment; empty where it has no name but the cluster's.
    pub environment: String,
    /// The clock.
    pub platform: Platform,
}

/// What made us look at a service.
#[derive(Debug, Clone, Copy, Default)]
struct Cause<'a> {
    /// A person's request.
    asked: Option<&'a RollbackAsked>,
    /// An alarm that went off, and since when.
    alarm: Option<(&'a str, DateTime<Utc>)>,
    /// Whether a task has failed: then the others that have are looked for at once, and alarms have events of their own.
    task: bool,
    /// Whether to look at the tasks that have stopped, and at all alarms, as far as they matter.
    thorough: bool,
}

/// What was read of a service.
#[derive(Debug)]
struct Seen {
    service: Service,
    history: History,
    alarms: BTreeMap<String, DateTime<Utc>>,
    tasks: Vec<StoppedTask>,
}

impl Rollbacker {
    /// Handles an event as EventBridge delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Explain(asked)) => self.look(events::read(&asked), true, deadline).await,
            event => self.look(event, false, deadline).await,
        }
    }

    /// Looks at what `event` may concern. To `explain` is to stop before anything is written.
    async fn look(&self, event: Result<Event, Error>, explain: bool, deadline: DateTime<Utc>) -> Handled {
        let looked = match event {
            Ok(Event::Deployment(change)) if change.change != Change::Failed => {
                Ok(Decision::new(Action::Skip, "the deployment has not failed").into())
            }
            // Its ARN has the format of before 2018.
            Ok(Event::Deployment(change)) if !change.service.has_cluster() => {
                let reason = "the event names no cluster; the sweep sees to it within a minute";
                Ok(Decision { rule: Some("no-cluster"), ..Decision::new(Action::Skip, reason) }.into())
            }
            Ok(Event::Deployment(change)) => {
                Ok(Box::pin(self.look_at(&change.service, Cause::default(), explain, deadline)).await)
            }
            Ok(Event::Stopped(task)) => {
                let cause = Cause { task: true, ..Cause::default() };
                Ok(Box::pin(self.look_at(&task.service, cause, explain, deadline)).await)
            }
            Ok(Event::Alarm(alarm)) => {
                let cause = Cause { alarm: Some((&alarm.name, alarm.since)), ..Cause::default() };
                Box::pin(self.alarmed(&alarm.name, cause, explain, deadline)).await
            }
            Ok(Event::Rollback(asked)) => {
                let cause = Cause { asked: Some(&asked), ..Cause::default() };
                Ok(Box::pin(self.look_at(&asked.service, cause, explain, deadline)).await)
            }
            Ok(Event::Sweep) => Box::pin(self.sweep(explain, deadline)).await,
            Ok(Event::Ignored { reason }) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, reason) }.into())
            }
            Ok(Event::Cluster(change)) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, change.tells_nothing()) }.into())
            }
            Ok(_) => Err(Error::Input("the rollback function takes failures, alarms and requests to go back".into())),
            Err(error) => Err(error),
        };
        looked.unwrap_or_else(Handled::from)
    }

    /// An alarm went off: looks at every service that it watches.
    async fn alarmed(
        &self,
        alarm: &str,
        cause: Cause<'_>,
        explain: bool,
        deadline: DateTime<Utc>,
    ) -> Result<Handled, Error> {
        let watched = self.followers.watched_by(alarm).await?;
        if watched.is_empty() {
            let key = crate::tags::rollback_key(alarm);
            let reason = format!("no service is watched by the alarm {alarm}: none has the tag {key}");
            return Ok(Decision { rule: Some("nobody-watched"), ..Decision::new(Action::Skip, reason) }.into());
        }
        let looks = watched.iter().map(|follower| Box::pin(self.look_at(&follower.id, cause, explain, deadline)));
        let mut handled = Handled::default();
        join_all(looks).await.into_iter().for_each(|of_service| handled.extend(of_service));
        Ok(handled)
    }

    /// Looks at one service until nobody else is at work on it.
    async fn look_at(&self, id: &ServiceRef, cause: Cause<'_>, explain: bool, deadline: DateTime<Utc>) -> Handled {
        match Box::pin(self.converge(id, cause, explain, deadline)).await {
            Ok(decision) => decision.into(),
            Err(error) => {
                let mut handled = Handled::default();
                handled.fail(id, error);
                handled
            }
        }
    }

    async fn converge(
        &self,
        id: &ServiceRef,
        cause: Cause<'_>,
        explain: bool,
        deadline: DateTime<Utc>,
    ) -> Result<Decision, Error> {
        loop {
            let Some(seen) = self.observe(id, cause).await? else {
                if cause.asked.is_some() {
                    return Err(Error::Input(format!("there is no service {id}; nothing was taken back")));
                }
                return Ok(about(id, Decision::new(Action::Skip, "the service no longer exists"), "gone"));
            };
            let acted = match decided(&seen, cause, self.platform.now()) {
                verdict if explain => Some(act::would(&seen, &verdict)),
                Verdict::Leave(leave) => Some(left_alone(&seen, &leave)),
                Verdict::Wait => None,
                verdict => Box::pin(self.act(&seen, verdict, cause)).await?,
            };
            if let Some(decision) = acted {
                return Ok(decision);
            }
            let why = || format!("another invocation is at work on {id}");
            self.platform.look_again(deadline, why).await?;
        }
    }

    /// Reads what the decision needs; a deployment that the history knows and ECS's answer does not is asked for again.
    /// `None` where the service is gone.
    async fn observe(&self, id: &ServiceRef, cause: Cause<'_>) -> Result<Option<Seen>, Error> {
        let stopped = async {
            match cause.task {
                true => self.ecs.stopped_tasks(id).await.map(Some),
                false => Ok(None),
            }
        };
        let view = join3(self.ecs.describe_service(id), self.store.history(id), Box::pin(stopped)).await;
        let (service, history, tasks) = (view.0?, view.1?, view.2?);
        let Some(service) = service else { return Ok(None) };
        let newest = history.current().and_then(|record| record.ecs_deployment_id.as_deref());
        let Some(service) = self.ecs.showing(service, newest).await? else { return Ok(None) };
        let mut seen = Seen { service, history, alarms: BTreeMap::new(), tasks: tasks.unwrap_or_default() };
        self.remember(&mut seen, cause).await?;
        if cause.thorough && watched(&seen).is_some() {
            self.examine(&mut seen).await?;
        }
        if let Some((name, since)) = cause.alarm {
            seen.alarms.insert(name.to_owned(), since);
        }
        Ok(Some(seen))
    }

    /// Adds releases of long ago, where the latest records hold none to go back to.
    async fn remember(&self, seen: &mut Seen, cause: Cause<'_>) -> Result<(), Error> {
        let wanted = cause.asked.and_then(|asked| asked.to.as_deref());
        let running = seen.service.primary().map(|primary| primary.id.as_str());
        let is_enough = |record: &Record| match wanted {
            Some(wanted) => is_meant(record, wanted),
            None => record.baked_at.is_some() && record.ecs_deployment_id.as_deref() != running,
        };
        let is_new = seen.history.records.len() < RECORDS_MANY;
        if is_new || seen.history.records.iter().any(is_enough) {
            return Ok(());
        }
        let of_id = match wanted {
            Some(wanted) => self.store.record(&seen.service.id, wanted).await?,
            None => None,
        };
        let found = match of_id {
            Some(record) => vec![record],
            None => self.store.good_releases(&seen.service.id, RELEASES_MAX).await?,
        };
        let known: BTreeSet<String> = seen.history.records.iter().map(|record| record.id.clone()).collect();
        seen.history.records.extend(found.into_iter().filter(|record| !known.contains(&record.id)));
        Ok(())
    }

    /// Looks at the alarms that watch the service, and at the tasks that have failed, where those count.
    async fn examine(&self, seen: &mut Seen) -> Result<(), Error> {
        let names = ServiceTags::read(&seen.service.tags).rollback_on;
        let is_live = watched(seen).is_some_and(|watched| watched.state == State::Succeeded);
        let tasks_count = is_live || !seen.service.has_circuit_breaker();
        let tasks = async {
            match tasks_count {
                true => self.ecs.stopped_tasks(&seen.service.id).await.map(Some),
                false => Ok(None),
            }
        };
        let (alarms, tasks) = join(self.alarms.states(&names), Box::pin(tasks)).await;
        if let Some(why) = &alarms.unknown {
            tracing::warn!(service = %seen.service.id, why, "the alarms can't be read");
        }
        seen.alarms.extend(alarms.since);
        if let Some(tasks) = tasks? {
            seen.tasks = tasks;
        }
        Ok(())
    }
}

fn decided(seen: &Seen, cause: Cause<'_>, now: DateTime<Utc>) -> Verdict {
    decide(&observed(seen, cause, now))
}

fn observed<'a>(seen: &'a Seen, cause: Cause<'a>, now: DateTime<Utc>) -> Observed<'a> {
    Observed {
        asked: cause.asked,
        service: &seen.service,
        history: &seen.history,
        alarms: &seen.alarms,
        tasks: &seen.tasks,
        now,
    }
}

/// The record of what runs, if it is rolled out or watched.
fn watched(seen: &Seen) -> Option<&Record> {
    let running = seen.history.of_deployment(&seen.service.primary()?.id)?;
    let is_watched = running.state == State::Rolling || running.bake_until.is_some() && running.baked_at.is_none();
    is_watched.then_some(running)
}

fn about(id: &ServiceRef, decision: Decision, rule: &'static str) -> Decision {
    Decision { service: Some(id.to_string()), rule: Some(rule), ..decision }
}

fn left_alone(seen: &Seen, leave: &Leave) -> Decision {
    about(&seen.service.id, Decision::new(Action::Skip, leave.to_string()), leave.rule())
}
