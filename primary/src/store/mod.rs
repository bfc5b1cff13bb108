//! What the primary keeps: one SQLite file, one thread that writes it.
//!
//! Everything is read once, at the start ([`Kept`]); afterwards memory is the truth that calls read and
//! this is the truth that survives. A change is a list of [`Change`]s committed as one transaction; its
//! caller goes on when the commit is on disk. No call of an agent waits here.

mod attempts;
pub mod audit_index;
pub mod audit_query;
mod prune;
mod read;
pub mod rows;
mod schema;
mod write;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use plexus_shared::failpoint::{Point, pass};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

pub use prune::Prune;
pub use read::Kept;
pub use write::Change;

/// What every SQLite file begins with.
const MAGIC: [u8; 16] = *b"SQLite format 3\0";

/// Changes that may wait for the writer before callers wait for a place.
const QUEUE: usize = 256;

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be read or written.
    #[error(
        "state.db can't be used: {0}; make room on the disk, or restore the file from a backup"
    )]
    Sqlite(#[from] rusqlite::Error),
    /// The file can't be made, or is readable by others.
    #[error("state.db: {0}")]
    File(std::io::Error),
    /// The file is of a version this program does not know, or is damaged.
    #[error("state.db can't be brought up to date: {0}")]
    Migration(#[from] rusqlite_migration::Error),
    /// A row that this program would not have written.
    #[error("state.db is damaged: {0}; restore it from a backup, or move it away to start anew")]
    Damaged(String),
    /// The writer thread could not be started or has ended.
    #[error("the state writer is not running")]
    Stopped,
}

type Job = (Vec<Change>, oneshot::Sender<Result<(), StoreError>>);

/// The handle of the writer thread. Dropping it ends the thread once what was handed in is written.
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens (or makes) the file, brings it up to date, reads all of it and starts the writer.
    ///
    /// # Errors
    /// When the file is unreadable, damaged, or of a later version.
    pub fn open(path: &Path) -> Result<(Self, Kept), StoreError> {
        if !path.exists() {
            make(path)?;
        }
        private(path)?;
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let kept = Kept::read(&connection)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("plexus-store".into())
            .spawn(move || write_until_closed(connection, queue))
            .map_err(|_| StoreError::Stopped)?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, kept))
    }

    /// Whether the file at `path` is for its owner alone and begins as a database does; it is only
    /// read.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        private(path)?;
        let mut head = [0; MAGIC.len()];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
        match read {
            Ok(()) if head == MAGIC => Ok(()),
            Ok(()) => Err(StoreError::Damaged("it is no database".into())),
            Err(error) => Err(StoreError::Damaged(error.to_string())),
        }
    }

    /// Commits `changes` as one transaction: all of them, on disk, or none.
    ///
    /// # Errors
    /// When they could not be written; nothing was.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::Stopped)?;
        let (done, outcome) = oneshot::channel();
        jobs.send((changes, done)).await.map_err(|_| StoreError::Stopped)?;
        outcome.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was its callers' error already.
            let _ = thread.join();
        }
    }
}

/// Makes the file at `path`, with its tables, under another name first: whatever ends this process, it
/// is there whole or not at all.
fn make(path: &Path) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    remove(&new).map_err(StoreError::File)?;
    make_private(&new)?;
    pass(Point::StoreMade);
    let mut connection = Connection::open(&new)?;
    schema::prepare(&mut connection)?;
    connection.close().map_err(|(_, error)| error)?;
    pass(Point::StorePrepared);
    std::fs::rename(&new, path).map_err(StoreError::File)?;
    let folder = path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all());
    pass(Point::StoreNamed);
    folder.map_err(StoreError::File)
}

/// Removes a file of SQLite's and what lies beside it.
fn remove(path: &Path) -> std::io::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the file for its owner alone; SQLite gives its side files the same permissions.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(StoreError::File)?;
    private(path)
}

/// Whether the file is for its owner alone.
fn private(path: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&path.metadata().map_err(StoreError::File)?) & 0o077
        != 0
    {
        let why = format!("others can read it; run: chmod 600 {}", path.display());
        return Err(StoreError::File(std::io::Error::other(why)));
    }
    Ok(())
}

