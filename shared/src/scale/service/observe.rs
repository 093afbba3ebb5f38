//! What a look at services reads: everything of all of them at once, in three steps.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join, join_all};

use super::decide::{Minute, Queue};
use super::goal::{self, Asked};
use super::{Kept, QUEUE_NAME, ServiceScaler};
use crate::ecs::{SERVICES_PER_CALL_MAX, Service};
use crate::error::Error;
use crate::events::ServiceRef;
use crate::metering::{Asked as AskedMetric, Minutes};
use crate::scale::memory::Remembered;
use crate::tags::SCALE_QUEUE;

/// How long what CloudWatch and Application Auto Scaling have said is used: once a minute is enough.
const CURRENT: TimeDelta = TimeDelta::seconds(50);
/// What Application Auto Scaling has said holds for this long while it can't be asked.
const OWNER_KNOWN: TimeDelta = TimeDelta::minutes(15);
/// How far back CloudWatch is asked.
const WINDOW: TimeDelta = TimeDelta::minutes(20);

/// What was read of a service.
pub(super) struct Seen {
    pub(super) service: Service,
    pub(super) kept: Remembered<Kept>,
    pub(super) asked: Result<Asked, Vec<String>>,
    /// The queue; an error where SQS can't be asked.
    pub(super) queue: Option<Result<Queue, Error>>,
    /// Whether somebody else scales it; an error where that is not known.
    pub(super) owned: Result<bool, Error>,
}

/// Why a service was not looked at.
pub(super) enum Unseen {
    Gone,
    NotAsked,
    Failed(Error),
}

impl ServiceScaler {
    /// Reads what is to be known of `services`.
    pub(super) async fn observe(&self, services: &[ServiceRef]) -> Vec<(ServiceRef, Result<Seen, Unseen>)> {
        let (described, remembered) = join(self.describe(services), self.remember(services)).await;
        let mut all: Vec<(ServiceRef, Result<Seen, Unseen>)> = Vec::with_capacity(services.len());
        for (id, kept) in services.iter().zip(remembered) {
            let service = match described.get(&id.cluster).map(|of_cluster| of_cluster.get(&id.service)) {
                Some(Some(Ok(service))) if service.status == "ACTIVE" => service.clone(),
                Some(Some(Err(error))) => {
                    all.push((id.clone(), Err(Unseen::Failed(error.clone()))));
                    continue;
                }
                _ => {
                    all.push((id.clone(), Err(Unseen::Gone)));
                    continue;
                }
            };
            let seen = match (goal::read(&service.tags), kept) {
                (None, _) => Err(Unseen::NotAsked),
                (_, Err(error)) => Err(Unseen::Failed(error)),
                (Some(asked), Ok(kept)) => {
                    let asked = asked.and_then(|asked| suits(&service).map(|()| asked));
                    Ok(Seen { service, kept, asked, queue: None, owned: Ok(false) })
                }
            };
            all.push((id.clone(), seen));
        }
        let mut wanted: Vec<&mut Seen> =
            all.iter_mut().filter_map(|(_, seen)| seen.as_mut().ok()).filter(|seen| seen.asked.is_ok()).collect();
        let now = self.platform.now();
        let owners = self.owners_of(&wanted, now);
        let queues = join_all(wanted.iter().map(|seen| self.look_into(seen)));
        let (owners, queues) = join(Box::pin(owners), queues).await;
        for (seen, queue) in wanted.iter_mut().zip(queues) {
            seen.queue = queue;
        }
        note_owners(&mut wanted, owners, now);
        Box::pin(self.meter(&mut wanted, now)).await;
        all
    }

    /// The services by cluster and name; one call for each ten of a cluster.
    async fn describe(&self, services: &[ServiceRef]) -> BTreeMap<String, BTreeMap<String, Result<Service, Error>>> {
        let mut by_cluster: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for id in services {
            by_cluster.entry(&id.cluster).or_default().push(id.service.clone());
        }
        let pages = by_cluster
            .iter()
            .flat_map(|(cluster, names)| names.chunks(SERVICES_PER_CALL_MAX).map(move |page| (*cluster, page)));
        let calls = pages.map(|(cluster, page)| {
            Box::pin(async move { (cluster, page, self.ecs.describe_services(cluster, page).await) })
        });
        let mut all: BTreeMap<String, BTreeMap<String, Result<Service, Error>>> = BTreeMap::new();
        for (cluster, page, answer) in join_all(calls).await {
            let of_cluster = all.entry(cluster.to_owned()).or_default();
            match answer {
                Ok(found) => of_cluster.extend(found.into_iter().map(|it| (it.id.service.clone(), Ok(it)))),
                Err(error) => of_cluster.extend(page.iter().map(|name| (name.clone(), Err(error.clone())))),
            }
        }
        all
    }

    async fn remember(&self, services: &[ServiceRef]) -> Vec<Result<Remembered<Kept>, Error>> {
        join_all(services.iter().map(|id| Box::pin(async move { self.memory.read(&id.to_string()).await }))).await
    }

