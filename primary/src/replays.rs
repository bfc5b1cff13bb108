//! Calls that are made once: who is first, and what the others are told.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexus_shared::clock::Timestamp;
use plexus_shared::ids::AgentId;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::input::Digest;
use plexus_shared::model::outcome::{Output, Reply};
use serde_json::json;
use tokio::sync::watch;

use crate::core::Core;
use crate::store::rows::ReplayRow;
use crate::store::{Change, StoreError};

/// How long a key is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 3600);
/// The most bytes of answers that are held; beyond it the oldest are let go.
const MAX_HELD: usize = 64 << 20;
/// The most keys that are remembered of one agent, and of all.
const MAX_KEYS_OF_ONE: usize = 10_000;
const MAX_KEYS: usize = 100_000;

/// Who calls what, under which key.
pub type Key = (AgentId, String, String);

/// What has become of a keyed call.
#[derive(Clone)]
enum Stage {
    /// It runs; the sender tells when it does no more.
    Running(watch::Receiver<bool>),
    /// It is over, and its answer is held, for the definition it was an answer of.
    Held(Arc<Reply>, Digest),
    /// It is over, or was cut off; only the record is left.
    Told,
}

struct Entry {
    row: ReplayRow,
    stage: Stage,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    of: HashMap<AgentId, usize>,
    held: VecDeque<(Key, usize)>,
    bytes: usize,
}

/// Every keyed call of the last day.
pub struct Replays {
    core: Core,
    inner: Mutex<Inner>,
}

/// How a keyed call begins.
pub enum Begin {
    /// It is the first of its key.
    First(Place),
    /// It was made before; this is what it was answered.
    Again(Arc<Reply>),
    /// The first of its key is under way.
    Running(Running),
}

/// The place of a first call. Dropped without [`Place::done`] (the caller went away), what became of
/// the call is not known, and repeats are told so.
pub struct Place {
    replays: Arc<Replays>,
    key: Key,
    definition: Digest,
    over: watch::Sender<bool>,
}

/// A first call that is under way.
pub struct Running(watch::Receiver<bool>);

impl Running {
    /// Waits until it is not any more.
    pub async fn over(mut self) {
        // An error is an end too: the place was given up.
        let _ = self.0.wait_for(|over| *over).await;
    }
}

