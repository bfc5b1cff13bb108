//! How much anyone may ask for: state machines over a clock that is passed in.
//!
//! What an attacker would try: guess credentials (each wrong one costs its peer a growing time), lock
//! the owner out by guessing (a right credential is recognised first and never counted), fill the log
//! with refusals (rows are rationed, and say how many they stand for), fill this memory with peers and
//! names (every table is bounded).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexus_shared::clock::Timestamp;

use crate::settings::RateLimits;

/// The most keys a table remembers.
const MAX_KEYS: usize = 10_000;
/// Failures within a [`WINDOW`] that are only refused.
const FREE_FAILURES: u32 = 5;
/// The time failures, and rows of the log, are counted in.
const WINDOW: Duration = Duration::from_secs(60);
/// The longest a peer is told to wait.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// After so long without a failure a peer starts anew.
const FORGIVEN: Duration = Duration::from_secs(600);
/// The most rows about refusals of one kind in a [`WINDOW`].
const MAX_ROWS: u32 = 10;

/// Where a credential is shown. Each is counted by itself: on loopback all peers have one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The owner's key.
    Owner,
    /// An agent's PAT.
    Handshake,
    /// An enrollment code.
    Enrollment,
}

impl Door {
    /// What the log calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "admin",
            Self::Handshake => "handshake",
            Self::Enrollment => "enroll",
        }
    }
}

/// A table that never holds more than [`MAX_KEYS`]: the half that was least lately touched makes room.
#[derive(Debug)]
struct Bounded<K, V>(HashMap<K, (Timestamp, V)>);

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    fn entry(&mut self, key: &K, now: Timestamp, fresh: impl FnOnce() -> V) -> &mut V {
        if self.0.len() >= MAX_KEYS && !self.0.contains_key(key) {
            let mut ages: Vec<_> = self.0.values().map(|(touched, _)| *touched).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.0.retain(|_, (touched, _)| *touched > median);
        }
        let (touched, value) = self.0.entry(key.clone()).or_insert_with(|| (now, fresh()));
        *touched = now;
        value
    }
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    since: Timestamp,
    failures: u32,
    last: Timestamp,
    level: u32,
    until: Timestamp,
}

/// Failed credentials, by peer and door.
#[derive(Debug, Default)]
pub struct Failures(Bounded<(IpAddr, Door), Peer>);

impl Failures {
    /// Counts a failure; says how long the peer must wait now, when it failed too often. A failure
    /// within that time lengthens nothing; the first after it doubles it.
    pub fn failed(&mut self, peer: IpAddr, door: Door, now: Timestamp) -> Option<Duration> {
        let fresh = || Peer { since: now, failures: 0, last: now, level: 0, until: now };
        let peer = self.0.entry(&(peer, door), now, fresh);
        if now.since(peer.last) > FORGIVEN {
            *peer = fresh();
        }
        peer.last = now;
        if peer.until > now {
            return Some(peer.until.since(now));
        }
        if peer.level == 0 {
            if now.since(peer.since) > WINDOW {
                (peer.since, peer.failures) = (now, 0);
            }
            peer.failures += 1;
            if peer.failures <= FREE_FAILURES {
                return None;
            }
        }
        let wait = Duration::from_secs(1 << peer.level.min(9)).min(MAX_WAIT);
        peer.level += 1;
        peer.until = now.plus(wait);
        Some(wait)
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests left, in thousandths.
    left: u64,
    at: Timestamp,
}

/// Requests, by who makes them.
#[derive(Debug)]
pub struct Rates<K>(Bounded<K, Bucket>);

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self(Bounded::default())
    }
}

impl<K: Eq + Hash + Clone> Rates<K> {
    /// When `who` last asked for anything, as far as that is remembered.
    pub fn last(&self, who: &K) -> Option<Timestamp> {
        self.0.0.get(who).map(|(touched, _)| *touched)
    }

    /// Takes one request of `who`.
    ///
    /// # Errors
    /// When there is none left: how long until there is.
    pub fn take(&mut self, who: &K, limits: &RateLimits, now: Timestamp) -> Result<(), Duration> {
        let full = limits.burst.saturating_mul(1000);
        let bucket = self.0.entry(who, now, || Bucket { left: full, at: now });
        let passed = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(limits.requests_per_second);
        bucket.left = bucket.left.saturating_add(gained).min(full);
        bucket.at = now;
        match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => {
                let missing = 1000 - bucket.left;
                Err(Duration::from_millis(missing.div_ceil(limits.requests_per_second.max(1))))
            }
        }
    }
}

/// Rows of the log about refusals of one kind: rationed, and none unaccounted for.
#[derive(Debug)]
pub struct Ration {
    since: Timestamp,
    rows: u32,
    unwritten: u64,
}

impl Default for Ration {
    fn default() -> Self {
        Self { since: Timestamp::from_millis(i64::MIN), rows: 0, unwritten: 0 }
    }
}

