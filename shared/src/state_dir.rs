//! The folder a node keeps its state in: private to its owner, used by one process at a time.
//!
//! Everything a node must not lose or leak lies here (keys, the store, the audit log), so the folder
//! is judged before it is used: a symlink, a stranger's folder or one that others may enter is
//! refused untouched, with the command that mends it. Files are replaced whole or not at all.
//!
//! What an attacker would try: pre-create the folder, or a file in it, with loose permissions; swap
//! it for a symlink; make a key file a FIFO or a very large file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::failpoint::{Point, pass};

/// The most [`StateDir::read`] reads.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why the state folder, or a file in it, cannot be used. Written for the owner.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The path leads elsewhere.
    #[error("{} is a symbolic link; name the folder itself", .0.display())]
    Symlink(PathBuf),
    /// Something else has the name.
    #[error("{} is not a folder; move it away or name another folder", .0.display())]
    NotAFolder(PathBuf),
    /// Another user owns it.
    #[error("{} belongs to user {owner}, not to user {us}; run `chown {us} {}`", path.display(), path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs this process.
        us: u32,
    },
    /// Other users may enter the folder.
    #[error("other users may enter {}; run `chmod 700 {}`", .0.display(), .0.display())]
    FolderTooOpen(PathBuf),
    /// Other users may read the file.
    #[error("other users may use {}; run `chmod 600 {}`", .0.display(), .0.display())]
    FileTooOpen(PathBuf),
    /// Something other than a file has the name.
    #[error("{} is not a regular file; move it away", .0.display())]
    NotAFile(PathBuf),
    /// The file is larger than any of ours.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes; it is not one of ours, move it away", .0.display())]
    TooLarge(PathBuf),
    /// The name would leave the folder.
    #[error("{0:?} is not the name of a file in the state folder")]
    BadName(String),
    /// Another process has the folder.
    #[error("{} is already in use by another process ({}); use that one, stop it, or name another folder", path.display(), pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}")))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its process id, when it left one.
        pid: Option<u32>,
    },
    /// The operating system said no.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What was being used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Random bytes in the name that a file has until it is whole.
const NONCE: usize = 8;

/// Whether a file of this name is one that [`StateDir::write`] has not given its own yet.
fn is_half_written(name: &std::ffi::OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once('.'));
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    parts.is_some_and(|(_, nonce)| nonce.len() == 2 * NONCE && nonce.bytes().all(hex))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
    let path = path.to_owned();
    move |source| StateDirError::Io { path, source }
}

