//! A workspace: one folder, and what agents may do in it.
//!
//! A call goes: input parsed → path checked in form → resolved beneath the folder's own handle →
//! opened → judged by the handle of what was opened → read or written. An agent, or whoever else
//! writes in the folder, would try `..`, absolute paths, symbolic links out of it (also swapped in
//! during the call), hard links to files elsewhere, and pipes or devices that block or act when
//! opened. The first four are answered by resolution beneath the handle and the link count, the last
//! by opening without waiting and refusing whatever is not a plain file.

mod config;
mod define;
mod error;
mod handle;
mod list;
mod os;
mod path;
mod read;
#[cfg(all(test, unix))]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cap_fs_ext::MetadataExt;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

pub use config::{MAX_CALL_BYTES, Mode, WorkspaceConfig, WorkspaceError};
pub use error::{CallError, GivenPath};

use crate::ids::{CapabilityId, SourceId};
use crate::model::entry::Definition;
use crate::model::health::{Health, HealthStatus};

/// Calls one workspace works on at a time; the others wait for their turn.
const CALLS_AT_ONCE: usize = 8;

/// How long a folder may take to say whether it is there.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What a workspace can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `file.list`.
    List,
    /// `file.read`.
    Read,
    /// `file.write`.
    Write,
}

/// One folder, open. Clones share it.
#[derive(Clone, Debug)]
pub struct Workspace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Dir,
    path: PathBuf,
    config: WorkspaceConfig,
    offers: Vec<(Operation, Definition)>,
    /// Held while a checked name is taken, so that of two writers with one precondition one wins.
    writing: Mutex<()>,
    turns: Arc<Semaphore>,
    /// Held by a look at the folder until it has an answer.
    looking: Arc<Semaphore>,
}

impl Workspace {
    /// Opens the folder of `config` as source `id`. `label` is what people and agents read; the
    /// source's name by default. The folder must have nothing to do with `state`, where this node
    /// keeps its own keys.
    ///
    /// # Errors
    /// When the folder is not there, is no folder or cannot be opened, or the configuration is wrong.
    pub fn open(
        id: SourceId,
        label: Option<String>,
        config: &WorkspaceConfig,
        state: &Path,
    ) -> Result<Workspace, WorkspaceError> {
        config.check_limits()?;
        let path = config.folder()?;
        let failed = |error| WorkspaceError::opening(&path, &error);
        let real = std::fs::canonicalize(&path).map_err(failed)?;
        if real.parent().is_none() {
            return Err(WorkspaceError::WholeDisk(path));
        }
        let state = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
        if state.starts_with(&real) || real.starts_with(&state) {
            return Err(WorkspaceError::OwnState(path));
        }
        let root = Dir::open_ambient_dir(&path, ambient_authority()).map_err(failed)?;
        // The handle alone needs no permission to look inside.
        root.entries().map_err(failed)?;
        let label = label.unwrap_or_else(|| id.as_str().to_owned());
        let offers = define::offers(&id, &label, config)?;
        Ok(Self(Arc::new(Inner {
            root,
            path,
            config: config.clone(),
            offers,
            writing: Mutex::new(()),
            turns: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            looking: Arc::new(Semaphore::new(1)),
        })))
    }

    /// What it offers: one entry for each operation its mode allows.
    pub fn definitions(&self) -> Vec<Definition> {
        self.0.offers.iter().map(|(_, definition)| definition.clone()).collect()
    }

    /// The operation behind the capability `id`; `None` when the workspace offers no such thing.
    pub fn operation(&self, id: &CapabilityId) -> Option<Operation> {
        let offer = self.0.offers.iter().find(|(_, definition)| definition.id == *id);
        offer.map(|(operation, _)| *operation)
    }

    /// Whether the folder is still the one that was opened, where it was, told in [`ANSWER_TIME`]. One
    /// that does not answer is not asked again before it has. Not stamped with a time: the caller has
    /// the clock.
    pub async fn health(&self) -> Health {
        let down = |detail: &str| Health {
            detail: Some(detail.into()),
            ..Health::of(HealthStatus::Unavailable)
        };
        let silent = "the folder does not answer";
        let Ok(look) = self.0.looking.clone().try_acquire_owned() else { return down(silent) };
        let inner = Arc::clone(&self.0);
        let there = tokio::task::spawn_blocking(move || {
            let _look = look;
            inner.is_there()
        });
        match tokio::time::timeout(ANSWER_TIME, there).await {
            Ok(Ok(true)) => Health::of(HealthStatus::Ok),
            Ok(_) => down("the folder was deleted, moved or unmounted"),
            Err(_) => down(silent),
        }
    }

    /// Does `operation` with `input`. Dropping the future stops a listing; a write that has begun is
    /// finished, or leaves nothing behind.
    ///
    /// # Errors
    /// A [`CallError`], whose text never names the folder's place on this machine.
    pub async fn call(
        &self,
        operation: Operation,
        input: &RawValue,
    ) -> Result<Box<RawValue>, CallError> {
        let failed = CallError::Io(std::io::ErrorKind::Other);
        let turns = Arc::clone(&self.0.turns);
        let turn = turns.acquire_owned().await.map_err(|_| failed.clone())?;
        let (inner, input) = (Arc::clone(&self.0), input.to_owned());
        let stop = Stop::default();
        let _stopped_with_the_caller = StopOnDrop(stop.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            inner.run(operation, &input, &stop)
        });
        work.await.map_err(|_| failed)?
    }
}

impl Inner {
    fn is_there(&self) -> bool {
        let identity = |folder: &Dir| {
            let found = folder.dir_metadata().ok()?;
            Some((MetadataExt::dev(&found), MetadataExt::ino(&found)))
        };
        let now = Dir::open_ambient_dir(&self.path, ambient_authority()).ok();
        now.is_some_and(|now| identity(&now).is_some() && identity(&now) == identity(&self.root))
    }

    fn run(
        &self,
        operation: Operation,
        input: &RawValue,
        stop: &Stop,
    ) -> Result<Box<RawValue>, CallError> {
        stop.check()?;
        match operation {
            Operation::List => answer(&list::list(&self.root, stop, &asked(input)?)?),
            Operation::Read => {
                answer(&read::read(&self.root, self.config.max_read_bytes, &asked(input)?)?)
            }
            Operation::Write if self.config.mode == Mode::Read => Err(CallError::ReadOnly),
            Operation::Write => {
                let limit = self.config.max_write_bytes;
                answer(&write::write(&self.root, limit, &self.writing, asked(input)?)?)
            }
        }
    }
}

fn asked<T: DeserializeOwned>(input: &RawValue) -> Result<T, CallError> {
    serde_json::from_str(input.get())
        .map_err(|error| CallError::BadInput(format!("the input cannot be read: {error}")))
}

fn answer<T: Serialize>(output: &T) -> Result<Box<RawValue>, CallError> {
    serde_json::value::to_raw_value(output)
        .map_err(|_| CallError::Io(std::io::ErrorKind::InvalidData))
}

/// Whether the caller has gone.
#[derive(Clone, Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn check(&self) -> Result<(), CallError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(CallError::Io(std::io::ErrorKind::Interrupted));
        }
        Ok(())
    }
}

/// Tells the work that its caller has gone.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
