//! The buffer: bounded, numbered, read by place.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Audience, Event, Viewer};

/// How many events are kept for those who come late.
pub(super) const KEPT: usize = 1024;
/// How many lines of the log are kept beside them.
pub(super) const KEPT_LINES: usize = 256;

struct Kept {
    id: u64,
    audience: Audience,
    event: Arc<Event>,
}

/// Kept events of one kind, in order.
struct Lane {
    kept: VecDeque<Kept>,
    room: usize,
    /// The number up to which something of this lane is gone.
    gone: u64,
}

impl Lane {
    const fn new(room: usize, gone: u64) -> Self {
        Self { kept: VecDeque::new(), room, gone }
    }

    fn push(&mut self, kept: Kept) {
        if self.kept.len() >= self.room
            && let Some(oldest) = self.kept.pop_front()
        {
            self.gone = oldest.id;
        }
        self.kept.push_back(kept);
    }

    fn after(&self, at: u64, viewer: &Viewer) -> Option<&Kept> {
        let from = self.kept.partition_point(|kept| kept.id <= at);
        self.kept.range(from..).find(|kept| viewer.hears(&kept.audience))
    }
}

/// Everything kept.
pub(super) struct Ring {
    next: u64,
    main: Lane,
    lines: Lane,
}

/// How far a listener has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the last event it knows of.
    pub(super) at: u64,
    /// Up to where it was told that something is gone.
    pub(super) warned: u64,
}

/// What comes after a place.
pub(super) enum Found {
    /// Nothing; go on from here.
    Nothing(Place),
    /// This, of this number.
    Event(u64, Arc<Event>),
    /// Something that is not kept any more; go on from here.
    Lost(Place),
}

impl Ring {
    /// An empty one whose first event has number `first`.
    pub(super) const fn new(first: u64) -> Self {
        let gone = first.saturating_sub(1);
        Self { next: first, main: Lane::new(KEPT, gone), lines: Lane::new(KEPT_LINES, gone) }
    }

    /// The number of the last event.
    pub(super) const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Keeps `event`; returns its number.
    pub(super) fn push(&mut self, audience: Audience, event: Event) -> u64 {
        let id = self.next;
        self.next = id.saturating_add(1);
        let lane = if event.floods() { &mut self.lines } else { &mut self.main };
        lane.push(Kept { id, audience, event: Arc::new(event) });
        id
    }

    /// Forgets the kept lines of the log: the next ones do not follow them. Takes a number of its own,
    /// so that whoever is at the end has lost something too.
    pub(super) fn skip_flood(&mut self) -> u64 {
        self.lines = Lane::new(KEPT_LINES, self.next);
        self.next = self.next.saturating_add(1);
        self.last()
    }

    /// The first of what `viewer` hears after `place`.
    pub(super) fn after(&self, place: Place, viewer: &Viewer) -> Found {
        let Place { at, warned } = place;
        let lines = matches!(viewer, Viewer::Owner(_)).then_some(&self.lines);
        let gone = lines.map_or(self.main.gone, |lines| lines.gone.max(self.main.gone));
        // A number that was never given is from another life of this gateway.
        if at > self.last() || (at < gone && warned < gone) {
            // What is kept is told once more rather than lost.
            let known = if at > self.last() { 0 } else { at };
            return Found::Lost(Place { at: known.max(self.main.gone), warned: gone });
        }
        let first = self.main.after(at, viewer).into_iter();
        let first = first.chain(lines.and_then(|lines| lines.after(at, viewer)));
        match first.min_by_key(|kept| kept.id) {
            None => Found::Nothing(Place { at: self.last(), warned }),
            Some(Kept { id, event, .. }) => Found::Event(*id, event.clone()),
        }
    }
}