impl Replays {
    /// Keyed calls, with what was `kept` of them.
    pub fn new(core: Core, kept: Vec<ReplayRow>) -> Self {
        let told = |row: ReplayRow| {
            let key = (row.agent.clone(), row.capability.clone(), row.key.clone());
            (key, Entry { row, stage: Stage::Told })
        };
        let mut inner = Inner::default();
        kept.into_iter().map(told).for_each(|(key, entry)| inner.insert(key, entry));
        Self { core, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of the first call of `key`, with this input of this definition, or says what
    /// became of it.
    ///
    /// # Errors
    /// `schema_validation_failed` for another input than the first one's, `transport_error` when its
    /// answer is not held any more, `rate_limited` when too many keys are remembered,
    /// `internal_error` when the key could not be written down.
    pub async fn begin(
        self: &Arc<Self>,
        key: &Key,
        input: Digest,
        definition: Digest,
    ) -> Result<Begin, Box<Denial>> {
        let (place, row) = match self.look(key, input, definition)? {
            Look::Mine(mine) => *mine,
            Look::Held(reply) => return Ok(Begin::Again(reply)),
            Look::Running(running) => return Ok(Begin::Running(Running(running))),
        };
        // Written down before it is dispatched: a repeat after a crash is never run again.
        if let Err(error) = self.core.store.commit(vec![Change::PutReplay(row)]).await {
            tracing::error!(%error, "a keyed call could not be written down");
            self.lock().remove(key);
            let message = "the key could not be written down, so nothing was done";
            return Err(Box::new(Denial::internal(message)));
        }
        Ok(Begin::First(place))
    }

    fn look(
        self: &Arc<Self>,
        key: &Key,
        input: Digest,
        definition: Digest,
    ) -> Result<Look, Box<Denial>> {
        let now = self.core.now();
        let mut inner = self.lock();
        if let Some(Entry { row, stage }) = inner.entries.get(key)
            && now.since(row.at) < MEMORY
        {
            if row.input != input {
                let message = "this idempotencyKey was used with another input; use a new one";
                return Err(Box::new(Denial::new(Code::SchemaValidationFailed, message)));
            }
            return match stage {
                Stage::Running(running) => Ok(Look::Running(running.clone())),
                Stage::Held(reply, of) if *of == definition => Ok(Look::Held(reply.clone())),
                Stage::Held(..) | Stage::Told => Err(Box::new(told(row))),
            };
        }
        if inner.full(&key.0) {
            let message = "too many idempotency keys are remembered; call without one";
            return Err(Box::new(Denial::new(Code::RateLimited, message)));
        }
        let (over, running) = watch::channel(false);
        let (agent, capability, text) = key.clone();
        let row = ReplayRow {
            agent,
            capability,
            key: text,
            input,
            at: now,
            audit_id: None,
            outcome: "started".to_owned(),
        };
        let entry = Entry { row: row.clone(), stage: Stage::Running(running) };
        inner.insert(key.clone(), entry);
        let place = Place { replays: self.clone(), key: key.clone(), definition, over };
        Ok(Look::Mine(Box::new((place, row))))
    }

    /// Holds no answer any more that `which` picks by its agent and capability, nor will it hold those
    /// of calls under way: they are told as made, and nothing of what they gave.
    pub fn let_go(&self, which: impl Fn(&AgentId, &str) -> bool) {
        self.lock().let_go(which);
    }
}

impl Replays {
    /// Lets go of the keys whose day is over at `now`, here and on disk.
    ///
    /// # Errors
    /// When that could not be kept; a restart lets go of them then.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        if self.lock().forget(now) == 0 {
            return Ok(());
        }
        self.core.store.commit(vec![Change::PruneReplays(now.minus(MEMORY))]).await
    }
}

enum Look {
    Mine(Box<(Place, ReplayRow)>),
    Held(Arc<Reply>),
    Running(watch::Receiver<bool>),
}

/// What a repeat is told when the answer is no longer held.
fn told(row: &ReplayRow) -> Denial {
    let outcome = if row.outcome == "started" { "unknown" } else { row.outcome.as_str() };
    let message = "this call was made before and is not made again; its answer is no longer held";
    Denial::new(Code::TransportError, message)
        .with_detail(json!({"outcome": outcome, "auditId": row.audit_id}))
}

impl Place {
    /// Keeps what the call came to, for repeats.
    pub async fn done(self, reply: &Reply) {
        let outcome = match &reply.outcome {
            Ok(_) => "ok",
            Err(denial) => denial.code.as_str(),
        };
        let Some(row) = self.replays.lock().end(&self.key, outcome, reply, self.definition) else {
            return;
        };
        let keep = Change::PutReplay(row);
        if let Err(error) = self.replays.core.store.commit(vec![keep]).await {
            // It is told as unknown after a restart: never as something that can be run again.
            tracing::error!(%error, "what a keyed call came to could not be written down");
        }
        self.over.send_replace(true);
    }

    /// Gives the key free: the call was refused before anything was done.
    pub async fn give_up(self) {
        // First on disk: the next one's row must come after.
        let drop = Change::DropReplay(self.key.clone());
        if let Err(error) = self.replays.core.store.commit(vec![drop]).await {
            tracing::error!(%error, "a keyed call that was not made is still written down");
        }
        self.replays.lock().remove(&self.key);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.replays.lock();
        // Its own place, and not that of whoever came after it.
        if let Some(entry) = inner.entries.get_mut(&self.key)
            && let Stage::Running(running) = &entry.stage
            && running.same_channel(&self.over.subscribe())
        {
            entry.stage = Stage::Told;
        }
        drop(inner);
        self.over.send_replace(true);
    }
}

