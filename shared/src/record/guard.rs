//! What keeps deployments from a service.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Record;

/// What keeps deployments from a service: beside the service's item, because it is written by others than those who
/// deploy. An intention is refused while its digest is in here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// Counts its changes.
    pub version: u64,
    /// Digests that must not be deployed here again, with why.
    #[serde(default)]
    pub quarantine: BTreeMap<String, Quarantined>,
    /// Why Tidegate has stopped deploying here by itself, until a person has seen to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// Most digests that a service keeps in quarantine. An item has room for more, but it is read with every event.
const QUARANTINE_MAX: usize = 100;

impl Guard {
    /// With the digest of `bad`, which has failed or was taken back, in quarantine. What has no digest can't be.
    #[must_use]
    pub fn with(&self, bad: &Record, now: DateTime<Utc>) -> Self {
        let mut next = self.next();
        if !bad.digest.is_empty() {
            // What was found out says more than ECS's words.
            let found = bad.diagnosis.as_ref().map(|diagnosis| &diagnosis.summary).filter(|found| !found.is_empty());
            let reason = found.unwrap_or(&bad.reason).clone();
            let entry = Quarantined { record: bad.id.clone(), reason, since: now };
            next.quarantine.insert(bad.digest.clone(), entry);
        }
        while next.quarantine.len() > QUARANTINE_MAX {
            let oldest = next.quarantine.iter().min_by_key(|(_, entry)| entry.since).map(|(digest, _)| digest.clone());
            oldest.and_then(|oldest| next.quarantine.remove(&oldest));
        }
        next
    }

    /// Without `digest` in quarantine, and without a hold.
    #[must_use]
    pub fn without(&self, digest: &str) -> Self {
        let mut next = Self { held: None, ..self.next() };
        next.quarantine.remove(digest);
        next
    }

    /// With a hold.
    #[must_use]
    pub fn holding(&self, reason: impl Into<String>, now: DateTime<Utc>) -> Self {
        Self { held: Some(Held { reason: reason.into(), since: now }), ..self.next() }
    }

    /// The same, in its next version.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

/// Why a digest must not be deployed to a service again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Id of the record of the deployment that went bad.
    pub record: String,
    /// Why it did.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Why Tidegate has stopped deploying to a service by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}
