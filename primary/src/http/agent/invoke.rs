//! `POST /invoke`: one call, always answered in one shape.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use plexus_shared::admit::Liveness;
use plexus_shared::admit::authority::Authority;
use plexus_shared::ids::CorrelationId;
use plexus_shared::invoke::{Call, DEFAULT_DEADLINE};
use plexus_shared::model::denial::{Code, Denial, Links};
use plexus_shared::model::input::Input;
use plexus_shared::model::outcome::Reply;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::Services;
use crate::http::error::{Failure, Framing, Invoked};
use crate::http::extract::{MAX_BODY, MAX_INVOKE_BODY, bearer, read_json};

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
    if let Some(Ok(token)) = &token {
        let live = services.trust.sessions().check(token, services.core.now()).is_ok();
        services.limits.request(&services.core, token.agent(), live).map_err(framed)?;
    }
    // Only who has a token of ours may make this gateway hold a large body.
    let limit = if matches!(token, Some(Ok(_))) { MAX_INVOKE_BODY } else { MAX_BODY };
    let bytes = read_json(&headers, body, limit).await.map_err(framed)?;
    let request = read(&bytes).map_err(framed)?;
    let token = match token {
        Some(Ok(token)) => token,
        missing => {
            let message = match missing {
                Some(_) => "the bearer token is not one of this gateway's; ask for one first",
                None => "a call needs a scoped token: handshake, then ask with PUT /grants",
            };
            let mut denial = Denial::new(Code::GrantRequired, message).about(&request.id);
            denial.links = Some(ask_links(&services));
            return Ok(Invoked(Reply::edge(request.id, denial)).into_response());
        }
    };
    let _place = services.limits.place(&services.core, token.agent()).map_err(framed)?;
    let call = Call {
        id: request.id,
        input: request.input.map_or_else(Input::none, Input::new),
        correlation: CorrelationId::fresh(services.core.now()),
        idempotency_key: request.idempotency_key,
        deadline: DEFAULT_DEADLINE,
    };
    let mut reply = services.pipeline.invoke(Authority::Agent(Arc::new(token)), call).await;
    if let Err(denial) = &mut reply.outcome
        && denial.code == Code::GrantRequired
    {
        denial.links = Some(ask_links(&services));
    }
    Ok(Invoked(reply).into_response())
}

fn read(bytes: &Bytes) -> Result<InvokeRequest, Failure> {
    let bad = |message: String| Failure::malformed(StatusCode::BAD_REQUEST, message);
    let request: InvokeRequest = serde_json::from_slice(bytes)
        .map_err(|error| bad(format!("send {{\"id\": …, \"input\": {{…}}}}: {error}")))?;
    if request.id.len() > MAX_ID {
        return Err(bad(format!("an id has at most {MAX_ID} bytes")));
    }
    if request.idempotency_key.is_some() {
        // A promise that is not kept would be worse than none.
        return Err(bad("this gateway can not hold an idempotencyKey yet; call without it".into()));
    }
    Ok(request)
}

fn ask_links(services: &Services) -> Box<Links> {
    Box::new(Links {
        grant_request_url: Some(format!("{}/grants", services.base_url)),
        session_header: Some("X-Plexus-Session".to_owned()),
        ..Links::default()
    })
}
