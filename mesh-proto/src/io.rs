//! Frames over any `AsyncRead` and `AsyncWrite`.
//!
//! None of these functions has a deadline: the caller owns the stream and its time. Dropping one
//! half-way leaves the stream between frames' boundaries, so a reader lives in one task.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    audit::{AuditAck, AuditBatch},
    catalog::{Mount, MountAck},
    close::Goodbye,
    codec::{self, DecodeError, EncodeError, FrameHeader, HEADER_LEN, RawFrame},
    enroll::{Enroll, EnrollResult},
    frame::{FrameKind, Message},
    health::Health,
    hello::Hello,
};

/// The most memory taken ahead of the bytes that fill it.
const READ_AHEAD: usize = 64 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream failed.
    #[error("stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended within a frame.
    #[error("stream ended within a frame")]
    Truncated,
    /// The bytes are not an acceptable frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a message was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream failed.
    #[error("stream failed: {0}")]
    Io(#[from] io::Error),
    /// The message has no frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Reads a frame's header, if its kind is one of `allowed`; `None` if the stream ended before it.
///
/// Between this and [`read_body`] a caller can wait for room.
pub async fn read_header<R: AsyncRead + Unpin>(
    reader: &mut R,
    allowed: &[FrameKind],
) -> Result<Option<FrameHeader>, ReadError> {
    let mut bytes = [0; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match reader.read(&mut bytes[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(ReadError::Truncated),
            n => filled += n,
        }
    }
    let header = FrameHeader::parse(bytes)?;
    if !allowed.contains(&header.kind()) {
        return Err(DecodeError::Unexpected(header.kind()).into());
    }
    Ok(Some(header))
}

/// Reads the body that a header announced; memory grows as bytes arrive and never past the body.
pub async fn read_body<R: AsyncRead + Unpin>(
    reader: &mut R,
    header: FrameHeader,
) -> Result<RawFrame, ReadError> {
    let mut body = Vec::new();
    while body.len() < header.body_len() {
        let missing = header.body_len() - body.len();
        let room = missing.min(body.len().max(READ_AHEAD));
        let start = body.len();
        body.reserve_exact(room);
        body.resize(start + room, 0);
        fill(reader, &mut body[start..]).await?;
    }
    Ok(RawFrame { kind: header.kind(), body })
}

/// Reads one frame of an allowed kind; `None` if the stream ended at a frame's boundary.
pub async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    allowed: &[FrameKind],
) -> Result<Option<RawFrame>, ReadError> {
    match read_header(reader, allowed).await? {
        Some(header) => read_body(reader, header).await.map(Some),
        None => Ok(None),
    }
}

/// Reads one message of exactly this kind; `None` if the stream ended at a frame's boundary.
pub async fn read_message<M: Message>(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Option<M>, ReadError> {
    match read_frame(reader, &[M::KIND]).await? {
        Some(frame) => Ok(Some(frame.decode()?)),
        None => Ok(None),
    }
}

/// Writes one message as a whole frame.
///
/// After an error or a drop the stream must be reset, not finished: part of a frame may be out.
pub async fn write_frame<M: Message>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), WriteError> {
    let frame = codec::encode(message)?;
    writer.write_all(&frame).await?;
    writer.flush().await?;
    Ok(())
}

async fn fill<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut [u8]) -> Result<(), ReadError> {
    match reader.read_exact(buffer).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Truncated),
        Err(error) => Err(error.into()),
    }
}

/// The closed set of messages that one end of the control stream may receive.
macro_rules! inbound {
    ($(#[$meta:meta])* $name:ident { $($kind:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub enum $name {
            $(#[doc = concat!("A `", stringify!($kind), "` frame.")] $kind($kind),)+
        }

        impl $name {
            /// The kinds that belong to the set.
            pub const KINDS: &'static [FrameKind] = &[$(FrameKind::$kind,)+];

            /// Decodes a frame of the set; any other kind is unexpected.
            pub fn decode(frame: &RawFrame) -> Result<Self, DecodeError> {
                match frame.kind {
                    $(FrameKind::$kind => frame.decode().map(Self::$kind),)+
                    other => Err(DecodeError::Unexpected(other)),
                }
            }

            /// Reads the next message; `None` if the stream ended at a frame's boundary.
            pub async fn read<R: AsyncRead + Unpin>(
                reader: &mut R,
            ) -> Result<Option<Self>, ReadError> {
                match read_frame(reader, Self::KINDS).await? {
                    Some(frame) => Ok(Some(Self::decode(&frame)?)),
                    None => Ok(None),
                }
            }
        }
    };
}

inbound! {
    /// What the primary may receive on the control stream.
    ToPrimary { Hello, Enroll, Mount, Health, AuditBatch, Goodbye, }
}

inbound! {
    /// What a proxy may receive on the control stream.
    ToProxy { Hello, EnrollResult, MountAck, AuditAck, Goodbye, }
}
