//! The owner's own sources: configured, started, registered.

mod altering;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use plexus_shared::audit::{AuditUnavailable, EventType, Record, RecordOutcome};
use plexus_shared::ids::{CapabilityId, SourceId};
use plexus_shared::model::denial::Code;
use plexus_shared::model::entry::Definition;
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::health::{Down, HealthCell};
use plexus_shared::source::registry::{Group, Offer, Refused, source_group};
use plexus_shared::source::workspace::{Workspace, WorkspaceConfig};
use plexus_shared::transport::Transport;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::core::Core;
use crate::events::Event;
use crate::store::rows::SourceRow;
use crate::store::{Change, StoreError};
use crate::trust::Trust;

pub use altering::Alteration;

/// Why a source was not added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is one of this name.
    #[error("there is already a source called {0}; choose another with --id, or remove it first")]
    Taken(SourceId),
    /// There is none of this name.
    #[error("there is no source called {0}; see `plexus sources list`")]
    Unknown(SourceId),
    /// No such kind.
    #[error("there is no source of kind {0:?}; this version has: workspace")]
    Kind(String),
    /// Its configuration is wrong, or what it names is not there.
    #[error("{0}")]
    Config(String),
    /// Some of its ids are held by another source.
    #[error("{} is already the id of another source's capability", .0.id)]
    Collision(Refused),
    /// It could not be recorded.
    #[error("the audit log can't be written, so nothing was changed")]
    Audit(#[from] AuditUnavailable),
    /// It could not be kept.
    #[error("the source could not be kept: {0}")]
    Store(#[from] StoreError),
}

/// A source, for the owner.
#[derive(Debug, Serialize)]
pub struct SourceView {
    id: SourceId,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    enabled: bool,
    config: serde_json::Value,
    status: HealthStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl SourceView {
    /// What is wrong with it, if it should work and does not.
    pub fn trouble(&self) -> Option<String> {
        let ill = matches!(self.status, HealthStatus::Degraded | HealthStatus::Unavailable);
        (self.enabled && ill).then(|| {
            let detail = self.detail.as_deref().unwrap_or("it does not say why");
            format!("{}: {detail}", self.id)
        })
    }
}

struct Running {
    row: SourceRow,
    health: Arc<HealthCell>,
    workspace: Option<Workspace>,
}

/// All configured sources.
pub struct Sources {
    core: Core,
    gate: tokio::sync::Mutex<()>,
    running: Mutex<Vec<Running>>,
    state_folder: PathBuf,
}

impl Sources {
    /// Starts what was kept. A source that can't be opened is there, and says why it can't be used.
    pub fn start(core: Core, kept: Vec<SourceRow>, state_folder: &Path) -> Self {
        let (gate, running) = (tokio::sync::Mutex::default(), Mutex::default());
        let sources = Self { core, gate, running, state_folder: state_folder.to_owned() };
        kept.into_iter().for_each(|row| sources.start_one(row));
        sources
    }

    fn start_one(&self, row: SourceRow) {
        if !row.enabled {
            return self.rest(row);
        }
        let opened = self.open(&row);
        if let Err(error) = &opened {
            tracing::warn!(source = %row.id, %error, "a source could not be opened");
        }
        self.run(row, opened);
    }

    /// Has a source there that is not used.
    fn rest(&self, row: SourceRow) {
        self.core.registry.remove(&source_group(&row.id));
        let health = Arc::new(HealthCell::new(altering::resting()));
        self.hold(Running { row, health, workspace: None });
    }

    fn hold(&self, source: Running) {
        let mut list = self.list();
        list.retain(|running| running.row.id != source.row.id);
        list.push(source);
        list.sort_unstable_by(|a, b| a.row.id.cmp(&b.row.id));
    }

    fn row(&self, id: &SourceId) -> Result<SourceRow, SourceError> {
        let known = self.list().iter().find(|running| running.row.id == *id).map(|r| r.row.clone());
        known.ok_or_else(|| SourceError::Unknown(id.clone()))
    }

    /// Whether nothing has one of its ids but `own`.
    fn free(&self, workspace: &Workspace, own: Option<&SourceId>) -> Result<(), SourceError> {
        let catalog = self.core.registry.catalog();
        let taken = |definition: &Definition| {
            let held = catalog.get(definition.id.as_str());
            held.is_some_and(|held| Some(&held.target.definition.source) != own)
        };
        match workspace.definitions().into_iter().find(taken) {
            None => Ok(()),
            Some(taken) => {
                let reason = "another source already has this id".to_owned();
                Err(SourceError::Collision(Refused { id: taken.id.to_string(), reason }))
            }
        }
    }

    fn open(&self, row: &SourceRow) -> Result<Workspace, SourceError> {
        if row.kind != "workspace" {
            return Err(SourceError::Kind(row.kind.clone()));
        }
        let config: WorkspaceConfig = serde_json::from_value(row.config.clone())
            .map_err(|error| SourceError::Config(format!("config: {error}")))?;
        Workspace::open(row.id.clone(), row.label.clone(), &config, &self.state_folder)
            .map_err(|error| SourceError::Config(error.to_string()))
    }

    fn run(&self, row: SourceRow, opened: Result<Workspace, SourceError>) -> Vec<Refused> {
        let unknown = plexus_shared::model::health::Health::of(HealthStatus::Unknown);
        let health = Arc::new(HealthCell::new(unknown));
        let workspace = match opened {
            Ok(workspace) => {
                health.up(plexus_shared::model::health::Health::of(HealthStatus::Ok));
                Some(workspace)
            }
            Err(error) => {
                let since = self.core.now();
                let message = format!("the source {} can't be used now", row.id);
                tracing::debug!(%error, "down");
                health.down(Down { code: Code::SourceUnavailable, since, message });
                None
            }
        };
        let running = Running { row, health, workspace };
        let refused = self.show(&running);
        self.hold(running);
        refused
    }

    /// Shows what a source offers.
    fn show(&self, running: &Running) -> Vec<Refused> {
        let Running { row, health, workspace } = running;
        let Some(workspace) = workspace else { return Vec::new() };
        let (class, health) = (Provenance::Managed, health.clone());
        let offers = offers(workspace);
        let group = Group { class, shown_by_default: true, health, offers };
        self.core.registry.put(&source_group(&row.id), group)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a source: opened first, then recorded, kept, shown. Says which ids came with it.
    ///
    /// # Errors
    /// See [`SourceError`]; nothing was changed.
    pub async fn add(&self, row: SourceRow) -> Result<Vec<CapabilityId>, SourceError> {
        let _gate = self.gate.lock().await;
        if self.list().iter().any(|running| running.row.id == row.id) {
            return Err(SourceError::Taken(row.id));
        }
        let workspace = self.open(&row)?;
        self.free(&workspace, None)?;
        let record = self.record(EventType::SourceInstall, &row, "add")?;
        if let Err(error) = self.core.store.commit(vec![Change::PutSource(row.clone())]).await {
            self.core.note_failure(record);
            return Err(error.into());
        }
        if !row.enabled {
            self.rest(row);
            return Ok(Vec::new());
        }
        let ids = workspace.definitions().into_iter().map(|definition| definition.id).collect();
        self.run(row, Ok(workspace));
        Ok(ids)
    }

    /// Removes a source and everything it contributed, grants on it included: what comes under the
    /// same name later is something else.
    ///
    /// # Errors
    /// See [`SourceError`]; nothing was changed.
    pub async fn remove(&self, id: &SourceId, trust: &Trust) -> Result<(), SourceError> {
        let _gate = self.gate.lock().await;
        let row = self.row(id)?;
        let record = self.record(EventType::SourceChange, &row, "remove")?;
        let prefix = format!("{}.", id.slug());
        let hide = || {
            self.core.registry.remove(&source_group(id));
            self.list().retain(|running| running.row.id != *id);
        };
        let drop = vec![Change::DropSource(id.clone())];
        if let Err(error) = trust.forget(&prefix, drop, hide).await {
            self.core.note_failure(record);
            return Err(error.into());
        }
        Ok(())
    }

    fn record(
        &self,
        event: EventType,
        row: &SourceRow,
        action: &str,
    ) -> Result<Record, AuditUnavailable> {
        let detail =
            json!({"source": row.id, "kind": row.kind, "action": action, "config": row.config});
        let record = Record::new(event).outcome(RecordOutcome::Ok).detail(&detail);
        self.core.audit.append(record.clone()).map(|_| record)
    }

    /// Looks at every source once and shows what it finds.
    pub async fn check(&self) {
        let open: Vec<_> = self
            .list()
            .iter()
            .filter_map(|running| {
                let id = running.row.id.clone();
                Some((id, running.health.clone(), running.workspace.clone()?))
            })
            .collect();
        // Each by itself: one that hangs holds up no other.
        let mut looks = JoinSet::new();
        for (id, cell, workspace) in open {
            looks.spawn(async move { (id, cell, workspace.health().await) });
        }
        while let Some(looked) = looks.join_next().await {
            let Ok((id, cell, mut health)) = looked else { continue };
            let before = cell.shown(None).status;
            let now = self.core.now();
            health.checked_at = Some(now);
            match health.status {
                HealthStatus::Unavailable => {
                    let since = cell.down_since().unwrap_or(now);
                    let message = health.detail.unwrap_or_else(|| "the source is not there".into());
                    cell.down(Down { code: Code::SourceUnavailable, since, message });
                }
                _ => cell.up(health),
            }
            self.tell(&id, before, cell.shown(None));
        }
    }

    /// Tells that a source is in another state than before, and whether it can be called.
    fn tell(&self, id: &SourceId, before: HealthStatus, now: Health) {
        let Health { status, detail, .. } = now;
        if status == before {
            return;
        }
        let down = |status| status == HealthStatus::Unavailable;
        let (events, source) = (&self.core.events, id.to_string());
        if down(status) != down(before) {
            let prefix = format!("{}.", id.slug());
            let reason = detail.clone().filter(|_| down(status));
            events.source_status(&source, &prefix, !down(status), reason);
        }
        events.tell_owner(Event::HealthChanged { source, status, detail });
    }

    /// Whether there is a source of this name.
    pub fn has(&self, id: &SourceId) -> bool {
        self.list().iter().any(|running| running.row.id == *id)
    }

    /// All sources, for the owner.
    pub fn view(&self) -> Vec<SourceView> {
        let view = |running: &Running| {
            let health = running.health.shown(None);
            SourceView {
                id: running.row.id.clone(),
                kind: running.row.kind.clone(),
                label: running.row.label.clone(),
                enabled: running.row.enabled,
                config: running.row.config.clone(),
                status: health.status,
                detail: health.detail,
            }
        };
        self.list().iter().map(view).collect()
    }
}

fn offers(workspace: &Workspace) -> Vec<Offer> {
    let offer = |definition: Definition| {
        let operation = workspace.operation(&definition.id)?;
        let transport = Transport::Workspace(workspace.clone(), operation);
        Some(Offer { definition, transport })
    };
    workspace.definitions().into_iter().filter_map(offer).collect()
}

#[cfg(test)]
pub(crate) mod tests;
