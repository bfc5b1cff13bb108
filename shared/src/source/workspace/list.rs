//! `file.list`: what is in a folder, page by page.
//!
//! Entries come in one fixed order, an entry before what it holds and names compared byte by byte,
//! so a page can begin after the last entry of the one before without anything being remembered.
//! Of each folder only the names that can still be on the page are kept, however many it holds.

use std::collections::BinaryHeap;

use cap_fs_ext::DirExt;
use cap_std::fs::Dir;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::Stop;
use super::error::CallError;
use super::handle;
use super::path::{RelPath, is_temporary};
use crate::clock::Timestamp;

/// Entries of a page when the agent does not say.
pub(super) const DEFAULT_LIMIT: usize = 200;
/// Entries of a page at most.
pub(super) const MAX_LIMIT: usize = 1000;
/// Levels of folders a recursive listing shows.
const MAX_LEVELS: usize = 16;
/// Names looked at for one page at most.
const MAX_SCANNED: usize = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Input {
    #[serde(default)]
    path: String,
    #[serde(default)]
    recursive: bool,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Output {
    path: String,
    entries: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: usize,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    path: String,
    r#type: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    File,
    Directory,
    Symlink,
    Other,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Lists what `input` asks for.
pub(super) fn list(root: &Dir, stop: &Stop, input: &Input) -> Result<Output, CallError> {
    let path = RelPath::parse(&input.path)?;
    let limit = input.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(CallError::BadInput(format!("limit must be between 1 and {MAX_LIMIT}")));
    }
    let after = input.cursor.as_deref().map(read_cursor).transpose()?.unwrap_or_default();
    let after: Vec<&str> = after.split('/').filter(|name| !name.is_empty()).collect();
    let folder = handle::open_folder(root, &path)?;
    let mut page = Page::new(limit, if input.recursive { MAX_LEVELS } else { 1 }, stop);
    page.add(&folder, &path, &RelPath::parse("")?, &after)?;
    Ok(Output {
        path: path.as_str().to_owned(),
        next_cursor: page.more.then(|| BASE64URL_NOPAD.encode(page.last.as_bytes())),
        entries: page.entries,
        skipped: page.skipped,
    })
}

/// The position a cursor stands for: the path of an entry, from the listed folder.
fn read_cursor(cursor: &str) -> Result<String, CallError> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        CallError::BadInput("cursor is not one a listing gave; leave it out to begin again".into())
    })
}

/// A page being filled.
struct Page<'a> {
    limit: usize,
    levels: usize,
    stop: &'a Stop,
    entries: Vec<Entry>,
    skipped: usize,
    scanned: usize,
    /// The last entry considered, from the listed folder: where the next page begins.
    last: String,
    more: bool,
}

impl<'a> Page<'a> {
    fn new(limit: usize, levels: usize, stop: &'a Stop) -> Self {
        let entries = Vec::new();
        Self {
            limit,
            levels,
            stop,
            entries,
            skipped: 0,
            scanned: 0,
            last: String::new(),
            more: false,
        }
    }

    /// Adds what comes after `after` in `folder`, which is at `path` in the workspace and at `below`
    /// from the listed folder.
    fn add(
        &mut self,
        folder: &Dir,
        path: &RelPath,
        below: &RelPath,
        after: &[&str],
    ) -> Result<(), CallError> {
        let level = if below.is_root() { 1 } else { below.as_str().split('/').count() + 1 };
        let (names, dropped) = self.names(folder, path, after.first().copied())?;
        for name in names {
            let resumed = after.first() == Some(&name.as_str());
            let (path, below) = (path.child(&name), below.child(&name));
            if !resumed {
                if self.entries.len() == self.limit {
                    self.more = true;
                    return Ok(());
                }
                below.as_str().clone_into(&mut self.last);
            }
            let Some(kind) = self.enter(folder, &name, &path, !resumed) else { continue };
            if kind == Type::Directory && level < self.levels {
                let after = if resumed { after.get(1..).unwrap_or_default() } else { &[] };
                self.descend(folder, &name, &path, &below, after)?;
                if self.more {
                    return Ok(());
                }
            }
        }
        self.more = dropped;
        Ok(())
    }

    /// Adds the entry `name` itself, when it is to be `shown`; `None` when it has gone meanwhile.
    fn enter(&mut self, folder: &Dir, name: &str, path: &RelPath, shown: bool) -> Option<Type> {
        let found = folder.symlink_metadata(name).ok()?;
        let r#type = match found.file_type() {
            kind if kind.is_file() => Type::File,
            kind if kind.is_dir() => Type::Directory,
            kind if kind.is_symlink() => Type::Symlink,
            _ => Type::Other,
        };
        if shown {
            self.entries.push(Entry {
                name: name.to_owned(),
                path: path.as_str().to_owned(),
                r#type,
                size: (r#type == Type::File).then(|| found.len()),
                mtime: handle::modified(&found),
            });
        }
        Some(r#type)
    }

    /// Adds what is in the folder `name`, unless it cannot be looked into.
    fn descend(
        &mut self,
        folder: &Dir,
        name: &str,
        path: &RelPath,
        below: &RelPath,
        after: &[&str],
    ) -> Result<(), CallError> {
        let inside = match folder.open_dir_nofollow(name) {
            Ok(inside) => self.add(&inside, path, below, after),
            Err(error) => Err(path.failed(&error)),
        };
        match inside {
            Err(
                CallError::NotFound(_)
                | CallError::NotADirectory(_)
                | CallError::Permission(_)
                | CallError::Outside(_),
            ) => {
                self.skipped += 1;
                Ok(())
            }
            other => other,
        }
    }

    /// The first names in `folder` from `floor` on, in order, as many as the page can still take;
    /// and whether there are more.
    fn names(
        &mut self,
        folder: &Dir,
        path: &RelPath,
        floor: Option<&str>,
    ) -> Result<(Vec<String>, bool), CallError> {
        // One more than fits tells whether there is a next page; one may only be resumed from.
        let room = self.limit - self.entries.len() + 2;
        let mut first = BinaryHeap::with_capacity(room + 1);
        let mut dropped = false;
        for entry in folder.entries().map_err(|error| path.failed(&error))? {
            self.count()?;
            let entry = entry.map_err(|error| path.failed(&error))?;
            let Some(name) = listed_name(entry.file_name()) else {
                self.skipped += 1;
                continue;
            };
            if is_temporary(&name) || floor.is_some_and(|floor| name.as_str() < floor) {
                continue;
            }
            first.push(name);
            if first.len() > room {
                first.pop();
                dropped = true;
            }
        }
        Ok((first.into_sorted_vec(), dropped))
    }

    fn count(&mut self) -> Result<(), CallError> {
        self.stop.check()?;
        self.scanned += 1;
        if self.scanned > MAX_SCANNED {
            let what = format!("more than {MAX_SCANNED} entries to look at; list a smaller folder");
            return Err(CallError::TooLarge(what));
        }
        Ok(())
    }
}

/// The name, when a path can be written with it.
fn listed_name(name: std::ffi::OsString) -> Option<String> {
    name.into_string().ok().filter(|name| !name.chars().any(char::is_control))
}
