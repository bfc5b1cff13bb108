//! Credentials: made here, shown once, hashed at rest, compared in constant time.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// `N` bytes from the operating system's generator.
///
/// # Panics
/// When the operating system has no randomness to give: nothing safe can follow.
#[allow(clippy::expect_used, reason = "without randomness no credential may be made")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}

/// What a credential opens. The prefix makes a leaked one recognisable, and redactable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The owner's key, `plx_live_…`.
    ConnectionKey,
    /// An agent's durable credential, `plx_agent_…`.
    AgentPat,
    /// A one-time code an agent redeems for its PAT, `plx_enroll_…`.
    EnrollmentCode,
}

impl CredentialKind {
    /// The text every credential of this kind begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ConnectionKey => "plx_live_",
            Self::AgentPat => "plx_agent_",
            Self::EnrollmentCode => "plx_enroll_",
        }
    }
}

/// A credential in the clear: prefix and 32 random bytes in hex. Wiped on drop, opaque to `Debug`.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    text: Zeroizing<String>,
}

impl Credential {
    /// A fresh credential.
    pub fn generate(kind: CredentialKind) -> Self {
        let bytes = Zeroizing::new(random::<32>());
        let text = format!("{}{}", kind.prefix(), data_encoding::HEXLOWER.encode(&*bytes));
        Self { kind, text: Zeroizing::new(text) }
    }

    /// Reads a credential of `kind`; `None` when the text has not exactly its form.
    pub fn parse(kind: CredentialKind, text: &str) -> Option<Self> {
        let hex = text.strip_prefix(kind.prefix())?;
        let well_formed = hex.len() == 64
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        well_formed.then(|| Self { kind, text: Zeroizing::new(text.to_owned()) })
    }

    /// The credential itself, to be shown once or written to its 0600 file.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    pub fn hash(&self) -> CredentialHash {
        CredentialHash(sha256(self.text.as_bytes()))
    }

    /// Whether `other` is the same credential, in constant time.
    pub fn matches(&self, other: &Credential) -> bool {
        self.kind == other.kind && self.text.as_bytes().ct_eq(other.text.as_bytes()).into()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.kind.prefix())
    }
}

/// Serialises the secret itself: only for the one reply that shows it.
impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// SHA-256 of a credential: what is stored. The credential has 256 random bits, so no salt is needed
/// and looking one up by its hash leaks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialHash([u8; 32]);

impl CredentialHash {
    /// The hash as stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a stored hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_credential_is_read_only_in_exactly_its_form() {
        let key = Credential::generate(CredentialKind::ConnectionKey);
        let again = Credential::parse(CredentialKind::ConnectionKey, key.expose()).unwrap();
        assert!(key.matches(&again));
        assert_eq!(key.hash(), again.hash());
        assert!(Credential::parse(CredentialKind::AgentPat, key.expose()).is_none());
        assert!(Credential::parse(CredentialKind::ConnectionKey, &key.expose()[..40]).is_none());
        let shouted = key.expose().to_uppercase();
        assert!(Credential::parse(CredentialKind::ConnectionKey, &shouted).is_none());
        assert!(!key.matches(&Credential::generate(CredentialKind::ConnectionKey)));
    }

    #[test]
    fn debug_never_shows_a_credential() {
        let key = Credential::generate(CredentialKind::AgentPat);
        assert_eq!(format!("{key:?}"), "plx_agent_…");
    }
}
