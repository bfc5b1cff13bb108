//! The limits as the routes meet them: who is told to come back later, and when.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use plexus_shared::ids::AgentId;
use plexus_shared::model::denial::{Code, Denial};
use serde_json::{Value, json};

use super::error::Failure;
use crate::core::Core;
use crate::limits::{Door, Failures, Place, Places, Rates, Ration};

/// Where a request came from; put on each by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Whose requests a token bucket counts. What a dead token asks for is not its agent's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asker {
    agent: AgentId,
    live: bool,
}

#[derive(Debug, Default)]
struct Counts {
    failures: Failures,
    rates: Rates<Asker>,
    failed_rows: Ration,
    limited_rows: Ration,
}

/// What every route counts against.
#[derive(Debug, Default)]
pub struct Limits {
    counts: Mutex<Counts>,
    places: Places,
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A credential was shown at `door` and is none: it is recorded, within the ration. Says what its
    /// peer is told instead of the usual, when it failed too often.
    pub fn failed(&self, core: &Core, peer: Option<Peer>, door: Door) -> Option<Failure> {
        let now = core.now();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |Peer(peer)| peer);
        let (wait, row) = {
            let mut counts = self.lock();
            (counts.failures.failed(peer, door, now), counts.failed_rows.take(now))
        };
        if let Some(others) = row {
            let detail = json!({"at": door.as_str(), "peer": peer, "unrecorded": others});
            if let Err(unavailable) = note(core, EventType::AuthFailed, None, &detail) {
                return Some(super::admin::unrecorded(unavailable).into());
            }
        }
        let message = "too many wrong credentials; a right one is still taken, and another wrong \
                       one only after the time in Retry-After";
        wait.map(|wait| too_much(message, wait))
    }

    /// Takes one request of `agent`; `live` when what it shows is good now.
    ///
    /// # Errors
    /// 429, with the time to wait.
    pub fn request(&self, core: &Core, agent: &AgentId, live: bool) -> Result<(), Failure> {
        let limits = core.settings.now().rate_limits;
        let asker = Asker { agent: agent.clone(), live };
        let taken = self.lock().rates.take(&asker, &limits, core.now());
        taken.map_err(|wait| {
            self.limited(core, agent, "requests");
            too_much("too many requests; slow down, and wait as long as Retry-After says", wait)
        })
    }

    /// A place for a call of `agent`.
    ///
    /// # Errors
    /// 429 when it has as many under way as it may.
    pub fn place(&self, core: &Core, agent: &AgentId) -> Result<Place, Failure> {
        let most = core.settings.now().rate_limits.concurrent_calls;
        self.places.take(agent, most).ok_or_else(|| {
            self.limited(core, agent, "calls");
            let message = format!("{most} calls of this agent are under way; let one end first");
            too_much(message, Duration::from_secs(1))
        })
    }

    fn limited(&self, core: &Core, agent: &AgentId, what: &str) {
        let row = self.lock().limited_rows.take(core.now());
        if let Some(others) = row {
            let detail = json!({"code": "rate_limited", "limit": what, "unrecorded": others});
            // It is refused either way.
            let _ = note(core, EventType::Invoke, Some(agent), &detail);
        }
    }

    /// Records how many refusals went without a row, once their time is over.
    pub fn settle(&self, core: &Core) {
        let now = core.now();
        let (failed, limited) = {
            let mut counts = self.lock();
            (counts.failed_rows.overdue(now), counts.limited_rows.overdue(now))
        };
        let kinds = [(EventType::AuthFailed, failed), (EventType::Invoke, limited)];
        for (kind, others) in kinds {
            let Some(others) = others else { continue };
            let _ = note(core, kind, None, &json!({"code": "rate_limited", "unrecorded": others}));
        }
    }
}

fn note(
    core: &Core,
    kind: EventType,
    agent: Option<&AgentId>,
    detail: &Value,
) -> Result<(), AuditUnavailable> {
    let record = Record::new(kind).outcome(RecordOutcome::Denied).detail(detail);
    let record = match agent {
        Some(agent) => record.agent(agent),
        None => record,
    };
    core.audit.append(record).map(|_| ())
}

fn too_much(message: impl Into<String>, wait: Duration) -> Failure {
    Failure::new(Denial::new(Code::RateLimited, message)).retry_after(wait)
}
