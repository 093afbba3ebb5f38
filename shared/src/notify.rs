//! Notify: ECS deployment events become the outcome of a record, and everyone is told.
//!
//! An event, or the sweep, only says which service to look at. [`Notifier`] reads the records that are still open and
//! ECS's present view, lets [`judge`](judge::judge) decide, writes, and then brings every sink up to the record's
//! version. What an event did not bring, a sweep does: a lost outcome, a sink that was out of order, a decision not to
//! deploy, how far a rollout has come.

mod examine;
mod found;
pub mod judge;
mod report;
mod sweep;
mod tell;
mod trace;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::judge::{Observed, judge, needs_account};
use crate::announce::Announcer;
use crate::decision::{Action, Decision, Handled};
use crate::ecr::Ecr;
use crate::ecs::{Ecs, Service, ServiceDeployment};
use crate::error::Error;
use crate::events::{self, DeploymentChange, Event, ServiceRef};
use crate::http::Http;
use crate::logs::Logs;
use crate::platform::Platform;
use crate::record::store::{Store, Written};
use crate::record::{History, Progress, Record, State};
use crate::tags::ServiceTags;

/// The notify function.
#[derive(Debug)]
pub struct Notifier {
    /// ECS.
    pub ecs: Ecs,
    /// ECR.
    pub ecr: Ecr,
    /// What leads to an image's configuration.
    pub http: Http,
    /// What tasks have logged.
    pub logs: Logs,
    /// The records.
    pub store: Store,
    /// Who is told.
    pub announcer: Announcer,
    /// What people call this environment; empty where it has no name but the cluster's.
    pub environment: String,
    /// The clock.
    pub platform: Platform,
}

/// A record, what it is now found to be, and ECS's account that says so.
#[derive(Debug)]
struct Judged {
    before: Record,
    after: Option<Record>,
    account: Option<ServiceDeployment>,
}

