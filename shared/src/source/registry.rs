//! Everything a node can call, as one immutable snapshot.
//!
//! A *group* is what one source, or one workload, contributes. Any change (a group put or removed, the
//! owner's exposure rules) makes a new [`Catalog`] and swaps it in; calls read whichever snapshot they
//! began with and never wait. `revision` moves when what an agent can see moves, and only then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::gate::members::MAX_DEPTH;
use crate::gate::schema::InputSchema;
use crate::gate::sensitivity::{default_window, sensitivity};
use crate::ids::{CapabilityId, SourceId};
use crate::model::entry::{CapabilityEntry, CapabilitySummary, Definition, Posture};
use crate::model::exposure::{ExposureRule, ExposureRules};
use crate::model::input::Digest;
use crate::model::trust::{Provenance, Sensitivity};
use crate::redact::secret_members;
use crate::secret::sha256;
use crate::source::health::HealthCell;
use crate::transport::Transport;

/// One capability and everything needed to admit and dispatch a call of it.
#[derive(Debug)]
pub struct Registered {
    /// What its source says of it.
    pub definition: Definition,
    /// What this gateway says of it.
    pub posture: Posture,
    /// Its compiled input contract.
    pub input: InputSchema,
    /// How its home is.
    pub health: Arc<HealthCell>,
    /// SHA-256 over the definition, canonically written.
    pub digest: Digest,
    pub(crate) transport: Transport,
    /// The members whose values no record shows.
    pub(crate) secret_members: Vec<String>,
    warning: Option<String>,
}

impl Registered {
    /// The full document of a manifest.
    pub fn entry(&self) -> CapabilityEntry<'_> {
        CapabilityEntry {
            definition: &self.definition,
            posture: self.posture,
            health: self.health.shown(self.warning.as_deref()),
        }
    }

    /// The line of the discovery document.
    pub fn summary(&self) -> CapabilitySummary<'_> {
        CapabilitySummary {
            id: &self.definition.id,
            source: &self.definition.source,
            kind: self.definition.kind,
            label: &self.definition.label,
            summary: self.definition.summary(),
            grants: self.definition.grants,
            transport: self.definition.transport,
            posture: self.posture,
            health: self.health.shown(self.warning.as_deref()),
        }
    }
}

/// A capability in a catalog, shown or not.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The capability.
    pub target: Arc<Registered>,
    /// Whether its owner shows it.
    pub exposed: bool,
}

/// An immutable snapshot of everything a node can call.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: u64,
    by_id: HashMap<CapabilityId, Listed>,
    order: Vec<CapabilityId>,
    fingerprint: [u8; 32],
}

impl Catalog {
    /// Monotonic; moves with what an agent can see.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The capability `id`, shown or not.
    pub fn get(&self, id: &str) -> Option<&Listed> {
        self.by_id.get(id)
    }

    /// The capability `id`, when its owner shows it.
    pub fn exposed(&self, id: &str) -> Option<&Arc<Registered>> {
        self.get(id).filter(|listed| listed.exposed).map(|listed| &listed.target)
    }

    /// Everything, in id order.
    pub fn all(&self) -> impl Iterator<Item = &Listed> {
        self.order.iter().filter_map(|id| self.by_id.get(id))
    }

    /// Everything that is shown, in id order.
    pub fn shown(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.all().filter(|listed| listed.exposed).map(|listed| &listed.target)
    }
}

/// One capability as a group brings it.
#[derive(Debug)]
pub struct Offer {
    /// What its source says of it.
    pub definition: Definition,
    /// How a call reaches it.
    pub transport: Transport,
}

/// What one source or workload contributes.
#[derive(Debug)]
pub struct Group {
    /// The class of everything in it.
    pub class: Provenance,
    /// Whether its capabilities are shown when no rule speaks of them.
    pub shown_by_default: bool,
    /// How its home is.
    pub health: Arc<HealthCell>,
    /// Its capabilities.
    pub offers: Vec<Offer>,
}

/// A capability that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: String,
}

struct Held {
    shown_by_default: bool,
    entries: Vec<Arc<Registered>>,
}

impl Held {
    fn ids(&self) -> impl Iterator<Item = CapabilityId> {
        self.entries.iter().map(|entry| entry.definition.id.clone())
    }
}

#[derive(Default)]
struct State {
    groups: BTreeMap<String, Held>,
    rules: ExposureRules,
}

/// The node's groups and rules, and the catalog made of them.
pub struct Registry {
    state: Mutex<State>,
    catalog: ArcSwap<Catalog>,
    revision: watch::Sender<u64>,
}

impl Registry {
    /// An empty registry whose revisions follow `revision`.
    pub fn new(revision: u64, rules: ExposureRules) -> Self {
        Self {
            state: Mutex::new(State { groups: BTreeMap::new(), rules }),
            catalog: ArcSwap::from_pointee(Catalog { revision, ..Catalog::default() }),
            revision: watch::Sender::new(revision),
        }
    }

