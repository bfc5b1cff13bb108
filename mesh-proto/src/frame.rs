//! Every frame number, in one enum.
//!
//! On the wire a frame is `u32` big-endian length of (kind byte + body), the kind byte, and the
//! body in postcard.

use serde::{Serialize, de::DeserializeOwned};

use crate::limits;

numbered! {
    /// The kinds of frame. Numbers are never reused.
    FrameKind: u8 {
        Hello = 0x01 => "Hello",
        Enroll = 0x02 => "Enroll",
        EnrollResult = 0x03 => "EnrollResult",
        Mount = 0x10 => "Mount",
        MountAck = 0x11 => "MountAck",
        Health = 0x12 => "Health",
        AuditBatch = 0x13 => "AuditBatch",
        AuditAck = 0x14 => "AuditAck",
        // 0x15 and 0x16 are reserved for SealedSecret and SecretAck.
        Goodbye = 0x1f => "Goodbye",
        Invoke = 0x20 => "Invoke",
        InvokeResult = 0x21 => "InvokeResult",
    }
}

impl FrameKind {
    /// The most bytes that the kind byte and the body may have together.
    #[must_use]
    pub const fn max_len(self) -> usize {
        match self {
            Self::Hello | Self::Enroll | Self::EnrollResult => limits::HANDSHAKE_FRAME,
            Self::Mount
            | Self::MountAck
            | Self::Health
            | Self::AuditBatch
            | Self::AuditAck
            | Self::Goodbye => limits::CONTROL_FRAME,
            Self::Invoke | Self::InvokeResult => limits::INVOKE_FRAME,
        }
    }
}

/// The body of one kind of frame.
pub trait Message: Serialize + DeserializeOwned {
    /// The kind byte it travels under.
    const KIND: FrameKind;
}
