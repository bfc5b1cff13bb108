//! What a workload bears, as entries of this gateway.
//!
//! A pushed entry is read as a [`Definition`]: whatever else it asserts (a class, a window, a health)
//! has no place to land. Ids are moved under the workload's mount point, once, here.

use std::collections::BTreeMap;
use std::sync::Arc;

use plexus_mesh_proto::address::{BareId, MountPoint};
use plexus_mesh_proto::catalog::{CatalogChange, MountMode};
use plexus_mesh_proto::json::Json;
use plexus_mesh_proto::limits;
use plexus_shared::ids::CapabilityId;
use plexus_shared::model::entry::Definition;
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::registry::{Group, Offer, Refused};
use plexus_shared::transport::Transport;
use plexus_shared::transport::mesh::Mesh as MeshTransport;

use super::route::Route;

/// The entries of one workload, by their id at home, as pushed and as mounted.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounted {
    entries: BTreeMap<BareId, (Json, Definition)>,
    /// What was not mounted, and why.
    pub(super) refused: Vec<Refused>,
}

impl Mounted {
    /// The entries as they were kept.
    pub(super) fn restore(at: &MountPoint, catalog: &[Json]) -> Self {
        let mut mounted = Self::default();
        for entry in catalog {
            mounted.take(at, entry.clone());
        }
        mounted
    }

    /// These entries after `change`: all replaced, or some withdrawn and others put.
    pub(super) fn after(&self, at: &MountPoint, change: CatalogChange) -> Self {
        let mut next = match change.mode {
            MountMode::Full => Self::default(),
            MountMode::Delta => Self { refused: Vec::new(), ..self.clone() },
        };
        for id in &change.withdrawn {
            next.entries.remove(id);
        }
        for entry in change.entries {
            next.take(at, entry);
        }
        next
    }

    fn take(&mut self, at: &MountPoint, entry: Json) {
        match read(at, &entry) {
            Ok((id, definition)) if self.entries.len() < limits::CATALOG_ENTRIES => {
                self.entries.insert(id, (entry, definition));
            }
            Ok((id, _)) => self.refuse(id.as_str(), "a workload may bear no more entries"),
            Err((id, reason)) => self.refuse(&id, &reason),
        }
    }

    pub(super) fn refuse(&mut self, id: &str, reason: &str) {
        if self.refused.len() < limits::REFUSED_ENTRIES {
            let id = id.chars().take(128).collect();
            self.refused.push(Refused { id, reason: reason.to_owned() });
        }
    }

    /// How many entries are mounted.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries as pushed, to be kept.
    pub(super) fn catalog(&self) -> Vec<Json> {
        self.entries.values().map(|(pushed, _)| pushed.clone()).collect()
    }

    /// Ids as mounted, in order.
    pub(super) fn ids(&self) -> Vec<CapabilityId> {
        self.entries.values().map(|(_, definition)| definition.id.clone()).collect()
    }

