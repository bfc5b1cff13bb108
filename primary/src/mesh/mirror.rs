//! Taking over a workload's audit: every line once, in its order, whatever the outage.
//!
//! The cursor is the highest contiguous `seq` of the workload's own log that is in ours. Our log is
//! what says so; the kept cursor only saves reading all of it again. So it is kept now and then, and at
//! the start our log is read from the last place the cursor was true.
//!
//! What an attacker would try, on a workload's machine: edit its log before it is sent, or write another
//! one under the numbers that are taken. Each line must be what its hash says and follow the one before
//! it, across connections and restarts.

use std::path::Path;

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::audit::AuditBatch;
use plexus_mesh_proto::close::CloseCode;
use plexus_shared::audit::{
    AuditUnavailable, Event, EventType, Head, LogReader, Origin, ReadError, Record, RecordOutcome,
    Tier, next,
};
use serde_json::json;

use super::Mesh;
use crate::store::rows::CursorRow;
use crate::store::{Change, Kept};

/// How many lines of ours may pass before a cursor is kept again.
const KEEP_EVERY: u64 = 4096;

/// What of a batch comes next, and what ends it.
#[derive(Debug, Default, PartialEq)]
struct Fresh {
    events: Vec<Event>,
    /// The last of them, in the workload's own log.
    head: Option<Head>,
    /// Why the line after them is not taken.
    fault: Option<String>,
}

