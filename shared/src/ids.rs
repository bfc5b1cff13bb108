//! Identifiers, each its own type.
//!
//! Identifiers that Plexus makes are a prefix and a ULID; identifiers that come from outside are
//! checked once, where they are parsed, and are trusted afterwards.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::Timestamp;

/// Why a text is not the identifier it was read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(64).collect();
                    Err(InvalidId { text, expected: $expected })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        id!($(#[$doc])* $name, concat!("an identifier of the form ", $prefix, "…"), |text| {
            text.strip_prefix($prefix).is_some_and(|rest| ulid::Ulid::from_string(rest).is_ok())
        });

        impl $name {
            /// A fresh identifier, ordered by `now`.
            pub fn fresh(now: Timestamp) -> Self {
                Self(format!(concat!($prefix, "{}"), fresh_ulid(now)).into())
            }
        }
    };
}

fn fresh_ulid(now: Timestamp) -> ulid::Ulid {
    let random = u128::from_be_bytes(crate::secret::random());
    ulid::Ulid::from_parts(u64::try_from(now.as_millis()).unwrap_or(0), random)
}

made_id!(/// A session, `sess_…`: one handshake's stay, at most 60 minutes.
    SessionId, "sess_");
made_id!(/// A token's id, `tok_…`: the `jti` of a scoped token.
    TokenId, "tok_");
made_id!(/// A pending item, `pend_…`: a question that waits for the owner.
    PendingId, "pend_");
made_id!(/// An audit event, `evt_…`.
    EventId, "evt_");
made_id!(/// What joins the records of one call across nodes, `corr_…`.
    CorrelationId, "corr_");

made_id!(/// A named task bundle, `bndl_…`.
    BundleId, "bndl_");

id!(/// An agent's name, chosen by the owner: lower-case letters, digits, `-`, `_`, `.`; at most 64 bytes.
/// Or `anon:…`, made by the gateway for a session that named no agent.
AgentId, "an agent name ([a-z0-9][a-z0-9._-]{0,63})", |text| {
    let text = text.strip_prefix(ANON).unwrap_or(text);
    text.len() <= 64 && starts_plain(text)
        && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'))
});
id!(/// A source's name: `notes`, `mcp:github`; its slug (`:` as `.`) begins every id of the source.
SourceId, "a source name ([a-z0-9][a-z0-9-]{0,62}, optionally after one kind and ':')", |text| {
    let mut parts = text.split(':');
    let word = |part: &str| part.len() <= 63 && starts_plain(part)
        && part.bytes().all(|b| plain(b) || b == b'-');
    parts.next().is_some_and(word) && parts.next().is_none_or(word) && parts.next().is_none()
});
id!(/// A capability's id: `source.noun.verb`, or its full mesh address `tenant/workload/source.noun.verb`.
CapabilityId, "a capability id (source.noun.verb)", |text| {
    let tail = text.rsplit('/').next().unwrap_or_default();
    text.len() <= 384
        && tail.split('.').count() >= 3
        && text.split('/').all(|part| !part.is_empty())
        && tail.split('.').all(|part| !part.is_empty())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
});

fn plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn starts_plain(text: &str) -> bool {
    text.bytes().next().is_some_and(plain)
}

const ANON: &str = "anon:";

impl AgentId {
    /// A name for a session that named no agent: it never holds anything for longer than one use.
    pub fn anonymous(now: Timestamp) -> Self {
        Self(format!("{ANON}{}", fresh_ulid(now).to_string().to_lowercase()).into())
    }

    /// Whether no agent was named.
    pub fn is_anonymous(&self) -> bool {
        self.0.starts_with(ANON)
    }
}

impl SourceId {
    /// The prefix of this source's capability ids: `:` becomes `.`.
    pub fn slug(&self) -> String {
        self.0.replace(':', ".")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn identifiers_accept_their_grammar_and_nothing_else() {
        assert!("notes.file.read".parse::<CapabilityId>().is_ok());
        assert!("local/nas/notes.file.read".parse::<CapabilityId>().is_ok());
        for bad in ["", "notes", "notes.file", "a..b", "/a.b.c", "a.b.c/", "a b.c.d", "a.b.c\n"] {
            assert!(bad.parse::<CapabilityId>().is_err(), "{bad:?}");
        }
        assert!("mcp:github".parse::<SourceId>().is_ok());
        for bad in ["", ":x", "x:", "a:b:c", "Notes", "../x"] {
            assert!(bad.parse::<SourceId>().is_err(), "{bad:?}");
        }
        assert!("claude-1".parse::<AgentId>().is_ok());
        assert!("Claude".parse::<AgentId>().is_err());
    }

    #[test]
    fn fresh_identifiers_parse_back_and_sort_by_time() {
        let early = EventId::fresh(Timestamp::from_millis(1_000));
        let late = EventId::fresh(Timestamp::from_millis(2_000));
        assert!(early < late);
        assert_eq!(early.as_str().parse::<EventId>().unwrap(), early);
        assert!(early.as_str().parse::<SessionId>().is_err());
    }
}
