//! A manifest that was read: every part checked, every name resolved.

use serde::{Deserialize, Serialize};

use crate::ids::{CapabilityId, SourceId};
use crate::model::entry::{
    Definition, EntryKind, IoSchema, Member, SkillBody, SkillRef, TransportKind,
};
use crate::model::verb::VerbSet;
use crate::transport::cli::Route;
use crate::transport::workflow::Step;

/// What the first member of every manifest says.
pub const SCHEMA: &str = "plexus-extension/0.1";
/// The longest manifest, in bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// The most capabilities of one manifest.
pub const MAX_CAPABILITIES: usize = 200;

/// Something wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A JSON pointer into the manifest.
    pub pointer: String,
    /// What is wrong, for whoever wrote it.
    pub reason: String,
}

/// An extension as its manifest says it.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The source.
    pub source: SourceId,
    /// Its label.
    pub label: String,
    /// How its capabilities reach their software unless they say otherwise.
    pub transport: TransportKind,
    /// Its entries.
    pub capabilities: Vec<Declared>,
    /// The binaries it may run: no other can be named by a route.
    pub binaries: Vec<String>,
    /// Whether its workflows may call other sources' capabilities.
    pub allow_cross_source: bool,
}

impl Manifest {
    /// What is wrong with its workflows' members in other sources, of which `verbs` tells what a call
    /// of each needs.
    pub fn check_members(&self, verbs: impl Fn(&str) -> Option<VerbSet>) -> Vec<Problem> {
        let own = format!("{}.", self.source.slug());
        let mut problems = Vec::new();
        for (index, entry) in self.capabilities.iter().enumerate() {
            for (at, member) in entry.members.iter().enumerate() {
                if member.id.as_str().starts_with(&own) {
                    continue;
                }
                let reason = match verbs(member.id.as_str()) {
                    None => format!("there is no capability {}", member.id),
                    Some(has) if has != member.verbs => format!("{} needs {has}", member.id),
                    Some(_) => continue,
                };
                let pointer = format!("/capabilities/{index}/members/{at}");
                problems.push(Problem { pointer, reason });
            }
        }
        problems
    }
}

/// One entry of a manifest.
#[derive(Clone, Debug)]
pub struct Declared {
    /// `<noun>.<verb>`.
    pub name: String,
    /// The whole id.
    pub id: CapabilityId,
    /// What it is.
    pub kind: EntryKind,
    /// Its label.
    pub label: String,
    /// What it does.
    pub describe: String,
    /// Its contracts.
    pub io: Option<IoSchema>,
    /// The verbs a call needs.
    pub grants: VerbSet,
    /// How a call reaches its software.
    pub transport: TransportKind,
    /// A workflow's members.
    pub members: Vec<Member>,
    /// A skill's text.
    pub body: Option<SkillBody>,
    /// Skills that teach it.
    pub skills: Vec<SkillRef>,
    /// Its version.
    pub version: Option<String>,
    /// What a call does.
    pub run: Run,
}

/// What a call of an entry does. The other transports' routes come here.
#[derive(Clone, Debug)]
pub enum Run {
    /// Runs a command.
    Cli(Box<Route>),
    /// Nothing.
    Skill,
    /// Calls members.
    Workflow {
        /// In these steps.
        steps: Vec<Step>,
        /// Together, where they need nothing of each other.
        parallel: bool,
    },
}

impl Declared {
    /// The entry as its source says it.
    pub fn definition(&self, source: &SourceId) -> Definition {
        Definition {
            id: self.id.clone(),
            source: source.clone(),
            kind: self.kind,
            label: self.label.clone(),
            describe: self.describe.clone(),
            io: self.io.clone(),
            grants: self.grants,
            transport: self.transport,
            skills: self.skills.clone(),
            members: self.members.clone(),
            body: self.body.clone(),
            version: self.version.clone(),
            extras: None,
        }
    }
}
