//! Sending this node's audit log upward, while the tunnel is up, at the log's own pace.
//!
//! 1. Right after its `Hello` the primary says how far its copy reaches.
//! 2. The lines after that are read from the files and sent in batches, at most two of them
//!    unacknowledged.
//! 3. Whenever the log grows, so does what there is to send. Nothing that writes the log ever waits
//!    for this.
//!
//! The log here is the authority and the copy follows it, so this end never sends anything but the
//! line that comes next; the copy could otherwise have a hole that looks like none. Two things make
//! that line impossible to name, and both mean that the state folder was lost or replaced:
//!
//! - The copy reaches beyond the end of the log. The numbers in between belong to lines the copy has
//!   and the log no longer has. Sending other lines under them would rewrite history at the primary,
//!   if it were taken at all, so nothing is sent until the log has grown past the copy. The line
//!   that comes then does not follow the copy's last one: the primary takes no more, and tells its owner.
//! - The next line is missing from the files or is damaged. Then the mirror rests until the next
//!   connection, and the error says where.
//!
//! In both cases calls go on: the record of them is here and whole.

use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::audit::AuditBatch;
use plexus_mesh_proto::json::Json;
use plexus_mesh_proto::limits;
use plexus_shared::audit::{AuditLog, Line, LogReader};
use tokio::sync::watch;

use crate::control::{Cause, Outbox};

/// Batches that wait for their acknowledgement.
const WINDOW: usize = 2;

/// The most bytes of lines in a batch: its cap, less what each line takes beside its text.
const TEXT_BYTES: usize = limits::BATCH_BYTES - 8 * limits::AUDIT_LINES;

/// After the files could not be read.
const RETRY: Duration = Duration::from_secs(30);

/// How far the primary's copy reaches; `None` until it has said so.
pub(crate) type Acked = watch::Receiver<Option<u64>>;

/// The log and the folder it lies in.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The log.
    pub log: Arc<AuditLog>,
    /// Its folder.
    pub dir: PathBuf,
}

/// Mirrors until the outbox is gone.
pub(crate) async fn run(audit: Mirrored, mut acked: Acked, out: Outbox) -> Cause {
    let Some(through) = first_word(&mut acked).await else { return hung_up() };
    warn_if_beyond(&audit.log, through);
    let mut feed = Feed::new(audit, through);
    let mut unacked = VecDeque::new();
    loop {
        let batch = match feed.next().await {
            Ok(batch) => batch,
            Err(reason) => {
                let next = feed.next;
                tracing::error!(next, %reason, "the audit log is not mirrored any further");
                return pending().await;
            }
        };
        if let Err(cause) = out.say(&batch).await {
            return cause;
        }
        unacked.push_back(feed.next - 1);
        while unacked.len() >= WINDOW {
            if acked.changed().await.is_err() {
                return hung_up();
            }
            let through = acked.borrow_and_update().unwrap_or(0);
            unacked.retain(|last| *last > through);
        }
    }
}

fn hung_up() -> Cause {
    Cause::Lost("the control stream is no longer read".to_owned())
}

async fn first_word(acked: &mut Acked) -> Option<u64> {
    acked.wait_for(Option::is_some).await.ok().and_then(|through| *through)
}

fn warn_if_beyond(log: &AuditLog, through: u64) {
    let head = log.head().seq;
    if through > head {
        tracing::error!(
            head,
            through,
            "the primary's copy of the audit log reaches beyond the log itself: this node's state was \
             lost or replaced; from line {} on, the log as it is now will be here only",
            head + 1
        );
    }
}

/// The lines that come next, in batches.
struct Feed {
    audit: Mirrored,
    grown: watch::Receiver<u64>,
    reader: Option<LogReader>,
    next: u64,
}

impl Feed {
    fn new(audit: Mirrored, through: u64) -> Self {
        let grown = audit.log.subscribe();
        Self { audit, grown, reader: None, next: through.saturating_add(1) }
    }

    /// Waits for the next lines; the reason when there can be none.
    async fn next(&mut self) -> Result<AuditBatch, String> {
        loop {
            let next = self.next;
            let head = self.grown.wait_for(|head| *head >= next).await;
            let head = *head.map_err(|_| "the log was closed")?;
            match self.read().await? {
                Some(lines) if lines.is_empty() => {
                    return Err(format!("the log has no line from {next} to {head}"));
                }
                Some(lines) => return self.batch(lines),
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Reads the next lines off this thread; `None` when the files could not be read now.
    async fn read(&mut self) -> Result<Option<Vec<Line>>, String> {
        let reader = self.reader.take();
        let mut reader = reader.unwrap_or_else(|| LogReader::from_seq(&self.audit.dir, self.next));
        let reading = tokio::task::spawn_blocking(move || {
            let lines = reader.next_batch(limits::AUDIT_LINES, TEXT_BYTES);
            (reader, lines)
        });
        let (reader, lines) = reading.await.map_err(|error| error.to_string())?;
        match lines {
            Ok(lines) => {
                self.reader = Some(reader);
                Ok(Some(lines))
            }
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be mirrored now");
                Ok(None)
            }
        }
    }

    fn batch(&mut self, lines: Vec<Line>) -> Result<AuditBatch, String> {
        let mut batch = Vec::with_capacity(lines.len());
        let mut next = self.next;
        for line in lines {
            if line.seq != next {
                return Err(format!("line {next} is missing: the next one is {}", line.seq));
            }
            next += 1;
            let damaged = |error| format!("line {} is damaged: {error}", line.seq);
            batch.push(Json::from_string(line.text).map_err(damaged)?);
        }
        let batches = AuditBatch::batches(batch).map_err(|error| error.to_string())?;
        let mut batches = batches.into_iter();
        match (batches.next(), batches.next()) {
            (Some(batch), None) => {
                self.next = next;
                Ok(batch)
            }
            _ => Err("a batch does not fit its frame".to_owned()),
        }
    }
}

#[cfg(test)]
#[path = "audit_mirror_tests.rs"]
mod tests;
