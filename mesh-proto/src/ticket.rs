//! The join ticket: one line that tells a server whom to trust and proves it was invited.
//!
//! `plxj_` and lowercase base32 of: a postcard structure that begins with its format version, then
//! the first four bytes of its SHA-256. The checksum is against typing errors; what an attacker
//! who alters a ticket can do is bounded by what it holds: the token is known to the primary only
//! as a hash, and the pinned key is the one that the handshake demands.

use std::{fmt, net::SocketAddr, str::FromStr};

use ring::{digest, rand::SecureRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    address::{Tenant, WorkloadName},
    bounded::List,
    codec, limits, text,
};

use crate::identity::{IdentityError, PublicKey};

/// What every ticket begins with.
pub const TICKET_PREFIX: &str = "plxj_";

/// The format this crate writes, and the only one it reads.
const VERSION: u8 = 1;

/// Bytes of the SHA-256 that end a ticket.
const CHECKSUM: usize = 4;

/// Everything a server needs to join.
///
/// It holds the token: its text is as secret as the token until the join is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The tenant the workload will belong to.
    pub tenant: Tenant,
    /// The name the owner gave the workload.
    pub workload: WorkloadName,
    /// Where the primary may be reached; at least one.
    pub addresses: List<Candidate, { limits::CANDIDATES }>,
    /// The key to pin.
    pub primary_key: PublicKey,
    /// The proof of having been invited.
    pub token: JoinToken,
    /// When the primary stops taking it, in milliseconds of Unix time.
    pub expires_at_ms: u64,
}

/// Why a text is no ticket, or a ticket has no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is longer than any ticket.
    #[error("is longer than any join ticket ({} characters)", limits::TICKET_TEXT)]
    TooLong,
    /// It does not begin as a ticket does.
    #[error("does not begin with {TICKET_PREFIX}")]
    Prefix,
    /// A character is none of a ticket's.
    #[error("has a character that no join ticket has")]
    Base32,
    /// A character is wrong or missing.
    #[error("has a character wrong or missing: its checksum does not match")]
    Checksum,
    /// Another program version made it.
    #[error("is of format version {0}, which this program is too old to know")]
    Version(u8),
    /// What it holds is out of shape.
    #[error("is damaged or was not made by Plexus")]
    Malformed,
    /// It says of no place where the primary may be.
    #[error("holds no address of the primary")]
    NoAddress,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u8,
    tenant: Tenant,
    workload: WorkloadName,
    addresses: List<Candidate, { limits::CANDIDATES }>,
    primary_key: [u8; 32],
    token: JoinToken,
    expires_at_ms: u64,
}

impl Ticket {
    /// The ticket's text, one line.
    ///
    /// Fails when there is no address, or their text is too long together.
    pub fn encode(&self) -> Result<Zeroizing<String>, TicketError> {
        if self.addresses.is_empty() {
            return Err(TicketError::NoAddress);
        }
        let body = Body {
            version: VERSION,
            tenant: self.tenant.clone(),
            workload: self.workload.clone(),
            addresses: self.addresses.clone(),
            primary_key: self.primary_key.0,
            token: self.token.clone(),
            expires_at_ms: self.expires_at_ms,
        };
        let mut bytes =
            postcard::to_stdvec(&body).map(Zeroizing::new).map_err(|_| TicketError::Malformed)?;
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let encoded = Zeroizing::new(text::base32(&bytes));
        if TICKET_PREFIX.len() + encoded.len() > limits::TICKET_TEXT {
            return Err(TicketError::TooLong);
        }
        Ok(Zeroizing::new(format!("{TICKET_PREFIX}{}", *encoded)))
    }

    /// Reads a ticket's text; space around it is forgiven.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text = text.trim_ascii();
        if text.len() > limits::TICKET_TEXT {
            return Err(TicketError::TooLong);
        }
        let encoded = text.strip_prefix(TICKET_PREFIX).ok_or(TicketError::Prefix)?;
        let bytes = text::from_base32(encoded).map(Zeroizing::new).ok_or(TicketError::Base32)?;
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TicketError::Checksum)?;
        if checksum(body) != *sum {
            return Err(TicketError::Checksum);
        }
        match body.first() {
            Some(&VERSION) => Self::from_body(body),
            Some(&other) => Err(TicketError::Version(other)),
            None => Err(TicketError::Malformed),
        }
    }

    fn from_body(bytes: &[u8]) -> Result<Self, TicketError> {
        let body: Body = codec::decode_exact(bytes).map_err(|_| TicketError::Malformed)?;
        if body.addresses.is_empty() {
            return Err(TicketError::NoAddress);
        }
        Ok(Self {
            tenant: body.tenant,
            workload: body.workload,
            addresses: body.addresses,
            primary_key: PublicKey(body.primary_key),
            token: body.token,
            expires_at_ms: body.expires_at_ms,
        })
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::parse(text)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest.as_ref()[..CHECKSUM]);
    sum
}