    /// The sources they come from, in order.
    pub(super) fn sources(&self) -> Vec<String> {
        let mut sources: Vec<_> =
            self.entries.values().map(|(_, definition)| definition.source.to_string()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The registry's group of these entries, reached by `route`.
    pub(super) fn group(&self, class: Provenance, route: &Arc<Route>) -> Group {
        let offers = self.entries.iter().map(|(home, (_, definition))| Offer {
            definition: definition.clone(),
            transport: Transport::Mesh(MeshTransport::new(route.clone(), home.clone())),
        });
        Group {
            class,
            shown_by_default: false,
            health: route.health().clone(),
            offers: offers.collect(),
        }
    }
}

/// Reads a pushed entry and moves it under `at`; or its id, as far as it can be told, and the reason.
fn read(at: &MountPoint, entry: &Json) -> Result<(BareId, Definition), (String, String)> {
    if entry.get().len() > limits::ENTRY_BYTES {
        let reason = format!("an entry may have at most {} KiB", limits::ENTRY_BYTES >> 10);
        return Err((asserted_id(entry), reason));
    }
    let definition: Definition = serde_json::from_str(entry.get())
        .map_err(|error| (asserted_id(entry), format!("not an entry: {error}")))?;
    let id = definition.id.to_string();
    move_under(at, definition).map_err(|reason| (id, reason))
}

fn asserted_id(entry: &Json) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(entry.get()).map_or_else(|_| "?".to_owned(), |named| named.id)
}

fn move_under(at: &MountPoint, definition: Definition) -> Result<(BareId, Definition), String> {
    definition.check()?;
    let moved = |id: &CapabilityId| -> Result<(BareId, CapabilityId), String> {
        let bare: BareId = id.as_str().parse().map_err(|why| format!("{id}: {why}"))?;
        let mounted = at.mount(&bare).to_string().parse().map_err(|why| format!("{id}: {why}"))?;
        Ok((bare, mounted))
    };
    let (bare, id) = moved(&definition.id)?;
    let mut mounted = Definition { id, ..definition };
    for member in &mut mounted.members {
        member.id = moved(&member.id)?.1;
    }
    for skill in &mut mounted.skills {
        skill.id = moved(&skill.id)?.1;
    }
    Ok((bare, mounted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn at() -> MountPoint {
        MountPoint::new("local".parse().unwrap(), "nas".parse().unwrap())
    }

    fn entry(id: &str, more: &str) -> Json {
        let text = format!(
            r#"{{"id":"{id}","source":"notes","kind":"capability","label":"Read",
            "describe":"Reads.","grants":["read"],"transport":"ipc"{more}}}"#
        );
        Json::from_string(text).unwrap()
    }

    fn change(mode: MountMode, entries: Vec<Json>, withdrawn: &[&str]) -> CatalogChange {
        let withdrawn = withdrawn.iter().map(|id| id.parse().unwrap()).collect();
        CatalogChange { revision: 1, mode, entries, withdrawn }
    }

    #[test]
    fn entries_move_under_the_name_bound_to_the_key_and_asserted_trust_does_not_land() {
        let pushed = entry("notes.file.read", r#","provenance":"first-party","sensitivity":"low""#);
        let mounted = Mounted::default().after(&at(), change(MountMode::Full, vec![pushed], &[]));
        assert_eq!(mounted.ids()[0].as_str(), "local/nas/notes.file.read");
        let group = mounted.group(
            Provenance::Extension,
            &Arc::new(Route::new(plexus_shared::clock::Timestamp::from_millis(0))),
        );
        assert_eq!(group.class, Provenance::Extension);
        assert!(!group.shown_by_default);
    }

    #[test]
    fn a_bad_entry_is_refused_with_its_reason_and_the_good_ones_mount() {
        let pushed = vec![
            entry("notes.file.read", ""),
            entry("local/other/notes.file.read", ""),
            entry("other.file.read", ""),
            Json::from_string("[]".to_owned()).unwrap(),
            entry("notes.number.read", r#","extras":1e400"#),
            entry(
                "notes.deep.read",
                &format!(",\"extras\":{}1{}", "[".repeat(200), "]".repeat(200)),
            ),
            entry("notes.half.read", r#","io":{"input":{"title":"\ud800"}}"#),
        ];
        let mounted = Mounted::default().after(&at(), change(MountMode::Full, pushed, &[]));
        assert_eq!(mounted.len(), 1);
        assert_eq!(mounted.refused.len(), 6);
    }

    #[test]
    fn a_delta_puts_and_withdraws_and_a_full_catalog_replaces() {
        let first = vec![entry("notes.a.read", ""), entry("notes.b.read", "")];
        let mounted = Mounted::default().after(&at(), change(MountMode::Full, first, &[]));
        let delta = change(MountMode::Delta, vec![entry("notes.c.read", "")], &["notes.a.read"]);
        let mounted = mounted.after(&at(), delta);
        let ids: Vec<_> = mounted.ids().iter().map(ToString::to_string).collect();
        assert_eq!(ids, ["local/nas/notes.b.read", "local/nas/notes.c.read"]);
        let full = change(MountMode::Full, vec![entry("notes.d.read", "")], &[]);
        assert_eq!(mounted.after(&at(), full).len(), 1);
    }
}
