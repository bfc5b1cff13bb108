//! What a token may do.

use serde::{Deserialize, Serialize};

use super::constraint::Constraint;
use super::trust::TrustWindow;
use super::verb::VerbSet;
use crate::clock::Timestamp;
use crate::ids::{CapabilityId, TokenId};

/// One line of a token's authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenScope {
    /// On what.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// The workflow whose run alone may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthesized_for: Option<CapabilityId>,
    /// What the input must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
}

/// What granting a workflow lets its run do.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transitive {
    /// The workflow.
    pub workflow_id: CapabilityId,
    /// Its members, with the most it may do there.
    pub member_scopes: Vec<MemberScope>,
}

/// What a workflow's run may do on one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberScope {
    /// The member.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
}

/// A minted token as the agent receives it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopedToken {
    /// The compact JWT.
    pub token: String,
    /// Its id.
    pub jti: TokenId,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// What it may do.
    pub scopes: Vec<TokenScope>,
    /// What each workflow's run may do through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transitive: Vec<Transitive>,
    /// When the first of the grants behind it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_expires_at: Option<Timestamp>,
    /// The shortest window behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_window: Option<TrustWindow>,
}
