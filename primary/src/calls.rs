//! The agents' calls: with a token, or with a session alone; once, where a key says so.
//!
//! 1. A call with a session and no token asks for its own grant first (*grant-assist*): what is
//!    allowed at once is dispatched and the token handed over; anything else waits for the owner, who
//!    sees this very input.
//! 2. A call under an idempotency key is made once. Its place is written down before it is dispatched
//!    and what it came to after; a repeat gets the first one's answer, or waits for it, or is told what
//!    became of it. Nothing is ever run again; what was refused before it was run left the key free.
//!
//! A repeat passes every gate like any call, after its wait too, but for the single use, which the first
//! one consumed.

use std::sync::Arc;

use plexus_shared::admit::authority::Authority;
use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::audit::{Bracket, EventType, Record};
use plexus_shared::invoke::{Admitted, Call, Pipeline};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::outcome::Reply;
use plexus_shared::model::scope::ScopedToken;

use crate::core::Core;
use crate::replays::{Begin, Replays};
use crate::store::rows::{AskedInput, PendingRow};
use crate::trust::sessions::Session;
use crate::trust::{GrantReply, Occasion, Requested, Trust};

/// The agents' way to the pipeline.
pub struct Calls {
    core: Core,
    pipeline: Arc<Pipeline>,
    trust: Arc<Trust>,
    replays: Arc<Replays>,
}

/// What asking for a call's own grant came to.
enum Assisted {
    Granted(Box<ScopedToken>, Box<VerifiedToken>),
    Waiting(Box<PendingRow>),
}

impl Calls {
    /// Calls over a node's parts; `replays` are those made under a key before.
    pub fn new(
        core: Core,
        pipeline: Arc<Pipeline>,
        trust: Arc<Trust>,
        replays: Arc<Replays>,
    ) -> Self {
        Self { core, pipeline, trust, replays }
    }

    /// Makes a call with a token.
    pub async fn with_token(&self, token: VerifiedToken, call: Call) -> Reply {
        match self.pipeline.admit(Authority::Agent(Arc::new(token)), call) {
            Ok(admitted) => self.once(admitted).await,
            Err(refused) => *refused,
        }
    }

    /// Makes a call with a session alone.
    pub async fn with_session(&self, session: Session, call: Call) -> Reply {
        let (trust, asker) = (self.trust.clone(), session.clone());
        let (id, input) = (call.id.clone(), call.input.value().cloned());
        let Some((value, digest)) = input.zip(call.input.digest()) else {
            return self.refuse(&session, call, unreadable());
        };
        // Carried through: whoever hangs up leaves no half-made grant.
        let asking = self.core.tasks.spawn(async move {
            let digest = data_encoding::HEXLOWER.encode(&digest);
            let shown = AskedInput { value, digest };
            assist(&trust, &asker, id, shown).await
        });
        let asked = asking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "asking for a call's grant ended in a panic");
            Err(Denial::internal("the gateway failed; its log says why"))
        });
        match asked {
            Ok(Assisted::Granted(grant, token)) => {
                let reply = self.with_token(*token, call).await;
                Reply { grant: Some(*grant), ..reply }
            }
            Ok(Assisted::Waiting(item)) => {
                let message = "the owner was asked about this call; poll grantStatusUrl, then call \
                               again with the token it gives and the same input";
                let mut denial = Denial::new(Code::ApprovalRequired, message);
                denial.pending_id = Some(item.id.clone());
                self.refuse(&session, call, denial)
            }
            Err(denial) => self.refuse(&session, call, denial),
        }
    }

    fn refuse(&self, session: &Session, call: Call, denial: Denial) -> Reply {
        let record = Record::new(EventType::Invoke)
            .agent(&session.agent)
            .session(&session.id)
            .capability(&call.id)
            .input(call.input.raw());
        let record = self.pipeline.guarded(&call.id, record);
        let bracket = Bracket::open(self.core.audit.clone(), record, &call.correlation);
        let denial = denial.about(call.id.as_str());
        match bracket.deny(&denial) {
            Ok(event) => {
                Reply { id: call.id, outcome: Err(denial), audit_id: Some(event), grant: None }
            }
            Err(_) => {
                let message = "audit is unavailable, so nothing is answered until it works again";
                Reply::edge(call.id, Denial::internal(message))
            }
        }
    }

    /// Runs an admitted call, once where a key says so.
    async fn once(&self, mut admitted: Admitted) -> Reply {
        let admission = admitted.admission();
        let Some(key) = admission.call().idempotency_key.clone() else {
            return self.pipeline.run(admitted).await.unwrap_or_else(|refused| *refused);
        };
        let key = (admission.agent().clone(), admission.call().id.clone(), key);
        let Some(input) = admission.call().input.digest() else {
            return admitted.refuse(unreadable());
        };
        loop {
            let definition = admitted.admission().target().digest;
            match self.replays.begin(&key, input, definition).await {
                Ok(Begin::First(place)) => {
                    return match self.pipeline.run(admitted).await {
                        Ok(reply) => {
                            place.done(&reply).await;
                            reply
                        }
                        Err(refused) => {
                            place.give_up().await;
                            *refused
                        }
                    };
                }
                Ok(Begin::Again(reply)) => return self.pipeline.replay(admitted, &reply),
                Ok(Begin::Running(running)) => running.over().await,
                Err(denial) => return admitted.refuse(*denial),
            }
            admitted = match self.pipeline.readmit(admitted) {
                Ok(admitted) => admitted,
                Err(refused) => return *refused,
            };
        }
    }
}

fn unreadable() -> Denial {
    let message = "an input that is shown to the owner or held by a key has each member once and \
                   integers up to 2^53; say larger ones as text";
    Denial::new(Code::SchemaValidationFailed, message)
}

async fn assist(
    trust: &Trust,
    session: &Session,
    id: String,
    shown: AskedInput,
) -> Result<Assisted, Denial> {
    let verbs = trust.verbs_of(&id)?;
    let asked =
        Requested { id, wanted: true, verbs, window: None, purpose: None, constraint: None };
    let occasion = Occasion { input: Some(shown), bundle: None };
    match trust.request(session, vec![asked], occasion).await? {
        GrantReply::Token(token, _) => {
            let verified = trust.keys().verify(&token.token);
            let verified = verified.map_err(|_| Denial::internal("a fresh token can't be read"))?;
            Ok(Assisted::Granted(Box::new(token), Box::new(verified)))
        }
        GrantReply::Pending { item, .. } => Ok(Assisted::Waiting(item)),
    }
}
