//! The closed set of refusals. Every "no" an agent can hear is one of these.

use serde::Serialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ids::PendingId;

/// The codes, each with how the wire shows it.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Why a request was refused: the contract's closed error codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as the wire shows it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// Refresh the token, then retry.
    TokenExpired "token_expired",
    /// The token was revoked, or is not one of ours: ask again.
    TokenRevoked "token_revoked",
    /// No grant covers the call.
    GrantRequired "grant_required",
    /// The owner was asked about this very call.
    ApprovalRequired "approval_required",
    /// The owner was asked.
    GrantPendingUser "grant_pending_user",
    /// Handshake again.
    SessionExpired "session_expired",
    /// The Host or Origin is not ours.
    HostForbidden "host_forbidden",
    /// No such id.
    UnknownCapability "unknown_capability",
    /// The owner hides it now.
    CapabilityUnexposed "capability_unexposed",
    /// The input, or the request, has not the asked shape.
    SchemaValidationFailed "schema_validation_failed",
    /// Too much, too fast.
    RateLimited "rate_limited",
    /// A local source is down.
    SourceUnavailable "source_unavailable",
    /// The capability's home is down.
    CapabilityUnavailable "capability_unavailable",
    /// The MCP server itself answered with an error.
    McpToolError "mcp_tool_error",
    /// The dispatch failed.
    TransportError "transport_error",
    /// A fault of the gateway.
    InternalError "internal_error",
}

impl Code {
    /// Whether it is told of what was refused before anything was tried. The others may come after
    /// something was done.
    pub const fn refuses(self) -> bool {
        !matches!(self, Self::McpToolError | Self::TransportError | Self::InternalError)
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
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
