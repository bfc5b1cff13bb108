//! Is everything as it should be? Checks that each say what to do.
//!
//! Those of the state folder need no gateway; the rest are asked of the one that runs.

use std::path::Path;
use std::time::Duration;

use plexus_shared::audit::{tail, verify_tail};
use plexus_shared::clock::Timestamp;
use plexus_shared::state_dir::{StateDir, StateDirError};
use serde::{Deserialize, Serialize};

use crate::config::CONNECTION_KEY;
use crate::settings::{Policy, Settings, SettingsError};
use crate::store::{Store, StoreError};
use crate::{network, settings};

/// How far back the log is looked at.
const TAIL: u64 = 1000;
/// Bytes below which the disk is nearly full, and as good as full.
const LOW: u64 = 1 << 30;
const FULL: u64 = 64 << 20;

/// What the log may be ahead by: it is written to while it is looked at.
const SLACK: Duration = Duration::from_secs(60);

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Result {
    /// As it should be.
    Ok,
    /// It works, and the owner should know.
    Warn,
    /// It does not work.
    Fail,
}

/// One check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What was checked; part of the interface.
    pub id: String,
    /// How it went.
    pub result: Result,
    /// What was found.
    pub detail: String,
    /// What to do, unless nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Whether something is not what was written there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub integrity: bool,
}

impl Check {
    /// Nothing to do.
    pub fn ok(id: &str, detail: impl Into<String>) -> Self {
        let (id, detail) = (id.to_owned(), detail.into());
        Self { id, result: Result::Ok, detail, fix: None, integrity: false }
    }

    /// Something to know.
    pub fn warn(id: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { result: Result::Warn, fix: Some(fix.into()), ..Self::ok(id, detail) }
    }

    /// Something to mend.
    pub fn fail(id: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { result: Result::Fail, fix: Some(fix.into()), ..Self::ok(id, detail) }
    }

    /// `ok` where `fine`, otherwise `warn`.
    pub fn warn_unless(fine: bool, id: &str, detail: impl Into<String>, fix: &str) -> Self {
        if fine { Self::ok(id, detail) } else { Self::warn(id, detail, fix) }
    }

    fn damaged(self) -> Self {
        Self { integrity: true, ..self }
    }
}

/// The checks of the state folder `home` at `now`; nothing in it is changed.
pub fn folder(home: &Path, now: Timestamp) -> Vec<Check> {
    if !home.exists() {
        let detail = format!("{} is not there", home.display());
        return vec![Check::warn("state.folder", detail, "start the gateway with `plexus serve`")];
    }
    let state = match StateDir::open(home) {
        Ok(state) => state,
        Err(error) => return vec![unusable("state.folder", &error)],
    };
    let mut checks = vec![Check::ok("state.folder", format!("{} is yours alone", home.display()))];
    checks.push(key(&state));
    checks.extend(log(&state, now));
    checks.push(store(&state));
    checks.push(disk(home));
    checks.push(owners_settings(settings::load(&state)));
    checks.push(match network::load(&state) {
        Ok(network) if network.listen.is_empty() => Check::ok("network", "loopback alone"),
        Ok(network) => Check::ok("network", format!("also listens on {:?}", network.listen)),
        Err(error) => unreadable("network", &error),
    });
    checks
}

fn unusable(id: &str, error: &StateDirError) -> Check {
    Check::fail(id, error.to_string(), "do what the message says").damaged()
}

fn unreadable(id: &str, error: &SettingsError) -> Check {
    Check::fail(id, error.to_string(), "correct the file, or remove it").damaged()
}

fn key(state: &StateDir) -> Check {
    match state.read(CONNECTION_KEY) {
        Ok(Some(_)) => Check::ok("state.key", "the owner's key is yours alone"),
        Ok(None) => Check::warn("state.key", "there is no key yet", "start the gateway once"),
        Err(error) => unusable("state.key", &error),
    }
}

