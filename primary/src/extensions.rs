//! Extensions: sources that a manifest describes, taken by the owner's word: added by the owner, or
//! registered by an agent and approved.
//!
//! An extension is kept as the text of its manifest and read anew at each start; what it names on this
//! machine is found anew too, and one whose software is gone stays listed and says so.

mod registering;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, CapabilityId, SourceId};
use plexus_shared::model::denial::Code;
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::extension::{Extension, Manifest, Ports, Preview, Problem, Reach};
use plexus_shared::source::health::{Down, HealthCell};
use plexus_shared::source::registry::Group;
use serde::Serialize;
use serde_json::{Value, json};

use crate::core::Core;
use crate::sources::Sources;
use crate::store::rows::ExtensionRow;
use crate::store::{Change, StoreError};
use crate::trust::Trust;

pub use registering::{ApproveError, RegisterError, Registering};

/// Names that no extension can have: they would be taken for the gateway's own.
const RESERVED: [&str; 16] = [
    "plexus",
    "gateway",
    "admin",
    "mcp",
    "local",
    "agent",
    "agents",
    "anon",
    "owner",
    "system",
    "sysinfo",
    "workspace",
    "exec",
    "extension",
    "extensions",
    "mesh",
];

/// Why an extension was not taken or removed.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionError {
    /// Its manifest is wrong, or what it names can't be used here.
    #[error("the manifest has {} problems; the first, at {:?}: {}", .0.len(), first(.0).0, first(.0).1)]
    Manifest(Vec<Problem>),
    /// Its name is kept for something else.
    #[error("{0} is a reserved name; the manifest needs another source")]
    Reserved(SourceId),
    /// There is a source of this name.
    #[error("there is already a source called {0}; remove it first")]
    Taken(SourceId),
    /// One of its ids is taken.
    #[error("{0} is already the id of another source's capability")]
    Collision(CapabilityId),
    /// There is none of this name.
    #[error("there is no extension called {0}; see `plexus extensions list`")]
    Unknown(SourceId),
    /// What it would take the place of is not what it was.
    #[error("{0} is not what it was when this was asked; deny this, and let the agent ask again")]
    Moved(SourceId),
    /// It could not be recorded.
    #[error("the audit log can't be written, so nothing was changed")]
    Audit(#[from] AuditUnavailable),
    /// It could not be kept.
    #[error("the extension could not be kept: {0}")]
    Store(#[from] StoreError),
}

fn first(problems: &[Problem]) -> (&str, &str) {
    problems.first().map_or(("", ""), |problem| (&problem.pointer, &problem.reason))
}

/// An installed extension, for the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtensionView {
    source: SourceId,
    label: String,
    provenance: Provenance,
    installed_at: Timestamp,
    status: HealthStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    reach: Reach,
    registered: Vec<CapabilityId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<AgentId>,
}

/// By whose word an extension comes.
#[derive(Clone, Copy, Debug)]
enum By<'a> {
    /// The owner's.
    Owner,
    /// An agent's.
    Agent(&'a AgentId),
}

struct Running {
    row: ExtensionRow,
    health: Arc<HealthCell>,
    shown: Option<Preview>,
}

/// All extensions.
pub struct Extensions {
    core: Core,
    sources: Arc<Sources>,
    trust: Arc<Trust>,
    ports: Ports,
    gate: tokio::sync::Mutex<()>,
    running: Mutex<Vec<Running>>,
}

impl Extensions {
    /// Starts what was kept.
    pub fn start(
        core: Core,
        (sources, trust): (Arc<Sources>, Arc<Trust>),
        ports: Ports,
        kept: Vec<ExtensionRow>,
    ) -> Self {
        let (gate, running) = (tokio::sync::Mutex::default(), Mutex::default());
        let extensions = Self { core, sources, trust, ports, gate, running };
        for row in kept {
            let opened = extensions.open(&row.manifest);
            if let Err(error) = &opened {
                tracing::warn!(source = %row.source, %error, "an extension can't be used now");
            }
            extensions.run(row, opened.ok());
        }
        extensions
    }

