//! Connecting agents, and what they hold.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use plexus_shared::ids::AgentId;
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::Code;
use plexus_shared::model::trust::TrustWindow;
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bad_request, fault, refuse};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::store::rows::AgentKind;
use crate::trust::{Connect, ConnectError, StartingCapability};

/// The most capabilities an agent may start with.
const MAX_STARTING: usize = 1000;
/// How long a code may be redeemable, in milliseconds: a second to a day.
const MIN_CODE_TTL_MS: u64 = 1_000;
const MAX_CODE_TTL_MS: u64 = 86_400_000;

/// The body of `POST agents/connect`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectRequest {
    agent_id: AgentId,
    #[serde(default)]
    agent_type: AgentKind,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    capabilities: Vec<Starting>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    code_ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Starting {
    Id(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Full {
    id: String,
    #[serde(default)]
    verbs: Option<VerbSet>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    constraint: Option<Constraint>,
}

/// Connects an agent: a one-time code, and standing grants to begin with.
pub async fn connect(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<ConnectRequest>,
) -> Result<Response, Failure> {
    if request.capabilities.len() > MAX_STARTING {
        return Err(bad_request(format!("an agent may start with {MAX_STARTING} capabilities")));
    }
    if request.agent_id.is_anonymous() {
        return Err(bad_request("anon: names are the gateway's own; choose another"));
    }
    let label = request.label.as_deref().map(|label| crate::trust::narration::plain(label, 120));
    let window = request.trust_window;
    let starting = |starting| match starting {
        Starting::Id(id) => StartingCapability { id, verbs: None, window, constraint: None },
        Starting::Full(full) => {
            let window = full.trust_window.or(window);
            StartingCapability {
                id: full.id,
                verbs: full.verbs,
                window,
                constraint: full.constraint,
            }
        }
    };
    let order = Connect {
        agent: request.agent_id.clone(),
        kind: request.agent_type,
        label,
        capabilities: request.capabilities.into_iter().map(starting).collect(),
        code_ttl: request.code_ttl_ms.map(code_ttl),
    };
    let connected = services.trust.connect(order).await.map_err(|error| match error {
        ConnectError::Unknown(_) => refuse(StatusCode::BAD_REQUEST, Code::UnknownCapability, error),
        ConnectError::Verbs { .. }
        | ConnectError::Constraint { .. }
        | ConnectError::TooLarge(_) => bad_request(error),
        ConnectError::NoAgent(_) => bad_request(error),
        ConnectError::Change(_) => fault(error),
    })?;
    let catalog = services.core.registry.catalog();
    let granted: Vec<_> =
        connected.granted.iter().map(|grant| crate::trust::show(&catalog, grant)).collect();
    let skipped: Vec<_> =
        connected.skipped.iter().map(|(id, why)| json!({"id": id, "reason": why})).collect();
    let enroll_url = format!("{}/agents/enroll", services.base_url);
    let body = json!({
        "ok": true,
        "agentId": request.agent_id,
        "agentType": request.agent_type,
        "code": connected.code,
        "expiresAt": connected.expires_at,
        "enrollUrl": enroll_url,
        "handshakeUrl": format!("{}/link/handshake", services.base_url),
        "installCommand": format!(
            "curl -sS {enroll_url} -H 'content-type: application/json' -d '{{\"code\":\"{}\"}}'",
            connected.code.expose(),
        ),
        "granted": granted,
        "skipped": skipped,
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

fn code_ttl(ms: u64) -> Duration {
    Duration::from_millis(ms.clamp(MIN_CODE_TTL_MS, MAX_CODE_TTL_MS))
}

/// Lists agents; never a code, a credential or a hash.
pub async fn list(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let ledger = services.trust.ledger();
    let agents = ledger.agents().into_iter().map(|row| {
        let mut agent = json!({
            "agentId": row.id,
            "agentType": row.kind,
            "status": match (row.revoked_at, row.pat) {
                (Some(_), _) => "revoked",
                (None, Some(_)) => "active",
                (None, None) => "pending",
            },
            "issuedAt": row.issued_at,
        });
        let extras = [
            ("label", json!(row.label)),
            ("codeExpiresAt", json!(row.code_expires_at)),
            ("redeemedAt", json!(row.redeemed_at)),
            ("revokedAt", json!(row.revoked_at)),
            ("lastSeenAt", json!(services.limits.last_seen(&row.id))),
        ];
        for (name, value) in extras.into_iter().filter(|(_, value)| !value.is_null()) {
            agent[name] = value;
        }
        agent
    });
    axum::Json(json!({ "agents": agents.collect::<Vec<_>>() }))
}

/// The ledger of all agents.
pub async fn grants(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    axum::Json(json!({ "grants": services.trust.standing(None) }))
}
