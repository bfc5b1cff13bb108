//! The proxy's audit log, mirrored upward.
//!
//! The proxy's log is authoritative; the primary's copy resumes where it stopped, however long the
//! tunnel was down:
//!
//! 1. Right after its `Hello` the primary says how far its copy reaches.
//! 2. The proxy sends the lines after that, in order.
//! 3. Each acknowledgement says how far the copy reaches now.

use serde::{Deserialize, Serialize};

use crate::{
    bounded::List,
    frame::{FrameKind, Message},
    json::Json,
    limits,
};

/// Consecutive lines of the proxy's log, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBatch {
    /// One audit event each.
    pub lines: List<Json, { limits::AUDIT_LINES }>,
}

/// A line that fits no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit line of {len} bytes is over {}", limits::BATCH_BYTES)]
pub struct LineTooLong {
    /// The line's bytes.
    pub len: usize,
}

impl AuditBatch {
    /// Cuts lines into as many batches as their number and bytes need, keeping their order.
    pub fn batches(lines: impl IntoIterator<Item = Json>) -> Result<Vec<Self>, LineTooLong> {
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for line in lines {
            let len = line.wire_len();
            if len > limits::BATCH_BYTES {
                return Err(LineTooLong { len });
            }
            if batch.len() == limits::AUDIT_LINES || bytes + len > limits::BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            batch.push(line);
            bytes += len;
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        Ok(batches.into_iter().map(|lines| Self { lines: List::truncated(lines) }).collect())
    }
}

impl Message for AuditBatch {
    const KIND: FrameKind = FrameKind::AuditBatch;
}

/// How far the primary's copy reaches without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAck {
    /// The highest such sequence number; 0 when there is nothing.
    pub through: u64,
}

impl Message for AuditAck {
    const KIND: FrameKind = FrameKind::AuditAck;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::codec;

    fn line(len: usize) -> Json {
        Json::from_string(format!("\"{}\"", "x".repeat(len))).unwrap()
    }

    #[test]
    fn batches_keep_order_and_fit_their_frames() {
        let lines: Vec<Json> = (0..2000).map(|n| line(n * 3)).collect();
        let batches = AuditBatch::batches(lines.clone()).unwrap();
        assert!(batches.iter().all(|batch| codec::encode(batch).is_ok()));
        let sent: Vec<Json> = batches.into_iter().flat_map(|batch| batch.lines).collect();
        assert_eq!(sent, lines);
    }

    #[test]
    fn a_line_that_fits_no_frame_is_named() {
        assert!(AuditBatch::batches([line(limits::BATCH_BYTES)]).is_err());
    }
}