fn write_until_closed(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some((changes, done)) = queue.blocking_recv() {
        let outcome = write::commit(&mut connection, &changes);
        if let Err(error) = &outcome {
            tracing::error!(%error, "a change could not be kept");
        }
        // The caller may have gone; the change is kept all the same.
        let _ = done.send(outcome);
    }
}

/// From now on nothing can be written to `table` of the store at `path`.
#[cfg(test)]
pub(crate) fn break_writes(path: &std::path::Path, table: &str) {
    let elsewhere = format!("ALTER TABLE {table} RENAME TO elsewhere");
    let breaking = rusqlite::Connection::open(path)
        .and_then(|connection| connection.execute_batch(&elsewhere));
    assert!(breaking.is_ok(), "{breaking:?}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::rows::{
        AgentKind, AgentRow, AskedExtension, ExtensionRow, Matter, PendingRow, PendingState,
        ShownExtension, SourceRow,
    };
    use super::*;
    use plexus_shared::model::exposure::ExposureRule;

    /// An agent, and an extension that it asks for.
    fn asked() -> (AgentRow, PendingRow) {
        let at = plexus_shared::clock::Timestamp::from_millis(7);
        let agent = AgentRow {
            id: "ada".parse().unwrap(),
            kind: AgentKind::Generic,
            label: None,
            issued_at: at,
            code: None,
            code_expires_at: None,
            pat: None,
            redeemed_at: None,
            revoked_at: None,
        };
        let source: plexus_shared::ids::SourceId = "say".parse().unwrap();
        let preview = serde_json::json!({"source": "say", "label": "Say", "reach": {},
            "entries": [{"id": "say.it.loud", "kind": "capability", "label": "Loud",
                "grants": ["write"], "transport": "cli"}]});
        let shown = ShownExtension {
            manifest: "{}".into(),
            preview: serde_json::from_value(preview).unwrap(),
            widens: true,
            problems: Vec::new(),
        };
        let asked = AskedExtension {
            source,
            capabilities: vec!["say.it.loud".parse().unwrap()],
            digest: "00".into(),
            replaces: None,
            shown: Some(Box::new(shown)),
        };
        let item = PendingRow {
            id: plexus_shared::ids::PendingId::fresh(at),
            agent: agent.id.clone(),
            session: plexus_shared::ids::SessionId::fresh(at),
            state: PendingState::Pending,
            created_at: at,
            expires_at: at,
            matter: Matter::Register(asked),
        };
        (agent, item)
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_restart_and_what_failed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let (store, kept) = Store::open(&path).unwrap();
        assert!(kept.sources.is_empty());
        let source = SourceRow {
            id: "notes".parse().unwrap(),
            kind: "workspace".into(),
            label: None,
            enabled: true,
            config: serde_json::json!({"path": "/x"}),
        };
        let rule = ExposureRule { pattern: "a*".into(), enabled: false };
        let extension = ExtensionRow {
            source: "say".parse().unwrap(),
            manifest: "{}".into(),
            provenance: plexus_shared::model::trust::Provenance::Managed,
            installed_at: plexus_shared::clock::Timestamp::from_millis(7),
            agent: Some("ada".parse().unwrap()),
        };
        let (agent, item) = asked();
        let changes = vec![
            Change::PutSource(source.clone()),
            Change::SetRules(vec![rule.clone()]),
            Change::PutExtension(extension.clone()),
            Change::PutAgent(agent),
            Change::PutPending(item.clone()),
        ];
        store.commit(changes).await.unwrap();
        let orphan = Change::PutCursor {
            workload: "nowhere".parse().unwrap(),
            cursor: rows::CursorRow::default(),
        };
        let failed = store.commit(vec![Change::DropSource(source.id.clone()), orphan]).await;
        assert!(failed.is_err(), "a cursor needs its workload");
        drop(store);
        let (_store, kept) = Store::open(&path).unwrap();
        assert_eq!(kept.sources, vec![source]);
        assert_eq!(kept.rules, vec![rule]);
        assert_eq!(kept.extensions, vec![extension]);
        assert_eq!(kept.pending, vec![item]);
    }
}
