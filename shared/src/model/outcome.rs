//! What a call comes to.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use super::denial::Denial;
use super::scope::ScopedToken;
use crate::ids::EventId;

/// What a call gave back, in the home's own bytes.
#[derive(Clone, Debug)]
pub enum Output {
    /// A capability's output.
    Json(Box<RawValue>),
    /// An MCP server's result, verbatim.
    Mcp(Box<RawValue>),
}

/// What dispatching a call came to.
pub type Outcome = Result<Output, Denial>;

/// The answer to one call; on the wire the contract's `InvokeResponse`, for success and refusal alike.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The id that was asked for, as asked.
    pub id: String,
    /// What it came to.
    pub outcome: Outcome,
    /// The record of it; `None` only when the request failed before there was anything to record.
    pub audit_id: Option<EventId>,
    /// The token minted for this call, when it was asked for without one.
    pub grant: Option<ScopedToken>,
}

impl Reply {
    /// A refusal at the edge: nothing was recorded, for there was no one to record it of.
    pub fn edge(id: impl Into<String>, denial: Denial) -> Self {
        Self { id: id.into(), outcome: Err(denial), audit_id: None, grant: None }
    }
}

impl Serialize for Reply {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("ok", &self.outcome.is_ok())?;
        match &self.outcome {
            Ok(Output::Json(output)) => map.serialize_entry("output", output)?,
            Ok(Output::Mcp(result)) => map.serialize_entry("mcpResult", result)?,
            Err(denial) => map.serialize_entry("error", denial)?,
        }
        if let Some(grant) = &self.grant {
            map.serialize_entry("grant", grant)?;
        }
        map.serialize_entry("auditId", self.audit_id.as_ref().map_or("", EventId::as_str))?;
        map.end()
    }
}
