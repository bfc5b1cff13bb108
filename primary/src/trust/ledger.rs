//! What the trust engine knows, in memory: agents, grants, pending items.

use std::collections::{HashMap, HashSet};

use plexus_shared::clock::Timestamp;
use plexus_shared::gate::members::Whole;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, PendingId};
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::trust::{Grant, TrustWindow};
use plexus_shared::model::verb::{Verb, VerbSet};
use plexus_shared::secret::CredentialHash;

use crate::store::rows::{AgentRow, BundleRow, PendingRow, PendingState};
use crate::store::{Change, Kept, Prune};

/// Agents, grants and pending items, indexed for the questions that are asked of them.
#[derive(Debug, Default)]
pub struct Ledger {
    agents: HashMap<AgentId, AgentRow>,
    by_code: HashMap<CredentialHash, AgentId>,
    by_pat: HashMap<CredentialHash, AgentId>,
    spent: HashMap<CredentialHash, Timestamp>,
    grants: HashMap<(AgentId, CapabilityId), Vec<Grant>>,
    pending: HashMap<PendingId, PendingRow>,
    tombstones: HashSet<(AgentId, CapabilityId)>,
    bundles: HashMap<BundleId, BundleRow>,
}

impl Ledger {
    /// The ledger as it was kept.
    pub fn new(kept: &mut Kept) -> Self {
        let mut ledger = Self::default();
        ledger.spent.extend(kept.spent_codes.drain(..));
        kept.agents.drain(..).for_each(|row| ledger.put_agent(row));
        kept.grants.drain(..).for_each(|grant| ledger.put_grant(grant));
        ledger.tombstones.extend(kept.tombstones.drain(..));
        ledger.bundles.extend(kept.bundles.drain(..).map(|row| (row.id.clone(), row)));
        ledger.pending.extend(kept.pending.drain(..).map(|row| (row.id.clone(), row)));
        ledger
    }

