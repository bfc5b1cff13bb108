//! By whose word a call is made. Both kinds are proofs: one made by reading a token of ours, one by a
//! mesh handshake with the primary this node joined.

use plexus_mesh_proto::hello::{AuthenticatedPeer, Primary};

use super::token::VerifiedToken;
use crate::ids::AgentId;

/// The word behind a call.
#[derive(Debug)]
pub enum Authority {
    /// An agent, by its scoped token.
    Agent(VerifiedToken),
    /// The primary, which has authorized the call before sending it down the tunnel.
    Tunnel(TunnelCaller),
}

impl Authority {
    /// The name of the agent the call is for.
    pub fn agent(&self) -> &AgentId {
        match self {
            Self::Agent(token) => token.agent(),
            Self::Tunnel(caller) => &caller.agent,
        }
    }
}

/// A call that the primary sent: for which agent, by its word.
#[derive(Debug)]
pub struct TunnelCaller {
    agent: AgentId,
}

impl TunnelCaller {
    /// A caller on the authenticated connection of `_primary`, for `agent` as it says.
    pub fn new(_primary: &AuthenticatedPeer<Primary>, agent: AgentId) -> Self {
        Self { agent }
    }
}
