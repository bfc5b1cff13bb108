//! How an unknown key becomes a workload's key.
//!
//! 1. The proxy sends [`Enroll`]: the ticket's token, and its signature over this session.
//! 2. The primary admits in a fixed order: shape, token, signature, workload. The first fault is
//!    the one told.
//! 3. The primary writes the record and the token's consumption to disk, then replies. A write
//!    that fails consumes nothing; a reply that is lost is healed by the next connect, since the
//!    key is known by then.
//!
//! An attacker would present a token on a session of its own while relaying to the real primary
//! (the signature covers this session's exported keying value and both keys), use a signature of
//! another purpose or direction (it covers a label and a role), or ask twice on one connection
//! (an [`EnrollWindow`] is spent by the first attempt).

use serde::{Deserialize, Serialize};

use crate::{
    address::MountPoint,
    codec::RawFrame,
    frame::{FrameKind, Message},
    identity::{NodeKey, PublicKey, Signature},
    ticket::JoinToken,
};

/// The label under which both ends export this session's keying value; the context is empty.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-plexus-mesh-1-enroll";

/// Bytes of the exported keying value.
pub const EXPORTER_LEN: usize = 32;

/// Sets a join's signature apart from every other signature of the same key.
const TRANSCRIPT_LABEL: &[u8] = b"plexus-mesh/1 enroll transcript";

/// Whose signature it is.
const ROLE_TAG: &[u8] = b"proxy";

/// This session's exported keying value.
pub type Exporter = [u8; EXPORTER_LEN];

/// A join request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The ticket's token.
    pub token: JoinToken,
    /// The proxy's signature over the session and the token.
    pub signature: Signature,
}

impl Message for Enroll {
    const KIND: FrameKind = FrameKind::Enroll;
}

impl Enroll {
    /// The request of `node` on the session with this exported keying value.
    #[must_use]
    pub fn new(node: &NodeKey, primary: &PublicKey, exporter: &Exporter, token: JoinToken) -> Self {
        let signature = sign_transcript(node, primary, exporter, &token);
        Self { token, signature }
    }
}

/// The primary's answer to a join request; the connection closes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrollResult {
    /// The key is known from now on; connect again.
    Joined,
    /// It is not.
    Refused {
        /// Why.
        code: EnrollRefusal,
    },
}

impl Message for EnrollResult {
    const KIND: FrameKind = FrameKind::EnrollResult;
}

numbered! {
    /// Why a join is refused.
    EnrollRefusal: u8 {
        /// The request is not one.
        Malformed = 1 => "malformed",
        /// The token is unknown, or was not presented by the holder of the connection's key on
        /// this session.
        BadToken = 2 => "bad_token",
        /// The token was used.
        TokenConsumed = 3 => "token_consumed",
        /// The token came too late.
        TokenExpired = 4 => "token_expired",
        /// The name belongs to another key.
        WorkloadTaken = 5 => "workload_taken",
        /// The carrier is not encrypted; QUIC always is.
        EncryptionRequired = 6 => "encryption_required",
        /// The owner revoked the key or withdrew the invitation.
        Revoked = 7 => "revoked",
        /// The primary could not write its record; the token is still good.
        PersistFailed = 8 => "persist_failed",
        /// There is no common protocol version.
        ProtocolVersion = 9 => "protocol_version",
    }
}

wire_number!(EnrollRefusal);

/// Signs what a join request must cover.
#[must_use]
pub fn sign_transcript(
    node: &NodeKey,
    primary: &PublicKey,
    exporter: &Exporter,
    token: &JoinToken,
) -> Signature {
    node.sign(&transcript(primary, &node.public(), exporter, token))
}

/// Whether `proxy` signed what its join request must cover.
#[must_use]
pub fn verify_transcript(
    proxy: &PublicKey,
    primary: &PublicKey,
    exporter: &Exporter,
    token: &JoinToken,
    signature: &Signature,
) -> bool {
    proxy.verify(&transcript(primary, proxy, exporter, token), signature)
}

/// Parts of fixed lengths, so that no two transcripts share their bytes.
fn transcript(
    primary: &PublicKey,
    proxy: &PublicKey,
    exporter: &Exporter,
    token: &JoinToken,
) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(
        [
            TRANSCRIPT_LABEL,
            ROLE_TAG,
            exporter,
            primary.as_bytes(),
            proxy.as_bytes(),
            token.as_bytes(),
        ]
        .concat(),
    )
}

