//! Rows about joins that were refused: anyone who reaches the socket can ask for them.

use std::sync::{MutexGuard, PoisonError};

use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use serde_json::json;

use super::Mesh;
use crate::limits::Ration;

impl Mesh {
    /// Records a refused join, within the ration.
    pub(super) fn note_refusal(
        &self,
        mut detail: serde_json::Value,
    ) -> Result<(), AuditUnavailable> {
        let Some(others) = self.refusals().take(self.now()) else { return Ok(()) };
        detail["unrecorded"] = json!(others);
        let record = Record::new(EventType::MeshEnroll).outcome(RecordOutcome::Denied);
        self.core.audit.append(record.detail(&detail)).map(|_| ())
    }

    /// Records how many refused joins went without a row, once their time is over.
    pub fn settle_refusals(&self) {
        let Some(others) = self.refusals().overdue(self.now()) else { return };
        let record = Record::new(EventType::MeshEnroll).outcome(RecordOutcome::Denied);
        if self.core.audit.append(record.detail(&json!({ "unrecorded": others }))).is_err() {
            tracing::error!(others, "refused joins could not be recorded");
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Ration> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
