//! Taking over a workload's audit: every line once, in its order, whatever the outage.
//!
//! The cursor is the highest contiguous `seq` of the workload's own log that is in ours. Our log is
//! what says so; the kept cursor only saves reading all of it again. So it is kept now and then, and at
//! the start our log is read from the last place the cursor was true.

use std::path::Path;

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::audit::AuditBatch;
use plexus_mesh_proto::close::CloseCode;
use plexus_shared::audit::{AuditUnavailable, Event, EventType, LogReader, ReadError, Tier};

use super::Mesh;
use crate::store::rows::CursorRow;
use crate::store::{Change, Kept};

/// How many lines of ours may pass before a cursor is kept again.
const KEEP_EVERY: u64 = 4096;

impl Mesh {
    /// Takes over a batch; says up to where the workload's log is now mirrored. Lines that were taken
    /// before are passed over.
    ///
    /// # Errors
    /// `Violation` for lines that are no events or leave a gap; `ShuttingDown` when ours can't be
    /// written now, so that the workload keeps its lines and comes again.
    pub(super) async fn mirror(
        &self,
        name: &WorkloadName,
        batch: AuditBatch,
    ) -> Result<u64, CloseCode> {
        let _gate = self.mirror_gate.lock().await;
        let through = self.cursor(name);
        let events = fresh(batch, through).ok_or(CloseCode::Violation)?;
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(through) };
        let log_seq = self.core.audit.append_mirrored(name.as_str(), &events).map_err(postpone)?;
        let kept = self.update(|roster| {
            let workload = roster.workloads.get_mut(name)?;
            workload.cursor.origin_seq = last;
            Some(workload.cursor.log_seq)
        });
        if kept.is_some_and(|kept| log_seq.saturating_sub(kept) >= KEEP_EVERY) {
            self.keep_cursor(name, CursorRow { origin_seq: last, log_seq }).await;
        }
        Ok(last)
    }
}

impl Mesh {
    async fn keep_cursor(&self, name: &WorkloadName, cursor: CursorRow) {
        let CursorRow { origin_seq, log_seq } = cursor;
        let keep = Change::PutCursor { workload: name.clone(), origin_seq, log_seq };
        match self.core.store.commit(vec![keep]).await {
            Ok(()) => self.update(|roster| {
                if let Some(workload) = roster.workloads.get_mut(name) {
                    workload.cursor.log_seq = log_seq;
                }
            }),
            Err(error) => tracing::warn!(%error, workload = %name, "an audit cursor was not kept"),
        }
    }
}

fn postpone(unavailable: AuditUnavailable) -> CloseCode {
    tracing::error!(%unavailable, "a workload's audit could not be taken over");
    CloseCode::ShuttingDown
}

/// The events of `batch` after `through`, when they follow it without a gap.
fn fresh(batch: AuditBatch, through: u64) -> Option<Vec<Event>> {
    let mut next = through.checked_add(1)?;
    let mut events = Vec::new();
    for line in batch.lines {
        let event: Event = serde_json::from_str(line.get()).ok()?;
        if event.seq < next {
            continue;
        }
        if event.seq != next || !recorded_there(event.event_type) {
            return None;
        }
        next = next.checked_add(1)?;
        events.push(event);
    }
    Some(events)
}

/// Whether a node without authority can have recorded this: it decides no grant and knows no agent's
/// credential.
fn recorded_there(event: EventType) -> bool {
    match event {
        EventType::Invoke
        | EventType::SourceInstall
        | EventType::SourceChange
        | EventType::ExposureSet
        | EventType::MeshEnroll
        | EventType::MeshConnect
        | EventType::MeshDisconnect
        | EventType::SettingsChange
        | EventType::KeyRotate
        | EventType::Checkpoint => true,
        EventType::Handshake
        | EventType::AgentEnroll
        | EventType::AgentConnect
        | EventType::AgentRevoke
        | EventType::GrantPending
        | EventType::GrantAllow
        | EventType::GrantDeny
        | EventType::GrantRevoke
        | EventType::TokenIssue
        | EventType::TokenRefresh
        | EventType::TokenRevoke
        | EventType::MeshInvite
        | EventType::MeshRevoke
        | EventType::AuthFailed => false,
    }
}

/// Brings the kept cursors up to what our own log in `dir` says, whose last line is `head`.
///
/// # Errors
/// When the log can't be read.
pub(crate) fn recover(dir: &Path, head: u64, kept: &mut Kept) -> Result<(), ReadError> {
    let known = kept.workloads.iter().map(|row| row.name.clone());
    let mut cursors: std::collections::BTreeMap<_, _> =
        known.map(|name| (name, CursorRow::default())).collect();
    cursors.extend(kept.cursors.drain(..));
    let from = cursors.values().map(|cursor| cursor.log_seq).min().unwrap_or(0);
    let mut reader = LogReader::from_seq(dir, from.saturating_add(1));
    loop {
        let lines = reader.next_batch(1024, 4 << 20)?;
        if lines.is_empty() {
            break;
        }
        for line in lines {
            let Some((workload, origin_seq)) = mirrored(&line.text) else { continue };
            if let Some(cursor) = cursors.get_mut(&workload)
                && origin_seq > cursor.origin_seq
            {
                cursor.origin_seq = origin_seq;
            }
        }
    }
    let known = |cursor: CursorRow| CursorRow { log_seq: head, ..cursor };
    kept.cursors = cursors.into_iter().map(|(name, cursor)| (name, known(cursor))).collect();
    Ok(())
}

/// Whose line this is, and its number there, when it was mirrored.
fn mirrored(text: &str) -> Option<(WorkloadName, u64)> {
    if !text.contains("\"origin\"") {
        return None;
    }
    let event: Event = serde_json::from_str(text).ok()?;
    let workload = event.workload?.parse().ok()?;
    (event.tier == Some(Tier::Proxy)).then_some((workload, event.origin?.seq))
}
