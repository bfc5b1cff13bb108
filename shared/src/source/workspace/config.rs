//! What the owner says of a workspace, and why a folder cannot be one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// The most bytes one call reads or writes: base64 of it still fits one mesh frame.
pub const MAX_CALL_BYTES: u64 = 8 * 1024 * 1024;

/// What agents may do in the folder, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Look, and change nothing: the capabilities that write do not exist.
    #[default]
    Read,
    /// Look and change.
    ReadWrite,
}

/// One folder, as the owner configured it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceConfig {
    /// The folder: absolute, or beginning with `~/`.
    pub path: PathBuf,
    /// What agents may do there.
    #[serde(default)]
    pub mode: Mode,
    /// The most bytes one read gives; at most [`MAX_CALL_BYTES`].
    #[serde(default = "most")]
    pub max_read_bytes: u64,
    /// The most bytes one write takes; at most [`MAX_CALL_BYTES`].
    #[serde(default = "most")]
    pub max_write_bytes: u64,
}

const fn most() -> u64 {
    MAX_CALL_BYTES
}

impl WorkspaceConfig {
    /// The folder at `path`, with the default limits.
    pub fn new(path: impl Into<PathBuf>, mode: Mode) -> Self {
        Self { path: path.into(), mode, max_read_bytes: most(), max_write_bytes: most() }
    }

    pub(super) fn check_limits(&self) -> Result<(), WorkspaceError> {
        let limits =
            [("maxReadBytes", self.max_read_bytes), ("maxWriteBytes", self.max_write_bytes)];
        match limits.into_iter().find(|(_, limit)| !(1..=MAX_CALL_BYTES).contains(limit)) {
            Some((name, _)) => Err(WorkspaceError::Limit { name }),
            None => Ok(()),
        }
    }

    /// The folder with `~` expanded.
    pub(super) fn folder(&self) -> Result<PathBuf, WorkspaceError> {
        let path = match self.path.strip_prefix("~") {
            Ok(rest) => std::env::home_dir().ok_or(WorkspaceError::NoHome)?.join(rest),
            Err(_) => self.path.clone(),
        };
        if !path.is_absolute() {
            return Err(WorkspaceError::Relative(path));
        }
        Ok(path)
    }
}

/// Why a folder cannot be a workspace. For the owner: the text names the folder.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The path depends on where the node was started.
    #[error("{} is not an absolute path; give the whole path of the folder, from /", .0.display())]
    Relative(PathBuf),
    /// `~` means nothing for this account.
    #[error("this account has no home folder; give the whole path instead of one with ~")]
    NoHome,
    /// There is nothing there.
    #[error("{} does not exist; create the folder or correct the path", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("{} is not a folder; give the folder that holds it", .0.display())]
    NotAFolder(PathBuf),
    /// It is the whole file system.
    #[error("{} is the whole file system; choose the one folder agents need", .0.display())]
    WholeDisk(PathBuf),
    /// It holds the node's own keys, or lies among them.
    #[error("{} holds this node's own keys and state; choose a folder beside it", .0.display())]
    OwnState(PathBuf),
    /// It is there, but closed to this account.
    #[error("{} cannot be opened by this account; give it permission to read the folder", .0.display())]
    Denied(PathBuf),
    /// The operating system said something else.
    #[error("{} cannot be opened ({kind}); check the disk it is on", path.display())]
    Unopenable {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// A limit is not one.
    #[error("{name} must be between 1 and {MAX_CALL_BYTES} bytes; correct it or leave it out")]
    Limit {
        /// The field.
        name: &'static str,
    },
    /// The source's name makes no capability id.
    #[error("{0}; choose another name for this source")]
    Name(#[from] InvalidId),
}

impl WorkspaceError {
    pub(super) fn opening(path: &Path, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing(path),
            std::io::ErrorKind::NotADirectory => Self::NotAFolder(path),
            std::io::ErrorKind::PermissionDenied => Self::Denied(path),
            kind => Self::Unopenable { path, kind },
        }
    }
}
