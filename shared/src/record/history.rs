//! What the table knows of a service beside its records, and all of it together.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Guard, Origin, Record, Remedy, State, millis};
use crate::ecs::Service;
use crate::image::short_digest;
use crate::provenance::Provenance;

/// What a service's own item holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceItem {
    /// Fencing number: each decision that is written raises it, and a write under an older one is refused.
    pub generation: u64,
    /// Id of the record of the newest intention, or of the deployment by others that came after it. Empty before the
    /// first.
    #[serde(default)]
    pub record: String,
    /// Digest of that record; empty where nothing came of it, so that the service does not pass for one that runs it.
    #[serde(default)]
    pub digest: String,
    /// ECS's id of the deployment that was PRIMARY when the item was last written: the sweep knows by it whether
    /// anything has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_deployment_id: Option<String>,
    /// Until when the handler that wrote the intention has it to itself, in milliseconds since 1970; 0 once ECS has
    /// accepted the deployment. It expires by itself: nothing holds a lock.
    #[serde(default)]
    pub lease_until: u64,
    /// `watch` while the service has a deployment that is not proven: the index by which the rollback function's sweep
    /// finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
}

/// The only value of the hash key of the index of services that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// It is watched.
    Watch,
}

impl ServiceItem {
    /// Whether another handler is at work on the newest intention.
    #[must_use]
    pub fn is_leased(&self, now: DateTime<Utc>) -> bool {
        millis(now) < self.lease_until
    }
}

/// What runs on a service from one repository: its last deployment that completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Id of its record.
    pub record: String,
    /// What people call the environment.
    pub environment: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// Repository of the image.
    pub repository: String,
    /// Tag the image was selected by.
    pub tag: String,
    /// Digest of the image; empty where somebody else has deployed a tag.
    pub digest: String,
    /// ARN of the task definition revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// What the image says of where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

impl Live {
    /// What `record`, which has succeeded, has brought.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            record: record.id.clone(),
            environment: record.environment().to_owned(),
            cluster: record.cluster.clone(),
            service: record.service.clone(),
            repository: record.repository.clone(),
            tag: record.tag.clone(),
            digest: record.digest.clone(),
            task_definition: record.revision_to.clone(),
            provenance: record.provenance.clone(),
            since: record.live_at,
        }
    }
}

/// What the table knows of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The service's item; `None` before the first intention.
    pub item: Option<ServiceItem>,
    /// Its latest records, newest first.
    pub records: Vec<Record>,
    /// What runs on it, for each repository.
    pub live: Vec<Live>,
    /// What keeps deployments from it.
    pub guard: Guard,
}

impl History {
    /// The record of the newest intention.
    #[must_use]
    pub fn current(&self) -> Option<&Record> {
        self.record(&self.item.as_ref()?.record)
    }

    /// A record by its id.
    #[must_use]
    pub fn record(&self, id: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.id == id)
    }

    /// The record of ECS's deployment with this id.
    #[must_use]
    pub fn of_deployment(&self, ecs_deployment_id: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.ecs_deployment_id.as_deref() == Some(ecs_deployment_id))
    }

    /// The service's item under its next generation, with nobody at work on it; `service` is what was seen of it.
    #[must_use]
    pub fn next_item(&self, service: &Service) -> ServiceItem {
        let primary = service.primary().map(|primary| primary.id.clone());
        let next = self.next_item_unseen();
        ServiceItem { ecs_deployment_id: primary.or(next.ecs_deployment_id), ..next }
    }

    /// The same, where the service was not looked at.
    #[must_use]
    pub fn next_item_unseen(&self) -> ServiceItem {
        let old = self.item.clone().unwrap_or_default();
        ServiceItem { generation: old.generation + 1, lease_until: 0, ..old }
    }

    /// The newest intention, where no handler has brought it to an end yet. A good release that is being brought back is
    /// none: that is the rollback function's to see to.
    #[must_use]
    pub fn left_by_deploy(&self) -> Option<&Record> {
        self.current().filter(|left| left.state == State::Intended && left.origin != Origin::Rollback)
    }

    /// What an intention that never reached ECS, or whose answer was lost, becomes when `newer` takes its place.
    #[must_use]
    pub fn left_behind(&self, newer: &Record) -> Option<Record> {
        let left = self.current().filter(|left| left.id != newer.id && left.state == State::Intended)?;
        let reason = format!("a newer deployment took its place: {}", short_digest(&newer.digest));
        left.advanced(State::Superseded, reason, newer.detected_at)
    }

    /// Whether another release takes the place of `bad`, or is about to: what becomes of `bad` is then known already.
    #[must_use]
    pub fn is_taking_back(&self, bad: &Record) -> bool {
        let attempt = self.recovery_of(bad);
        attempt.is_some_and(|attempt| attempt.state.is_open() || attempt.state == State::Succeeded)
    }

    /// The record of the deployment by which a good release comes back in the place of `bad`, where there is one.
    #[must_use]
    pub fn recovery_of(&self, bad: &Record) -> Option<&Record> {
        let recovery = bad.recovery.as_ref().filter(|recovery| recovery.remedy == Remedy::Deploy)?;
        self.record(recovery.record.as_ref()?)
    }

    /// The record of the bad deployment that `recovery` takes back.
    #[must_use]
    pub fn recovered_by(&self, recovery: &Record) -> Option<&Record> {
        self.record(recovery.recovers.as_ref()?)
    }

    /// The latest deployment of `digest`, whatever became of it.
    #[must_use]
    pub fn latest_of(&self, digest: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.digest == digest && record.state != State::Skipped)
    }

    /// Whether ECS's deployment with this id is known, as one of ours or as one that was recorded.
    #[must_use]
    pub fn knows(&self, ecs_deployment_id: &str) -> bool {
        let of_item = self.item.as_ref().and_then(|item| item.ecs_deployment_id.as_deref());
        let of_records = self.records.iter().filter_map(|record| record.ecs_deployment_id.as_deref());
        of_records.chain(of_item).any(|known| known == ecs_deployment_id)
    }

    /// ARN of the revision that our last deployment which stayed has brought.
    #[must_use]
    pub fn our_last_revision(&self) -> Option<&str> {
        let is_ours = |record: &&Record| record.origin != Origin::External && record.has_stayed();
        self.records.iter().find(is_ours)?.revision_to.as_deref()
    }

    /// What runs from a repository, as far as it was written down.
    #[must_use]
    pub fn live_from(&self, repository: &str) -> Option<&Live> {
        self.live.iter().find(|live| live.repository == repository)
    }

    /// Whether another handler is at work on the service.
    #[must_use]
    pub fn is_leased(&self, now: DateTime<Utc>) -> bool {
        self.item.as_ref().is_some_and(|item| item.is_leased(now))
    }

    /// The generation to build on; 0 before the first intention.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.item.as_ref().map_or(0, |item| item.generation)
    }
}
