//! Lengths of time and moments, as the owner writes and reads them.

use std::time::Duration;

use plexus_shared::clock::{Clock, SystemClock, Timestamp};

/// A text that is no length of time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a length of time is a number and a unit, such as 30s, 15m, 1h or 7d")]
pub(super) struct InvalidLength;

/// Reads `30s`, `15m`, `1h`, `7d`.
pub(super) fn parse_length(text: &str) -> Result<Duration, InvalidLength> {
    let unit = text.chars().last().ok_or(InvalidLength)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(InvalidLength),
    };
    let digits = text.trim_end_matches(unit);
    let plain = digits.len() + 1 == text.len() && digits.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = digits.parse().map_err(|_| InvalidLength)?;
    match count.checked_mul(seconds) {
        Some(length) if plain && (1..=u64::MAX / 1000).contains(&length) => {
            Ok(Duration::from_secs(length))
        }
        _ => Err(InvalidLength),
    }
}

/// A text that is no moment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is such as 2026-06-23T11:00:00Z, or how long ago it was: 30m, 1h, 7d")]
pub(super) struct InvalidMoment;

/// Reads `2026-06-23T11:00:00Z`, or `1h` for an hour ago.
pub(super) fn parse_moment(text: &str) -> Result<Timestamp, InvalidMoment> {
    text.parse().or_else(|_| {
        let ago = parse_length(text).map_err(|InvalidLength| InvalidMoment)?;
        let ago = i64::try_from(ago.as_millis()).map_err(|_| InvalidMoment)?;
        Ok(Timestamp::from_millis(now().as_millis().saturating_sub(ago)))
    })
}

/// `length` in milliseconds.
pub(super) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The current moment.
pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// `45s`, `3m`, `26h`, `5d`: rounded, in the unit that says most.
pub(super) fn length(length: Duration) -> String {
    let seconds = length.as_millis().saturating_add(500) / 1000;
    let whole = |unit: u128| (seconds + unit / 2) / unit;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3570 => format!("{}m", whole(60)),
        3570..172_800 => format!("{}h", whole(3600)),
        _ => format!("{}d", whole(86_400)),
    }
}

/// `3m ago`, `in 2h`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", length(at.since(now)))
    } else {
        format!("{} ago", length(now.since(at)))
    }
}

/// `2026-06-23 11:00:05Z`.
pub(super) fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    format!("{day} {time}Z")
}

/// `2026-06-23 11:00Z (3m ago)`.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> String {
    let clock = clock(at);
    format!("{}Z ({})", clock.get(..16).unwrap_or_default(), relative(at, now))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_length_has_a_number_and_a_unit() {
        let seconds = |text| parse_length(text).unwrap().as_secs();
        assert_eq!(seconds("30s"), 30);
        assert_eq!(seconds("15m"), 900);
        assert_eq!(seconds("1h"), 3600);
        assert_eq!(seconds("7d"), 604_800);
        for bad in ["", "m", "5", "0s", "-1m", "+1m", "1mm", "1.5h", "1 h", "1w", "1é"] {
            assert!(parse_length(bad).is_err(), "{bad:?}");
        }
        assert!(parse_length("18446744073709551615d").is_err());
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        let at = Timestamp::from_millis(1_782_212_400_000);
        assert_eq!(parse_moment("2026-06-23T11:00:00Z"), Ok(at));
        let ago = now().since(parse_moment("7d").unwrap()).as_secs();
        assert!((604_800..604_900).contains(&ago), "{ago}");
        for bad in ["", "yesterday", "2026-06-23", "1w", "-1h", "18446744073709551d"] {
            assert_eq!(parse_moment(bad), Err(InvalidMoment), "{bad:?}");
        }
    }

    #[test]
    fn a_moment_is_told_in_utc_and_from_now() {
        let at = Timestamp::from_millis(1_782_212_405_000);
        let later = at.plus(Duration::from_secs(200));
        assert_eq!(moment(at, later), "2026-06-23 11:00Z (3m ago)");
        assert_eq!(moment(later, at), "2026-06-23 11:03Z (in 3m)");
        assert_eq!(clock(at), "2026-06-23 11:00:05Z");
        let told = |seconds: f64| length(Duration::from_secs_f64(seconds));
        assert_eq!([told(0.2), told(59.4), told(899.9), told(3599.0)], ["0s", "59s", "15m", "1h"]);
        assert_eq!([told(100_000.0), told(200_000.0), told(604_799.0)], ["28h", "2d", "7d"]);
    }
}
