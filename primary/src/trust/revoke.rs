//! Taking back, and carrying on: revokes in all their forms, and a fresh token on a standing grant.
//!
//! A revoke has taken effect when it is answered: the grant is gone from the store and from memory and
//! the tokens are struck off before the answer is written. Striking off what is not there changes
//! nothing, so a revoke can be said twice.

use std::collections::HashSet;
use std::time::Duration;

use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::gate::members::Whole;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, EventId, PendingId, TokenId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::scope::{ScopedToken, TokenScope};
use plexus_shared::model::trust::Grant;
use serde_json::json;

use super::ledger::Granted;
use super::{ChangeError, Trust};
use crate::events::Decision;
use crate::store::Change;
use crate::store::rows::{AgentRow, PendingRow, PendingState};

/// How long past its end a token still proves who asks for the next one.
const GRACE: Duration = Duration::from_secs(300);

/// What is taken back: one thing a request.
#[derive(Clone, Debug)]
pub enum Selector {
    /// One token.
    Token(TokenId),
    /// Everything an agent holds on one capability.
    Scope(AgentId, CapabilityId),
    /// Everything that came with a bundle.
    Bundle(BundleId),
}

/// What was taken back.
#[derive(Debug)]
pub struct Revoked {
    /// The tokens that were struck off.
    pub jtis: Vec<TokenId>,
    /// How many grants are gone.
    pub grants: usize,
    /// The record of it; none where there was nothing to take back, and nobody asks for a record.
    pub audit_id: Option<EventId>,
}

/// What a revoke is about to take.
struct Taking {
    record: Record,
    changes: Vec<Change>,
    gone: Vec<Grant>,
    /// What waits, and is denied with it.
    moot: Vec<PendingRow>,
    /// Whose tokens on what are struck off.
    pairs: HashSet<(AgentId, CapabilityId)>,
}

/// What revoking an agent did.
#[derive(Debug)]
pub struct AgentRevoked {
    /// Whether it had a live credential or code.
    pub enrollment: bool,
    /// How many sessions ended.
    pub sessions: usize,
    /// How many grants are gone.
    pub grants: usize,
    /// The tokens that were struck off.
    pub jtis: Vec<TokenId>,
    /// The record of it.
    pub audit_id: EventId,
}

impl Trust {
    /// Takes back what `selector` names.
    ///
    /// # Errors
    /// When it could not be recorded or kept; then nothing was taken back.
    pub async fn revoke(
        &self,
        selector: &Selector,
        reason: Option<&str>,
    ) -> Result<Revoked, ChangeError> {
        let _gate = self.gate.lock().await;
        self.take(selector, reason).await
    }

    /// Takes back the very token that is presented. One that is struck off already is given back
    /// without a record: whoever holds it can say so for ever.
    ///
    /// # Errors
    /// When it could not be recorded; then it was not taken back.
    pub async fn give_back(
        &self,
        token: &VerifiedToken,
        reason: Option<&str>,
    ) -> Result<Revoked, ChangeError> {
        let _gate = self.gate.lock().await;
        if !self.sessions.listed(token.jti()) {
            return Ok(Revoked { jtis: Vec::new(), grants: 0, audit_id: None });
        }
        self.take(&Selector::Token(token.jti().clone()), reason).await
    }

    /// Takes back what `selector` names; the caller holds the gate.
    async fn take(
        &self,
        selector: &Selector,
        reason: Option<&str>,
    ) -> Result<Revoked, ChangeError> {
        let Taking { record, changes, gone, moot, pairs } = self.taking(selector);
        let removed: Vec<_> = gone.iter().map(super::agents::tell).collect();
        let detail = json!({
            "reason": reason, "selector": tell(selector), "removed": removed, "denied": ids(&moot),
        });
        let record = record.outcome(RecordOutcome::Ok).detail(&detail);
        let audit_id = Some(self.change(record, changes).await?);
        for row in &moot {
            self.tell_resolved(row, Decision::Denied, None);
        }
        let mut struck: Vec<_> = match selector {
            Selector::Token(jti) => self.sessions.strike_one(jti).into_iter().collect(),
            Selector::Scope(..) | Selector::Bundle(_) => Vec::new(),
        };
        for (agent, capability) in &pairs {
            struck.extend(self.sessions.strike_of(agent, |id| id == capability));
        }
        let jtis = self.tell_struck(struck, "revoked");
        Ok(Revoked { jtis, grants: gone.len(), audit_id })
    }