impl Mesh {
    /// Takes over a batch; says up to where the workload's log is now mirrored. Lines that were taken
    /// before are passed over. A line that does not continue the chain of those before it is not taken,
    /// nor any after it: the owner is told, and the workload's calls go on.
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
        let Fresh { events, head, fault } = match fresh(batch, &through) {
            Some(fresh) => fresh,
            // It was on its way when the one before it was refused.
            None if self.rests(name) => return Ok(through.seq),
            None => return Err(CloseCode::Violation),
        };
        if let Some(origin) = &head {
            let log_seq = self.core.audit.append_mirrored(name.as_str(), &events);
            self.took(name, origin, log_seq.map_err(|error| postpone(&error))?).await;
        }
        let last = head.unwrap_or(through).seq;
        self.note_fault(name, last, fault).map_err(|error| postpone(&error))?;
        Ok(last)
    }

    /// Whether the workload's log is mirrored no further.
    fn rests(&self, name: &WorkloadName) -> bool {
        self.read(|roster| roster.workloads.get(name).is_some_and(|w| w.audit_fault.is_some()))
    }

    /// Lines up to `origin` are in our log, which ends at `log_seq`.
    async fn took(&self, name: &WorkloadName, origin: &Head, log_seq: u64) {
        let kept = self.update(|roster| {
            let workload = roster.workloads.get_mut(name)?;
            workload.cursor.origin = origin.clone();
            Some(workload.cursor.log_seq)
        });
        if kept.is_some_and(|kept| log_seq.saturating_sub(kept) >= KEEP_EVERY) {
            let cursor = CursorRow { origin: origin.clone(), log_seq };
            self.keep_cursor(name, cursor).await;
        }
    }

    /// Shows the owner why a workload's log is mirrored no further than `last`, and records that once.
    fn note_fault(
        &self,
        name: &WorkloadName,
        last: u64,
        fault: Option<String>,
    ) -> Result<(), AuditUnavailable> {
        let known = self.read(|roster| {
            roster.workloads.get(name).is_none_or(|workload| workload.audit_fault == fault)
        });
        if known {
            return Ok(());
        }
        if let Some(reason) = &fault {
            tracing::error!(workload = %name, last, reason, "a workload's log does not continue");
            let detail =
                json!({"workload": name, "phase": "mirror", "last": last, "reason": reason});
            let record = Record::new(EventType::MeshConnect).outcome(RecordOutcome::Denied);
            self.core.audit.append(record.detail(&detail))?;
        }
        self.update(|roster| {
            if let Some(workload) = roster.workloads.get_mut(name) {
                workload.audit_fault = fault;
            }
        });
        Ok(())
    }

    async fn keep_cursor(&self, name: &WorkloadName, cursor: CursorRow) {
        let log_seq = cursor.log_seq;
        let keep = Change::PutCursor { workload: name.clone(), cursor };
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

fn postpone(unavailable: &AuditUnavailable) -> CloseCode {
    tracing::error!(%unavailable, "a workload's audit could not be taken over");
    CloseCode::ShuttingDown
}

/// The events of `batch` after `through`, as far as each continues the chain; nothing when they are no
/// events, or leave a gap.
fn fresh(batch: AuditBatch, through: &Head) -> Option<Fresh> {
    let mut fresh = Fresh::default();
    let mut head = through.clone();
    for line in batch.lines {
        let event: Event = serde_json::from_str(line.get()).ok()?;
        if event.seq <= head.seq {
            continue;
        }
        if event.seq != head.seq.checked_add(1)? || !recorded_there(event.event_type) {
            return None;
        }
        if head.hash.is_empty() {
            // Kept without its hash, by a version that did not look: what comes next says it.
            head.hash.clone_from(&event.prev);
        }
        match next(line.get().as_bytes(), &head) {
            Ok(after) => head = after,
            Err(reason) => {
                fresh.fault = Some(format!("event {}: {reason}", event.seq));
                break;
            }
        }
        fresh.events.push(event);
        fresh.head = Some(head.clone());
    }
    Some(fresh)
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
    let read = |cursor: &CursorRow| if cursor.origin.hash.is_empty() { 0 } else { cursor.log_seq };
    let from = cursors.values().map(read).min().unwrap_or(0);
    let mut reader = LogReader::from_seq(dir, from.saturating_add(1));
    loop {
        let lines = reader.next_batch(1024, 4 << 20)?;
        if lines.is_empty() {
            break;
        }
        for line in lines {
            let Some((workload, origin)) = mirrored(&line.text) else { continue };
            if let Some(cursor) = cursors.get_mut(&workload)
                && origin.seq >= cursor.origin.seq
            {
                cursor.origin = origin;
            }
        }
    }
    let known = |cursor: CursorRow| CursorRow { log_seq: head, ..cursor };
    kept.cursors = cursors.into_iter().map(|(name, cursor)| (name, known(cursor))).collect();
    Ok(())
}

/// Whose line this is, and its place there, when it was mirrored.
fn mirrored(text: &str) -> Option<(WorkloadName, Head)> {
    if !text.contains("\"origin\"") {
        return None;
    }
    let event: Event = serde_json::from_str(text).ok()?;
    let workload = event.workload?.parse().ok()?;
    let Origin { seq, hash, .. } = event.origin?;
    (event.tier == Some(Tier::Proxy)).then_some((workload, Head { seq, hash }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use plexus_mesh_proto::bounded::List;
    use plexus_mesh_proto::json::Json;
    use plexus_shared::audit::AuditLog;
    use plexus_shared::clock::SystemClock;
    use plexus_shared::state_dir::StateDir;
    use std::sync::Arc;

    /// The lines of a workload's log with `count` records.
    fn log(count: u64) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&folder.path().join("audit")).unwrap();
        let log = AuditLog::open(dir, Arc::new(SystemClock), Tier::Proxy).unwrap();
        for n in 0..count {
            let record = Record::new(EventType::SettingsChange).detail(&json!({ "n": n }));
            log.append(record).unwrap();
        }
        let lines = LogReader::from_seq(log.folder(), 1).next_batch(1000, 1 << 20).unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    fn batch(lines: &[String]) -> AuditBatch {
        let lines = lines.iter().map(|line| Json::from_string(line.clone()).unwrap()).collect();
        AuditBatch { lines: List::truncated(lines) }
    }

    #[test]
    fn a_chain_is_taken_as_far_as_it_goes_on_from_what_was_taken() {
        let lines = log(5);
        let whole = fresh(batch(&lines), &Head::genesis()).unwrap();
        assert_eq!((whole.events.len(), &whole.fault), (5, &None));
        let second = fresh(batch(&lines[..2]), &Head::genesis()).unwrap().head.unwrap();
        let rest = fresh(batch(&lines), &second).unwrap();
        assert_eq!((rest.events.len(), rest.head, rest.fault), (3, whole.head.clone(), None));
        let unknown = Head { hash: String::new(), ..second.clone() };
        assert_eq!(fresh(batch(&lines), &unknown).unwrap().head, whole.head);
        assert_eq!(fresh(batch(&lines[3..]), &second), None, "a gap");

        let mut edited = lines.clone();
        edited[3] = edited[3].replace("{\"n\":3}", "{\"n\":7}");
        let taken = fresh(batch(&edited), &Head::genesis()).unwrap();
        assert_eq!((taken.events.len(), taken.head.unwrap().seq), (3, 3), "the good ones are");
        assert!(taken.fault.unwrap().contains("does not match its hash"));

        let other = fresh(batch(&log(5)), &second).unwrap();
        assert_eq!((other.events.len(), other.head), (0, None));
        assert!(other.fault.unwrap().contains("does not follow the event 2"));
    }
}
