//! Calls: one stream each, opened by the primary.
//!
//! 1. Its one frame is read: header within ten seconds, then room for the body among all calls' bytes
//!    is waited for, then the body.
//! 2. The call goes through the pipeline every call goes through. Meanwhile the stream is watched: when
//!    the primary gives up, or the connection does, the call is dropped where it stands and its record
//!    says so.
//! 3. The answer is one frame. One that fits no frame is answered with that; a frame that could not be
//!    written whole is a reset, never a clean end.
//!
//! What a primary gone wrong might try: more streams than calls may be (the transport's stream limit
//! bounds them, and those beyond the calls are told `rate_limited`), bytes that never come (every step
//! has its time), answers it never reads (the same).

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::close::ResetCode;
use plexus_mesh_proto::codec::{self, EncodeError};
use plexus_mesh_proto::frame::FrameKind;
use plexus_mesh_proto::hello::{AuthenticatedPeer, Primary};
use plexus_mesh_proto::invoke::{Invoke, InvokeResult};
use plexus_mesh_proto::io::{self, ReadError};
use plexus_mesh_proto::limits;
use plexus_shared::admit::authority::{Authority, TunnelCaller};
use plexus_shared::clock::Clock;
use plexus_shared::ids::{AgentId, CorrelationId};
use plexus_shared::invoke::{Call, Pipeline};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::input::Input;
use plexus_shared::model::outcome::Reply;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a stream may take to show its first frame's header.
const ARRIVAL: Duration = Duration::from_secs(10);

/// How long a whole body may take, and the wait for room before it.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The longest a call may take, whatever its deadline says; also how long an answer may take to be
/// read.
const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// How long calls may go on when the node stops.
const DRAIN: Duration = Duration::from_secs(10);

/// What every call of this node goes through.
#[derive(Clone)]
pub struct Service {
    pipeline: Arc<Pipeline>,
    clock: Arc<dyn Clock>,
    bytes: Arc<Semaphore>,
}

impl Service {
    /// The one way into `pipeline` from any tunnel.
    pub fn new(pipeline: Arc<Pipeline>, clock: Arc<dyn Clock>) -> Self {
        Self { pipeline, clock, bytes: Arc::new(Semaphore::new(limits::IN_FLIGHT_BYTES)) }
    }
}

/// The calls of one tunnel.
pub(crate) struct Calls {
    tunnel: Arc<Tunnel>,
    running: JoinSet<()>,
}

struct Tunnel {
    service: Service,
    peer: AuthenticatedPeer<Primary>,
    slots: Arc<Semaphore>,
}

impl Calls {
    pub(crate) fn new(service: Service, peer: AuthenticatedPeer<Primary>) -> Self {
        let slots = usize::try_from(limits::CONCURRENT_CALLS).unwrap_or(1);
        let tunnel = Tunnel { service, peer, slots: Arc::new(Semaphore::new(slots)) };
        Self { tunnel: Arc::new(tunnel), running: JoinSet::new() }
    }

    /// Takes calls until the connection is over.
    pub(crate) async fn accept(&mut self, connection: &Connection) -> quinn::ConnectionError {
        loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, recv)) => {
                        self.running.spawn(answer(self.tunnel.clone(), send, recv));
                    }
                    Err(error) => return error,
                },
                Some(_) = self.running.join_next() => {}
            }
        }
    }

    /// Lets the calls under way finish, within their time; the ones that come now are refused.
    pub(crate) async fn drain(&mut self, connection: &Connection) {
        self.tunnel.slots.close();
        let finish = async {
            while !self.running.is_empty() {
                tokio::select! {
                    stream = connection.accept_bi() => match stream {
                        Ok((send, recv)) => {
                            self.running.spawn(answer(self.tunnel.clone(), send, recv));
                        }
                        Err(_) => return,
                    },
                    _ = self.running.join_next() => {}
                }
            }
        };
        if timeout(DRAIN, finish).await.is_err() {
            tracing::warn!(calls = self.running.len(), "calls were cut off");
        }
        // What is left is dropped, and each call's record says so.
        self.running.shutdown().await;
    }
}

/// Runs one stream to its end.
async fn answer(tunnel: Arc<Tunnel>, mut send: SendStream, mut recv: RecvStream) {
    if let Err(code) = Box::pin(tunnel.serve(&mut send, &mut recv)).await {
        tracing::debug!(%code, "a call's stream was reset");
        let code = VarInt::from_u32(code.number());
        // Either may be over already.
        let _ = send.reset(code);
        let _ = recv.stop(code);
    }
}

impl Tunnel {
    async fn serve(&self, send: &mut SendStream, recv: &mut RecvStream) -> Result<(), ResetCode> {
        let (invoke, room) = self.read(recv).await?;
        let reply = tokio::select! {
            reply = self.call(invoke) => reply,
            // Stopped by the primary, or gone with the connection.
            _ = send.stopped() => return Err(ResetCode::Cancelled),
            code = abandoned(recv) => return Err(code),
        };
        drop(room);
        let frame = encode(&reply).map_err(|_| ResetCode::Failed)?;
        let _room = self.room(frame.len()).await?;
        timeout(MAX_DEADLINE, write(send, &frame)).await.map_err(|_| ResetCode::Failed)?
    }

