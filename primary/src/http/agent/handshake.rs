//! `POST /link/handshake` and `GET /manifest`: a session, and everything it can see.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{InvalidId, SessionId};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::entry::CapabilityEntry;
use plexus_shared::model::plain;
use plexus_shared::source::registry::Catalog;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::well_known::gateway;
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{MAX_BODY, Room, bearer, is_key, parse, read_json};
use crate::http::limits::{Asker, Peer};
use crate::limits::Door;
use crate::trust::sessions::Session;

/// The longest client description that is kept, in bytes of JSON.
const MAX_CLIENT: usize = 4096;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hello {
    #[serde(default)]
    connection_key: Option<String>,
    #[serde(default, deserialize_with = "plain::member")]
    client: Value,
}

/// Opens a session under the agent's own credential. A bearer is always taken for one; it never falls
/// through to the body.
pub async fn open(
    State(services): State<Services>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let peer = peer.map(|Extension(peer)| peer);
    let refuse = |door, message: &str| {
        let refusal: Failure = Denial::new(Code::SessionExpired, message).into();
        services.limits.failed(&services.core, peer, door).unwrap_or(refusal)
    };
    // A bearer is always taken for an agent's own credential; it never falls through to the body.
    let pat = bearer(&headers);
    let agent = match pat.map(|pat| services.trust.recognise(pat)) {
        Some(Some(agent)) => Some(agent),
        Some(None) => {
            let message = "this is not a live agent credential; send Authorization: Bearer \
                           plx_agent_…, or enroll with a new code from the owner";
            return Err(refuse(Door::Handshake, message));
        }
        None => None,
    };
    if let Some(agent) = &agent {
        services.limits.request(&services.core, &Asker::live(agent))?;
    }
    let hello = read_hello(&headers, body, Room::Of(&services.limits)).await?;
    let key = hello.connection_key.as_deref();
    let session = match (agent, key) {
        (Some(agent), _) => services.trust.handshake(agent, hello.client)?,
        (None, Some(key)) if is_key(&services, key) => {
            let agent = hello.client.get("agentId").and_then(Value::as_str).map(str::parse);
            let agent = agent.transpose().map_err(|error: InvalidId| {
                Failure::malformed(StatusCode::BAD_REQUEST, error.to_string())
            })?;
            services.trust.owner_handshake(agent, hello.client)?
        }
        (None, Some(_)) => return Err(refuse(Door::Owner, "this is not the owner's key")),
        (None, None) => {
            let message = "send Authorization: Bearer plx_agent_…; without one, enroll first";
            return Err(Denial::new(Code::SessionExpired, message).into());
        }
    };
    // It may have been revoked while its body came. A revoke ends sessions after it takes the
    // credential, so this look or that end finds the session.
    let still = match pat {
        Some(pat) => services.trust.recognise(pat).as_ref() == Some(&session.agent),
        None => key.is_some_and(|key| is_key(&services, key)),
    };
    if !still || services.trust.is_frozen() {
        services.trust.close(&session.id);
        return Err(Denial::new(Code::SessionExpired, "the credential was taken back").into());
    }
    let catalog = services.core.registry.catalog();
    let greeting = Greeting {
        session_id: &session.id,
        expires_at: session.expires_at,
        grants_url: format!("{}/grants", services.base_url),
        manifest: document(&services, &session, &catalog),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(greeting)).into_response())
}

/// What the body says: what the client says of itself, never more than a note, and the owner's key.
async fn read_hello(headers: &HeaderMap, body: Body, room: Room<'_>) -> Result<Hello, Failure> {
    if !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(Hello::default());
    }
    let bytes = read_json(headers, body, MAX_BODY, room).await?;
    if bytes.is_empty() {
        return Ok(Hello::default());
    }
    let mut hello: Hello = parse(&bytes, "the body has not the asked shape")?;
    if hello.client.to_string().len() > MAX_CLIENT {
        hello.client = Value::Null;
    }
    Ok(hello)
}

/// Shows the current manifest.
pub async fn manifest(State(services): State<Services>, session: Session) -> Response {
    let catalog = services.core.registry.catalog();
    Json(Refreshed { manifest: document(&services, &session, &catalog) }).into_response()
}

/// The answer to a handshake. Written from the entries themselves, never by way of a JSON value:
/// schemas ride through as they came.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Greeting<'a> {
    session_id: &'a SessionId,
    expires_at: Timestamp,
    grants_url: String,
    manifest: Manifest<'a>,
}

#[derive(Serialize)]
struct Refreshed<'a> {
    manifest: Manifest<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    gateway: Value,
    session_id: &'a SessionId,
    expires_at: Timestamp,
    revision: u64,
    entries: Vec<CapabilityEntry<'a>>,
}

fn document<'a>(services: &Services, session: &'a Session, catalog: &'a Catalog) -> Manifest<'a> {
    Manifest {
        gateway: gateway(services),
        session_id: &session.id,
        expires_at: session.expires_at,
        revision: catalog.revision(),
        entries: catalog.shown().map(|entry| entry.entry()).collect(),
    }
}
