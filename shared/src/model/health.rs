//! Health, as a source reports it and an entry shows it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Calls should work.
    Ok,
    /// Reachable but impaired.
    Degraded,
    /// Calls will fail.
    Unavailable,
    /// Not looked at yet.
    Unknown,
}

/// The snapshot an entry carries. Advisory: it never grants or denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The state.
    pub status: HealthStatus,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
}

impl Health {
    /// `status` with no more to say.
    pub const fn of(status: HealthStatus) -> Self {
        Self { status, detail: None, checked_at: None }
    }
}