/// The right of one unknown key to one attempt, from the handshake.
#[derive(Debug)]
pub struct EnrollWindow {
    proxy: PublicKey,
}

impl EnrollWindow {
    pub(crate) fn new(proxy: PublicKey) -> Self {
        Self { proxy }
    }

    /// The key that asks.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.proxy
    }

    /// Spends the window on the frame that came; anything but a join request is `Malformed`.
    pub fn attempt(
        self,
        frame: &RawFrame,
        primary: PublicKey,
        exporter: Exporter,
    ) -> Result<EnrollAttempt, EnrollRefusal> {
        let enroll = frame.decode().map_err(|_| EnrollRefusal::Malformed)?;
        Ok(EnrollAttempt { enroll, proxy: self.proxy, primary, exporter })
    }
}

/// A join request in good shape, on the session it came by.
#[derive(Debug)]
pub struct EnrollAttempt {
    enroll: Enroll,
    proxy: PublicKey,
    primary: PublicKey,
    exporter: Exporter,
}

impl EnrollAttempt {
    /// The key that asks.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.proxy
    }

    /// What to look the token up by.
    #[must_use]
    pub fn token_hash(&self) -> [u8; 32] {
        self.enroll.token.hash()
    }
}

/// What the primary's records say of a token's hash. A token both consumed and expired is
/// `Consumed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLookup {
    /// Nothing.
    Unknown,
    /// It was used.
    Consumed,
    /// Its time is over.
    Expired,
    /// It is good.
    Live {
        /// The workload it invites.
        mount_point: MountPoint,
        /// Whether it was made to give an existing workload a new key.
        rotate: bool,
    },
}

/// What the primary's records say of the invited workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadState {
    /// No key has the name.
    Free,
    /// A key has the name.
    Taken,
    /// The asking key, or the invitation, was revoked.
    Revoked,
}

/// Decides an attempt: token, then signature, then workload. The first fault is the one told.
pub fn admit(
    attempt: &EnrollAttempt,
    lookup: TokenLookup,
    workload: WorkloadState,
) -> Result<Admitted, EnrollRefusal> {
    let (mount_point, rotate) = match lookup {
        TokenLookup::Unknown => return Err(EnrollRefusal::BadToken),
        TokenLookup::Consumed => return Err(EnrollRefusal::TokenConsumed),
        TokenLookup::Expired => return Err(EnrollRefusal::TokenExpired),
        TokenLookup::Live { mount_point, rotate } => (mount_point, rotate),
    };
    let signed = verify_transcript(
        &attempt.proxy,
        &attempt.primary,
        &attempt.exporter,
        &attempt.enroll.token,
        &attempt.enroll.signature,
    );
    if !signed {
        return Err(EnrollRefusal::BadToken);
    }
    match workload {
        WorkloadState::Revoked => return Err(EnrollRefusal::Revoked),
        WorkloadState::Taken if !rotate => return Err(EnrollRefusal::WorkloadTaken),
        WorkloadState::Taken | WorkloadState::Free => {}
    }
    Ok(Admitted { mount_point, key: attempt.proxy, token_hash: attempt.token_hash() })
}

/// The proof that an attempt passed, and what is to be on disk before the reply.
#[derive(Debug)]
#[must_use = "a join counts once it is on disk"]
pub struct Admitted {
    mount_point: MountPoint,
    key: PublicKey,
    token_hash: [u8; 32],
}

impl Admitted {
    /// Where the workload will be mounted.
    #[must_use]
    pub fn mount_point(&self) -> &MountPoint {
        &self.mount_point
    }

    /// The key to bind to it, in place of any it had.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The token to mark as consumed.
    #[must_use]
    pub fn token_hash(&self) -> &[u8; 32] {
        &self.token_hash
    }

