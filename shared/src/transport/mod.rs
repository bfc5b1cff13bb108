//! How an admitted call reaches software: a closed set, matched exhaustively.

pub mod child;
pub mod cli;
pub mod http;
pub mod mesh;
pub mod secrets;
pub mod workflow;

use crate::admit::Permit;
use crate::model::denial::{Code, Denial};
use crate::model::outcome::{Outcome, Output};
use crate::redact::{Redactor, Secrets};
use crate::source::workspace::{Operation, Workspace};

/// How a call of one capability reaches its software.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A folder of this node.
    Workspace(Workspace, Operation),
    /// Another node, over its tunnel.
    Mesh(mesh::Mesh),
    /// A named binary, run for the call.
    Cli(Box<cli::Cli>),
    /// Nothing: its text is context.
    Skill,
    /// Other capabilities, each called through the same gates.
    Workflow(workflow::Workflow),
}

impl Transport {
    /// The secrets that a call of it carries.
    ///
    /// # Errors
    /// `source_unavailable` when one of them is not there.
    pub(crate) fn attach(&self) -> Result<cli::Attached, Denial> {
        match self {
            Self::Cli(cli) => cli.attach(),
            Self::Workspace(..) | Self::Mesh(_) | Self::Skill | Self::Workflow(_) => {
                Ok(cli::Attached::default())
            }
        }
    }

    /// The secrets that go with a call, those that are there.
    pub(crate) fn hides(&self) -> Secrets {
        match self {
            Self::Cli(cli) => cli.hides(),
            Self::Workspace(..) | Self::Mesh(_) | Self::Skill | Self::Workflow(_) => Secrets::new(),
        }
    }

    /// Makes the one call `permit` allows, with the secrets that go with it.
    pub(crate) async fn dispatch(&self, permit: &Permit, attached: &cli::Attached) -> Outcome {
        match self {
            Self::Workspace(workspace, operation) => {
                let done = workspace.call(*operation, permit.input().raw()).await;
                done.map(Output::Json).map_err(|error| {
                    // It quotes the path, which can be anything.
                    let message = Redactor::default().redact_text(&error.to_string());
                    Denial::new(Code::TransportError, message)
                        .about(permit.target().definition.id.as_str())
                        .with_detail(serde_json::json!({ "reason": error.reason() }))
                })
            }
            Self::Mesh(mesh) => mesh.dispatch(permit).await,
            Self::Cli(cli) => cli.dispatch(permit, attached).await,
            Self::Skill => {
                let message = "a skill is read, not called; its text is in the manifest";
                let id = permit.target().definition.id.as_str();
                Err(Denial::new(Code::SchemaValidationFailed, message).about(id))
            }
            Self::Workflow(workflow) => workflow.dispatch(permit).await,
        }
    }
}
