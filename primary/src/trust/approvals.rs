//! The owner answers.

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::gate::sensitivity::Picker;
use plexus_shared::ids::PendingId;
use plexus_shared::model::trust::{Grant, TrustWindow};
use serde_json::json;

use super::agents::describe;
use super::grants::narration;
use super::ledger::granted;
use super::narration::PendingNarration;
use super::{ChangeError, Trust};
use crate::store::Change;
use crate::store::rows::{PendingRow, PendingState};

/// What the owner says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Yes, for this long; the default of each capability when it isn't said.
    Approve(Option<TrustWindow>),
    /// No, for this reason.
    Deny(Option<String>),
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is no such item.
    #[error("nothing with this id waits for an answer; see `plexus pending`")]
    Unknown,
    /// It was answered, or ended, before.
    #[error("this request is already {}", .0)]
    Settled(&'static str),
    /// What was asked for is not what is there now.
    #[error("{0} has changed or gone since it was asked for; the agent must ask again")]
    Changed(String),
    /// It could not be recorded or kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Trust {
    /// Everything that waits for the owner, with what it means.
    pub fn waiting(&self) -> Vec<(PendingRow, Vec<PendingNarration>)> {
        let catalog = self.core.registry.catalog();
        let open = self.ledger().open(self.now());
        open.into_iter()
            .map(|row| {
                let told = narration(&catalog, &row);
                (row, told)
            })
            .collect()
    }

    /// Takes the owner's answer to `id`. An item is answered once. A yes means what was asked when it
    /// was asked: a capability whose definition has changed since is a new question.
    ///
    /// # Errors
    /// See [`AnswerError`].
    pub async fn answer(&self, id: &PendingId, answer: Answer) -> Result<PendingRow, AnswerError> {
        let _gate = self.gate.lock().await;
        let now = self.now();
        let item = self.ledger().pending(id, now).ok_or(AnswerError::Unknown)?;
        match item.state {
            PendingState::Pending => {}
            PendingState::Approved => return Err(AnswerError::Settled("approved")),
            PendingState::Denied => return Err(AnswerError::Settled("denied")),
            PendingState::Expired => return Err(AnswerError::Settled("expired")),
        }
        match answer {
            Answer::Approve(window) => self.approve(item, window).await,
            Answer::Deny(reason) => self.refuse(item, reason).await,
        }
    }

    async fn approve(
        &self,
        item: PendingRow,
        window: Option<TrustWindow>,
    ) -> Result<PendingRow, AnswerError> {
        let grants = self.granted_by(&item, window)?;
        let item = PendingRow { state: PendingState::Approved, ..item };
        let record = Record::new(EventType::GrantAllow)
            .agent(&item.agent)
            .session(&item.session)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "by": "owner",
                "pendingId": item.id,
                "granted": grants.iter().map(describe).collect::<Vec<_>>(),
            }));
        let standing = grants.iter().filter(|grant| grant.window != TrustWindow::Once);
        let mut changes: Vec<_> = standing.cloned().map(Change::PutGrant).collect();
        changes.push(Change::PutPending(item.clone()));
        self.change(record, changes).await?;
        self.hand_over(&item, &grants);
        Ok(item)
    }

    fn granted_by(
        &self,
        item: &PendingRow,
        window: Option<TrustWindow>,
    ) -> Result<Vec<Grant>, AnswerError> {
        let now = self.now();
        let catalog = self.core.registry.catalog();
        let grant = |ask: &crate::store::rows::Ask| {
            let changed = || AnswerError::Changed(ask.id.to_string());
            let target = &catalog.get(ask.id.as_str()).ok_or_else(changed)?.target;
            if data_encoding::HEXLOWER.encode(&target.digest) != ask.digest {
                return Err(changed());
            }
            let class = target.posture.provenance;
            let window = match window {
                Some(picked) => self.window(Picker::Owner, class, ask.verbs, Some(picked)),
                None => self.window(Picker::Agent, class, ask.verbs, ask.window),
            };
            Ok(granted(&item.agent, &ask.id, ask.verbs, window, now))
        };
        item.asks.iter().map(grant).collect()
    }

    /// Mints the token the asking session is waiting for, when that session still lives. A standing
    /// grant outlives it; a single use does not.
    fn hand_over(&self, item: &PendingRow, grants: &[Grant]) {
        let Some(session) = self.sessions.live(item.session.as_str(), self.now()) else { return };
        match self.mint(&session, grants) {
            Ok(token) => self.sessions.keep(&session.id, item.id.clone(), token),
            Err(error) => tracing::warn!(%error, "no token was minted for an approved request"),
        }
    }

    async fn refuse(
        &self,
        item: PendingRow,
        reason: Option<String>,
    ) -> Result<PendingRow, AnswerError> {
        let item = PendingRow { state: PendingState::Denied, ..item };
        let record = Record::new(EventType::GrantDeny)
            .agent(&item.agent)
            .session(&item.session)
            .outcome(RecordOutcome::Denied)
            .detail(&json!({"by": "owner", "pendingId": item.id, "reason": reason}));
        self.change(record, vec![Change::PutPending(item.clone())]).await?;
        Ok(item)
    }
}
