//! `file.write`: a file's whole content, or more at its end.
//!
//! 1. The input is read and everything that can be refused without looking is refused.
//! 2. The folder of the file is opened; from here on only that handle and the file's name are used.
//! 3. What is there now is looked at, links not followed, and held against the preconditions.
//! 4. The content goes to a hidden temporary file beside it, down to the disk.
//! 5. Under the workspace's write lock the preconditions are checked once more, and the temporary
//!    file takes the name. A reader sees the old content or the new, never a part.
//!
//! An attacker would swap the name for a symbolic link between two steps. A rename replaces a link
//! and never follows it, and appending opens without following, so nothing outside is ever written.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::error::CallError;
use super::path::{RelPath, TEMP_PREFIX};
use super::{handle, os};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Given {
    #[default]
    Text,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Replace,
    Append,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Input {
    path: String,
    content: String,
    #[serde(default)]
    encoding: Given,
    #[serde(default)]
    create_parents: bool,
    if_match: Option<String>,
    #[serde(default)]
    if_absent: bool,
    #[serde(default)]
    mode: How,
}

#[derive(Debug, Serialize)]
pub(super) struct Output {
    path: String,
    size: u64,
    etag: String,
    created: bool,
}

/// Writes what `input` asks for, at most `limit` bytes.
pub(super) fn write(
    root: &Dir,
    limit: u64,
    lock: &Mutex<()>,
    input: Input,
) -> Result<Output, CallError> {
    let path = RelPath::parse(&input.path)?;
    if input.path.ends_with('/') || path.is_root() {
        return Err(CallError::IsDirectory(path.given()));
    }
    if input.if_absent && (input.if_match.is_some() || input.mode == How::Append) {
        let why = "ifAbsent goes with neither ifMatch nor mode append: there is nothing yet";
        return Err(CallError::BadInput(why.into()));
    }
    let content = decode(input.encoding, input.content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(CallError::TooLarge(format!("one write takes at most {limit} bytes")));
    }
    let folder = open_parent(root, &path, input.create_parents && input.if_match.is_none())?;
    let (_, name) = path.split().ok_or_else(|| CallError::IsDirectory(path.given()))?;
    let target = Target {
        folder: &folder,
        name,
        path: &path,
        if_match: input.if_match.as_deref(),
        if_absent: input.if_absent,
        lock,
    };
    match (input.mode, target.look()?) {
        (How::Append, Some(_)) => target.append(&content),
        (_, there) => target.replace(&content, there.as_ref()),
    }
}

fn decode(encoding: Given, content: String) -> Result<Vec<u8>, CallError> {
    match encoding {
        Given::Text => Ok(content.into_bytes()),
        Given::Base64 => BASE64
            .decode(content.as_bytes())
            .map_err(|_| CallError::BadInput("content is not base64, as encoding says".into())),
    }
}

fn open_parent(root: &Dir, path: &RelPath, create: bool) -> Result<Dir, CallError> {
    let (parent, _) = path.split().ok_or_else(|| CallError::IsDirectory(path.given()))?;
    if create && !parent.is_root() {
        root.create_dir_all(parent.as_str()).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => CallError::NotADirectory(parent.given()),
            _ => parent.failed(&error),
        })?;
    }
    handle::open_folder(root, &parent)
}

/// The name to be written and the conditions for it.
struct Target<'a> {
    folder: &'a Dir,
    name: &'a str,
    path: &'a RelPath,
    if_match: Option<&'a str>,
    if_absent: bool,
    lock: &'a Mutex<()>,
}

impl Target<'_> {
    /// What is there now, if it may be written and is as the preconditions say.
    fn look(&self) -> Result<Option<Metadata>, CallError> {
        let there = match self.folder.symlink_metadata(self.name) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.path.failed(&error)),
        };
        if let Some(found) = &there {
            self.check(found)?;
        } else if self.if_match.is_some() {
            return Err(CallError::Changed(self.path.given()));
        }
        Ok(there)
    }

    /// Passes a plain file that may be written and is as the preconditions say.
    fn check(&self, found: &Metadata) -> Result<(), CallError> {
        handle::require_plain(self.path, found)?;
        let unlike = self.if_match.is_some_and(|etag| etag != handle::etag(found));
        if self.if_absent || unlike {
            return Err(CallError::Changed(self.path.given()));
        }
        // Taking the name needs no permission on the file, so its own word is asked for.
        if found.permissions().readonly() {
            return Err(CallError::Permission(self.path.given()));
        }
        Ok(())
    }

    fn append(&self, content: &[u8]) -> Result<Output, CallError> {
        let fail = |error| self.path.failed(&error);
        let _writing = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, found) = handle::open_append(self.folder, self.name, self.path)?;
        self.check(&found)?;
        file.write_all(content).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        self.done(&file, false)
    }

    fn replace(&self, content: &[u8], there: Option<&Metadata>) -> Result<Output, CallError> {
        let fail = |error| self.path.failed(&error);
        let mut temp = Temp::create(self.folder, there.is_some()).map_err(fail)?;
        if let Some(replaced) = there {
            os::keep_permissions(&temp.file, replaced).map_err(fail)?;
        }
        temp.file.write_all(content).map_err(fail)?;
        temp.file.sync_all().map_err(fail)?;

        let writing = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let created = self.look()?.is_none();
        if self.if_absent {
            self.claim()?;
        }
        if let Err(error) = temp.take_name(self.name) {
            if self.if_absent {
                let _as_it_was = self.folder.remove_file(self.name);
            }
            return Err(fail(error));
        }
        drop(writing);
        sync_folder(self.folder);
        self.done(&temp.file, created)
    }

    /// Makes the name ours, empty, if no one else has it.
    fn claim(&self) -> Result<(), CallError> {
        let claimed = create_new(self.folder, self.name, true);
        claimed.map(drop).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => CallError::Changed(self.path.given()),
            _ => self.path.failed(&error),
        })
    }

    fn done(&self, file: &File, created: bool) -> Result<Output, CallError> {
        let found = file.metadata().map_err(|error| self.path.failed(&error))?;
        Ok(Output {
            path: self.path.as_str().to_owned(),
            size: found.len(),
            etag: handle::etag(&found),
            created,
        })
    }
}

/// A hidden file being filled; gone when dropped before it took its name.
pub(super) struct Temp<'a> {
    folder: &'a Dir,
    name: String,
    file: File,
    placed: bool,
}

impl<'a> Temp<'a> {
    pub(super) fn create(folder: &'a Dir, private: bool) -> std::io::Result<Self> {
        let random = crate::secret::random::<8>();
        let name = format!("{TEMP_PREFIX}{}", HEXLOWER.encode(&random));
        let file = create_new(folder, &name, private)?;
        Ok(Self { folder, name, file, placed: false })
    }

    fn take_name(&mut self, name: &str) -> std::io::Result<()> {
        self.folder.rename(&self.name, self.folder, name)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.placed {
            let _nothing_more_to_do = self.folder.remove_file(&self.name);
        }
    }
}

fn create_new(folder: &Dir, name: &str, private: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).follow(FollowSymlinks::No);
    if private {
        os::private(&mut options);
    }
    folder.open_with(name, &options)
}

/// Brings the new name down to the disk, where the file system lets a folder be synced.
fn sync_folder(folder: &Dir) {
    if let Ok(entries) = folder.open(".") {
        let _best_effort = entries.sync_all();
    }
}
