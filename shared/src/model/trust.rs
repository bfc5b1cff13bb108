//! The words of the trust model: class, sensitivity, window, grant.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::constraint::Constraint;
use super::verb::VerbSet;
use crate::clock::Timestamp;
use crate::ids::{AgentId, BundleId, CapabilityId};

/// Where a capability came from. Only the gateway says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// Built in.
    FirstParty,
    /// Added by the owner.
    Managed,
    /// Asserted by someone else: an agent, or a workload the owner has not vouched for.
    Extension,
}

/// How risky a capability is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Reads something the owner vouched for.
    Low,
    /// Changes something, or reads from someone else.
    Elevated,
    /// Changes something through someone else, or through a process or service.
    High,
}

/// How long an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum TrustWindow {
    /// One use.
    #[serde(rename = "once")]
    Once,
    /// One hour.
    #[serde(rename = "1h")]
    Hour,
    /// One day.
    #[serde(rename = "1d")]
    Day,
    /// Seven days.
    #[serde(rename = "7d")]
    Week,
    /// Until the owner revokes it. Never a default.
    #[serde(rename = "until-revoked")]
    UntilRevoked,
    /// So many milliseconds; capped by the gateway.
    #[serde(rename = "custom")]
    Custom {
        /// Length in milliseconds.
        ms: u64,
    },
}

impl TrustWindow {
    /// How long it stands; `None` for one that only a revoke ends.
    pub const fn length(self) -> Option<Duration> {
        match self {
            Self::Once => Some(Duration::ZERO),
            Self::Hour => Some(Duration::from_secs(3600)),
            Self::Day => Some(Duration::from_secs(86_400)),
            Self::Week => Some(Duration::from_secs(7 * 86_400)),
            Self::Custom { ms } => Some(Duration::from_millis(ms)),
            Self::UntilRevoked => None,
        }
    }

    /// The shorter of two windows.
    #[must_use]
    pub fn shorter(self, other: TrustWindow) -> TrustWindow {
        match (self.length(), other.length()) {
            (Some(mine), Some(theirs)) if mine <= theirs => self,
            (Some(_), None) => self,
            _ => other,
        }
    }

    /// When an approval given at `now` ends. `UntilRevoked` is a date no one will see.
    pub fn expiry(self, now: Timestamp) -> Timestamp {
        const FAR: Timestamp = Timestamp::from_millis(253_370_764_800_000); // 9999-01-01
        self.length().map_or(FAR, |length| now.plus(length))
    }
}

impl fmt::Display for TrustWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::Hour => f.write_str("1h"),
            Self::Day => f.write_str("1d"),
            Self::Week => f.write_str("7d"),
            Self::UntilRevoked => f.write_str("until-revoked"),
            Self::Custom { ms } => match ms {
                ms if ms % 86_400_000 == 0 => write!(f, "{}d", ms / 86_400_000),
                ms if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
                ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
                ms => write!(f, "{}s", ms.div_ceil(1000)),
            },
        }
    }
}

/// A text that names no trust window.
#[derive(Debug, thiserror::Error)]
#[error("a trust window is once, until-revoked, or a length such as 30m, 1h, 1d, 7d")]
pub struct InvalidWindow;

impl FromStr for TrustWindow {
    type Err = InvalidWindow;
    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        match text {
            "once" => return Ok(Self::Once),
            "1h" => return Ok(Self::Hour),
            "1d" => return Ok(Self::Day),
            "7d" => return Ok(Self::Week),
            "until-revoked" => return Ok(Self::UntilRevoked),
            _ => {}
        }
        let (digits, unit) =
            text.split_at_checked(text.len().saturating_sub(1)).ok_or(InvalidWindow)?;
        let unit = match unit {
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(InvalidWindow),
        };
        let count: u64 = digits.parse().map_err(|_| InvalidWindow)?;
        match count.checked_mul(unit) {
            Some(ms) if ms > 0 => Ok(Self::Custom { ms }),
            _ => Err(InvalidWindow),
        }
    }
}

/// What an approval came to when it was given: for a workflow, with all its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The verbs, its members' too.
    pub verbs: VerbSet,
    /// The class, a member's where that is less trusted.
    pub class: Provenance,
    /// Its members, those of its members included; none for another kind of entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<CapabilityId>,
}

/// What an agent holds by the owner's word: this capability, with these verbs, until then.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Whose.
    pub agent: AgentId,
    /// On what.
    pub capability: CapabilityId,
    /// With which verbs: exactly those approved.
    pub verbs: VerbSet,
    /// For which inputs; all when absent.
    pub constraint: Option<Constraint>,
    /// The task bundle it came with.
    pub bundle: Option<BundleId>,
    /// When it was given.
    pub granted_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The window it was given for.
    pub window: TrustWindow,
    /// What it came to then; not known of one that was given before that was kept.
    pub extent: Option<Extent>,
}

impl Grant {
    /// Whether it is on an id that begins with `prefix`, or reaches one through a workflow.
    pub fn reaches(&self, prefix: &str) -> bool {
        let members = self.extent.iter().flat_map(|extent| &extent.members);
        std::iter::once(&self.capability).chain(members).any(|id| id.as_str().starts_with(prefix))
    }
}

/// A grant as the ledger shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StandingGrant {
    /// Whose.
    pub agent_id: AgentId,
    /// On what.
    pub capability_id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// The capability's class now.
    pub provenance: Provenance,
    /// The capability's sensitivity for these verbs.
    pub sensitivity: Sensitivity,
    /// When it was given.
    pub granted_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The window it was given for.
    pub trust_window: TrustWindow,
    /// False for a single use.
    pub standing: bool,
    /// For which inputs; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// The task bundle it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<BundleId>,
    /// Present and true when the owner hides the capability now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub top_level_disabled: bool,
}
