//! The log as its users see it: on a real folder, with a clock that stands still.
#![allow(clippy::unwrap_used, reason = "tests")]

mod chain;
mod failure;
mod lines;
mod reading;
mod signed;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::state_dir::StateDir;

const DAY: Duration = Duration::from_secs(86_400);

/// A folder for a log, and a clock at eleven in the morning of 2026-06-23.
struct Bench {
    _temp: tempfile::TempDir,
    dir: StateDir,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("audit")).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_782_212_400_000));
        Self { _temp: temp, dir, clock }
    }

    fn try_log(&self) -> Result<AuditLog, AuditOpenError> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        AuditLog::open(self.dir.clone(), clock, Tier::Primary)
    }

    fn log(&self) -> AuditLog {
        self.try_log().unwrap()
    }

    fn file(&self, day: &str) -> PathBuf {
        self.dir.join(format!("audit-{day}.jsonl"))
    }

    fn today(&self) -> PathBuf {
        self.file(&self.clock.now().day())
    }

    /// The names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn verified(&self) -> VerifyReport {
        verify(self.dir.path()).unwrap()
    }

    /// The whole log, oldest first.
    fn events(&self) -> Vec<Event> {
        let mut events = tail(self.dir.path(), None, usize::MAX, |_| true).unwrap();
        events.reverse();
        events
    }
}

fn invoke(n: usize) -> Record {
    Record::new(EventType::Invoke)
        .capability("notes.file.read")
        .outcome(RecordOutcome::Ok)
        .detail(&json!({ "n": n }))
}
