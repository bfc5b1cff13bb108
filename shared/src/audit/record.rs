//! What a caller says of an event, before it is written.

use serde_json::Value;
use serde_json::value::RawValue;

use super::event::{Attribution, Event, EventType, Origin, RecordOutcome};
use crate::ids::{AgentId, CorrelationId, SessionId, TokenId};
use crate::model::verb::VerbSet;
use crate::redact::{Redacted, Redactor, Secrets};

/// An event to be. Whatever text or payload is put in goes through the record's redactor then and
/// there; nothing unredacted is ever held, so nothing unredacted can be written.
#[derive(Clone, Debug)]
#[must_use = "a record says nothing until it is appended"]
pub struct Record {
    pub(super) redactor: Redactor,
    pub(super) event_type: EventType,
    pub(super) agent: Option<AgentId>,
    pub(super) jti: Option<TokenId>,
    pub(super) session: Option<SessionId>,
    pub(super) capability: Option<String>,
    pub(super) verbs: Option<VerbSet>,
    pub(super) outcome: Option<RecordOutcome>,
    pub(super) detail: Option<Redacted>,
    pub(super) input: Option<Redacted>,
    pub(super) output: Option<Redacted>,
    pub(super) attribution: Option<Attribution>,
    pub(super) correlation: Option<CorrelationId>,
}

impl Record {
    /// A record of something that has no secrets of its own: what is shaped like a credential, and
    /// what lies under a key named like a secret, is still hidden.
    pub fn new(event_type: EventType) -> Self {
        Self::guarded(event_type, &Redactor::default())
    }

    /// A record whose payloads go through `redactor`.
    pub fn guarded(event_type: EventType, redactor: &Redactor) -> Self {
        Self {
            redactor: redactor.clone(),
            event_type,
            agent: None,
            jti: None,
            session: None,
            capability: None,
            verbs: None,
            outcome: None,
            detail: None,
            input: None,
            output: None,
            attribution: None,
            correlation: None,
        }
    }

    /// By `agent`.
    pub fn agent(mut self, agent: &AgentId) -> Self {
        self.agent = Some(agent.clone());
        self
    }

    /// With token `jti`.
    pub fn jti(mut self, jti: &TokenId) -> Self {
        self.jti = Some(jti.clone());
        self
    }

    /// In `session`.
    pub fn session(mut self, session: &SessionId) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// On `capability`, as asked.
    pub fn capability(mut self, capability: &str) -> Self {
        self.capability = Some(self.redactor.redact_text(capability));
        self
    }

    /// With `verbs`.
    pub fn verbs(mut self, verbs: VerbSet) -> Self {
        self.verbs = Some(verbs);
        self
    }

    /// It went like this.
    pub fn outcome(mut self, outcome: RecordOutcome) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// More, in a form of the type's own; added to what was said so before.
    pub fn detail(mut self, detail: &Value) -> Self {
        let detail = self.redactor.redact_value(detail);
        self.detail = Some(match self.detail.take() {
            Some(before) => before.merged(detail),
            None => detail,
        });
        self
    }

    /// What the log says of itself.
    pub(super) fn of_the_log(event_type: EventType, detail: Value) -> Self {
        Self { detail: Some(Redacted::of_the_log(detail)), ..Self::new(event_type) }
    }

    /// What went in.
    pub fn input(mut self, input: &RawValue) -> Self {
        self.input = Some(self.redactor.redact_raw(input));
        self
    }

    /// What came out.
    pub fn output(mut self, output: &RawValue) -> Self {
        self.output = Some(self.redactor.redact_raw(output));
        self
    }

    /// On this behalf, by this decision.
    pub fn attribution(mut self, attribution: Attribution) -> Self {
        let redacted = |text: Option<String>| text.map(|text| self.redactor.redact_text(&text));
        self.attribution = Some(Attribution {
            agent: attribution.agent,
            principal: redacted(attribution.principal),
            grant_ref: redacted(attribution.grant_ref),
            policy_ref: redacted(attribution.policy_ref),
        });
        self
    }

    /// Joined with the other rows of `correlation`.
    pub fn correlation(mut self, correlation: &CorrelationId) -> Self {
        self.correlation = Some(correlation.clone());
        self
    }

    /// Hides `secrets` too: in what follows, and in what was put in before.
    pub fn guard(self, secrets: Secrets) -> Self {
        if secrets.is_empty() {
            return self;
        }
        let redactor = self.redactor.with_secrets(secrets);
        self.redacted_by(redactor)
    }

    /// Hides the values of members called `names` too: in what follows, and in what was put in before.
    pub fn without(self, names: &[String]) -> Self {
        if names.is_empty() {
            return self;
        }
        let redactor = self.redactor.clone().with_keys(names);
        self.redacted_by(redactor)
    }

    fn redacted_by(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        for payload in [&mut self.detail, &mut self.input, &mut self.output] {
            *payload = payload.take().map(|kept| self.redactor.redact_value(kept.as_value()));
        }
        self.capability = self.capability.map(|text| self.redactor.redact_text(&text));
        match self.attribution.take() {
            Some(attribution) => self.attribution(attribution),
            None => self,
        }
    }

    /// The record of an event that another node wrote, redacted here once more.
    pub(super) fn mirrored(event: &Event, redactor: &Redactor) -> Self {
        let payload = |value: &Option<Value>| value.as_ref().map(|v| redactor.redact_value(v));
        let record = Self {
            agent: event.agent_id.clone(),
            jti: event.jti.clone(),
            session: event.session_id.clone(),
            capability: event.capability_id.as_deref().map(|text| redactor.redact_text(text)),
            verbs: event.verbs,
            outcome: event.outcome,
            detail: payload(&event.detail),
            input: payload(&event.input),
            output: payload(&event.output),
            correlation: event.correlation_id.clone(),
            ..Self::guarded(event.event_type, redactor)
        };
        match event.attribution.clone() {
            Some(attribution) => record.attribution(attribution),
            None => record,
        }
    }
}

/// What the writer says of a record.
#[derive(Debug)]
pub(super) struct Stamp {
    pub(super) id: crate::ids::EventId,
    pub(super) at: crate::clock::Timestamp,
    pub(super) tier: super::Tier,
    pub(super) workload: Option<String>,
    pub(super) origin: Option<Origin>,
}
