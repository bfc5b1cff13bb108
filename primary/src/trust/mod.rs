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
mod bounds;
mod deciding;
mod freeze;
mod grants;
pub mod ledger;
mod mint;
pub mod narration;
mod preview;
mod registering;
mod revoke;
pub mod sessions;
mod sweep;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use plexus_shared::admit::token::TokenKeys;
use plexus_shared::audit::{AuditUnavailable, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::gate::members::Whole;
use plexus_shared::gate::sensitivity::{Picker, choose_window};
use plexus_shared::ids::{EventId, SessionId, TokenId};
use plexus_shared::model::denial::Denial;
use plexus_shared::model::scope::ScopedToken;
use plexus_shared::model::trust::{Provenance, TrustWindow};
use plexus_shared::model::verb::VerbSet;

use crate::core::Core;
use crate::events::{Audience, Decision, Event};
use crate::replays::Replays;
use crate::settings::Settings;
use crate::store::rows::{Ask, PendingRow, PendingState};
use crate::store::{Change, StoreError};
use authorizer::Authorizer;
use ledger::Ledger;
use sessions::Sessions;

pub use agents::{
    Connect, ConnectError, Connected, EnrollError, Enrolled, Given, StartingCapability,
};
pub use approvals::{Answer, AnswerError};
pub use grants::{Declined, GrantReply, GrantStatus, Occasion, Requested, standing as show};
pub use preview::Preview;
pub use revoke::{AgentRevoked, Revoked, Selector};

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

impl From<Settings> for Lifetimes {
    fn from(settings: Settings) -> Self {
        Self {
            token: Duration::from_millis(settings.token_lifetime_ms),
            session: Duration::from_millis(settings.session_lifetime_ms),
            pending: Duration::from_millis(settings.pending_lifetime_ms),
            code: Duration::from_millis(settings.enrollment_code_lifetime_ms),
        }
    }
}

/// The most items one agent may have waiting.
pub const MAX_OPEN_ITEMS: usize = 5;

/// The trust engine.
pub struct Trust {
    core: Core,
    gate: tokio::sync::Mutex<()>,
    ledger: RwLock<Ledger>,
    sessions: Arc<Sessions>,
    replays: Arc<Replays>,
    keys: TokenKeys,
    frozen: AtomicBool,
    /// Who decides, where it isn't the policy in the settings.
    authorizer: Option<Arc<dyn Authorizer>>,
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
    /// A file of the state folder could not be written.
    #[error(transparent)]
    State(#[from] plexus_shared::state_dir::StateDirError),
}

impl From<ChangeError> for Denial {
    fn from(error: ChangeError) -> Self {
        tracing::error!(%error, "a change failed");
        Denial::internal("the change could not be recorded and kept, so nothing was changed")
    }
}

impl Trust {
    /// The engine over what it kept, `frozen` if it was. How it decides, and how long what it makes
    /// lives, are the settings in force.
    pub fn new(
        core: Core,
        ledger: Ledger,
        sessions: Arc<Sessions>,
        replays: Arc<Replays>,
        keys: TokenKeys,
        frozen: bool,
    ) -> Self {
        let gate = tokio::sync::Mutex::default();
        let (ledger, frozen) = (RwLock::new(ledger), AtomicBool::new(frozen));
        Self { core, gate, ledger, sessions, replays, keys, frozen, authorizer: None }
    }

    /// The same, with `authorizer` in the place of the policy that the settings name, where there is one.
    #[must_use]
    pub fn decided_by(self, authorizer: Option<Arc<dyn Authorizer>>) -> Self {
        Self { authorizer, ..self }
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

    /// Forgets whatever is held or asked for on ids that begin with `prefix`, together with `changes`,
    /// and takes it out of use by `hide`: nothing of it can be asked for in between.
    ///
    /// # Errors
    /// When it could not be kept; then nothing was forgotten, and nothing hidden.
    pub async fn forget(
        &self,
        prefix: &str,
        changes: Vec<Change>,
        hide: impl FnOnce(),
    ) -> Result<(), StoreError> {
        let _gate = self.gate.lock().await;
        let (forgetting, moot) = self.forgetting(prefix);
        let changes: Vec<_> = changes.into_iter().chain(forgetting).collect();
        self.core.store.commit(changes.clone()).await?;
        hide();
        self.show(changes);
        self.tell_forgotten(prefix, &moot);
        Ok(())
    }

    /// The changes that forget what is held or asked for on ids that begin with `prefix`, and the
    /// questions that end with it: also those on a workflow that reaches one.
    fn forgetting(&self, prefix: &str) -> (Vec<Change>, Vec<PendingRow>) {
        let catalog = self.core.registry.catalog();
        let reaches = |ask: &Ask| {
            let whole = Whole::of(&catalog, ask.id.as_str(), ask.verbs);
            whole.known_members().iter().any(|member| member.id.as_str().starts_with(prefix))
        };
        let begins = |row: &PendingRow| {
            row.capabilities().iter().any(|id| id.as_str().starts_with(prefix))
                || row.asks().iter().any(reaches)
        };
        let open = self.ledger().open(self.now());
        let moot: Vec<_> = open.into_iter().filter(begins).collect();
        let denied = |row: PendingRow| Change::PutPending(row.settled(PendingState::Denied));
        let mut changes = vec![Change::DropGrants(prefix.to_owned())];
        changes.extend(moot.iter().cloned().map(denied));
        (changes, moot)
    }

    /// Ends the tokens on what was forgotten, and tells everyone whom it concerns.
    fn tell_forgotten(&self, prefix: &str, moot: &[PendingRow]) {
        for row in moot {
            self.tell_resolved(row, Decision::Denied, None);
        }
        let struck = self.sessions.strike(|scope| scope.as_str().starts_with(prefix));
        self.tell_struck(struck, "what it was for has gone");
        self.replays.let_go(|_, id| id.starts_with(prefix));
    }

    /// Tells that `row` is answered: the session that asked, with the token it may use now, and the
    /// owner, without it.
    fn tell_resolved(&self, row: &PendingRow, decision: Decision, token: Option<ScopedToken>) {
        let state = match decision {
            Decision::Approved => PendingState::Approved,
            Decision::Denied => PendingState::Denied,
        };
        let (events, pending) = (&self.core.events, row.id.clone());
        let resolved = Event::GrantResolved { pending: pending.clone(), decision, token };
        events.publish(Audience::Session(row.session.clone()), resolved);
        events.tell_owner(Event::PendingResolved { pending, state });
    }

    /// Tells each holder of a struck token that it is dead; gives back which tokens those were.
    fn tell_struck(&self, struck: Vec<(TokenId, SessionId)>, reason: &'static str) -> Vec<TokenId> {
        let tell = |(jti, holder): (TokenId, SessionId)| {
            let revoked = Event::TokenRevoked { jti: jti.clone(), reason };
            self.core.events.publish(Audience::Session(holder), revoked);
            jti
        };
        struck.into_iter().map(tell).collect()
    }

    fn lifetimes(&self) -> Lifetimes {
        self.core.settings.now().into()
    }

    /// The window an approval gets: the tables', within the owner's longest.
    fn window(
        &self,
        picker: Picker,
        class: Provenance,
        verbs: VerbSet,
        asked: Option<TrustWindow>,
    ) -> TrustWindow {
        let longest = TrustWindow::Custom { ms: self.core.settings.now().max_trust_window_ms };
        match choose_window(picker, class, verbs, asked) {
            TrustWindow::UntilRevoked => TrustWindow::UntilRevoked,
            window => window.shorter(longest),
        }
    }

    fn now(&self) -> Timestamp {
        self.core.now()
    }

    /// Records, commits, then shows `changes`; the caller holds the gate. A commit that fails is
    /// recorded too.
    async fn change(&self, record: Record, changes: Vec<Change>) -> Result<EventId, ChangeError> {
        let failed = record.clone();
        let event = self.core.audit.append(record)?;
        if let Err(error) = self.core.store.commit(changes.clone()).await {
            let detail = serde_json::json!({"phase": "failed", "event": event});
            let outcome = RecordOutcome::Error;
            self.core.audit.append(failed.outcome(outcome).detail(&detail))?;
            return Err(error.into());
        }
        self.show(changes);
        Ok(event)
    }

    /// Shows what was committed.
    fn show(&self, changes: Vec<Change>) {
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().for_each(|change| ledger.apply(change));
    }
}
