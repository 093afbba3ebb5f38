//! A cluster has as many instances as its tasks need.
//!
//! An event, a tick or the sweep only says which cluster to look at. [`ClusterScaler`] reads what ECS, EC2 Auto Scaling
//! and CloudWatch say, lets [`decide`](decide::decide) judge, writes down what it is about to do, and does it.

mod act;
pub mod decide;
mod needs;
mod observe;
mod refusal;
mod scope;
pub mod tags;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::decide::{Leaving, Observed, Plan, State, decide};
pub use self::needs::Needs;
use self::observe::Seen;
use self::refusal::Refusal;
use self::scope::Scope;
use super::memory::{Memory, Remembered};
use super::notice::{Notices, Subject};
use super::tell::Crier;
use super::ticks::Ticks;
use crate::clusters::{Cluster, Clusters};
use crate::decision::{Action, Decision, Handled};
use crate::ecs::Ecs;
use crate::error::Error;
use crate::events::{self, Event};
use crate::groups::Groups;
use crate::metering::Metering;
use crate::platform::Platform;

/// How many clusters are looked at side by side.
const CLUSTERS_AT_ONCE: usize = 4;
/// For how long who acts keeps others off, should it die meanwhile.
const ACTING: TimeDelta = TimeDelta::seconds(45);

/// The cluster function.
#[derive(Debug)]
pub struct ClusterScaler {
    /// ECS.
    pub ecs: Ecs,
    /// EC2 Auto Scaling.
    pub groups: Groups,
    /// The tagging API.
    pub clusters: Clusters,
    /// CloudWatch.
    pub metering: Metering,
    /// What is remembered.
    pub memory: Memory,
    /// The queue of ticks.
    pub ticks: Ticks,
    /// Those who are told.
    pub crier: Crier,
    /// What tasks need.
    pub needs: Needs,
    /// What people call this environment; empty where it has no name but the cluster's.
    pub environment: String,
    /// The clock.
    pub platform: Platform,
}

/// What made us look.
#[derive(Debug)]
struct Cause {
    scope: Scope,
    /// The instance that somebody else takes away. Nobody tells of it again, so it is not left to the next look.
    leaving: Option<Leaving>,
    /// Whether it is the schedule, which sends the ticks.
    is_schedule: bool,
    /// Whether to stop before anything is written.
    explain: bool,
}

/// What is remembered of a cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    scaling: State,
    notices: Notices,
    /// Until when somebody is at work on the cluster.
    acting_until: Option<DateTime<Utc>>,
}

/// What is to be done about a cluster.
enum Judged {
    /// Nothing: the cluster no longer exists.
    Gone,
    /// Nothing, and its owner is told why.
    Refused(Refusal),
    /// This.
    Planned(Box<Seen>, Box<Plan>),
    /// Somebody else is at work on it.
    Busy,
}

/// What came of a look at a cluster.
struct Looked {
    /// What was decided, or why nothing was.
    decision: Decision,
    /// Whether to look again before the next minute.
    is_restless: bool,
}

