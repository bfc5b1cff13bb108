//! Changing a source that is there: enabled, disabled, configured otherwise.

use plexus_shared::audit::EventType;
use plexus_shared::ids::{CapabilityId, SourceId};
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::source::registry::source_group;
use serde_json::Value;

use super::{SourceError, Sources};
use crate::store::Change;
use crate::store::rows::SourceRow;
use crate::trust::Trust;

/// What the owner changes of a source.
#[derive(Clone, Debug)]
pub enum Alteration {
    /// It is started, now and at every start.
    Enable,
    /// It is stopped and stays configured; what was granted on it stands, and can't be used.
    Disable,
    /// It is something else from now on: what was granted on it ends.
    Reconfigure {
        /// Its configuration.
        config: Value,
        /// The owner's word for it; as it is, when absent.
        label: Option<String>,
    },
}

impl Alteration {
    const fn word(&self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Reconfigure { .. } => "reconfigure",
        }
    }

    fn of(&self, row: SourceRow) -> SourceRow {
        match self.clone() {
            Self::Enable => SourceRow { enabled: true, ..row },
            Self::Disable => SourceRow { enabled: false, ..row },
            Self::Reconfigure { config, label } => {
                SourceRow { config, label: label.or(row.label), ..row }
            }
        }
    }
}

impl Sources {
    /// Changes the source `id`: opened first where it is to be used, then recorded, kept, shown. Says
    /// which ids it has now.
    ///
    /// # Errors
    /// See [`SourceError`]; nothing was changed.
    pub async fn alter(
        &self,
        id: &SourceId,
        alteration: &Alteration,
        trust: &Trust,
    ) -> Result<Vec<CapabilityId>, SourceError> {
        let _gate = self.gate.lock().await;
        let old = self.row(id)?;
        let row = alteration.of(old.clone());
        let workspace = match alteration {
            Alteration::Disable => None,
            Alteration::Enable | Alteration::Reconfigure { .. } => {
                let workspace = self.open(&row)?;
                self.free(&workspace, Some(id))?;
                Some(workspace)
            }
        };
        let record = self.record(EventType::SourceChange, &row, alteration.word())?;
        let keep = vec![Change::PutSource(row.clone())];
        let kept = if (&row.config, &row.label) == (&old.config, &old.label) {
            self.core.store.commit(keep).await
        } else {
            let hide = || {
                self.core.registry.remove(&source_group(id));
            };
            trust.forget(&format!("{}.", id.slug()), keep, hide).await
        };
        if let Err(error) = kept {
            self.core.note_failure(record);
            return Err(error.into());
        }
        match workspace.filter(|_| row.enabled) {
            Some(workspace) => {
                let ids = workspace.definitions().into_iter().map(|definition| definition.id);
                let ids = ids.collect();
                self.run(row, Ok(workspace));
                Ok(ids)
            }
            None => {
                self.rest(row);
                Ok(Vec::new())
            }
        }
    }

    /// Every source, with how it is.
    pub fn health(&self) -> Vec<(SourceId, Health)> {
        let list = self.list();
        list.iter().map(|running| (running.row.id.clone(), running.health.shown(None))).collect()
    }
}

/// How a source is that the owner has disabled.
pub(super) fn resting() -> Health {
    let detail = Some("it is disabled".to_owned());
    Health { detail, ..Health::of(HealthStatus::Unknown) }
}
