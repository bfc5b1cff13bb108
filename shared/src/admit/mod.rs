//! The gates in their order, ending in a [`Permit`].
//!
//! 1. the token has not ended
//! 2. its session is live, and it was not revoked
//! 3. the capability exists
//! 4. its owner shows it
//! 5. a scope covers it with every verb it needs and its input, as it was approved
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

use crate::clock::Timestamp;
use crate::gate::members::identity;
use crate::gate::scope::{self, Need};
use crate::ids::{AgentId, CorrelationId};
use crate::invoke::Call;
use crate::model::denial::{Code, Denial};
use crate::model::input::{Digest, Input};
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

    /// What the token's approval of `id` was bound to, when the owner approved one call only.
    fn binding(&self, token: &VerifiedToken, id: &str) -> Option<Binding>;

    /// Consumes the token's single use of `id`, when that is what it has: of any number of calls at
    /// once, one succeeds.
    ///
    /// # Errors
    /// `grant_required` when it was used before.
    fn claim(&self, token: &VerifiedToken, id: &str) -> Result<(), Denial>;
}

/// What an approval of one call was shown with: it allows that, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The capability's definition, and those of what its run reaches.
    pub definition: Digest,
    /// The input, when the owner saw one.
    pub input: Option<Digest>,
}

/// A call that passed every gate but the last: its single use, if that is what it has, is not yet
/// consumed.
#[derive(Debug)]
pub struct Admission {
    target: Arc<Registered>,
    call: Call,
    authority: Authority,
}

impl Admission {
    /// The capability the call is for.
    pub fn target(&self) -> &Registered {
        &self.target
    }

    /// The call.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The agent the call is for.
    pub fn agent(&self) -> &AgentId {
        self.authority.agent()
    }

    /// Passes the same gates again, as they stand at `now`.
    pub(crate) fn again(
        self,
        catalog: &Catalog,
        liveness: &dyn Liveness,
        now: Timestamp,
    ) -> Result<Self, Denial> {
        admit(catalog, liveness, now, self.authority, self.call)
    }

    /// Passes the last gate. A workflow's run was itself what was approved: its members' calls are
    /// part of it.
    pub(crate) fn permit(self, liveness: &dyn Liveness) -> Result<Permit, Denial> {
        if let Authority::Agent(token) = &self.authority {
            liveness.claim(token, &self.call.id)?;
        }
        Ok(Permit { admission: self })
    }
}

/// Leave to make one call, once.
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
}

impl Permit {
    /// The capability the call is for.
    pub fn target(&self) -> &Registered {
        &self.admission.target
    }

    /// The input.
    pub fn input(&self) -> &Input {
        &self.admission.call.input
    }

    /// What joins the records of this call.
    pub fn correlation(&self) -> &CorrelationId {
        &self.admission.call.correlation
    }

    /// The call's own deadline, from its dispatch on.
    pub fn deadline(&self) -> std::time::Duration {
        self.admission.call.deadline
    }

    /// The caller's idempotency key.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.admission.call.idempotency_key.as_deref()
    }

    /// The agent the call is for.
    pub fn agent(&self) -> &AgentId {
        self.admission.authority.agent()
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.admission.authority
    }
}

/// Passes `call` through every gate but the last.
///
/// # Errors
/// The first gate's refusal.
pub(crate) fn admit(
    catalog: &Catalog,
    liveness: &dyn Liveness,
    now: Timestamp,
    authority: Authority,
    call: Call,
) -> Result<Admission, Denial> {
    let listed = match authority.token() {
        Some(token) => {
            token_lives(liveness, token, now)?;
            let listed = shown_to(catalog, &call.id, token)?;
            let verbs = listed.target.definition.grants;
            let within = authority.within();
            let need = Need { id: &call.id, verbs, within, input: &call.input };
            scope::covers(token.scopes(), need)?;
            as_approved(catalog, liveness.binding(token, &call.id), &listed.target, &call)?;
            listed
        }
        None => shown(catalog, &call.id)?,
    };
    listed.target.input.check(&call.id, &call.input)?;
    listed.target.health.admit(&call.id)?;
    Ok(Admission { target: listed.target.clone(), call, authority })
}

/// An approval of one call allows the call that was shown.
fn as_approved(
    catalog: &Catalog,
    binding: Option<Binding>,
    target: &Registered,
    call: &Call,
) -> Result<(), Denial> {
    let Some(Binding { definition, input }) = binding else { return Ok(()) };
    let same_input = input.is_none_or(|shown| call.input.digest() == Some(shown));
    if definition == identity(catalog, target) && same_input {
        return Ok(());
    }
    let message = "the owner approved another call than this one; ask again for this one";
    Err(Denial::new(Code::GrantRequired, message).about(call.id.as_str()))
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
