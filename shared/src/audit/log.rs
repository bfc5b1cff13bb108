//! The log of a node.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use plexus_mesh_proto::identity::NodeKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::chain::{Chain, stamp};
use super::event::{Event, Origin, Tier};
use super::line::{Body, Head};
use super::open_calls::Step;
use super::record::{Record, Stamp};
use super::recover::{AuditOpenError, Standing, at, recover};
use super::retention::Retention;
use super::syncer::Syncer;
use super::writer::Writer;
use super::{AuditSink, AuditUnavailable};
use crate::clock::{Clock, Timestamp};
use crate::ids::EventId;
use crate::redact::Redactor;
use crate::state_dir::StateDir;

/// When a written line is taken to the disk. Either way it outlives the process at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// With others, at most 100 ms later: what a power loss may cost.
    #[default]
    Batched,
    /// Before the append returns.
    Always,
}

/// The one writer of a node's log. Its folder is this process's alone (see [`StateDir::lock`]).
pub struct AuditLog {
    clock: Arc<dyn Clock>,
    tier: Tier,
    chain: Mutex<Chain>,
    retention: OnceLock<Arc<Retention>>,
    dir: StateDir,
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
        let Standing { head, day, left, note } = recover(&dir)?;
        let syncer = Syncer::start().map_err(at(dir.path()))?;
        let seq = watch::Sender::new(head.seq);
        let writer = Writer::new(dir.clone(), durability, syncer, head, day);
        let chain = Mutex::new(Chain::new(writer, tier, left, clock.now()));
        let (note, retention) = (Mutex::new(note), OnceLock::new());
        let available = AtomicBool::new(true);
        Ok(Self { clock, tier, chain, retention, dir, seq, available, note })
    }

    /// Gives the log the node's `key` and has it keep files for `keep_days` days. Calls that an earlier
    /// process left open are recorded now, with an unknown outcome, or else with the next record.
    pub fn begin(&self, key: Arc<NodeKey>, keep_days: u32) {
        let begun = {
            let mut chain = lock(&self.chain);
            chain.sign_with(key.clone());
            chain.has_left()
        };
        if begun && let Err(error) = self.write(&[], Step::Neither) {
            tracing::error!(%error, "calls that were cut off are not recorded yet");
        }
        let retention = Arc::new(Retention::new(self.dir.clone(), key, keep_days));
        retention.start(self.clock.now());
        // A second call changes nothing: the first one's key and days stay.
        let _ = self.retention.set(retention);
    }

    /// What the owner says of the log: it holds for the next line, and files whose time is over by it
    /// go now.
    pub fn decide(&self, durability: Durability, keep_days: u32) {
        lock(&self.chain).writer.durability = durability;
        if let Some(retention) = self.retention.get() {
            retention.keep_for(keep_days);
            retention.start(self.clock.now());
        }
    }

    /// Signs the head. The log stays open: what is recorded later is signed when it is dropped.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    pub fn seal(&self) -> Result<(), AuditUnavailable> {
        self.writing(|chain, now| chain.seal(now)).map(|_| ())
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
        let stamp = Stamp { id: id.clone(), ..stamp(at, self.tier) };
        let written = self.write(&[Body::new(&record, &stamp)], Step::of(&record));
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
        if bodies.is_empty() { Ok(self.head().seq) } else { self.write(&bodies, Step::Neither) }
    }

    /// Where its files are: for reading and verifying, which need no writer.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Whether the last attempt to write succeeded. When it did not, the next append finds out.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire) && !lock(&self.chain).writer.sync_failed()
    }

    /// The last line.
    pub fn head(&self) -> Head {
        lock(&self.chain).writer.head().clone()
    }

    /// The number of the last line, as it changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    fn write(&self, bodies: &[Body], step: Step) -> Result<u64, AuditUnavailable> {
        self.writing(|chain, now| chain.write(now, bodies, step))
    }

    fn writing(
        &self,
        write: impl FnOnce(&mut Chain, Timestamp) -> io::Result<()>,
    ) -> Result<u64, AuditUnavailable> {
        let now = self.clock.now();
        let mut chain = lock(&self.chain);
        let day = chain.writer.day();
        let written = write(&mut chain, now);
        self.available.store(written.is_ok(), Ordering::Release);
        written.map_err(|error| unavailable(&error))?;
        let seq = chain.writer.head().seq;
        // Still under the lock, so that the number only grows.
        self.seq.send_replace(seq);
        let rotated = chain.writer.day() != day;
        drop(chain);
        if rotated && let Some(retention) = self.retention.get() {
            retention.start(now);
        }
        Ok(seq)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Err(error) = self.seal() {
            tracing::error!(%error, "the end of the audit log could not be signed");
        }
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

    fn is_available(&self) -> bool {
        AuditLog::is_available(self)
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
        lock(&self.chain).writer.fault = fault;
    }

    /// A background sync fails.
    pub(super) fn break_sync(&self) {
        lock(&self.chain).writer.fail_sync();
    }
}
