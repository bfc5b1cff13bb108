//! What agents hold: granting directly, taking back, tokens, bundles, and the owner's own key.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use plexus_shared::ids::{AgentId, BundleId};
use plexus_shared::model::denial::Code;
use plexus_shared::model::trust::TrustWindow;
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bad_request, fault, refuse};
use crate::http::Services;
use crate::http::agent::grants::bounded;
use crate::http::agent::lifecycle::{RevokeRequest, tell};
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::store::rows::{AskedBundle, BundleRow, ContextRef};
use crate::trust::{ConnectError, Given, Selector, StartingCapability};

/// The body of `PUT grants`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    agent_id: AgentId,
    grants: BTreeMap<String, Leg>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Leg {
    Verbs(VerbSet),
    Full(Box<Full>),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Full {
    #[serde(default)]
    verbs: Option<VerbSet>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    constraint: Option<plexus_shared::model::constraint::Constraint>,
}

/// Grants directly, by the owner's word.
pub async fn grant(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<GrantRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let given = give(&services, request, None).await?;
    Ok(axum::Json(told(&services, &given)))
}

/// The body of `POST bundles`: grants, and what they are for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleRequest {
    name: String,
    #[serde(default)]
    context: Vec<ContextRef>,
    agent_id: AgentId,
    grants: BTreeMap<String, Leg>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
}

/// Grants directly what belongs together, under one name.
pub async fn bundle(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<BundleRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let BundleRequest { name, context, agent_id, grants, trust_window } = request;
    let bundle = bounded(AskedBundle { name, context })?;
    let grants = GrantRequest { agent_id, grants, trust_window };
    let given = give(&services, grants, Some(bundle)).await?;
    let mut answer = told(&services, &given);
    answer["bundleId"] = json!(given.bundle);
    Ok(axum::Json(answer))
}

async fn give(
    services: &Services,
    request: GrantRequest,
    bundle: Option<AskedBundle>,
) -> Result<Given, Failure> {
    let window = request.trust_window;
    let starting = |(id, given)| match given {
        Leg::Verbs(verbs) => {
            StartingCapability { id, verbs: Some(verbs), window, constraint: None }
        }
        Leg::Full(full) => StartingCapability {
            id,
            verbs: full.verbs,
            window: full.trust_window.or(window),
            constraint: full.constraint,
        },
    };
    let capabilities = request.grants.into_iter().map(starting).collect();
    let given = services.trust.grant(&request.agent_id, capabilities, bundle).await;
    given.map_err(|error| match error {
        ConnectError::Unknown(_) | ConnectError::NoAgent(_) => {
            refuse(StatusCode::BAD_REQUEST, Code::UnknownCapability, error)
        }
        ConnectError::Verbs { .. }
        | ConnectError::Constraint { .. }
        | ConnectError::TooLarge(_) => bad_request(error),
        ConnectError::Change(_) => fault(error),
    })
}

fn told(services: &Services, given: &Given) -> Value {
    let catalog = services.core.registry.catalog();
    let show = |grant| crate::trust::show(&catalog, grant);
    let granted: Vec<_> = given.granted.iter().map(show).collect();
    let skipped = given.skipped.iter().map(|(id, why)| json!({"id": id, "reason": why}));
    json!({"ok": true, "granted": granted, "skipped": skipped.collect::<Vec<_>>()})
}

/// Takes back a token, what an agent holds on a capability, or a bundle.
pub async fn revoke(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<RevokeRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let (selector, reason) = request.selector()?;
    let revoked = services.trust.revoke(&selector, reason.as_deref()).await.map_err(fault)?;
    Ok(axum::Json(tell(&revoked)))
}

/// The body of `POST agents/revoke`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeAgentRequest {
    agent_id: AgentId,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    delete: bool,
}

/// Takes everything an agent has.
pub async fn revoke_agent(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<RevokeAgentRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let reason = request.reason.as_deref();
    let revoked = services.trust.revoke_agent(&request.agent_id, reason, request.delete).await;
    let revoked = revoked.map_err(fault)?;
    let unknown = "there is no such agent; see `plexus agents list`";
    let revoked =
        revoked.ok_or_else(|| refuse(StatusCode::NOT_FOUND, Code::UnknownCapability, unknown))?;
    if request.delete {
        services.extensions.disown(&request.agent_id);
    }
    Ok(axum::Json(json!({
        "ok": true,
        "agentId": request.agent_id,
        "enrollmentRevoked": revoked.enrollment,
        "sessionsInvalidated": revoked.sessions,
        "grantsRemoved": revoked.grants,
        "revokedJtis": revoked.jtis,
        "auditId": revoked.audit_id,
    })))
}

/// Lists live tokens; never the tokens themselves.
pub async fn tokens(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let now = services.core.now();
    axum::Json(json!({ "tokens": services.trust.sessions().tokens(now) }))
}

/// Lists bundles with their members.
pub async fn bundles(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let all = services.trust.standing(None);
    let ledger = services.trust.ledger();
    let show = |bundle: &BundleRow| {
        let member = |grant: &&plexus_shared::model::trust::StandingGrant| {
            grant.bundle_id.as_ref() == Some(&bundle.id)
        };
        let piece = |piece: &ContextRef| match piece {
            ContextRef::Skill { skill_id, label } => {
                json!({"id": skill_id, "label": label, "kind": "skill"})
            }
            ContextRef::Inline { label, .. } => json!({"label": label, "kind": "inline"}),
        };
        json!({
            "bundleId": bundle.id,
            "name": bundle.name,
            "agentId": bundle.agent,
            "createdAt": bundle.created_at,
            "members": all.iter().filter(member).collect::<Vec<_>>(),
            "context": bundle.context.iter().map(piece).collect::<Vec<_>>(),
        })
    };
    let bundles: Vec<_> = ledger.bundles().into_iter().map(show).collect();
    axum::Json(json!({ "bundles": bundles }))
}

/// Takes a bundle back, members and all.
pub async fn drop_bundle(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    let id: BundleId = id.parse().map_err(bad_request)?;
    let revoked = services.trust.revoke(&Selector::Bundle(id), None).await.map_err(fault)?;
    Ok(axum::Json(tell(&revoked)))
}

/// Makes a new owner's key, shown once. Sessions that the old one opened end; no agent is touched.
pub async fn rotate_key(State(services): State<Services>, _: Owner) -> Result<Response, Failure> {
    let key = services.rotate_key().await.map_err(fault)?;
    let body = axum::Json(json!({"ok": true, "connectionKey": key}));
    Ok(([(header::CACHE_CONTROL, "no-store")], body).into_response())
}
