//! Where an image comes from: the commit it was built of, as the image itself says.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What an image says of its origin. See the
/// [annotations](https://github.com/opencontainers/image-spec/blob/main/annotations.md) that OCI defines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// The commit (`org.opencontainers.image.revision`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Web address of the source repository, always https (`org.opencontainers.image.source`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The version (`org.opencontainers.image.version`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When the image was built (`org.opencontainers.image.created`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// When the commit was made (`tidegate.committed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<DateTime<Utc>>,
}
