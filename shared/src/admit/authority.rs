//! By whose word a call is made. Each kind is a proof: a token of ours that was read, a workflow of a
//! call that was admitted, or a mesh handshake with the primary this node joined.

use std::sync::Arc;

use plexus_mesh_proto::hello::{AuthenticatedPeer, Primary};

use super::Permit;
use super::token::VerifiedToken;
use crate::ids::{AgentId, CapabilityId};

/// The word behind a call.
#[derive(Clone, Debug)]
pub enum Authority {
    /// An agent, by its scoped token.
    Agent(Arc<VerifiedToken>),
    /// A workflow's run, by the token the workflow was called with.
    Member(Membership),
    /// The primary, which has authorized the call before sending it down the tunnel.
    Tunnel(Arc<TunnelCaller>),
}

impl Authority {
    /// The name of the agent the call is for.
    pub fn agent(&self) -> &AgentId {
        match self {
            Self::Agent(token) => token.agent(),
            Self::Member(membership) => membership.token.agent(),
            Self::Tunnel(caller) => &caller.agent,
        }
    }

    /// The token behind the call, where there is one.
    pub fn token(&self) -> Option<&VerifiedToken> {
        match self {
            Self::Agent(token) | Self::Member(Membership { token, .. }) => Some(token),
            Self::Tunnel(_) => None,
        }
    }

    /// The workflow whose run makes the call.
    pub(crate) fn within(&self) -> Option<&str> {
        match self {
            Self::Member(membership) => Some(membership.workflow.as_str()),
            Self::Agent(_) | Self::Tunnel(_) => None,
        }
    }

    /// The word for a member of the workflow that `permit` runs. Workflows within workflows act for
    /// the outermost: the one that was granted.
    pub(crate) fn of_member(permit: &Permit) -> Self {
        match permit.authority() {
            Self::Agent(token) => Self::Member(Membership {
                token: token.clone(),
                workflow: permit.target().definition.id.clone(),
                depth: 1,
            }),
            Self::Member(outer) => {
                let depth = outer.depth.saturating_add(1);
                Self::Member(Membership { depth, ..outer.clone() })
            }
            Self::Tunnel(outer) => {
                let depth = outer.depth.saturating_add(1);
                Self::Tunnel(Arc::new(TunnelCaller { agent: outer.agent.clone(), depth }))
            }
        }
    }

    /// How many workflows run within one another to make the call; 0 for one that came by a door.
    pub(crate) fn depth(&self) -> u8 {
        match self {
            Self::Agent(_) => 0,
            Self::Member(membership) => membership.depth,
            Self::Tunnel(caller) => caller.depth,
        }
    }
}

/// A workflow's run: made of the permit of its call, and nothing else.
#[derive(Clone, Debug)]
pub struct Membership {
    token: Arc<VerifiedToken>,
    workflow: CapabilityId,
    depth: u8,
}

/// A call that the primary sent: for which agent, by its word.
#[derive(Debug)]
pub struct TunnelCaller {
    agent: AgentId,
    depth: u8,
}

impl TunnelCaller {
    /// A caller on the authenticated connection of `_primary`, for `agent` as it says.
    pub fn new(_primary: &AuthenticatedPeer<Primary>, agent: AgentId) -> Self {
        Self { agent, depth: 0 }
    }
}
