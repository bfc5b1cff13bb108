//! The one pipeline. Every call of every door (an agent's, a workflow member's, one that arrives on a
//! tunnel) is this function, read from top to bottom.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::admit::authority::Authority;
use crate::admit::{Admission, Liveness, Permit, admit};
use crate::audit::{AuditSink, AuditUnavailable, Bracket, EventType, Record};
use crate::clock::Clock;
use crate::ids::{CorrelationId, EventId};
use crate::model::denial::{Code, Denial};
use crate::model::input::Input;
use crate::model::outcome::{Outcome, Reply};
use crate::source::registry::Registry;
use crate::transport::cli::Attached;
use crate::transport::workflow::{Reinvoke, Reinvoked};

/// How long a call may take when nothing else is said.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// One call, as its door read it.
#[derive(Debug)]
pub struct Call {
    /// The capability, as asked.
    pub id: String,
    /// The input.
    pub input: Input,
    /// What joins the records of this call.
    pub correlation: CorrelationId,
    /// The caller's key against doing a thing twice.
    pub idempotency_key: Option<String>,
    /// How long it may take once dispatched.
    pub deadline: Duration,
}

/// A node's pipeline over its registry, its sessions and its audit.
pub struct Pipeline {
    registry: Arc<Registry>,
    liveness: Arc<dyn Liveness>,
    audit: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// A pipeline over a node's parts.
    pub fn new(
        registry: Arc<Registry>,
        liveness: Arc<dyn Liveness>,
        audit: Arc<dyn AuditSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { registry, liveness, audit, clock }
    }

    /// Runs one call: open its record, admit it, dispatch it, close its record. No answer leaves
    /// before its record is with the operating system; nothing is dispatched that could not be
    /// recorded. Dropping the future cancels the call, and the record says so.
    pub async fn invoke(&self, authority: Authority, call: Call) -> Reply {
        match self.admit(authority, call) {
            Ok(admitted) => self.run(admitted).await.unwrap_or_else(|refused| *refused),
            Err(refused) => *refused,
        }
    }

    /// `record`, of a call of `id`, without what none may show: the secrets it would be given, and what
    /// its entry calls secret. Whoever is refused may have said them all the same.
    pub fn guarded(&self, id: &str, record: Record) -> Record {
        let catalog = self.registry.current();
        let Some(listed) = catalog.get(id) else { return record };
        record.guard(listed.target.transport.hides()).without(&listed.target.secret_members)
    }

    /// The first half: opens the record and passes every gate but the single use.
    ///
    /// # Errors
    /// The refusal, recorded.
    pub fn admit(&self, authority: Authority, call: Call) -> Result<Admitted, Box<Reply>> {
        let id = call.id.clone();
        let record = self.guarded(&id, base_record(&authority, &call));
        let bracket = Bracket::open(self.audit.clone(), record, &call.correlation);
        let now = self.clock.now();
        match admit(&self.registry.current(), &*self.liveness, now, authority, call) {
            Ok(admission) => Ok(Admitted { admission, bracket }),
            Err(denial) => Err(Box::new(refuse(id, denial, bracket))),
        }
    }

    /// Passes an admitted call through the gates again: whoever has waited since meets its token and
    /// the catalog as they are now.
    ///
    /// # Errors
    /// The refusal, recorded.
    pub fn readmit(&self, admitted: Admitted) -> Result<Admitted, Box<Reply>> {
        let Admitted { admission, bracket } = admitted;
        let id = admission.call().id.clone();
        match admission.again(&self.registry.current(), &*self.liveness, self.clock.now()) {
            Ok(admission) => Ok(Admitted { admission, bracket }),
            Err(denial) => Err(Box::new(refuse(id, denial, bracket))),
        }
    }