    /// Takes over a change that was committed. Changes of other matters are not the ledger's.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutAgent(row) => self.put_agent(row),
            Change::DropAgent(id) => {
                self.drop_agent(&id);
                self.bundles.retain(|_, bundle| bundle.agent != id);
            }
            Change::SpendCode(hash, at) => {
                self.spent.insert(hash, at);
            }
            Change::Prune(which) => self.prune(&which),
            Change::PutGrant(grant) => self.put_grant(grant),
            Change::DropGrants(prefix) => self.keep_grants(|grant| !grant.reaches(&prefix)),
            Change::RevokeGrants { agent, capability, .. } => {
                let pair = (agent, capability);
                self.grants.remove(&pair);
                self.tombstones.insert(pair);
            }
            Change::PutTombstone(agent, capability, _) => {
                self.tombstones.insert((agent, capability));
            }
            Change::LiftTombstone(agent, capability) => {
                self.tombstones.remove(&(agent, capability));
            }
            Change::PutBundle(row) => {
                self.bundles.insert(row.id.clone(), row);
            }
            Change::DropBundle(id) => {
                self.bundles.remove(&id);
                self.keep_grants(|grant| grant.bundle.as_ref() != Some(&id));
            }
            Change::PutPending(row) => {
                self.pending.insert(row.id.clone(), row);
            }
            Change::SetRules(_)
            | Change::PutSource(_)
            | Change::DropSource(_)
            | Change::PutExtension(_)
            | Change::DropExtension(_)
            | Change::PutTicket(_)
            | Change::PruneTickets { .. }
            | Change::PutWorkload(_)
            | Change::PutCursor { .. }
            | Change::PutCatalog { .. }
            | Change::PutReplay(_)
            | Change::DropReplay(_)
            | Change::PruneReplays(_)
            | Change::SetRevision(_)
            | Change::SetFrozen(_)
            | Change::Probe => {}
        }
    }

    fn drop_agent(&mut self, id: &AgentId) {
        let Some(old) = self.agents.remove(id) else { return };
        if let Some(hash) = &old.code {
            self.by_code.remove(hash);
        }
        if let Some(hash) = &old.pat {
            self.by_pat.remove(hash);
        }
    }

    fn put_agent(&mut self, row: AgentRow) {
        self.drop_agent(&row.id);
        if let Some(hash) = &row.code {
            self.by_code.insert(*hash, row.id.clone());
        }
        if let Some(hash) = &row.pat {
            self.by_pat.insert(*hash, row.id.clone());
        }
        self.agents.insert(row.id.clone(), row);
    }

    fn put_grant(&mut self, grant: Grant) {
        let held = self.grants.entry((grant.agent.clone(), grant.capability.clone())).or_default();
        held.retain(|old| old.verbs != grant.verbs || old.constraint != grant.constraint);
        held.push(grant);
    }

    fn prune(&mut self, which: &Prune) {
        self.keep_grants(|grant| grant.expires_at > which.grants);
        self.pending.retain(|_, row| !over(row, which));
        self.spent.retain(|_, at| *at > which.settled);
    }

    /// Whether there is anything that `which` lets go.
    pub(super) fn has_ended(&self, which: &Prune) -> bool {
        self.grants.values().flatten().any(|grant| grant.expires_at <= which.grants)
            || self.pending.values().any(|row| over(row, which))
            || self.spent.values().any(|at| *at <= which.settled)
    }

    fn keep_grants(&mut self, keep: impl Fn(&Grant) -> bool) {
        self.grants.values_mut().for_each(|held| held.retain(&keep));
        self.grants.retain(|_, held| !held.is_empty());
    }

    /// The agent called `id`.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentRow> {
        self.agents.get(id)
    }

    /// Every agent, by name.
    pub fn agents(&self) -> Vec<&AgentRow> {
        let mut agents: Vec<_> = self.agents.values().collect();
        agents.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        agents
    }

    /// The agent whose unredeemed code hashes to `hash`.
    pub fn by_code(&self, hash: &CredentialHash) -> Option<&AgentRow> {
        self.by_code.get(hash).and_then(|id| self.agents.get(id))
    }

    /// The agent whose PAT hashes to `hash`.
    pub fn by_pat(&self, hash: &CredentialHash) -> Option<&AgentRow> {
        self.by_pat.get(hash).and_then(|id| self.agents.get(id))
    }

    /// Whether a code with this hash was redeemed before.
    pub fn spent(&self, hash: &CredentialHash) -> bool {
        self.spent.contains_key(hash)
    }

    /// What `agent` holds on `capability` that covers `verbs` and whose constraint `fits`, standing and
    /// unexpired at `now`, and still a yes to the `whole` that it comes to: of several, the one that
    /// ends last. Each approval stands by itself; none lengthens or shortens another.
    pub fn standing(
        &self,
        agent: &AgentId,
        capability: &CapabilityId,
        verbs: VerbSet,
        whole: &Whole,
        fits: impl Fn(Option<&Constraint>) -> bool,
        now: Timestamp,
    ) -> Option<&Grant> {
        let held = self.grants.get(&(agent.clone(), capability.clone()))?;
        let standing = |grant: &&Grant| grant.window != TrustWindow::Once && grant.expires_at > now;
        let covers = |grant: &&Grant| grant.verbs.covers(verbs) && fits(grant.constraint.as_ref());
        let covering = held.iter().filter(standing).filter(covers);
        let good = covering.filter(|grant| self.may_stand(grant, whole));
        good.max_by_key(|grant| grant.expires_at)
    }

    /// Whether the owner revoked this and has not said yes to it since.
    pub fn tombstoned(&self, agent: &AgentId, capability: &CapabilityId) -> bool {
        self.tombstones.contains(&(agent.clone(), capability.clone()))
    }

    /// Whether the owner revoked a member of a workflow and has not said yes to it since.
    pub fn marked(&self, agent: &AgentId, whole: &Whole) -> bool {
        whole.known_members().iter().any(|member| self.tombstoned(agent, &member.id))
    }

    /// Whether an earlier yes to something that comes to `whole` now is good still: no yes outlives a
    /// revoke of a member, or a member that runs something, or covers more than it came to when it was
    /// given.
    fn may_stand(&self, grant: &Grant, whole: &Whole) -> bool {
        !whole.verbs.contains(Verb::Execute)
            && !self.marked(&grant.agent, whole)
            && whole.within(grant.extent.as_ref())
    }

    /// The bundle `id`.
    pub fn bundle(&self, id: &BundleId) -> Option<&BundleRow> {
        self.bundles.get(id)
    }

    /// Every bundle, oldest first.
    pub fn bundles(&self) -> Vec<&BundleRow> {
        let mut bundles: Vec<_> = self.bundles.values().collect();
        bundles.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        bundles
    }

    /// Every standing grant at `now`, of one agent or of all, in order.
    pub fn grants(&self, agent: Option<&AgentId>, now: Timestamp) -> Vec<&Grant> {
        let mine = |grant: &&Grant| agent.is_none_or(|agent| grant.agent == *agent);
        let live = |grant: &&Grant| grant.expires_at > now;
        let mut grants: Vec<_> = self.grants.values().flatten().filter(mine).filter(live).collect();
        grants.sort_unstable_by(|a, b| (&a.agent, &a.capability).cmp(&(&b.agent, &b.capability)));
        grants
    }

    /// The pending item `id`, its state as of `now`.
    pub fn pending(&self, id: &PendingId, now: Timestamp) -> Option<PendingRow> {
        self.pending.get(id).map(|row| aged(row, now))
    }

    /// What waits for the owner at `now`, oldest first.
    pub fn open(&self, now: Timestamp) -> Vec<PendingRow> {
        let mut open: Vec<_> = self.in_state(PendingState::Pending, now).collect();
        open.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        open
    }

    /// What nobody answered in time, and is not settled yet.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<PendingRow> {
        let waits = |row: &&PendingRow| row.state == PendingState::Pending && row.expires_at <= now;
        self.pending.values().filter(waits).cloned().collect()
    }

    fn in_state(&self, state: PendingState, now: Timestamp) -> impl Iterator<Item = PendingRow> {
        self.pending.values().map(move |row| aged(row, now)).filter(move |row| row.state == state)
    }
}