    fn open(&self, text: &str) -> Result<Extension, ExtensionError> {
        let manifest = Manifest::read(text).map_err(ExtensionError::Manifest)?;
        Extension::prepare(manifest, &self.ports).map_err(ExtensionError::Manifest)
    }

    fn run(&self, row: ExtensionRow, extension: Option<Extension>) {
        let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Ok)));
        let shown = extension.as_ref().map(Extension::preview);
        match extension {
            Some(extension) => {
                let (offers, health) = (extension.offers(), health.clone());
                let group = Group { class: row.provenance, shown_by_default: true, health, offers };
                for refused in self.core.registry.put(&group_name(&row.source), group) {
                    tracing::warn!(
                        id = refused.id,
                        reason = refused.reason,
                        "an entry was not taken"
                    );
                }
            }
            None => {
                let message = format!("the extension {} can't be used now", row.source);
                let since = self.core.now();
                health.down(Down { code: Code::SourceUnavailable, since, message });
            }
        }
        let mut list = self.list();
        list.retain(|running| running.row.source != row.source);
        list.push(Running { row, health, shown });
    }

    fn list(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an extension of this name.
    pub fn has(&self, source: &SourceId) -> bool {
        self.list().iter().any(|running| running.row.source == *source)
    }

    /// What the extension of this name reaches, as it was taken.
    pub fn reach(&self, source: &SourceId) -> Option<Reach> {
        let list = self.list();
        let running = list.iter().find(|running| running.row.source == *source)?;
        running.shown.as_ref().map(|shown| shown.reach.clone())
    }

    /// What taking this manifest would bring; nothing is changed.
    ///
    /// # Errors
    /// See [`ExtensionError`].
    pub fn preview(&self, text: &str) -> Result<Preview, ExtensionError> {
        self.check(text, By::Owner).map(|extension| extension.preview())
    }

    /// An extension that could be taken now.
    fn check(&self, text: &str, by: By<'_>) -> Result<Extension, ExtensionError> {
        let extension = self.open(text)?;
        self.free(extension.manifest(), by)?;
        let catalog = self.core.registry.catalog();
        let verbs = |id: &str| catalog.get(id).map(|listed| listed.target.definition.grants);
        let problems = extension.manifest().check_members(verbs);
        if problems.is_empty() { Ok(extension) } else { Err(ExtensionError::Manifest(problems)) }
    }

    /// Whether what `manifest` calls itself and its entries is free, or held by what `by` may replace.
    fn free(&self, manifest: &Manifest, by: By<'_>) -> Result<(), ExtensionError> {
        let source = &manifest.source;
        let name = source.as_str();
        let agent = name.parse().is_ok_and(|id: AgentId| self.trust.ledger().agent(&id).is_some());
        if RESERVED.contains(&name) || name.contains(':') || agent {
            return Err(ExtensionError::Reserved(source.clone()));
        }
        let held = self.held(source);
        let own = match by {
            By::Owner => false,
            By::Agent(agent) => held.as_ref().is_some_and(|row| row.agent.as_ref() == Some(agent)),
        };
        if (held.is_some() && !own) || self.sources.has(source) {
            return Err(ExtensionError::Taken(source.clone()));
        }
        let catalog = self.core.registry.catalog();
        let taken = |id: &&CapabilityId| {
            let held = catalog.get(id.as_str());
            held.is_some_and(|held| !own || held.target.definition.source != *source)
        };
        match manifest.capabilities.iter().map(|entry| &entry.id).find(taken) {
            Some(id) => Err(ExtensionError::Collision(id.clone())),
            None => Ok(()),
        }
    }

    /// Takes an extension by the owner's word, with class `provenance`: checked whole, then recorded,
    /// kept, shown.
    ///
    /// # Errors
    /// See [`ExtensionError`]; nothing was changed.
    pub async fn install(
        &self,
        text: &str,
        provenance: Provenance,
    ) -> Result<Preview, ExtensionError> {
        let _gate = self.gate.lock().await;
        let extension = self.check(text, By::Owner)?;
        let shown = extension.preview();
        let row = ExtensionRow {
            source: shown.source.clone(),
            manifest: text.to_owned(),
            provenance,
            installed_at: self.core.now(),
            agent: None,
        };
        self.record(Record::new(EventType::SourceInstall), &row, "add", &shown.reach)?;
        self.core.store.commit(vec![Change::PutExtension(row.clone())]).await?;
        self.run(row, Some(extension));
        Ok(shown)
    }

    /// Removes an extension and everything it contributed, grants on it included.
    ///
    /// # Errors
    /// See [`ExtensionError`]; nothing was changed.
    pub async fn remove(&self, source: &SourceId) -> Result<(), ExtensionError> {
        let _gate = self.gate.lock().await;
        let row = self.held(source).ok_or_else(|| ExtensionError::Unknown(source.clone()))?;
        self.end(&row, Record::new(EventType::SourceChange)).await
    }

    fn held(&self, source: &SourceId) -> Option<ExtensionRow> {
        let list = self.list();
        let running = list.iter().find(|running| running.row.source == *source)?;
        Some(running.row.clone())
    }

    /// Leaves what `agent` registered to the owner: whoever has its name later is someone else.
    pub fn disown(&self, agent: &AgentId) {
        let mut list = self.list();
        let theirs = list.iter_mut().filter(|running| running.row.agent.as_ref() == Some(agent));
        theirs.for_each(|running| running.row.agent = None);
    }

    /// Ends an extension; the caller holds the gate.
    async fn end(&self, row: &ExtensionRow, told: Record) -> Result<(), ExtensionError> {
        let source = &row.source;
        let reach = self.reach(source).unwrap_or_default();
        self.record(told.clone(), row, "remove", &reach)?;
        let prefix = format!("{}.", source.slug());
        let drop = vec![Change::DropExtension(source.clone())];
        let hide = || {
            self.core.registry.remove(&group_name(source));
            self.list().retain(|running| running.row.source != *source);
        };
        if let Err(error) = self.trust.forget(&prefix, drop, hide).await {
            let failed = json!({"source": source, "action": "remove", "phase": "failed"});
            let failed = told.outcome(RecordOutcome::Error).detail(&failed);
            let _ = self.core.audit.append(failed);
            return Err(error.into());
        }
        Ok(())
    }

    fn record(
        &self,
        told: Record,
        row: &ExtensionRow,
        action: &str,
        reach: &Reach,
    ) -> Result<(), AuditUnavailable> {
        let detail = detail(&row.source, row.provenance, action, reach);
        let told = told.outcome(RecordOutcome::Ok).detail(&detail);
        self.core.audit.append(told).map(|_| ())
    }

    /// Every extension, with how it is.
    pub fn health(&self) -> Vec<(SourceId, Health)> {
        let list = self.list();
        list.iter()
            .map(|running| (running.row.source.clone(), running.health.shown(None)))
            .collect()
    }

    /// All extensions, for the owner.
    pub fn view(&self) -> Vec<ExtensionView> {
        let view = |running: &Running| {
            let health = running.health.shown(None);
            let shown = running.shown.as_ref();
            ExtensionView {
                source: running.row.source.clone(),
                label: shown.map(|shown| shown.label.clone()).unwrap_or_default(),
                provenance: running.row.provenance,
                installed_at: running.row.installed_at,
                status: health.status,
                detail: health.detail,
                reach: shown.map(|shown| shown.reach.clone()).unwrap_or_default(),
                registered: shown.map(Preview::ids).unwrap_or_default(),
                agent_id: running.row.agent.clone(),
            }
        };
        self.list().iter().map(view).collect()
    }
}

/// What is recorded of an extension.
fn detail(source: &SourceId, provenance: Provenance, action: &str, reach: &Reach) -> Value {
    let mut detail = json!({"source": source, "kind": "extension", "action": action,
        "provenance": provenance, "reach": reach});
    // Names are no secrets, but what goes by that key is not kept.
    if let Some(shown) = detail["reach"].as_object_mut()
        && let Some(names) = shown.remove("secrets")
    {
        shown.insert("handed".into(), names);
    }
    detail
}

fn group_name(source: &SourceId) -> String {
    format!("extension {source}")
}

#[cfg(test)]
mod tests;
