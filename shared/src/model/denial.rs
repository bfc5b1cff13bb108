//! The closed set of refusals. Every "no" an agent can hear is one of these.

use serde::Serialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ids::PendingId;

/// Why a request was refused: the contract's closed error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Refresh the token, then retry.
    TokenExpired,
    /// The token was revoked, or is not one of ours: ask again.
    TokenRevoked,
    /// No grant covers the call.
    GrantRequired,
    /// The owner was asked about this very call.
    ApprovalRequired,
    /// The owner was asked.
    GrantPendingUser,
    /// Handshake again.
    SessionExpired,
    /// The Host or Origin is not ours.
    HostForbidden,
    /// No such id.
    UnknownCapability,
    /// The owner hides it now.
    CapabilityUnexposed,
    /// The input, or the request, has not the asked shape.
    SchemaValidationFailed,
    /// Too much, too fast.
    RateLimited,
    /// A local source is down.
    SourceUnavailable,
    /// The capability's home is down.
    CapabilityUnavailable,
    /// The MCP server itself answered with an error.
    McpToolError,
    /// The dispatch failed.
    TransportError,
    /// A fault of the gateway.
    InternalError,
}

impl Code {
    /// The code as the wire shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::GrantRequired => "grant_required",
            Self::ApprovalRequired => "approval_required",
            Self::GrantPendingUser => "grant_pending_user",
            Self::SessionExpired => "session_expired",
            Self::HostForbidden => "host_forbidden",
            Self::UnknownCapability => "unknown_capability",
            Self::CapabilityUnexposed => "capability_unexposed",
            Self::SchemaValidationFailed => "schema_validation_failed",
            Self::RateLimited => "rate_limited",
            Self::SourceUnavailable => "source_unavailable",
            Self::CapabilityUnavailable => "capability_unavailable",
            Self::McpToolError => "mcp_tool_error",
            Self::TransportError => "transport_error",
            Self::InternalError => "internal_error",
        }
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        const ALL: [Code; 16] = [
            Code::TokenExpired,
            Code::TokenRevoked,
            Code::GrantRequired,
            Code::ApprovalRequired,
            Code::GrantPendingUser,
            Code::SessionExpired,
            Code::HostForbidden,
            Code::UnknownCapability,
            Code::CapabilityUnexposed,
            Code::SchemaValidationFailed,
            Code::RateLimited,
            Code::SourceUnavailable,
            Code::CapabilityUnavailable,
            Code::McpToolError,
            Code::TransportError,
            Code::InternalError,
        ];
        ALL.into_iter().find(|code| code.as_str() == text).ok_or(())
    }
}

/// A refusal: the code that tells an agent what to do next, and words for whoever reads it.
///
/// On the wire this is the contract's `ErrorBody`. The message names the next sanctioned step; it
/// never carries a host path, a secret or another agent's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// What to do next.
    pub code: Code,
    /// In words.
    pub message: String,
    /// The capability in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability_id: Option<Box<str>>,
    /// More, in a form of the code's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<Value>>,
    /// The question that now waits for the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_id: Option<PendingId>,
    /// Since when the home is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable_since: Option<Timestamp>,
    /// Where to go next; filled by the HTTP edge, which knows the URLs.
    #[serde(flatten)]
    pub links: Option<Box<Links>>,
}

/// The URLs a refusal points to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    /// Where the owner answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_url: Option<String>,
    /// Where the agent polls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_status_url: Option<String>,
    /// Where the agent asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_request_url: Option<String>,
    /// The header that carries the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_header: Option<String>,
}

impl Denial {
    /// A refusal with `code`, in words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            capability_id: None,
            detail: None,
            pending_id: None,
            unavailable_since: None,
            links: None,
        }
    }

    /// About capability `id`.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> Self {
        self.capability_id = Some(id.into().into_boxed_str());
        self
    }

    /// With `detail`.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// Down since `at`.
    #[must_use]
    pub fn since(mut self, at: Timestamp) -> Self {
        self.unavailable_since = Some(at);
        self
    }

    /// A fault of the gateway's own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::InternalError, message)
    }
}
