//! Walks the chain from its first line to its last, with nothing but the files.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::files::{Backwards, Forwards, days, whole_length};
use super::line::{Head, check};

/// What a walk over the log found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// How many files there are.
    pub files: usize,
    /// How many lines are good, up to the first bad one.
    pub events: u64,
    /// The first bad line; the walk ends there.
    pub first_bad: Option<BadLine>,
    /// The last good line.
    pub head: Option<Head>,
    /// Bytes after the last newline of the newest file: a line being written now, or one that a power
    /// loss cut. The next start moves it aside.
    pub incomplete_bytes: usize,
}

/// A line that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// Which of its lines, from 1.
    pub line: u64,
    /// What is wrong, and what is missing.
    pub reason: String,
}

/// Verifies the log in `dir`, a line at a time.
///
/// # Errors
/// When the folder or a file cannot be read at all.
pub fn verify(dir: &Path) -> io::Result<VerifyReport> {
    let days = days(dir)?;
    let mut report = VerifyReport {
        files: days.len(),
        events: 0,
        first_bad: None,
        head: None,
        incomplete_bytes: 0,
    };
    let mut head = Head::genesis();
    for (n, day) in days.iter().enumerate() {
        let file = day.file_name();
        let is_newest = n + 1 == days.len();
        let walked = walk_file(&dir.join(&file), &mut head, &mut report.events)?;
        report.first_bad = match walked {
            Walked::Whole => continue,
            Walked::Incomplete { bytes, .. } if is_newest => {
                report.incomplete_bytes = bytes;
                continue;
            }
            Walked::Incomplete { line, .. } => {
                let reason = "the line is cut off, and later files follow".to_owned();
                Some(BadLine { file, line, reason })
            }
            Walked::Bad { line, reason } => Some(BadLine { file, line, reason }),
        };
        break;
    }
    report.head = (head.seq > 0).then_some(head);
    Ok(report)
}

/// What a look at the end of the log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailReport {
    /// How many lines are good and follow one another, from the last one back.
    pub events: u64,
    /// The first that is not, from the last one back.
    pub first_bad: Option<String>,
}

/// Verifies the last `most` lines of the log in `dir`: each by itself, and that it follows the one
/// before it. A log that is being written to may be looked at.
///
/// # Errors
/// When the folder or a file cannot be read at all.
pub fn verify_tail(dir: &Path, most: u64) -> io::Result<TailReport> {
    let mut report = TailReport { events: 0, first_bad: None };
    let mut after: Option<(u64, String)> = None;
    for day in days(dir)?.iter().rev() {
        let mut file = File::open(dir.join(day.file_name()))?;
        let end = whole_length(&mut file)?;
        let mut lines = Backwards::new(file, end);
        while let Some(line) = lines.next_line()? {
            let link = match check(&line) {
                Ok(link) => link,
                Err(fault) => {
                    report.first_bad = Some(format!("{}: {fault}", day.file_name()));
                    return Ok(report);
                }
            };
            let follows =
                |(seq, prev): &(u64, String)| *seq == link.head.seq + 1 && *prev == link.head.hash;
            if after.as_ref().is_some_and(|after| !follows(after)) {
                let what = format!("no event follows event {}", link.head.seq);
                report.first_bad = Some(format!("{}: {what}", day.file_name()));
                return Ok(report);
            }
            report.events += 1;
            if report.events >= most {
                return Ok(report);
            }
            after = Some((link.head.seq, link.prev));
        }
    }
    Ok(report)
}

enum Walked {
    Whole,
    Incomplete { line: u64, bytes: usize },
    Bad { line: u64, reason: String },
}

fn walk_file(path: &Path, head: &mut Head, events: &mut u64) -> io::Result<Walked> {
    let mut lines = Forwards::open(path)?;
    let (mut text, mut line) = (Vec::new(), 0);
    loop {
        line += 1;
        match lines.next_line(&mut text) {
            Ok(true) => {}
            Ok(false) if text.is_empty() => return Ok(Walked::Whole),
            Ok(false) => return Ok(Walked::Incomplete { line, bytes: text.len() }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Walked::Bad { line, reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        match follows(&text, head) {
            Ok(next) => *head = next,
            Err(reason) => return Ok(Walked::Bad { line, reason }),
        }
        *events += 1;
    }
}

fn follows(text: &[u8], head: &Head) -> Result<Head, String> {
    let link = check(text).map_err(|fault| fault.to_string())?;
    let (expected, found) = (head.seq + 1, link.head.seq);
    if found > expected {
        let missing = match found - expected {
            1 => format!("event {expected} is missing"),
            _ => format!("events {expected} to {} are missing", found - 1),
        };
        return Err(format!("{missing} before it"));
    }
    if found < expected {
        return Err(format!("event {found} stands where event {expected} should"));
    }
    if link.prev != head.hash {
        return Err(format!("it does not follow the event {} before it", head.seq));
    }
    Ok(link.head)
}
