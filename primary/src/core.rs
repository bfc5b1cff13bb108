//! What every service of the primary stands on.

use std::sync::Arc;

use plexus_shared::audit::{AuditLog, Record, RecordOutcome};
use plexus_shared::clock::{Clock, Timestamp};
use plexus_shared::source::registry::Registry;
use serde_json::json;

use crate::events::Events;
use crate::settings::InForce;
use crate::store::Store;
use crate::store::audit_index::AuditIndex;
use crate::tasks::Tasks;

/// What there is to call, what survives, what is recorded, and the time.
#[derive(Clone)]
pub struct Core {
    /// What there is to call.
    pub registry: Arc<Registry>,
    /// What survives.
    pub store: Arc<Store>,
    /// What is recorded.
    pub audit: Arc<AuditLog>,
    /// What happens, told as it happens.
    pub events: Arc<Events>,
    /// What finds it again; without one the files are read.
    pub audit_index: Option<Arc<AuditIndex>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The owner's settings.
    pub settings: InForce,
    /// Held by whoever reads the exposure rules to write them anew.
    pub exposure_gate: Arc<tokio::sync::Mutex<()>>,
    /// What is carried through whoever goes away.
    pub tasks: Arc<Tasks>,
}

impl Core {
    /// The current moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What `record` said was done was not: the log says that too.
    pub fn note_failure(&self, record: Record) {
        let failed = record.outcome(RecordOutcome::Error).detail(&json!({"phase": "failed"}));
        // It was not done either way.
        let _ = self.audit.append(failed);
    }
}
