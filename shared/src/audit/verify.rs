//! Walks the chain from its first line.

use std::fs::File;
use std::io;
use std::path::Path;

use plexus_mesh_proto::identity::PublicKey;
use serde::Serialize;

use super::files::{Backwards, Forwards, days, whole_length};
use super::line::{Head, Link, check};
use super::retention::{self, StubFile};
use super::seal;

/// What a walk over the log found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// How many files there are.
    pub files: usize,
    /// How many files were removed when their time was over, and left a stub.
    pub removed_files: usize,
    /// How many lines are good, up to the first bad one.
    pub events: u64,
    /// The first bad line; the walk ends there.
    pub first_bad: Option<BadLine>,
    /// The last good line.
    pub head: Option<Head>,
    /// The last checkpoint's number: what is before it can't have been rewritten without the key.
    pub signed_through: Option<u64>,
    /// The key that signed, in base32.
    pub public_key: Option<String>,
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

/// Verifies the log in `dir`, a line at a time. What is signed must be signed by one key; which one it
/// is the log alone can't tell.
///
/// # Errors
/// When the folder or a file cannot be read at all.
pub fn verify(dir: &Path) -> io::Result<VerifyReport> {
    verify_by(dir, None)
}

/// As [`verify`]; when `key` is given, what is signed must be signed by that one.
///
/// # Errors
/// As [`verify`].
pub fn verify_by(dir: &Path, key: Option<PublicKey>) -> io::Result<VerifyReport> {
    let (stubs, days) = retention::parts(dir)?;
    let mut walk = Walk::new(key);
    let (files, removed_files) = (days.len(), stubs.iter().filter(|stub| !stub.has_file).count());
    let mut incomplete_bytes = 0;
    let mut first_bad = stubs.iter().find_map(|stub| walk.stub(stub, days.first().copied()).err());
    for (n, day) in days.iter().enumerate() {
        if first_bad.is_some() {
            break;
        }
        let file = day.file_name();
        let is_newest = n + 1 == days.len();
        first_bad = match walk.file(&dir.join(&file))? {
            Walked::Whole => None,
            Walked::Incomplete { bytes, .. } if is_newest => {
                incomplete_bytes = bytes;
                None
            }
            Walked::Incomplete { line, .. } => {
                let reason = "the line is cut off, and later files follow".to_owned();
                Some(BadLine { file, line, reason })
            }
            Walked::Bad { line, reason } => Some(BadLine { file, line, reason }),
        };
    }
    Ok(VerifyReport {
        files,
        removed_files,
        events: walk.events,
        first_bad,
        signed_through: walk.sealed,
        public_key: walk.key.filter(|_| walk.sealed.is_some()).map(|key| key.to_string()),
        head: (walk.head.seq > 0).then_some(walk.head),
        incomplete_bytes,
    })
}

/// Checks that `line`, without its newline, is what its hash says and comes after `head`; the head it
/// makes.
///
/// # Errors
/// What is wrong with it.
pub fn next(line: &[u8], head: &Head) -> Result<Head, String> {
    let link = check(line).map_err(|fault| fault.to_string())?;
    follows(link.head.seq, &link.prev, head)?;
    Ok(link.head)
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

/// What came of a file.
pub(super) enum Walked {
    Whole,
    Incomplete { line: u64, bytes: usize },
    Bad { line: u64, reason: String },
}

/// A walk over stubs and files, in their order.
pub(super) struct Walk {
    pub(super) head: Head,
    events: u64,
    /// The key that must have signed: the given one, or the first one seen.
    key: Option<PublicKey>,
    /// The number of the last thing that was signed.
    sealed: Option<u64>,
}

impl Walk {
    pub(super) fn new(key: Option<PublicKey>) -> Self {
        Self { head: Head::genesis(), events: 0, key, sealed: None }
    }

    /// Passes over a file that was removed.
    pub(super) fn stub(
        &mut self,
        stub: &StubFile,
        first: Option<super::files::Day>,
    ) -> Result<(), BadLine> {
        let bad = |reason: String| BadLine { file: stub.day.stub_name(), line: 1, reason };
        let known = stub.read.as_ref().map_err(|reason| bad((*reason).to_owned()))?;
        self.signed_by(known.key).map_err(|reason| bad(reason.to_owned()))?;
        if stub.has_file {
            // The process ended between the stub and the removal: the file still says more.
            return Ok(());
        }
        if first.is_some_and(|first| first < stub.day) {
            return Err(bad("the stub stands for a file after one that is still there".to_owned()));
        }
        follows(known.first_seq, &known.prev, &self.head).map_err(bad)?;
        self.head = known.last.clone();
        self.sealed = Some(self.head.seq);
        Ok(())
    }

    /// Passes over the lines of a file.
    pub(super) fn file(&mut self, path: &Path) -> io::Result<Walked> {
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
            if let Err(reason) = self.line(&text) {
                return Ok(Walked::Bad { line, reason });
            }
            self.events += 1;
        }
    }

    fn line(&mut self, text: &[u8]) -> Result<(), String> {
        let link = check(text).map_err(|fault| fault.to_string())?;
        let Link { prev, head, checkpoint } = link;
        follows(head.seq, &prev, &self.head)?;
        if let Some(detail) = checkpoint {
            self.signed_by(seal::check(&detail, &self.head)?)?;
            self.sealed = Some(head.seq);
        } else if head.seq - self.sealed.unwrap_or(0) > seal::MOST_UNSIGNED {
            return Err(match self.sealed {
                Some(sealed) => format!("no checkpoint stands between event {sealed} and this one"),
                None => "no checkpoint stands before this event".to_owned(),
            });
        }
        self.head = head;
        Ok(())
    }

    fn signed_by(&mut self, key: PublicKey) -> Result<(), &'static str> {
        if *self.key.get_or_insert(key) == key {
            Ok(())
        } else {
            Err("it is signed by another key than this node's")
        }
    }
}

fn follows(seq: u64, prev: &str, head: &Head) -> Result<(), String> {
    let expected = head.seq + 1;
    if seq > expected {
        let missing = match seq - expected {
            1 => format!("event {expected} is missing"),
            _ => format!("events {expected} to {} are missing", seq - 1),
        };
        return Err(format!("{missing} before it"));
    }
    if seq < expected {
        return Err(format!("event {seq} stands where event {expected} should"));
    }
    if prev != head.hash {
        return Err(format!("it does not follow the event {} before it", head.seq));
    }
    Ok(())
}
