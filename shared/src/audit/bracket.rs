//! The rows of one call, kept together.
//!
//! 1. [`Bracket::open`] before anything else: it knows what every row of the call says.
//! 2. [`Bracket::deny`] writes the one row of a call that was refused.
//! 3. Otherwise [`Bracket::start`] (a call that changes something: its first row is written before
//!    it is dispatched) or [`Bracket::read_only`] (no row yet) makes the bracket [`InFlight`].
//! 4. [`InFlight::close`] writes the row of what the call came to. A call that is dropped in flight
//!    (the client went away, the task was cancelled) leaves one too, that says so.

use std::sync::Arc;

use serde_json::{Value, json};

use super::event::{EventType, RecordOutcome};
use super::record::Record;
use super::{AuditSink, AuditUnavailable};
use crate::ids::{CorrelationId, EventId};
use crate::model::denial::Denial;
use crate::model::outcome::{Outcome, Output};
use crate::redact::Secrets;

/// A call nothing has been decided about.
#[derive(Debug)]
#[must_use = "a call leaves a row: deny it, or start it and close it"]
pub struct Bracket {
    sink: Arc<dyn AuditSink>,
    base: Record,
}

/// A call that is being dispatched.
#[derive(Debug)]
#[must_use = "dropping this records the call as cancelled"]
pub struct InFlight {
    sink: Arc<dyn AuditSink>,
    base: Record,
    started: bool,
    closed: bool,
}

impl Bracket {
    /// A bracket whose rows all say what `base` says, joined by `correlation`.
    pub fn open(sink: Arc<dyn AuditSink>, base: Record, correlation: &CorrelationId) -> Self {
        Self { sink, base: base.correlation(correlation) }
    }

    /// What every row of the call says from now on, beyond what it said so far.
    pub fn refine(self, more: impl FnOnce(Record) -> Record) -> Self {
        Self { sink: self.sink, base: more(self.base) }
    }

    /// Records that the call was refused.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn deny(self, denial: &Denial) -> Result<EventId, AuditUnavailable> {
        let row = self.base.outcome(RecordOutcome::Denied).detail(&refusal(denial));
        self.sink.append(row)
    }

    /// Records that the call is about to be dispatched: for one that writes or executes.
    ///
    /// # Errors
    /// When the log cannot be written: then the call must not be dispatched.
    pub fn start(self) -> Result<InFlight, AuditUnavailable> {
        self.sink.append(self.base.clone().detail(&json!({"phase": "started"})))?;
        Ok(InFlight { sink: self.sink, base: self.base, started: true, closed: false })
    }

    /// The call is about to be dispatched and changes nothing: its one row is written when it closes.
    /// When the log is known not to take rows, this call's first row is written now after all: what
    /// could not be recorded is not done.
    ///
    /// # Errors
    /// When the log still cannot be written: then the call must not be dispatched.
    pub fn read_only(self) -> Result<InFlight, AuditUnavailable> {
        if !self.sink.is_available() {
            return self.start();
        }
        Ok(self.unstarted())
    }

    fn unstarted(self) -> InFlight {
        InFlight { sink: self.sink, base: self.base, started: false, closed: false }
    }
}

impl InFlight {
    /// Hides `secrets` in every row that is still to come: those resolved for the dispatch.
    pub fn guard(&mut self, secrets: Secrets) {
        self.base = self.take_base().guard(secrets);
    }

    /// Records what the call came to. The reply may go out only after this.
    ///
    /// # Errors
    /// When the log cannot be written. Of a started call the log then still says that it started.
    pub fn close(mut self, outcome: &Outcome) -> Result<EventId, AuditUnavailable> {
        self.closed = true;
        let base = self.take_base();
        let row = match outcome {
            Ok(Output::Json(output) | Output::Mcp(output)) => {
                base.outcome(RecordOutcome::Ok).output(output)
            }
            Err(denial) => base.outcome(RecordOutcome::Error).detail(&refusal(denial)),
        };
        self.finish(row)
    }

    /// Records that the call was refused at the last gate, before anything was done.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn deny(mut self, denial: &Denial) -> Result<EventId, AuditUnavailable> {
        self.closed = true;
        let row = self.take_base().outcome(RecordOutcome::Denied).detail(&refusal(denial));
        self.finish(row)
    }

    fn finish(&self, row: Record) -> Result<EventId, AuditUnavailable> {
        let row = if self.started { row.detail(&json!({"phase": "finished"})) } else { row };
        self.sink.append(row)
    }

    fn take_base(&mut self) -> Record {
        std::mem::replace(&mut self.base, Record::new(EventType::Invoke))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let row = self
            .take_base()
            .outcome(RecordOutcome::Error)
            .detail(&json!({"outcome": "unknown", "phase": "cancelled"}));
        if let Err(error) = self.sink.append(row) {
            tracing::error!(%error, "a cancelled call could not be recorded");
        }
    }
}

