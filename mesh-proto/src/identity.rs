//! Who a node is: one Ed25519 key, its certificate, and the TLS settings that believe keys only.
//!
//! 1. A node's certificate is made from its key and carries nothing else that matters.
//! 2. A proxy accepts exactly the primary's pinned key; names and dates are not looked at.
//! 3. The primary accepts any Ed25519 key, proved by the handshake's signature, and asks its own
//!    records afterwards what that key may do.
//!
//! An attacker would try a resumed session, which skips these checks (there are no tickets, no
//! session storage and no early data); another signature scheme (only Ed25519 is offered); or a
//! chain whose leaf is not the key looked at (exactly one certificate is taken).

mod tls;

use std::{fmt, str::FromStr};

use ring::{
    hmac,
    rand::SecureRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeTuple,
};
use zeroize::Zeroizing;

pub use self::tls::{client_config, peer_key, server_config};

use crate::text;

/// Sets the stateless reset key apart from every other use of the seed.
const RESET_LABEL: &[u8] = b"plexus-mesh/1 stateless reset key";

/// Why a key, a certificate or a TLS setting is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The text is no key.
    #[error("not a key")]
    KeyText,
    /// The system gave no random bytes.
    #[error("no random bytes from the system")]
    Random,
    /// The seed gives no key pair.
    #[error("seed gives no key pair")]
    Seed,
    /// The certificate cannot be made.
    #[error("certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS settings do not fit together.
    #[error("TLS settings refused: {0}")]
    Tls(#[from] rustls::Error),
    /// The peer sent no certificate, or more than one.
    #[error("peer sent {0} certificates instead of one")]
    CertificateCount(usize),
    /// The peer's certificate is not one of an Ed25519 key.
    #[error("peer's certificate holds no Ed25519 key")]
    NotEd25519,
}

/// A node's private key. Its `Debug` shows the public half only.
pub struct NodeKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl NodeKey {
    /// Makes a new key.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill(seed.as_mut()).map_err(|_| IdentityError::Random)?;
        Self::from_seed(seed)
    }

    /// The key of a seed.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| IdentityError::Seed)?;
        Ok(Self { seed, pair })
    }

    /// The key of a seed as [`NodeKey::seed_hex`] wrote it.
    pub fn from_seed_hex(hex: &str) -> Result<Self, IdentityError> {
        let bytes = data_encoding::HEXLOWER
            .decode(hex.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| IdentityError::KeyText)?;
        let seed = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| IdentityError::KeyText)?;
        Self::from_seed(Zeroizing::new(seed))
    }

    /// The seed for the state file: 64 lowercase hex digits.
    #[must_use]
    pub fn seed_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::HEXLOWER.encode(self.seed.as_ref()))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs bytes; the caller sets its uses apart by a label.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(signature)
    }

    /// The key for QUIC stateless resets: the same after a restart, so that a peer's old
    /// connection ends at once instead of running into its idle timeout.
    #[must_use]
    pub fn reset_key(&self) -> Zeroizing<[u8; 64]> {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, self.seed.as_ref());
        let mut key = Zeroizing::new([0; 64]);
        for (part, counter) in key.chunks_exact_mut(32).zip(1u8..) {
            let tag = hmac::sign(&seed, &[RESET_LABEL, &[counter]].concat());
            part.copy_from_slice(tag.as_ref());
        }
        key
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.public().fingerprint())
    }
}

/// A node's public key: its identity. Its text is lowercase base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Enough of the key for people to compare: four groups of four characters.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = self.to_string();
        format!("{}-{}-{}-{}", &text[..4], &text[4..8], &text[8..12], &text[12..16])
    }

    /// Whether the key signed these bytes.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature.0).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base32(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl FromStr for PublicKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        text::from_base32(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(IdentityError::KeyText)
    }
}

/// An Ed25519 signature; 64 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Signature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Signature, A::Error> {
                let mut bytes = [0; 64];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = (seq.next_element()?)
                        .ok_or_else(|| A::Error::invalid_length(index, &self))?;
                }
                Ok(Signature(bytes))
            }
        }

        deserializer.deserialize_tuple(64, Bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn node(fill: u8) -> NodeKey {
        NodeKey::from_seed(Zeroizing::new([fill; 32])).unwrap()
    }

    #[test]
    fn a_key_survives_its_state_file() {
        let key = NodeKey::generate(&ring::rand::SystemRandom::new()).unwrap();
        let hex = key.seed_hex();
        assert_eq!(NodeKey::from_seed_hex(&hex).unwrap().public(), key.public());
        assert!(NodeKey::from_seed_hex(&hex[..62]).is_err());
        assert!(NodeKey::from_seed_hex(&hex.to_uppercase().replace('0', "g")).is_err());
    }

    #[test]
    fn a_seed_gives_the_key_of_the_standard() {
        // RFC 8032, section 7.1, test 1.
        let key = NodeKey::from_seed_hex(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        )
        .unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn a_public_key_has_one_text() {
        let key = node(1).public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert!(key.to_string().to_uppercase().parse::<PublicKey>().is_err());
        assert!(key.to_string()[1..].parse::<PublicKey>().is_err());
        assert_eq!(key.fingerprint().len(), 19);
    }

    #[test]
    fn only_the_signer_verifies() {
        let signature = node(1).sign(b"message");
        assert!(node(1).public().verify(b"message", &signature));
        assert!(!node(1).public().verify(b"massage", &signature));
        assert!(!node(2).public().verify(b"message", &signature));
    }

    #[test]
    fn the_reset_key_is_the_nodes_own_and_stable() {
        assert_eq!(node(1).reset_key(), node(1).reset_key());
        assert_ne!(node(1).reset_key(), node(2).reset_key());
        assert_ne!(node(1).reset_key()[..32], node(1).reset_key()[32..]);
    }

    #[test]
    fn a_private_key_does_not_show() {
        let key = node(1);
        assert!(!format!("{key:?}").contains(&*key.seed_hex()));
    }
}
