//! Connecting an agent, its enrollment, its handshake.

use std::time::Duration;

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::gate::constraint::check;
use plexus_shared::gate::members::Whole;
use plexus_shared::gate::sensitivity::Picker;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, SessionId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::trust::{Grant, TrustWindow};
use plexus_shared::model::verb::{Verb, VerbSet};
use plexus_shared::secret::{Credential, CredentialKind};
use serde_json::{Value, json};

use super::ledger::{Granted, granted as granted_for};
use super::sessions::Session;
use super::{ChangeError, Trust};
use crate::events::Event;
use crate::store::Change;
use crate::store::rows::{AgentKind, AgentRow, AskedBundle};

/// A capability an agent starts with.
#[derive(Clone, Debug)]
pub struct StartingCapability {
    /// Which; present entries only, shown or not.
    pub id: String,
    /// With which verbs; all the entry has when absent.
    pub verbs: Option<VerbSet>,
    /// For how long.
    pub window: Option<TrustWindow>,
    /// For which inputs.
    pub constraint: Option<Constraint>,
}

/// The owner's order to connect an agent.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Its name.
    pub agent: AgentId,
    /// What it is.
    pub kind: AgentKind,
    /// The owner's word for it.
    pub label: Option<String>,
    /// What it starts with.
    pub capabilities: Vec<StartingCapability>,
    /// How long its code can be redeemed; the default when absent.
    pub code_ttl: Option<Duration>,
}

/// An agent that was connected.
#[derive(Debug)]
pub struct Connected {
    /// The one-time code, shown now and never again.
    pub code: Credential,
    /// When the code ends.
    pub expires_at: Timestamp,
    /// What it holds from the start.
    pub granted: Vec<Grant>,
    /// What it was not given, and why.
    pub skipped: Vec<(String, String)>,
}

/// What the owner gave.
#[derive(Debug)]
pub struct Given {
    /// What the agent holds of it.
    pub granted: Vec<Grant>,
    /// What it was not given, and why.
    pub skipped: Vec<(String, String)>,
    /// The bundle it belongs to.
    pub bundle: Option<BundleId>,
}

/// Why an agent was not connected. Nothing was created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// These ids are not there.
    #[error("there is no such capability: {}; see `plexus exposure`", .0.join(", "))]
    Unknown(Vec<String>),
    /// These verbs are not the entry's.
    #[error("{id} does not have the verb(s) {asked}; it has {has}")]
    Verbs {
        /// The capability.
        id: String,
        /// What was asked.
        asked: VerbSet,
        /// What it has.
        has: VerbSet,
    },
    /// A constraint that can never hold.
    #[error("{id}: constraint: {why}")]
    Constraint {
        /// The capability.
        id: String,
        /// Why.
        why: String,
    },
    /// No token could carry it.
    #[error("{0}: this is more than one token can carry; give it a shorter constraint")]
    TooLarge(String),
    /// There is no such agent.
    #[error("there is no agent called {0}; connect it first")]
    NoAgent(AgentId),
    /// It could not be recorded or kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A redeemed enrollment.
#[derive(Debug)]
pub struct Enrolled {
    /// The durable credential, shown now and never again.
    pub pat: Credential,
    /// Whose it is.
    pub agent: AgentId,
}

/// Why a code was not redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// Not a code at all.
    #[error("the body must be {{\"code\": \"plx_enroll_…\"}}")]
    Malformed,
    /// No one was given this code, or a newer one replaced it.
    #[error("this enrollment code is not known; ask the owner for a new one")]
    UnknownCode,
    /// Too late.
    #[error("this enrollment code has expired; ask the owner for a new one")]
    CodeExpired,
    /// It was redeemed before.
    #[error("this enrollment code was redeemed before; ask the owner for a new one")]
    CodeConsumed,
    /// It could not be kept; the code still works.
    #[error("the enrollment could not be kept; the code is unconsumed, so try again")]
    PersistFailed,
}

