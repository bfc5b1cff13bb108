//! What a proxy offers: the whole catalog on every connect, then changes.
//!
//! One change may need several frames; all carry its revision, and the primary applies it when the
//! last one is in. A sender that never ends a change, or fills it without end, runs into the
//! catalog's caps.

use serde::{Deserialize, Serialize};

use crate::{
    address::BareId,
    bounded::{List, Text},
    frame::{FrameKind, Message},
    json::Json,
    limits,
};

numbered! {
    /// How a change relates to what is mounted.
    MountMode: u8 {
        Full = 0 => "full",
        Delta = 1 => "delta",
    }
}

wire_number!(MountMode);

/// A change of the proxy's catalog, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The proxy's own count of changes.
    pub revision: u64,
    /// `Full` replaces what was mounted, `Delta` adds to it.
    pub mode: MountMode,
    /// New or changed entries, one document each.
    pub entries: List<Json, { limits::CATALOG_ENTRIES }>,
    /// Ids that are gone.
    pub withdrawn: List<BareId, { limits::CATALOG_ENTRIES }>,
    /// Another frame of this change follows.
    pub more: bool,
}

impl Message for Mount {
    const KIND: FrameKind = FrameKind::Mount;
}

/// The primary's answer to a whole change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountAck {
    /// The change that was applied.
    pub revision: u64,
    /// Entries mounted from it.
    pub mounted: u32,
    /// Entries that were not, with the reason; the first ones, if there are very many.
    pub refused: List<RefusedEntry, { limits::REFUSED_ENTRIES }>,
}

impl Message for MountAck {
    const KIND: FrameKind = FrameKind::MountAck;
}

/// An entry the primary did not mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEntry {
    /// The entry's id as the proxy gave it.
    pub id: Text<{ limits::REFUSED_TEXT }>,
    /// What is wrong with it.
    pub reason: Text<{ limits::REFUSED_TEXT }>,
}

/// A whole change, put together from its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogChange {
    /// The proxy's own count of changes.
    pub revision: u64,
    /// `Full` replaces what was mounted, `Delta` adds to it.
    pub mode: MountMode,
    /// New or changed entries, one document each.
    pub entries: Vec<Json>,
    /// Ids that are gone.
    pub withdrawn: Vec<BareId>,
}

/// Why a change cannot be sent or put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// There are too many entries or withdrawn ids.
    #[error("more than {} entries", limits::CATALOG_ENTRIES)]
    TooManyEntries,
    /// The entries together are too large.
    #[error("entries of more than {} bytes", limits::CATALOG_BYTES)]
    TooManyBytes,
    /// One entry is too large.
    #[error("entry of {len} bytes is over {}", limits::ENTRY_BYTES)]
    EntryTooLong {
        /// The entry's bytes.
        len: usize,
    },
    /// A frame belongs to another change than the one begun.
    #[error("frames of two changes are mixed")]
    Mixed,
}

impl CatalogChange {
    /// Cuts the change into frames, at least one.
    pub fn into_frames(self) -> Result<Vec<Mount>, CatalogError> {
        let (revision, mode) = (self.revision, self.mode);
        let mut whole = Size::default();
        let mut frames = Vec::new();
        let mut part = Self::empty(revision, mode);
        let mut bytes = 0;
        let items = (self.withdrawn.into_iter().map(Item::Withdrawn))
            .chain(self.entries.into_iter().map(Item::Entry));
        for item in items {
            let len = whole.add(&item)?;
            if bytes + len > limits::BATCH_BYTES {
                frames.push(std::mem::replace(&mut part, Self::empty(revision, mode)));
                bytes = 0;
            }
            bytes += len;
            match item {
                Item::Withdrawn(id) => part.withdrawn.push(id),
                Item::Entry(entry) => part.entries.push(entry),
            }
        }
        frames.push(part);
        let last = frames.len() - 1;
        Ok(frames
            .into_iter()
            .enumerate()
            .map(|(index, part)| part.into_frame(index < last))
            .collect())
    }

    fn empty(revision: u64, mode: MountMode) -> Self {
        Self { revision, mode, entries: Vec::new(), withdrawn: Vec::new() }
    }

    fn into_frame(self, more: bool) -> Mount {
        Mount {
            revision: self.revision,
            mode: self.mode,
            entries: List::truncated(self.entries),
            withdrawn: List::truncated(self.withdrawn),
            more,
        }
    }
}

/// Puts a change together from its frames.
#[derive(Debug, Default)]
pub struct Assembly {
    change: Option<CatalogChange>,
    size: Size,
}

