//! The control stream: one task-like future that writes it, one that reads it.
//!
//! Whoever has something to say puts a whole frame into a short queue (the outbox); only the writer
//! touches the stream, so that frames never mix. What comes in is handed to whom it concerns. Anything
//! that does not belong here is a violation and ends the connection.

use std::time::Duration;

use plexus_mesh_proto::catalog::MountAck;
use plexus_mesh_proto::close::{CloseCode, GoodbyeReason};
use plexus_mesh_proto::codec::{self, EncodeError};
use plexus_mesh_proto::frame::Message;
use plexus_mesh_proto::hello::HandshakeError;
use plexus_mesh_proto::io::{ReadError, ToProxy};
use quinn::{RecvStream, SendStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Control frames go before the bytes of any result.
pub(crate) const PRIORITY: i32 = 10;

/// Frames that wait for the writer.
const QUEUE: usize = 8;

/// How long the primary may leave one frame unread.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// The most refused entries that are named in the log.
const NAMED_REFUSALS: usize = 20;

/// Why a tunnel is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This node was told to stop.
    Stopped,
    /// The peer said goodbye.
    Goodbye(GoodbyeReason),
    /// The peer closed the connection with one of our codes.
    Closed(CloseCode),
    /// The peer's hello is not one to go on with.
    Disbelieved(HandshakeError),
    /// The peer broke the protocol.
    Violation(String),
    /// The peer did not speak or read in time.
    TimedOut,
    /// The connection broke.
    Lost(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => write!(f, "this node is stopping"),
            Self::Goodbye(reason) => write!(f, "the primary said goodbye: {reason}"),
            Self::Closed(code) => write!(f, "{code}"),
            Self::Disbelieved(error) => write!(f, "{error}"),
            Self::Violation(what) => write!(f, "the primary broke the protocol: {what}"),
            Self::TimedOut => write!(f, "the primary did not answer in time"),
            Self::Lost(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

impl Cause {
    /// What to close the connection with.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            Self::Stopped => CloseCode::ShuttingDown,
            Self::Disbelieved(error) => error.close_code(),
            Self::Violation(_) => CloseCode::Violation,
            Self::TimedOut => CloseCode::Timeout,
            Self::Goodbye(_) | Self::Closed(_) | Self::Lost(_) => CloseCode::Goodbye,
        }
    }

    /// Whether there is no use in coming back soon: the primary said that it will not have this node
    /// as it is, or the two do not understand each other.
    pub(crate) fn is_rejection(&self) -> bool {
        match self {
            Self::Disbelieved(_) => true,
            Self::Closed(code) => matches!(
                code,
                CloseCode::UnknownKey
                    | CloseCode::ProtocolVersion
                    | CloseCode::Revoked
                    // Two nodes with one key would take the tunnel from each other without end.
                    | CloseCode::Replaced
            ),
            Self::Goodbye(reason) => {
                matches!(reason, GoodbyeReason::Revoked | GoodbyeReason::Replaced)
            }
            _ => false,
        }
    }

    /// What a failed read of the control stream comes to.
    pub(crate) fn of_read(error: ReadError) -> Self {
        match error {
            ReadError::Decode(error) => Self::Violation(error.to_string()),
            ReadError::Io(_) | ReadError::Truncated => Self::Lost(error.to_string()),
        }
    }
}

/// The queue to the writer.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(mpsc::Sender<Vec<u8>>);

impl Outbox {
    /// Queues `message`, waiting for room.
    pub(crate) async fn say<M: Message>(&self, message: &M) -> Result<(), Cause> {
        let frame = codec::encode(message).map_err(|error: EncodeError| {
            tracing::error!(%error, "a frame could not be made");
            Cause::Lost("a frame of ours could not be made".to_owned())
        })?;
        let gone = |_| Cause::Lost("the control stream is no longer written".to_owned());
        self.0.send(frame).await.map_err(gone)
    }
}

/// A queue and its end for [`write()`].
pub(crate) fn outbox() -> (Outbox, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Outbox(sender), receiver)
}

/// Writes what is queued until nobody can queue any more; then all of it is written.
pub(crate) async fn write(
    mut send: SendStream,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Cause> {
    while let Some(frame) = queue.recv().await {
        match timeout(WRITE_TIME, send.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Cause::Lost(error.to_string())),
            Err(_) => return Err(Cause::TimedOut),
        }
    }
    let _ = send.finish();
    // Acknowledged, or nobody is there to do so.
    let _ = timeout(WRITE_TIME, send.stopped()).await;
    Ok(())
}

/// Reads until the stream is over; acknowledgements of the audit go to `acked`.
pub(crate) async fn read(recv: &mut RecvStream, acked: &watch::Sender<Option<u64>>) -> Cause {
    loop {
        match ToProxy::read(recv).await {
            Ok(Some(ToProxy::MountAck(ack))) => mounted(&ack),
            Ok(Some(ToProxy::AuditAck(ack))) => drop(acked.send_replace(Some(ack.through))),
            Ok(Some(ToProxy::Goodbye(goodbye))) => return Cause::Goodbye(goodbye.reason),
            Ok(Some(ToProxy::Hello(_))) => return unexpected("Hello"),
            Ok(Some(ToProxy::EnrollResult(_))) => return unexpected("EnrollResult"),
            Ok(None) => return Cause::Lost("the control stream ended".to_owned()),
            Err(error) => return Cause::of_read(error),
        }
    }
}

fn unexpected(frame: &str) -> Cause {
    Cause::Violation(format!("unexpected {frame} frame"))
}

fn mounted(ack: &MountAck) {
    tracing::info!(mounted = ack.mounted, refused = ack.refused.len(), "the primary mounted");
    for refused in ack.refused.iter().take(NAMED_REFUSALS) {
        tracing::warn!(id = %refused.id.escape_debug(), reason = %refused.reason.escape_debug(),
            "the primary did not mount an entry");
    }
}
