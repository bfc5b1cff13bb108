//! The owner's plane: everything the owner can do. The command line is a client of exactly this.
//!
//! Every handler takes an [`Owner`](super::extract::Owner): the proof that the key was shown.

pub mod agents;
pub mod audit;
pub mod exposure;
pub mod extensions;
pub mod mesh;
pub mod pending;
pub mod sources;
pub mod status;

use axum::http::StatusCode;
use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use plexus_shared::model::denial::{Code, Denial};

use super::Services;
use super::error::Failure;

/// Records that someone showed a wrong key, or none.
pub(super) fn record_failure(services: &Services) -> Result<(), Denial> {
    let record = Record::new(EventType::AuthFailed)
        .outcome(RecordOutcome::Denied)
        .detail(&serde_json::json!({"at": "admin"}));
    services.core.audit.append(record).map(|_| ()).map_err(unrecorded)
}

fn unrecorded(unavailable: AuditUnavailable) -> Denial {
    tracing::error!(%unavailable, "a request was refused because it could not be recorded");
    Denial::internal("the audit log can't be written, so nothing was changed")
}

/// The owner asked for something that can't be: why, with a status of its own.
fn refuse(status: StatusCode, code: Code, why: impl ToString) -> Failure {
    Failure::new(Denial::new(code, why.to_string())).with_status(status)
}

fn bad_request(why: impl ToString) -> Failure {
    Failure::malformed(StatusCode::BAD_REQUEST, why.to_string())
}

fn fault(why: impl ToString) -> Failure {
    Failure::new(Denial::internal(why.to_string()))
}
