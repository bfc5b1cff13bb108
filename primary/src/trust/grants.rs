//! An agent asks; the answer is a token, a question for the owner, or both.

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::gate::members::{Whole, identity};
use plexus_shared::ids::{AgentId, BundleId, PendingId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::scope::ScopedToken;
use plexus_shared::model::trust::{Grant, StandingGrant, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use plexus_shared::source::registry::{Catalog, Registered};
use serde_json::json;

use super::agents::{describe, stand};
use super::deciding::{known, nothing};
use super::ledger::{Granted, Ledger};
use super::narration::{PendingNarration, narrate};
use super::sessions::Session;
use super::{ChangeError, MAX_OPEN_ITEMS, Trust};
use crate::events::Event;
use crate::store::Change;
use crate::store::rows::{
    AskedBundle, AskedGrants, AskedInput, BundleRow, Matter, PendingRow, PendingState,
};

/// What an agent asks of one capability.
#[derive(Clone, Debug)]
pub struct Requested {
    /// The capability.
    pub id: String,
    /// False for a plain "deny": the agent wants nothing here.
    pub wanted: bool,
    /// The verbs; `read` when it said a bare "allow".
    pub verbs: VerbSet,
    /// The window it proposes.
    pub window: Option<TrustWindow>,
    /// Why, in its own words; already bounded.
    pub purpose: Option<String>,
    /// For which inputs.
    pub constraint: Option<Constraint>,
}

/// What a request is about, beyond its capabilities.
#[derive(Clone, Debug, Default)]
pub struct Occasion {
    /// The call it was made for: its input, and what it means.
    pub input: Option<AskedInput>,
    /// The task bundle it is for.
    pub bundle: Option<AskedBundle>,
}

/// A capability that the request itself, or the policy, declined.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Declined {
    /// Which.
    pub id: String,
    /// Why.
    pub reason: &'static str,
    /// Whether the policy said no, and not the request itself.
    #[serde(skip)]
    pub by_policy: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub enum GrantReply {
    /// All of it, at once.
    Token(ScopedToken, Vec<Declined>),
    /// Some of it waits for the owner; the rest, if any, at once.
    Pending {
        /// The question.
        item: Box<PendingRow>,
        /// What it means, in the gateway's words.
        narration: Vec<PendingNarration>,
        /// What was allowed at once.
        partial: Option<ScopedToken>,
        /// What the request itself declined.
        declined: Vec<Declined>,
    },
}

/// How far a question has come, for the session that asked.
#[derive(Debug)]
pub struct GrantStatus {
    /// The question.
    pub item: PendingRow,
    /// What it means.
    pub narration: Vec<PendingNarration>,
    /// The token, once approved.
    pub token: Option<ScopedToken>,
}

impl Trust {
    /// Answers an agent's request.
    ///
    /// # Errors
    /// 400s naming unknown ids and wrong verbs, `rate_limited` beyond [`MAX_OPEN_ITEMS`] or when more
    /// stands already than may without the owner, `internal_error` when nothing could be recorded or kept.
    pub async fn request(
        &self,
        session: &Session,
        requested: Vec<Requested>,
        occasion: Occasion,
    ) -> Result<GrantReply, Denial> {
        let _gate = self.gate.lock().await;
        // It may have ended while this waited: what is revoked asks for nothing any more.
        let session = &self.session(Some(session.id.as_str()))?;
        let catalog = self.core.registry.catalog();
        known(&catalog, &requested)?;
        let mut sorted = self.sort(&catalog, &session.agent, requested, &occasion)?;
        self.record_declined(session, &sorted.declined)?;
        if sorted.held.is_empty() && sorted.fresh.is_empty() && sorted.asks.is_empty() {
            return Err(nothing(&sorted.declined));
        }
        let item = (!sorted.asks.is_empty())
            .then(|| {
                let Occasion { input, bundle } = occasion.clone();
                input.as_ref().map_or(Ok(()), showable)?;
                let asks = sorted.asks;
                self.place(session, Matter::Grant(AskedGrants { asks, input, bundle }))
            })
            .transpose()?;
        // Nobody is asked, and nothing allowed, for what no token could carry.
        self.fits(&session.agent, sorted.held.iter().chain(&sorted.fresh))?;
        if let Some(Item::New(row)) = &item {
            self.fits(&row.agent, self.granted_by(row, None).iter())?;
        }
        self.allow_fresh(session, &mut sorted.fresh, &occasion).await?;
        if let Some(Item::New(row)) = &item {
            self.ask(session, row).await?;
        }
        let grants: Vec<_> = sorted.held.into_iter().chain(sorted.fresh).collect();
        let token = (!grants.is_empty()).then(|| self.mint(session, &grants, None)).transpose()?;
        Ok(match (item.map(Item::row), token) {
            (Some(item), partial) => {
                let narration = narration(&catalog, &item);
                let item = Box::new(item);
                GrantReply::Pending { item, narration, partial, declined: sorted.declined }
            }
            (None, Some(token)) => GrantReply::Token(token, sorted.declined),
            (None, None) => return Err(Denial::internal("the request came to nothing")),
        })
    }

    /// Every verb of `id`, when it is there and shown.
    ///
    /// # Errors
    /// `unknown_capability` when it is not.
    pub fn verbs_of(&self, id: &str) -> Result<VerbSet, Denial> {
        let catalog = self.core.registry.catalog();
        let target = catalog.exposed(id).ok_or_else(|| {
            let message = "no such capability; GET /manifest has the current list";
            Denial::new(Code::UnknownCapability, message).about(id)
        })?;
        Ok(target.definition.grants)
    }

    /// The item for `matter`: the one already waiting for the very same, or a new one.
    pub(super) fn place(&self, session: &Session, matter: Matter) -> Result<Item, Denial> {
        let now = self.now();
        let open = self.ledger().open(now);
        let mine: Vec<_> = open.into_iter().filter(|row| row.agent == session.agent).collect();
        let same = |row: &&PendingRow| row.session == session.id && row.matter.same(&matter);
        if let Some(row) = mine.iter().find(same) {
            return Ok(Item::Waiting(row.clone()));
        }
        if mine.len() >= MAX_OPEN_ITEMS {
            let message = format!(
                "{MAX_OPEN_ITEMS} requests already wait for the owner; poll those before asking more"
            );
            return Err(Denial::new(Code::RateLimited, message));
        }
        Ok(Item::New(PendingRow {
            id: PendingId::fresh(now),
            agent: session.agent.clone(),
            session: session.id.clone(),
            state: PendingState::Pending,
            created_at: now,
            expires_at: now.plus(self.lifetimes().pending),
            matter,
        }))
    }

    /// Makes what the policy allowed stand. A yes of the policy lifts no mark of a revoke: there was
    /// none, or it would have asked.
    async fn allow_fresh(
        &self,
        session: &Session,
        fresh: &mut [Granted],
        occasion: &Occasion,
    ) -> Result<(), Denial> {
        if fresh.is_empty() {
            return Ok(());
        }
        let empty = self.room(&session.agent, fresh, occasion.bundle.as_ref())?;
        let bundle = occasion.bundle.as_ref().map(|asked| self.bundle_of(&session.agent, asked));
        for Granted { grant, .. } in fresh.iter_mut() {
            grant.bundle = bundle.as_ref().map(|row| row.id.clone());
        }
        let record = Record::new(EventType::GrantAllow)
            .agent(&session.agent)
            .session(&session.id)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "by": "policy",
                "granted": fresh.iter().map(describe).collect::<Vec<_>>(),
            }));
        let mut changes: Vec<_> = fresh.iter().flat_map(stand).collect();
        changes.extend(empty.map(Change::DropBundle));
        changes.extend(bundle.map(Change::PutBundle));
        self.change(record, changes).await?;
        Ok(())
    }

    /// The bundle that `asked` makes, or made: one agent's bundles of one name are one.
    pub(super) fn bundle_of(&self, agent: &AgentId, asked: &AskedBundle) -> BundleRow {
        let ledger = self.ledger();
        let known =
            ledger.bundles().into_iter().find(|b| b.agent == *agent && b.name == asked.name);
        let now = self.now();
        let (id, created_at) = match known {
            Some(row) => (row.id.clone(), row.created_at),
            None => (BundleId::fresh(now), now),
        };
        let (agent, name, context) = (agent.clone(), asked.name.clone(), asked.context.clone());
        BundleRow { id, agent, name, created_at, context }
    }

    async fn ask(&self, session: &Session, row: &PendingRow) -> Result<(), ChangeError> {
        let record = Record::new(EventType::GrantPending)
            .agent(&session.agent)
            .session(&session.id)
            .detail(&json!({"pendingId": row.id, "asks": row.asks()}));
        self.change(record, vec![Change::PutPending(row.clone())]).await?;
        self.tell_asked(row);
        Ok(())
    }

    /// Tells the owner that `row` waits.
    pub(super) fn tell_asked(&self, row: &PendingRow) {
        self.core.events.tell_owner(Event::PendingAdded {
            pending: row.id.clone(),
            agent: row.agent.clone(),
            capabilities: row.capabilities(),
        });
    }

    /// How far the question `id` has come, for the session that asked it. Anyone else is told that
    /// there is no such question.
    pub fn status(&self, session: &Session, id: &str) -> Option<GrantStatus> {
        let status = self.status_for_owner(id).filter(|told| told.item.session == session.id)?;
        let token = self.sessions.kept(&session.id, &status.item.id);
        Some(GrantStatus { token, ..status })
    }

    /// How far the question `id` has come, for the owner: whoever asked, and without a token.
    pub fn status_for_owner(&self, id: &str) -> Option<GrantStatus> {
        let id: PendingId = id.parse().ok()?;
        let item = self.ledger().pending(&id, self.now())?;
        let narration = narration(&self.core.registry.catalog(), &item);
        Some(GrantStatus { item, narration, token: None })
    }

    /// What stands, of one agent or of all.
    pub fn standing(&self, agent: Option<&AgentId>) -> Vec<StandingGrant> {
        let catalog = self.core.registry.catalog();
        let ledger: &Ledger = &self.ledger();
        let grants = ledger.grants(agent, self.now());
        grants.into_iter().map(|grant| standing(&catalog, grant)).collect()
    }
}

