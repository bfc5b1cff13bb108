//! How the gateway is.

use axum::extract::State;
use plexus_shared::ids::SourceId;
use plexus_shared::model::health::Health;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::Services;
use crate::http::extract::Owner;

/// Counts, versions, and whether the log can be written.
pub async fn show(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let now = services.core.now();
    let catalog = services.core.registry.catalog();
    let (sessions, tokens) = services.trust.sessions().count();
    let agents = services.trust.ledger().agents().len();
    let grants = services.trust.standing(None).len();
    axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": "0.1",
        "baseUrl": services.base_url,
        "pid": std::process::id(),
        "startedAt": services.started_at,
        "uptimeMs": u64::try_from(now.since(services.started_at).as_millis()).unwrap_or(u64::MAX),
        "revision": catalog.revision(),
        "capabilities": catalog.all().count(),
        "exposed": catalog.shown().count(),
        "agents": agents,
        "grants": grants,
        "pending": services.trust.waiting().len(),
        "sessions": sessions,
        "tokens": tokens,
        "frozen": services.trust.is_frozen(),
        "policy": services.core.settings.now().policy,
        "reach": services.reach,
        "mesh": services.mesh.view(),
        "audit": {"writable": services.core.audit.is_available(), "seq": services.core.audit.head().seq},
    }))
}

/// One source, or workload, and how it is.
#[derive(Serialize)]
struct Line {
    source: String,
    kind: &'static str,
    #[serde(flatten)]
    health: Health,
}

/// How everything is that bears capabilities.
pub async fn health(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let line = |kind| move |(source, health): (String, Health)| Line { source, kind, health };
    let named = |(id, health): (SourceId, Health)| (id.to_string(), health);
    let sources = services.sources.health().into_iter().map(named).map(line("source"));
    let extensions = services.extensions.health().into_iter().map(named).map(line("extension"));
    let workloads = services.mesh.healths().into_iter().map(line("workload"));
    let lines: Vec<_> = sources.chain(extensions).chain(workloads).collect();
    axum::Json(json!({ "sources": lines }))
}
