//! The owner's settings: `auth-config.json` in the state folder, read whole or not at all.
//!
//! What is absent has its default, what is unknown or out of bounds is refused by its path, and what is
//! in force is replaced in one step: a request sees the settings of before or of after, never a mix.

use std::sync::Arc;

use arc_swap::ArcSwap;
use plexus_shared::audit::{DEFAULT_KEEP_DAYS, Durability};
use plexus_shared::model::plain;
use plexus_shared::state_dir::{StateDir, StateDirError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The file, in the state folder.
pub const AUTH_CONFIG: &str = "auth-config.json";

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;

/// Who answers what agents ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Reads of what the owner vouched for pass; all else waits for the owner.
    #[default]
    ConfirmRisky,
    /// Everything waits for the owner.
    ConfirmAll,
    /// Nothing waits. For tests; only the file itself can say so.
    AutoApprove,
}

/// How much one agent may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimits {
    /// Requests a second, in the long run.
    pub requests_per_second: u64,
    /// Requests at once.
    pub burst: u64,
    /// Calls under way at once.
    pub concurrent_calls: u64,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { requests_per_second: 100, burst: 200, concurrent_calls: 64 }
    }
}

/// All settings, in force together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How long a scoped token lives.
    pub token_lifetime_ms: u64,
    /// How long a session lives.
    pub session_lifetime_ms: u64,
    /// How long a question waits for the owner.
    pub pending_lifetime_ms: u64,
    /// How long an enrollment code can be redeemed.
    pub enrollment_code_lifetime_ms: u64,
    /// The longest window of an approval, but for one that only a revoke ends.
    pub max_trust_window_ms: u64,
    /// Who answers.
    pub policy: Policy,
    /// For how many days the files of the audit log are kept.
    pub audit_retention_days: u32,
    /// When a line of the audit log is taken to the disk.
    pub audit_durability: Durability,
    /// The largest body of a call, in bytes.
    pub max_invoke_body_bytes: u64,
    /// How much one agent may ask for.
    pub rate_limits: RateLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token_lifetime_ms: 15 * MINUTE,
            session_lifetime_ms: HOUR,
            pending_lifetime_ms: DAY,
            enrollment_code_lifetime_ms: 15 * MINUTE,
            max_trust_window_ms: 30 * DAY,
            policy: Policy::default(),
            audit_retention_days: DEFAULT_KEEP_DAYS,
            audit_durability: Durability::default(),
            max_invoke_body_bytes: 10 * MIB,
            rate_limits: RateLimits::default(),
        }
    }
}

/// A setting that can't be: which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct InvalidSetting {
    /// Where in the document: `rateLimits.burst`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidSetting {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read or written.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// What it says can't be.
    #[error("{file}: {fault}; correct it, or remove the file to have the defaults")]
    Invalid {
        /// The file's name.
        file: &'static str,
        /// What is wrong.
        fault: InvalidSetting,
    },
}

impl Settings {
    /// Reads a whole document.
    ///
    /// # Errors
    /// The first member that is unknown, of the wrong type or out of bounds.
    pub fn parse(document: &Value) -> Result<Self, InvalidSetting> {
        let Value::Object(members) = document else {
            return Err(InvalidSetting::new("$", "the document is not an object"));
        };
        let mut settings = Self::default();
        for (name, value) in members {
            settings.take(name, value)?;
        }
        Ok(settings)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<(), InvalidSetting> {
        match name {
            // Clamped, by the contract; the others are refused outside their bounds.
            "tokenLifetimeMs" => {
                self.token_lifetime_ms = number(name, value, 0, u64::MAX)?.clamp(MINUTE, HOUR);
            }
            "sessionLifetimeMs" => self.session_lifetime_ms = number(name, value, MINUTE, HOUR)?,
            "pendingLifetimeMs" => {
                self.pending_lifetime_ms = number(name, value, MINUTE, 30 * DAY)?;
            }
            "enrollmentCodeLifetimeMs" => {
                self.enrollment_code_lifetime_ms = number(name, value, 1000, DAY)?;
            }
            "maxTrustWindowMs" => {
                self.max_trust_window_ms = number(name, value, MINUTE, 30 * DAY)?;
            }
            "policy" => {
                self.policy = Policy::deserialize(value).map_err(|_| {
                    let words = "it is \"confirm-risky\", \"confirm-all\" or \"auto-approve\"";
                    InvalidSetting::new(name, words)
                })?;
            }
            "auditRetentionDays" => {
                let days = number(name, value, 1, 36_500)?;
                self.audit_retention_days = u32::try_from(days).unwrap_or(DEFAULT_KEEP_DAYS);
            }
            "auditDurability" => {
                self.audit_durability = Durability::deserialize(value)
                    .map_err(|_| InvalidSetting::new(name, "it is \"batched\" or \"always\""))?;
            }
            "maxInvokeBodyBytes" => {
                self.max_invoke_body_bytes = number(name, value, MIB, 64 * MIB)?;
            }
            "rateLimits" => self.rate_limits = rate_limits(name, value)?,
            _ => {
                return Err(InvalidSetting::new(
                    name,
                    "there is no such setting; `plexus settings` lists them",
                ));
            }
        }
        Ok(())
    }
}

fn rate_limits(path: &str, value: &Value) -> Result<RateLimits, InvalidSetting> {
    let none = Map::new();
    let members = match value {
        Value::Object(members) => members,
        Value::Null => &none,
        _ => return Err(InvalidSetting::new(path, "it is an object")),
    };
    let mut limits = RateLimits::default();
    for (name, value) in members {
        let path = format!("{path}.{name}");
        match name.as_str() {
            "requestsPerSecond" => limits.requests_per_second = number(&path, value, 1, 100_000)?,
            "burst" => limits.burst = number(&path, value, 1, 1_000_000)?,
            "concurrentCalls" => limits.concurrent_calls = number(&path, value, 1, 10_000)?,
            _ => {
                return Err(InvalidSetting::new(
                    path,
                    "there is no such setting; `plexus settings` lists them",
                ));
            }
        }
    }
    Ok(limits)
}

fn number(path: &str, value: &Value, least: u64, most: u64) -> Result<u64, InvalidSetting> {
    let fits = value.as_u64().filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| {
        let reason = match most {
            u64::MAX => format!("it is a whole number from {least}"),
            most => format!("it is a whole number from {least} to {most}"),
        };
        InvalidSetting::new(path, reason)
    })
}

