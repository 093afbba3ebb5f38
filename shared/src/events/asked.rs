//! What people ask of Tidegate.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::ServiceRef;
use crate::error::Error;

/// A person wants a service to go back to an earlier release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackAsked {
    /// The event's id: a repetition of the request is known by it.
    pub event_id: String,
    /// When it was asked: what was deployed since is not meant.
    pub time: Option<DateTime<Utc>>,
    /// The service; nobody has told its ARN.
    pub service: ServiceRef,
    /// What to go back to: the id of a record, a digest, a tag or a revision. Without it, the last good release.
    pub to: Option<String>,
    /// What to take back, as the id of its record or ECS's id of the deployment. Without it, what runs now.
    pub undoes: Option<String>,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub actor: String,
}

/// A person lets a service be deployed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseAsked {
    /// The service; nobody has told its ARN.
    pub service: ServiceRef,
    /// The digest that may be deployed again. Without it, only the service is.
    pub digest: Option<String>,
    /// Who asks.
    pub actor: String,
}

#[derive(Deserialize)]
struct Detail {
    service: Option<String>,
    to: Option<String>,
    undoes: Option<String>,
    digest: Option<String>,
    reason: Option<String>,
    actor: Option<String>,
}

pub(super) fn rollback(id: &str, time: Option<DateTime<Utc>>, detail: &Value) -> Result<RollbackAsked, Error> {
    let (service, detail) = read("Rollback", detail)?;
    Ok(RollbackAsked {
        event_id: id.to_owned(),
        time,
        service,
        to: given(detail.to),
        undoes: given(detail.undoes),
        reason: given(detail.reason).unwrap_or_default(),
        actor: given(detail.actor).unwrap_or_default(),
    })
}

pub(super) fn release(detail: &Value) -> Result<ReleaseAsked, Error> {
    let (service, detail) = read("Release", detail)?;
    Ok(ReleaseAsked { service, digest: given(detail.digest), actor: given(detail.actor).unwrap_or_default() })
}

fn read(what: &str, detail: &Value) -> Result<(ServiceRef, Detail), Error> {
    let detail = Detail::deserialize(detail).map_err(|error| Error::Input(format!("the {what} event: {error}")))?;
    let named = detail.service.as_deref().and_then(|service| service.trim().split_once('/'));
    let named = named.filter(|(cluster, name)| !cluster.is_empty() && !name.is_empty() && !name.contains('/'));
    let service = named.map(|(cluster, service)| ServiceRef {
        cluster: cluster.to_owned(),
        service: service.to_owned(),
        arn: String::new(),
    });
    let service = service.ok_or_else(|| {
        Error::Input(format!(
            "the {what} event names no service: put `\"service\": \"<cluster>/<service>\"` in its detail"
        ))
    })?;
    Ok((service, detail))
}

fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
