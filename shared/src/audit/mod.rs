//! The record of everything a node does: one writer, one chain.
//!
//! 1. A [`Record`] says what happened. Its payloads are redacted as they are put in, and there is no
//!    other way to put them in.
//! 2. An [`AuditSink`] makes a line of it: canonical JSON with a gapless `seq`, the hash of the line
//!    before and its own. [`AuditLog`] returns once the line is with the operating system.
//! 3. A [`Bracket`] keeps the two rows of a call together and writes the second even when the call
//!    is dropped half way.
//! 4. [`LogReader`] and [`tail`] read lines back, [`verify`] walks the chain.
//! 5. [`AuditLog::begin`] gives it the node's key: from then on a checkpoint signs the head now and then,
//!    a call that a killed process left open is closed, and files past their time leave a signed stub.
//!
//! What an attacker would try: act without leaving a row (a dropped call, a full disk), plant a
//! secret in a row, cut or edit a row afterwards, or have a proxy write rows in the primary's name.

mod bracket;
mod canonical;
mod chain;
mod event;
mod files;
mod line;
mod log;
mod memory;
mod open_calls;
mod read;
mod record;
mod recover;
mod retention;
mod seal;
mod syncer;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::fmt;

pub use bracket::{Bracket, InFlight};
pub use event::{Attribution, Event, EventType, Origin, RecordOutcome, Tier, UnknownEventType};
pub use files::MAX_LINE_BYTES;
pub use line::{GENESIS, Head};
pub use log::{AuditLog, Durability};
pub use memory::MemorySink;
pub use read::{Line, LogReader, Place, ReadError, backwards, files, line_at, tail};
pub use record::Record;
pub use recover::AuditOpenError;
pub use retention::DEFAULT_KEEP_DAYS;
pub use verify::{BadLine, TailReport, VerifyReport, next, verify, verify_by, verify_tail};

use crate::ids::EventId;

/// The log cannot be written now: what must be recorded must not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit is unavailable: {reason}")]
pub struct AuditUnavailable {
    /// Why, for the owner.
    pub reason: String,
}

/// Where records go.
pub trait AuditSink: Send + Sync + fmt::Debug {
    /// Writes `record`; once this returns an id, the record outlives the process.
    ///
    /// # Errors
    /// When it could not be written; then nothing of it was.
    fn append(&self, record: Record) -> Result<EventId, AuditUnavailable>;

    /// Whether the last attempt to write succeeded. When it did not, only an attempt tells.
    fn is_available(&self) -> bool {
        true
    }
}
