//! The one transport that knows a capability lives elsewhere.
//!
//! A home may answer in its own words only within its own business: whether the id, the input and the
//! software behind it are in order. Tokens, grants and sessions are the primary's; a home that speaks
//! of them is not believed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::address::BareId;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::admit::Permit;
use crate::clock::Timestamp;
use crate::model::denial::{Code, Denial};
use crate::model::outcome::{Outcome, Output};
use crate::model::plain;

/// The most a home may add to a refusal, in bytes of JSON.
const MAX_DETAIL: usize = 64 << 10;

/// A call on its way to its home.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The capability's id where it lives.
    pub home_id: &'a BareId,
    /// The capability's address here.
    pub address: &'a str,
    /// The input, in the caller's own bytes.
    pub input: &'a RawValue,
    /// What joins the two records.
    pub correlation: &'a str,
    /// The caller's idempotency key.
    pub idempotency_key: Option<&'a str>,
    /// How long the call may take.
    pub deadline: Duration,
    /// The agent it is for.
    pub agent: &'a str,
}

/// Why a call came back without an answer from its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// There is no route, since then; nothing was sent.
    Down(Timestamp),
    /// Too many calls are under way; nothing was sent.
    Busy,
    /// The input does not fit a frame; nothing was sent.
    TooLarge,
    /// The route broke after the call was sent: what became of it is not known.
    Broken,
    /// The deadline passed; the call was cancelled, and what became of it is not known.
    Deadline,
    /// The home answered with something that is no answer.
    Nonsense,
}

/// The answer's bytes, or why there are none.
pub type Forwarding<'a> =
    Pin<Box<dyn Future<Output = Result<Box<RawValue>, ForwardError>> + Send + 'a>>;

/// A route to one workload. Dropping the future cancels the call at its home.
pub trait Forward: Send + Sync + fmt::Debug {
    /// Sends one call and waits for its answer.
    fn forward<'a>(&'a self, call: Forwarded<'a>) -> Forwarding<'a>;
}

/// A capability that lives on another node.
#[derive(Clone, Debug)]
pub struct Mesh {
    route: Arc<dyn Forward>,
    home_id: BareId,
}

impl Mesh {
    /// The capability `home_id` at the end of `route`.
    pub fn new(route: Arc<dyn Forward>, home_id: BareId) -> Self {
        Self { route, home_id }
    }

    pub(super) async fn dispatch(&self, permit: &Permit) -> Outcome {
        let id = permit.target().definition.id.as_str();
        let call = Forwarded {
            home_id: &self.home_id,
            address: id,
            input: permit.input().raw(),
            correlation: permit.correlation().as_str(),
            idempotency_key: permit.idempotency_key(),
            deadline: permit.deadline(),
            agent: permit.agent().as_str(),
        };
        match self.route.forward(call).await {
            Ok(answer) => read_answer(id, &answer),
            Err(error) => Err(refusal(id, &error)),
        }
    }
}

/// An `InvokeResponse` as a home sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    ok: bool,
    #[serde(default)]
    output: Option<Box<RawValue>>,
    #[serde(default)]
    mcp_result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerError {
    code: String,
    message: String,
    #[serde(default, deserialize_with = "plain::maybe")]
    detail: Option<serde_json::Value>,
    #[serde(default)]
    unavailable_since: Option<Timestamp>,
}

fn read_answer(id: &str, answer: &RawValue) -> Outcome {
    let nonsense = || refusal(id, &ForwardError::Nonsense);
    let answer: Answer = serde_json::from_str(answer.get()).map_err(|_| nonsense())?;
    match answer {
        Answer { ok: true, output: Some(output), .. } => Ok(Output::Json(output)),
        Answer { ok: true, mcp_result: Some(result), .. } => Ok(Output::Mcp(result)),
        Answer { ok: false, error: Some(error), .. } => Err(believe(id, error)),
        _ => Err(nonsense()),
    }
}

fn believe(id: &str, error: AnswerError) -> Denial {
    let code = match error.code.parse() {
        Ok(
            code @ (Code::UnknownCapability
            | Code::CapabilityUnexposed
            | Code::SchemaValidationFailed
            | Code::RateLimited
            | Code::SourceUnavailable
            | Code::CapabilityUnavailable
            | Code::McpToolError
            | Code::TransportError),
        ) => code,
        _ => Code::TransportError,
    };
    let message: String = error.message.chars().take(1000).collect();
    let mut denial = Denial::new(code, message).about(id);
    let bounded = |detail: &serde_json::Value| detail.to_string().len() <= MAX_DETAIL;
    denial.detail = error.detail.filter(bounded).map(Box::new);
    denial.unavailable_since = error.unavailable_since;
    denial
}

fn refusal(id: &str, error: &ForwardError) -> Denial {
    let lost = |message: &str| {
        Denial::new(Code::TransportError, message).with_detail(json!({"outcome": "unknown"}))
    };
    match error {
        ForwardError::Down(since) => down(*since),
        ForwardError::Busy => {
            Denial::new(Code::RateLimited, "too many calls of this home are under way; retry later")
        }
        ForwardError::TooLarge => Denial::new(
            Code::SchemaValidationFailed,
            "the input is too large to be sent to its home",
        ),
        ForwardError::Broken => lost("the connection to the home broke before it answered"),
        ForwardError::Deadline => lost("the call took longer than it may and was cancelled"),
        ForwardError::Nonsense => lost("the home sent something that is no answer"),
    }
    .about(id)
}

/// What a call of a home without a route is told.
pub fn down(since: Timestamp) -> Denial {
    let message = "the home of this capability is not connected; retry when it is back";
    Denial::new(Code::CapabilityUnavailable, message).since(since)
}
