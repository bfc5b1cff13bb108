//! What a line of the log says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ids::{AgentId, CorrelationId, EventId, SessionId, TokenId};
use crate::model::plain;
use crate::model::verb::VerbSet;

/// A name that is no event type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event type")]
pub struct UnknownEventType(String);

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What happened: a closed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EventType {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl EventType {
            /// Every type.
            pub const ALL: &[EventType] = &[$(Self::$variant,)*];

            /// The type as the log and the owner see it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

event_types! {
    /// An agent opened a session.
    Handshake = "handshake",
    /// The owner made, or an agent redeemed, an enrollment code.
    AgentEnroll = "agent.enroll",
    /// An agent's credential was made or used to connect.
    AgentConnect = "agent.connect",
    /// The owner took an agent's credential back.
    AgentRevoke = "agent.revoke",
    /// A question waits for the owner.
    GrantPending = "grant.pending",
    /// A grant was given.
    GrantAllow = "grant.allow",
    /// A grant was refused.
    GrantDeny = "grant.deny",
    /// A grant was taken back.
    GrantRevoke = "grant.revoke",
    /// A scoped token was minted.
    TokenIssue = "token.issue",
    /// A scoped token was renewed.
    TokenRefresh = "token.refresh",
    /// A scoped token was taken back.
    TokenRevoke = "token.revoke",
    /// A capability was called.
    Invoke = "invoke",
    /// A source was added or removed.
    SourceInstall = "source.install",
    /// A source's entries or settings changed.
    SourceChange = "source.change",
    /// The owner showed or hid something.
    ExposureSet = "exposure.set",
    /// A join ticket was made.
    MeshInvite = "mesh.invite",
    /// A workload joined.
    MeshEnroll = "mesh.enroll",
    /// A workload was cut off.
    MeshRevoke = "mesh.revoke",
    /// A tunnel came up.
    MeshConnect = "mesh.connect",
    /// A tunnel went down.
    MeshDisconnect = "mesh.disconnect",
    /// A credential was not accepted.
    AuthFailed = "auth.failed",
    /// A setting of the node changed.
    SettingsChange = "settings.change",
    /// A key of the node was replaced.
    KeyRotate = "key.rotate",
    /// The log itself: its head, signed.
    Checkpoint = "audit.checkpoint",
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = UnknownEventType;
    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let known = Self::ALL.iter().find(|known| known.as_str() == text);
        known.copied().ok_or_else(|| UnknownEventType(text.chars().take(64).collect()))
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordOutcome {
    /// It was done.
    Ok,
    /// It was tried and failed, or its outcome is unknown.
    Error,
    /// It was refused before anything was tried.
    Denied,
}

impl RecordOutcome {
    /// The outcome as the log and the owner see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Denied => "denied",
        }
    }
}

/// Which kind of node it happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The owner's own machine.
    Primary,
    /// A machine beside a service.
    Proxy,
}

impl Tier {
    /// The tier as the log and the owner see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Proxy => "proxy",
        }
    }
}

/// On whose behalf, and by which decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribution {
    /// The agent.
    pub agent: AgentId,
    /// Whom the agent acted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The grant that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_ref: Option<String>,
    /// The policy that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<String>,
}

/// Where a mirrored line stands in the log it was mirrored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its id there.
    pub id: EventId,
    /// Its `seq` there.
    pub seq: u64,
    /// Its `hash` there.
    pub hash: String,
}

/// One line of the log, as persisted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// With which token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<TokenId>,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// On what; as asked, so perhaps no capability at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability_id: Option<String>,
    /// With which verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbs: Option<VerbSet>,
    /// How it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RecordOutcome>,
    /// More, in a form of the type's own.
    #[serde(default, deserialize_with = "plain::present", skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// What went in, redacted.
    #[serde(default, deserialize_with = "plain::present", skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What came out, redacted.
    #[serde(default, deserialize_with = "plain::present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// On whose behalf, and by which decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// What joins it with the other rows of the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CorrelationId>,
    /// On which kind of node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// On which workload, when mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Where it stands in that workload's own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Its number: gapless, from 1.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: String,
    /// SHA-256, in hex, of this line in canonical form without this member.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_event_type_has_one_name_everywhere() {
        assert_eq!(EventType::ALL.len(), 24);
        for event_type in EventType::ALL {
            assert_eq!(event_type.as_str().parse::<EventType>().unwrap(), *event_type);
            assert_eq!(serde_json::to_value(event_type).unwrap(), event_type.as_str());
        }
        assert!("invoke2".parse::<EventType>().is_err());
    }
}