    fn taking(&self, selector: &Selector) -> Taking {
        let at = self.now();
        match selector {
            Selector::Token(jti) => {
                let record = Record::new(EventType::TokenRevoke).jti(jti);
                let record = match self.sessions.holder(jti) {
                    Some(holder) => record.agent(&holder.agent).session(&holder.id),
                    None => record,
                };
                let (changes, gone, moot) = (Vec::new(), Vec::new(), Vec::new());
                Taking { record, changes, gone, moot, pairs: HashSet::new() }
            }
            Selector::Scope(agent, capability) => {
                let pair = (agent.clone(), capability.clone());
                let (agent_id, id) = pair.clone();
                let record = Record::new(EventType::GrantRevoke).agent(agent);
                Taking {
                    record: record.capability(capability.as_str()),
                    changes: vec![Change::RevokeGrants { agent: agent_id, capability: id, at }],
                    gone: self
                        .held(|grant| (&grant.agent, &grant.capability) == (agent, capability)),
                    moot: Vec::new(),
                    pairs: HashSet::from([pair]),
                }
            }
            Selector::Bundle(id) => self.taking_bundle(id, at),
        }
    }

    /// All that a bundle gave: its grants, the single uses that are still about, and what waits to be
    /// given with it. What it gave is not given again unasked.
    fn taking_bundle(&self, id: &BundleId, at: Timestamp) -> Taking {
        let gone = self.held(|grant| grant.bundle.as_ref() == Some(id));
        let mut pairs: HashSet<_> =
            gone.iter().map(|grant| (grant.agent.clone(), grant.capability.clone())).collect();
        let mut record = Record::new(EventType::GrantRevoke);
        let mut moot = Vec::new();
        if let Some(bundle) = self.ledger().bundle(id) {
            let agent = &bundle.agent;
            let live = self.sessions.bundled(agent, id).into_iter();
            pairs.extend(live.map(|capability| (agent.clone(), capability)));
            let of_it = |row: &PendingRow| {
                let asked = row.grants().and_then(|asked| asked.bundle.as_ref());
                row.agent == *agent && asked.is_some_and(|asked| asked.name == bundle.name)
            };
            moot = self.ledger().open(at).into_iter().filter(of_it).collect();
            record = record.agent(agent);
        }
        let mut changes = vec![Change::DropBundle(id.clone())];
        let mark = |(agent, id): &(AgentId, CapabilityId)| {
            Change::PutTombstone(agent.clone(), id.clone(), at)
        };
        changes.extend(pairs.iter().map(mark));
        let deny = |row: PendingRow| Change::PutPending(row.settled(PendingState::Denied));
        changes.extend(moot.iter().cloned().map(deny));
        Taking { record, changes, gone, moot, pairs }
    }

    fn held(&self, which: impl Fn(&Grant) -> bool) -> Vec<Grant> {
        let ledger = self.ledger();
        let all = ledger.grants(None, self.now());
        all.into_iter().filter(|grant| which(grant)).cloned().collect()
    }