pub(super) enum Item {
    Waiting(PendingRow),
    New(PendingRow),
}

impl Item {
    fn row(self) -> PendingRow {
        match self {
            Self::Waiting(row) | Self::New(row) => row,
        }
    }
}

/// What the owner is asked about must be small enough to be shown.
fn showable(input: &AskedInput) -> Result<(), Denial> {
    if input.can_be_shown() {
        return Ok(());
    }
    let message = "the owner would have to see this input first, and it is too large to be shown; \
                   ask for the capability itself with PUT /grants";
    Err(Denial::new(Code::GrantRequired, message))
}

/// What identifies what was asked for.
pub(super) fn digest(catalog: &Catalog, target: &Registered) -> String {
    data_encoding::HEXLOWER.encode(&identity(catalog, target))
}

pub(super) fn narration(catalog: &Catalog, item: &PendingRow) -> Vec<PendingNarration> {
    item.asks().iter().filter_map(|ask| narrate(catalog, item, ask)).collect()
}

/// `grant` as the ledger shows it.
pub fn standing(catalog: &Catalog, grant: &Grant) -> StandingGrant {
    use plexus_shared::model::trust::Provenance;
    let listed = catalog.get(grant.capability.as_str());
    let class = listed.map_or(Provenance::Extension, |listed| listed.target.posture.provenance);
    StandingGrant {
        agent_id: grant.agent.clone(),
        capability_id: grant.capability.clone(),
        verbs: grant.verbs,
        provenance: class,
        sensitivity: Whole::of(catalog, grant.capability.as_str(), grant.verbs).sensitivity,
        granted_at: grant.granted_at,
        expires_at: grant.expires_at,
        trust_window: grant.window,
        standing: grant.window != TrustWindow::Once,
        constraint: grant.constraint.clone(),
        bundle_id: grant.bundle.clone(),
        top_level_disabled: listed.is_some_and(|listed| !listed.exposed),
    }
}