text_newtype! {
    /// A place where the primary may be: `host:port`, with an IPv6 host in brackets.
    Candidate
}

/// A text is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form host:port")]
pub struct CandidateError;

impl FromStr for Candidate {
    type Err = CandidateError;

    fn from_str(text: &str) -> Result<Self, CandidateError> {
        let well_formed = text.len() <= limits::CANDIDATE
            && match text.parse::<SocketAddr>() {
                Ok(address) => address.port() != 0,
                Err(_) => {
                    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
                }
            };
        if well_formed { Ok(Self(text.to_owned())) } else { Err(CandidateError) }
    }
}

impl From<SocketAddr> for Candidate {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0 && port.to_string() == text)
}

/// The one-time secret of a ticket. The primary stores its hash only.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct JoinToken([u8; 32]);

impl JoinToken {
    /// Makes a new token.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, IdentityError> {
        let mut token = Self([0; 32]);
        rng.fill(&mut token.0).map_err(|_| IdentityError::Random)?;
        Ok(token)
    }

    /// A token of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What the primary stores and looks a token up by: its SHA-256.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        hash
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for JoinToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinToken {}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn ticket(addresses: &[&str]) -> Ticket {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Ticket {
            tenant: Tenant::default(),
            workload: "nas".parse().unwrap(),
            addresses: List::new(addresses).unwrap(),
            primary_key: PublicKey([3; 32]),
            token: JoinToken::from_bytes([4; 32]),
            expires_at_ms: 1_700_000_000_000,
        }
    }

    /// A ticket's text around any bytes, with the checksum right.
    fn wrap(body: &[u8]) -> String {
        let sum = checksum(body);
        format!("{TICKET_PREFIX}{}", text::base32(&[body, &sum].concat()))
    }

    #[test]
    fn a_ticket_survives_its_text() {
        let sent = ticket(&["192.168.1.2:7078", "[fd00::1]:7078", "laptop.local:7078"]);
        let text = sent.encode().unwrap();
        assert!(text.len() < 300, "{}", text.len());
        assert_eq!(Ticket::parse(&format!(" {}\n", *text)).unwrap(), sent);
    }

    #[test]
    fn every_wrong_character_is_noticed() {
        let text = ticket(&["a:1"]).encode().unwrap();
        for index in TICKET_PREFIX.len()..text.len() {
            let mut wrong = text.to_string();
            let other = if &text[index..=index] == "a" { "b" } else { "a" };
            wrong.replace_range(index..=index, other);
            assert!(Ticket::parse(&wrong).is_err(), "at {index}");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let text = ticket(&["a:1"]).encode().unwrap();
        let body = postcard::to_stdvec(&(2u8, "whatever")).unwrap();
        let faults = [
            ("x".repeat(limits::TICKET_TEXT + 1), TicketError::TooLong),
            ("hello".to_owned(), TicketError::Prefix),
            (text.to_uppercase(), TicketError::Prefix),
            (format!("{}!", *text), TicketError::Base32),
            ("plxj_".to_owned(), TicketError::Checksum),
            (text[..text.len() - 8].to_owned(), TicketError::Checksum),
            (wrap(&body), TicketError::Version(2)),
            (wrap(&[VERSION]), TicketError::Malformed),
            (wrap(&[]), TicketError::Malformed),
        ];
        for (text, fault) in faults {
            assert_eq!(Ticket::parse(&text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_ticket_needs_an_address_and_room_for_all() {
        assert_eq!(ticket(&[]).encode(), Err(TicketError::NoAddress));
        let long = format!("{}:7078", "a".repeat(250));
        let many = ticket(&[long.as_str(); limits::CANDIDATES]);
        assert_eq!(many.encode(), Err(TicketError::TooLong));
    }

    #[test]
    fn candidates_out_of_form_are_refused() {
        for text in ["", "host", "host:", ":1", "host:0", "host:70000", "a b:1", "::1:7078", "h:+1"]
        {
            assert!(text.parse::<Candidate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_does_not_show() {
        assert_eq!(format!("{:?}", JoinToken::from_bytes([4; 32])), "JoinToken(…)");
    }

    proptest! {
        #[test]
        fn any_text_is_a_ticket_or_an_error(text in ".*") {
            let _ = Ticket::parse(&text);
        }

        #[test]
        fn any_body_is_the_ticket_it_encodes_or_an_error(
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let text = wrap(&[&[VERSION], body.as_slice()].concat());
            if let Ok(ticket) = Ticket::parse(&text) {
                let again = ticket.encode().unwrap();
                prop_assert_eq!(again.as_str(), text);
            }
        }
    }
}