impl Inner {
    fn full(&self, agent: &AgentId) -> bool {
        let mine = self.of.get(agent).copied().unwrap_or_default();
        self.entries.len() >= MAX_KEYS || mine >= MAX_KEYS_OF_ONE
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        let agent = key.0.clone();
        if self.entries.insert(key, entry).is_none() {
            *self.of.entry(agent).or_default() += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.entries.remove(key).is_some()
            && let Some(count) = self.of.get_mut(&key.0)
        {
            *count -= 1;
        }
    }

    /// The row of a call that came to `outcome`; its answer is held, unless it was let go meanwhile.
    fn end(
        &mut self,
        key: &Key,
        outcome: &str,
        reply: &Reply,
        definition: Digest,
    ) -> Option<ReplayRow> {
        let entry = self.entries.get_mut(key)?;
        entry.row.audit_id.clone_from(&reply.audit_id);
        outcome.clone_into(&mut entry.row.outcome);
        let row = entry.row.clone();
        if matches!(entry.stage, Stage::Running(_)) {
            entry.stage = Stage::Held(Arc::new(reply.clone()), definition);
            self.hold(key.clone(), size(reply));
        }
        Some(row)
    }

    fn let_go(&mut self, which: impl Fn(&AgentId, &str) -> bool) {
        let picked = |key: &Key| which(&key.0, &key.1);
        let entries = self.entries.iter_mut().filter(|(key, _)| picked(key));
        entries.for_each(|(_, entry)| entry.stage = Stage::Told);
        self.held.retain(|(key, bytes)| {
            let gone = picked(key);
            self.bytes -= if gone { *bytes } else { 0 };
            !gone
        });
    }

    /// Lets go of the keys whose day is over; says how many.
    fn forget(&mut self, now: Timestamp) -> usize {
        let old = self.entries.iter().filter(|(_, entry)| now.since(entry.row.at) >= MEMORY);
        let old: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| self.remove(key));
        self.of.retain(|_, count| *count > 0);
        let Self { entries, held, bytes, .. } = self;
        held.retain(|(key, size)| {
            let kept = entries.contains_key(key);
            *bytes -= if kept { 0 } else { *size };
            kept
        });
        old.len()
    }

    /// Holds an answer of `bytes`, letting the oldest ones go.
    fn hold(&mut self, key: Key, bytes: usize) {
        self.held.push_back((key, bytes));
        self.bytes += bytes;
        while self.bytes > MAX_HELD {
            let Some((oldest, bytes)) = self.held.pop_front() else { return };
            self.bytes -= bytes;
            if let Some(entry) = self.entries.get_mut(&oldest)
                && matches!(entry.stage, Stage::Held(..))
            {
                entry.stage = Stage::Told;
            }
        }
    }
}

fn size(reply: &Reply) -> usize {
    const OVERHEAD: usize = 512;
    OVERHEAD
        + match &reply.outcome {
            Ok(Output::Json(output) | Output::Mcp(output)) => output.get().len(),
            Err(denial) => denial.message.len(),
        }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn entry(agent: &AgentId, n: usize, at: Timestamp) -> (Key, Entry) {
        let row = ReplayRow {
            agent: agent.clone(),
            capability: "notes.file.write".to_owned(),
            key: n.to_string(),
            input: [0; 32],
            at,
            audit_id: None,
            outcome: "ok".to_owned(),
        };
        (
            (agent.clone(), row.capability.clone(), row.key.clone()),
            Entry { row, stage: Stage::Told },
        )
    }

    #[test]
    fn one_agents_keys_leave_the_others_theirs_and_last_a_day() {
        let (ada, bob): (AgentId, AgentId) = ("ada".parse().unwrap(), "bob".parse().unwrap());
        let mut inner = Inner::default();
        let start = Timestamp::from_millis(1);
        for n in 0..MAX_KEYS_OF_ONE {
            assert!(!inner.full(&ada));
            let (key, entry) = entry(&ada, n, start);
            inner.insert(key, entry);
        }
        assert!(inner.full(&ada) && !inner.full(&bob));
        let (key, again) = entry(&ada, 0, start);
        inner.insert(key.clone(), again);
        inner.remove(&key);
        assert!(!inner.full(&ada), "a key is counted once");
        inner.forget(start.plus(MEMORY));
        assert!(inner.entries.is_empty() && inner.of.is_empty());
    }
}
