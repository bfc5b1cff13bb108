//! How the gateway is.

use axum::extract::State;
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
