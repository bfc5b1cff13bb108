//! How much one agent may keep by asking. What is allowed unasked costs the agent nothing, so it is
//! bounded: each constraint is a grant of its own, and each name a bundle.

use plexus_shared::ids::{AgentId, BundleId};
use plexus_shared::model::denial::{Code, Denial};

use super::Trust;
use super::ledger::Granted;
use crate::store::rows::AskedBundle;

/// The most grants of one agent on one capability that are made without the owner.
const MAX_GRANTS: usize = 64;
/// The most bundles of one agent that are made without the owner.
const MAX_BUNDLES: usize = 64;

impl Trust {
    /// Whether `agent` may be given `fresh` without the owner. Says which empty bundle makes room for
    /// the one that is asked for, where one has to.
    ///
    /// # Errors
    /// `rate_limited` when it holds as much as it may.
    pub(super) fn room(
        &self,
        agent: &AgentId,
        fresh: &[Granted],
        asked: Option<&AskedBundle>,
    ) -> Result<Option<BundleId>, Denial> {
        let ledger = self.ledger();
        let held = ledger.grants(Some(agent), self.now());
        let full = |granted: &&Granted| {
            let same = held.iter().filter(|grant| grant.capability == granted.grant.capability);
            same.count() >= MAX_GRANTS
        };
        if let Some(Granted { grant, .. }) = fresh.iter().find(full) {
            let message = format!(
                "{MAX_GRANTS} grants on this capability stand already; ask for one of those again, or \
                 wait until one ends"
            );
            return Err(Denial::new(Code::RateLimited, message).about(grant.capability.as_str()));
        }
        let Some(asked) = asked.filter(|_| !fresh.is_empty()) else { return Ok(None) };
        let mine: Vec<_> =
            ledger.bundles().into_iter().filter(|bundle| bundle.agent == *agent).collect();
        if mine.len() < MAX_BUNDLES || mine.iter().any(|bundle| bundle.name == asked.name) {
            return Ok(None);
        }
        let gives = |id: &BundleId| {
            held.iter().any(|grant| grant.bundle.as_ref() == Some(id))
                || !self.sessions.bundled(agent, id).is_empty()
        };
        match mine.iter().find(|bundle| !gives(&bundle.id)) {
            Some(empty) => Ok(Some(empty.id.clone())),
            None => {
                let message = format!("{MAX_BUNDLES} bundles stand already; ask without one");
                Err(Denial::new(Code::RateLimited, message))
            }
        }
    }
}
