//! The calls that started and have not ended: what a killed process leaves behind.
//!
//! A checkpoint lists those of its moment, so that the next start reads back to the last checkpoint and
//! no further.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{EventType, RecordOutcome};
use super::files::{Backwards, Day, whole_length};
use super::record::Record;
use crate::clock::Timestamp;
use crate::ids::{AgentId, CorrelationId};
use crate::model::plain;

/// A checkpoint lists no more; one without a list says nothing of the lines before it.
const MOST_LISTED: usize = 1000;

/// A call that started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenCall {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_id: Option<String>,
    correlation_id: CorrelationId,
}

impl OpenCall {
    /// A workflow's members share its correlation; what they are on tells them apart.
    fn is_of(&self, other: &Self) -> bool {
        self.correlation_id == other.correlation_id && self.capability_id == other.capability_id
    }

    /// What is recorded of it when nothing else can be.
    pub(super) fn unknown(&self) -> Record {
        let record = Record::new(EventType::Invoke)
            .correlation(&self.correlation_id)
            .outcome(RecordOutcome::Error)
            .detail(&json!({"outcome": "unknown", "phase": "finished"}));
        let record = self.agent_id.iter().fold(record, Record::agent);
        self.capability_id.iter().fold(record, |record, id| record.capability(id))
    }
}

/// What a record means for the calls that are open.
#[derive(Debug)]
pub(super) enum Step {
    Start(OpenCall),
    End(OpenCall),
    Neither,
}

impl Step {
    pub(super) fn of(record: &Record) -> Self {
        let phase = record.detail.as_ref().and_then(|detail| detail.as_value()["phase"].as_str());
        let call = record.correlation.as_ref().map(|correlation| OpenCall {
            agent_id: record.agent.clone(),
            capability_id: record.capability.clone(),
            correlation_id: correlation.clone(),
        });
        Self::new(record.event_type, phase, call)
    }

    fn new(event_type: EventType, phase: Option<&str>, call: Option<OpenCall>) -> Self {
        match (event_type, phase, call) {
            (EventType::Invoke, Some("started"), Some(call)) => Self::Start(call),
            (EventType::Invoke, Some("finished" | "cancelled"), Some(call)) => Self::End(call),
            _ => Self::Neither,
        }
    }
}

/// The calls that are open now, in the order of their start.
#[derive(Debug, Default)]
pub(super) struct OpenCalls(Vec<OpenCall>);

impl OpenCalls {
    /// Takes `step`; returns the step that takes it back.
    pub(super) fn apply(&mut self, step: Step) -> Step {
        match step {
            Step::Start(call) => {
                self.0.push(call.clone());
                Step::End(call)
            }
            Step::End(call) => match self.0.iter().position(|open| open.is_of(&call)) {
                Some(at) => Step::Start(self.0.remove(at)),
                None => Step::Neither,
            },
            Step::Neither => Step::Neither,
        }
    }

    /// The calls as a checkpoint lists them; `None` when there are too many.
    pub(super) fn listed(&self) -> Option<Value> {
        (self.0.len() <= MOST_LISTED).then(|| json!(self.0))
    }
}

/// What the end of the log says.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Calls that started and have no end.
    pub(super) open: Vec<OpenCall>,
    /// The last checkpoint: its number and its time.
    pub(super) checkpoint: Option<(u64, Timestamp)>,
}

/// A line, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    seq: u64,
    at: Timestamp,
    #[serde(rename = "type")]
    event_type: EventType,
    agent_id: Option<AgentId>,
    capability_id: Option<String>,
    correlation_id: Option<CorrelationId>,
    #[serde(default, deserialize_with = "plain::member")]
    detail: Value,
    origin: Option<serde::de::IgnoredAny>,
}

/// Reads back from the end of the log to the last checkpoint that lists what was open.
pub(super) fn left(dir: &Path, days: &[Day]) -> io::Result<Left> {
    let (mut left, mut ended) = (Left::default(), OpenCalls::default());
    'days: for day in days.iter().rev() {
        let mut file = File::open(dir.join(day.file_name()))?;
        let end = whole_length(&mut file)?;
        let mut lines = Backwards::new(file, end);
        while let Some(text) = lines.next_line()? {
            let Ok(seen) = serde_json::from_slice::<Seen>(&text) else { continue };
            // What happened on another node is for that one to close.
            if seen.origin.is_none() && left.look(seen, &mut ended) {
                break 'days;
            }
        }
    }
    left.open.reverse();
    Ok(left)
}

impl Left {
    /// Looks at one more line, going back; true when none before it matters.
    fn look(&mut self, seen: Seen, ended: &mut OpenCalls) -> bool {
        if seen.event_type == EventType::Checkpoint {
            self.checkpoint.get_or_insert((seen.seq, seen.at));
            let listed = Vec::<OpenCall>::deserialize(&seen.detail["open"]);
            return listed.is_ok_and(|listed| {
                listed.into_iter().rev().for_each(|call| self.started(call, ended));
                true
            });
        }
        let Seen { agent_id, capability_id, correlation_id, .. } = seen;
        let call = correlation_id.map(|correlation_id| OpenCall {
            agent_id,
            capability_id,
            correlation_id,
        });
        match Step::new(seen.event_type, seen.detail["phase"].as_str(), call) {
            Step::Start(call) => self.started(call, ended),
            Step::End(call) => ended.0.push(call),
            Step::Neither => {}
        }
        false
    }

    fn started(&mut self, call: OpenCall, ended: &mut OpenCalls) {
        match ended.0.iter().position(|end| end.is_of(&call)) {
            Some(at) => drop(ended.0.remove(at)),
            None => self.open.push(call),
        }
    }
}
