//! `POST /link/handshake` and `GET /manifest`: a session, and everything it can see.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use plexus_shared::model::denial::{Code, Denial};
use serde::Deserialize;
use serde_json::{Value, json};

use super::well_known::gateway;
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{MAX_BODY, bearer, read_json};
use crate::trust::sessions::Session;

/// The longest client description that is kept, in bytes of JSON.
const MAX_CLIENT: usize = 4096;

#[derive(Default, Deserialize)]
struct Hello {
    #[serde(default)]
    client: Value,
}

/// Opens a session under the agent's own credential. A bearer is always taken for one; it never falls
/// through to the body.
pub async fn open(
    State(services): State<Services>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Some(pat) = bearer(&headers) else {
        let message = "send Authorization: Bearer plx_agent_…; without one, enroll first";
        return Err(Denial::new(Code::SessionExpired, message).into());
    };
    let client = read_client(&headers, body).await?;
    let session = services.trust.handshake(pat, client)?;
    let manifest = json!({
        "sessionId": session.id,
        "expiresAt": session.expires_at,
        "grantsUrl": format!("{}/grants", services.base_url),
        "manifest": document(&services, &session),
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(manifest)).into_response())
}

/// What the client says of itself: optional, and never more than a note.
async fn read_client(headers: &HeaderMap, body: Body) -> Result<Value, Failure> {
    if !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(Value::Null);
    }
    let bytes = read_json(headers, body, MAX_BODY).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let hello: Hello = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the body has not the asked shape: {error}");
        Failure::malformed(axum::http::StatusCode::BAD_REQUEST, message)
    })?;
    let fits = hello.client.to_string().len() <= MAX_CLIENT;
    Ok(if fits { hello.client } else { Value::Null })
}

/// Shows the current manifest.
pub async fn manifest(State(services): State<Services>, session: Session) -> Json<Value> {
    Json(json!({ "manifest": document(&services, &session) }))
}

fn document(services: &Services, session: &Session) -> Value {
    let catalog = services.core.registry.catalog();
    let entries: Vec<_> = catalog.shown().map(|entry| json!(entry.entry())).collect();
    json!({
        "gateway": gateway(services),
        "sessionId": session.id,
        "expiresAt": session.expires_at,
        "revision": catalog.revision(),
        "entries": entries,
    })
}
