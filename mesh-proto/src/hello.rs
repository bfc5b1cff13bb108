//! The first frame each way, and what it proves.
//!
//! 1. The proxy opens the control stream and sends its [`Hello`].
//! 2. The primary holds the key that TLS observed against its records. A known key is answered
//!    with a `Hello`; an unknown key is not answered: it may send one join request; a revoked key
//!    is told so.
//! 3. Both ends take the highest version they share. The primary's `Hello` is what tells a proxy
//!    that it is admitted: a finished TLS handshake does not.
//!
//! The layout of `Hello` is frozen, since it is read before a version is agreed; what later
//! versions add travels in frames of its own.
//!
//! [`AuthenticatedPeer`] is the proof that this ran. Only the two machines here make one, from the
//! key of a finished handshake; it cannot be copied or written by hand.

use std::{marker::PhantomData, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    PROTO_MAX, PROTO_MIN,
    address::MountPoint,
    bounded::Text,
    close::CloseCode,
    enroll::EnrollWindow,
    frame::{FrameKind, Message},
    identity::PublicKey,
    limits,
};

/// A program's name and version.
pub type Software = Text<{ limits::SOFTWARE }>;

/// What an end says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest version it speaks.
    pub proto_min: u16,
    /// The highest version it speaks.
    pub proto_max: u16,
    /// What it is, for people.
    pub software: Software,
    /// The shortest interval between health reports it asks for, in milliseconds.
    pub health_interval_ms: u32,
}

impl Message for Hello {
    const KIND: FrameKind = FrameKind::Hello;
}

impl Hello {
    /// The hello of this crate's versions.
    #[must_use]
    pub fn new(software: Software, health_interval: Duration) -> Self {
        Self {
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            software,
            health_interval_ms: u32::try_from(health_interval.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

/// What the two hellos come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The protocol version both speak from here on.
    pub version: u16,
    /// The interval between health reports: the longer ask, between
    /// [`limits::HEALTH_INTERVAL_MIN`] and [`limits::HEALTH_INTERVAL_MAX`].
    pub health_interval: Duration,
}

/// Why two hellos come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The peer's range is upside down.
    #[error("peer's version range {min} to {max} is empty")]
    EmptyRange {
        /// Its lowest version.
        min: u16,
        /// Its highest version.
        max: u16,
    },
    /// There is no version both speak.
    #[error("no common protocol version: peer speaks {min} to {max}")]
    NoCommonVersion {
        /// The peer's lowest version.
        min: u16,
        /// The peer's highest version.
        max: u16,
    },
}

/// The highest version both speak, and the health interval both bear.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<Negotiated, HelloError> {
    let (min, max) = (theirs.proto_min, theirs.proto_max);
    if min > max {
        return Err(HelloError::EmptyRange { min, max });
    }
    let version = ours.proto_max.min(max);
    if version < ours.proto_min.max(min) {
        return Err(HelloError::NoCommonVersion { min, max });
    }
    let asked = ours.health_interval_ms.max(theirs.health_interval_ms);
    let health_interval = Duration::from_millis(asked.into())
        .clamp(limits::HEALTH_INTERVAL_MIN, limits::HEALTH_INTERVAL_MAX);
    Ok(Negotiated { version, health_interval })
}

mod sealed {
    pub trait Sealed {}
}

/// What a peer is to this node.
pub trait Role: sealed::Sealed {
    /// What this node's records bind to the peer's key.
    type Bound;
}

/// The peer is the primary: what it asks is authorized.
#[derive(Debug)]
pub enum Primary {}

/// The peer is a proxy: it bears the capabilities of one workload.
#[derive(Debug)]
pub enum Proxy {}

impl sealed::Sealed for Primary {}
impl sealed::Sealed for Proxy {}

impl Role for Primary {
    type Bound = ();
}

impl Role for Proxy {
    type Bound = MountPoint;
}

/// A peer whose key TLS observed and this node's records know.
#[derive(Debug)]
pub struct AuthenticatedPeer<R: Role> {
    key: PublicKey,
    negotiated: Negotiated,
    software: Software,
    bound: R::Bound,
    role: PhantomData<R>,
}

impl<R: Role> AuthenticatedPeer<R> {
    /// The peer's key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// What the hellos came to.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        self.negotiated
    }

    /// What the peer says it is; for people, decides nothing.
    #[must_use]
    pub fn software(&self) -> &Software {
        &self.software
    }
}

impl AuthenticatedPeer<Proxy> {
    /// Where the peer's capabilities are mounted: bound to its key, not to anything it says.
    #[must_use]
    pub fn mount_point(&self) -> &MountPoint {
        &self.bound
    }
}

/// Why a proxy does not believe the primary's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The connection's key is not the pinned one.
    #[error("connection's key is not the primary's pinned key")]
    WrongKey,
    /// The hellos come to nothing.
    #[error(transparent)]
    Hello(#[from] HelloError),
}

impl HandshakeError {
    /// What to close the connection with.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::WrongKey => CloseCode::UnknownKey,
            Self::Hello(_) => CloseCode::ProtocolVersion,
        }
    }
}

/// The proxy's side: sends its hello, waits for the primary's.
#[derive(Debug)]
pub struct DialHandshake {
    pinned: PublicKey,
    ours: Hello,
}

impl DialHandshake {
    /// Begins a handshake with the primary of this key.
    #[must_use]
    pub fn new(pinned: PublicKey, ours: Hello) -> Self {
        Self { pinned, ours }
    }

