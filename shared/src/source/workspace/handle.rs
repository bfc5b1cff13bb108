//! What is really there: files opened beneath the folder's handle and judged by their own handles.
//!
//! A name can change its meaning between two looks at it, a handle cannot. So a file is opened first
//! and judged afterwards; the look by name before it only keeps devices from being opened at all and
//! makes refusals say more.

use std::time::UNIX_EPOCH;

use cap_fs_ext::{FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};

use super::error::CallError;
use super::path::RelPath;
use crate::clock::Timestamp;

/// Opens the plain file at `path` for reading. Symbolic links that stay inside are followed.
pub(super) fn open_file(root: &Dir, path: &RelPath) -> Result<(File, Metadata), CallError> {
    if path.is_root() {
        return Err(CallError::IsDirectory(path.given()));
    }
    require_plain(path, &root.metadata(path.as_str()).map_err(|error| path.failed(&error))?)?;
    open_judged(root, path)
}

/// Opens whatever is at `path` and passes a plain file. Should a pipe have taken the name since the
/// look at it, opening does not wait for a writer.
pub(super) fn open_judged(root: &Dir, path: &RelPath) -> Result<(File, Metadata), CallError> {
    let fail = |error| path.failed(&error);
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true);
    let file = root.open_with(path.as_str(), &options).map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    require_plain(path, &found)?;
    Ok((file, found))
}

/// Opens the folder at `path`.
pub(super) fn open_folder(root: &Dir, path: &RelPath) -> Result<Dir, CallError> {
    root.open_dir(path.as_str()).map_err(|error| path.failed(&error))
}

/// Opens the file `name` of `folder` for appending; a symbolic link there is not followed.
pub(super) fn open_append(
    folder: &Dir,
    name: &str,
    path: &RelPath,
) -> Result<(File, Metadata), CallError> {
    let fail = |error| path.failed(&error);
    let mut options = OpenOptions::new();
    options.append(true).nonblock(true).follow(FollowSymlinks::No);
    let file = folder.open_with(name, &options).map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    require_plain(path, &found)?;
    Ok((file, found))
}

/// Passes a regular file that has no other name, which might lie outside the folder.
pub(super) fn require_plain(path: &RelPath, found: &Metadata) -> Result<(), CallError> {
    if found.is_dir() {
        return Err(CallError::IsDirectory(path.given()));
    }
    if !found.is_file() {
        return Err(CallError::NotAFile(path.given()));
    }
    if MetadataExt::nlink(found) > 1 {
        return Err(CallError::HardLinked(path.given()));
    }
    Ok(())
}

/// When the file last changed.
pub(super) fn modified(found: &Metadata) -> Option<Timestamp> {
    let millis = nanos(found)?.div_euclid(1_000_000);
    Some(Timestamp::from_millis(i64::try_from(millis).ok()?))
}

/// A short word that changes when the file does: over modification time, size and inode.
pub(super) fn etag(found: &Metadata) -> String {
    let mut seen = Vec::with_capacity(40);
    seen.extend(nanos(found).unwrap_or_default().to_be_bytes());
    seen.extend(found.len().to_be_bytes());
    seen.extend(MetadataExt::ino(found).to_be_bytes());
    let digest = crate::secret::sha256(&seen);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn nanos(found: &Metadata) -> Option<i128> {
    let at = found.modified().ok()?.into_std();
    let nanos = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).ok()?,
        Err(before) => -i128::try_from(before.duration().as_nanos()).ok()?,
    };
    Some(nanos)
}
