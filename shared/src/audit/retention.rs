//! Files whose time is over, and the stubs they leave.
//!
//! 1. The oldest files are looked at, one after another; never the newest one.
//! 2. A file is walked before it goes: what was tampered with stays, and everything after it.
//! 3. Its stub, signed and synced, stands in for it in the chain; only then is it removed. When the
//!    process ends in between, both are there, the file counts, and the next round removes it.
//!
//! What an attacker would try: remove files and put stubs of their own in their place, or a stub of
//! another file.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use plexus_mesh_proto::identity::{NodeKey, PublicKey};
use serde::Deserialize;
use serde_json::json;

use super::files::{Day, days, stub_days};
use super::line::Head;
use super::seal;
use super::verify::{Walk, Walked};
use crate::clock::Timestamp;
use crate::model::plain;
use crate::state_dir::StateDir;

/// How many days files are kept when nothing else is said.
pub const DEFAULT_KEEP_DAYS: u32 = 90;

/// A stub is smaller.
const MOST_STUB_BYTES: u64 = 4096;

/// What is left of a file.
#[derive(Clone, Debug)]
pub(super) struct Stub {
    pub(super) first_seq: u64,
    pub(super) prev: String,
    pub(super) last: Head,
    pub(super) key: PublicKey,
}

/// A stub file, read.
#[derive(Debug)]
pub(super) struct StubFile {
    pub(super) day: Day,
    /// Whether the file it stands for is still there.
    pub(super) has_file: bool,
    /// What it says, or what is wrong with it.
    pub(super) read: Result<Stub, &'static str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    file: String,
    first_seq: u64,
    prev: String,
    last_seq: u64,
    last_hash: String,
}

/// The stubs and the files in `dir`, oldest first.
pub(super) fn parts(dir: &Path) -> io::Result<(Vec<StubFile>, Vec<Day>)> {
    let days = days(dir)?;
    let read = |day: Day| {
        let read = read_stub(&dir.join(day.stub_name()), day)?;
        Ok(StubFile { day, has_file: days.contains(&day), read })
    };
    let stubs = stub_days(dir)?.into_iter().map(read).collect::<io::Result<_>>()?;
    Ok((stubs, days))
}

/// The last line of what was removed: where the chain stands when no line is left.
pub(super) fn last_removed(dir: &Path) -> io::Result<Option<Head>> {
    let (stubs, _) = parts(dir)?;
    Ok(stubs.into_iter().rev().find_map(|stub| stub.read.ok()).map(|stub| stub.last))
}

fn read_stub(path: &Path, day: Day) -> io::Result<Result<Stub, &'static str>> {
    if fs::metadata(path)?.len() > MOST_STUB_BYTES {
        return Ok(Err("the stub is longer than any of ours"));
    }
    let text = fs::read(path)?;
    let Ok(value) = plain::read(&text) else {
        return Ok(Err("the stub is not JSON"));
    };
    let Some(key) = seal::signer(seal::STUB, &value) else {
        return Ok(Err("the stub's signature is wrong"));
    };
    let Ok(written) = Written::deserialize(&value) else {
        return Ok(Err("the stub lacks what a stub says"));
    };
    if written.file != day.file_name() {
        return Ok(Err("the stub is one of another file"));
    }
    let Written { first_seq, prev, last_seq: seq, last_hash: hash, .. } = written;
    Ok(Ok(Stub { first_seq, prev, last: Head { seq, hash }, key }))
}

/// Removes what is too old.
#[derive(Debug)]
pub(super) struct Retention {
    dir: StateDir,
    key: Arc<NodeKey>,
    keep_days: AtomicU32,
    /// One round at a time.
    round: Mutex<()>,
}

impl Retention {
    pub(super) fn new(dir: StateDir, key: Arc<NodeKey>, keep_days: u32) -> Self {
        Self { dir, key, keep_days: AtomicU32::new(keep_days), round: Mutex::new(()) }
    }

    /// From the next round on files are kept so long.
    pub(super) fn keep_for(&self, days: u32) {
        self.keep_days.store(days, Ordering::Relaxed);
    }

    /// Begins a round on a thread of its own: nothing that is recorded waits for it.
    pub(super) fn start(self: &Arc<Self>, now: Timestamp) {
        let retention = Arc::clone(self);
        let round = move || {
            if let Err(error) = retention.run(now) {
                tracing::error!(%error, "old audit files are not removed");
            }
        };
        let thread = std::thread::Builder::new().name("audit-retention".to_owned()).spawn(round);
        if let Err(error) = thread {
            tracing::error!(%error, "old audit files are not removed");
        }
    }

    /// Removes the files whose time is over, as far as they are whole.
    pub(super) fn run(&self, now: Timestamp) -> io::Result<()> {
        let _round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let (stubs, days) = parts(self.dir.path())?;
        let oldest = Day::of(now).before(self.keep_days.load(Ordering::Relaxed));
        let Some((newest, older)) = days.split_last() else { return Ok(()) };
        let mut old = older.iter().take_while(|day| **day < oldest && *day < newest).peekable();
        if old.peek().is_none() {
            return Ok(());
        }
        let mut walk = Walk::new(Some(self.key.public()));
        for stub in &stubs {
            walk.stub(stub, days.first().copied())
                .map_err(|bad| damaged(&bad.file, &bad.reason))?;
        }
        old.try_for_each(|day| self.remove(*day, &mut walk, now))
    }

    fn remove(&self, day: Day, walk: &mut Walk, now: Timestamp) -> io::Result<()> {
        let (name, before) = (day.file_name(), walk.head.clone());
        match walk.file(&self.dir.join(&name))? {
            Walked::Whole => {}
            Walked::Incomplete { .. } => return Err(damaged(&name, "its last line is cut off")),
            Walked::Bad { reason, .. } => return Err(damaged(&name, &reason)),
        }
        if walk.head != before {
            let mut stub = json!({
                "file": name,
                "firstSeq": before.seq + 1,
                "prev": before.hash,
                "lastSeq": walk.head.seq,
                "lastHash": walk.head.hash,
                "removedAt": now.to_string(),
                "publicKey": self.key.public().to_string(),
            });
            seal::sign(&self.key, seal::STUB, &mut stub);
            let text = format!("{stub}\n");
            self.dir.write(&day.stub_name(), text.as_bytes()).map_err(io::Error::other)?;
        }
        self.dir.remove(&name).map_err(io::Error::other)?;
        tracing::info!(file = name, "an audit file's time is over; its stub stays");
        Ok(())
    }
}

fn damaged(file: &str, reason: &str) -> io::Error {
    let why = format!("{file} stays, and all after it: {reason}; run `plexus audit verify`");
    io::Error::new(io::ErrorKind::InvalidData, why)
}