fn refusal(denial: &Denial) -> Value {
    let mut detail = json!({"code": denial.code.as_str(), "message": denial.message});
    if let Some(pending) = &denial.pending_id {
        detail["pendingId"] = pending.as_str().into();
    }
    detail
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::value::RawValue;

    use super::*;
    use crate::audit::{Event, MemorySink};
    use crate::clock::{ManualClock, Timestamp};
    use crate::model::denial::Code;

    fn sink() -> Arc<MemorySink> {
        MemorySink::new(ManualClock::at(Timestamp::from_millis(1_782_212_400_000)))
    }

    fn bracket(sink: &Arc<MemorySink>) -> Bracket {
        let base = Record::new(EventType::Invoke)
            .capability("notes.file.write")
            .input(&raw(r#"{"path":"a"}"#))
            .detail(&json!({"door": "agent"}));
        let correlation = CorrelationId::fresh(Timestamp::from_millis(0));
        Bracket::open(Arc::clone(sink) as Arc<dyn AuditSink>, base, &correlation)
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn shown(events: &[Event]) -> Vec<(Option<RecordOutcome>, Value)> {
        events.iter().map(|event| (event.outcome, event.detail.clone().unwrap())).collect()
    }

    #[test]
    fn a_refused_call_leaves_one_row_with_its_code() {
        let sink = sink();
        let denial = Denial::new(Code::GrantRequired, "ask for plx_agent_00ff first");
        let id = bracket(&sink).deny(&denial).unwrap();
        let [event] = &sink.events()[..] else { panic!("one row") };
        assert_eq!(event.id, id);
        assert_eq!(event.outcome, Some(RecordOutcome::Denied));
        let expected = json!({"door": "agent", "code": "grant_required", "message": "ask for [redacted] first"});
        assert_eq!(event.detail.as_ref().unwrap(), &expected);
    }

    #[test]
    fn a_call_that_changes_something_leaves_two_rows_of_one_correlation() {
        let sink = sink();
        let mut call = bracket(&sink).start().unwrap();
        assert_eq!(sink.events().len(), 1, "the first row is written before the dispatch");
        call.guard(["hunter22"].into_iter().collect());
        call.close(&Ok(Output::Json(raw(r#"{"said":"hunter22!"}"#)))).unwrap();
        let events = sink.events();
        assert_eq!(
            shown(&events),
            [
                (None, json!({"door": "agent", "phase": "started"})),
                (Some(RecordOutcome::Ok), json!({"door": "agent", "phase": "finished"})),
            ]
        );
        assert_eq!(events[1].output, Some(json!({"said": "[redacted]!"})));
        assert!(events[0].correlation_id.is_some());
        assert_eq!(events[0].correlation_id, events[1].correlation_id);
    }

    #[test]
    fn a_failed_read_leaves_one_row_with_its_code() {
        let sink = sink();
        let call = bracket(&sink).read_only().unwrap();
        call.close(&Err(Denial::new(Code::TransportError, "no answer"))).unwrap();
        let expected = json!({"door": "agent", "code": "transport_error", "message": "no answer"});
        assert_eq!(shown(&sink.events()), [(Some(RecordOutcome::Error), expected)]);
    }

    #[test]
    fn a_call_dropped_in_flight_leaves_a_row_that_says_so() {
        let sink = sink();
        drop(bracket(&sink).start().unwrap());
        drop(bracket(&sink).read_only().unwrap());
        let cancelled = (
            Some(RecordOutcome::Error),
            json!({"door": "agent", "phase": "cancelled", "outcome": "unknown"}),
        );
        let shown = shown(&sink.events());
        assert_eq!(shown.len(), 3);
        assert_eq!(shown[1], cancelled);
        assert_eq!(shown[2], cancelled);
    }

    #[test]
    fn a_call_cannot_start_while_the_log_cannot_be_written() {
        let sink = sink();
        sink.set_available(false);
        assert!(bracket(&sink).start().is_err());
        assert!(bracket(&sink).read_only().is_err(), "a read is no exception");
        sink.set_available(true);
        assert!(sink.events().is_empty());
        drop(bracket(&sink).read_only().unwrap());
        assert_eq!(sink.events().len(), 1, "no probe once it works again");
    }

    #[test]
    fn a_started_call_refused_at_the_last_gate_leaves_its_second_row() {
        let sink = sink();
        let denial = Denial::new(Code::GrantRequired, "used before");
        bracket(&sink).start().unwrap().deny(&denial).unwrap();
        let second = &shown(&sink.events())[1];
        assert_eq!(second.0, Some(RecordOutcome::Denied));
        assert_eq!(
            (&second.1["phase"], &second.1["code"]),
            (&json!("finished"), &json!("grant_required"))
        );
    }
}