    /// The stream's one frame, and the room its bytes take.
    async fn read(
        &self,
        recv: &mut RecvStream,
    ) -> Result<(Invoke, OwnedSemaphorePermit), ResetCode> {
        let header = timeout(ARRIVAL, io::read_header(recv, &[FrameKind::Invoke]));
        let header = header.await.map_err(|_| ResetCode::Failed)?.map_err(|e| read_code(&e))?;
        let header = header.ok_or(ResetCode::Violation)?;
        let room = self.room(header.body_len()).await?;
        let frame = timeout(BODY_TIME, io::read_body(recv, header));
        let frame = frame.await.map_err(|_| ResetCode::Failed)?.map_err(|e| read_code(&e))?;
        let invoke = frame.decode().map_err(|_| ResetCode::Violation)?;
        Ok((invoke, room))
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ResetCode> {
        let bytes = u32::try_from(bytes).map_err(|_| ResetCode::Failed)?;
        let room = timeout(BODY_TIME, self.service.bytes.clone().acquire_many_owned(bytes));
        match room.await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(ResetCode::Overloaded),
        }
    }

    async fn call(&self, invoke: Invoke) -> Reply {
        let id = invoke.id.to_string();
        let Ok(_slot) = self.slots.try_acquire() else { return self.refuse(id) };
        let agent: AgentId = match invoke.agent_id.parse() {
            Ok(agent) => agent,
            Err(_) => {
                let denial = Denial::internal("the primary sent no agent name");
                return Reply::edge(id, denial);
            }
        };
        let fresh = |_| CorrelationId::fresh(self.service.clock.now());
        let call = Call {
            id,
            input: invoke.input.map_or_else(Input::none, |json| Input::new(json.into_raw())),
            correlation: invoke.correlation_id.parse().unwrap_or_else(fresh),
            idempotency_key: invoke.idempotency_key.map(|key| key.into_string()),
            deadline: Duration::from_millis(invoke.deadline_ms.into()).min(MAX_DEADLINE),
        };
        let authority = Authority::Tunnel(Arc::new(TunnelCaller::new(&self.peer, agent)));
        self.service.pipeline.invoke(authority, call).await
    }

    fn refuse(&self, id: String) -> Reply {
        let denial = if self.slots.is_closed() {
            let message = "the home of this capability is stopping; nothing was done";
            Denial::new(Code::CapabilityUnavailable, message).since(self.service.clock.now())
        } else {
            let message = "too many calls are under way at this home; retry when some are done";
            Denial::new(Code::RateLimited, message)
        };
        let denial = denial.about(id.as_str());
        Reply::edge(id, denial)
    }
}

fn read_code(error: &ReadError) -> ResetCode {
    match error {
        ReadError::Decode(_) | ReadError::Truncated => ResetCode::Violation,
        ReadError::Io(_) => ResetCode::Cancelled,
    }
}

/// Waits until the primary takes its half of the stream back; its clean end is no such thing.
async fn abandoned(recv: &mut RecvStream) -> ResetCode {
    match recv.read(&mut [0]).await {
        Ok(None) => pending().await,
        Ok(Some(_)) => ResetCode::Violation,
        Err(_) => ResetCode::Cancelled,
    }
}

/// A call without input is one with an empty object.
fn no_input() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The answer's frame; when it fits none, the frame of an answer that says so.
fn encode(reply: &Reply) -> Result<Vec<u8>, EncodeError> {
    match encode_whole(reply) {
        Err(EncodeError::TooLong { len, max, .. }) => {
            let message = format!(
                "the answer of {len} bytes is over the {max} that can be carried; ask for less at once"
            );
            let denial = Denial::new(Code::TransportError, message)
                .about(reply.id.as_str())
                .with_detail(json!({ "reason": "too_large" }));
            let smaller = Reply { outcome: Err(denial), ..reply.clone() };
            encode_whole(&smaller)
        }
        encoded => encoded,
    }
}

fn encode_whole(reply: &Reply) -> Result<Vec<u8>, EncodeError> {
    let failed = |error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        let edge = Reply::edge(reply.id.clone(), Denial::internal("the answer cannot be written"));
        serde_json::value::to_raw_value(&edge).unwrap_or_else(|_| no_input())
    };
    let response = serde_json::value::to_raw_value(reply).unwrap_or_else(failed);
    codec::encode(&InvokeResult { response: response.into() })
}

/// Writes the whole frame and waits until it has arrived.
async fn write(send: &mut SendStream, frame: &[u8]) -> Result<(), ResetCode> {
    send.write_all(frame).await.map_err(|_| ResetCode::Cancelled)?;
    send.finish().map_err(|_| ResetCode::Cancelled)?;
    match send.stopped().await {
        Ok(None) => Ok(()),
        Ok(Some(_)) | Err(_) => Err(ResetCode::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use plexus_shared::model::outcome::Output;

    use super::*;

    fn answered(reply: &Reply) -> serde_json::Value {
        let frame = encode(reply).unwrap();
        let result: InvokeResult = codec::decode(FrameKind::InvokeResult, &frame[5..]).unwrap();
        serde_json::from_str(result.response.get()).unwrap()
    }

    #[test]
    fn an_answer_that_fits_no_frame_says_so() {
        let text = format!("\"{}\"", "x".repeat(limits::INVOKE_FRAME));
        let output = Output::Json(RawValue::from_string(text).unwrap());
        let reply =
            Reply { id: "a.b.c".to_owned(), outcome: Ok(output), audit_id: None, grant: None };
        let answer = answered(&reply);
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["error"]["code"], "transport_error");
        assert_eq!(answer["error"]["detail"]["reason"], "too_large");
    }

    #[test]
    fn an_answer_keeps_the_bytes_of_its_output() {
        let output =
            Output::Json(RawValue::from_string(r#"{"b":1.0,"a":1e400}"#.to_owned()).unwrap());
        let reply =
            Reply { id: "a.b.c".to_owned(), outcome: Ok(output), audit_id: None, grant: None };
        let frame = encode(&reply).unwrap();
        let result: InvokeResult = codec::decode(FrameKind::InvokeResult, &frame[5..]).unwrap();
        assert!(result.response.get().contains(r#""output":{"b":1.0,"a":1e400}"#));
    }
}
