//! What a token may do.

use serde::{Deserialize, Serialize};

use super::trust::TrustWindow;
use super::verb::VerbSet;
use crate::clock::Timestamp;
use crate::ids::{CapabilityId, TokenId};

/// One line of a token's authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenScope {
    /// On what.
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
    /// When the first of the grants behind it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_expires_at: Option<Timestamp>,
    /// The shortest window behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_window: Option<TrustWindow>,
}
