//! `/grants/refresh`, `/grants/revoke`, `/grants/context`: carrying on, giving back, reading up.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, EventId, TokenId};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::entry::SkillBody;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::error::Failure;
use crate::http::extract::{KEY_HEADER, bearer, is_owner};
use crate::http::limits::{Asker, Peer};
use crate::http::{Services, extract};
use crate::limits::Door;
use crate::store::rows::{BundleRow, ContextRef};
use crate::trust::sessions::Session;
use crate::trust::{Revoked, Selector};

/// The body of `POST /grants/refresh`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshRequest {
    session_id: String,
    jti: String,
}

/// Gives a fresh token for what still stands of the one that is presented.
pub async fn refresh(
    State(services): State<Services>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<RefreshRequest>,
) -> Result<Json<Value>, Failure> {
    let read = bearer(&headers).map(|bearer| services.trust.keys().verify(bearer));
    let Some(Ok(token)) = read else {
        let message = "present the token to be refreshed as Authorization: Bearer";
        return Err(Denial::new(Code::TokenRevoked, message).into());
    };
    counted(&services, &token)?;
    let fresh = services.trust.refresh(&token, &request.session_id, &request.jti).await?;
    Ok(Json(json!(fresh)))
}

/// The body of a revoke: one selector, and a reason.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokeRequest {
    #[serde(default)]
    jti: Option<TokenId>,
    #[serde(default)]
    agent_id: Option<AgentId>,
    #[serde(default)]
    capability_id: Option<CapabilityId>,
    #[serde(default)]
    bundle_id: Option<BundleId>,
    #[serde(default)]
    reason: Option<String>,
}

impl RevokeRequest {
    /// The one thing that is taken back; anything mixed is refused, so that the right to one never
    /// carries another.
    pub(in crate::http) fn selector(self) -> Result<(Selector, Option<String>), Failure> {
        let Self { jti, agent_id, capability_id, bundle_id, reason } = self;
        let selector = match (jti, agent_id, capability_id, bundle_id) {
            (Some(jti), None, None, None) => Selector::Token(jti),
            (None, Some(agent), Some(capability), None) => Selector::Scope(agent, capability),
            (None, None, None, Some(bundle)) => Selector::Bundle(bundle),
            _ => {
                let message = "name one thing: {jti}, or {agentId, capabilityId}, or {bundleId}";
                return Err(Failure::malformed(StatusCode::BAD_REQUEST, message));
            }
        };
        Ok((selector, reason.map(|reason| crate::trust::narration::plain(&reason, 280))))
    }
}

/// Takes something back: the owner anything, an agent the very token it presents.
pub async fn revoke(
    State(services): State<Services>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<RevokeRequest>,
) -> Result<Json<Value>, Failure> {
    let (selector, reason) = request.selector()?;
    let reason = reason.as_deref();
    if is_owner(&services, &headers) {
        let revoked = services.trust.revoke(&selector, reason).await.map_err(Denial::from)?;
        return Ok(Json(tell(&revoked)));
    }
    let own = bearer(&headers).and_then(|bearer| services.trust.keys().verify(bearer).ok());
    if let Some(token) = &own {
        counted(&services, token)?;
    }
    match (&selector, own) {
        (Selector::Token(jti), Some(token)) if token.jti() == jti => {
            let revoked = services.trust.give_back(&token, reason).await.map_err(Denial::from)?;
            Ok(Json(tell(&revoked)))
        }
        _ => {
            let message =
                "a token may give back itself alone; anything else is the owner's to revoke";
            let denial = Denial::new(Code::GrantRequired, message);
            let refusal = Failure::new(denial).with_status(StatusCode::FORBIDDEN);
            // Whoever shows a wrong key is guessing.
            let guess =
                headers.contains_key(KEY_HEADER).then_some(peer.map(|Extension(peer)| peer));
            let wait =
                guess.and_then(|peer| services.limits.failed(&services.core, peer, Door::Owner));
            Err(wait.unwrap_or(refusal))
        }
    }
}

/// Counts a request that `token` makes; one that is dead counts apart from its agent's.
fn counted(services: &Services, token: &VerifiedToken) -> Result<(), Failure> {
    let live = services.trust.sessions().listed(token.jti());
    services.limits.request(&services.core, &Asker { agent: token.agent().clone(), live })
}

/// A revoke's answer.
pub(in crate::http) fn tell(revoked: &Revoked) -> Value {
    json!({
        "ok": true,
        "revokedJtis": revoked.jtis,
        "grantRemoved": revoked.grants > 0,
        "auditId": revoked.audit_id.as_ref().map_or("", EventId::as_str),
    })
}

/// The query of `GET /grants/context`.
#[derive(Deserialize)]
pub struct ContextQuery {
    bundle: String,
}

/// Shows the context of a bundle to the agent it is for; anyone else is told that there is none.
pub async fn context(
    State(services): State<Services>,
    session: Session,
    query: Result<Query<ContextQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let Query(query) = query.map_err(|_| {
        Failure::malformed(StatusCode::BAD_REQUEST, "name the bundle: ?bundle=bndl_…")
    })?;
    let id: Option<BundleId> = query.bundle.parse().ok();
    let bundle = id.and_then(|id| services.trust.ledger().bundle(&id).cloned());
    let Some(bundle) = bundle.filter(|bundle| bundle.agent == session.agent) else {
        let denial = Denial::new(Code::GrantRequired, "you have no bundle of this id");
        return Err(Failure::new(denial).with_status(StatusCode::FORBIDDEN));
    };
    Ok(Json(json!({
        "bundleId": bundle.id,
        "name": bundle.name,
        "context": resolved(&services, &bundle),
    })))
}

/// Each piece with its text; a skill that is gone or hidden now is left out.
fn resolved(services: &Services, bundle: &BundleRow) -> Vec<Value> {
    let catalog = services.core.registry.catalog();
    let resolve = |(n, piece): (usize, &ContextRef)| match piece {
        ContextRef::Inline { label, markdown } => {
            let id = format!("{}.context.{n}", bundle.id);
            Some(json!({"id": id, "label": label, "markdown": markdown}))
        }
        ContextRef::Skill { skill_id, .. } => {
            let skill = &catalog.exposed(skill_id.as_str())?.definition;
            let Some(SkillBody::Markdown { markdown }) = &skill.body else { return None };
            Some(json!({"id": skill.id, "label": skill.label, "markdown": markdown}))
        }
    };
    bundle.context.iter().enumerate().filter_map(resolve).collect()
}
