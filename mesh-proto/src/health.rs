//! What a proxy reports about its own sources.
//!
//! Health never changes an address, a mount or a grant, and says nothing about the route.

use serde::{Deserialize, Serialize};

use crate::{
    bounded::{List, Text},
    frame::{FrameKind, Message},
    limits,
};

numbered! {
    /// How a source, or a node as a whole, is doing.
    HealthState: u8 {
        Ok = 0 => "ok",
        Degraded = 1 => "degraded",
        Unavailable = 2 => "unavailable",
        Unknown = 3 => "unknown",
    }
}

wire_number!(HealthState);

/// A report, sent at the agreed interval and on every change.
///
/// It carries no sender's name: the connection's key is the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Counts up within one connection.
    pub seq: u64,
    /// The node as a whole.
    pub overall: HealthState,
    /// Each source.
    pub sources: List<SourceHealth, { limits::HEALTH_SOURCES }>,
}

/// One source's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHealth {
    /// The source's id at its home.
    pub source: Text<{ limits::SOURCE_ID }>,
    /// How it is doing.
    pub state: HealthState,
    /// A few words for the owner.
    pub detail: Option<Text<{ limits::HEALTH_DETAIL }>>,
}

impl Message for Health {
    const KIND: FrameKind = FrameKind::Health;
}
