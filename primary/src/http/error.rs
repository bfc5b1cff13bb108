//! Refusals become responses here and nowhere else.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::outcome::Reply;
use serde_json::json;

/// How an endpoint words its failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `{error: ErrorBody}`.
    Standard,
    /// An `InvokeResponse` with `ok: false`, always.
    Invoke,
    /// `{error: {code, message}}` with enrollment's own codes.
    Enroll,
}

impl Framing {
    /// The framing of the endpoint at `path`.
    pub fn of(path: &str) -> Self {
        match path {
            "/invoke" => Self::Invoke,
            "/agents/enroll" => Self::Enroll,
            _ => Self::Standard,
        }
    }
}

/// The status that classifies `code` outside `/invoke`.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::TokenExpired
        | Code::TokenRevoked
        | Code::GrantRequired
        | Code::ApprovalRequired
        | Code::GrantPendingUser
        | Code::SessionExpired => StatusCode::UNAUTHORIZED,
        Code::HostForbidden | Code::CapabilityUnexposed => StatusCode::FORBIDDEN,
        Code::UnknownCapability => StatusCode::NOT_FOUND,
        Code::SchemaValidationFailed => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::SourceUnavailable | Code::CapabilityUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::McpToolError | Code::TransportError => StatusCode::OK,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal on its way out.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    denial: Denial,
    framing: Framing,
    wait: Option<Duration>,
}

impl Failure {
    /// A refusal with the status of its code.
    pub fn new(denial: Denial) -> Self {
        Self { status: status(denial.code), denial, framing: Framing::Standard, wait: None }
    }

    /// A request that is not what the endpoint takes: `schema_validation_failed` with `status`.
    pub fn malformed(status: StatusCode, message: impl Into<String>) -> Self {
        let denial = Denial::new(Code::SchemaValidationFailed, message);
        Self { status, denial, framing: Framing::Standard, wait: None }
    }

    /// With a status of the endpoint's own.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With the time after which to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// In an endpoint's framing.
    #[must_use]
    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::new(denial)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, denial, framing, wait } = self;
        let limited = denial.code == Code::RateLimited;
        let wait = wait.or(limited.then_some(USUAL_WAIT));
        let body = match framing {
            Framing::Invoke => Json(json!(Reply::edge("", denial))),
            Framing::Standard => Json(json!({ "error": denial })),
            Framing::Enroll => {
                let code = match denial.code {
                    Code::SchemaValidationFailed => "malformed",
                    code => code.as_str(),
                };
                Json(json!({"error": {"code": code, "message": denial.message}}))
            }
        };
        told_when((status, body).into_response(), wait)
    }
}

/// The answer of `/invoke`, refused or not.
pub struct Invoked(pub Reply);

impl IntoResponse for Invoked {
    fn into_response(self) -> Response {
        let status = match &self.0.outcome {
            Ok(_) => StatusCode::OK,
            Err(denial) if denial.code == Code::InternalError => StatusCode::BAD_REQUEST,
            Err(denial) => status(denial.code),
        };
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        told_when((status, Json(&self.0)).into_response(), limited.then_some(USUAL_WAIT))
    }
}

/// What "too much" says when nothing better is known.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// `response`, with the whole seconds after which to come back.
fn told_when(mut response: Response, wait: Option<Duration>) -> Response {
    if let Some(wait) = wait {
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn invoke_always_answers_in_its_own_shape() {
        let denial = Denial::new(Code::HostForbidden, "no");
        let response = Failure::new(denial).framed(Framing::Invoke).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let fault = Invoked(Reply::edge("a.b.c", Denial::internal("no"))).into_response();
        assert_eq!(fault.status(), StatusCode::BAD_REQUEST);
    }
}
