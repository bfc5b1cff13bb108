//! The owner answers.

use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::gate::constraint::both;
use plexus_shared::gate::members::Whole;
use plexus_shared::gate::sensitivity::Picker;
use plexus_shared::ids::{CapabilityId, PendingId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::Denial;
use plexus_shared::model::scope::ScopedToken;
use plexus_shared::model::trust::{Grant, TrustWindow};
use plexus_shared::source::registry::Catalog;
use serde_json::json;

use super::agents::{describe, stand};
use super::grants::{digest, narration};
use super::ledger::{Granted, granted};
use super::narration::PendingNarration;
use super::{ChangeError, Trust};
use crate::events::Decision;
use crate::store::Change;
use crate::store::rows::{Ask, AskedGrants, Matter, PendingRow, PendingState};

/// What the owner says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Yes, for this long; the default of each capability when it isn't said. A constraint narrows
    /// what each was asked with.
    Approve(Option<TrustWindow>, Option<Constraint>),
    /// No, for this reason.
    Deny(Option<String>),
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is no such item.
    #[error("nothing with this id waits for an answer; see `plexus pending`")]
    Unknown,
    /// It was answered, or ended, before.
    #[error("this request is already {}", .0)]
    Settled(&'static str),
    /// What was asked for is not what is there now; it was asked anew where it could be.
    #[error("{id} has changed or gone since it was asked for; {}", next(.anew.as_ref()))]
    Changed {
        /// What changed.
        id: CapabilityId,
        /// The item that asks for what it is now.
        anew: Option<PendingId>,
    },
    /// The owner's constraint does not go with what was asked for, or is too long.
    #[error("{0}")]
    Unfit(String),
    /// It could not be recorded or kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Lets `grant` be for inputs that `own` admits too, and only those.
fn narrow(grant: &mut Grant, own: &Constraint) -> Result<(), AnswerError> {
    let joined = match &grant.constraint {
        None => own.clone(),
        Some(asked) => both(asked, own).map_err(|why| {
            AnswerError::Unfit(format!(
                "{}: the agent asked with a constraint; {why}",
                grant.capability
            ))
        })?,
    };
    grant.constraint = Some(joined);
    Ok(())
}

fn next(anew: Option<&PendingId>) -> String {
    match anew {
        Some(anew) => format!("{anew} asks for it as it is now"),
        None => "the agent must ask for something else".to_owned(),
    }
}

impl Trust {
    /// Everything that waits for the owner, with what it means.
    pub fn waiting(&self) -> Vec<(PendingRow, Vec<PendingNarration>)> {
        let catalog = self.core.registry.catalog();
        let open = self.ledger().open(self.now());
        open.into_iter()
            .map(|row| {
                let told = narration(&catalog, &row);
                (row, told)
            })
            .collect()
    }

    /// Takes the owner's answer to `id`, and says what it gave: nothing when it was no. An item is
    /// answered once. A yes means what was asked when it was asked: a capability whose definition has
    /// changed since is a new question.
    ///
    /// # Errors
    /// See [`AnswerError`].
    pub async fn answer(&self, id: &PendingId, answer: Answer) -> Result<Vec<Grant>, AnswerError> {
        let _gate = self.gate.lock().await;
        let item = self.open_item(id)?;
        match answer {
            Answer::Approve(window, constraint) => self.approve(item, window, constraint).await,
            Answer::Deny(reason) => self.refuse(item, reason).await.map(|()| Vec::new()),
        }
    }

    /// The item `id`, while it waits.
    ///
    /// # Errors
    /// [`AnswerError::Unknown`] and [`AnswerError::Settled`].
    pub fn open_item(&self, id: &PendingId) -> Result<PendingRow, AnswerError> {
        let item = self.ledger().pending(id, self.now()).ok_or(AnswerError::Unknown)?;
        match item.state {
            PendingState::Pending => Ok(item),
            PendingState::Approved => Err(AnswerError::Settled("approved")),
            PendingState::Denied => Err(AnswerError::Settled("denied")),
            PendingState::Expired => Err(AnswerError::Settled("expired")),
        }
    }

    async fn approve(
        &self,
        item: PendingRow,
        window: Option<TrustWindow>,
        constraint: Option<Constraint>,
    ) -> Result<Vec<Grant>, AnswerError> {
        let asked = item.grants().ok_or(AnswerError::Unknown)?;
        if let Some(id) = self.moved(asked) {
            return Err(self.ask_anew(&item, asked, id).await?);
        }
        let mut granted = self.granted_by(&item, window);
        if let Some(own) = &constraint {
            granted.iter_mut().try_for_each(|granted| narrow(&mut granted.grant, own))?;
        }
        let unfit = |denial: Denial| AnswerError::Unfit(denial.message);
        self.fits(&item.agent, granted.iter()).map_err(unfit)?;
        let bundle = asked.bundle.as_ref().map(|asked| self.bundle_of(&item.agent, asked));
        for Granted { grant, .. } in &mut granted {
            grant.bundle = bundle.as_ref().map(|row| row.id.clone());
        }
        let item = item.settled(PendingState::Approved);
        let record = Record::new(EventType::GrantAllow)
            .agent(&item.agent)
            .session(&item.session)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({
                "by": "owner",
                "pendingId": item.id,
                "granted": granted.iter().map(describe).collect::<Vec<_>>(),
            }));
        let mut changes: Vec<_> = granted.iter().flat_map(stand).collect();
        changes.extend(bundle.map(Change::PutBundle));
        changes.push(Change::PutPending(item.clone()));
        self.change(record, changes).await?;
        let token = self.hand_over(&item, &granted);
        self.tell_resolved(&item, Decision::Approved, token);
        Ok(granted.into_iter().map(|granted| granted.grant).collect())
    }

    /// The first thing that was asked for and that is not what it was then.
    fn moved(&self, asked: &AskedGrants) -> Option<CapabilityId> {
        let catalog = self.core.registry.catalog();
        asked.asks.iter().find(|ask| !is_as_asked(&catalog, ask)).map(|ask| ask.id.clone())
    }

    /// Ends `item`, of which `id` has changed, and asks for the same as it is now; for nothing, where
    /// that can't be asked for any more.
    async fn ask_anew(
        &self,
        item: &PendingRow,
        asked: &AskedGrants,
        id: CapabilityId,
    ) -> Result<AnswerError, ChangeError> {
        let now = self.now();
        let catalog = self.core.registry.catalog();
        let current = |ask: &Ask| {
            let target = catalog.exposed(ask.id.as_str())?;
            let still = target.definition.grants.covers(ask.verbs);
            still.then(|| Ask { digest: digest(&catalog, target), ..ask.clone() })
        };
        let asks: Option<Vec<_>> = asked.asks.iter().map(current).collect();
        let anew = asks.map(|asks| PendingRow {
            id: PendingId::fresh(now),
            created_at: now,
            expires_at: now.plus(self.lifetimes().pending),
            matter: Matter::Grant(AskedGrants { asks, ..asked.clone() }),
            ..item.clone()
        });
        let item = item.clone().settled(PendingState::Denied);
        let event = if anew.is_some() { EventType::GrantPending } else { EventType::GrantDeny };
        let record = Record::new(event).agent(&item.agent).session(&item.session).detail(&json!({
            "pendingId": anew.as_ref().unwrap_or(&item).id,
            "asks": anew.as_ref().unwrap_or(&item).asks(),
            "replaces": item.id,
            "reason": format!("{id} has changed or gone"),
        }));
        let changes = anew.iter().chain([&item]).cloned().map(Change::PutPending).collect();
        self.change(record, changes).await?;
        self.tell_resolved(&item, Decision::Denied, None);
        anew.iter().for_each(|row| self.tell_asked(row));
        Ok(AnswerError::Changed { id, anew: anew.map(|row| row.id) })
    }

    /// What a yes to `item` gives, for the window the owner picks.
    pub(super) fn granted_by(
        &self,
        item: &PendingRow,
        picked: Option<TrustWindow>,
    ) -> Vec<Granted> {
        let catalog = self.core.registry.catalog();
        item.asks().iter().map(|ask| self.yes(&catalog, item, ask, picked)).collect()
    }

    /// What a yes to `ask` of `item` gives, for the window the owner picks; for its default where none
    /// is.
    pub(super) fn yes(
        &self,
        catalog: &Catalog,
        item: &PendingRow,
        ask: &Ask,
        picked: Option<TrustWindow>,
    ) -> Granted {
        let whole = Whole::of(catalog, ask.id.as_str(), ask.verbs);
        let (class, verbs) = (whole.class, whole.verbs);
        let window = match picked {
            Some(picked) => self.window(Picker::Owner, class, verbs, Some(picked)),
            // A call that was shown is what is allowed: once, unless the owner says more.
            None if item.single() => TrustWindow::Once,
            None => self.window(Picker::Agent, class, verbs, ask.window),
        };
        let window = if item.agent.is_anonymous() { TrustWindow::Once } else { window };
        let now = self.now();
        let mut granted = granted(&item.agent, &ask.id, ask.verbs, whole, window, now);
        granted.grant.constraint.clone_from(&ask.constraint);
        granted
    }

    /// Mints the token the asking session is waiting for, when that session still lives. A standing
    /// grant outlives it; a single use does not.
    fn hand_over(&self, item: &PendingRow, granted: &[Granted]) -> Option<ScopedToken> {
        let session = self.sessions.live(item.session.as_str(), self.now())?;
        let input = item.grants().and_then(|asked| asked.input.as_ref());
        let shown = input.and_then(|input| {
            let bytes = data_encoding::HEXLOWER.decode(input.digest.as_bytes()).ok()?;
            bytes.try_into().ok()
        });
        let minted = self.mint(&session, granted, shown).inspect_err(|error| {
            tracing::warn!(%error, "no token was minted for an approved request");
        });
        let token = minted.ok()?;
        self.sessions.keep(&session.id, item.id.clone(), token.clone());
        Some(token)
    }

    async fn refuse(&self, item: PendingRow, reason: Option<String>) -> Result<(), AnswerError> {
        let item = item.settled(PendingState::Denied);
        let record = Record::new(EventType::GrantDeny)
            .agent(&item.agent)
            .session(&item.session)
            .outcome(RecordOutcome::Denied)
            .detail(&json!({
                "by": "owner", "pendingId": item.id, "kind": item.matter.kind(), "reason": reason,
            }));
        self.change(record, vec![Change::PutPending(item.clone())]).await?;
        self.tell_resolved(&item, Decision::Denied, None);
        Ok(())
    }
}

/// Whether what `ask` asks for is there as it was when it was asked for.
pub(super) fn is_as_asked(catalog: &Catalog, ask: &Ask) -> bool {
    let listed = catalog.get(ask.id.as_str());
    listed.is_some_and(|listed| digest(catalog, &listed.target) == ask.digest)
}