    /// The current snapshot.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The current snapshot, for the length of one borrow.
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// Follows the revision.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Puts the group `name`, in place of what it held before. An id that another group holds is
    /// refused; the rest is taken.
    pub fn put(&self, name: &str, group: Group) -> Vec<Refused> {
        let Group { class, shown_by_default, health, offers } = group;
        let mut entries: Vec<_> =
            offers.into_iter().map(|offer| register(class, &health, offer)).collect();
        let mut state = self.lock();
        raise_workflows(&mut entries, &self.catalog.load());
        let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        let others = state.groups.iter().filter(|(other, _)| other.as_str() != name);
        let mut held: HashSet<_> = others.flat_map(|(_, held)| held.ids()).collect();
        let mut taken = Vec::new();
        let entries: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| {
                let free = held.insert(entry.definition.id.clone());
                if free {
                    Some(entry)
                } else {
                    taken.push(entry);
                    None
                }
            })
            .collect();
        drop(held);
        state.groups.insert(name.to_owned(), Held { shown_by_default, entries });
        self.swap(&state);
        let refuse = |entry: Arc<Registered>| Refused {
            id: entry.definition.id.to_string(),
            reason: "another source already has this id".into(),
        };
        taken.into_iter().map(refuse).collect()
    }

    /// Removes the group `name`; says how many capabilities went with it.
    pub fn remove(&self, name: &str) -> usize {
        let mut state = self.lock();
        let gone = state.groups.remove(name).map_or(0, |held| held.entries.len());
        self.swap(&state);
        gone
    }

    /// The exposure rules in order.
    pub fn rules(&self) -> ExposureRules {
        self.lock().rules.clone()
    }

    /// Replaces the exposure rules. Calls that begin after this returns see them.
    pub fn set_rules(&self, rules: Vec<ExposureRule>) {
        let mut state = self.lock();
        state.rules = ExposureRules::new(rules);
        self.swap(&state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap(&self, state: &State) {
        let before = self.catalog.load();
        let next = build(state, &before);
        let revision = next.revision;
        self.catalog.store(Arc::new(next));
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
    }
}

fn register(class: Provenance, health: &Arc<HealthCell>, offer: Offer) -> Registered {
    let Offer { definition, transport } = offer;
    let io = definition.io.as_ref();
    let (input, warning) = InputSchema::compile(io.and_then(|io| io.input.as_deref()));
    let schemas = io.into_iter().flat_map(|io| [io.input.as_deref(), io.output.as_deref()]);
    let secret_members = secret_members(schemas.flatten());
    let verbs = definition.grants;
    Registered {
        posture: Posture {
            provenance: class,
            sensitivity: sensitivity(class, definition.transport, verbs),
            recommended_trust_window: default_window(class, verbs),
        },
        digest: digest_of(&definition),
        input,
        health: health.clone(),
        transport,
        secret_members,
        warning,
        definition,
    }
}

/// A workflow is as risky as the riskiest of its members: of its own group, or of `others`. One that
/// is not there can't be judged.
fn raise_workflows(entries: &mut [Registered], others: &Catalog) {
    // Each round settles one level of workflows within workflows.
    for _ in 0..=MAX_DEPTH {
        let own: HashMap<_, _> =
            entries.iter().map(|e| (e.definition.id.clone(), e.posture.sensitivity)).collect();
        for entry in entries.iter_mut() {
            let members = entry.definition.members.iter().map(|member| {
                let other = || others.get(member.id.as_str()).map(|l| l.target.posture.sensitivity);
                own.get(&member.id).copied().or_else(other).unwrap_or(Sensitivity::High)
            });
            let whole = members.fold(entry.posture.sensitivity, Ord::max);
            entry.posture.sensitivity = whole;
        }
    }
}

/// SHA-256 over the canonical JSON of `definition`.
fn digest_of(definition: &Definition) -> Digest {
    let value = serde_json::to_value(definition).unwrap_or_default();
    // What has no canonical form is told apart by how it is written.
    sha256(&serde_json_canonicalizer::to_vec(&value).unwrap_or_else(|_| value.to_string().into()))
}

fn build(state: &State, before: &Catalog) -> Catalog {
    let mut by_id = HashMap::new();
    for held in state.groups.values() {
        for entry in &held.entries {
            let id = &entry.definition.id;
            let exposed = state.rules.exposed(id.as_str(), held.shown_by_default);
            by_id.insert(id.clone(), Listed { target: entry.clone(), exposed });
        }
    }
    let mut order: Vec<_> = by_id.keys().cloned().collect();
    order.sort_unstable();
    let mut next = Catalog { revision: before.revision, by_id, order, fingerprint: [0; 32] };
    next.fingerprint = fingerprint(&next);
    if next.fingerprint != before.fingerprint {
        next.revision = before.revision.saturating_add(1);
    }
    next
}

/// What an agent can see of a catalog, in 32 bytes.
fn fingerprint(catalog: &Catalog) -> [u8; 32] {
    let mut seen = Vec::new();
    for entry in catalog.shown() {
        seen.extend_from_slice(&entry.digest);
        seen.push(match entry.posture.provenance {
            Provenance::FirstParty => 0,
            Provenance::Managed => 1,
            Provenance::Extension => 2,
        });
    }
    sha256(&seen)
}

/// The group name of a local source.
pub fn source_group(source: &SourceId) -> String {
    format!("source {source}")
}
