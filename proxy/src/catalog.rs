//! The sources of this node, and what of them the primary has been told.
//!
//! A proxy offers bare ids: `notes.file.read`. Where they are mounted is the primary's business, and
//! so is what class they have and who may see them. What is told is therefore each entry's definition
//! and nothing else. On every connection the whole catalog goes first, then what changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use plexus_mesh_proto::address::BareId;
use plexus_mesh_proto::bounded::Text;
use plexus_mesh_proto::catalog::{CatalogChange, MountMode};
use plexus_mesh_proto::health::{HealthState, SourceHealth};
use plexus_mesh_proto::json::Json;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::SourceId;
use plexus_shared::model::denial::Code;
use plexus_shared::model::entry::Definition;
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::health::{Down, HealthCell};
use plexus_shared::source::registry::{Catalog, Group, Offer, Refused, Registry, source_group};
use plexus_shared::source::workspace::Workspace;
use plexus_shared::transport::Transport;

use crate::config::{Config, ConfigError, SourceConfig, SourceKind};

/// One open source.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub id: SourceId,
    kind: Opened,
    health: Arc<HealthCell>,
}

/// What a source is, open: a closed set.
#[derive(Debug)]
enum Opened {
    Workspace(Workspace),
}

/// All sources of this node.
#[derive(Debug, Default)]
pub struct Sources(Vec<Arc<Source>>);

impl Sources {
    /// Opens every source of `config`; none may reach into `state`, where this node's key lies.
    ///
    /// # Errors
    /// The first that cannot be opened, with its line.
    pub fn open(config: &Config, state: &Path) -> Result<Self, ConfigError> {
        let open = |source| Source::open(config, source, state).map(Arc::new);
        let opened = config.sources.iter().map(open);
        opened.collect::<Result<_, _>>().map(Self)
    }

    /// Puts every source's entries into `registry`; says what was not taken.
    pub fn register(&self, registry: &Registry) -> Vec<Refused> {
        let refused = self.0.iter().map(|source| {
            let group = Group {
                class: Provenance::Managed,
                shown_by_default: true,
                health: source.health.clone(),
                offers: source.offers(),
            };
            registry.put(&source_group(&source.id), group)
        });
        refused.flatten().collect()
    }

    /// The sources in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.0.iter()
    }
}

impl Source {
    fn open(config: &Config, source: &SourceConfig, state: &Path) -> Result<Self, ConfigError> {
        let SourceConfig { id, label, kind, line } = source;
        let kind = match kind {
            SourceKind::Workspace(folder) => {
                Workspace::open(id.clone(), label.clone(), folder, state).map(Opened::Workspace)
            }
        };
        let kind = kind.map_err(|error| config.mistake(*line, error.to_string()))?;
        let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Unknown)));
        Ok(Self { id: id.clone(), kind, health })
    }

    /// What it offers.
    pub fn definitions(&self) -> Vec<Definition> {
        match &self.kind {
            Opened::Workspace(workspace) => workspace.definitions(),
        }
    }

    fn offers(&self) -> Vec<Offer> {
        let offer = |definition: Definition| match &self.kind {
            Opened::Workspace(workspace) => {
                let operation = workspace.operation(&definition.id)?;
                let transport = Transport::Workspace(workspace.clone(), operation);
                Some(Offer { definition, transport })
            }
        };
        self.definitions().into_iter().filter_map(offer).collect()
    }

    /// Asks the source itself how it is.
    pub async fn ask(&self) -> Health {
        match &self.kind {
            Opened::Workspace(workspace) => workspace.health().await,
        }
    }

    /// Takes note of how it is: calls of a source that is down are refused from then on. Gives what
    /// there is to report.
    pub fn note(&self, found: Health, now: Timestamp) -> SourceHealth {
        match found.status {
            HealthStatus::Unavailable => self.health.down(Down {
                code: Code::SourceUnavailable,
                since: self.health.down_since().unwrap_or(now),
                message: found.detail.clone().unwrap_or_else(|| "the source is down".to_owned()),
            }),
            _ => self.health.up(Health { checked_at: Some(now), ..found.clone() }),
        }
        SourceHealth {
            source: Text::truncated(self.id.as_str()),
            state: wire_state(found.status),
            detail: found.detail.map(Text::truncated),
        }
    }
}

fn wire_state(status: HealthStatus) -> HealthState {
    match status {
        HealthStatus::Ok => HealthState::Ok,
        HealthStatus::Degraded => HealthState::Degraded,
        HealthStatus::Unavailable => HealthState::Unavailable,
        HealthStatus::Unknown => HealthState::Unknown,
    }
}

