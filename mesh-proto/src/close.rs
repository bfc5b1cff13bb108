//! Why a connection or a stream ends, in numbers both ends know and sentences for people.

use serde::{Deserialize, Serialize};

use crate::frame::{FrameKind, Message};

numbered! {
    /// The application code a QUIC connection is closed with.
    CloseCode: u32 {
        Goodbye = 0 => "the peer ended the connection as announced",
        UnknownKey = 1 => "the primary does not know this node's key; join it with a new ticket",
        ProtocolVersion = 2 => "the two ends have no protocol version in common; update the older one",
        Revoked = 3 => "the owner revoked this workload",
        EnrollDone = 4 => "the join is done; connect again",
        EnrollFailed = 5 => "the join was refused",
        Timeout = 6 => "the peer did not speak in time",
        Replaced = 7 => "a newer connection with the same key took over",
        Violation = 8 => "the peer broke the protocol",
        ShuttingDown = 9 => "the peer is shutting down",
    }
}

numbered! {
    /// The application code a call's stream is reset or stopped with.
    ResetCode: u32 {
        Cancelled = 0 => "the call was cancelled",
        Violation = 1 => "the stream broke the protocol",
        Overloaded = 2 => "too many calls are under way",
        Failed = 3 => "the call's stream could not be served",
    }
}

numbered! {
    /// Why the sender is about to close the connection.
    GoodbyeReason: u8 {
        Leaving = 0 => "leaving",
        ShuttingDown = 1 => "shutting_down",
        Restarting = 2 => "restarting",
        Revoked = 3 => "revoked",
        Replaced = 4 => "replaced",
    }
}

wire_number!(GoodbyeReason);

/// The last frame of a control stream that ends on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
}

impl Message for Goodbye {
    const KIND: FrameKind = FrameKind::Goodbye;
}
