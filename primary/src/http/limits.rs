//! The limits as the routes meet them: who is told to come back later, and when.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::AgentId;
use plexus_shared::model::denial::{Code, Denial};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Failure;
use crate::core::Core;
use crate::limits::{Door, Failures, Place, Places, Rates, Ration};

/// The most large bodies at once of those who have no place.
const MAX_LARGE_BODIES: usize = 32;

/// Where a request came from; put on each by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Whose requests and calls are counted. What a dead token asks for is not its agent's doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Who, by what it shows.
    pub agent: AgentId,
    /// Whether what it shows is good now.
    pub live: bool,
}

impl Asker {
    /// Whoever shows what is good now.
    pub fn live(agent: &AgentId) -> Self {
        Self { agent: agent.clone(), live: true }
    }
}

#[derive(Debug, Default)]
struct Counts {
    failures: Failures,
    rates: Rates<Asker>,
    failed_rows: Ration,
    limited_rows: Ration,
}

/// What every route counts against.
#[derive(Debug)]
pub struct Limits {
    counts: Mutex<Counts>,
    places: Places<Asker>,
    /// For large bodies that come without a place of their own.
    bodies: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        let bodies = Arc::new(Semaphore::new(MAX_LARGE_BODIES));
        Self { counts: Mutex::default(), places: Places::default(), bodies }
    }
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

    /// Takes one request of `asker`.
    ///
    /// # Errors
    /// 429, with the time to wait.
    pub fn request(&self, core: &Core, asker: &Asker) -> Result<(), Failure> {
        let limits = core.settings.now().rate_limits;
        let taken = self.lock().rates.take(asker, &limits, core.now());
        taken.map_err(|wait| {
            self.limited(core, &asker.agent, "requests");
            too_much("too many requests; slow down, and wait as long as Retry-After says", wait)
        })
    }

    /// When `agent` last asked for anything with what was good then; since the gateway's start, as far
    /// as that is remembered.
    pub fn last_seen(&self, agent: &AgentId) -> Option<Timestamp> {
        self.lock().rates.last(&Asker::live(agent))
    }

    /// A place for a call of `asker`: held from before its body is read until its answer is sent, so
    /// that what one agent makes this gateway hold is bounded on either side of the call.
    ///
    /// # Errors
    /// 429 when it has as many under way as it may.
    pub fn place(&self, core: &Core, asker: &Asker) -> Result<Place<Asker>, Failure> {
        let most = core.settings.now().rate_limits.concurrent_calls;
        self.places.take(asker, most).ok_or_else(|| {
            self.limited(core, &asker.agent, "calls");
            let message = format!("{most} calls of this agent are under way; let one end first");
            too_much(message, Duration::from_secs(1))
        })
    }

    /// Room for a large body of whoever has no place.
    ///
    /// # Errors
    /// 429 when there is none.
    pub fn room(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.bodies.clone().try_acquire_owned().map_err(|_| {
            let message = "too many large bodies come in at once; send a smaller one, or come back";
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
