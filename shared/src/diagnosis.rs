//! Why a deployment has failed, as far as ECS and the tasks' logs tell.

use serde::{Deserialize, Serialize};

/// What was found out about a failure, in words for people. Names, codes and masked log lines; no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The most telling finding, in one sentence.
    pub summary: String,
    /// Everything that was found, a line each, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// CloudWatch alarms that went off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// The last lines of the log of a container that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTail>,
}

/// The end of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogTail {
    /// The container.
    pub container: String,
    /// The CloudWatch log group.
    pub group: String,
    /// The log stream in it.
    pub stream: String,
    /// The lines, oldest first, with secrets masked.
    pub lines: Vec<String>,
}
