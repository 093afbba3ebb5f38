//! The two sides of a rollback: the deployment that was bad, and the one that brings a good release back. What the
//! message of each has to say of the other is kept with it, so that a message is made from one record alone.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::State;

/// What is known of the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it stands.
    pub state: State,
    /// Why it is in this state, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it went live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_at: Option<DateTime<Utc>>,
    /// Id of the Slack channel that its message is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_channel: Option<String>,
    /// Slack's id of its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_ts: Option<String>,
}