impl Ration {
    /// One more refusal: `Some(n)` when it gets a row, which then stands for `n` refusals without one
    /// as well.
    pub fn take(&mut self, now: Timestamp) -> Option<u64> {
        if now.since(self.since) > WINDOW {
            (self.since, self.rows) = (now, 0);
        }
        if self.rows >= MAX_ROWS {
            self.unwritten += 1;
            return None;
        }
        self.rows += 1;
        Some(std::mem::take(&mut self.unwritten))
    }

    /// How many refusals wait for a row, once their time is over.
    pub fn overdue(&mut self, now: Timestamp) -> Option<u64> {
        let over = self.unwritten > 0 && now.since(self.since) > WINDOW;
        over.then(|| {
            (self.since, self.rows) = (now, 1);
            std::mem::take(&mut self.unwritten)
        })
    }
}

/// Calls under way, by who makes them.
#[derive(Clone, Debug)]
pub struct Places<K: Eq + Hash>(Arc<Mutex<HashMap<K, u64>>>);

/// A call's place; given back on drop.
#[derive(Debug)]
#[must_use = "the place is free again as soon as this is dropped"]
pub struct Place<K: Eq + Hash> {
    who: K,
    places: Places<K>,
}

impl<K: Eq + Hash> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash> Places<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a call of `who`, when it has fewer than `most` under way.
    pub fn take(&self, who: &K, most: u64) -> Option<Place<K>>
    where
        K: Clone,
    {
        let mut under_way = self.lock();
        let mine = under_way.get(who).copied().unwrap_or(0);
        (mine < most).then(|| {
            under_way.insert(who.clone(), mine + 1);
            Place { who: who.clone(), places: Self(Arc::clone(&self.0)) }
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut under_way = self.places.lock();
        match under_way.get_mut(&self.who) {
            Some(mine) if *mine > 1 => *mine -= 1,
            _ => {
                under_way.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn five_failures_a_minute_are_refused_and_the_sixth_waits_ever_longer() {
        let mut failures = Failures::default();
        for _ in 0..5 {
            assert_eq!(failures.failed(PEER, Door::Owner, at(0)), None);
        }
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let told = failures.failed(PEER, Door::Owner, at(now)).unwrap();
            assert_eq!(told.as_secs(), wait);
            assert_eq!(failures.failed(PEER, Door::Owner, at(now)).unwrap().as_secs(), wait);
            now += wait;
        }
        assert_eq!(failures.failed(PEER, Door::Handshake, at(now)), None, "another door");
        let other = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(failures.failed(other, Door::Owner, at(now)), None, "another peer");
        assert_eq!(failures.failed(PEER, Door::Owner, at(now + 601)), None, "forgiven");
    }

    #[test]
    fn slow_failures_are_never_limited() {
        let mut failures = Failures::default();
        for n in 0..100 {
            assert_eq!(failures.failed(PEER, Door::Owner, at(n * 15)), None);
        }
    }

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let limits = RateLimits { requests_per_second: 2, burst: 3, concurrent_calls: 1 };
        let mut rates = Rates::default();
        for _ in 0..3 {
            rates.take(&"ada", &limits, at(0)).unwrap();
        }
        assert_eq!(rates.take(&"ada", &limits, at(0)), Err(Duration::from_millis(500)));
        rates.take(&"bob", &limits, at(0)).unwrap();
        rates.take(&"ada", &limits, at(1)).unwrap();
        rates.take(&"ada", &limits, at(1)).unwrap();
        assert!(rates.take(&"ada", &limits, at(1)).is_err());
        // A clock that goes back gives nothing, and takes nothing for good.
        assert!(rates.take(&"ada", &limits, at(0)).is_err());
        rates.take(&"ada", &limits, at(1)).unwrap();
    }

    #[test]
    fn tables_are_bounded_whoever_comes() {
        let mut rates = Rates::default();
        for n in 0..50_000u64 {
            let _ = rates.take(&n, &RateLimits::default(), at(n));
        }
        assert!(rates.0.0.len() <= MAX_KEYS);
        let mut failures = Failures::default();
        for n in 0..30_000u32 {
            // All at one moment: even then there is room.
            failures.failed(IpAddr::from(n.to_be_bytes()), Door::Owner, at(0));
        }
        assert!(failures.0.0.len() <= MAX_KEYS);
    }

    #[test]
    fn rows_are_rationed_and_account_for_the_rest() {
        let mut ration = Ration::default();
        let rows = (0..100).filter(|_| ration.take(at(0)).is_some()).count();
        assert_eq!(rows, 10);
        assert_eq!(ration.overdue(at(30)), None);
        assert_eq!(ration.overdue(at(61)), Some(90));
        assert_eq!(ration.overdue(at(200)), None);
        assert_eq!(ration.take(at(200)), Some(0));
    }

    #[test]
    fn places_are_given_back() {
        let places = Places::default();
        let held: Vec<_> = (0..3).filter_map(|_| places.take(&"ada", 2)).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        assert!(places.take(&"ada", 2).is_some());
        assert!(places.lock().is_empty());
    }
}