    /// What to send.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.ours
    }

    /// Takes the primary's hello, on a connection whose key TLS observed to be `observed`.
    pub fn on_hello(
        self,
        observed: PublicKey,
        theirs: Hello,
    ) -> Result<AuthenticatedPeer<Primary>, HandshakeError> {
        if observed != self.pinned {
            return Err(HandshakeError::WrongKey);
        }
        let negotiated = negotiate(&self.ours, &theirs)?;
        Ok(AuthenticatedPeer {
            key: observed,
            negotiated,
            software: theirs.software,
            bound: (),
            role: PhantomData,
        })
    }
}

/// What the primary's records say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the key of the workload mounted here.
    Known(MountPoint),
    /// Nothing.
    Unknown,
    /// The owner revoked it.
    Revoked,
}

/// What the primary does with a connection after its hello.
#[derive(Debug)]
#[must_use]
pub enum Accepted {
    /// The peer is admitted, and is to be sent this reply.
    Peer(AuthenticatedPeer<Proxy>, Hello),
    /// The peer may send one join request; it is sent no hello.
    EnrollOnly(EnrollWindow),
    /// The connection is to be closed.
    Refused(CloseCode),
}

/// The primary's side: waits for the proxy's hello.
#[derive(Debug)]
pub struct AcceptHandshake {
    ours: Hello,
    observed: PublicKey,
    admission: Admission,
}

impl AcceptHandshake {
    /// Begins a handshake on a connection whose key TLS observed to be `observed`.
    #[must_use]
    pub fn new(ours: Hello, observed: PublicKey, admission: Admission) -> Self {
        Self { ours, observed, admission }
    }

    /// Takes the proxy's hello. A revoked key learns nothing but that.
    pub fn on_hello(self, theirs: Hello) -> Accepted {
        if self.admission == Admission::Revoked {
            return Accepted::Refused(CloseCode::Revoked);
        }
        let Ok(negotiated) = negotiate(&self.ours, &theirs) else {
            return Accepted::Refused(CloseCode::ProtocolVersion);
        };
        match self.admission {
            Admission::Known(mount_point) => {
                let peer = AuthenticatedPeer {
                    key: self.observed,
                    negotiated,
                    software: theirs.software,
                    bound: mount_point,
                    role: PhantomData,
                };
                Accepted::Peer(peer, self.ours)
            }
            Admission::Unknown => Accepted::EnrollOnly(EnrollWindow::new(self.observed)),
            Admission::Revoked => Accepted::Refused(CloseCode::Revoked),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);
    const OTHER: PublicKey = PublicKey([2; 32]);

    fn hello(proto_min: u16, proto_max: u16, health_interval_ms: u32) -> Hello {
        Hello { proto_min, proto_max, software: Text::truncated("test"), health_interval_ms }
    }

    fn mount_point() -> MountPoint {
        MountPoint::new(Default::default(), "nas".parse().unwrap())
    }

    fn accept(admission: Admission, theirs: Hello) -> Accepted {
        AcceptHandshake::new(hello(1, 1, 0), KEY, admission).on_hello(theirs)
    }

    #[test]
    fn the_highest_common_version_wins() {
        let version = |ours: (u16, u16), theirs: (u16, u16)| {
            negotiate(&hello(ours.0, ours.1, 0), &hello(theirs.0, theirs.1, 0)).map(|n| n.version)
        };
        assert_eq!(version((1, 3), (2, 5)), Ok(3));
        assert_eq!(version((1, 5), (2, 4)), Ok(4));
        assert_eq!(version((1, 1), (2, 3)), Err(HelloError::NoCommonVersion { min: 2, max: 3 }));
        assert_eq!(version((1, 1), (1, 0)), Err(HelloError::EmptyRange { min: 1, max: 0 }));
    }

    #[test]
    fn the_longer_interval_wins_within_bounds() {
        let interval = |ours, theirs| {
            negotiate(&hello(1, 1, ours), &hello(1, 1, theirs)).unwrap().health_interval
        };
        assert_eq!(interval(10_000, 20_000), Duration::from_secs(20));
        assert_eq!(interval(0, 0), limits::HEALTH_INTERVAL_MIN);
        assert_eq!(interval(0, u32::MAX), limits::HEALTH_INTERVAL_MAX);
    }

    #[test]
    fn both_ends_of_a_known_key_authenticate_each_other() {
        let dial = DialHandshake::new(OTHER, hello(1, 1, 5_000));
        let Accepted::Peer(proxy, reply) =
            accept(Admission::Known(mount_point()), dial.hello().clone())
        else {
            panic!("a known key is admitted");
        };
        let primary = dial.on_hello(OTHER, reply).unwrap();
        assert_eq!((proxy.key(), primary.key()), (KEY, OTHER));
        assert_eq!(proxy.negotiated(), primary.negotiated());
        assert_eq!(proxy.mount_point(), &mount_point());
    }

    #[test]
    fn a_hello_over_another_key_is_not_the_primarys() {
        let error =
            DialHandshake::new(KEY, hello(1, 1, 0)).on_hello(OTHER, hello(1, 1, 0)).unwrap_err();
        assert_eq!(error, HandshakeError::WrongKey);
    }

    #[test]
    fn an_unknown_key_may_only_enroll() {
        match accept(Admission::Unknown, hello(1, 1, 0)) {
            Accepted::EnrollOnly(window) => assert_eq!(window.key(), KEY),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_are_typed() {
        let code = |admission, theirs| match accept(admission, theirs) {
            Accepted::Refused(code) => code,
            other => panic!("{other:?}"),
        };
        let known = Admission::Known(mount_point());
        assert_eq!(code(known, hello(2, 2, 0)), CloseCode::ProtocolVersion);
        assert_eq!(code(Admission::Unknown, hello(2, 2, 0)), CloseCode::ProtocolVersion);
        assert_eq!(code(Admission::Revoked, hello(2, 2, 0)), CloseCode::Revoked);
    }
}