/// Reads the JSON file `name`; `None` when there is none.
///
/// # Errors
/// When it is not private, or no JSON.
pub fn document(dir: &StateDir, name: &'static str) -> Result<Option<Value>, SettingsError> {
    let Some(bytes) = dir.read(name)? else { return Ok(None) };
    plain::read(&bytes).map(Some).map_err(|error| {
        let fault = InvalidSetting::new("$", error.to_string());
        SettingsError::Invalid { file: name, fault }
    })
}

/// Reads the settings of the state folder `dir`.
///
/// # Errors
/// See [`SettingsError`].
pub fn load(dir: &StateDir) -> Result<Settings, SettingsError> {
    let Some(document) = document(dir, AUTH_CONFIG)? else { return Ok(Settings::default()) };
    Settings::parse(&document).map_err(|fault| SettingsError::Invalid { file: AUTH_CONFIG, fault })
}

/// Keeps `settings` in the state folder: all of them or none.
///
/// # Errors
/// When the file can't be written; the old one then stands.
pub fn save(dir: &StateDir, settings: &Settings) -> Result<(), StateDirError> {
    let mut text = serde_json::to_vec_pretty(settings).unwrap_or_default();
    text.push(b'\n');
    dir.write(AUTH_CONFIG, &text)
}

/// The settings in force.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<ArcSwap<Settings>>);

impl InForce {
    /// `settings`, in force.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// As they are now.
    pub fn now(&self) -> Settings {
        **self.0.load()
    }

    /// Puts `settings` in force.
    pub fn set(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_has_its_default_and_a_document_reads_back_as_written() {
        assert_eq!(Settings::parse(&json!({})).unwrap(), Settings::default());
        let changed = json!({"policy": "confirm-all", "rateLimits": {"burst": 7}});
        let settings = Settings::parse(&changed).unwrap();
        assert_eq!(settings.rate_limits.requests_per_second, 100);
        assert_eq!(settings.audit_retention_days, 90);
        assert_eq!(Settings::parse(&json!(settings)).unwrap(), settings);
    }

    #[test]
    fn a_tokens_life_is_clamped_and_all_else_is_refused_by_its_path() {
        let settings = Settings::parse(&json!({"tokenLifetimeMs": 0})).unwrap();
        assert_eq!(settings.token_lifetime_ms, MINUTE);
        let settings = Settings::parse(&json!({"tokenLifetimeMs": 100 * DAY})).unwrap();
        assert_eq!(settings.token_lifetime_ms, HOUR);
        let wrong = [
            (json!([]), "$"),
            (json!({"tokenLifeTimeMs": 60_000}), "tokenLifeTimeMs"),
            (json!({"sessionLifetimeMs": HOUR + 1}), "sessionLifetimeMs"),
            (json!({"maxTrustWindowMs": 31 * DAY}), "maxTrustWindowMs"),
            (json!({"policy": "AUTO-APPROVE"}), "policy"),
            (json!({"pendingLifetimeMs": "1h"}), "pendingLifetimeMs"),
            (json!({"rateLimits": {"burst": 0}}), "rateLimits.burst"),
            (json!({"rateLimits": {"bursts": 1}}), "rateLimits.bursts"),
            (json!({"auditRetentionDays": -1}), "auditRetentionDays"),
            (json!({"auditDurability": "never"}), "auditDurability"),
            (json!({"maxInvokeBodyBytes": 1024}), "maxInvokeBodyBytes"),
        ];
        for (document, path) in wrong {
            assert_eq!(Settings::parse(&document).unwrap_err().path, path, "{document}");
        }
    }
}