impl Notifier {
    /// Handles an event as EventBridge delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        let handled = match events::read(event) {
            Ok(Event::Deployment(change)) => Box::pin(self.changed(change, deadline)).await,
            Ok(Event::Sweep) => Box::pin(self.sweep(deadline)).await,
            Ok(Event::Explain(asked)) => Box::pin(self.explain(&asked)).await,
            Ok(Event::Report(asked)) => Box::pin(self.report(&asked)).await,
            Ok(Event::Ignored { reason }) => Ok(Decision::new(Action::Skip, reason).into()),
            Ok(Event::Cluster(change)) => Ok(Decision::new(Action::Skip, change.tells_nothing()).into()),
            Ok(_) => Err(not_for_us()),
            Err(error) => Err(error),
        };
        handled.unwrap_or_else(Handled::from)
    }

    /// What `event` would lead to, without writing or telling anything.
    async fn explain(&self, event: &Value) -> Result<Handled, Error> {
        let change = match events::read(event)? {
            Event::Deployment(change) => change,
            Event::Sweep => return self.explain_sweep().await,
            Event::Ignored { reason } => return Ok(Decision::new(Action::Skip, reason).into()),
            Event::Cluster(change) => return Ok(Decision::new(Action::Skip, change.tells_nothing()).into()),
            _ => return Err(not_for_us()),
        };
        let Some(change) = self.placed(change).await? else { return Ok(nowhere().into()) };
        let (service, history) = self.view(&change.service).await?;
        if let Some(found) = self.found(service.as_ref(), &history, &change).await? {
            return Ok(Decision { record: None, ..Decision::about(Action::Record, &found) }.into());
        }
        let decisions: Vec<Decision> = self
            .verdicts(service.as_ref(), history, Some(&change))
            .await?
            .iter()
            .filter_map(|judged| explained(judged, &change))
            .collect();
        Ok(match decisions.is_empty() {
            true => not_ours(&change).into(),
            false => Handled { decisions, ..Handled::default() },
        })
    }

    /// A deployment has changed its state.
    async fn changed(&self, change: DeploymentChange, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let Some(change) = self.placed(change).await? else { return Ok(nowhere().into()) };
        loop {
            let (service, history) = self.view(&change.service).await?;
            let is_known = history.records.iter().any(|record| is_of(record, &change));
            // The deploy function has called UpdateService and is about to write ECS's id, or has died and will be
            // tried again.
            let why = match history.current() {
                Some(current) if !is_known && current.state == State::Intended => "has no ECS deployment id yet",
                _ => match Box::pin(self.settled(service.as_ref(), history, &change)).await? {
                    Some((records, history)) => {
                        return Ok(self.told(service.as_ref(), (records, history), &change, deadline).await);
                    }
                    None => "is being written by another invocation",
                },
            };
            self.platform.look_again(deadline, || format!("a record of {} {why}", change.service)).await?;
        }
    }

    /// The change with its cluster. ARNs of the format before 2018 do not name it, and the event need not either; a
    /// deployment that is open is found by its id. `None` where there is none.
    async fn placed(&self, change: DeploymentChange) -> Result<Option<DeploymentChange>, Error> {
        if change.service.has_cluster() {
            return Ok(Some(change));
        }
        let open = self.store.open_records(sweep::OPEN_MAX).await?;
        let ours = open.into_iter().find(|open| open.ecs_deployment_id.as_ref() == Some(&change.deployment_id));
        Ok(ours.map(|ours| DeploymentChange {
            service: ServiceRef { arn: change.service.arn.clone(), ..ours.service },
            ..change
        }))
    }

    /// A service and its history. The history is read first: a deployment that it knows was there when ECS was asked.
    async fn view(&self, service: &ServiceRef) -> Result<(Option<Service>, History), Error> {
        let history = self.store.history(service).await?;
        Ok((self.ecs.describe_service(service).await?, history))
    }

    /// The service's records, oldest first, each in the state that this event and ECS's present view lead to, and whether
    /// the event is about it; and the history that they were in. `None` where another invocation was faster.
    async fn settled(
        &self,
        service: Option<&Service>,
        mut history: History,
        change: &DeploymentChange,
    ) -> Result<Option<(Vec<(Record, bool)>, History)>, Error> {
        if let Some(found) = self.found(service, &history, change).await? {
            match self.write_found(&history, &found).await? {
                Written::Yes => history.records.insert(0, found),
                Written::Outrun => return Ok(None),
            }
        }
        let judged = self.verdicts(service, history.clone(), Some(change)).await?;
        let mut settled = Vec::with_capacity(judged.len());
        for judged in judged {
            let is_news = judged.after.is_some() || is_of(&judged.before, change);
            match self.settle(service, &history, judged).await? {
                Some(record) => settled.push((record, is_news)),
                None => return Ok(None),
            }
        }
        Ok(Some((settled, history)))
    }

    /// What each record is found to be, oldest first.
    async fn verdicts(
        &self,
        service: Option<&Service>,
        history: History,
        change: Option<&DeploymentChange>,
    ) -> Result<Vec<Judged>, Error> {
        let mut judged = Vec::with_capacity(history.records.len());
        // What the rollback function replaces, it ends: the newer deployment is its own.
        let is_taken_back: Vec<bool> = history.records.iter().map(|record| history.is_taking_back(record)).collect();
        for (before, is_taken_back) in history.records.into_iter().zip(is_taken_back).rev() {
            if is_taken_back {
                judged.push(Judged { before, after: None, account: None });
                continue;
            }
            let account = match needs_account(&before, service) {
                true => self.account(&before).await?,
                false => None,
            };
            let now = self.platform.now();
            let seen = Observed { record: &before, service, service_deployment: account.as_ref(), change, now };
            let bake = service.map(|service| ServiceTags::read(&service.tags).bake).unwrap_or_default();
            let after = judge(&seen).and_then(|outcome| outcome.of(&before, now)).map(|after| after.watched(bake));
            judged.push(Judged { before, after, account });
        }
        Ok(judged)
    }

    /// ECS's account of a rollout. That there is none, or that it can't be had, must not keep the outcome from people.
    async fn account(&self, record: &Record) -> Result<Option<ServiceDeployment>, Error> {
        let (Some(id), Some(started)) = (&record.ecs_deployment_id, record.started_at) else { return Ok(None) };
        match self.ecs.service_deployment(&record.service_ref(), id, started).await {
            Err(error) if !error.is_transient() => {
                tracing::warn!(service = %record.service_ref(), %error, "ECS's account of the rollout can't be read");
                Ok(None)
            }
            account => account,
        }
    }

    /// Writes what a record is found to be, with what can be found out about a failure, and how far a rollout has come.
    /// `None` where another invocation was faster.
    async fn settle(
        &self,
        service: Option<&Service>,
        history: &History,
        Judged { before, after, account }: Judged,
    ) -> Result<Option<Record>, Error> {
        let Some(mut after) = after else {
            let progress = progress(&before, service).filter(|progress| Some(*progress) != before.progress);
            return Ok(match progress.filter(|_| self.announcer.slack.is_some()) {
                Some(progress) => Some(self.store.progressed(&before, progress).await?.unwrap_or(before)),
                None => Some(before),
            });
        };
        if let Some(account) = &account {
            after.service_deployment_arn = Some(account.arn.clone());
        }
        if after.state == State::Failed {
            after.diagnosis = self.examined(&after, service, account.as_ref()).await;
        }
        Ok(match self.store.advance(history, &before, &after).await? {
            Written::Yes => Some(after),
            Written::Outrun => None,
        })
    }

    /// Tells people what they have not been told.
    async fn told(
        &self,
        service: Option<&Service>,
        (records, history): (Vec<(Record, bool)>, History),
        change: &DeploymentChange,
        deadline: DateTime<Utc>,
    ) -> Handled {
        let mut handled = Handled::default();
        let news = records.iter().filter(|(_, is_news)| *is_news);
        handled.decisions.extend(news.map(|(record, _)| Decision::about(Action::Record, record)));
        let records = records.into_iter().map(|(record, _)| record).collect();
        for error in Box::pin(self.tell(service, &history, records, deadline, |_| true)).await {
            handled.fail(&change.service, error);
        }
        if handled.decisions.is_empty() {
            handled.decisions.push(not_ours(change));
        }
        handled
    }
}

