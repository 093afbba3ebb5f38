//! A service follows the work in its queue.
//!
//! The schedule, a tick or an alarm only says which services to look at. Each look reads ECS, SQS, CloudWatch and what is
//! remembered, lets [`decide`](decide::decide) say how many tasks there should be, remembers, and writes the desired
//! count where it is another one.

mod act;
pub mod decide;
pub mod goal;
mod observe;
pub mod owner;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::decide::{Minute, State};
use self::owner::Owners;
use super::memory::Memory;
use super::notice::Notices;
use super::tell::Crier;
use super::ticks::Ticks;
use crate::decision::{Action, Decision, Handled};
use crate::ecs::Ecs;
use crate::error::Error;
use crate::events::{self, AlarmFired, Event, ServiceRef};
use crate::followers::{Follower, Followers};
use crate::metering::Metering;
use crate::platform::Platform;
use crate::queues::Queues;
use crate::tags::SCALE_QUEUE;

/// The dimension of SQS's metrics.
const QUEUE_NAME: &str = "QueueName";

/// The scale-service function.
#[derive(Debug)]
pub struct ServiceScaler {
    /// ECS.
    pub ecs: Ecs,
    /// The tagging API.
    pub followers: Followers,
    /// SQS.
    pub queues: Queues,
    /// CloudWatch.
    pub metering: Metering,
    /// Application Auto Scaling.
    pub owners: Owners,
    /// What is remembered.
    pub memory: Memory,
    /// The queue of ticks.
    pub ticks: Ticks,
    /// Those who are told.
    pub crier: Crier,
    /// What people call this environment; empty where it has no name but the cluster's.
    pub environment: String,
    /// The clock.
    pub platform: Platform,
}

/// What made us look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The schedule, which sends the ticks.
    Schedule,
    /// Anything else.
    Other,
}

/// What is remembered of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    scaling: State,
    /// What CloudWatch had when it was last asked.
    minutes: Vec<Minute>,
    metered_at: Option<DateTime<Utc>>,
    /// Whether Application Auto Scaling scales it, and when that was asked.
    owned: Option<(bool, DateTime<Utc>)>,
    notices: Notices,
}

/// What one look has led to.
struct Looked {
    decision: Decision,
    /// Whether to look again before the next minute.
    is_busy: bool,
}

impl ServiceScaler {
    /// Handles an event as EventBridge, SQS, SNS or CloudWatch delivers it; the invocation ends at `deadline`.
    pub async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match events::read(event) {
            Ok(Event::Explain(asked)) => self.look(events::read(&asked), true, deadline).await,
            event => self.look(event, false, deadline).await,
        }
    }

    /// Looks at what `event` may concern. To `explain` is to stop before anything is written.
    async fn look(&self, event: Result<Event, Error>, explain: bool, deadline: DateTime<Utc>) -> Handled {
        let looked = match event {
            Ok(Event::Sweep) => Box::pin(self.sweep(explain, deadline)).await,
            Ok(Event::Tick(arns)) => Ok(Box::pin(self.ticked(&arns, explain, deadline)).await),
            Ok(Event::Alarm(alarm)) => Box::pin(self.alarmed(&alarm, explain, deadline)).await,
            Ok(Event::Tagged(service)) => Ok(Box::pin(self.look_at(&[service], Cause::Other, explain, deadline)).await),
            Ok(Event::Ignored { reason }) => {
                Ok(Decision { rule: Some("ignored"), ..Decision::new(Action::Skip, reason) }.into())
            }
            Ok(_) => Err(Error::Input("the scale-service function takes its schedule, its ticks and alarms".into())),
            Err(error) => Err(error),
        };
        looked.unwrap_or_else(Handled::from)
    }

    /// Looks at every service with a queue.
    async fn sweep(&self, explain: bool, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let services = ids(self.followers.with_queue().await?.iter());
        let mut handled = Box::pin(self.look_at(&services, Cause::Schedule, explain, deadline)).await;
        let reason = format!("the sweep has looked at {} services with a queue", services.len());
        handled.decisions.push(Decision { rule: Some("sweep"), ..Decision::new(Action::Skip, reason) });
        Ok(handled)
    }

    /// Looks at the services of a tick.
    async fn ticked(&self, arns: &[String], explain: bool, deadline: DateTime<Utc>) -> Handled {
        let services = arns.iter().filter_map(|arn| ServiceRef::from_arn(arn, None).ok());
        let services: Vec<ServiceRef> = services.filter(ServiceRef::has_cluster).collect();
        Box::pin(self.look_at(&services, Cause::Other, explain, deadline)).await
    }

    /// An alarm went off: looks at the services that work on the queues it watches, or at all if it names none.
    async fn alarmed(&self, alarm: &AlarmFired, explain: bool, deadline: DateTime<Utc>) -> Result<Handled, Error> {
        let queues: BTreeSet<&str> = alarm.dimension(QUEUE_NAME).collect();
        let is_of_others = queues.is_empty() && !alarm.dimensions.is_empty();
        let skip = |reason| Ok(Decision { rule: Some("nobody-works"), ..Decision::new(Action::Skip, reason) }.into());
        if is_of_others {
            return skip(format!("the alarm {} watches no queue", alarm.name));
        }
        let all = self.followers.with_queue().await?;
        let is_named = |follower: &&Follower| {
            let queue = follower.tags.iter().find(|tag| tag.key == SCALE_QUEUE).map(|tag| tag.value.trim());
            queues.is_empty() || queue.is_some_and(|queue| queues.contains(queue))
        };
        let services = ids(all.iter().filter(is_named));
        if services.is_empty() {
            return skip(format!("no service works on what the alarm {} watches", alarm.name));
        }
        Ok(Box::pin(self.look_at(&services, Cause::Other, explain, deadline)).await)
    }

    /// Looks at some services. A failure of one is left to the next look: what is late here is worthless.
    async fn look_at(&self, services: &[ServiceRef], cause: Cause, explain: bool, deadline: DateTime<Utc>) -> Handled {
        let observed = Box::pin(self.observe(services)).await;
        let looks = observed.into_iter().map(|(id, seen)| {
            Box::pin(async move {
                let arn = id.arn.clone();
                (arn, self.act(&id, seen, cause, explain, deadline).await)
            })
        });
        let mut handled = Handled::default();
        let mut busy = Vec::new();
        for (arn, Looked { decision, is_busy }) in join_all(looks).await {
            handled.decisions.push(decision);
            busy.extend(is_busy.then_some(arn));
        }
        if cause == Cause::Schedule && !explain && !busy.is_empty() {
            let arns: Vec<&str> = busy.iter().map(String::as_str).collect();
            if let Err(error) = self.ticks.send(&arns).await {
                tracing::warn!(%error, "there are no ticks until the next minute");
            }
        }
        handled
    }
}

fn ids<'a>(followers: impl Iterator<Item = &'a Follower>) -> Vec<ServiceRef> {
    followers.map(|follower| follower.id.clone()).collect()
}
