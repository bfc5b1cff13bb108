//! The owner's emergency stop.

use std::sync::atomic::Ordering;

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use serde_json::json;

use super::revoke::ids;
use super::{ChangeError, Trust};
use crate::events::Decision;
use crate::store::Change;
use crate::store::rows::{PendingRow, PendingState};

/// What a freeze ended.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    /// Sessions.
    pub sessions_ended: usize,
    /// Tokens.
    pub tokens_revoked: usize,
    /// Questions that waited.
    pub pending_denied: usize,
}

impl Trust {
    /// Whether the owner has frozen the gateway.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    /// Freezes the gateway until [`Trust::resume`], across restarts: agents are refused, every session
    /// and token ends, what waits is denied. No call that begins after the answer passes.
    ///
    /// # Errors
    /// When it could not be recorded and kept. Agents are refused all the same, until a restart.
    pub async fn freeze(&self) -> Result<Frozen, ChangeError> {
        // First of all, and whatever comes of the rest.
        self.frozen.store(true, Ordering::Release);
        let before = self.sessions.clear();
        let _gate = self.gate.lock().await;
        // What a request had begun before is ended too.
        let after = self.sessions.clear();
        let open = self.ledger().open(self.now());
        let frozen = Frozen {
            sessions_ended: before.0 + after.0,
            tokens_revoked: before.1 + after.1,
            pending_denied: open.len(),
        };
        let denied = |row: PendingRow| Change::PutPending(row.settled(PendingState::Denied));
        let mut changes = vec![Change::SetFrozen(true)];
        changes.extend(open.iter().cloned().map(denied));
        let record = Record::new(EventType::SettingsChange).outcome(RecordOutcome::Ok);
        let record = record.detail(&json!({"frozen": true, "ended": frozen, "denied": ids(&open)}));
        if let Err(error) = self.change(record, changes.clone()).await {
            // An emergency stop that the log can't hold is still one: it is kept, if it can be.
            self.core.store.commit(changes.clone()).await?;
            self.show(changes);
            return Err(error);
        }
        open.iter().for_each(|row| self.tell_resolved(row, Decision::Denied, None));
        Ok(frozen)
    }

    /// Lets agents in again. Nothing that was ended comes back: they handshake anew.
    ///
    /// # Errors
    /// When it could not be recorded and kept; the gateway stays frozen.
    pub async fn resume(&self) -> Result<(), ChangeError> {
        let _gate = self.gate.lock().await;
        let record = Record::new(EventType::SettingsChange).outcome(RecordOutcome::Ok);
        let record = record.detail(&json!({"frozen": false}));
        self.change(record, vec![Change::SetFrozen(false)]).await?;
        // Whoever slipped in between is out.
        self.sessions.clear();
        self.frozen.store(false, Ordering::Release);
        Ok(())
    }
}
