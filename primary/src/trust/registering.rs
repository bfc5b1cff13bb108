//! An agent wants an extension registered: it waits for the owner like anything else that is asked.

use plexus_shared::audit::Record;
use plexus_shared::ids::{AgentId, PendingId};
use plexus_shared::model::denial::{Code, Denial};
use serde_json::json;

use super::Trust;
use super::approvals::AnswerError;
use super::grants::Item;
use super::revoke::ids;
use super::sessions::Session;
use crate::events::Decision;
use crate::store::Change;
use crate::store::rows::{AskedExtension, ExtensionRow, Matter, PendingRow, PendingState};

impl Trust {
    /// Whether `id` asks for an extension.
    pub fn registers(&self, id: &PendingId) -> bool {
        let item = self.ledger().pending(id, self.now());
        item.is_some_and(|item| matches!(item.matter, Matter::Register(_)))
    }

    /// Puts an extension before the owner: the item that already waits for the very same, or a new one.
    /// `told` is what is recorded of it.
    ///
    /// # Errors
    /// `session_expired`; `grant_required` for whoever is no agent of the owner's; `rate_limited`
    /// beyond [`MAX_OPEN_ITEMS`](super::MAX_OPEN_ITEMS); `internal_error` when it could not be recorded
    /// or kept.
    pub async fn ask_to_register(
        &self,
        session: &Session,
        asked: AskedExtension,
        told: Record,
    ) -> Result<PendingRow, Denial> {
        let _gate = self.gate.lock().await;
        // It may have ended while this waited: what is revoked asks for nothing any more.
        let session = &self.session(Some(session.id.as_str()))?;
        if !self.enrolled(&session.agent) {
            let message = "an extension is registered by an agent that the owner connected; enroll \
                           first, or let the owner add it";
            return Err(Denial::new(Code::GrantRequired, message));
        }
        let row = match self.place(session, Matter::Register(asked))? {
            Item::Waiting(row) => return Ok(row),
            Item::New(row) => row,
        };
        let told = told.agent(&row.agent).session(&row.session);
        let put = vec![Change::PutPending(row.clone())];
        self.change(told.detail(&json!({ "pendingId": row.id })), put).await?;
        self.tell_asked(&row);
        Ok(row)
    }

    fn enrolled(&self, agent: &AgentId) -> bool {
        self.ledger().agent(agent).is_some_and(|row| row.revoked_at.is_none())
    }

    /// Takes the owner's yes to the extension that `id` asks for, which `row` is: recorded, kept, and
    /// brought into use by `show`. Whatever was granted or asked on its source ends first: it was about
    /// something else.
    ///
    /// # Errors
    /// See [`AnswerError`]; then nothing was changed.
    pub async fn register(
        &self,
        id: &PendingId,
        row: ExtensionRow,
        told: Record,
        show: impl FnOnce(),
    ) -> Result<(), AnswerError> {
        let _gate = self.gate.lock().await;
        let item = self.open_item(id)?.settled(PendingState::Approved);
        let told = told.agent(&item.agent).session(&item.session);
        let prefix = format!("{}.", row.source.slug());
        let (mut changes, mut moot) = self.forgetting(&prefix);
        moot.retain(|other| other.id != item.id);
        let told = told.detail(&json!({
            "by": "owner", "pendingId": item.id, "denied": ids(&moot),
        }));
        // The last word on an item counts, so this one's comes last.
        changes.push(Change::PutPending(item.clone()));
        changes.push(Change::PutExtension(row));
        self.change(told, changes).await?;
        self.tell_forgotten(&prefix, &moot);
        show();
        self.tell_resolved(&item, Decision::Approved, None);
        Ok(())
    }
}
