//! An index of the audit log: a SQLite file that can be thrown away.
//!
//! 1. A thread of its own follows the log and indexes what comes. Nothing that is recorded waits for it.
//! 2. The index says where a line stands; what is shown is the line itself, from the log.
//! 3. When the file is absent, damaged, of another version or about another log, it is made anew from the
//!    files. Meanwhile it is not available, and whoever asks reads the files.
//!
//! What an attacker would try: edit the index, to hide an event or to show another. A line that is not
//! where the index says ends the index; one left out is still in the log, which `verify` walks.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use plexus_shared::audit::{AuditLog, Event, Line, LogReader, Place, files, line_at};
use plexus_shared::failpoint::{Point, pass};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use tokio::sync::watch;

use super::attempts::Attempts;
use super::audit_query::{Filter, Page, capabilities};
use super::{make_private, remove};

/// The file, in the state folder.
pub const AUDIT_INDEX: &str = "audit-index.db";

/// Counts up when the tables change.
const VERSION: i64 = 1;
/// Lines indexed in one transaction, and their bytes.
const BATCH: (usize, usize) = (2000, 8 << 20);
/// Before another attempt after a failure.
const RETRY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        type TEXT NOT NULL,
        agent TEXT,
        capability TEXT,
        outcome TEXT,
        tier TEXT,
        workload TEXT,
        correlation TEXT,
        file TEXT NOT NULL,
        offset INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX event_at ON event (at);
    CREATE INDEX event_type ON event (type, seq);
    CREATE INDEX event_agent ON event (agent, seq);
    CREATE INDEX event_outcome ON event (outcome, seq);
    CREATE INDEX event_workload ON event (workload, seq);
    CREATE INDEX event_correlation ON event (correlation);
    CREATE INDEX event_file ON event (file);
    CREATE TABLE event_capability (
        capability TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (capability, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX event_capability_seq ON event_capability (seq);
    CREATE VIRTUAL TABLE event_text USING fts5(text, content='', contentless_delete=1);
";

/// Why the index does not answer; the files do.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite says no.
    #[error("the audit index can't be used: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its file, or the log's.
    #[error("the audit index can't be used: {0}")]
    File(#[from] io::Error),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] plexus_shared::audit::ReadError),
    /// It says of a line what the log does not.
    #[error("the audit index does not fit the log")]
    Stale,
    /// It is being made, or is behind.
    #[error("the audit index is not ready")]
    NotReady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Follow,
    Rebuild,
    Stop,
}

/// The handle of the index and its thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct AuditIndex {
    path: PathBuf,
    folder: PathBuf,
    /// The last line that is indexed; none while there is no index.
    indexed: watch::Receiver<Option<u64>>,
    orders: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl AuditIndex {
    /// Indexes `log` in the file at `path` from now on.
    ///
    /// # Errors
    /// When no thread can be had. What is wrong with the file is not an error: it is made anew.
    pub fn start(path: &Path, log: &AuditLog) -> io::Result<Self> {
        let (says, indexed) = watch::channel(None);
        let (orders, ordered) = watch::channel(Order::Follow);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let follower = Follower {
            path: path.to_owned(),
            folder: log.folder().to_owned(),
            grown: log.subscribe(),
            ordered,
            indexed: says,
        };
        let thread = std::thread::Builder::new()
            .name("plexus-audit-index".into())
            .spawn(move || runtime.block_on(follower.run()))?;
        Ok(Self {
            path: path.to_owned(),
            folder: log.folder().to_owned(),
            indexed,
            orders,
            thread: Some(thread),
        })
    }

    /// Waits until line `seq` is indexed; false when that takes longer than `most`.
    pub async fn reach(&self, seq: u64, most: Duration) -> bool {
        let mut indexed = self.indexed.clone();
        let there = indexed.wait_for(|indexed| indexed.is_some_and(|indexed| indexed >= seq));
        matches!(tokio::time::timeout(most, there).await, Ok(Ok(_)))
    }

    /// A page of at most `limit` lines that `filter` asks for. After a failure the index is made anew.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn find(&self, filter: &Filter, limit: usize) -> Result<Page, IndexError> {
        if self.indexed.borrow().is_none() {
            return Err(IndexError::NotReady);
        }
        let found = self.find_now(filter, limit);
        if found.is_err() {
            self.orders.send_replace(Order::Rebuild);
        }
        found
    }

    fn find_now(&self, filter: &Filter, limit: usize) -> Result<Page, IndexError> {
        // Opened for each: one kept open would go on reading a file that was removed.
        let connection = open_to_read(&self.path)?;
        let mut page = Page::default();
        for (seq, place) in filter.places(&connection, limit)? {
            if page.is_full(limit) {
                break;
            }
            match line_at(&self.folder, &place)? {
                Some(text) if number(&text) == Some(seq) => page.add(seq, text),
                Some(_) => return Err(IndexError::Stale),
                // Its file's time is over.
                None if !self.folder.join(&*place.file).exists() => {}
                None => return Err(IndexError::Stale),
            }
        }
        Ok(page)
    }
}

impl Drop for AuditIndex {
    fn drop(&mut self) {
        self.orders.send_replace(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection)
}

fn number(line: &str) -> Option<u64> {
    serde_json::from_str::<Event>(line).ok().map(|event| event.seq)
}

/// The thread's side.
struct Follower {
    path: PathBuf,
    folder: PathBuf,
    grown: watch::Receiver<u64>,
    ordered: watch::Receiver<Order>,
    indexed: watch::Sender<Option<u64>>,
}

impl Follower {
    async fn run(mut self) {
        let mut attempts = Attempts::default();
        loop {
            let order = *self.ordered.borrow_and_update();
            if order == Order::Stop {
                return;
            }
            if let Err(error) = self.follow(order == Order::Rebuild).await {
                tracing::warn!(%error, "the audit index is made anew");
                let stood = self.indexed.send_replace(None).is_some();
                let is_gone = remove(&self.path).is_ok();
                if attempts.must_rest_after(stood) || !is_gone {
                    self.rest().await;
                }
            }
        }
    }

    async fn rest(&mut self) {
        let stop = self.ordered.wait_for(|order| *order == Order::Stop);
        let _ = tokio::time::timeout(RETRY, stop).await;
    }

    /// Indexes what there is and what comes, until an order or a failure ends it.
    async fn follow(&mut self, anew: bool) -> Result<(), IndexError> {
        if anew {
            self.indexed.send_replace(None);
            remove(&self.path)?;
        }
        let mut index = Writing::open(&self.path, &self.folder)?;
        let mut reader = LogReader::from_seq(&self.folder, index.last + 1);
        index.forget_removed(&self.folder)?;
        let log_end = *self.grown.borrow_and_update();
        if index.last > log_end {
            return Err(IndexError::Stale);
        }
        loop {
            loop {
                let lines = reader.next_batch(BATCH.0, BATCH.1)?;
                if lines.is_empty() {
                    break;
                }
                if index.add(&lines)? {
                    index.forget_removed(&self.folder)?;
                }
                if self.ordered.has_changed().unwrap_or(true) {
                    return Ok(());
                }
            }
            self.indexed.send_replace(Some(index.last));
            tokio::select! {
                grown = self.grown.changed() => if grown.is_err() {
                    // The log is closed: there is nothing left but to answer.
                    let _ = self.ordered.changed().await;
                    return Ok(());
                },
                _ = self.ordered.changed() => return Ok(()),
            }
        }
    }
}

/// The index, open to write.
struct Writing {
    connection: Connection,
    /// The last line that is indexed.
    last: u64,
    /// The file it stands in.
    file: Option<String>,
}

impl Writing {
    fn open(path: &Path, folder: &Path) -> Result<Self, IndexError> {
        make_private(path).map_err(io::Error::other)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What a power loss takes is indexed again.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            VERSION => {}
            0 => {
                let making = connection.transaction()?;
                making.execute_batch(TABLES)?;
                making.pragma_update(None, "user_version", VERSION)?;
                making.commit()?;
            }
            _ => return Err(IndexError::Stale),
        }
        let mut index = Self { connection, last: 0, file: None };
        index.find_end(folder)?;
        Ok(index)
    }

    /// Finds where the index ends, and whether that is a line of this log.
    fn find_end(&mut self, folder: &Path) -> Result<(), IndexError> {
        let sql = "SELECT seq, file, offset FROM event ORDER BY seq DESC LIMIT 1";
        let found = self.connection.query_row(sql, [], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?, row.get(2)?))
        });
        let (seq, file, offset) = match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
            found => found?,
        };
        let place = Place { file: file.as_str().into(), offset };
        let text = line_at(folder, &place)?;
        if text.as_deref().and_then(number) != Some(seq) {
            return Err(IndexError::Stale);
        }
        (self.last, self.file) = (seq, Some(file));
        Ok(())
    }

    /// Indexes `lines`; whether they begin a new file.
    fn add(&mut self, lines: &[Line]) -> Result<bool, IndexError> {
        let Some(end) = lines.last() else { return Ok(false) };
        let adding = self.connection.transaction()?;
        for line in lines {
            // What is no event is passed over; `verify` finds it.
            if let Ok(event) = serde_json::from_str::<Event>(&line.text) {
                add(&adding, &event, line)?;
            }
        }
        pass(Point::IndexBefore);
        adding.commit()?;
        pass(Point::IndexCommitted);
        self.last = end.seq;
        let before = self.file.replace(end.place.file.to_string());
        Ok(before != self.file)
    }

    /// Forgets the lines of files whose time is over.
    fn forget_removed(&mut self, folder: &Path) -> Result<(), IndexError> {
        let there: BTreeSet<_> = files(folder)?.into_iter().collect();
        let forgetting = self.connection.transaction()?;
        let known: Vec<String> = forgetting
            .prepare("SELECT DISTINCT file FROM event")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for gone in known.iter().filter(|file| !there.contains(*file)) {
            for table in [
                "event_text WHERE rowid IN (SELECT seq FROM event WHERE file = ?1)",
                "event_capability WHERE seq IN (SELECT seq FROM event WHERE file = ?1)",
                "event WHERE file = ?1",
            ] {
                forgetting.execute(&format!("DELETE FROM {table}"), [gone])?;
            }
        }
        forgetting.commit()?;
        Ok(())
    }
}

fn add(adding: &Transaction<'_>, event: &Event, line: &Line) -> rusqlite::Result<()> {
    adding
        .prepare_cached(
            "INSERT OR REPLACE INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            event.seq,
            event.at.as_millis(),
            event.event_type.as_str(),
            event.agent_id.as_ref().map(|id| id.as_str()),
            event.capability_id,
            event.outcome.map(|outcome| outcome.as_str()),
            event.tier.map(|tier| tier.as_str()),
            event.workload,
            event.correlation_id.as_ref().map(|id| id.as_str()),
            &*line.place.file,
            line.place.offset,
        ])?;
    adding
        .prepare_cached("INSERT OR REPLACE INTO event_text (rowid, text) VALUES (?1, ?2)")?
        .execute(params![event.seq, line.text])?;
    for capability in capabilities(event) {
        adding
            .prepare_cached("INSERT OR IGNORE INTO event_capability VALUES (?1, ?2)")?
            .execute(params![capability, event.seq])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "audit_index_tests.rs"]
mod tests;
