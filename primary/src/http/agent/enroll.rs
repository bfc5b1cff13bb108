//! `POST /agents/enroll`: a one-time code for a durable credential.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::http::Services;
use crate::http::error::{Failure, Framing};
use crate::http::extract::{MAX_BODY, Room, read_json};
use crate::http::limits::Peer;
use crate::limits::Door;
use crate::trust::EnrollError;

#[derive(Deserialize)]
struct Redeem {
    code: String,
}

/// Redeems a code.
pub async fn redeem(
    State(services): State<Services>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let room = Room::Of(&services.limits);
    let bytes = read_json(&headers, body, MAX_BODY, room)
        .await
        .map_err(|failure| failure.framed(Framing::Enroll))?;
    let Ok(Redeem { code }) = serde_json::from_slice(&bytes) else {
        return Ok(refuse(EnrollError::Malformed));
    };
    match services.trust.enroll(&code).await {
        Ok(enrolled) => {
            let body = axum::Json(json!({"pat": enrolled.pat, "agentId": enrolled.agent}));
            Ok(([(header::CACHE_CONTROL, "no-store")], body).into_response())
        }
        Err(
            error @ (EnrollError::UnknownCode
            | EnrollError::CodeExpired
            | EnrollError::CodeConsumed),
        ) => {
            let peer = peer.map(|Extension(peer)| peer);
            match services.limits.failed(&services.core, peer, Door::Enrollment) {
                Some(limited) => Err(limited.framed(Framing::Enroll)),
                None => Ok(refuse(error)),
            }
        }
        Err(error) => Ok(refuse(error)),
    }
}

fn refuse(error: EnrollError) -> Response {
    let (status, code) = match error {
        EnrollError::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
        EnrollError::UnknownCode => (StatusCode::UNAUTHORIZED, "unknown_code"),
        EnrollError::CodeExpired => (StatusCode::UNAUTHORIZED, "code_expired"),
        EnrollError::CodeConsumed => (StatusCode::UNAUTHORIZED, "code_consumed"),
        EnrollError::PersistFailed => (StatusCode::INTERNAL_SERVER_ERROR, "persist_failed"),
    };
    let body = json!({"error": {"code": code, "message": error.to_string()}});
    (status, axum::Json(body)).into_response()
}
