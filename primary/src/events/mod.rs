//! What happens, told as it happens: to each session what is meant for it, to the owner everything.
//!
//! 1. A service publishes an [`Event`] with its [`Audience`]. That writes into a bounded buffer and
//!    returns: no listener can hold a publisher up.
//! 2. A [`Subscription`] is a place in that buffer, not a queue of its own. It reads what is meant for
//!    its [`Viewer`] and waits for more.
//! 3. Whoever falls behind further than the buffer reaches, or comes back from before a restart, is
//!    told first that the manifest may have changed: the word to read everything anew.
//! 4. A session's subscription ends with the session, the owner's with the key it was opened by, and
//!    all end with the gateway.
//!
//! What an attacker would try: listen without a session, hear a token that another session was given,
//! hold many streams open, never read one, or have the log's flood wash the rest out of the buffer
//! (lines of the log have a buffer of their own).

mod event;
mod follow;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexus_shared::clock::{Clock, Timestamp};
use plexus_shared::ids::{AgentId, SessionId};
use plexus_shared::source::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;

pub use event::{Audience, AuditLine, Changed, Decision, Event, KeyAge, MeshChange, Viewer};
pub use follow::{follow_log, follow_manifest};
use ring::{Found, Place, Ring};

use crate::trust::sessions::Sessions;

/// The most streams one session may hold open.
pub const MAX_PER_SESSION: usize = 4;
/// The most streams one agent may hold open, whatever the number of its sessions.
pub const MAX_PER_AGENT: usize = 32;
/// The most streams all agents together may hold open.
pub const MAX_AGENTS: usize = 240;
/// The most streams the owner may hold open: these no agent can take.
pub const MAX_OWNER: usize = 16;
/// The longest a subscription is silent, and goes without a look at its session.
pub const QUIET: Duration = Duration::from_secs(15);

/// Too many streams are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many event streams are open; close one, or come back later")]
pub struct Crowded;

/// One event as a viewer is told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: &'static str,
    /// The rest.
    pub data: Value,
}

/// What a subscription comes up with.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// An event.
    Told(Told),
    /// Nothing for [`QUIET`].
    Quiet,
}

#[derive(Clone, Copy)]
struct Beat {
    last: u64,
    key: KeyAge,
    closed: bool,
}

/// The hub.
pub struct Events {
    ring: Mutex<Ring>,
    beat: watch::Sender<Beat>,
    seats: Mutex<Vec<Seat>>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    quiet: Duration,
}

#[derive(PartialEq, Eq)]
enum Seat {
    Owner,
    Session(AgentId, SessionId),
}

impl Events {
    /// A hub whose numbers begin above those of any before it.
    pub fn new(registry: Arc<Registry>, sessions: Arc<Sessions>, clock: Arc<dyn Clock>) -> Self {
        let ring = Ring::new(first_number(clock.now()));
        let beat =
            watch::Sender::new(Beat { last: ring.last(), key: KeyAge::FIRST, closed: false });
        let (ring, seats) = (Mutex::new(ring), Mutex::default());
        Self { ring, beat, seats, registry, sessions, clock, quiet: QUIET }
    }

    /// Tells `event` to `audience`, and to the owner.
    pub fn publish(&self, audience: Audience, event: Event) {
        let mut ring = lock(&self.ring);
        let last = ring.push(audience, event);
        // Still under the lock, so that the number only grows.
        self.beat.send_modify(|beat| beat.last = last);
    }

    /// Tells the owner alone.
    pub fn tell_owner(&self, event: Event) {
        self.publish(Audience::Owner, event);
    }

    /// A source, or a workload, came or went: told to the owner, and to the agents when they can see
    /// any of its capabilities. `prefix` is what those ids begin with.
    pub fn source_status(
        &self,
        source: &str,
        prefix: &str,
        available: bool,
        reason: Option<String>,
    ) {
        let catalog = self.registry.catalog();
        let seen = catalog.shown().any(|entry| entry.definition.id.as_str().starts_with(prefix));
        let audience = if seen { Audience::All } else { Audience::Owner };
        let source = source.to_owned();
        self.publish(audience, Event::SourceStatus { source, available, reason });
    }

    /// What was told of the log is incomplete: its listeners must look for themselves.
    fn skip_log(&self) {
        let mut ring = lock(&self.ring);
        let last = ring.skip_flood();
        self.beat.send_modify(|beat| beat.last = last);
    }

    /// Which of the owner's keys is in force now.
    pub fn key(&self) -> KeyAge {
        self.beat.borrow().key
    }