    /// The reply once record and consumption are on disk, or once writing them failed.
    #[must_use]
    pub fn reply<E>(self, written: &Result<(), E>) -> EnrollResult {
        match written {
            Ok(()) => EnrollResult::Joined,
            Err(_) => EnrollResult::Refused { code: EnrollRefusal::PersistFailed },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use zeroize::Zeroizing;

    use super::*;
    use crate::codec;

    const EXPORTER: Exporter = [7; EXPORTER_LEN];

    fn node(fill: u8) -> NodeKey {
        NodeKey::from_seed(Zeroizing::new([fill; 32])).unwrap()
    }

    fn token() -> JoinToken {
        JoinToken::from_bytes([9; 32])
    }

    fn live(rotate: bool) -> TokenLookup {
        TokenLookup::Live {
            mount_point: MountPoint::new(Default::default(), "nas".parse().unwrap()),
            rotate,
        }
    }

    fn frame(enroll: &Enroll) -> RawFrame {
        RawFrame {
            kind: FrameKind::Enroll,
            body: codec::encode(enroll).unwrap()[codec::HEADER_LEN..].to_vec(),
        }
    }

    /// An attempt of node 1 at primary node 2, signed well or for another session.
    fn attempt(signed_well: bool) -> EnrollAttempt {
        let signed = if signed_well { EXPORTER } else { [8; 32] };
        let enroll = Enroll::new(&node(1), &node(2).public(), &signed, token());
        EnrollWindow::new(node(1).public())
            .attempt(&frame(&enroll), node(2).public(), EXPORTER)
            .unwrap()
    }

    #[test]
    fn the_first_fault_is_the_one_told() {
        use EnrollRefusal as R;
        use WorkloadState::{Free, Revoked, Taken};
        let table = [
            (TokenLookup::Unknown, false, Taken, Some(R::BadToken)),
            (TokenLookup::Consumed, false, Taken, Some(R::TokenConsumed)),
            (TokenLookup::Expired, false, Taken, Some(R::TokenExpired)),
            (live(false), false, Taken, Some(R::BadToken)),
            (live(false), false, Revoked, Some(R::BadToken)),
            (live(false), true, Taken, Some(R::WorkloadTaken)),
            (live(false), true, Revoked, Some(R::Revoked)),
            (live(true), true, Revoked, Some(R::Revoked)),
            (live(true), true, Taken, None),
            (live(true), true, Free, None),
            (live(false), true, Free, None),
        ];
        for (lookup, signed_well, workload, expected) in table {
            let case = format!("{lookup:?}, signed well: {signed_well}, {workload:?}");
            let refusal = admit(&attempt(signed_well), lookup, workload).err();
            assert_eq!(refusal, expected, "{case}");
        }
    }

    #[test]
    fn what_is_no_request_is_malformed_before_anything_else() {
        let enroll = Enroll::new(&node(1), &node(2).public(), &EXPORTER, token());
        let mut short = frame(&enroll);
        short.body.pop();
        let mut long = frame(&enroll);
        long.body.push(0);
        let mut other = frame(&enroll);
        other.kind = FrameKind::Mount;
        for bad in [short, long, other] {
            let refusal =
                EnrollWindow::new(node(1).public()).attempt(&bad, node(2).public(), EXPORTER).err();
            assert_eq!(refusal, Some(EnrollRefusal::Malformed));
        }
    }

    #[test]
    fn an_admitted_attempt_names_what_to_persist() {
        let admitted = admit(&attempt(true), live(false), WorkloadState::Free).unwrap();
        assert_eq!(admitted.key(), node(1).public());
        assert_eq!(admitted.token_hash(), &token().hash());
        assert_eq!(admitted.mount_point().to_string(), "local/nas");
        assert_eq!(admitted.reply(&Ok::<_, ()>(())), EnrollResult::Joined);
    }

    #[test]
    fn a_failed_write_is_told() {
        let admitted = admit(&attempt(true), live(false), WorkloadState::Free).unwrap();
        assert_eq!(
            admitted.reply(&Err("disk full")),
            EnrollResult::Refused { code: EnrollRefusal::PersistFailed }
        );
    }

    #[test]
    fn a_signature_covers_session_keys_and_token() {
        let (proxy, primary) = (node(1), node(2).public());
        let signature = sign_transcript(&proxy, &primary, &EXPORTER, &token());
        let check = |proxy: &PublicKey, primary: &PublicKey, exporter: &Exporter, token| {
            verify_transcript(proxy, primary, exporter, token, &signature)
        };
        let (key, other) = (proxy.public(), node(3).public());
        let (token, other_token) = (token(), JoinToken::from_bytes([0; 32]));
        assert!(check(&key, &primary, &EXPORTER, &token));
        assert!(!check(&other, &primary, &EXPORTER, &token));
        assert!(!check(&key, &other, &EXPORTER, &token));
        assert!(!check(&key, &primary, &[0; 32], &token));
        assert!(!check(&key, &primary, &EXPORTER, &other_token));
    }
}
