//! The rows that are the store's own; grants and rules are kept as the model has them.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::identity::PublicKey;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, CapabilityId, PendingId, SessionId, SourceId};
use plexus_shared::model::trust::{Provenance, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use plexus_shared::secret::CredentialHash;
use serde::{Deserialize, Serialize};

/// An agent the owner connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Its name.
    pub id: AgentId,
    /// What it is: `claude-code`, `generic`, …
    pub kind: AgentKind,
    /// The owner's word for it.
    pub label: Option<String>,
    /// When it was connected.
    pub issued_at: Timestamp,
    /// Its unredeemed code, and when that ends.
    pub code: Option<(CredentialHash, Timestamp)>,
    /// Its durable credential.
    pub pat: Option<CredentialHash>,
    /// When the credential was redeemed.
    pub redeemed_at: Option<Timestamp>,
}

/// The kinds of agent a connection can be made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AgentKind {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Cursor.
    Cursor,
    /// VS Code.
    Vscode,
    /// Gemini.
    Gemini,
    /// Anything that speaks HTTP.
    #[default]
    Generic,
}

/// One capability asked for in a pending item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// On what.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// Its definition when it was asked for: approving means this, and nothing it became since.
    pub digest: String,
    /// The window the agent proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<TrustWindow>,
    /// Why, in the agent's words. Decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Why it waits, in the gateway's words.
    pub reason: String,
}

/// How far a pending item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingState {
    /// Waits for the owner.
    Pending,
    /// The owner said yes.
    Approved,
    /// The owner said no.
    Denied,
    /// No one answered in time.
    Expired,
}

/// A question that waits for the owner, or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// Its id.
    pub id: PendingId,
    /// Who asked.
    pub agent: AgentId,
    /// In which session: the only one that may see the answer.
    pub session: SessionId,
    /// How far it has come.
    pub state: PendingState,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it stops waiting.
    pub expires_at: Timestamp,
    /// What was asked.
    pub asks: Vec<Ask>,
}

/// A configured source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRow {
    /// Its name.
    pub id: SourceId,
    /// Its kind.
    pub kind: String,
    /// The owner's word for it.
    pub label: Option<String>,
    /// Whether it is started.
    pub enabled: bool,
    /// Its configuration, in its kind's own shape.
    pub config: serde_json::Value,
}

/// An extension that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionRow {
    /// Its source.
    pub source: SourceId,
    /// Its manifest, as it was taken.
    pub manifest: String,
    /// The class it was taken with.
    pub provenance: Provenance,
    /// When.
    pub installed_at: Timestamp,
}

/// A join ticket that was handed out; only its token's hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// SHA-256 of the one-time token.
    pub token_hash: [u8; 32],
    /// The workload it admits.
    pub workload: WorkloadName,
    /// The class the owner gave it.
    pub class: Provenance,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was used.
    pub consumed_at: Option<Timestamp>,
    /// Patterns that are shown from the start, without the workload's prefix.
    pub expose: Vec<String>,
}

/// A workload that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRow {
    /// Its name.
    pub name: WorkloadName,
    /// Its pinned key.
    pub public_key: PublicKey,
    /// The class the owner gave it.
    pub class: Provenance,
    /// When it joined.
    pub joined_at: Timestamp,
}

/// How far a workload's audit log is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorRow {
    /// The highest contiguous `seq` of the workload's own log that is in ours.
    pub origin_seq: u64,
    /// Our own `seq` up to which that is known.
    pub log_seq: u64,
}
