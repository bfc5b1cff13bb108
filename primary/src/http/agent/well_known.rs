//! `GET /.well-known/plexus`: everything a cold agent needs to begin, and no secret.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::http::Services;

/// The gateway's identity block.
pub(in crate::http) fn gateway(services: &Services) -> Value {
    json!({
        "name": "plexus",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": "0.1",
        "baseUrl": services.base_url,
    })
}

/// Shows the discovery document.
pub async fn show(State(services): State<Services>) -> Json<Value> {
    let catalog = services.core.registry.catalog();
    let capabilities: Vec<_> = catalog.shown().map(|entry| json!(entry.summary())).collect();
    Json(json!({
        "gateway": gateway(&services),
        "capabilities": capabilities,
        "auth": auth(&services.base_url),
    }))
}

fn auth(base: &str) -> Value {
    let url = |path: &str| format!("{base}{path}");
    json!({
        "handshakeUrl": url("/link/handshake"),
        "grantsUrl": url("/grants"),
        "grantRequestUrl": url("/grants"),
        "grantRequestMethod": "PUT",
        "sessionHeader": "X-Plexus-Session",
        "consoleUrl": url("/admin"),
        "refreshUrl": url("/grants/refresh"),
        "revokeUrl": url("/grants/revoke"),
        "grantStatusUrl": url("/grants/status"),
        "invokeUrl": url("/invoke"),
        "manifestUrl": url("/manifest"),
        "eventsUrl": url("/events"),
        "grantsListUrl": url("/grants"),
        "tokenScheme": "plexus-scoped-jwt",
        "requestShapes": request_shapes(&url),
        "enrollmentUrl": url("/agents/enroll"),
        "enrollment": {
            "url": url("/agents/enroll"),
            "method": "POST",
            "auth": "body.code",
            "body": {"code": "<one-time enrollment code (plx_enroll_…), handed to you by the owner>"},
            "success": {
                "pat": "<your durable credential (plx_agent_…); shown once, store it yourself>",
                "agentId": "<your agentId>",
            },
            "errorCodes":
                ["malformed", "unknown_code", "code_expired", "code_consumed", "persist_failed"],
            "patStorage": "Store the PAT yourself, readable by you alone; it is returned exactly \
                           once. Present it as Authorization: Bearer plx_agent_… at every handshake.",
        },
    })
}

fn request_shapes(url: &dyn Fn(&str) -> String) -> Value {
    json!({
        "handshake": {
            "url": url("/link/handshake"),
            "method": "POST",
            "auth": "bearer(pat)",
            "headers": {
                "Authorization": "Bearer <your plx_agent_… PAT>",
                "Content-Type": "application/json",
            },
            "body": {"client": {"name": "<your program>", "version": "<its version>"}},
        },
        "grantRequest": {
            "url": url("/grants"),
            "method": "PUT",
            "auth": "header:X-Plexus-Session",
            "headers": {"X-Plexus-Session": "<sessionId>", "Content-Type": "application/json"},
            "body": {"grants": {
                "<capabilityId>": "allow",
                "<capabilityId that does more than read>":
                    {"decision": "allow", "verbs": ["write"], "purpose": "<why, for the owner>"},
            }},
        },
        "invoke": {
            "url": url("/invoke"),
            "method": "POST",
            "auth": "bearer(scoped-jwt)",
            "headers": {
                "Authorization": "Bearer <token>",
                "Content-Type": "application/json",
            },
            "body": {"id": "<capabilityId>", "input": {}},
        },
    })
}