/// How far the rollout of `record` has come.
fn progress(record: &Record, service: Option<&Service>) -> Option<Progress> {
    let id = record.ecs_deployment_id.as_deref().filter(|_| record.state == State::Rolling)?;
    let ours = service?.deployment(id)?;
    Some(Progress { running: ours.running_count, desired: ours.desired_count, failed: ours.failed_tasks })
}

fn explained(judged: &Judged, change: &DeploymentChange) -> Option<Decision> {
    let is_meant = judged.after.is_some() || is_of(&judged.before, change);
    is_meant.then(|| Decision::about(Action::Record, judged.after.as_ref().unwrap_or(&judged.before)))
}

fn not_for_us() -> Error {
    Error::Input("the notify function takes ECS deployment events; this one is for deploy, or for rollback".into())
}

fn is_of(record: &Record, change: &DeploymentChange) -> bool {
    record.ecs_deployment_id.as_deref() == Some(&change.deployment_id)
}

fn not_ours(change: &DeploymentChange) -> Decision {
    Decision {
        service: Some(change.service.to_string()),
        ecs_deployment_id: Some(change.deployment_id.clone()),
        ..Decision::new(Action::Skip, "the service follows no repository, or this settles no deployment of it")
    }
}

fn nowhere() -> Decision {
    let reason = "the service's ARN has the old format, which names no cluster, and no open deployment has this id";
    Decision::new(Action::Skip, reason)
}
