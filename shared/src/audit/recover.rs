//! Where the chain stands when the log is opened: learned from the end of the newest file.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files::{Backwards, Day, Forwards, days, whole_length};
use super::line::{self, Head};
use super::open_calls::{self, Left};
use super::retention;
use crate::failpoint::{Point, pass};
use crate::state_dir::{StateDir, private_options};

/// Why the log cannot be opened. Written for the owner.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The operating system said no.
    #[error("cannot open the audit log in {}: {source}", path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The last line is not one of ours.
    #[error("{file} line {line}: {reason}; run `plexus audit verify`")]
    Corrupt {
        /// The file.
        file: String,
        /// Which of its lines.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> AuditOpenError {
    let path = path.to_owned();
    move |source| AuditOpenError::Io { path, source }
}

/// Where the chain stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) head: Head,
    /// The newest file's day.
    pub(super) day: Option<Day>,
    /// What the end of the log says of calls and checkpoints.
    pub(super) left: Left,
    /// What the next record must say of a line that was cut off.
    pub(super) note: Option<Value>,
}

/// Finds the last line, and moves aside what a power loss left of one after it. A last line that is
/// whole but not ours is left alone, as is everything else then.
pub(super) fn recover(dir: &StateDir) -> Result<Standing, AuditOpenError> {
    dir.sweep().map_err(at(dir.path()))?;
    let days = days(dir.path()).map_err(at(dir.path()))?;
    let mut head = Head::genesis();
    if let Some(removed) = retention::last_removed(dir.path()).map_err(at(dir.path()))? {
        head = removed;
    }
    let mut torn = Vec::new();
    for day in days.iter().rev() {
        let path = dir.join(day.file_name());
        let (last, whole, length) = last_line(&path).map_err(at(&path))?;
        if whole < length {
            torn.push((*day, whole, length - whole));
        }
        if let Some(last) = last {
            head = line::check(&last).map_err(|fault| corrupt(&path, *day, &fault))?.head;
            break;
        }
    }
    let note = torn
        .iter()
        .map(|&(day, whole, bytes)| {
            let aside = set_aside(dir, day, whole, head.seq + 1)?;
            tracing::warn!(aside, bytes, "the audit log ended in part of a line");
            Ok(json!({"bytes": bytes, "file": day.file_name(), "movedTo": aside}))
        })
        .collect::<Result<Vec<_>, AuditOpenError>>()?;
    let note = (!note.is_empty()).then(|| json!({ "tornTail": note }));
    let left = open_calls::left(dir.path(), &days).map_err(at(dir.path()))?;
    Ok(Standing { head, day: days.last().copied(), left, note })
}

/// The last whole line of the file, the length of its whole lines, and its length.
fn last_line(path: &Path) -> io::Result<(Option<Vec<u8>>, u64, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let whole = whole_length(&mut file)?;
    Ok((Backwards::new(file, whole).next_line()?, whole, length))
}

fn corrupt(path: &Path, day: Day, fault: &line::LineFault) -> AuditOpenError {
    let (file, reason) = (day.file_name(), fault.to_string());
    AuditOpenError::Corrupt { file, line: count_lines(path).unwrap_or(0), reason }
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let mut lines = Forwards::open(path)?;
    let (mut count, mut line) = (0, Vec::new());
    while lines.next_line(&mut line)? {
        count += 1;
    }
    Ok(count)
}

/// Moves what follows `whole` in the day's file to a file of its own; returns that one's name.
fn set_aside(dir: &StateDir, day: Day, whole: u64, seq: u64) -> Result<String, AuditOpenError> {
    let path = dir.join(day.file_name());
    let moved = || {
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        file.seek(SeekFrom::Start(whole))?;
        let (name, mut aside) = create_aside(dir, &format!("{}.torn-{seq}", day.stem()))?;
        io::copy(&mut file, &mut aside)?;
        aside.sync_all()?;
        dir.sync()?;
        pass(Point::AuditAside);
        file.set_len(whole)?;
        pass(Point::AuditCut);
        file.sync_all()?;
        Ok(name)
    };
    moved().map_err(at(&path))
}

fn create_aside(dir: &StateDir, name: &str) -> io::Result<(String, File)> {
    const MOST: usize = 1000;
    let names = std::iter::once(name.to_owned()).chain((2..MOST).map(|n| format!("{name}-{n}")));
    for name in names {
        match private_options().write(true).create_new(true).open(dir.join(&name)) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
