//! What an extension reaches on its owner's machine: what the owner is shown, and approves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, Run};
use crate::model::entry::SkillBody;
use crate::secret::sha256;

/// Everything an extension reaches. Two manifests with the same reach can do the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reach {
    /// Hosts it calls.
    pub hosts: BTreeSet<String>,
    /// Binaries it runs.
    pub binaries: BTreeSet<String>,
    /// The commands, each with the entry that runs it, the verbs that it needs, and its template.
    pub commands: BTreeSet<String>,
    /// Folders it looks into.
    pub folders: BTreeSet<String>,
    /// Secrets it is handed, and the variable each arrives in.
    pub secrets: BTreeSet<String>,
    /// Variables of the gateway's environment it is handed.
    pub variables: BTreeSet<String>,
    /// Other sources' capabilities that its workflows call, with verbs.
    pub members: BTreeSet<String>,
    /// Its skills, which other agents read as instructions: a digest of each text.
    pub instructions: BTreeSet<String>,
}

impl Reach {
    /// What `manifest` reaches.
    pub fn of(manifest: &Manifest) -> Self {
        let mut reach =
            Self { binaries: manifest.binaries.iter().cloned().collect(), ..Self::default() };
        let own = format!("{}.", manifest.source.slug());
        for entry in &manifest.capabilities {
            match &entry.run {
                Run::Cli(route) => {
                    let (name, verbs, argv) = (&entry.name, entry.grants, route.argv.shown());
                    reach.commands.insert(format!("{name} [{verbs}]: {} {argv}", route.bin));
                    reach.variables.extend(route.env.iter().cloned());
                    let named = route
                        .secrets
                        .iter()
                        .map(|(variable, name)| format!("{name} as {variable}"));
                    reach.secrets.extend(named);
                }
                Run::Workflow { .. } => {
                    let others = entry.members.iter().filter(|m| !m.id.as_str().starts_with(&own));
                    reach.members.extend(others.map(|m| format!("{} [{}]", m.id, m.verbs)));
                }
                Run::Skill => {
                    let text = match &entry.body {
                        Some(SkillBody::Markdown { markdown }) => markdown.as_str(),
                        Some(SkillBody::Ref { r#ref }) => r#ref.as_str(),
                        None => "",
                    };
                    let digest = data_encoding::HEXLOWER.encode(&sha256(text.as_bytes())[..8]);
                    reach.instructions.insert(format!("{} {digest}", entry.name));
                }
            }
        }
        reach
    }

    /// Whether this reaches anything that `old` does not: then the owner's word for `old` is no word
    /// for this.
    pub fn widens(&self, old: &Reach) -> bool {
        let parts = |reach: &Self| {
            let Self {
                hosts,
                binaries,
                commands,
                folders,
                secrets,
                variables,
                members,
                instructions,
            } = reach.clone();
            [hosts, binaries, commands, folders, secrets, variables, members, instructions]
        };
        parts(self).iter().zip(&parts(old)).any(|(new, old)| !new.is_subset(old))
    }
}
