//! The owner's plane: everything the owner can do. The command line is a client of exactly this.
//!
//! Every handler takes an [`Owner`](super::extract::Owner): the proof that the key was shown.

pub mod agents;
pub mod audit;
pub mod doctor;
pub mod exposure;
pub mod extensions;
pub mod ledger;
pub mod mesh;
pub mod pending;
pub mod secrets;
pub mod settings;
pub mod sources;
pub mod status;

use axum::http::StatusCode;
use plexus_shared::audit::AuditUnavailable;
use plexus_shared::model::denial::{Code, Denial};

use super::error::Failure;

pub(super) fn unrecorded(unavailable: AuditUnavailable) -> Denial {
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
