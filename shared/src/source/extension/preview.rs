//! What an extension brings and reaches, before it is taken.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::reach::Reach;
use crate::ids::{CapabilityId, SourceId};
use crate::model::entry::{EntryKind, TransportKind};
use crate::model::verb::VerbSet;

/// What an extension brings and reaches: what the owner is shown before saying yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its source.
    pub source: SourceId,
    /// Its label.
    pub label: String,
    /// What it reaches.
    pub reach: Reach,
    /// Its entries.
    pub entries: Vec<PreviewEntry>,
}

/// One entry of an extension, for the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewEntry {
    /// Its id.
    pub id: CapabilityId,
    /// What it is.
    pub kind: EntryKind,
    /// Its label.
    pub label: String,
    /// The verbs a call needs.
    pub grants: VerbSet,
    /// How a call reaches its software.
    pub transport: TransportKind,
}

impl Preview {
    /// What taking `manifest` would bring.
    pub fn of(manifest: &Manifest) -> Self {
        let entries = manifest.capabilities.iter().map(|entry| PreviewEntry {
            id: entry.id.clone(),
            kind: entry.kind,
            label: entry.label.clone(),
            grants: entry.grants,
            transport: entry.transport,
        });
        Self {
            source: manifest.source.clone(),
            label: manifest.label.clone(),
            reach: Reach::of(manifest),
            entries: entries.collect(),
        }
    }

    /// The ids of what it brings.
    pub fn ids(&self) -> Vec<CapabilityId> {
        self.entries.iter().map(|entry| entry.id.clone()).collect()
    }
}