fn log(state: &StateDir, now: Timestamp) -> Vec<Check> {
    let folder = state.join("audit");
    if !folder.exists() {
        return vec![Check::ok("audit.chain", "nothing has been recorded yet")];
    }
    let verified = verify_tail(&folder, TAIL).map_err(|error| error.to_string());
    let chain = match verified.map(|report| (report.events, report.first_bad)) {
        Ok((events, None)) => Check::ok("audit.chain", format!("the last {events} events verify")),
        Ok((_, Some(bad))) => {
            let fix = "see `plexus audit verify`; keep the folder as it is, as evidence";
            Check::fail("audit.chain", bad, fix).damaged()
        }
        Err(error) => Check::fail("audit.chain", error, "make the folder readable to you"),
    };
    vec![chain, time(&folder, now)]
}

fn time(folder: &Path, now: Timestamp) -> Check {
    let newest =
        tail(folder, None, 1, |_| true).ok().and_then(|events| events.first().map(|e| e.at));
    match newest {
        Some(newest) if newest.since(now) > SLACK => {
            let detail = format!("it is {now}, and the log has an event of {newest}");
            let fix = "set the machine's clock: grants and tokens end by it";
            Check::fail("clock", detail, fix)
        }
        _ => Check::ok("clock", format!("it is {now}, after every event of the log")),
    }
}

fn store(state: &StateDir) -> Check {
    let file = state.join("state.db");
    if !file.exists() {
        return Check::ok("store.file", "nothing has been kept yet");
    }
    match Store::check(&file) {
        Ok(()) => Check::ok("store.file", "state.db is a database, and yours alone"),
        Err(error @ StoreError::Damaged(_)) => {
            Check::fail("store.file", error.to_string(), "restore it from a backup").damaged()
        }
        Err(error) => Check::fail("store.file", error.to_string(), "do what the message says"),
    }
}

fn disk(home: &Path) -> Check {
    let free = match rustix::fs::statvfs(home) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            return Check::warn("disk", error.to_string(), "look at the disk by hand: df");
        }
    };
    let detail = format!("{} MiB are free", free >> 20);
    let fix = "make room: when the log can't be written, every call is refused";
    match free {
        ..FULL => Check::fail("disk", detail, fix),
        FULL..LOW => Check::warn("disk", detail, fix),
        LOW.. => Check::ok("disk", detail),
    }
}

fn owners_settings(loaded: std::result::Result<Settings, SettingsError>) -> Check {
    let settings = match loaded {
        Ok(settings) => settings,
        Err(error) => return unreadable("settings", &error),
    };
    if settings.policy == Policy::AutoApprove {
        let detail = "auto-approve: everything agents ask for is granted unasked";
        return Check::warn("settings", detail, "plexus settings set policy=confirm-risky");
    }
    if settings.token_lifetime_ms > settings.session_lifetime_ms {
        let detail = "a token would outlive its session; it ends with it";
        return Check::warn("settings", detail, "make tokenLifetimeMs the shorter");
    }
    Check::ok("settings", "auth-config.json, or the defaults, can be in force")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn find<'a>(checks: &'a [Check], id: &str) -> &'a Check {
        checks.iter().find(|check| check.id == id).unwrap()
    }

    #[test]
    fn a_fresh_folder_is_fine_and_a_wrong_file_in_it_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        let now = Timestamp::from_millis(1_000);
        assert_eq!(folder(&home, now)[0].result, Result::Warn);
        let state = StateDir::open(&home).unwrap();
        let checks = folder(&home, now);
        assert!(checks.iter().all(|check| !check.integrity), "{checks:?}");
        state.write("auth-config.json", b"{\"policy\": \"yes\"}").unwrap();
        state.write("state.db", b"no database, surely").unwrap();
        let checks = folder(&home, now);
        assert!(find(&checks, "settings").integrity);
        assert!(find(&checks, "settings").detail.contains("policy"));
        assert!(find(&checks, "store.file").integrity);
    }
}