    /// Takes an agent's credential, sessions, tokens and grants, and says no to what it waits for; with
    /// `delete`, its name is forgotten too. `None` when there is no such agent, nothing is held or asked
    /// for under its name, and the owner's key opened no session under it.
    ///
    /// # Errors
    /// When it could not be recorded or kept; then nothing was taken.
    pub async fn revoke_agent(
        &self,
        agent: &AgentId,
        reason: Option<&str>,
        delete: bool,
    ) -> Result<Option<AgentRevoked>, ChangeError> {
        let _gate = self.gate.lock().await;
        let now = self.now();
        let row = self.ledger().agent(agent).cloned();
        let gone = self.held(|grant| grant.agent == *agent);
        let mut open = self.ledger().open(now);
        open.retain(|item| item.agent == *agent);
        let absent = row.is_none() && !self.sessions.any_of(agent);
        if absent && gone.is_empty() && open.is_empty() {
            return Ok(None);
        }
        let enrollment = row.as_ref().is_some_and(|row| row.pat.is_some() || row.code.is_some());
        let at = now;
        let revoke = |grant: &Grant| Change::RevokeGrants {
            agent: agent.clone(),
            capability: grant.capability.clone(),
            at,
        };
        let mut changes: Vec<_> = gone.iter().map(revoke).collect();
        let deny = |row: PendingRow| Change::PutPending(row.settled(PendingState::Denied));
        changes.extend(open.iter().cloned().map(deny));
        changes.extend(row.map(|row| match delete {
            true => Change::DropAgent(agent.clone()),
            false => {
                let revoked_at = Some(now);
                Change::PutAgent(AgentRow { code: None, pat: None, revoked_at, ..row })
            }
        }));
        let removed: Vec<_> = gone.iter().map(super::agents::tell).collect();
        let record = Record::new(EventType::AgentRevoke)
            .agent(agent)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "reason": reason, "removed": removed, "denied": ids(&open), "deleted": delete,
            }));
        let audit_id = self.change(record, changes).await?;
        open.iter().for_each(|row| self.tell_resolved(row, Decision::Denied, None));
        let jtis = self.tell_struck(self.sessions.strike_of(agent, |_| true), "agent revoked");
        let sessions = self.sessions.end_all(agent);
        self.replays.let_go(|whose, _| whose == agent);
        Ok(Some(AgentRevoked { enrollment, sessions, grants: gone.len(), jtis, audit_id }))
    }

    /// A fresh token with what still stands of `token`'s authority; the old one is struck off.
    ///
    /// # Errors
    /// `session_expired`, `token_revoked`, `token_expired` when it ended too long ago,
    /// `grant_required` when nothing of it stands any more.
    pub async fn refresh(
        &self,
        token: &VerifiedToken,
        session: &str,
        jti: &str,
    ) -> Result<ScopedToken, Denial> {
        let _gate = self.gate.lock().await;
        let now = self.now();
        if token.session().as_str() != session || token.jti().as_str() != jti {
            let message = "sessionId and jti must be those of the token that is presented";
            return Err(Denial::new(Code::TokenRevoked, message));
        }
        let live = self.session(Some(session))?;
        if live.agent != *token.agent() || !self.sessions.listed(token.jti()) {
            return Err(Denial::new(Code::TokenRevoked, "the token was revoked; ask again"));
        }
        if token.expired(now) && token.ended_before(now, GRACE) {
            let message = "the token ended too long ago; ask again with PUT /grants";
            return Err(Denial::new(Code::TokenExpired, message));
        }
        let grants = self.still_standing(token);
        if grants.is_empty() {
            let message = "nothing of this token stands any more; ask again with PUT /grants";
            return Err(Denial::new(Code::GrantRequired, message));
        }
        let fresh = self.mint(&live, &grants, None)?;
        let record = Record::new(EventType::TokenRefresh)
            .agent(token.agent())
            .session(token.session())
            .jti(token.jti())
            .outcome(RecordOutcome::Ok)
            .detail(&json!({ "next": fresh.jti }));
        if let Err(unavailable) = self.core.audit.append(record) {
            self.sessions.strike_one(&fresh.jti);
            return Err(ChangeError::from(unavailable).into());
        }
        self.sessions.strike_one(token.jti());
        Ok(fresh)
    }

    fn still_standing(&self, token: &VerifiedToken) -> Vec<Granted> {
        let (ledger, now) = (self.ledger(), self.now());
        let catalog = self.core.registry.catalog();
        let direct = token.scopes().iter().filter(|scope| scope.synthesized_for.is_none());
        let standing = direct.filter_map(|scope| {
            let TokenScope { id, verbs, constraint, .. } = scope.clone();
            let whole = Whole::of(&catalog, id.as_str(), verbs);
            let fits = |held: Option<&Constraint>| held.is_none() || held == constraint.as_ref();
            let grant = ledger.standing(token.agent(), &id, verbs, &whole, fits, now)?.clone();
            Some(Granted { grant: Grant { verbs, constraint, ..grant }, whole })
        });
        standing.collect()
    }
}

/// Which questions ended with something else: its record names them.
pub(super) fn ids(moot: &[PendingRow]) -> Vec<&PendingId> {
    moot.iter().map(|row| &row.id).collect()
}

fn tell(selector: &Selector) -> serde_json::Value {
    match selector {
        Selector::Token(jti) => json!({ "jti": jti }),
        Selector::Scope(agent, capability) => {
            json!({"agentId": agent, "capabilityId": capability})
        }
        Selector::Bundle(id) => json!({ "bundleId": id }),
    }
}
