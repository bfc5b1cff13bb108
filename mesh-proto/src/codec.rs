//! Bytes to frame and back, without I/O.
//!
//! 1. A header is read: length and kind, both checked before anything is stored.
//! 2. A body is decoded whole: no byte may be left over, and the value's own encoding must have
//!    the body's length. Every padded integer is longer than its plain form, so that a value has
//!    exactly one encoding.

use postcard::ser_flavors::Size;
use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{FrameKind, Message};

/// Bytes before a body: the length and the kind.
pub const HEADER_LEN: usize = 5;

/// Why a message could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The frame would be over its kind's cap.
    #[error("{kind} frame of {len} bytes is over its cap of {max}")]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// Its kind byte and body, in bytes.
        len: usize,
        /// The most there may be.
        max: usize,
    },
    /// The value has no encoding.
    #[error("value cannot be encoded: {0}")]
    Value(#[from] postcard::Error),
}

/// Why bytes are not the expected message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length says that there is not even a kind.
    #[error("empty frame")]
    Empty,
    /// No frame has this number.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// The frame may not come here.
    #[error("unexpected {0} frame")]
    Unexpected(FrameKind),
    /// The announced length is over the kind's cap.
    #[error("{kind} frame announces {len} bytes, over its cap of {max}")]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// The announced length.
        len: u32,
        /// The most there may be.
        max: usize,
    },
    /// The body is not a value of the kind.
    #[error("malformed {kind} frame: {source}")]
    Malformed {
        /// The frame's kind.
        kind: FrameKind,
        /// Where decoding stopped.
        source: BodyError,
    },
}

/// Why a body is not the one encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is no value at all.
    #[error("{0}")]
    Value(#[from] postcard::Error),
    /// Bytes follow the value.
    #[error("bytes after the value")]
    Trailing,
    /// A shorter encoding of the same value exists.
    #[error("not the shortest encoding")]
    Padded,
}

/// A frame's announced kind and size, within its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    kind: FrameKind,
    body_len: usize,
}

impl FrameHeader {
    /// Reads a header and holds it against the kind's cap.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let [a, b, c, d, kind] = bytes;
        let len = u32::from_be_bytes([a, b, c, d]);
        if len == 0 {
            return Err(DecodeError::Empty);
        }
        let kind = FrameKind::from_number(kind).ok_or(DecodeError::UnknownKind(kind))?;
        let max = kind.max_len();
        match usize::try_from(len) {
            Ok(len) if len <= max => Ok(Self { kind, body_len: len - 1 }),
            _ => Err(DecodeError::TooLong { kind, len, max }),
        }
    }

    /// The kind of frame.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The body's length in bytes: what storing it will take.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body_len
    }
}

/// A whole frame whose body is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// What the body claims to be.
    pub kind: FrameKind,
    /// The body in postcard.
    pub body: Vec<u8>,
}

impl RawFrame {
    /// Decodes the body as `M`.
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        decode(self.kind, &self.body)
    }
}

/// The whole frame of a message, length included.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let kind = M::KIND;
    let len = 1 + encoded_len(message)?;
    let max = kind.max_len();
    let announced = match u32::try_from(len) {
        Ok(announced) if len <= max => announced,
        _ => return Err(EncodeError::TooLong { kind, len, max }),
    };
    let mut frame = vec![0; HEADER_LEN - 1 + len];
    let (header, body) = frame.split_at_mut(HEADER_LEN);
    header[..4].copy_from_slice(&announced.to_be_bytes());
    header[4] = kind.number();
    postcard::to_slice(message, body)?;
    Ok(frame)
}

/// The message in a frame's body, if the frame is of its kind.
pub fn decode<M: Message>(kind: FrameKind, body: &[u8]) -> Result<M, DecodeError> {
    if kind != M::KIND {
        return Err(DecodeError::Unexpected(kind));
    }
    decode_exact(body).map_err(|source| DecodeError::Malformed { kind, source })
}

/// The value whose one encoding these bytes are.
pub(crate) fn decode_exact<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes)?;
    if !rest.is_empty() {
        return Err(BodyError::Trailing);
    }
    if encoded_len(&value)? != bytes.len() {
        return Err(BodyError::Padded);
    }
    Ok(value)
}

fn encoded_len<T: Serialize>(value: &T) -> Result<usize, postcard::Error> {
    postcard::serialize_with_flavor(value, Size::default())
}
