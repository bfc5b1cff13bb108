//! The files of the log: one a day, read forwards, or backwards from the end, a piece at a time.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::clock::Timestamp;

/// No line is longer. The redactor keeps payloads far below it.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

const CHUNK: usize = 64 * 1024;
const DAY_MILLIS: i64 = 86_400_000;

/// A UTC calendar day: the unit of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(i64);

impl Day {
    pub(super) const fn of(at: Timestamp) -> Self {
        Self(at.as_millis().div_euclid(DAY_MILLIS))
    }

    /// `audit-YYYY-MM-DD`.
    pub(super) fn stem(self) -> String {
        format!("audit-{}", Timestamp::from_millis(self.0.saturating_mul(DAY_MILLIS)).day())
    }

    pub(super) fn file_name(self) -> String {
        format!("{}.jsonl", self.stem())
    }

    /// The name of what is left of the file when it is removed.
    pub(super) fn stub_name(self) -> String {
        format!("{}.stub.json", self.stem())
    }

    /// The day so many days before this one.
    pub(super) const fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days as i64))
    }

    pub(super) fn parse(file_name: &str) -> Option<Self> {
        Self::parse_as(file_name, ".jsonl", Self::file_name)
    }

    fn parse_stub(file_name: &str) -> Option<Self> {
        Self::parse_as(file_name, ".stub.json", Self::stub_name)
    }

    fn parse_as(name: &str, ending: &str, spell: fn(Self) -> String) -> Option<Self> {
        let day = name.strip_prefix("audit-")?.strip_suffix(ending)?;
        let day = Self::of(format!("{day}T00:00:00Z").parse().ok()?);
        (spell(day) == name).then_some(day)
    }
}

/// The days that have a file in `dir`, oldest first.
pub(super) fn days(dir: &Path) -> io::Result<Vec<Day>> {
    list(dir, Day::parse)
}

/// The days whose file was removed and left a stub in `dir`, oldest first.
pub(super) fn stub_days(dir: &Path) -> io::Result<Vec<Day>> {
    list(dir, Day::parse_stub)
}

fn list(dir: &Path, parse: fn(&str) -> Option<Day>) -> io::Result<Vec<Day>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(dir)? {
        days.extend(entry?.file_name().to_str().and_then(parse));
    }
    days.sort_unstable();
    Ok(days)
}

/// The length of the part of `file` that is whole lines.
pub(super) fn whole_length(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let chunk = chunk_before(file, end)?;
        let start = end - chunk.len() as u64;
        if let Some(newline) = chunk.iter().rposition(|b| *b == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn chunk_before(file: &mut File, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = vec![0; length];
    file.seek(SeekFrom::Start(end - length as u64))?;
    file.read_exact(&mut chunk)?;
    Ok(chunk)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any of ours")
}

#[cfg(test)]
std::thread_local! {
    /// How many lines this thread has read.
    pub(super) static LINES_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The lines of a file, the last one first.
#[derive(Debug)]
pub(super) struct Backwards {
    file: File,
    /// Where `held` begins in the file.
    start: u64,
    /// Read and not yet given: whole lines but for the first.
    held: Vec<u8>,
}

impl Backwards {
    /// The lines before `end`, which is the end of a line.
    pub(super) const fn new(file: File, end: u64) -> Self {
        Self { file, start: end, held: Vec::new() }
    }

    /// The line before the last one given, without its newline.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        // The newline that ends the line is not one that begins it.
        let mut from = self.held.len().saturating_sub(1);
        loop {
            if let Some(newline) = self.held[..from].iter().rposition(|b| *b == b'\n') {
                return Ok(Some(self.give(newline + 1)));
            }
            if self.start == 0 {
                return Ok((!self.held.is_empty()).then(|| self.give(0)));
            }
            if self.held.len() > MAX_LINE_BYTES {
                return Err(too_long());
            }
            let mut chunk = chunk_before(&mut self.file, self.start)?;
            self.start -= chunk.len() as u64;
            from = if self.held.is_empty() { chunk.len() - 1 } else { chunk.len() };
            chunk.append(&mut self.held);
            self.held = chunk;
        }
    }

    fn give(&mut self, from: usize) -> Vec<u8> {
        #[cfg(test)]
        LINES_READ.with(|read| read.set(read.get() + 1));
        let mut line = self.held.split_off(from);
        line.pop();
        line
    }
}

/// The lines of a file from the first on. It may grow meanwhile: a line that has no end yet is left
/// for later.
#[derive(Debug)]
pub(super) struct Forwards(BufReader<File>);

impl Forwards {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::with_capacity(CHUNK, File::open(path)?)))
    }

    /// Reads the next whole line, without its newline, into `line`; false when there is none yet.
    /// `line` then holds what there is of it.
    pub(super) fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let most = MAX_LINE_BYTES as u64 + 1;
        (&mut self.0).take(most).read_until(b'\n', line)?;
        if line.last() == Some(&b'\n') {
            #[cfg(test)]
            LINES_READ.with(|read| read.set(read.get() + 1));
            line.pop();
            return Ok(true);
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(too_long());
        }
        // A seek also forgets what was read ahead: a failed write may be cut off again.
        self.0.seek(SeekFrom::Current(-offset(line.len())))?;
        Ok(false)
    }

    /// Where the next line begins.
    pub(super) fn position(&mut self) -> io::Result<u64> {
        self.0.stream_position()
    }

    /// Goes to `offset`, where a line begins.
    pub(super) fn go_to(&mut self, offset: u64) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(offset)).map(|_| ())
    }

    /// Steps back over `line`, the one just read.
    pub(super) fn put_back(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.seek_relative(-offset(line.len() + 1))
    }
}

fn offset(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_name_of_a_day_is_a_file_of_the_log() {
        let day = Day::parse("audit-2026-06-23.jsonl").unwrap();
        assert_eq!(day.file_name(), "audit-2026-06-23.jsonl");
        for name in ["audit-2026-6-23.jsonl", "audit-2026-06-23.torn-7", "audit-2026-02-30.jsonl"] {
            assert!(Day::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn lines_read_alike_from_either_end_across_chunks() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lines");
        let mut lines: Vec<Vec<u8>> =
            [0, 1, CHUNK - 1, CHUNK, 7, 3 * CHUNK + 5, 0, 2].map(|n| vec![b'x'; n]).to_vec();
        let mut text = lines.join(&b'\n');
        text.push(b'\n');
        let whole = text.len() as u64;
        text.extend(vec![b'y'; CHUNK + 9]);
        fs::write(&path, text).unwrap();

        let mut file = File::open(&path).unwrap();
        assert_eq!(whole_length(&mut file).unwrap(), whole);
        let mut forwards = Forwards::open(&path).unwrap();
        let mut line = Vec::new();
        for expected in &lines {
            assert!(forwards.next_line(&mut line).unwrap());
            assert_eq!(&line, expected);
        }
        assert!(!forwards.next_line(&mut line).unwrap());
        assert_eq!(line.len(), CHUNK + 9);

        let mut backwards = Backwards::new(file, whole);
        while let Some(line) = backwards.next_line().unwrap() {
            assert_eq!(Some(line), lines.pop());
        }
        assert!(lines.is_empty());
    }
}
