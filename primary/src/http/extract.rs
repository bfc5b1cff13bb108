//! Reading requests: bounded, in time, of the right type, or refused.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::redact::Redactor;
use plexus_shared::secret::{Credential, CredentialKind};
use serde::de::DeserializeOwned;

use super::Services;
use super::error::Failure;
use super::limits::{Asker, Limits, Peer};
use crate::events::KeyAge;
use crate::limits::Door;
use crate::trust::sessions::Session;

/// The largest body of a request other than a call, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// The header that carries a session's id.
pub const SESSION_HEADER: &str = "x-plexus-session";
/// The header that carries the owner's key.
pub const KEY_HEADER: &str = "x-plexus-connection-key";

/// Bodies beyond this are large, in bytes.
const SMALL_BODY: usize = 64 << 10;

/// What is held while a body is.
pub enum Room<'a> {
    /// The call it belongs to has a place.
    Taken,
    /// A large one takes one of these.
    Of(&'a Limits),
}

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 for another content type, 413 beyond the limit, 429 for a large one when there is no room, 408
/// when it takes too long, 400 when it breaks off.
pub async fn read_json(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    room: Room<'_>,
) -> Result<Bytes, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let message = "send the body as Content-Type: application/json";
        return Err(Failure::malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let read = collect(body, limit, room);
    tokio::time::timeout(BODY_DEADLINE, read).await.unwrap_or_else(|_| {
        Err(Failure::malformed(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"))
    })
}

async fn collect(mut body: Body, limit: usize, room: Room<'_>) -> Result<Bytes, Failure> {
    let too_large = || {
        let message = format!("the body may have at most {limit} bytes");
        Failure::malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let broken = |_| Failure::malformed(StatusCode::BAD_REQUEST, "the body broke off");
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let (mut read, mut taken) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = read.len() + data.len();
        if length > limit {
            return Err(too_large());
        }
        if length > SMALL_BODY
            && taken.is_none()
            && let Room::Of(limits) = room
        {
            taken = Some(limits.room()?);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.into())
}

/// A JSON body of an ordinary request.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Services> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        // The owner is never short of room.
        let room = match is_owner(services, &parts.headers) {
            true => Room::Taken,
            false => Room::Of(&services.limits),
        };
        let bytes = read_json(&parts.headers, body, MAX_BODY, room).await?;
        parse(&bytes, "the body has not the asked shape").map(Json)
    }
}

/// Reads a JSON body.
///
/// # Errors
/// 400 with `message` and what is wrong. That quotes what was sent, but for what looks like a secret:
/// refusals end up in logs.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], message: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = Redactor::default().redact_text(&error.to_string());
        Failure::malformed(StatusCode::BAD_REQUEST, format!("{message}: {error}"))
    })
}

/// The text of an `Authorization: Bearer`. Whoever sends one means it: one that is empty, unreadable or
/// not alone is there all the same, and is no credential.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let all = || headers.get_all(header::AUTHORIZATION).iter();
    let is_bearer = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    };
    if !all().any(is_bearer) {
        return None;
    }
    let (value, second) = (all().next()?, all().nth(1));
    let alone = value.to_str().ok().filter(|_| second.is_none());
    Some(alone.and_then(|text| text.split_once(' ')).map_or("", |(_, token)| token.trim()))
}

/// The session named in the header.
pub fn session_header(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_HEADER)?.to_str().ok()
}

impl FromRequestParts<Services> for Session {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Failure> {
        let session = services.trust.session(session_header(&parts.headers))?;
        services.limits.request(&services.core, &Asker::live(&session.agent))?;
        Ok(session)
    }
}

/// Whether `text` is the owner's key, in constant time.
pub fn is_key(services: &Services, text: &str) -> bool {
    let key = Credential::parse(CredentialKind::ConnectionKey, text);
    key.is_some_and(|key| key.matches(&services.connection_key.load()))
}

/// Whether the request carries the owner's key.
pub fn is_owner(services: &Services, headers: &HeaderMap) -> bool {
    let shown = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
    shown.is_some_and(|key| is_key(services, key))
}

/// Proof that the request carried the owner's key, and which one was in force then.
pub struct Owner(KeyAge);

impl Owner {
    /// Which of the owner's keys it was.
    pub fn key(&self) -> KeyAge {
        self.0
    }
}

impl FromRequestParts<Services> for Owner {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Failure> {
        // Before the look at the key: one that is rotated meanwhile is the one before.
        let key = services.core.events.key();
        if is_owner(services, &parts.headers) {
            return Ok(Self(key));
        }
        let message = "this route is the owner's; send X-Plexus-Connection-Key";
        let refusal = Failure::new(Denial::new(Code::SessionExpired, message));
        let peer = parts.extensions.get::<Peer>().copied();
        Err(services.limits.failed(&services.core, peer, Door::Owner).unwrap_or(refusal))
    }
}

/// Whoever a route for both is asked by: a session, or the owner by the key. A key that is shown is
/// taken for one, and never falls through to a session.
pub struct SessionOrOwner(pub Option<Session>);

impl FromRequestParts<Services> for SessionOrOwner {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Failure> {
        if parts.headers.contains_key(KEY_HEADER) {
            return Owner::from_request_parts(parts, services).await.map(|_| Self(None));
        }
        Session::from_request_parts(parts, services).await.map(|session| Self(Some(session)))
    }
}