    /// The owner's key is another: ends every subscription that was opened by the one before.
    pub fn key_rotated(&self) {
        self.beat.send_modify(|beat| beat.key = beat.key.next());
    }

    /// Ends every subscription, now and from now on.
    pub fn close(&self) {
        self.beat.send_modify(|beat| beat.closed = true);
    }

    /// Listens as `viewer`: from now on, or from what came after number `after`.
    ///
    /// # Errors
    /// When too many listen already.
    pub fn subscribe(
        self: &Arc<Self>,
        viewer: Viewer,
        after: Option<u64>,
    ) -> Result<Subscription, Crowded> {
        let seat = self.sit(&viewer)?;
        let beat = self.beat.subscribe();
        let at = after.unwrap_or_else(|| lock(&self.ring).last());
        Ok(Subscription { viewer, place: Place { at, warned: 0 }, beat, seat })
    }

    fn sit(self: &Arc<Self>, viewer: &Viewer) -> Result<Taken, Crowded> {
        let mut seats = lock(&self.seats);
        let count = |which: &dyn Fn(&Seat) -> bool| seats.iter().filter(|seat| which(seat)).count();
        let (seat, full) = match viewer {
            Viewer::Owner(_) => (Seat::Owner, count(&|seat| *seat == Seat::Owner) >= MAX_OWNER),
            Viewer::Session(session) => {
                let mine = Seat::Session(session.agent.clone(), session.id.clone());
                let full = count(&|seat| *seat == mine) >= MAX_PER_SESSION
                    || count(
                        &|seat| matches!(seat, Seat::Session(agent, _) if *agent == session.agent),
                    ) >= MAX_PER_AGENT
                    || count(&|seat| *seat != Seat::Owner) >= MAX_AGENTS;
                (mine, full)
            }
        };
        if full {
            return Err(Crowded);
        }
        let taken = match &seat {
            Seat::Owner => Seat::Owner,
            Seat::Session(agent, session) => Seat::Session(agent.clone(), session.clone()),
        };
        seats.push(seat);
        Ok(Taken { hub: self.clone(), seat: taken })
    }

    fn admits(&self, viewer: &Viewer) -> bool {
        match viewer {
            Viewer::Owner(key) => *key == self.key(),
            Viewer::Session(session) => {
                self.sessions.live(session.id.as_str(), self.clock.now()).is_some()
            }
        }
    }

    /// The next of what `viewer` hears after `place`, and where that leaves it.
    fn look(&self, viewer: &Viewer, place: Place) -> (Place, Option<Told>) {
        // Spelled out only after the lock is given back: a publisher waits for no listener.
        let found = lock(&self.ring).after(place, viewer);
        match found {
            Found::Nothing(place) => (place, None),
            Found::Event(id, event) => {
                let told = Told { id, name: event.name(), data: event.told(viewer) };
                (Place { at: id, ..place }, Some(told))
            }
            Found::Lost(place) => {
                let revision = self.registry.catalog().revision();
                let event = Event::ManifestChanged { revision, changed: None };
                let told = Told { id: place.at, name: event.name(), data: event.told(viewer) };
                (place, Some(told))
            }
        }
    }
}

/// A place among those who listen, given up when dropped.
struct Taken {
    hub: Arc<Events>,
    seat: Seat,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = lock(&self.hub.seats);
        if let Some(mine) = seats.iter().position(|seat| *seat == self.seat) {
            seats.swap_remove(mine);
        }
    }
}

/// One listener's place in what is told.
pub struct Subscription {
    viewer: Viewer,
    place: Place,
    beat: watch::Receiver<Beat>,
    seat: Taken,
}

impl Subscription {
    /// The next event meant for this viewer; `None` once its session, its key or the gateway has
    /// ended.
    pub async fn next(&mut self) -> Option<Next> {
        let deadline = tokio::time::Instant::now() + self.seat.hub.quiet;
        loop {
            let hub = &self.seat.hub;
            if self.beat.borrow_and_update().closed || !hub.admits(&self.viewer) {
                return None;
            }
            let (place, told) = hub.look(&self.viewer, self.place);
            self.place = place;
            if let Some(told) = told {
                return Some(Next::Told(told));
            }
            match tokio::time::timeout_at(deadline, self.beat.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) if hub.admits(&self.viewer) => return Some(Next::Quiet),
                Err(_) => return None,
            }
        }
    }
}

/// Numbers begin at the time, so that a restart's are above all that were given before: a thousand
/// for each millisecond, and still exact in a client that counts in doubles.
fn first_number(now: Timestamp) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1000).saturating_add(1)
}

/// What a lock guards here is changed only after the work that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
