//! What is told, and to whom.
//!
//! Who hears an event is part of publishing it; how much of it they hear is decided here, in one place:
//! a token is written for the session that asked, and for nobody else, the owner included.

use plexus_shared::audit::{self, EventType, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, CapabilityId, EventId, PendingId, SessionId, TokenId};
use plexus_shared::model::health::HealthStatus;
use plexus_shared::model::scope::ScopedToken;
use serde::Serialize;
use serde_json::{Value, json};

use crate::store::rows::PendingState;
use crate::trust::sessions::Session;

/// What moved in the set of shown capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Shown now, not before.
    pub added: Vec<CapabilityId>,
    /// Shown before, not now.
    pub removed: Vec<CapabilityId>,
    /// Shown before and now, and not the same.
    pub updated: Vec<CapabilityId>,
}

/// How an owner's answer, or its loss, ended a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The owner said yes.
    Approved,
    /// The owner said no, or what was asked for has gone.
    Denied,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// What happened to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshChange {
    /// It may join.
    Invited,
    /// It has joined.
    Joined,
    /// It is here.
    Connected,
    /// It is not here any more.
    Disconnected,
    /// What it bears was mounted.
    Mounted,
}

impl MeshChange {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Joined => "joined",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Mounted => "mounted",
        }
    }
}

/// The head of one line of the log; its payloads are read from the log itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    id: EventId,
    seq: u64,
    #[serde(rename = "type")]
    event_type: EventType,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<RecordOutcome>,
}

impl From<audit::Event> for AuditLine {
    fn from(line: audit::Event) -> Self {
        let audit::Event { id, seq, event_type, at, agent_id, capability_id, outcome, .. } = line;
        Self { id, seq, event_type, at, agent_id, capability_id, outcome }
    }
}

/// Something that happened: a closed set.
pub enum Event {
    /// The shown capabilities changed.
    ManifestChanged {
        /// The revision it led to.
        revision: u64,
        /// What moved, when that is known and short enough to say.
        changed: Option<Changed>,
    },
    /// The owner answered a question.
    GrantResolved {
        /// Which.
        pending: PendingId,
        /// How.
        decision: Decision,
        /// What the session that asked may use now. No one else is ever told.
        token: Option<ScopedToken>,
    },
    /// A token was taken back.
    TokenRevoked {
        /// Which.
        jti: TokenId,
        /// Why.
        reason: &'static str,
    },
    /// A source, or a workload, came or went.
    SourceStatus {
        /// Its name, or the address its capabilities begin with.
        source: String,
        /// Whether it can be called.
        available: bool,
        /// Why not.
        reason: Option<String>,
    },
    /// A question waits for the owner.
    PendingAdded {
        /// Which.
        pending: PendingId,
        /// Who asks.
        agent: AgentId,
        /// For what.
        capabilities: Vec<CapabilityId>,
    },
    /// A question waits no more.
    PendingResolved {
        /// Which.
        pending: PendingId,
        /// How it ended.
        state: PendingState,
    },
    /// A line was written to the log.
    AuditAppended(AuditLine),
    /// An agent redeemed its code.
    AgentConnected {
        /// Which.
        agent: AgentId,
    },
    /// Something changed in the mesh.
    MeshChanged {
        /// The workload it changed for.
        workload: String,
        /// What.
        change: MeshChange,
    },
    /// A source, or a workload, is in another state than before.
    HealthChanged {
        /// Its name, or the address its capabilities begin with.
        source: String,
        /// The state.
        status: HealthStatus,
        /// Why, for people.
        detail: Option<String>,
    },
}

impl Event {
    /// Its name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ManifestChanged { .. } => "manifest_changed",
            Self::GrantResolved { .. } => "grant_resolved",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::SourceStatus { .. } => "source_status",
            Self::PendingAdded { .. } => "pending_added",
            Self::PendingResolved { .. } => "pending_resolved",
            Self::AuditAppended(_) => "audit_appended",
            Self::AgentConnected { .. } => "agent_connected",
            Self::MeshChanged { .. } => "mesh_changed",
            Self::HealthChanged { .. } => "health_changed",
        }
    }

    /// What `viewer` is told of it.
    pub(super) fn told(&self, viewer: &Viewer) -> Value {
        match self {
            Self::ManifestChanged { revision, changed: None } => json!({ "revision": revision }),
            Self::ManifestChanged {
                revision,
                changed: Some(Changed { added, removed, updated }),
            } => {
                json!({
                    "revision": revision,
                    "changed": {"added": added, "removed": removed, "updated": updated},
                })
            }
            Self::GrantResolved { pending, decision, token } => {
                let mut data = json!({"pendingId": pending, "decision": decision.as_str()});
                if let (Some(token), Viewer::Session(_)) = (token, viewer) {
                    data["token"] = json!(token);
                }
                data
            }
            Self::TokenRevoked { jti, reason } => json!({"jti": jti, "reason": reason}),
            Self::SourceStatus { source, available, reason } => {
                with(json!({"source": source, "available": available}), "reason", reason.as_deref())
            }
            Self::PendingAdded { pending, agent, capabilities } => {
                json!({"pendingId": pending, "agentId": agent, "capabilities": capabilities})
            }
            Self::PendingResolved { pending, state } => {
                json!({"pendingId": pending, "state": state})
            }
            Self::AuditAppended(line) => json!(line),
            Self::AgentConnected { agent } => json!({ "agentId": agent }),
            Self::MeshChanged { workload, change } => {
                json!({"workload": workload, "change": change.as_str()})
            }
            Self::HealthChanged { source, status, detail } => {
                with(json!({"source": source, "status": status}), "detail", detail.as_deref())
            }
        }
    }

    /// Whether it is of the kind that comes in floods and is kept apart from the rest.
    pub(super) const fn floods(&self) -> bool {
        matches!(self, Self::AuditAppended(_))
    }
}

fn with(mut data: Value, name: &str, text: Option<&str>) -> Value {
    if let Some(text) = text {
        data[name] = json!(text);
    }
    data
}

/// Who hears an event. The owner hears everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every session.
    All,
    /// This session: the one that asked, or the one that holds the token.
    Session(SessionId),
    /// The owner alone.
    Owner,
}

/// Who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// An agent, as long as its session lives.
    Session(Session),
    /// The owner, as long as the key it was shown by is in force.
    Owner(KeyAge),
}

/// How often the owner's key had been rotated when something was opened by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAge(u64);

impl KeyAge {
    /// Of the key of the start.
    pub(super) const FIRST: Self = Self(0);

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Viewer {
    pub(super) fn hears(&self, audience: &Audience) -> bool {
        match (self, audience) {
            (Self::Owner(_), _) | (Self::Session(_), Audience::All) => true,
            (Self::Session(own), Audience::Session(meant)) => own.id == *meant,
            (Self::Session(_), Audience::Owner) => false,
        }
    }
}
