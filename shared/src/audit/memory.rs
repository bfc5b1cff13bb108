//! A sink for tests: the same lines, kept in memory.

use std::sync::{Arc, Mutex, PoisonError};

use super::event::{Event, Tier};
use super::line::{Body, Head};
use super::record::{Record, Stamp};
use super::{AuditSink, AuditUnavailable};
use crate::clock::Clock;
use crate::ids::EventId;

/// Keeps what is appended. Can be made unavailable.
#[derive(Debug)]
pub struct MemorySink {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    head: Head,
    events: Vec<Event>,
    unavailable: bool,
}

impl MemorySink {
    /// An empty sink.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let kept = Kept { head: Head::genesis(), events: Vec::new(), unavailable: false };
        Arc::new(Self { clock, kept: Mutex::new(kept) })
    }

    /// What was appended, in order, as it would read from the log.
    pub fn events(&self) -> Vec<Event> {
        self.kept().events.clone()
    }

    /// From now on appends succeed, or not.
    pub fn set_available(&self, available: bool) {
        self.kept().unavailable = !available;
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditSink for MemorySink {
    fn append(&self, record: Record) -> Result<EventId, AuditUnavailable> {
        let mut kept = self.kept();
        if kept.unavailable {
            return Err(AuditUnavailable { reason: "made so by a test".to_owned() });
        }
        let at = self.clock.now();
        let id = EventId::fresh(at);
        let stamp = Stamp { id: id.clone(), at, tier: Tier::Primary, workload: None, origin: None };
        let mut line = Vec::new();
        let head = Body::new(&record, &stamp).follow(&kept.head, &mut line);
        let event = serde_json::from_slice(&line)
            .map_err(|error| AuditUnavailable { reason: error.to_string() })?;
        kept.events.push(event);
        kept.head = head;
        Ok(id)
    }

    fn is_available(&self) -> bool {
        !self.kept().unavailable
    }
}
