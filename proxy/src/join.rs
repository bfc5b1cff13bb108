//! Joining: how this node's key becomes known to the primary.
//!
//! 1. The ticket names the primary's key; nobody else is spoken to.
//! 2. `Hello` and the join request go together, since the primary does not answer an unknown key's
//!    `Hello`.
//! 3. `Joined` means that the primary has it on disk. Only then is it kept here.
//!
//! Doing it again does no harm: a primary that knows the key already, because its answer was lost the
//! first time, says `Hello`, and this node has joined. When the answer does not come the key is
//! therefore tried once more, without the ticket.

use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::enroll::{
    EXPORTER_LABEL, EXPORTER_LEN, Enroll, EnrollRefusal, EnrollResult,
};
use plexus_mesh_proto::identity::{NodeKey, PublicKey};
use plexus_mesh_proto::io::{self, ToProxy};
use plexus_mesh_proto::limits;
use plexus_mesh_proto::ticket::Ticket;
use tokio::time::timeout;

use crate::control::Cause;
use crate::dial::{self, Dialed, Dialer, DialerError, Unreachable};
use crate::link;
use crate::state::{Joined, State, StateError};

/// Why this node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The primary said no.
    #[error("the primary refused: {0}: {advice}", advice = advice(*.0))]
    Refused(EnrollRefusal),
    /// This node has joined someone else.
    #[error(
        "this state folder belongs to another primary (key {}); use another --state for this one, or \
         remove joined.json to leave that one",
        .0.fingerprint()
    )]
    Elsewhere(PublicKey),
    /// The primary closed the connection with its reason.
    #[error("the primary refused: {}", link::advice(*.0).unwrap_or(.0.as_str()))]
    Closed(CloseCode),
    /// The two do not understand each other.
    #[error("{0}")]
    Broken(Cause),
    /// Nobody with the primary's key answered.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no way to dial.
    #[error(transparent)]
    Dialer(#[from] DialerError),
}

/// What to do about a refusal.
fn advice(refusal: EnrollRefusal) -> &'static str {
    match refusal {
        EnrollRefusal::Malformed => "the two versions may not fit; update the older program",
        EnrollRefusal::BadToken => {
            "the primary does not know this ticket; make a new one with `plexus mesh invite`"
        }
        EnrollRefusal::TokenConsumed => {
            "the ticket was used before; make a new one with `plexus mesh invite`"
        }
        EnrollRefusal::TokenExpired => {
            "the ticket came too late; make a new one with `plexus mesh invite`"
        }
        EnrollRefusal::WorkloadTaken => {
            "another node has the ticket's name; invite this one under another name, or revoke that one"
        }
        EnrollRefusal::EncryptionRequired => "the connection is not encrypted",
        EnrollRefusal::Revoked => {
            "the owner revoked this key or withdrew the ticket; remove identity.key from the state \
             folder and join with a new ticket"
        }
        EnrollRefusal::PersistFailed => {
            "the primary could not write it down; mend its disk and use the same ticket again"
        }
        EnrollRefusal::ProtocolVersion => "update the older of the two programs",
    }
}

/// How a join came out.
#[derive(Debug)]
pub struct Outcome {
    /// The primary, as it is kept.
    pub joined: Joined,
    /// The primary knew this node's key already: the ticket was not used.
    pub known_before: bool,
}

/// Joins the primary that `ticket` names and keeps that in `state`.
///
/// # Errors
/// See [`JoinError`]; nothing is kept then.
pub async fn join(state: &State, ticket: &Ticket) -> Result<Outcome, JoinError> {
    match state.joined() {
        Ok(before) if before.primary_key != ticket.primary_key => {
            return Err(JoinError::Elsewhere(before.primary_key));
        }
        Ok(_) | Err(StateError::NotJoined) => {}
        Err(error) => return Err(error.into()),
    }
    let node = state.node_key()?;
    let joined = Joined { primary_key: ticket.primary_key, addresses: ticket.addresses.to_vec() };
    let mut dialer = Dialer::new(&node, joined.primary_key, joined.addresses.clone())?;
    let result = enroll(&mut dialer, &node, ticket).await;
    dialer.close(CloseCode::Goodbye).await;
    let known_before = result?;
    state.keep_joined(&joined)?;
    Ok(Outcome { joined, known_before })
}

/// Asks to be let in; whether the primary knew this node before.
async fn enroll(dialer: &mut Dialer, node: &NodeKey, ticket: &Ticket) -> Result<bool, JoinError> {
    let dialed = dialer.dial().await?;
    let asked = timeout(2 * limits::ENROLL_TIME, ask(&dialed, node, ticket)).await;
    let cause = match asked.unwrap_or(Err(Cause::TimedOut)) {
        Ok(Heard::Answer(EnrollResult::Joined)) => return Ok(false),
        Ok(Heard::Answer(EnrollResult::Refused { code })) => return Err(JoinError::Refused(code)),
        Ok(Heard::KnownBefore) => return Ok(true),
        Err(cause) => cause,
    };
    dial::close(&dialed.connection, CloseCode::Goodbye);
    if !cause.is_rejection() && is_known(dialer).await? {
        return Ok(false);
    }
    Err(match cause {
        Cause::Closed(code) => JoinError::Closed(code),
        cause => JoinError::Broken(cause),
    })
}

/// What the primary says to a join request.
enum Heard {
    Answer(EnrollResult),
    KnownBefore,
}

async fn ask(dialed: &Dialed, node: &NodeKey, ticket: &Ticket) -> Result<Heard, Cause> {
    let (handshake, mut send, mut recv) = link::open(dialed, limits::HEALTH_INTERVAL_MIN).await?;
    let connection = &dialed.connection;
    let mut exporter = [0; EXPORTER_LEN];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| Cause::Lost("the session gives no keying value".to_owned()))?;
    let request = Enroll::new(node, &ticket.primary_key, &exporter, ticket.token.clone());
    let written = io::write_frame(&mut send, &request).await;
    written.map_err(|error| link::why_over(connection, Cause::Lost(error.to_string())))?;
    match ToProxy::read(&mut recv).await {
        Ok(Some(ToProxy::EnrollResult(result))) => Ok(Heard::Answer(result)),
        Ok(Some(ToProxy::Hello(theirs))) => match handshake.on_hello(dialed.observed, theirs) {
            Ok(_) => Ok(Heard::KnownBefore),
            Err(error) => Err(Cause::Disbelieved(error)),
        },
        Ok(Some(_)) => Err(Cause::Violation("no answer to the join request".to_owned())),
        Ok(None) => {
            Err(link::why_over(connection, Cause::Lost("the control stream ended".to_owned())))
        }
        Err(error) => Err(link::why_over(connection, Cause::of_read(error))),
    }
}

/// Whether the primary admits this node's key as it is.
async fn is_known(dialer: &mut Dialer) -> Result<bool, JoinError> {
    let dialed = dialer.dial().await?;
    let greeting = link::greet(&dialed, limits::HEALTH_INTERVAL_MIN);
    let known = matches!(timeout(limits::ENROLL_TIME, greeting).await, Ok(Ok(_)));
    dial::close(&dialed.connection, CloseCode::Goodbye);
    Ok(known)
}
