//! The trust engine of the primary: who the agents are, what they hold, what waits for the owner.
//!
//! Memory is what requests read ([`ledger::Ledger`], [`sessions::Sessions`]); the store is what
//! survives. A change is made under one gate, in this order: decide, record, commit, show. So what
//! could not be recorded does not happen, and what was not committed is never seen.
//!
//! What an attacker would try: redeem a code twice (one gate, one commit), read another session's
//! answer (items are bound to their originator), ask for a verb and use another (grants hold exactly
//! what was approved), lengthen a window (only the owner can).

mod agents;
mod approvals;
pub mod authorizer;
mod grants;
pub mod ledger;
mod mint;
pub mod narration;
pub mod sessions;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use plexus_shared::admit::token::TokenKeys;
use plexus_shared::audit::{AuditSink, AuditUnavailable, Record};
use plexus_shared::clock::{Clock, Timestamp};
use plexus_shared::ids::EventId;
use plexus_shared::model::denial::Denial;
use plexus_shared::source::registry::Registry;

use crate::store::{Change, Store, StoreError};
use authorizer::Authorizer;
use ledger::Ledger;
use sessions::Sessions;

pub use agents::{Connect, ConnectError, Connected, EnrollError, Enrolled, StartingCapability};
pub use approvals::{Answer, AnswerError};
pub use grants::{Declined, GrantReply, GrantStatus, Requested, standing as show};

/// How long what the engine makes lives.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// A scoped token.
    pub token: Duration,
    /// A session.
    pub session: Duration,
    /// An unanswered pending item.
    pub pending: Duration,
    /// An unredeemed enrollment code.
    pub code: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let minutes = |n| Duration::from_secs(n * 60);
        Self {
            token: minutes(15),
            session: minutes(60),
            pending: minutes(24 * 60),
            code: minutes(15),
        }
    }
}

/// The most items one agent may have waiting.
pub const MAX_OPEN_ITEMS: usize = 5;

/// The trust engine.
pub struct Trust {
    gate: tokio::sync::Mutex<()>,
    ledger: RwLock<Ledger>,
    sessions: Arc<Sessions>,
    keys: TokenKeys,
    authorizer: Box<dyn Authorizer>,
    lifetimes: Lifetimes,
    store: Arc<Store>,
    registry: Arc<Registry>,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
}

/// What a [`Trust`] is made of.
pub struct Parts {
    /// What it kept from before.
    pub ledger: Ledger,
    /// Sessions and live tokens.
    pub sessions: Arc<Sessions>,
    /// The token secret.
    pub keys: TokenKeys,
    /// Who decides.
    pub authorizer: Box<dyn Authorizer>,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// Where changes are kept.
    pub store: Arc<Store>,
    /// What there is to call.
    pub registry: Arc<Registry>,
    /// Where changes are recorded.
    pub audit: Arc<dyn AuditSink>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A change that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It could not be recorded.
    #[error("the audit log can't be written, so nothing was changed")]
    Audit(#[from] AuditUnavailable),
    /// It could not be kept.
    #[error("the change could not be kept, so nothing was changed: {0}")]
    Store(#[from] StoreError),
}

impl From<ChangeError> for Denial {
    fn from(error: ChangeError) -> Self {
        tracing::error!(%error, "a change failed");
        Denial::internal("the change could not be recorded and kept, so nothing was changed")
    }
}

impl Trust {
    /// The engine over its parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { ledger, sessions, keys, authorizer, lifetimes, store, registry, audit, clock } =
            parts;
        Self {
            gate: tokio::sync::Mutex::default(),
            ledger: RwLock::new(ledger),
            sessions,
            keys,
            authorizer,
            lifetimes,
            store,
            registry,
            audit,
            clock,
        }
    }

    /// Sessions and live tokens.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The token secret's reader.
    pub fn keys(&self) -> &TokenKeys {
        &self.keys
    }

    /// The ledger as it is now.
    pub fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Records, commits, then shows `changes`; the caller holds the gate. A commit that fails is
    /// recorded too.
    async fn change(&self, record: Record, changes: Vec<Change>) -> Result<EventId, ChangeError> {
        let failed = record.clone();
        let event = self.audit.append(record)?;
        if let Err(error) = self.store.commit(changes.clone()).await {
            let detail = serde_json::json!({"phase": "failed", "event": event});
            let outcome = plexus_shared::audit::RecordOutcome::Error;
            self.audit.append(failed.outcome(outcome).detail(&detail))?;
            return Err(error.into());
        }
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            ledger.apply(change);
        }
        Ok(event)
    }
}
