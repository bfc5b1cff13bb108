//! The rows that are the store's own; grants and rules are kept as the model has them.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::identity::PublicKey;
use plexus_shared::audit::Head;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{
    AgentId, BundleId, CapabilityId, EventId, PendingId, SessionId, SourceId,
};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::plain;
use plexus_shared::model::trust::{Provenance, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use plexus_shared::secret::CredentialHash;
use plexus_shared::source::extension::{Preview, Problem};
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
    /// Its unredeemed code.
    pub code: Option<CredentialHash>,
    /// When the code it was given last ends, or would have.
    pub code_expires_at: Option<Timestamp>,
    /// Its durable credential.
    pub pat: Option<CredentialHash>,
    /// When the credential was redeemed.
    pub redeemed_at: Option<Timestamp>,
    /// When the owner revoked it.
    pub revoked_at: Option<Timestamp>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// On what.
    pub id: CapabilityId,
    /// With which verbs.
    pub verbs: VerbSet,
    /// For which inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
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

/// The input of a call that waits for the owner's yes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedInput {
    /// The exact payload, for the owner to see.
    #[serde(deserialize_with = "plain::member")]
    pub value: serde_json::Value,
    /// SHA-256 over its canonical form, in hex: what a yes is bound to.
    pub digest: String,
}

impl AskedInput {
    /// Whether it is small enough for the owner to be shown: 1 MiB of JSON.
    pub fn can_be_shown(&self) -> bool {
        self.value.to_string().len() <= 1 << 20
    }
}

/// A task bundle that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedBundle {
    /// Its name, in the agent's words.
    pub name: String,
    /// The context it brings.
    #[serde(default)]
    pub context: Vec<ContextRef>,
}

/// One piece of a bundle's context: a skill that is there, or a text of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ContextRef {
    /// A skill entry.
    Skill {
        /// Which.
        #[serde(rename = "skillId")]
        skill_id: CapabilityId,
        /// Its label.
        #[serde(default)]
        label: Option<String>,
    },
    /// A text.
    Inline {
        /// What it is.
        #[serde(default)]
        label: Option<String>,
        /// The text.
        markdown: String,
    },
}

/// A named group of grants to one agent. It confers nothing beyond its members.
#[derive(Clone, Debug, PartialEq)]
pub struct BundleRow {
    /// Its id.
    pub id: BundleId,
    /// Whose it is.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its context.
    pub context: Vec<ContextRef>,
}

/// A call that was made under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRow {
    /// The agent.
    pub agent: AgentId,
    /// The capability.
    pub capability: String,
    /// The key.
    pub key: String,
    /// SHA-256 over the canonical input.
    pub input: [u8; 32],
    /// When it was made.
    pub at: Timestamp,
    /// The record of what it came to.
    pub audit_id: Option<EventId>,
    /// `started`, `ok`, or the code of its refusal.
    pub outcome: String,
}

/// A question that waits for the owner, or waited.
#[derive(Clone, Debug, PartialEq)]
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
    pub matter: Matter,
}

impl PendingRow {
    /// The grants it asks for.
    pub fn grants(&self) -> Option<&AskedGrants> {
        match &self.matter {
            Matter::Grant(asked) => Some(asked),
            Matter::Register(_) => None,
        }
    }

    /// The source it asks to have registered.
    pub fn registers(&self) -> Option<&SourceId> {
        match &self.matter {
            Matter::Grant(_) => None,
            Matter::Register(asked) => Some(&asked.source),
        }
    }

    /// What it asks for, one by one.
    pub fn asks(&self) -> &[Ask] {
        self.grants().map(|asked| asked.asks.as_slice()).unwrap_or_default()
    }

    /// The capabilities it is about.
    pub fn capabilities(&self) -> Vec<CapabilityId> {
        match &self.matter {
            Matter::Grant(asked) => asked.asks.iter().map(|ask| ask.id.clone()).collect(),
            Matter::Register(asked) => asked.capabilities.clone(),
        }
    }

    /// Whether a plain yes is for one use: of the call that is shown, or by whoever has no name.
    pub fn single(&self) -> bool {
        self.grants().is_some_and(|asked| asked.input.is_some()) || self.agent.is_anonymous()
    }

    /// Answered, or ended: what was only kept to be shown is gone.
    #[must_use]
    pub fn settled(mut self, state: PendingState) -> Self {
        self.state = state;
        if let Matter::Register(asked) = &mut self.matter {
            asked.shown = None;
        }
        self
    }
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Matter {
    /// Grants.
    Grant(AskedGrants),
    /// An extension.
    Register(AskedExtension),
}

impl Matter {
    /// Its word, here and on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Register(_) => "register",
        }
    }

    /// Whether this asks for nothing but what `other` asks for.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Grant(ours), Self::Grant(theirs)) => ours == theirs,
            (Self::Register(ours), Self::Register(theirs)) => {
                (&ours.digest, &ours.replaces) == (&theirs.digest, &theirs.replaces)
            }
            (Self::Grant(_), Self::Register(_)) | (Self::Register(_), Self::Grant(_)) => false,
        }
    }
}

/// Grants that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedGrants {
    /// On what.
    pub asks: Vec<Ask>,
    /// The call it came from; a yes then means this input.
    pub input: Option<AskedInput>,
    /// The task bundle it is for.
    pub bundle: Option<AskedBundle>,
}

/// An extension that an agent wants to have registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedExtension {
    /// Its source.
    pub source: SourceId,
    /// What it would bring.
    pub capabilities: Vec<CapabilityId>,
    /// SHA-256 over the manifest's canonical form, in hex: what a yes is bound to.
    pub digest: String,
    /// The digest of the extension whose place it would take.
    pub replaces: Option<String>,
    /// What the owner is shown; gone once it is answered.
    pub shown: Option<Box<ShownExtension>>,
}

/// What the owner is shown of an extension before saying yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownExtension {
    /// The manifest, as it was sent.
    pub manifest: String,
    /// What it brings and reaches.
    pub preview: Preview,
    /// Whether it reaches something that the one it would replace does not.
    pub widens: bool,
    /// What this machine lacks for it, as it was asked.
    pub problems: Vec<Problem>,
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
    /// The agent that registered it; none where the owner added it.
    pub agent: Option<AgentId>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorRow {
    /// The last line of the workload's own log that is in ours, and all before it. Its hash is empty
    /// when it was kept without one.
    pub origin: Head,
    /// Our own `seq` up to which that is known.
    pub log_seq: u64,
}

impl Default for CursorRow {
    fn default() -> Self {
        Self { origin: Head::genesis(), log_seq: 0 }
    }
}
