//! One call on its own stream: the primary writes [`Invoke`], the proxy answers [`InvokeResult`].
//!
//! Resetting the stream cancels the call at its home. Nothing is ever sent again by itself.

use serde::{Deserialize, Serialize};

use crate::{
    address::{Address, BareId},
    bounded::Text,
    frame::{FrameKind, Message},
    json::Json,
    limits,
};

/// An identifier that the primary or the agent chose.
pub type CallId = Text<{ limits::CALL_ID }>;

/// A call the primary has authorized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoke {
    /// What the grant and the audit trail are bound to.
    pub address: Address,
    /// The same capability by the proxy's own name for it.
    pub id: BareId,
    /// The input as the agent wrote it.
    pub input: Option<Json>,
    /// Joins the audit rows of both ends.
    pub correlation_id: CallId,
    /// The agent's key for a call that must not run twice.
    pub idempotency_key: Option<CallId>,
    /// Time left for the call, in milliseconds.
    pub deadline_ms: u32,
    /// The agent on whose behalf it is.
    pub agent_id: CallId,
}

impl Message for Invoke {
    const KIND: FrameKind = FrameKind::Invoke;
}

/// The whole answer to a call: success, error and denial alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvokeResult {
    /// The `InvokeResponse` document.
    pub response: Json,
}

impl Message for InvokeResult {
    const KIND: FrameKind = FrameKind::InvokeResult;
}