    async fn look_into(&self, seen: &Seen) -> Option<Result<Queue, Error>> {
        let queue = &seen.asked.as_ref().ok()?.queue;
        Some(match Box::pin(self.queues.look(queue)).await {
            Ok(Some(queue)) => Ok(queue),
            Ok(None) => Err(Error::Input(format!(
                "there is no queue {queue} in this account and Region; see the tag {}",
                SCALE_QUEUE
            ))),
            Err(error) => Err(error),
        })
    }

    /// Who else scales those for which that was not asked of late.
    async fn owners_of(&self, wanted: &[&mut Seen], now: DateTime<Utc>) -> Result<BTreeSet<String>, Error> {
        let is_due = |seen: &&&mut Seen| seen.kept.state.owned.is_none_or(|(_, at)| now - at >= CURRENT);
        let due: Vec<ServiceRef> = wanted.iter().filter(is_due).map(|seen| seen.service.id.clone()).collect();
        self.owners.of(&due).await
    }

    /// Asks CloudWatch about the queues that are at work, once a minute.
    async fn meter(&self, wanted: &mut [&mut Seen], now: DateTime<Utc>) {
        let mut due: Vec<&mut &mut Seen> = wanted.iter_mut().filter(|seen| needs_metrics(seen, now)).collect();
        let asked: Vec<AskedMetric> = due.iter().flat_map(|seen| metrics_of(seen)).collect();
        if asked.is_empty() {
            return;
        }
        match self.metering.minutes(&asked, now, WINDOW).await {
            Ok(answers) => {
                for (seen, of_queue) in due.iter_mut().zip(answers.chunks(METRICS.len())) {
                    seen.kept.state.minutes = minutes(of_queue);
                    seen.kept.state.metered_at = Some(now);
                }
            }
            // What it has said before grows old, and is not acted on then.
            Err(error) => tracing::warn!(%error, "CloudWatch can't be asked"),
        }
    }
}

/// Whether a service of this kind can have a number of tasks.
fn suits(service: &Service) -> Result<(), Vec<String>> {
    match service.scheduling.as_str() {
        "DAEMON" => Err(vec!["a DAEMON service runs one task on each instance, and can't be scaled".into()]),
        _ => Ok(()),
    }
}

fn note_owners(wanted: &mut [&mut Seen], owners: Result<BTreeSet<String>, Error>, now: DateTime<Utc>) {
    for seen in wanted {
        let known = seen.kept.state.owned;
        let is_current = known.filter(|(_, at)| now - *at < CURRENT);
        seen.owned = match (&owners, is_current, known) {
            (_, Some((owned, _)), _) => Ok(owned),
            (Ok(owners), None, _) => {
                let owned = owners.contains(&seen.service.id.to_string());
                seen.kept.state.owned = Some((owned, now));
                Ok(owned)
            }
            (Err(_), None, Some((owned, at))) if now - at < OWNER_KNOWN => Ok(owned),
            (Err(error), None, _) => Err(error.clone()),
        };
    }
}

/// Whether there is anything for CloudWatch to tell of: it charges for each metric.
fn needs_metrics(seen: &Seen, now: DateTime<Utc>) -> bool {
    let Ok(asked) = &seen.asked else { return false };
    let is_current = seen.kept.state.metered_at.is_some_and(|at| now - at < CURRENT);
    let is_idle = matches!(&seen.queue, Some(Ok(queue)) if queue.visible + queue.in_flight <= 0.0)
        && seen.service.desired <= asked.goal.min
        && !seen.kept.state.scaling.has_arrivals();
    !is_current && !is_idle
}

/// Name and statistic of SQS's metrics. See
/// [available metrics](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html).
const METRICS: [(&str, &str); 5] = [
    ("NumberOfMessagesSent", "Sum"),
    ("NumberOfMessagesDeleted", "Sum"),
    ("ApproximateNumberOfMessagesVisible", "Maximum"),
    ("ApproximateNumberOfMessagesNotVisible", "Maximum"),
    ("ApproximateAgeOfOldestMessage", "Maximum"),
];

fn metrics_of(seen: &Seen) -> Vec<AskedMetric> {
    let Ok(asked) = &seen.asked else { return Vec::new() };
    METRICS
        .iter()
        .map(|(metric, statistic)| AskedMetric {
            namespace: "AWS/SQS",
            metric,
            dimensions: vec![(QUEUE_NAME, asked.queue.clone())],
            statistic,
        })
        .collect()
}

/// The minutes of a queue from those of its metrics, oldest first.
fn minutes(of_queue: &[Minutes]) -> Vec<Minute> {
    let ends: BTreeSet<DateTime<Utc>> = of_queue.iter().flat_map(|of| of.keys().copied()).collect();
    let value = |at: usize, end: &DateTime<Utc>| of_queue.get(at).and_then(|of_metric| of_metric.get(end).copied());
    let minute = |end: &DateTime<Utc>| Minute {
        end: *end,
        sent: value(0, end),
        deleted: value(1, end),
        visible: value(2, end),
        in_flight: value(3, end),
        age: value(4, end),
    };
    ends.iter().map(minute).collect()
}
