//! The gates in their order, ending in a [`Permit`].
//!
//! 1. the token has not ended
//! 2. its session is live, and it was not revoked
//! 3. the capability exists
//! 4. its owner shows it
//! 5. a scope covers it with every verb it needs
//! 6. the input has its shape
//! 7. its home is up
//! 8. a single-use claim is consumed
//!
//! A call from the primary's tunnel was through 1, 2, 5 and 8 where the agent is known; the rest is
//! evaluated again here, where the capability lives. A permit can be made nowhere else, can't be
//! copied, and is what dispatching consumes: a call that skipped a gate does not compile.

pub mod authority;
pub mod token;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::gate::scope;
use crate::ids::{AgentId, CorrelationId};
use crate::invoke::Call;
use crate::model::denial::{Code, Denial};
use crate::source::registry::{Catalog, Listed, Registered};
use authority::Authority;
use token::VerifiedToken;

/// What a node knows of sessions and tokens, beyond what a token says of itself.
pub trait Liveness: Send + Sync {
    /// The token's session is live, and the token was not revoked.
    ///
    /// # Errors
    /// `session_expired`, `token_revoked`.
    fn check(&self, token: &VerifiedToken, now: Timestamp) -> Result<(), Denial>;

    /// Consumes the token's single use of `id`, when that is what it has: of any number of calls at
    /// once, one succeeds.
    ///
    /// # Errors
    /// `grant_required` when it was used before.
    fn claim(&self, token: &VerifiedToken, id: &str) -> Result<(), Denial>;
}

/// Leave to make one call, once.
#[derive(Debug)]
pub struct Permit {
    target: Arc<Registered>,
    call: Call,
    agent: AgentId,
}

impl Permit {
    /// The capability the call is for.
    pub fn target(&self) -> &Registered {
        &self.target
    }

    /// The input, in the caller's own bytes.
    pub fn input(&self) -> &RawValue {
        &self.call.input
    }

    /// What joins the records of this call.
    pub fn correlation(&self) -> &CorrelationId {
        &self.call.correlation
    }

    /// The call's own deadline, from its dispatch on.
    pub fn deadline(&self) -> std::time::Duration {
        self.call.deadline
    }

    /// The caller's idempotency key.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.call.idempotency_key.as_deref()
    }

    /// The agent the call is for.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }
}

/// Passes `call` through every gate.
///
/// # Errors
/// The first gate's refusal.
pub(crate) fn admit(
    catalog: &Catalog,
    liveness: &dyn Liveness,
    now: Timestamp,
    authority: &Authority,
    call: Call,
) -> Result<Permit, Denial> {
    let listed = match authority {
        Authority::Agent(token) => {
            token_lives(liveness, token, now)?;
            let listed = shown_to(catalog, &call.id, token)?;
            scope::covers(token.scopes(), &call.id, listed.target.definition.grants)?;
            listed
        }
        Authority::Tunnel(_) => shown(catalog, &call.id)?,
    };
    listed.target.input.check(&call.id, &call.input)?;
    listed.target.health.admit(&call.id)?;
    if let Authority::Agent(token) = authority {
        liveness.claim(token, &call.id)?;
    }
    Ok(Permit { target: listed.target.clone(), agent: authority.agent().clone(), call })
}

fn token_lives(
    liveness: &dyn Liveness,
    token: &VerifiedToken,
    now: Timestamp,
) -> Result<(), Denial> {
    if token.expired(now) {
        let message = "the token has ended; refresh it, or ask again with PUT /grants";
        return Err(Denial::new(Code::TokenExpired, message));
    }
    liveness.check(token, now)
}

fn unknown(id: &str) -> Denial {
    let message = "no such capability; GET /manifest has the current list";
    Denial::new(Code::UnknownCapability, message).about(id)
}

fn hidden(id: &str) -> Denial {
    Denial::new(Code::CapabilityUnexposed, "the owner does not share this capability now").about(id)
}

/// Exists and is shown; a caller with no scope for a hidden id is told what it would be told of an id
/// that never was.
fn shown_to<'a>(
    catalog: &'a Catalog,
    id: &str,
    token: &VerifiedToken,
) -> Result<&'a Listed, Denial> {
    let listed = catalog.get(id).ok_or_else(|| unknown(id))?;
    match (listed.exposed, scope::mentions(token.scopes(), id)) {
        (true, _) => Ok(listed),
        (false, true) => Err(hidden(id)),
        (false, false) => Err(unknown(id)),
    }
}

fn shown<'a>(catalog: &'a Catalog, id: &str) -> Result<&'a Listed, Denial> {
    let listed = catalog.get(id).ok_or_else(|| unknown(id))?;
    if listed.exposed { Ok(listed) } else { Err(hidden(id)) }
}
