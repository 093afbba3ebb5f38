//! What was done about a deployment that has turned out bad.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What was done about a deployment that has turned out bad. Exactly one of these for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// ECS was told to stop the deployment and go back.
    Stop,
    /// A good release was deployed again.
    Deploy,
    /// Nothing: the service was left as it is, for a person to see to.
    Hold,
}

/// What was done about a deployment that has turned out bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// What was done.
    pub remedy: Remedy,
    /// What was wrong, for people.
    pub why: String,
    /// The CloudWatch alarms that told so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Where to, or why nowhere, for people.
    pub reason: String,
    /// What people call the good release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Newer releases that are not good enough, each with why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
    /// Whether nothing more is deployed until a person releases the service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_deployments: bool,
    /// Who asked for it, where it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Id of the event by which they asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_id: String,
    /// Id of the record of the good release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Id of the record of the deployment that brings it back, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// When it was decided.
    pub at: DateTime<Utc>,
}
