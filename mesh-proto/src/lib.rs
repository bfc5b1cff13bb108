//! The mesh protocol of Plexus: who the two ends are, how a server joins, and what they say.
//!
//! A *primary* holds authority; *proxies* bear capabilities and dial one outbound QUIC tunnel to
//! it. This crate is everything both ends must agree on and nothing that either decides alone:
//!
//! 1. [`identity`]: one Ed25519 key per node; TLS 1.3 in which both sides prove theirs, and trust
//!    is the pinned key, never a name or a date.
//! 2. [`hello`]: the first frame each way; ends in an [`hello::AuthenticatedPeer`], which nothing
//!    else can make.
//! 3. [`enroll`]: how an unknown key becomes a known one: a one-time ticket and a signature bound
//!    to this very TLS session.
//! 4. [`invoke`], [`catalog`], [`health`], [`audit`]: the messages of an admitted peer.
//! 5. [`frame`], [`codec`], [`io`]: one number, one cap and one encoding per message.
//! 6. [`address`]: what a proxy calls `jellyfin.library.scan` the primary calls
//!    `local/nas/jellyfin.library.scan`; translated once on the way up and once on the way down.
//!
//! # What it promises
//!
//! - Decoding is total: any byte string gives a value or an error. Memory follows the bytes that
//!   came, within each list's cap, and never a length that was merely announced.
//! - One value, one encoding: trailing bytes, padded integers and unknown numbers are refused.
//! - JSON crosses as its original bytes ([`json::Json`]), never parsed and written again.
//! - Frame numbers and wire enums only grow; a number is never used for anything else.
//!
//! # What an attacker tries
//!
//! - To announce sizes instead of sending bytes: every length meets its cap before memory is
//!   taken, and a body is stored only as fast as it arrives.
//! - To be believed without the key: resumption, tickets and early data are off, so that every
//!   connection runs the verifier; a join signature covers the session's exported keying value.
//! - To spend the primary's patience before being known: the exchange of an unknown key is a few
//!   kilobytes and seconds ([`limits`]).
//! - To speak for another workload: no frame carries the sender's name.

#[macro_use]
mod numbered;
#[macro_use]
mod text;

pub mod address;
pub mod audit;
pub mod bounded;
pub mod catalog;
pub mod close;
pub mod codec;
pub mod enroll;
pub mod frame;
pub mod health;
pub mod hello;
pub mod identity;
pub mod invoke;
pub mod io;
pub mod json;
pub mod limits;
pub mod ticket;

/// The application protocol both ends offer in TLS; there is no other.
pub const ALPN: &[u8] = b"plexus-mesh/1";

/// The lowest protocol version this crate speaks.
pub const PROTO_MIN: u16 = 1;

/// The highest protocol version this crate speaks.
pub const PROTO_MAX: u16 = 1;
