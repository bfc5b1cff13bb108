//! How an admitted call reaches software: a closed set, matched exhaustively.

pub mod child;
pub mod http;
pub mod mesh;

use crate::admit::Permit;
use crate::model::denial::{Code, Denial};
use crate::model::outcome::{Outcome, Output};
use crate::source::workspace::{Operation, Workspace};

/// How a call of one capability reaches its software.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A folder of this node.
    Workspace(Workspace, Operation),
    /// Another node, over its tunnel.
    Mesh(mesh::Mesh),
}

impl Transport {
    /// Makes the one call `permit` allows.
    pub(crate) async fn dispatch(&self, permit: &Permit) -> Outcome {
        match self {
            Self::Workspace(workspace, operation) => {
                let done = workspace.call(*operation, permit.input().raw()).await;
                done.map(Output::Json).map_err(|error| {
                    Denial::new(Code::TransportError, error.to_string())
                        .about(permit.target().definition.id.as_str())
                        .with_detail(serde_json::json!({ "reason": error.reason() }))
                })
            }
            Self::Mesh(mesh) => mesh.dispatch(permit).await,
        }
    }
}
