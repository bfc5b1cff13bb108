//! What may be kept of a payload: secrets out first, then clipped to a readable size.
//!
//! 1. A string is searched whole for the call's own secrets (by value), for anything shaped like a
//!    credential of ours, for bearer tokens and for credential headers; each becomes `[redacted]`.
//! 2. The value of a key named like a secret becomes `[redacted]`, whatever it is.
//! 3. Only then is it clipped, every clip marked: strings 500 characters, arrays 50 elements,
//!    objects 50 keys, 6 levels, and 128 KiB altogether. What is past a clip is read over, never
//!    built, so a large output costs its reading and no more.
//!
//! Redacting what was redacted changes nothing: a mirrored record passes here twice.
//!
//! What an attacker would try: a secret in a key, in an error text, spelled with JSON escapes, as a
//! number, or laid across the clip so that half of it survives; a payload whose reading costs more
//! than the call.

mod clip;
mod members;
mod scrub;
#[cfg(test)]
mod tests;

pub use members::secret_members;

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";
/// What stands for a payload that is not JSON one can read.
pub const UNREADABLE: &str = "…[unreadable]";
/// The most characters kept of one string.
pub const MAX_CHARS: usize = 500;
/// The most elements kept of one array.
pub const MAX_ITEMS: usize = 50;
/// The most keys kept of one object.
pub const MAX_KEYS: usize = 50;
/// The most levels of arrays and objects kept.
pub const MAX_DEPTH: u8 = 6;
/// About the most bytes kept of one payload.
pub const MAX_BYTES: usize = 128 * 1024;

/// Values shorter than this are not searched for: they would be found everywhere.
pub const SHORTEST_SECRET: usize = 4;

/// The secrets resolved for one call, by value. Wiped on drop, opaque to `Debug`.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// No secrets.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds `value`, also in the spellings it has inside JSON text and inside a URL. Values shorter
    /// than 4 bytes are ignored.
    pub fn add(&mut self, value: &str) {
        if value.len() < SHORTEST_SECRET {
            return;
        }
        self.push(value.to_owned());
        self.push(escaped(value));
        self.push(percent_encoded(value));
    }

    /// Whether there is nothing to search for.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, spelling: String) {
        let spelling = Zeroizing::new(spelling);
        if !self.0.contains(&spelling) {
            self.0.push(spelling);
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Secrets {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let mut secrets = Self::new();
        secrets.extend(values);
        secrets
    }
}

impl<S: AsRef<str>> Extend<S> for Secrets {
    fn extend<I: IntoIterator<Item = S>>(&mut self, values: I) {
        for value in values {
            self.add(value.as_ref());
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// A payload that went through a [`Redactor`]: the only kind a record can hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Redacted(Value);

impl Redacted {
    /// What the log says of itself: made of numbers, hashes and what was redacted before.
    pub(crate) const fn of_the_log(value: Value) -> Self {
        Self(value)
    }

    /// What was kept.
    pub const fn as_value(&self) -> &Value {
        &self.0
    }

    /// What was kept.
    pub fn into_value(self) -> Value {
        self.0
    }

    /// Both, as one object; `other` wins where they share a key. What is no object goes under
    /// `value`.
    #[must_use]
    pub fn merged(self, other: Redacted) -> Redacted {
        let members = |value| match value {
            Value::Object(members) => members,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        let mut all = members(self.0);
        all.extend(members(other.0));
        Self(Value::Object(all))
    }
}

impl Serialize for Redacted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Takes secrets out and clips. Cheap to clone; the default one knows no secrets by value.
#[derive(Clone, Default)]
pub struct Redactor {
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    needles: Vec<Zeroizing<String>>,
    /// Whether a needle could be part of a number.
    numeric: bool,
    keys: Vec<String>,
}

impl Redactor {
    /// A redactor that also hides `secrets`, wherever they appear.
    pub fn new(secrets: Secrets) -> Self {
        let number = |needle: &Zeroizing<String>| {
            needle.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e'))
        };
        let numeric = secrets.0.iter().any(number);
        Self { rules: Arc::new(Rules { needles: secrets.0, numeric, keys: Vec::new() }) }
    }

    /// This redactor, also hiding the values of `keys` (case, `-` and `_` do not matter).
    #[must_use]
    pub fn with_keys<S: AsRef<str>>(self, keys: impl IntoIterator<Item = S>) -> Self {
        let mut known = self.rules.keys.clone();
        known.extend(keys.into_iter().map(|key| folded(key.as_ref()).collect()));
        let Rules { needles, numeric, .. } = &*self.rules;
        let rules = Rules { needles: needles.clone(), numeric: *numeric, keys: known };
        Self { rules: Arc::new(rules) }
    }

    /// This redactor, also hiding `secrets`.
    #[must_use]
    pub fn with_secrets(&self, secrets: Secrets) -> Self {
        let mut all = Secrets(self.rules.needles.clone());
        all.0.extend(secrets.0);
        Self::new(all).with_keys(&self.rules.keys)
    }

    /// What may be kept of the JSON text `json`.
    pub fn redact_json(&self, json: &str) -> Redacted {
        let kept = clip::json(&self.rules, json).or_else(|_| {
            let mended = clip::without_lone_surrogates(json);
            clip::json(&self.rules, &mended)
        });
        Redacted(kept.unwrap_or_else(|_| UNREADABLE.into()))
    }

    /// What may be kept of `raw`.
    pub fn redact_raw(&self, raw: &RawValue) -> Redacted {
        self.redact_json(raw.get())
    }

    /// What may be kept of `value`.
    pub fn redact_value(&self, value: &Value) -> Redacted {
        Redacted(clip::value(&self.rules, value).unwrap_or_else(|_| UNREADABLE.into()))
    }

    /// What may be kept of plain text.
    pub fn redact_text(&self, text: &str) -> String {
        scrub::text(&self.rules, text)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(…)")
    }
}

impl Rules {
    fn hides_value_of(&self, key: &str) -> bool {
        const LONGEST: usize = 40;
        if !self.keys.is_empty()
            && self.keys.iter().any(|known| folded(key).eq(known.bytes().map(char::from)))
        {
            return true;
        }
        if key.len() > LONGEST {
            return false;
        }
        let key: String = folded(key).collect();
        SECRET_KEYS.binary_search(&key.as_str()).is_ok()
    }
}

fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_lowercase())
}

/// Keys whose values are secrets, folded, sorted.
const SECRET_KEYS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "apisecret",
    "apitoken",
    "authkey",
    "authorization",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "connectionkey",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "csrftoken",
    "encryptionkey",
    "enrollmentcode",
    "idtoken",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "personalaccesstoken",
    "privatekey",
    "proxyauthorization",
    "pwd",
    "refreshtoken",
    "secret",
    "secretaccesskey",
    "secretkey",
    "secrets",
    "sessiontoken",
    "setcookie",
    "signingkey",
    "token",
    "webhooksecret",
    "xapikey",
    "xauthtoken",
    "xcsrftoken",
];

/// `value` as it reads inside JSON text.
fn escaped(value: &str) -> String {
    let quoted = Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// `value` as it reads inside a URL.
fn percent_encoded(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
    }
    out
}