impl Assembly {
    /// Takes the next frame; gives the change when it is whole.
    ///
    /// Entries over their own cap are kept: the primary refuses them one by one. After an error
    /// the control stream is not to be read further.
    pub fn push(&mut self, frame: Mount) -> Result<Option<CatalogChange>, CatalogError> {
        let mut change = (self.change.take())
            .unwrap_or_else(|| CatalogChange::empty(frame.revision, frame.mode));
        if (change.revision, change.mode) != (frame.revision, frame.mode) {
            return Err(CatalogError::Mixed);
        }
        for entry in frame.entries {
            self.size.count_entry(entry.get().len())?;
            change.entries.push(entry);
        }
        for id in frame.withdrawn {
            self.size.count_withdrawn()?;
            change.withdrawn.push(id);
        }
        if frame.more {
            self.change = Some(change);
            return Ok(None);
        }
        self.size = Size::default();
        Ok(Some(change))
    }
}

/// One thing a change says.
enum Item {
    Withdrawn(BareId),
    Entry(Json),
}

/// A change's size so far, held against the catalog's caps.
#[derive(Debug, Default)]
struct Size {
    entries: usize,
    bytes: usize,
    withdrawn: usize,
}

impl Size {
    /// Counts an item to send; gives its bytes on the wire.
    fn add(&mut self, item: &Item) -> Result<usize, CatalogError> {
        match item {
            Item::Withdrawn(id) => {
                self.count_withdrawn()?;
                Ok(id.as_str().len() + 2)
            }
            Item::Entry(entry) => {
                let len = entry.get().len();
                if len > limits::ENTRY_BYTES {
                    return Err(CatalogError::EntryTooLong { len });
                }
                self.count_entry(len)?;
                Ok(entry.wire_len())
            }
        }
    }

    fn count_entry(&mut self, len: usize) -> Result<(), CatalogError> {
        self.entries += 1;
        self.bytes += len;
        if self.entries > limits::CATALOG_ENTRIES {
            return Err(CatalogError::TooManyEntries);
        }
        if self.bytes > limits::CATALOG_BYTES {
            return Err(CatalogError::TooManyBytes);
        }
        Ok(())
    }

    fn count_withdrawn(&mut self) -> Result<(), CatalogError> {
        self.withdrawn += 1;
        if self.withdrawn > limits::CATALOG_ENTRIES {
            return Err(CatalogError::TooManyEntries);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::codec;

    fn entry(len: usize) -> Json {
        Json::from_string(format!("\"{}\"", "x".repeat(len))).unwrap()
    }

    fn change(entries: Vec<Json>) -> CatalogChange {
        CatalogChange {
            revision: 7,
            mode: MountMode::Full,
            entries,
            withdrawn: vec!["a.b.c".parse().unwrap()],
        }
    }

    #[test]
    fn a_catalog_larger_than_a_frame_arrives_whole() {
        let sent = change((0..40).map(|_| entry(100_000)).collect());
        let frames = sent.clone().into_frames().unwrap();
        assert!(frames.len() > 1);
        let mut assembly = Assembly::default();
        let mut arrived = None;
        for frame in frames {
            assert!(arrived.is_none(), "applied before its last frame");
            assert!(codec::encode(&frame).is_ok());
            arrived = assembly.push(frame).unwrap();
        }
        assert_eq!(arrived, Some(sent));
    }

    #[test]
    fn an_empty_catalog_is_one_frame() {
        let frames = CatalogChange::empty(1, MountMode::Full).into_frames().unwrap();
        assert_eq!(frames.len(), 1);
        assert!(!frames[0].more);
    }

    #[test]
    fn caps_hold_on_both_ends() {
        let too_many = change(vec![entry(0); limits::CATALOG_ENTRIES + 1]);
        assert_eq!(too_many.into_frames(), Err(CatalogError::TooManyEntries));
        let too_long = change(vec![entry(limits::ENTRY_BYTES)]);
        assert!(matches!(too_long.into_frames(), Err(CatalogError::EntryTooLong { .. })));
        let mut assembly = Assembly::default();
        let endless = change(vec![entry(1000); 1000]).into_frame(true);
        let end = (0..100).find_map(|_| assembly.push(endless.clone()).err());
        assert_eq!(end, Some(CatalogError::TooManyEntries));
    }

    #[test]
    fn frames_of_two_changes_do_not_mix() {
        let mut assembly = Assembly::default();
        assembly.push(change(Vec::new()).into_frame(true)).unwrap();
        let mut other = change(Vec::new());
        other.revision = 8;
        assert_eq!(assembly.push(other.into_frame(false)), Err(CatalogError::Mixed));
    }
}
