//! What a request comes to, capability by capability: held, allowed, asked of the owner, or declined.

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::gate::constraint::satisfied;
use plexus_shared::gate::members::Whole;
use plexus_shared::gate::sensitivity::Picker;
use plexus_shared::ids::AgentId;
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::trust::{Grant, TrustWindow};
use plexus_shared::source::registry::{Catalog, Registered};
use serde_json::json;

use super::authorizer::{Decision, Question};
use super::grants::{Declined, Occasion, Requested, digest};
use super::ledger::{Granted, granted};
use super::sessions::Session;
use super::{ChangeError, Trust};
use crate::store::rows::Ask;

/// What a request comes to.
pub(super) struct Sorted {
    /// Held already.
    pub(super) held: Vec<Granted>,
    /// Allowed now.
    pub(super) fresh: Vec<Granted>,
    /// For the owner to answer.
    pub(super) asks: Vec<Ask>,
    /// For nobody.
    pub(super) declined: Vec<Declined>,
}

impl Trust {
    /// Sorts what was asked into what is held, what is allowed now and what the owner must answer.
    pub(super) fn sort(
        &self,
        catalog: &Catalog,
        agent: &AgentId,
        requested: Vec<Requested>,
        occasion: &Occasion,
    ) -> Result<Sorted, Denial> {
        let now = self.now();
        let ledger = self.ledger();
        let (held, fresh, asks, declined) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut sorted = Sorted { held, fresh, asks, declined };
        for ask in requested {
            if !ask.wanted {
                let (reason, by_policy) = ("the request denied it", false);
                sorted.declined.push(Declined { id: ask.id, reason, by_policy });
                continue;
            }
            let Some(target) = catalog.exposed(&ask.id) else { continue };
            fits(&ask, target)?;
            let id = &target.definition.id;
            // Held for all inputs, for the same ones, or for the one that is shown.
            let fits = |held: Option<&Constraint>| match (held, &occasion.input) {
                (None, _) => true,
                (Some(held), Some(input)) => satisfied(held, &input.value),
                (Some(held), None) => Some(held) == ask.constraint.as_ref(),
            };
            let whole = Whole::of(catalog, id.as_str(), ask.verbs);
            let verbs = ask.verbs;
            let held = ledger.standing(agent, id, verbs, &whole, fits, now);
            let question = Question {
                subject: agent,
                entry: id,
                constraint: ask.constraint.as_ref(),
                provenance: whole.class,
                verbs: whole.verbs,
                held: held.is_some(),
                tombstoned: ledger.tombstoned(agent, id) || ledger.marked(agent, &whole),
            };
            match (self.decide(&question), held) {
                (Decision::Allow, Some(grant)) => {
                    let constraint = ask.constraint.or_else(|| grant.constraint.clone());
                    let grant = Grant { verbs, constraint, ..grant.clone() };
                    sorted.held.push(Granted { grant, whole });
                }
                (Decision::Allow, None) => {
                    let window = match agent.is_anonymous() {
                        true => TrustWindow::Once,
                        false => self.window(Picker::Agent, whole.class, whole.verbs, ask.window),
                    };
                    let mut fresh = granted(agent, id, verbs, whole, window, now);
                    fresh.grant.constraint = ask.constraint;
                    sorted.fresh.push(fresh);
                }
                (Decision::Deny(reason), _) => {
                    sorted.declined.push(Declined { id: ask.id, reason, by_policy: true });
                }
                (Decision::Ask(reason), _) => sorted.asks.push(Ask {
                    id: id.clone(),
                    verbs,
                    constraint: ask.constraint,
                    digest: digest(catalog, target),
                    window: ask.window,
                    purpose: ask.purpose,
                    reason: reason.to_owned(),
                }),
            }
        }
        Ok(sorted)
    }

    fn decide(&self, question: &Question<'_>) -> Decision {
        match &self.authorizer {
            Some(authorizer) => authorizer.decide(question),
            None => self.core.settings.now().policy.authorizer().decide(question),
        }
    }

    /// Records what the policy said no to.
    pub(super) fn record_declined(
        &self,
        session: &Session,
        all: &[Declined],
    ) -> Result<(), Denial> {
        let declined: Vec<_> = all.iter().filter(|declined| declined.by_policy).collect();
        if declined.is_empty() {
            return Ok(());
        }
        let record = Record::new(EventType::GrantDeny)
            .agent(&session.agent)
            .session(&session.id)
            .outcome(RecordOutcome::Denied)
            .detail(&json!({"by": "policy", "declined": declined}));
        self.core.audit.append(record).map_err(ChangeError::from)?;
        Ok(())
    }
}

/// Nothing is left of a request: it asked for nothing, or the policy said no.
pub(super) fn nothing(declined: &[Declined]) -> Denial {
    if declined.iter().any(|declined| declined.by_policy) {
        let message = "this gateway's policy declined it; detail.declined says why";
        return Denial::new(Code::GrantRequired, message)
            .with_detail(json!({ "declined": declined }));
    }
    let message = "the request asks for nothing: every decision is \"deny\"";
    Denial::new(Code::SchemaValidationFailed, message)
}

/// Every id must be there and shown; a hidden one is unknown.
pub(super) fn known(catalog: &Catalog, requested: &[Requested]) -> Result<(), Denial> {
    let unknown = requested.iter().filter(|ask| catalog.exposed(&ask.id).is_none());
    let unknown: Vec<_> = unknown.map(|ask| ask.id.as_str()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let message = "no such capability; GET /manifest has the current list";
    Err(Denial::new(Code::UnknownCapability, message).with_detail(json!({ "unknown": unknown })))
}

/// The verbs asked must be the entry's own, and at least one.
fn fits(ask: &Requested, target: &Registered) -> Result<(), Denial> {
    let has = target.definition.grants;
    if !ask.verbs.is_empty() && has.covers(ask.verbs) {
        return Ok(());
    }
    let (id, asked) = (&ask.id, ask.verbs);
    if has.is_empty() {
        let message = format!("{id} is a skill: read its body in GET /manifest");
        return Err(Denial::new(Code::SchemaValidationFailed, message).about(ask.id.clone()));
    }
    let asked = if asked.is_empty() { "nothing".to_owned() } else { asked.to_string() };
    let shape = serde_json::json!({"decision": "allow", "verbs": has});
    let message = format!(
        "{id} needs {has}, and {asked} was asked for; ask like this: {{\"{id}\": {shape}}}"
    );
    Err(Denial::new(Code::SchemaValidationFailed, message)
        .about(ask.id.clone())
        .with_detail(json!({"verbs": has})))
}
