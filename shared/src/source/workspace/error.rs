//! Why a call on a workspace failed, in words an agent may read.
//!
//! No message ever carries where the folder is on this machine: only the path the agent itself gave,
//! and what kind of error the operating system reported.

use std::fmt;
use std::io;

/// A path as the agent gave it, quoted and cut to a readable length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenPath(String);

impl GivenPath {
    const SHOWN: usize = 200;

    pub(super) fn new(path: &str) -> Self {
        let mut shown: String = path.chars().take(Self::SHOWN).collect();
        if shown.len() < path.len() {
            shown.push('…');
        }
        Self(shown)
    }
}

impl fmt::Display for GivenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why a call failed. [`CallError::reason`] is for programs, the text for the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing is there.
    #[error("there is nothing at {0}; list the folder to see what there is")]
    NotFound(GivenPath),
    /// A file was wanted.
    #[error("{0} is a folder; this takes a file")]
    IsDirectory(GivenPath),
    /// A folder was wanted.
    #[error("{0}, or a part of it, is not a folder")]
    NotADirectory(GivenPath),
    /// A pipe, a socket, a device; for a write also a symbolic link.
    #[error("{0} is not a plain file")]
    NotAFile(GivenPath),
    /// `..`, or a symbolic link that leaves the folder.
    #[error("{0} leads outside the workspace; only what is inside it can be reached")]
    Outside(GivenPath),
    /// An absolute path; not repeated, for it may name this machine's folders.
    #[error("the path is absolute; give it relative to the workspace")]
    Absolute,
    /// A file that has other names, which may lie outside.
    #[error("{0} has more than one hard link and may belong outside the workspace")]
    HardLinked(GivenPath),
    /// More than one call takes.
    #[error("too large: {0}")]
    TooLarge(String),
    /// A precondition does not hold: read again, then decide.
    #[error("{0} is not as the precondition says; read it again and decide anew")]
    Changed(GivenPath),
    /// Not text, and text was asked for.
    #[error("{0} is not UTF-8 text here; ask for encoding base64")]
    Binary(GivenPath),
    /// The operating system, or the file's own permission bits, say no.
    #[error("the permissions of {0} do not allow this")]
    Permission(GivenPath),
    /// The input has not the asked shape.
    #[error("{0}")]
    BadInput(String),
    /// The owner allows reading only.
    #[error("this workspace is read-only")]
    ReadOnly,
    /// The file system failed.
    #[error("the file system failed: {0}")]
    Io(io::ErrorKind),
}

impl CallError {
    /// The stable word for programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::IsDirectory(_) => "is_directory",
            Self::NotADirectory(_) => "not_a_directory",
            Self::NotAFile(_) => "not_a_file",
            Self::Outside(_) | Self::Absolute | Self::HardLinked(_) => "outside",
            Self::TooLarge(_) => "too_large",
            Self::Changed(_) => "changed",
            Self::Binary(_) => "binary",
            Self::Permission(_) => "permission",
            Self::BadInput(_) => "bad_input",
            Self::ReadOnly => "read_only",
            Self::Io(_) => "io",
        }
    }

    /// What `error` means, met at the path `given`. Only its kind is kept.
    pub(super) fn at(given: &str, error: &io::Error) -> Self {
        let path = GivenPath::new(given);
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path),
            io::ErrorKind::IsADirectory => Self::IsDirectory(path),
            io::ErrorKind::NotADirectory => Self::NotADirectory(path),
            // cap-std's own word for a path that leaves the folder carries no errno.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                Self::Outside(path)
            }
            io::ErrorKind::PermissionDenied => Self::Permission(path),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::InvalidFilename => {
                Self::BadInput(format!("a name in {path} is too long"))
            }
            kind => Self::Io(kind),
        }
    }
}
