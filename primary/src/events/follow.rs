//! Following what changes without being asked: the shown capabilities, and the log.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use plexus_shared::audit::backwards;
use plexus_shared::ids::CapabilityId;
use plexus_shared::model::input::Digest;
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::registry::Catalog;
use tokio::sync::watch;

use super::ring::KEPT_LINES;
use super::{Audience, AuditLine, Changed, Event};
use crate::core::Core;

/// The most ids that an event names; beyond it says only that much has changed.
const MAX_NAMED: usize = 256;
/// Lines of the log are told together, this long after the first.
const GATHER: Duration = Duration::from_millis(200);

/// What agents can see: enough to tell what moved.
pub(super) type Shown = BTreeMap<CapabilityId, (Digest, Provenance)>;

pub(super) fn shown(catalog: &Catalog) -> Shown {
    let seen = catalog
        .shown()
        .map(|entry| (entry.definition.id.clone(), (entry.digest, entry.posture.provenance)));
    seen.collect()
}

/// What moved between `before` and `now`; `None` when it is too much to name.
pub(super) fn difference(before: &Shown, now: &Shown) -> Option<Changed> {
    let absent = |from: &Shown, of: &Shown| -> Vec<CapabilityId> {
        of.keys().filter(|id| !from.contains_key(*id)).cloned().collect()
    };
    let updated = now.iter().filter(|(id, seen)| before.get(*id).is_some_and(|old| old != *seen));
    let changed = Changed {
        added: absent(before, now),
        removed: absent(now, before),
        updated: updated.map(|(id, _)| id.clone()).collect(),
    };
    let named = changed.added.len() + changed.removed.len() + changed.updated.len();
    (named <= MAX_NAMED).then_some(changed)
}

/// Tells every change of what agents can see, until `stop` turns true. Changes that come at once are
/// told at once.
pub async fn follow_manifest(core: Core, mut stop: watch::Receiver<bool>) {
    let mut revisions = core.registry.subscribe();
    let mut before = shown(&core.registry.catalog());
    loop {
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            _ = stop.changed() => return,
        }
        revisions.mark_unchanged();
        let catalog = core.registry.catalog();
        let now = shown(&catalog);
        let (revision, changed) = (catalog.revision(), difference(&before, &now));
        core.events.publish(Audience::All, Event::ManifestChanged { revision, changed });
        before = now;
    }
}

/// Tells the owner of every line of the log, until `stop` turns true. Whoever writes waits for
/// nothing; when too much is written at once, the rest is left to be looked up.
pub async fn follow_log(core: Core, mut stop: watch::Receiver<bool>) {
    let mut heads = core.audit.subscribe();
    let mut seen = *heads.borrow_and_update();
    loop {
        tokio::select! {
            changed = heads.changed() => if changed.is_err() { return },
            _ = stop.changed() => return,
        }
        tokio::time::sleep(GATHER).await;
        let head = *heads.borrow_and_update();
        let fresh = usize::try_from(head.saturating_sub(seen)).unwrap_or(usize::MAX);
        if fresh > KEPT_LINES {
            core.events.skip_log();
        }
        for line in newest(&core, head, fresh.min(KEPT_LINES)).await {
            core.events.tell_owner(Event::AuditAppended(line));
        }
        seen = head;
    }
}

/// The newest `count` lines up to `head`, oldest first.
async fn newest(core: &Core, head: u64, count: usize) -> Vec<AuditLine> {
    if count == 0 {
        return Vec::new();
    }
    let audit = core.audit.clone();
    let before = head.saturating_add(1);
    // Their payloads, which may be large, go as they come.
    let heads = move || {
        let mut lines = Vec::new();
        backwards(audit.folder(), Some(before), |event| {
            lines.push(AuditLine::from(event));
            if lines.len() < count { Continue(()) } else { Break(()) }
        })
        .map(|()| lines)
    };
    match tokio::task::spawn_blocking(heads).await {
        Ok(Ok(mut lines)) => {
            lines.reverse();
            lines
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the log could not be read to tell of its new lines");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