impl ClusterScaler {
    /// Handles an event as EventBridge, SQS, SNS or CloudWatch delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Explain(asked)) => self.take(events::read(&asked), true, deadline).await,
            event => self.take(event, false, deadline).await,
        }
    }

    /// Looks at what `event` may concern.
    async fn take(&self, event: Result<Event, Error>, explain: bool, deadline: DateTime<Utc>) -> Handled {
        let cause = Cause { scope: Scope::All, leaving: None, is_schedule: false, explain };
        let looked = match event {
            Ok(Event::Sweep) => self.look(Cause { is_schedule: true, ..cause }, deadline).await,
            Ok(Event::Tick(of)) => {
                let scope = Scope::Named(of.into_iter().collect());
                self.look(Cause { scope, ..cause }, deadline).await
            }
            Ok(Event::Alarm(alarm)) => match Scope::of_alarm(&alarm) {
                Some(scope) => self.look(Cause { scope, ..cause }, deadline).await,
                None => {
                    let reason = format!("the alarm {} watches no cluster, and no Auto Scaling group", alarm.name);
                    Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, reason) }.into())
                }
            },
            Ok(Event::Cluster(change)) => {
                let scope = Scope::Named(BTreeSet::from([change.cluster]));
                self.look(Cause { scope, ..cause }, deadline).await
            }
            Ok(Event::Leaving(instance)) => {
                let (scope, leaving) = Scope::of_leaving(instance);
                self.look(Cause { scope, leaving: Some(leaving), ..cause }, deadline).await
            }
            Ok(Event::Ignored { reason }) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, reason) }.into())
            }
            Ok(_) => Err(Error::Input("the scale-cluster function takes what tells of clusters and instances".into())),
            Err(error) => Err(error),
        };
        looked.unwrap_or_else(Handled::from)
    }

    /// Looks at the clusters of the cause, each by itself.
    async fn look(&self, cause: Cause, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let all = self.clusters.with(tags::GROUP).await?;
        let chosen = self.chosen(&all, &cause.scope).await?;
        if chosen.is_empty() && !cause.is_schedule {
            let reason = format!("it concerns no cluster with the tag {}", tags::GROUP);
            return Ok(Decision { rule: Some("not-asked"), ..Decision::new(Action::Skip, reason) }.into());
        }
        let (cause, all) = (&cause, &all);
        let looks = chosen.iter().map(|cluster| async move {
            let looked = Box::pin(self.look_at(cluster, all, cause, deadline)).await;
            (*cluster, looked)
        });
        let mut looks = stream::iter(looks).buffer_unordered(CLUSTERS_AT_ONCE);
        let (mut handled, mut restless) = (Handled::default(), Vec::new());
        while let Some((cluster, looked)) = looks.next().await {
            match looked {
                Ok(looked) => {
                    restless.extend(looked.is_restless.then_some(cluster.arn.as_str()));
                    handled.decisions.push(looked.decision);
                }
                Err(error) if cause.leaving.is_some() => handled.fail(&cluster.name, error),
                Err(error) => {
                    tracing::warn!(cluster = cluster.name, %error, "left to the next look");
                    let reason = format!("left to the next look: {error}");
                    let decision = Decision { rule: Some("unreadable"), ..Decision::new(Action::Skip, reason) };
                    handled.decisions.push(about(cluster, decision));
                    // Something is going on that is not known: look soon.
                    restless.extend(error.is_transient().then_some(cluster.arn.as_str()));
                }
            }
        }
        drop(looks);
        self.tick(cause, restless).await;
        handled.decisions.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        if cause.is_schedule {
            let reason = format!("the sweep has looked at {} clusters that scale", chosen.len());
            handled.decisions.push(Decision { rule: Some("sweep"), ..Decision::new(Action::Skip, reason) });
        }
        Ok(handled)
    }

    /// Looks at one cluster; where an instance leaves, until nobody else is at work on it.
    async fn look_at(
        &self,
        cluster: &Cluster,
        all: &[Cluster],
        cause: &Cause,
        deadline: DateTime<Utc>,
    ) -> Result<Looked, Error> {
        loop {
            // It is read first: who acts after that has raised the version, and refuses our write.
            let remembered: Remembered<Kept> = self.memory.read(&cluster.name).await?;
            let looked = match Box::pin(self.judge(cluster, all, cause, &remembered)).await? {
                Judged::Gone => {
                    let gone = Decision::new(Action::Skip, "the cluster no longer exists");
                    let decision = about(cluster, Decision { rule: Some("gone"), ..gone });
                    Some(Looked { decision, is_restless: false })
                }
                Judged::Refused(refusal) => {
                    Box::pin(self.refuse(cluster, &refusal, &remembered, cause, deadline)).await?
                }
                Judged::Planned(seen, plan) if cause.explain => {
                    Some(Looked { decision: act::made(cluster, &seen, &plan), is_restless: plan.is_restless })
                }
                Judged::Planned(seen, plan) => Box::pin(self.act(cluster, &seen, *plan, &remembered, deadline)).await?,
                Judged::Busy => None,
            };
            if let Some(looked) = looked {
                return Ok(looked);
            }
            let busy = || format!("another look at the cluster {} is going on", cluster.name);
            if cause.leaving.is_none() || cause.explain {
                let decision = Decision { rule: Some("busy"), ..Decision::new(Action::Skip, busy()) };
                return Ok(Looked { decision: about(cluster, decision), is_restless: true });
            }
            self.platform.look_again(deadline, busy).await?;
        }
    }

    /// What is to be done about a cluster.
    async fn judge(
        &self,
        cluster: &Cluster,
        all: &[Cluster],
        cause: &Cause,
        remembered: &Remembered<Kept>,
    ) -> Result<Judged, Error> {
        let Goals { group, goal } = match Refusal::of_tags(cluster, all) {
            Ok(goals) => goals,
            Err(refusal) => return Ok(Judged::Refused(refusal)),
        };
        let now = self.platform.now();
        if remembered.state.acting_until.is_some_and(|until| now < until && until - now <= ACTING) {
            return Ok(Judged::Busy);
        }
        let seen = match Box::pin(self.observe(&cluster.name, &group)).await {
            Err(error) if is_gone(&error) => return Ok(Judged::Gone),
            observed => match observed? {
                Ok(seen) => seen,
                Err(refusal) => return Ok(Judged::Refused(refusal)),
            },
        };
        let plan = decide(
            &Observed {
                now: self.platform.now(),
                goal: &goal,
                group: &seen.group,
                instances: &seen.instances,
                unplaced: &seen.unplaced,
                shapes: &seen.shapes,
                is_rolling_out: seen.is_rolling_out,
                minutes: &seen.minutes,
                leaving: cause.leaving.as_slice(),
            },
            &remembered.state.scaling,
        );
        Ok(Judged::Planned(Box::new(seen), Box::new(plan)))
    }

    /// The schedule sends ticks for the clusters where there is more to do. A tick sends none: Lambda stops chains.
    async fn tick(&self, cause: &Cause, mut restless: Vec<&str>) {
        if !cause.is_schedule || cause.explain || restless.is_empty() {
            return;
        }
        restless.sort_unstable();
        if let Err(error) = self.ticks.send(&restless).await {
            tracing::warn!(%error, "there are no ticks until the next minute");
        }
    }

    fn subject(&self, cluster: &Cluster) -> Subject {
        let environment = if self.environment.is_empty() { &cluster.name } else { &self.environment };
        Subject { environment: environment.clone(), cluster: cluster.name.clone(), service: None, channel: None }
    }
}

/// The tags of a cluster, as far as they are needed.
struct Goals {
    group: String,
    goal: decide::Goal,
}

fn is_gone(error: &Error) -> bool {
    error.code() == Some("ClusterNotFoundException")
}

fn about(cluster: &Cluster, decision: Decision) -> Decision {
    Decision { cluster: Some(cluster.name.clone()), ..decision }
}
