//! What the log's one lock guards: the writer, the calls that are open, and when the head was signed.

use std::io;
use std::sync::Arc;

use plexus_mesh_proto::identity::NodeKey;

use super::Tier;
use super::files::Day;
use super::line::{Body, Head};
use super::open_calls::{Left, OpenCall, OpenCalls, Step};
use super::record::Stamp;
use super::seal;
use super::writer::Writer;
use crate::clock::Timestamp;
use crate::ids::EventId;

/// The chain and what stands at its end.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) writer: Writer,
    tier: Tier,
    key: Option<Arc<NodeKey>>,
    open: OpenCalls,
    /// Calls that an earlier process left open; recorded with the first write.
    left: Vec<OpenCall>,
    /// The last checkpoint's number and time.
    sealed: (u64, Timestamp),
}

impl Chain {
    pub(super) fn new(writer: Writer, tier: Tier, left: Left, now: Timestamp) -> Self {
        let sealed = left.checkpoint.unwrap_or((0, now));
        Self { writer, tier, key: None, open: OpenCalls::default(), left: left.open, sealed }
    }

    /// From now on heads are signed with `key`.
    pub(super) fn sign_with(&mut self, key: Arc<NodeKey>) {
        self.key = Some(key);
    }

    /// Whether a process before this one left calls open that are not recorded yet.
    pub(super) const fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Writes `bodies` as the next lines, and with them what else is due: all or none.
    pub(super) fn write(&mut self, now: Timestamp, bodies: &[Body], step: Step) -> io::Result<()> {
        let left = if self.key.is_some() { &self.left[..] } else { &[] };
        let left: Vec<_> =
            left.iter().map(|call| Body::new(&call.unknown(), &stamp(now, self.tier))).collect();
        let lines: Vec<_> = left.iter().chain(bodies).collect();
        let undo = self.open.apply(step);
        let (seq, at) = self.sealed;
        let last = self.writer.head().seq + lines.len() as u64;
        let late = now.as_millis().saturating_sub(at.as_millis()) >= seal::AT_LEAST_MILLIS;
        let due = last.saturating_sub(seq) >= seal::EVERY || (late && last > seq);
        if let Err(error) = self.write_lines(now, &lines, due) {
            self.open.apply(undo);
            return Err(error);
        }
        if !left.is_empty() {
            self.left.clear();
        }
        Ok(())
    }

    /// Signs the head, when there is anything after the last checkpoint.
    pub(super) fn seal(&mut self, now: Timestamp) -> io::Result<()> {
        if self.key.is_none() || self.writer.head().seq <= self.sealed.0 {
            return Ok(());
        }
        self.write_lines(now, &[], true)
    }

    fn write_lines(&mut self, now: Timestamp, lines: &[&Body], due: bool) -> io::Result<()> {
        let (tier, open) = (self.tier, &self.open);
        let key = self.key.as_ref().filter(|_| due);
        let seal = |head: &Head| {
            let record = seal::checkpoint(key?, head, open);
            Some(Body::new(&record, &stamp(now, tier)))
        };
        self.writer.write(Day::of(now), lines, seal)?;
        if key.is_some() {
            self.sealed = (self.writer.head().seq, now);
        }
        Ok(())
    }
}

pub(super) fn stamp(at: Timestamp, tier: Tier) -> Stamp {
    Stamp { id: EventId::fresh(at), at, tier, workload: None, origin: None }
}
