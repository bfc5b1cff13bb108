//! What could not be kept has not happened.

#![allow(clippy::unwrap_used, reason = "tests")]
use plexus_shared::admit::token::TokenKeys;
use plexus_shared::audit::{AuditLog, Tier, tail};
use plexus_shared::clock::SystemClock;
use plexus_shared::model::exposure::ExposureRules;
use plexus_shared::source::registry::Registry;
use plexus_shared::state_dir::StateDir;

use super::*;
use crate::events::Events;
use crate::replays::Replays;
use crate::settings::InForce;
use crate::store::Store;
use crate::trust::ledger::Ledger;
use crate::trust::sessions::Sessions as Stays;

/// The parts of a node over `state`.
pub(crate) fn ground(state: &StateDir) -> (Core, Trust) {
    let (store, mut kept) = Store::open(&state.join("state.db")).unwrap();
    let (clock, stays) = (Arc::new(SystemClock), Arc::new(Stays::default()));
    let log = AuditLog::open(state.subdir("audit").unwrap(), clock.clone(), Tier::Primary);
    let registry = Arc::new(Registry::new(0, ExposureRules::default()));
    let events = Arc::new(Events::new(registry.clone(), stays.clone(), clock.clone()));
    let core = Core {
        registry,
        events,
        store: Arc::new(store),
        audit: Arc::new(log.unwrap()),
        audit_index: None,
        clock,
        settings: InForce::default(),
        exposure_gate: Arc::default(),
        tasks: Arc::default(),
    };
    let keys = TokenKeys::new(&[7; 32]);
    let replays = Arc::new(Replays::new(core.clone(), Vec::new()));
    let trust = Trust::new(core.clone(), Ledger::new(&mut kept), stays, replays, keys, false);
    (core, trust)
}

#[tokio::test]
async fn a_source_whose_removal_can_not_be_kept_stays_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::open(&temp.path().join("home")).unwrap();
    let notes = temp.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    let (core, trust) = ground(&state);
    let sources = Sources::start(core.clone(), Vec::new(), state.path());
    let id: SourceId = "notes".parse().unwrap();
    let config = json!({ "path": notes });
    let kind = "workspace".to_owned();
    let row = SourceRow { id: id.clone(), kind, label: None, enabled: true, config };
    sources.add(row.clone()).await.unwrap();
    // The revision too: it was not gone for a moment either.
    let shown = || {
        let catalog = core.registry.catalog();
        (catalog.shown().count(), catalog.revision())
    };
    let before = shown();
    crate::store::break_writes(&state.join("state.db"), "source");

    assert!(matches!(sources.remove(&id, &trust).await, Err(SourceError::Store(_))));
    assert_eq!((shown(), sources.has(&id)), (before, true));
    let other = SourceRow { id: "other".parse().unwrap(), ..row };
    assert!(matches!(sources.add(other).await, Err(SourceError::Store(_))));
    assert_eq!((shown(), sources.view().len()), (before, 1));
    let said = tail(core.audit.folder(), None, 10, |_| true).unwrap();
    let said: Vec<_> = said.iter().map(|event| event.outcome).collect();
    let (ok, error) = (Some(RecordOutcome::Ok), Some(RecordOutcome::Error));
    assert_eq!(said, [error, ok, error, ok, ok], "what was not done after all is recorded too");
}
