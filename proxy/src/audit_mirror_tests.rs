#![allow(clippy::unwrap_used, reason = "tests")]

use plexus_mesh_proto::codec;
use plexus_mesh_proto::frame::FrameKind;
use plexus_shared::audit::{EventType, Record, Tier};
use plexus_shared::clock::SystemClock;
use plexus_shared::state_dir::StateDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::control::outbox;

struct Mirror {
    audit: Mirrored,
    acked: watch::Sender<Option<u64>>,
    queue: mpsc::Receiver<Vec<u8>>,
    task: JoinHandle<Cause>,
    _temp: tempfile::TempDir,
}

fn mirror(lines: usize) -> Mirror {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&temp.path().join("audit")).unwrap();
    let path = dir.path().to_owned();
    let log = AuditLog::open(dir, Arc::new(SystemClock), Tier::Proxy).unwrap();
    let audit = Mirrored { log: Arc::new(log), dir: path };
    write(&audit, lines);
    let (acked, heard) = watch::channel(None);
    let (out, queue) = outbox();
    let task = tokio::spawn(run(audit.clone(), heard, out));
    Mirror { audit, acked, queue, task, _temp: temp }
}

fn write(audit: &Mirrored, lines: usize) {
    for _ in 0..lines {
        audit.log.append(Record::new(EventType::MeshConnect)).unwrap();
    }
}

impl Mirror {
    fn ack(&self, through: u64) {
        self.acked.send_replace(Some(through));
    }

    /// The numbers of the next batch's lines.
    async fn batch(&mut self) -> Vec<u64> {
        let frame = timeout(Duration::from_secs(10), self.queue.recv()).await.unwrap().unwrap();
        assert_eq!(frame[4], FrameKind::AuditBatch.number());
        let batch: AuditBatch = codec::decode(FrameKind::AuditBatch, &frame[5..]).unwrap();
        let seq = |line: Json| -> serde_json::Value { serde_json::from_str(line.get()).unwrap() };
        batch.lines.into_iter().map(|line| seq(line)["seq"].as_u64().unwrap()).collect()
    }

    async fn is_quiet(&mut self) {
        // The mirror had every chance to run: it is idle, waiting for a word.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(self.queue.try_recv().is_err(), "something was sent");
        assert!(!self.task.is_finished());
    }
}

#[tokio::test]
async fn nothing_is_sent_before_the_primary_has_said_what_it_has() {
    let mut mirror = mirror(3);
    mirror.is_quiet().await;
    mirror.ack(0);
    assert_eq!(mirror.batch().await, [1, 2, 3]);
}

#[tokio::test]
async fn it_goes_on_where_the_copy_ends_and_follows_the_log_as_it_grows() {
    let mut mirror = mirror(5);
    mirror.ack(3);
    assert_eq!(mirror.batch().await, [4, 5]);
    mirror.ack(5);
    write(&mirror.audit, 1);
    assert_eq!(mirror.batch().await, [6]);
}

#[tokio::test]
async fn at_most_two_batches_wait_for_their_acknowledgement() {
    let mut mirror = mirror(3 * limits::AUDIT_LINES);
    mirror.ack(0);
    let each = limits::AUDIT_LINES as u64;
    assert_eq!(mirror.batch().await.last(), Some(&each));
    assert_eq!(mirror.batch().await.last(), Some(&(2 * each)));
    mirror.is_quiet().await;
    mirror.ack(each);
    assert_eq!(mirror.batch().await.first(), Some(&(2 * each + 1)));
}

#[tokio::test]
async fn a_copy_beyond_the_log_is_left_alone_until_the_log_has_passed_it() {
    let mut mirror = mirror(2);
    mirror.ack(4);
    mirror.is_quiet().await;
    write(&mirror.audit, 2);
    mirror.is_quiet().await;
    write(&mirror.audit, 1);
    assert_eq!(mirror.batch().await, [5]);
}

#[tokio::test]
async fn a_line_that_is_missing_is_not_skipped() {
    let mirror = mirror(3);
    let file = std::fs::read_dir(&mirror.audit.dir).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    let without_second: Vec<_> = text.lines().enumerate().filter(|(n, _)| *n != 1).collect();
    let text: String = without_second.into_iter().map(|(_, line)| format!("{line}\n")).collect();
    std::fs::write(&file, text).unwrap();
    let reason = Feed::new(mirror.audit.clone(), 0).next().await.unwrap_err();
    assert_eq!(reason, "line 2 is missing: the next one is 3");
}
