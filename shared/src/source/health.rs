//! The shared, swappable health of one home: a source, or a workload.

use arc_swap::ArcSwap;

use crate::clock::Timestamp;
use crate::model::denial::{Code, Denial};
use crate::model::health::{Health, HealthStatus};

/// Why a home can't be called now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// `source_unavailable` or `capability_unavailable`.
    pub code: Code,
    /// Since when.
    pub since: Timestamp,
    /// In words.
    pub message: String,
}

#[derive(Debug)]
struct State {
    shown: Health,
    down: Option<Down>,
}

/// How one home is: what its entries show, and whether it can be called at all.
#[derive(Debug)]
pub struct HealthCell(ArcSwap<State>);

impl HealthCell {
    /// A home that shows `health` and can be called.
    pub fn new(health: Health) -> Self {
        Self(ArcSwap::from_pointee(State { shown: health, down: None }))
    }

    /// The home can be called, and shows `health`.
    pub fn up(&self, health: Health) {
        self.0.store(std::sync::Arc::new(State { shown: health, down: None }));
    }

    /// The home can't be called.
    pub fn down(&self, down: Down) {
        let shown = Health {
            status: HealthStatus::Unavailable,
            detail: Some(down.message.clone()),
            checked_at: Some(down.since),
        };
        self.0.store(std::sync::Arc::new(State { shown, down: Some(down) }));
    }

    /// Since when the home can't be called; `None` when it can.
    pub fn down_since(&self) -> Option<Timestamp> {
        self.0.load().down.as_ref().map(|down| down.since)
    }

    /// What an entry of this home shows; `note` is the entry's own.
    pub fn shown(&self, note: Option<&str>) -> Health {
        let mut health = self.0.load().shown.clone();
        if health.detail.is_none() {
            health.detail = note.map(ToOwned::to_owned);
        }
        health
    }

    /// Whether `id`, which lives there, can be called now.
    ///
    /// # Errors
    /// `source_unavailable` or `capability_unavailable`, with `unavailableSince`.
    pub fn admit(&self, id: &str) -> Result<(), Denial> {
        match &self.0.load().down {
            None => Ok(()),
            Some(down) => {
                Err(Denial::new(down.code, down.message.clone()).about(id).since(down.since))
            }
        }
    }
}
