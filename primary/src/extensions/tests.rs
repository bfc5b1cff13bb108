//! What could not be kept has not happened.

#![allow(clippy::unwrap_used, reason = "tests")]
use plexus_shared::audit::tail;
use plexus_shared::state_dir::StateDir;
use plexus_shared::transport::cli::environment::Host;
use plexus_shared::transport::secrets::SecretFiles;
use plexus_shared::transport::workflow::Reentry;

use super::*;
use crate::sources::tests::ground;

#[tokio::test]
async fn an_extension_whose_removal_can_not_be_kept_stays_as_it_was() {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::open(&temp.path().join("home")).unwrap();
    let (core, trust) = ground(&state);
    let sources = Arc::new(Sources::start(core.clone(), Vec::new(), state.path()));
    let (host, secrets) = (Host::of_this_process(), SecretFiles::none());
    let ports = Ports { host, secrets, reentry: Reentry::default() };
    let extensions = Extensions::start(core.clone(), (sources, Arc::new(trust)), ports, Vec::new());
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "say", "label": "Say", "transport": "cli",
        "capabilities": [{"name": "word.howto", "kind": "skill", "label": "How", "describe": "How.",
            "grants": [], "body": {"format": "markdown", "markdown": "# Briefly"}}],
    });
    extensions.install(&manifest.to_string(), Provenance::Managed).await.unwrap();
    let source: SourceId = "say".parse().unwrap();
    // The revision too: it was not gone for a moment either.
    let shown = || {
        let catalog = core.registry.catalog();
        (catalog.shown().count(), catalog.revision(), extensions.has(&source))
    };
    let before = shown();
    assert_eq!((before.0, before.2), (1, true));
    crate::store::break_writes(&state.join("state.db"), "extension");
    assert!(matches!(extensions.remove(&source).await, Err(ExtensionError::Store(_))));
    assert_eq!(shown(), before);
    let said = tail(core.audit.folder(), None, 10, |_| true).unwrap();
    let said: Vec<_> = said.iter().map(|event| event.outcome).collect();
    let (ok, error) = (Some(RecordOutcome::Ok), Some(RecordOutcome::Error));
    assert_eq!(said, [error, ok, ok], "what was not done after all is recorded too");
}
