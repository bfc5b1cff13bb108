//! The unified self-describe entry: capability, skill and workflow in one shape.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::health::Health;
use super::plain;
use super::trust::{Provenance, Sensitivity, TrustWindow};
use super::verb::VerbSet;
use crate::ids::{CapabilityId, SourceId};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A callable function or data access.
    Capability,
    /// Usage knowledge, read as context.
    Skill,
    /// An orchestration of other entries.
    Workflow,
}

/// How the entry's home reaches the software behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// An HTTP service beside the node.
    LocalRest,
    /// A child process spoken to over its standard streams.
    Stdio,
    /// A local channel; also what a source inside the node itself shows.
    Ipc,
    /// A Model Context Protocol server.
    Mcp,
    /// A named binary, run for the call.
    Cli,
    /// None: the body is context.
    Skill,
    /// None: the members are called.
    Workflow,
}

/// Input and output contracts, verbatim: same keys, same order, same numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IoSchema {
    /// JSON Schema of the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// JSON Schema of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
}

/// A link to a skill that teaches an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillRef {
    /// The skill entry.
    pub id: CapabilityId,
    /// Its label.
    pub label: String,
}

/// A step of a workflow and the most it may do there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member entry.
    pub id: CapabilityId,
    /// The verbs the workflow may use on it.
    pub verbs: VerbSet,
}

/// A skill's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum SkillBody {
    /// Inline markdown.
    Markdown {
        /// The text.
        markdown: String,
    },
    /// A gateway-relative URL to fetch it from.
    Ref {
        /// The URL.
        r#ref: String,
    },
}

/// What a source says of one entry: everything that is the source's to say, and nothing that is the
/// gateway's (class, sensitivity, window, health). Reading one from a proxy or a manifest therefore
/// drops whatever such fields were asserted: there is no place for them to land.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Unit of grant, scope, audit and invocation.
    pub id: CapabilityId,
    /// The source it came from.
    pub source: SourceId,
    /// What it is.
    pub kind: EntryKind,
    /// Short human label.
    pub label: String,
    /// What it does, when to use it and how: written for the agent that decides.
    pub describe: String,
    /// Input and output contracts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<IoSchema>,
    /// The verbs a call needs, all of them.
    pub grants: VerbSet,
    /// How its home reaches the software.
    pub transport: TransportKind,
    /// Skills that teach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<SkillRef>,
    /// A workflow's steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// A skill's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<SkillBody>,
    /// Version of the entry's own contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Free metadata; nothing in the gateway reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extras: Option<Box<RawValue>>,
}

impl Definition {
    /// Whether a source may contribute this: bounded, of its own source, whole.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let slug = self.source.slug();
        let own = self.id.as_str().strip_prefix(&slug).is_some_and(|rest| rest.starts_with('.'));
        let callable = self.kind != EntryKind::Skill;
        let wrong = [
            (!own, "its id does not begin with its source"),
            (self.label.is_empty() || self.label.len() > 200, "its label has not 1 to 200 bytes"),
            (
                self.describe.is_empty() || self.describe.len() > 16_384,
                "its describe has not 1 to 16384 bytes",
            ),
            (
                callable == self.grants.is_empty(),
                "a capability or workflow needs verbs, a skill has none",
            ),
            (callable == self.body.is_some(), "a skill needs a body, nothing else has one"),
            (
                callable == (self.transport == TransportKind::Skill),
                "its transport does not suit its kind",
            ),
            (
                (self.kind == EntryKind::Workflow) == self.members.is_empty(),
                "a workflow needs members, nothing else has them",
            ),
            (
                self.members.len() > 64 || self.skills.len() > 64,
                "it has more than 64 members or skills",
            ),
        ];
        if let Some((_, why)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
            return Err(why.to_owned());
        }
        // What rides through verbatim is at least something that can be read, and so be digested.
        let io = self.io.iter().flat_map(|io| [&io.input, &io.output]).flatten();
        let mut raw = io.chain(&self.extras);
        match raw.find(|raw| plain::read(raw.get().as_bytes()).is_err()) {
            Some(_) => {
                Err("a part of it is JSON that can't be read: too deep, or no number".into())
            }
            None => Ok(()),
        }
    }

    /// The first sentence of `describe`: the teaser shown before a session.
    pub fn summary(&self) -> &str {
        let line = self.describe.lines().next().unwrap_or_default();
        line.find(". ").map_or(line, |end| &line[..=end])
    }
}

/// What the gateway itself says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Posture {
    /// Where it came from.
    pub provenance: Provenance,
    /// How risky it is.
    pub sensitivity: Sensitivity,
    /// How long an approval stands unless the owner says otherwise.
    pub recommended_trust_window: TrustWindow,
}

/// The full entry document of a manifest.
#[derive(Serialize)]
pub struct CapabilityEntry<'a> {
    /// The source's part.
    #[serde(flatten)]
    pub definition: &'a Definition,
    /// The gateway's part.
    #[serde(flatten)]
    pub posture: Posture,
    /// How it is now.
    pub health: Health,
}

/// One line of the discovery document: enough to choose, not enough to call.
#[derive(Serialize)]
pub struct CapabilitySummary<'a> {
    /// See [`Definition::id`].
    pub id: &'a CapabilityId,
    /// See [`Definition::source`].
    pub source: &'a SourceId,
    /// See [`Definition::kind`].
    pub kind: EntryKind,
    /// See [`Definition::label`].
    pub label: &'a str,
    /// First sentence of `describe`.
    pub summary: &'a str,
    /// See [`Definition::grants`].
    pub grants: VerbSet,
    /// See [`Definition::transport`].
    pub transport: TransportKind,
    /// The gateway's part.
    #[serde(flatten)]
    pub posture: Posture,
    /// How it is now.
    pub health: Health,
}
