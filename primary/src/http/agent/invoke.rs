//! `POST /invoke`: one call, always answered in one shape.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use plexus_shared::admit::Liveness;
use plexus_shared::ids::CorrelationId;
use plexus_shared::invoke::{Call, DEFAULT_DEADLINE};
use plexus_shared::model::denial::{Code, Denial, Links};
use plexus_shared::model::input::Input;
use plexus_shared::model::outcome::Reply;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::Services;
use crate::http::error::{Failure, Framing, Invoked};
use crate::http::extract::{MAX_BODY, Room, bearer, parse, read_json, session_header};
use crate::http::held::Held;
use crate::http::limits::Asker;

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 200;
/// The longest capability id that is looked up, in bytes.
const MAX_ID: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvokeRequest {
    id: String,
    #[serde(default)]
    input: Option<Box<RawValue>>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// Makes one call.
pub async fn call(
    State(services): State<Services>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let framed = |failure: Failure| failure.framed(Framing::Invoke);
    let token = bearer(&headers).map(|bearer| services.trust.keys().verify(bearer));
    let session = session_header(&headers).map(|id| services.trust.session(Some(id)));
    let caller = match (&token, &session) {
        (Some(Ok(token)), _) => {
            let live = services.trust.sessions().check(token, services.core.now()).is_ok();
            Some(Asker { agent: token.agent().clone(), live })
        }
        (None, Some(Ok(session))) => Some(Asker::live(&session.agent)),
        _ => None,
    };
    let place = match &caller {
        Some(caller) => {
            services.limits.request(&services.core, caller).map_err(framed)?;
            Some(services.limits.place(&services.core, caller).map_err(framed)?)
        }
        None => None,
    };
    let room = if place.is_some() { Room::Taken } else { Room::Of(&services.limits) };
    // Only who has a token or a session of ours may make this gateway hold a large body.
    let large = services.core.settings.now().max_invoke_body_bytes;
    let large = usize::try_from(large).unwrap_or(MAX_BODY);
    let limit = if place.is_some() { large } else { MAX_BODY };
    let bytes = read_json(&headers, body, limit, room).await.map_err(framed)?;
    let request = read(&bytes).map_err(framed)?;
    let call = Call {
        id: request.id,
        input: request.input.map_or_else(Input::none, Input::new),
        correlation: CorrelationId::fresh(services.core.now()),
        idempotency_key: request.idempotency_key,
        deadline: DEFAULT_DEADLINE,
    };
    let mut reply = match (token, session) {
        (Some(Ok(token)), _) => services.calls.with_token(token, call).await,
        (Some(Err(_)), _) => {
            let message = "the bearer token is not one of this gateway's; ask for one first";
            ungranted(call.id, message)
        }
        (None, Some(Ok(session))) => services.calls.with_session(session, call).await,
        (None, Some(Err(denial))) => Reply::edge(call.id, denial),
        (None, None) => {
            let message = "a call needs a scoped token, or a session in X-Plexus-Session";
            ungranted(call.id, message)
        }
    };
    if let Err(denial) = &mut reply.outcome {
        denial.links = links(&services, denial);
    }
    Ok(Invoked(reply).into_response().map(|body| Body::new(Held::new(body, place))))
}

/// A call that came without a word of ours.
fn ungranted(id: String, message: &str) -> Reply {
    let denial = Denial::new(Code::GrantRequired, message).about(id.as_str());
    Reply::edge(id, denial)
}

/// Where a refused caller goes next.
fn links(services: &Services, denial: &Denial) -> Option<Box<Links>> {
    let base = &services.base_url;
    let links = match (denial.code, &denial.pending_id) {
        (Code::ApprovalRequired, Some(id)) => Links {
            approval_url: Some(format!("{base}/admin#pending/{id}")),
            grant_status_url: Some(format!("{base}/grants/status?pendingId={id}")),
            ..Links::default()
        },
        (Code::GrantRequired, _) => Links {
            grant_request_url: Some(format!("{base}/grants")),
            session_header: Some("X-Plexus-Session".to_owned()),
            ..Links::default()
        },
        _ => return None,
    };
    Some(Box::new(links))
}

fn read(bytes: &Bytes) -> Result<InvokeRequest, Failure> {
    let bad = |message: String| Failure::malformed(StatusCode::BAD_REQUEST, message);
    let request: InvokeRequest = parse(bytes, "send {\"id\": …, \"input\": {…}}")?;
    if request.id.len() > MAX_ID {
        return Err(bad(format!("an id has at most {MAX_ID} bytes")));
    }
    if request.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
        return Err(bad(format!("an idempotencyKey has 1 to {MAX_KEY} bytes")));
    }
    Ok(request)
}
