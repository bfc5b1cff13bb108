//! Reads lines back: forwards from a cursor, as the mirror does, or backwards from the end, as the
//! owner looks.

use std::fs::File;
use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::event::Event;
use super::files::{Backwards, Day, Forwards, days, whole_length};
use super::line;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit log in {}: {source}", path.display())]
pub struct ReadError {
    /// The folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// One line, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: u64,
    /// Its text, without the newline.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// Where a line stands, for [`line_at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
}

/// The text of the line at `place` of the log in `dir`; `None` when there is none.
///
/// # Errors
/// When the system cannot read, or the line is longer than any of ours.
pub fn line_at(dir: &Path, place: &Place) -> Result<Option<String>, ReadError> {
    let read = || {
        // Only a name of ours: it comes from a file that is not the log.
        let Some(day) = Day::parse(&place.file) else { return Ok(None) };
        let mut lines = match Forwards::open(&dir.join(day.file_name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = Vec::new();
        lines.go_to(place.offset)?;
        let found = lines.next_line(&mut text)?;
        Ok(found.then(|| String::from_utf8_lossy(&text).into_owned()))
    };
    read().map_err(|source| ReadError { path: dir.to_owned(), source })
}

/// The names of the log's files in `dir`, oldest first.
///
/// # Errors
/// When the system cannot list them.
pub fn files(dir: &Path) -> Result<Vec<String>, ReadError> {
    let days = days(dir).map_err(|source| ReadError { path: dir.to_owned(), source })?;
    Ok(days.into_iter().map(Day::file_name).collect())
}

/// Follows the log from a number on, across files, while it grows.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    next: u64,
    current: Option<(Day, Forwards)>,
}

impl LogReader {
    /// A reader of the log in `dir` whose first line is `seq`, or the first one after it.
    pub fn from_seq(dir: &Path, seq: u64) -> Self {
        Self { dir: dir.to_owned(), next: seq, current: None }
    }

    /// The number the next line has at least.
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// The next lines: at most `max_lines`, and at most `max_bytes` of text unless the first line
    /// alone has more. None when the log has no more yet. A line that is no event is passed over;
    /// `verify` finds it.
    ///
    /// # Errors
    /// When the system cannot read, or a line is longer than any of ours.
    pub fn next_batch(
        &mut self,
        max_lines: usize,
        max_bytes: usize,
    ) -> Result<Vec<Line>, ReadError> {
        let batch = self.read_batch(max_lines, max_bytes);
        batch.map_err(|source| {
            // The place in the file is no longer known; the number is.
            self.current = None;
            ReadError { path: self.dir.clone(), source }
        })
    }

    fn read_batch(&mut self, max_lines: usize, max_bytes: usize) -> io::Result<Vec<Line>> {
        let (mut batch, mut bytes, mut text) = (Vec::new(), 0, Vec::new());
        let mut next = self.next;
        while batch.len() < max_lines {
            // Listed before the file is read to its end: once there is a later file, this one does
            // not grow any more.
            let later = self.locate()?;
            let Some((day, lines)) = &mut self.current else { break };
            let file: Arc<str> = day.file_name().into();
            let mut after = lines.position()?;
            while batch.len() < max_lines && lines.next_line(&mut text)? {
                let offset = after;
                after += text.len() as u64 + 1;
                let Some(seq) = line::seq(&text).filter(|seq| *seq >= next) else { continue };
                if !batch.is_empty() && bytes + text.len() > max_bytes {
                    lines.put_back(&text)?;
                    self.next = next;
                    return Ok(batch);
                }
                bytes += text.len();
                next = seq + 1;
                let place = Place { file: Arc::clone(&file), offset };
                let text = String::from_utf8_lossy(&text).into_owned();
                batch.push(Line { seq, text, place });
            }
            if batch.len() >= max_lines {
                break;
            }
            let Some(later) = later else { break };
            self.current = Some((later, self.open(later)?));
        }
        self.next = next;
        Ok(batch)
    }

    /// Makes sure there is a current file, if there is any; returns the file after it.
    fn locate(&mut self) -> io::Result<Option<Day>> {
        let days = days(&self.dir)?;
        if self.current.is_none() {
            let day = self.day_of_next(&days)?;
            self.current = day.map(|day| Ok::<_, io::Error>((day, self.open(day)?))).transpose()?;
        }
        let current = self.current.as_ref().map(|(day, _)| *day);
        Ok(days.into_iter().find(|day| Some(*day) > current))
    }

    /// The newest file that begins at or before the wanted line; the oldest when none does.
    fn day_of_next(&self, days: &[Day]) -> io::Result<Option<Day>> {
        for day in days.iter().rev() {
            if first_seq(&self.dir, *day)?.is_some_and(|first| first <= self.next) {
                return Ok(Some(*day));
            }
        }
        Ok(days.first().copied())
    }

    fn open(&self, day: Day) -> io::Result<Forwards> {
        Forwards::open(&self.dir.join(day.file_name()))
    }
}

fn first_seq(dir: &Path, day: Day) -> io::Result<Option<u64>> {
    let mut text = Vec::new();
    let found = Forwards::open(&dir.join(day.file_name()))?.next_line(&mut text)?;
    Ok(if found { line::seq(&text) } else { None })
}

/// The newest `limit` events of the log in `dir` that `filter` accepts, newest first; only those
/// before number `before_seq` when it is given. Lines that are no events are passed over; `verify`
/// finds them.
///
/// # Errors
/// When the system cannot read, or a line is longer than any of ours.
pub fn tail(
    dir: &Path,
    before_seq: Option<u64>,
    limit: usize,
    mut filter: impl FnMut(&Event) -> bool,
) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    if limit > 0 {
        backwards(dir, before_seq, |event| {
            if filter(&event) {
                events.push(event);
            }
            if events.len() < limit { Continue(()) } else { Break(()) }
        })?;
    }
    Ok(events)
}

/// Looks at the events of the log in `dir`, newest first, one at a time, for as long as `look` goes on;
/// as [`tail`] otherwise.
///
/// # Errors
/// As [`tail`].
pub fn backwards(
    dir: &Path,
    before_seq: Option<u64>,
    look: impl FnMut(Event) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let path = dir.to_owned();
    read_backwards(dir, before_seq, look).map_err(|source| ReadError { path, source })
}

fn read_backwards(
    dir: &Path,
    before_seq: Option<u64>,
    mut look: impl FnMut(Event) -> ControlFlow<()>,
) -> io::Result<()> {
    let before = before_seq.unwrap_or(u64::MAX);
    for day in days(dir)?.into_iter().rev() {
        if before_seq.is_some() && first_seq(dir, day)?.is_some_and(|first| first >= before) {
            continue;
        }
        let mut file = File::open(dir.join(day.file_name()))?;
        let end = whole_length(&mut file)?;
        let mut lines = Backwards::new(file, end);
        while let Some(text) = lines.next_line()? {
            let Ok(event) = serde_json::from_slice::<Event>(&text) else { continue };
            if event.seq < before && look(event).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