impl Trust {
    /// Connects an agent: its starting grants, and a one-time code. The code an agent of the same name
    /// had before is dead; its PAT lives until the new code is redeemed. Execute legs are never
    /// standing, so they are skipped.
    ///
    /// # Errors
    /// See [`ConnectError`]; nothing was created.
    pub async fn connect(&self, order: Connect) -> Result<Connected, ConnectError> {
        let _gate = self.gate.lock().await;
        let now = self.now();
        let (granted, skipped) = self.starting_grants(&order.agent, &order.capabilities, now)?;
        let code = Credential::generate(CredentialKind::EnrollmentCode);
        let expires_at = now.plus(order.code_ttl.unwrap_or(self.lifetimes().code));
        let known = self.ledger().agent(&order.agent).cloned();
        let row = AgentRow {
            id: order.agent.clone(),
            kind: order.kind,
            label: order.label.or_else(|| known.as_ref().and_then(|row| row.label.clone())),
            issued_at: now,
            code: Some(code.hash()),
            code_expires_at: Some(expires_at),
            pat: known.as_ref().and_then(|row| row.pat),
            redeemed_at: known.as_ref().and_then(|row| row.redeemed_at),
            revoked_at: None,
        };
        let record = Record::new(EventType::AgentConnect)
            .agent(&order.agent)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "agentType": order.kind,
                "codeExpiresAt": expires_at,
                "granted": granted.iter().map(describe).collect::<Vec<_>>(),
                "skipped": skipped,
            }));
        let mut changes = vec![Change::PutAgent(row)];
        changes.extend(granted.iter().flat_map(stand));
        self.change(record, changes).await?;
        let granted = granted.into_iter().map(|granted| granted.grant).collect();
        Ok(Connected { code, expires_at, granted, skipped })
    }

    /// Grants directly, by the owner's word, to an agent that is there; as a bundle, when it is `asked` so.
    ///
    /// # Errors
    /// See [`ConnectError`]; nothing was granted.
    pub async fn grant(
        &self,
        agent: &AgentId,
        capabilities: Vec<StartingCapability>,
        asked: Option<AskedBundle>,
    ) -> Result<Given, ConnectError> {
        let _gate = self.gate.lock().await;
        let known = self.ledger().agent(agent).is_some_and(|row| row.revoked_at.is_none());
        if !known {
            return Err(ConnectError::NoAgent(agent.clone()));
        }
        let (mut granted, skipped) = self.starting_grants(agent, &capabilities, self.now())?;
        let bundle = asked.map(|asked| self.bundle_of(agent, &asked));
        for granted in &mut granted {
            granted.grant.bundle = bundle.as_ref().map(|row| row.id.clone());
        }
        let record = Record::new(EventType::GrantAllow)
            .agent(agent)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "by": "owner",
                "granted": granted.iter().map(describe).collect::<Vec<_>>(),
                "skipped": skipped,
                "bundleId": bundle.as_ref().map(|row| &row.id),
            }));
        let mut changes: Vec<_> = granted.iter().flat_map(stand).collect();
        let id = bundle.as_ref().map(|row| row.id.clone());
        changes.extend(bundle.map(Change::PutBundle));
        self.change(record, changes).await?;
        let granted = granted.into_iter().map(|granted| granted.grant).collect();
        Ok(Given { granted, skipped, bundle: id })
    }

    #[allow(clippy::type_complexity, reason = "the two lists a connection is answered with")]
    fn starting_grants(
        &self,
        agent: &AgentId,
        capabilities: &[StartingCapability],
        now: Timestamp,
    ) -> Result<(Vec<Granted>, Vec<(String, String)>), ConnectError> {
        let catalog = self.core.registry.catalog();
        let missing = capabilities.iter().filter(|cap| catalog.get(&cap.id).is_none());
        let missing: Vec<_> = missing.map(|cap| cap.id.clone()).collect();
        if !missing.is_empty() {
            return Err(ConnectError::Unknown(missing));
        }
        let (mut granted, mut skipped) = (Vec::new(), Vec::new());
        for cap in capabilities {
            let Some(listed) = catalog.get(&cap.id) else { continue };
            let definition = &listed.target.definition;
            let asked = cap.verbs.unwrap_or(definition.grants);
            if asked.is_empty() || !definition.grants.covers(asked) {
                let (id, has) = (cap.id.clone(), definition.grants);
                return Err(ConnectError::Verbs { id, asked, has });
            }
            if let Some(constraint) = &cap.constraint {
                let id = cap.id.clone();
                check(constraint).map_err(|why| ConnectError::Constraint { id, why })?;
            }
            let whole = Whole::of(&catalog, definition.id.as_str(), asked);
            if whole.verbs.contains(Verb::Execute) {
                let why = "execute is approved for each use and can not be granted ahead";
                skipped.push((cap.id.clone(), why.to_owned()));
                continue;
            }
            let window = self.window(Picker::Owner, whole.class, whole.verbs, cap.window);
            if window == TrustWindow::Once {
                let why = "a single use can not be granted ahead; it is approved when asked for";
                skipped.push((cap.id.clone(), why.to_owned()));
                continue;
            }
            let mut given = granted_for(agent, &definition.id, asked, whole, window, now);
            given.grant.constraint.clone_from(&cap.constraint);
            let too_large = |_| ConnectError::TooLarge(cap.id.clone());
            self.fits(agent, std::iter::once(&given)).map_err(too_large)?;
            granted.push(given);
        }
        Ok((granted, skipped))
    }

    /// Redeems a one-time code for the agent's own durable credential. Of any number of attempts at
    /// once, one succeeds.
    ///
    /// # Errors
    /// See [`EnrollError`].
    pub async fn enroll(&self, code: &str) -> Result<Enrolled, EnrollError> {
        let code = Credential::parse(CredentialKind::EnrollmentCode, code)
            .ok_or(EnrollError::Malformed)?
            .hash();
        let _gate = self.gate.lock().await;
        let now = self.now();
        let row = {
            let ledger = self.ledger();
            match ledger.by_code(&code).cloned() {
                Some(row) => row,
                None if ledger.spent(&code) => return Err(EnrollError::CodeConsumed),
                None => return Err(EnrollError::UnknownCode),
            }
        };
        if row.code_expires_at.is_none_or(|expires_at| expires_at <= now) {
            return Err(EnrollError::CodeExpired);
        }
        let pat = Credential::generate(CredentialKind::AgentPat);
        let agent = row.id.clone();
        let row = AgentRow { code: None, pat: Some(pat.hash()), redeemed_at: Some(now), ..row };
        let record = Record::new(EventType::AgentEnroll).agent(&agent).outcome(RecordOutcome::Ok);
        let changes = vec![Change::PutAgent(row), Change::SpendCode(code, now)];
        self.change(record, changes).await.map_err(|error| {
            tracing::error!(%error, "an enrollment failed");
            EnrollError::PersistFailed
        })?;
        // Whoever held the credential before is out.
        self.sessions.end_all(&agent);
        self.core.events.tell_owner(Event::AgentConnected { agent: agent.clone() });
        Ok(Enrolled { pat, agent })
    }

    /// The agent whose live PAT this is.
    pub fn recognise(&self, pat: &str) -> Option<AgentId> {
        let pat = Credential::parse(CredentialKind::AgentPat, pat)?;
        self.ledger().by_pat(&pat.hash()).map(|row| row.id.clone())
    }

    /// Opens a session for the agent that was recognised. What the client says of its own name decides
    /// nothing; it is kept in the record.
    ///
    /// # Errors
    /// `internal_error` when it could not be recorded.
    pub fn handshake(&self, agent: AgentId, client: Value) -> Result<Session, Denial> {
        self.open(agent, false, &json!({ "client": client }))
    }

    /// Opens a session by the owner's own key, which may name an agent to act as. Such a session asks
    /// like any other; without an agent's name nothing it gets outlives one use.
    ///
    /// # Errors
    /// `internal_error` when it could not be recorded.
    pub fn owner_handshake(
        &self,
        agent: Option<AgentId>,
        client: Value,
    ) -> Result<Session, Denial> {
        let agent = agent.unwrap_or_else(|| AgentId::anonymous(self.now()));
        self.open(agent, true, &json!({"client": client, "by": "owner"}))
    }

    fn open(&self, agent: AgentId, owner: bool, said: &Value) -> Result<Session, Denial> {
        let now = self.now();
        let expires_at = now.plus(self.lifetimes().session);
        let session = Session { id: SessionId::fresh(now), agent, owner, expires_at };
        let record = Record::new(EventType::Handshake)
            .agent(&session.agent)
            .session(&session.id)
            .outcome(RecordOutcome::Ok)
            .detail(said);
        self.core.audit.append(record).map_err(ChangeError::from)?;
        self.sessions.open(session.clone(), now);
        Ok(session)
    }

    /// Ends the session `id`.
    pub fn close(&self, id: &SessionId) {
        self.sessions.close(id);
    }

    /// The live session `id`.
    ///
    /// # Errors
    /// `session_expired` when there is none.
    pub fn session(&self, id: Option<&str>) -> Result<Session, Denial> {
        id.and_then(|id| self.sessions.live(id, self.now())).ok_or_else(|| {
            let message = "no live session; handshake, then send its id as X-Plexus-Session";
            Denial::new(Code::SessionExpired, message)
        })
    }
}

/// What makes a grant stand, unless it is for one use: the owner's yes lifts the mark of a revoke.
pub(super) fn stand(Granted { grant, .. }: &Granted) -> Vec<Change> {
    if grant.window == TrustWindow::Once {
        return Vec::new();
    }
    let lift = Change::LiftTombstone(grant.agent.clone(), grant.capability.clone());
    vec![lift, Change::PutGrant(grant.clone())]
}

pub(super) fn describe(Granted { grant, .. }: &Granted) -> Value {
    tell(grant)
}

/// A grant as the log has it.
pub(super) fn tell(grant: &Grant) -> Value {
    let capability: &CapabilityId = &grant.capability;
    json!({
        "id": capability,
        "verbs": grant.verbs,
        "constraint": grant.constraint,
        "window": grant.window,
        "expiresAt": grant.expires_at,
    })
}
