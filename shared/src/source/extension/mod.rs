//! Extensions: sources that a manifest describes.
//!
//! 1. [`Manifest::read`] takes a manifest whole, or refuses it with every reason there is.
//! 2. [`Reach::of`] says what it reaches, for the owner to see.
//! 3. [`Extension::prepare`] finds what it names on this machine.
//! 4. [`Extension::offers`] gives the entries, each with its transport.
//!
//! What an attacker would try: ids of another source, a shell as a binary, another source's capability
//! as a workflow's member, a schema that takes for ever, an update that does more than what was
//! approved.

mod entry;
mod manifest;
mod preview;
mod reach;
mod read;
mod route;
#[cfg(test)]
mod tests;

pub use manifest::{Declared, MAX_CAPABILITIES, MAX_TEXT, Manifest, Problem, Run, SCHEMA};
pub use preview::{Preview, PreviewEntry};
pub use reach::Reach;

use crate::source::registry::Offer;
use crate::transport::Transport;
use crate::transport::cli::Cli;
use crate::transport::cli::environment::Host;
use crate::transport::secrets::SecretFiles;
use crate::transport::workflow::{Reentry, Workflow};

/// What extensions need of the node they are in.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The gateway's own environment.
    pub host: Host,
    /// The owner's secrets.
    pub secrets: SecretFiles,
    /// The pipeline, for workflows.
    pub reentry: Reentry,
}

/// An extension whose software was found.
#[derive(Debug)]
pub struct Extension {
    manifest: Manifest,
    transports: Vec<Transport>,
}

impl Extension {
    /// Finds what `manifest` names on this machine.
    ///
    /// # Errors
    /// Every binary that can't be used, and why.
    pub fn prepare(manifest: Manifest, ports: &Ports) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut transports = Vec::new();
        for (index, entry) in manifest.capabilities.iter().enumerate() {
            match &entry.run {
                Run::Skill => transports.push(Transport::Skill),
                Run::Workflow { steps, parallel } => {
                    let workflow = Workflow::new(steps.clone(), *parallel, ports.reentry.clone());
                    transports.push(Transport::Workflow(workflow));
                }
                Run::Cli(route) => {
                    match Cli::new((**route).clone(), &ports.host, ports.secrets.clone()) {
                        Ok(cli) => transports.push(Transport::Cli(Box::new(cli))),
                        Err(reason) => {
                            let pointer = format!("/capabilities/{index}/route/bin");
                            problems.push(Problem { pointer, reason });
                        }
                    }
                }
            }
        }
        if problems.is_empty() { Ok(Self { manifest, transports }) } else { Err(problems) }
    }

    /// What it says of itself.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it brings and reaches.
    pub fn preview(&self) -> Preview {
        Preview::of(&self.manifest)
    }

    /// Its entries, each with its transport.
    pub fn offers(&self) -> Vec<Offer> {
        let entries = self.manifest.capabilities.iter().zip(&self.transports);
        let offer = |(entry, transport): (&Declared, &Transport)| Offer {
            definition: entry.definition(&self.manifest.source),
            transport: transport.clone(),
        };
        entries.map(offer).collect()
    }
}