/// A folder that was found, or made, private to us.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// The right to be the one process that uses a state folder; given back on drop.
#[derive(Debug)]
#[must_use = "the folder is free again as soon as this is dropped"]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// The state folder at `path`, made (mode 0700) when absent.
    ///
    /// # Errors
    /// When the folder is not private to us; it is then left as it was.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        // A trailing slash would make the checks below follow a symlink.
        let path: PathBuf = path.components().collect();
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private::make_dir(&path).map_err(at(&path))?;
                pass(Point::FolderMade);
            }
            Err(error) => return Err(at(&path)(error)),
        }
        let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
        if meta.is_symlink() {
            return Err(StateDirError::Symlink(path));
        }
        if !meta.is_dir() {
            return Err(StateDirError::NotAFolder(path));
        }
        private::check_dir(&path, &meta)?;
        Ok(Self { path })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The folder `name` inside this one, made when absent.
    ///
    /// # Errors
    /// As [`StateDir::open`].
    pub fn subdir(&self, name: &str) -> Result<Self, StateDirError> {
        Self::open(&self.file(name)?)
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// [`StateDirError::InUse`] when another process has it.
    pub fn lock(&self) -> Result<StateLock, StateDirError> {
        let path = self.join("lock");
        let mut options = private::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever holds the lock may not have written its id yet.
                let _ = (&file).take(16).read_to_string(&mut text);
                return Err(StateDirError::InUse {
                    path: self.path.clone(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        file.set_len(0).map_err(at(&path))?;
        writeln!(file, "{}", std::process::id()).map_err(at(&path))?;
        pass(Point::FolderLocked);
        self.sweep().map_err(at(&self.path))?;
        Ok(StateLock { _file: file })
    }

    /// The bytes of file `name`; `None` when there is none.
    ///
    /// # Errors
    /// When it is not a regular file, not private to us, or larger than [`MAX_FILE_BYTES`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateDirError> {
        let path = self.file(name)?;
        // Judged before it is opened: opening a FIFO would block.
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        if !meta.is_file() {
            return Err(StateDirError::NotAFile(path));
        }
        let file = File::open(&path).map_err(at(&path))?;
        private::check_file(&path, &file.metadata().map_err(at(&path))?)?;
        let mut bytes = Vec::new();
        let length = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(at(&path))?;
        if length as u64 > MAX_FILE_BYTES {
            return Err(StateDirError::TooLarge(path));
        }
        Ok(Some(bytes))
    }

    /// Replaces file `name` (mode 0600) by `bytes`: after a crash it has the old bytes or the new.
    ///
    /// # Errors
    /// When the system cannot write; the old file is then still there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateDirError> {
        let path = self.file(name)?;
        let nonce = data_encoding::HEXLOWER.encode(&crate::secret::random::<NONCE>());
        let temp = self.path.join(format!(".{name}.{nonce}"));
        self.replace(&temp, &path, bytes).map_err(|error| {
            // Gone already when it was the rename's sync that failed.
            let _ = fs::remove_file(&temp);
            at(&path)(error)
        })
    }

    fn replace(&self, temp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        pass(Point::FileBefore);
        let mut file = private::options().write(true).create_new(true).open(temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        pass(Point::FileWritten);
        fs::rename(temp, path)?;
        pass(Point::FileReplaced);
        self.sync()
    }

    /// Removes file `name`.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn remove(&self, name: &str) -> Result<(), StateDirError> {
        let path = self.file(name)?;
        fs::remove_file(&path).map_err(at(&path))?;
        pass(Point::FileRemoved);
        self.sync().map_err(at(&path))
    }

    /// Removes what a process that was killed in [`StateDir::write`] left. Only for whoever has the
    /// folder to itself.
    ///
    /// # Errors
    /// When the system cannot.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if is_half_written(&entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The regular files in the folder by name, each with when it was written. Names that begin with
    /// a dot are our own, on their way.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn files(&self) -> Result<Vec<(String, SystemTime)>, StateDirError> {
        let read = || {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                // It may be gone again by now.
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_file() && !name.starts_with('.') {
                    files.push((name, meta.modified()?));
                }
            }
            files.sort_unstable();
            Ok(files)
        };
        read().map_err(at(&self.path))
    }

    /// Makes the names in the folder survive a power loss.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn sync(&self) -> io::Result<()> {
        private::sync_dir(&self.path)
    }

    fn file(&self, name: &str) -> Result<PathBuf, StateDirError> {
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\']);
        if plain { Ok(self.path.join(name)) } else { Err(StateDirError::BadName(name.to_owned())) }
    }
}

/// Options that make a new file with mode 0600.
pub(crate) fn private_options() -> OpenOptions {
    private::options()
}

#[cfg(unix)]
mod private {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions};
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use super::{StateDirError, at};

    pub(super) fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(0o600);
        options
    }

    pub(super) fn make_dir(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn check_dir(path: &Path, meta: &Metadata) -> Result<(), StateDirError> {
        let us = our_uid().map_err(at(path))?;
        if meta.uid() != us {
            let path = path.to_owned();
            return Err(StateDirError::NotOurs { path, owner: meta.uid(), us });
        }
        if meta.mode() & 0o077 != 0 {
            return Err(StateDirError::FolderTooOpen(path.to_owned()));
        }
        Ok(())
    }

    pub(super) fn check_file(path: &Path, meta: &Metadata) -> Result<(), StateDirError> {
        if !meta.is_file() {
            return Err(StateDirError::NotAFile(path.to_owned()));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(StateDirError::FileTooOpen(path.to_owned()));
        }
        Ok(())
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// The user that files we make belong to: a pipe is made, asked, and gone.
    fn our_uid() -> io::Result<u32> {
        let (reader, _writer) = io::pipe()?;
        Ok(File::from(OwnedFd::from(reader)).metadata()?.uid())
    }
}

#[cfg(not(unix))]
mod private {
    use std::fs::{Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::StateDirError;

    // The profile folder's inherited access list is what keeps other users out here.
    pub(super) fn options() -> OpenOptions {
        OpenOptions::new()
    }

    pub(super) fn make_dir(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    pub(super) fn check_dir(_: &Path, _: &Metadata) -> Result<(), StateDirError> {
        Ok(())
    }

    pub(super) fn check_file(path: &Path, meta: &Metadata) -> Result<(), StateDirError> {
        if meta.is_file() { Ok(()) } else { Err(StateDirError::NotAFile(path.to_owned())) }
    }

    pub(super) fn sync_dir(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests;
