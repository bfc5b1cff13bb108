//! `/grants`: an agent asks, and looks at what it holds.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use plexus_shared::gate::constraint;
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::plain::Plain;
use plexus_shared::model::trust::TrustWindow;
use plexus_shared::model::verb::VerbSet;
use plexus_shared::redact::Redactor;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::error::Failure;
use crate::http::extract::{SessionOrOwner, session_header};
use crate::http::limits::Asker;
use crate::http::{Services, extract};
use crate::store::rows::{AskedBundle, ContextRef};
use crate::trust::narration::{MAX_PURPOSE, plain};
use crate::trust::sessions::Session;
use crate::trust::{Declined, GrantReply, Occasion, Requested};

/// The most capabilities one request may name.
const MAX_ASKED: usize = 64;
/// The most characters of an id that a refusal repeats.
const MAX_NAMED: usize = 200;
/// What a capability is asked for with.
const DECISION: &str = "a decision is \"allow\", \"deny\" or {decision, verbs?, trustWindow?, purpose?, \
                        constraint?}";

/// The body of `PUT /grants`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    #[serde(default)]
    session_id: Option<String>,
    grants: BTreeMap<String, Plain>,
    #[serde(default)]
    bundle: Option<AskedBundle>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    decision: Word,
    #[serde(default)]
    verbs: Option<VerbSet>,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    constraint: Option<Constraint>,
}

impl Decision {
    /// A bare word.
    fn of(decision: Word) -> Self {
        Self { decision, verbs: None, trust_window: None, purpose: None, constraint: None }
    }
}

/// Asks for capabilities.
pub async fn request(
    State(services): State<Services>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<GrantRequest>,
) -> Result<Response, Failure> {
    let named = session_header(&headers).or(body.session_id.as_deref());
    let session = services.trust.session(named)?;
    services.limits.request(&services.core, &Asker::live(&session.agent))?;
    let bad = |message: String| Failure::malformed(StatusCode::BAD_REQUEST, message);
    if body.grants.is_empty() || body.grants.len() > MAX_ASKED {
        return Err(bad(format!("name 1 to {MAX_ASKED} capabilities in \"grants\"")));
    }
    let occasion = Occasion { input: None, bundle: body.bundle.map(bounded).transpose()? };
    let asked: Result<Vec<_>, _> = body.grants.into_iter().map(read).collect();
    let reply = services.trust.request(&session, asked?, occasion).await.map_err(as_answered)?;
    Ok(Json(answer(&services, reply)).into_response())
}

fn read((id, Plain(asked)): (String, Plain)) -> Result<Requested, Failure> {
    let bad = |why: String| {
        let message = format!("{}: {why}", plain(&id, MAX_NAMED));
        Failure::malformed(StatusCode::BAD_REQUEST, Redactor::default().redact_text(&message))
    };
    let decision = match asked {
        Value::String(_) => Word::deserialize(asked).map(Decision::of),
        asked => Decision::deserialize(asked),
    };
    let decision = decision.map_err(|error| bad(format!("{DECISION}: {error}")))?;
    let Decision { decision, verbs, trust_window, purpose, constraint } = decision;
    if let Some(constraint) = &constraint {
        constraint::check(constraint).map_err(|why| bad(format!("constraint: {why}")))?;
    }
    Ok(Requested {
        wanted: decision == Word::Allow,
        verbs: verbs.unwrap_or(VerbSet::READ),
        window: trust_window,
        constraint,
        purpose: purpose.map(|purpose| plain(&purpose, MAX_PURPOSE)),
        id,
    })
}

/// Here, what was asked wrongly is a 400, unknown ids included.
fn as_answered(denial: Denial) -> Failure {
    match denial.code {
        Code::UnknownCapability | Code::SchemaValidationFailed => {
            Failure::new(denial).with_status(StatusCode::BAD_REQUEST)
        }
        _ => Failure::new(denial),
    }
}

fn answer(services: &Services, reply: GrantReply) -> Value {
    let (mut body, declined) = match reply {
        GrantReply::Token(token, declined) => (json!(token), declined),
        GrantReply::Pending { item, narration, partial, declined } => {
            let mut body = json!({
                "status": "grant_pending_user",
                "pendingId": item.id,
                "pending": item.capabilities(),
                "statusUrl": format!("{}/grants/status?pendingId={}", services.base_url, item.id),
                "approvalUrl": format!("{}/admin#pending/{}", services.base_url, item.id),
                "pendingNarration": narration,
            });
            if let Some(token) = partial {
                body["partialToken"] = json!(token);
            }
            (body, declined)
        }
    };
    add_declined(&mut body, &declined);
    body
}

fn add_declined(body: &mut Value, declined: &[Declined]) {
    if !declined.is_empty() {
        body["declined"] = json!(declined);
    }
}

/// Lists what the caller holds.
pub async fn list(State(services): State<Services>, session: Session) -> Json<Value> {
    let whose = (!session.owner).then_some(&session.agent);
    Json(json!({ "grants": services.trust.standing(whose) }))
}

/// The query of `GET /grants/status`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusQuery {
    pending_id: String,
}

/// Tells the session that asked how far its question has come, and the owner, who gets no token. For
/// anyone else, and for an id that never was, the answer is the same.
pub async fn status(
    State(services): State<Services>,
    SessionOrOwner(session): SessionOrOwner,
    query: Result<Query<StatusQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let refused = || {
        let message = "no request of this session has this id; send the pendingId it was given";
        Failure::new(Denial::new(Code::GrantRequired, message)).with_status(StatusCode::FORBIDDEN)
    };
    let Query(query) = query.map_err(|_| {
        Failure::malformed(StatusCode::BAD_REQUEST, "name the request: ?pendingId=pend_…")
    })?;
    let status = match &session {
        Some(session) => services.trust.status(session, &query.pending_id),
        None => services.trust.status_for_owner(&query.pending_id),
    };
    let status = status.ok_or_else(refused)?;
    let mut body = json!({
        "pendingId": status.item.id,
        "state": status.item.state,
        "capabilities": status.item.capabilities(),
        "pendingNarration": status.narration,
    });
    if let Some(token) = status.token {
        body["token"] = json!(token);
    }
    Ok(Json(body))
}

/// The largest inline context, in bytes, and the most pieces of it.
const MAX_CONTEXT: usize = 64 << 10;
const MAX_PIECES: usize = 16;

/// A bundle within its bounds.
pub(in crate::http) fn bounded(bundle: AskedBundle) -> Result<AskedBundle, Failure> {
    let large = |piece: &ContextRef| match piece {
        ContextRef::Inline { markdown, .. } => markdown.len() > MAX_CONTEXT,
        ContextRef::Skill { .. } => false,
    };
    if bundle.name.trim().is_empty()
        || bundle.context.len() > MAX_PIECES
        || bundle.context.iter().any(large)
    {
        let message = format!(
            "a bundle has a name, and at most {MAX_PIECES} pieces of context of {MAX_CONTEXT} bytes"
        );
        return Err(Failure::malformed(StatusCode::BAD_REQUEST, message));
    }
    Ok(AskedBundle { name: plain(&bundle.name, 120), ..bundle })
}
