//! The one place that writes the log's files.
//!
//! A batch of lines is one write. The head moves only when all of it was taken; otherwise the file is
//! cut back to where it was, closed, and opened afresh by the next attempt.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use super::files::{Day, MAX_LINE_BYTES};
use super::line::{Body, Head};
use super::log::Durability;
use super::syncer::Syncer;
use crate::failpoint::{Point, pass};
use crate::state_dir::{StateDir, private_options};

#[derive(Debug)]
pub(super) struct Writer {
    dir: StateDir,
    pub(super) durability: Durability,
    syncer: Syncer,
    head: Head,
    /// The newest file's day: no earlier file is written again, whatever the clock says.
    day: Option<Day>,
    file: Option<Arc<File>>,
    /// Where the day's file must be cut before it is written again: a failed write is still in it.
    cut_at: Option<u64>,
    /// Lines on their way out; kept for its capacity.
    buffer: Vec<u8>,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// How writes fail.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Nothing is taken.
    Full,
    /// Only so many bytes are taken.
    Partial(usize),
    /// Only so many bytes are taken, and they cannot be cut off.
    Stuck(usize),
}

impl Writer {
    pub(super) const fn new(
        dir: StateDir,
        durability: Durability,
        syncer: Syncer,
        head: Head,
        day: Option<Day>,
    ) -> Self {
        Self {
            dir,
            durability,
            syncer,
            head,
            day,
            file: None,
            cut_at: None,
            buffer: Vec::new(),
            #[cfg(test)]
            fault: None,
        }
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// Whether written lines could not be taken to the disk, and no write succeeded since.
    pub(super) fn sync_failed(&self) -> bool {
        self.syncer.has_failed()
    }

    /// The newest file's day.
    pub(super) const fn day(&self) -> Option<Day> {
        self.day
    }

    /// Writes `bodies` as the next lines and then what `seal` makes of the head they make, all or none.
    pub(super) fn write(
        &mut self,
        today: Day,
        bodies: &[&Body],
        seal: impl FnOnce(&Head) -> Option<Body>,
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let head =
            bodies.iter().fold(self.head.clone(), |head, body| body.follow(&head, &mut buffer));
        let head = seal(&head).map_or(head.clone(), |body| body.follow(&head, &mut buffer));
        let written = self.write_lines(today, &buffer);
        if buffer.capacity() <= MAX_LINE_BYTES {
            self.buffer = buffer;
        }
        written?;
        self.head = head;
        Ok(())
    }

    fn write_lines(&mut self, today: Day, lines: &[u8]) -> io::Result<()> {
        let (file, length) = self.file_for(today)?;
        let always = self.durability == Durability::Always;
        pass(Point::AuditBefore);
        let written = self.put(&file, lines);
        pass(Point::AuditWritten);
        let written = written.and_then(|()| if always { file.sync_data() } else { Ok(()) });
        match &written {
            Ok(()) if always => {}
            Ok(()) => self.syncer.wake(&file),
            Err(_) => self.cut(&file, length),
        }
        written
    }

    /// The file to write today's lines to, and its length.
    fn file_for(&mut self, today: Day) -> io::Result<(Arc<File>, u64)> {
        self.finish_cut()?;
        let day = self.day.map_or(today, |newest| newest.max(today));
        if self.syncer.take_failure() {
            self.file = None;
        }
        if let Some(file) = self.file.take() {
            let meta = file.metadata()?;
            if self.day == Some(day) && is_named(&meta) {
                self.file = Some(Arc::clone(&file));
                return Ok((file, meta.len()));
            }
            // The day is over: all of it is on the disk before any of the next one is.
            self.syncer.forget(&file);
            file.sync_data()?;
        }
        let file = self.open(day)?;
        self.day = Some(day);
        self.file = Some(Arc::clone(&file));
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn open(&self, day: Day) -> io::Result<Arc<File>> {
        let path = self.dir.join(day.file_name());
        let mut file = private_options().read(true).append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            pass(Point::AuditMade);
            self.dir.sync()?;
        } else if last_byte(&mut file, length)? != b'\n' {
            // Someone cut the file in a line. That line stays for `verify` to find; ours begin anew.
            file.write_all(b"\n")?;
        }
        Ok(Arc::new(file))
    }

    fn put(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        loop {
            return match self.write_once(file, bytes) {
                Ok(taken) if taken == bytes.len() => Ok(()),
                Ok(_) => Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    fn write_once(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        match self.fault {
            Some(Fault::Full) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Partial(most) | Fault::Stuck(most)) => {
                return file.write(&bytes[..most.min(bytes.len())]);
            }
            None => {}
        }
        file.write(bytes)
    }

    /// Takes a failed write out of `file`, now or before it is written again.
    fn cut(&mut self, file: &File, length: u64) {
        self.file = None;
        if self.set_length(file, length).is_err() {
            self.cut_at = Some(length);
        }
    }

    fn finish_cut(&mut self) -> io::Result<()> {
        if let (Some(length), Some(day)) = (self.cut_at, self.day) {
            match std::fs::OpenOptions::new().write(true).open(self.dir.join(day.file_name())) {
                Ok(file) => {
                    if file.metadata()?.len() > length {
                        self.set_length(&file, length)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.cut_at = None;
        }
        Ok(())
    }

    fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        #[cfg(test)]
        if matches!(self.fault, Some(Fault::Stuck(_))) {
            return Err(io::Error::other("stuck"));
        }
        file.set_len(length)
    }

    /// As [`Syncer`] would, now.
    #[cfg(test)]
    pub(super) fn fail_sync(&self) {
        self.syncer.fail();
    }
}

fn last_byte(file: &mut File, length: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Whether the file can still be found by a name: lines written to a deleted one are lost.
#[cfg(unix)]
fn is_named(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(meta) > 0
}

#[cfg(not(unix))]
fn is_named(_: &std::fs::Metadata) -> bool {
    true
}