/// Whether `row` is settled, and would not wait any more.
fn over(row: &PendingRow, which: &Prune) -> bool {
    row.state != PendingState::Pending && row.expires_at <= which.settled
}

fn aged(row: &PendingRow, now: Timestamp) -> PendingRow {
    let mut row = row.clone();
    if row.state == PendingState::Pending && row.expires_at <= now {
        row.state = PendingState::Expired;
    }
    row
}

/// A grant, and what it comes to now.
pub(super) struct Granted {
    /// The grant.
    pub(super) grant: Grant,
    /// What it comes to.
    pub(super) whole: Whole,
}

/// What an approval of `verbs`, which come to `whole`, makes for `window`.
pub(super) fn granted(
    agent: &AgentId,
    capability: &CapabilityId,
    verbs: VerbSet,
    whole: Whole,
    window: TrustWindow,
    now: Timestamp,
) -> Granted {
    let grant = Grant {
        agent: agent.clone(),
        capability: capability.clone(),
        verbs,
        constraint: None,
        bundle: None,
        granted_at: now,
        expires_at: window.expiry(now),
        window,
        extent: Some(whole.extent()),
    };
    Granted { grant, whole }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::store::rows::Matter;
    use plexus_shared::model::scope::MemberScope;
    use plexus_shared::model::trust::{Provenance, Sensitivity};
    use plexus_shared::model::verb::Verb;

    /// What comes to itself alone.
    fn alone(verbs: VerbSet) -> Whole {
        let (class, sensitivity) = (Provenance::Managed, Sensitivity::Low);
        Whole { members: Ok(Vec::new()), verbs, class, sensitivity }
    }

    #[test]
    fn an_extension_that_waits_no_more_is_not_kept_to_be_shown() {
        let at = Timestamp::from_millis;
        let shown = serde_json::json!({"manifest": "{}", "widens": true, "problems": [],
            "preview": {"source": "say", "label": "Say", "reach": {}, "entries": []}});
        let asked = serde_json::json!({"source": "say", "capabilities": ["say.it.loud"],
            "digest": "00", "replaces": null, "shown": shown});
        let row = PendingRow {
            id: PendingId::fresh(at(0)),
            agent: "ada".parse().unwrap(),
            session: plexus_shared::ids::SessionId::fresh(at(0)),
            state: PendingState::Pending,
            created_at: at(0),
            expires_at: at(9),
            matter: Matter::Register(serde_json::from_value(asked).unwrap()),
        };
        let mut ledger = Ledger::default();
        ledger.apply(Change::PutPending(row));
        assert_eq!((ledger.open(at(8)).len(), ledger.expired(at(8)).len()), (1, 0));
        let expired = ledger.expired(at(9)).pop().unwrap();
        let Matter::Register(asked) = expired.settled(PendingState::Expired).matter else {
            unreachable!("it asks for an extension");
        };
        assert_eq!((asked.shown, asked.capabilities.len()), (None, 1));
    }

    #[test]
    fn approving_one_verb_neither_lengthens_nor_shortens_another() {
        let now = Timestamp::from_millis(0);
        let (agent, id) = ("ada".parse().unwrap(), "a.b.c".parse().unwrap());
        let write: VerbSet = [Verb::Write].into_iter().collect();
        let mut ledger = Ledger::default();
        let give = |verbs, window| granted(&agent, &id, verbs, alone(verbs), window, now).grant;
        ledger.put_grant(give(write, TrustWindow::UntilRevoked));
        ledger.put_grant(give(VerbSet::READ, TrustWindow::Hour));
        let ends = |ledger: &Ledger, verbs, at| {
            let held = ledger.standing(&agent, &id, verbs, &alone(verbs), |_| true, at);
            held.map(|grant| grant.expires_at)
        };
        assert_eq!(ends(&ledger, VerbSet::READ, now), Some(TrustWindow::Hour.expiry(now)));
        assert_eq!(ends(&ledger, write, now), Some(TrustWindow::UntilRevoked.expiry(now)));
        assert_eq!(ends(&ledger, write.union(VerbSet::READ), now), None, "two halves are no whole");
        ledger.put_grant(give(VerbSet::READ, TrustWindow::Day));
        assert_eq!(ends(&ledger, VerbSet::READ, now), Some(TrustWindow::Day.expiry(now)));
        assert_eq!(ledger.grants(Some(&agent), now).len(), 2, "the same verbs again replace");
    }

    #[test]
    fn a_yes_to_a_workflow_ends_where_it_comes_to_more_than_it_did() {
        let now = Timestamp::from_millis(0);
        let (agent, id) = ("ada".parse().unwrap(), "w.f.run".parse().unwrap());
        let member: CapabilityId = "a.b.c".parse().unwrap();
        let whole = |verbs: &[Verb], class| {
            let verbs = verbs.iter().copied().collect();
            let members = vec![MemberScope { id: member.clone(), verbs }];
            Whole { members: Ok(members), class, ..alone(VerbSet::READ.union(verbs)) }
        };
        let (read, write) = ([Verb::Read], [Verb::Read, Verb::Write]);
        let approved = whole(&read, Provenance::Managed);
        let mut ledger = Ledger::default();
        let yes = granted(&agent, &id, VerbSet::READ, approved, TrustWindow::Week, now).grant;
        ledger.put_grant(yes.clone());
        let stands = |ledger: &Ledger, whole: &Whole| {
            ledger.standing(&agent, &id, VerbSet::READ, whole, |_| true, now).is_some()
        };
        assert!(stands(&ledger, &whole(&read, Provenance::Managed)));
        assert!(!stands(&ledger, &whole(&write, Provenance::Managed)), "its member writes now");
        assert!(!stands(&ledger, &whole(&read, Provenance::Extension)), "or is someone else's");
        // A new yes, to what it comes to now, stands beside the old one.
        let wider = whole(&write, Provenance::Managed);
        let narrow =
            Some(serde_json::from_str(r#"{"allow":{"field":"f","values":["x"]}}"#).unwrap());
        let new = granted(&agent, &id, VerbSet::READ, wider, TrustWindow::Hour, now).grant;
        ledger.put_grant(Grant { constraint: narrow, ..new });
        assert!(
            stands(&ledger, &whole(&write, Provenance::Managed)),
            "the longer one hides it not"
        );
        ledger.apply(Change::DropGrants("a.".to_owned()));
        assert!(ledger.grants(None, now).is_empty(), "it goes with what it reaches");
    }
}
