//! The log of a node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::event::{Event, Origin, Tier};
use super::files::Day;
use super::line::{Body, Head};
use super::record::{Record, Stamp};
use super::recover::{AuditOpenError, Standing, at, recover};
use super::syncer::Syncer;
use super::writer::Writer;
use super::{AuditSink, AuditUnavailable};
use crate::clock::Clock;
use crate::ids::EventId;
use crate::redact::Redactor;
use crate::state_dir::StateDir;

/// When a written line is taken to the disk. Either way it outlives the process at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// With others, at most 100 ms later: what a power loss may cost.
    #[default]
    Batched,
    /// Before the append returns.
    Always,
}

/// The one writer of a node's log. Its folder is this process's alone (see [`StateDir::lock`]).
pub struct AuditLog {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    tier: Tier,
    writer: Mutex<Writer>,
    seq: watch::Sender<u64>,
    available: AtomicBool,
    /// What the next record says of a tail that was cut off.
    note: Mutex<Option<Value>>,
}

impl AuditLog {
    /// The log in `dir`, continued where it ends.
    ///
    /// # Errors
    /// When the folder cannot be read, or its last line is not one of ours.
    pub fn open(dir: StateDir, clock: Arc<dyn Clock>, tier: Tier) -> Result<Self, AuditOpenError> {
        Self::open_with(dir, clock, tier, Durability::default())
    }

    /// As [`AuditLog::open`], with `durability`.
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn open_with(
        dir: StateDir,
        clock: Arc<dyn Clock>,
        tier: Tier,
        durability: Durability,
    ) -> Result<Self, AuditOpenError> {
        let Standing { head, day, note } = recover(&dir)?;
        let syncer = Syncer::start().map_err(at(dir.path()))?;
        let seq = watch::Sender::new(head.seq);
        let folder = dir.path().to_owned();
        let writer = Mutex::new(Writer::new(dir, durability, syncer, head, day));
        let note = Mutex::new(note);
        Ok(Self { folder, clock, tier, writer, seq, available: AtomicBool::new(true), note })
    }

    /// Writes `record` as the next line. It is with the operating system when this returns its id.
    ///
    /// # Errors
    /// When it could not be written. Nothing of it was then, and the next append tries anew.
    pub fn append(&self, record: Record) -> Result<EventId, AuditUnavailable> {
        let note = lock(&self.note).take();
        let record = note.iter().fold(record, Record::detail);
        let at = self.clock.now();
        let id = EventId::fresh(at);
        let stamp = Stamp { id: id.clone(), at, tier: self.tier, workload: None, origin: None };
        let written = self.write(&[Body::new(&record, &stamp)]);
        if written.is_err() && note.is_some() {
            *lock(&self.note) = note;
        }
        written.map(|_| id)
    }

    /// Writes what `workload` recorded as lines of ours, all or none; returns the head after them.
    /// Their tier and workload are what the connection says, whatever the events say; they pass the
    /// redactor again.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    pub fn append_mirrored(
        &self,
        workload: &str,
        events: &[Event],
    ) -> Result<u64, AuditUnavailable> {
        let redactor = Redactor::default();
        let workload = redactor.redact_text(workload);
        let body = |event: &Event| {
            let hash = redactor.redact_text(&event.hash);
            let origin = Origin { id: event.id.clone(), seq: event.seq, hash };
            let stamp = Stamp {
                // Ours: no other node names a line of this log.
                id: EventId::fresh(self.clock.now()),
                at: event.at,
                tier: Tier::Proxy,
                workload: Some(workload.clone()),
                origin: Some(origin),
            };
            Body::new(&Record::mirrored(event, &redactor), &stamp)
        };
        let bodies: Vec<_> = events.iter().map(body).collect();
        if bodies.is_empty() { Ok(self.head().seq) } else { self.write(&bodies) }
    }

    /// Where its files are: for reading and verifying, which need no writer.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the last attempt to write succeeded. When it did not, the next append finds out.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire) && !lock(&self.writer).sync_failed()
    }

    /// The last line.
    pub fn head(&self) -> Head {
        lock(&self.writer).head().clone()
    }

    /// The number of the last line, as it changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    fn write(&self, bodies: &[Body]) -> Result<u64, AuditUnavailable> {
        let mut writer = lock(&self.writer);
        let written = writer.write(Day::of(self.clock.now()), bodies);
        self.available.store(written.is_ok(), Ordering::Release);
        written.map_err(|error| unavailable(&error))?;
        let seq = writer.head().seq;
        // Still under the lock, so that the number only grows.
        self.seq.send_replace(seq);
        Ok(seq)
    }
}

fn unavailable(error: &io::Error) -> AuditUnavailable {
    tracing::error!(%error, "the audit log cannot be written");
    AuditUnavailable { reason: error.to_string() }
}

/// What a lock guards here is changed only after the work that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AuditSink for AuditLog {
    fn append(&self, record: Record) -> Result<EventId, AuditUnavailable> {
        AuditLog::append(self, record)
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("tier", &self.tier).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl AuditLog {
    /// From now on writes fail like this, or do not.
    pub(super) fn break_writes(&self, fault: Option<super::writer::Fault>) {
        lock(&self.writer).fault = fault;
    }

    /// A background sync fails.
    pub(super) fn break_sync(&self) {
        lock(&self.writer).fail_sync();
    }
}