    /// The second half: makes sure the log takes the call, consumes the single use, dispatches, closes
    /// the record. A single use is never spent on a call that could not be recorded.
    ///
    /// # Errors
    /// The refusal of a call that was not made, so that it can be made again: nothing was done.
    pub async fn run(&self, admitted: Admitted) -> Result<Reply, Box<Reply>> {
        let Admitted { admission, bracket } = admitted;
        let id = admission.call().id.clone();
        let verbs = admission.target().definition.grants;
        let attached = match admission.target().transport.attach() {
            Ok(attached) => attached,
            Err(denial) => return Err(Box::new(refuse(id.clone(), denial.about(id), bracket))),
        };
        let hidden = attached.redaction();
        let bracket = bracket.refine(|record| match hidden.is_empty() {
            true => record.verbs(verbs),
            // From the whole input: what was clipped before could end in a part of a secret.
            false => record.verbs(verbs).guard(hidden).input(admission.call().input.raw()),
        });
        let in_flight = if verbs.mutates() { bracket.start() } else { bracket.read_only() };
        let in_flight = match in_flight {
            Ok(in_flight) => in_flight,
            Err(unavailable) => return Err(Box::new(unrecorded(id, &unavailable))),
        };
        let permit = match admission.permit(&*self.liveness) {
            Ok(permit) => permit,
            Err(denial) => {
                let recorded = in_flight.deny(&denial);
                return Err(Box::new(reply(id, Err(denial), recorded)));
            }
        };
        let outcome = dispatch(permit, &attached).await;
        let undone = outcome.as_ref().is_err_and(|denial| denial.code.refuses());
        let recorded = in_flight.close(&outcome);
        let reply = reply(id, outcome, recorded);
        if undone { Err(Box::new(reply)) } else { Ok(reply) }
    }

    /// Answers an admitted call with what the same one was answered before, and records that.
    pub fn replay(&self, admitted: Admitted, before: &Reply) -> Reply {
        let detail = json!({"replay": before.audit_id.as_ref().map(EventId::as_str)});
        let bracket = admitted.bracket.refine(|record| record.detail(&detail));
        match bracket.read_only().and_then(|row| row.close(&before.outcome)) {
            Ok(_) => before.clone(),
            Err(unavailable) => unrecorded(before.id.clone(), &unavailable),
        }
    }
}

impl Reinvoke for Pipeline {
    fn reinvoke(&self, authority: Authority, call: Call) -> Reinvoked<'_> {
        Box::pin(self.invoke(authority, call))
    }
}

/// A call that passed the gates; its record is open.
#[must_use = "an admitted call is run, or refused with a record"]
pub struct Admitted {
    admission: Admission,
    bracket: Bracket,
}

impl Admitted {
    /// What was admitted.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Refuses the call after all, and records it.
    pub fn refuse(self, denial: Denial) -> Reply {
        let id = self.admission.call().id.clone();
        refuse(id.clone(), denial.about(id), self.bracket)
    }
}

fn refuse(id: String, denial: Denial, bracket: Bracket) -> Reply {
    let recorded = bracket.deny(&denial);
    reply(id, Err(denial), recorded)
}

/// Makes the one call `permit` allows, within its deadline.
async fn dispatch(permit: Permit, attached: &Attached) -> Outcome {
    let deadline = permit.deadline();
    let made = permit.target().transport.dispatch(&permit, attached);
    let done = tokio::time::timeout(deadline, made).await;
    done.unwrap_or_else(|_| {
        let message =
            format!("the call took longer than {} s and was cancelled", deadline.as_secs());
        Err(Denial::new(Code::TransportError, message)
            .about(permit.target().definition.id.as_str())
            .with_detail(json!({"outcome": "unknown"})))
    })
}

fn base_record(authority: &Authority, call: &Call) -> Record {
    let record = Record::new(EventType::Invoke)
        .agent(authority.agent())
        .capability(&call.id)
        .input(call.input.raw());
    match authority.token() {
        Some(token) => record.jti(token.jti()).session(token.session()),
        None => record,
    }
}

/// An answer with its record; without one there is no answer.
fn reply(id: String, outcome: Outcome, recorded: Result<EventId, AuditUnavailable>) -> Reply {
    match recorded {
        Ok(event) => Reply { id, outcome, audit_id: Some(event), grant: None },
        Err(unavailable) => unrecorded(id, &unavailable),
    }
}

fn unrecorded(id: String, unavailable: &AuditUnavailable) -> Reply {
    tracing::error!(%unavailable, "a call was refused because it could not be recorded");
    let message = "audit is unavailable, so nothing is done or answered until it works again";
    Reply::edge(id, Denial::internal(message))
}