/// What one connection's primary has been told.
#[derive(Debug, Default)]
pub struct Told {
    revision: u64,
    digests: BTreeMap<BareId, [u8; 32]>,
}

impl Told {
    /// What to tell of `catalog`: all of it the first time, what changed afterwards, nothing when
    /// nothing did. An entry that has no place on the wire is left out and named in the log.
    pub fn change(&mut self, catalog: &Catalog) -> Option<CatalogChange> {
        let first = self.revision == 0;
        let (mut entries, mut digests) = (Vec::new(), BTreeMap::new());
        for target in catalog.shown() {
            let Some((id, entry)) = on_the_wire(&target.definition) else { continue };
            if self.digests.get(&id) != Some(&target.digest) {
                entries.push(entry);
            }
            digests.insert(id, target.digest);
        }
        let gone = self.digests.keys().filter(|id| !digests.contains_key(*id));
        let withdrawn: Vec<_> = gone.cloned().collect();
        if !first && entries.is_empty() && withdrawn.is_empty() {
            return None;
        }
        self.digests = digests;
        self.revision += 1;
        let mode = if first { MountMode::Full } else { MountMode::Delta };
        Some(CatalogChange { revision: self.revision, mode, entries, withdrawn })
    }
}

fn on_the_wire(definition: &Definition) -> Option<(BareId, Json)> {
    let id = definition.id.as_str().parse();
    let entry = serde_json::value::to_raw_value(definition);
    match (id, entry) {
        (Ok(id), Ok(entry)) => Some((id, Json::from(entry))),
        _ => {
            tracing::error!(id = %definition.id, "an entry cannot be offered");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use plexus_shared::model::exposure::ExposureRules;

    use super::*;

    fn config(folder: &Path) -> Config {
        let text = format!(
            "[[source]]\nid = \"notes\"\nkind = \"workspace\"\npath = {:?}\nmode = \"read-write\"\n",
            folder.display().to_string()
        );
        Config::parse(Path::new("proxy.toml"), &text).unwrap()
    }

    #[test]
    fn a_missing_folder_is_told_with_its_line() {
        let error =
            Sources::open(&config(Path::new("/nowhere/at/all")), Path::new("/nowhere/state"))
                .unwrap_err();
        assert_eq!(error.to_string().split(": ").next(), Some("proxy.toml:4"));
    }

    #[test]
    fn the_whole_catalog_goes_first_then_only_what_changed() {
        let temp = tempfile::tempdir().unwrap();
        let sources = Sources::open(&config(temp.path()), Path::new("/nowhere/state")).unwrap();
        let registry = Registry::new(0, ExposureRules::default());
        assert!(sources.register(&registry).is_empty());
        let mut told = Told::default();
        let all = told.change(&registry.catalog()).unwrap();
        assert_eq!((all.mode, all.revision, all.entries.len()), (MountMode::Full, 1, 3));
        assert!(all.entries[0].get().starts_with(r#"{"id":"notes.file."#));
        assert_eq!(told.change(&registry.catalog()), None);
        registry.remove(&source_group(&"notes".parse().unwrap()));
        let gone = told.change(&registry.catalog()).unwrap();
        assert_eq!((gone.mode, gone.revision, gone.withdrawn.len()), (MountMode::Delta, 2, 3));
        assert!(gone.entries.is_empty());
    }

    #[test]
    fn no_entries_is_a_catalog_too() {
        let registry = Registry::new(0, ExposureRules::default());
        let mut told = Told::default();
        assert_eq!(told.change(&registry.catalog()).unwrap().mode, MountMode::Full);
        assert_eq!(told.change(&registry.catalog()), None);
    }

    #[tokio::test]
    async fn a_source_that_went_away_refuses_calls_until_it_is_back() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("notes");
        std::fs::create_dir(&folder).unwrap();
        let sources = Sources::open(&config(&folder), Path::new("/nowhere/state")).unwrap();
        let source = sources.0[0].clone();
        let look = async |second: i64| {
            source.note(source.ask().await, Timestamp::from_millis(second * 1000)).state
        };
        assert_eq!(look(1).await, HealthState::Ok);
        let away = temp.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        assert_eq!(look(2).await, HealthState::Unavailable);
        let refused = source.health.admit("notes.file.read").unwrap_err();
        assert_eq!(refused.code, Code::SourceUnavailable);
        look(3).await;
        let since = source.health.down_since();
        assert_eq!(since, Some(Timestamp::from_millis(2000)), "it has been down since then");
        std::fs::rename(&away, &folder).unwrap();
        assert_eq!(look(4).await, HealthState::Ok);
        assert_eq!(source.health.down_since(), None);
    }
}
