//! When to dial again: a state machine over moments and random numbers that are passed in.
//!
//! Each failure doubles the longest wait, from [`FLOOR`] to [`CAP`]; the wait itself is drawn evenly
//! between nothing and that (full jitter), so that a hundred proxies that lost one primary do not
//! come back in step. Only a tunnel that was *accepted* and then lived for [`PROVEN`] starts the
//! count anew: one that comes up and falls over at once is still failing. A proxy that was told to
//! stay away waits by the cap from the first time on.
//!
//! The doubling is backon's; the jitter is drawn here, from a number that is passed in: backon's own
//! comes on top of the delay, where this one spans all of it.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The longest first wait.
pub const FLOOR: Duration = Duration::from_millis(200);

/// The longest wait of all.
pub const CAP: Duration = Duration::from_secs(30);

/// How long an accepted tunnel must live to count as a success.
pub const PROVEN: Duration = Duration::from_secs(10);

/// How an attempt to have a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The primary could not be reached, or never accepted.
    Failed,
    /// The primary said in so many words that it will not have this node.
    Rejected,
    /// It was accepted at this moment, and is over now.
    Lost {
        /// When it was accepted.
        accepted: Instant,
    },
}

/// How long to wait at most, after each end in a row.
#[derive(Debug)]
pub struct Schedule {
    longest: ExponentialBackoff,
    rejected: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        let doubling = ExponentialBuilder::new().with_min_delay(FLOOR).with_max_delay(CAP);
        Self { longest: doubling.without_max_times().build(), rejected: false }
    }
}

impl Schedule {
    /// Takes note of an end at `now`; says how long to wait, `random` deciding where between nothing
    /// and the longest wait.
    pub fn ended(&mut self, how: Ended, now: Instant, random: u64) -> Duration {
        match how {
            Ended::Failed => {}
            Ended::Rejected => self.rejected = true,
            Ended::Lost { accepted } => {
                if now.saturating_duration_since(accepted) >= PROVEN {
                    *self = Self::default();
                }
            }
        }
        let longest = self.longest.next().unwrap_or(CAP);
        draw(if self.rejected { CAP } else { longest.min(CAP) }, random)
    }
}

/// Evenly between nothing and `longest`, never above it.
fn draw(longest: Duration, random: u64) -> Duration {
    let nanos = (longest.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn most(schedule: &mut Schedule, how: Ended, now: Instant) -> Duration {
        schedule.ended(how, now, u64::MAX)
    }

    /// Equal up to what rounding takes.
    fn about(got: Duration, expected: Duration) -> bool {
        got.abs_diff(expected) <= Duration::from_micros(1)
    }

    #[test]
    fn the_longest_wait_doubles_from_the_floor_to_the_cap() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let expected = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000];
        for millis in expected {
            let got = most(&mut schedule, Ended::Failed, now);
            assert!(about(got, Duration::from_millis(millis)), "{got:?} for {millis} ms");
        }
    }

    #[test]
    fn a_wait_is_drawn_from_all_of_its_range() {
        for (random, millis) in [(0, 0), (u64::MAX / 2, 99), (u64::MAX, 199)] {
            let wait = Schedule::default().ended(Ended::Failed, Instant::now(), random);
            assert_eq!(wait.as_millis(), millis);
        }
    }

    #[test]
    fn only_a_tunnel_that_lived_long_enough_starts_anew() {
        let accepted = Instant::now();
        let mut schedule = Schedule::default();
        for _ in 0..5 {
            schedule.ended(Ended::Failed, accepted, 0);
        }
        let early = accepted + PROVEN - Duration::from_millis(1);
        let wait = most(&mut schedule, Ended::Lost { accepted }, early);
        assert!(about(wait, Duration::from_millis(6400)), "{wait:?}");
        let wait = most(&mut schedule, Ended::Lost { accepted }, accepted + PROVEN);
        assert!(about(wait, FLOOR), "{wait:?}");
    }

    #[test]
    fn a_rejected_proxy_stays_at_the_cap_until_it_is_accepted() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        assert!(about(most(&mut schedule, Ended::Rejected, now), CAP));
        assert!(about(most(&mut schedule, Ended::Failed, now), CAP));
        let lived = most(&mut schedule, Ended::Lost { accepted: now }, now + PROVEN);
        assert!(about(lived, FLOOR));
    }

    fn any_end(base: Instant) -> impl Strategy<Value = (Ended, Instant)> {
        (0..3_u8, 0..40_000_u64).prop_map(move |(kind, lived)| {
            let end = match kind {
                0 => Ended::Failed,
                1 => Ended::Rejected,
                _ => Ended::Lost { accepted: base },
            };
            (end, base + Duration::from_millis(lived))
        })
    }

    proptest! {
        #[test]
        fn no_wait_is_ever_above_the_cap(
            steps in proptest::collection::vec((any_end(Instant::now()), any::<u64>()), 1..200),
        ) {
            let mut schedule = Schedule::default();
            for ((how, now), random) in steps {
                prop_assert!(schedule.ended(how, now, random) <= CAP);
            }
        }

        #[test]
        fn a_larger_draw_never_waits_less(failures in 0..64_u32, a in any::<u64>(), b in any::<u64>()) {
            let now = Instant::now();
            let wait = |random| {
                let mut schedule = Schedule::default();
                for _ in 0..failures {
                    schedule.ended(Ended::Failed, now, 0);
                }
                schedule.ended(Ended::Failed, now, random)
            };
            prop_assert!(wait(a.min(b)) <= wait(a.max(b)));
        }
    }
}
