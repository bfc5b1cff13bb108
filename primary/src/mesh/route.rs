//! Where a workload can be reached now. The address outlives it: connections come and go here, and
//! nothing that is mounted or granted moves.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use plexus_mesh_proto::close::{CloseCode, ResetCode};
use plexus_mesh_proto::invoke::{CallId, Invoke, InvokeResult};
use plexus_mesh_proto::io::{read_message, write_frame};
use plexus_mesh_proto::json::Json;
use plexus_mesh_proto::limits;
use plexus_shared::clock::Timestamp;
use plexus_shared::model::denial::Code;
use plexus_shared::model::health::{Health, HealthStatus};
use plexus_shared::source::health::{Down, HealthCell};
use plexus_shared::transport::mesh::{Forward, ForwardError, Forwarded, Forwarding, down};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

/// A workload's tunnel is called dead when it has answered nothing for this long.
const SILENCE: Duration = Duration::from_secs(2);
const SILENCE_TICK: Duration = Duration::from_millis(250);
/// Added to a call's deadline, so that the home's own word of it comes first.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
enum State {
    Up { connection: quinn::Connection, since: Timestamp },
    Down { since: Timestamp },
}

/// The way to one workload.
#[derive(Debug)]
pub(super) struct Route {
    state: RwLock<State>,
    health: Arc<HealthCell>,
    places: Semaphore,
}

/// How a route is, for the owner.
pub(super) struct RouteView {
    pub(super) since: Timestamp,
    pub(super) connection: Option<quinn::Connection>,
    pub(super) health: Health,
}

impl Route {
    /// A route that leads nowhere since `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let health = Arc::new(HealthCell::new(Health::of(HealthStatus::Unknown)));
        health.down(unreachable(now));
        Self {
            state: RwLock::new(State::Down { since: now }),
            health,
            places: Semaphore::new(usize::try_from(limits::CONCURRENT_CALLS).unwrap_or(256)),
        }
    }

    pub(super) fn health(&self) -> &Arc<HealthCell> {
        &self.health
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn view(&self) -> RouteView {
        let health = self.health.shown(None);
        match self.state() {
            State::Up { connection, since } => {
                RouteView { since, connection: Some(connection), health }
            }
            State::Down { since } => RouteView { since, connection: None, health },
        }
    }

    /// Leads through `connection` from now on. The one before, if any, is closed: the same key dialed
    /// again, so its other end is gone.
    pub(super) fn up(&self, connection: quinn::Connection, now: Timestamp) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Up { connection, since: now });
        self.health.up(Health::of(HealthStatus::Unknown));
        if let State::Up { connection, .. } = before {
            close(&connection, CloseCode::Replaced);
        }
    }

    /// `connection` is gone. False when another has taken its place.
    pub(super) fn lost(&self, connection: &quinn::Connection, now: Timestamp) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let current = matches!(&*state, State::Up { connection: now, .. }
            if now.stable_id() == connection.stable_id());
        if current {
            *state = State::Down { since: now };
            self.health.down(unreachable(now));
        }
        current
    }

    /// Shows what the workload says of itself, as long as it is there to say it.
    pub(super) fn report(&self, health: Health) {
        if matches!(&*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Up { .. }) {
            self.health.up(health);
        }
    }

    async fn send(&self, call: Forwarded<'_>) -> Result<Box<RawValue>, ForwardError> {
        let connection = match self.state() {
            State::Up { connection, .. } => connection,
            State::Down { since } => return Err(ForwardError::Down(since)),
        };
        let _place = self.places.try_acquire().map_err(|_| ForwardError::Busy)?;
        let message = message(&call)?;
        let answered = exchange(&connection, &message);
        tokio::select! {
            answer = tokio::time::timeout(call.deadline + GRACE, answered) => {
                answer.unwrap_or(Err(ForwardError::Deadline))
            }
            () = silence(&connection) => {
                close(&connection, CloseCode::Timeout);
                Err(ForwardError::Broken)
            }
        }
    }
}

impl Forward for Route {
    fn forward<'a>(&'a self, call: Forwarded<'a>) -> Forwarding<'a> {
        Box::pin(self.send(call))
    }
}

fn unreachable(since: Timestamp) -> Down {
    Down { code: Code::CapabilityUnavailable, since, message: down(since).message }
}

pub(super) fn close(connection: &quinn::Connection, code: CloseCode) {
    connection.close(quinn::VarInt::from_u32(code.number()), code.to_string().as_bytes());
}

fn message(call: &Forwarded<'_>) -> Result<Invoke, ForwardError> {
    let text = |text: &str| CallId::new(text).map_err(|_| ForwardError::TooLarge);
    Ok(Invoke {
        address: call.address.parse().map_err(|_| ForwardError::Nonsense)?,
        id: call.home_id.clone(),
        input: Some(Json::from(call.input.to_owned())),
        correlation_id: text(call.correlation)?,
        idempotency_key: call.idempotency_key.map(text).transpose()?,
        deadline_ms: u32::try_from(call.deadline.as_millis()).unwrap_or(u32::MAX),
        agent_id: text(call.agent)?,
    })
}

/// One stream, one call. Dropped half-way, the call is cancelled at its home.
async fn exchange(
    connection: &quinn::Connection,
    message: &Invoke,
) -> Result<Box<RawValue>, ForwardError> {
    use plexus_mesh_proto::io::{ReadError, WriteError};
    let broken = |_: quinn::ConnectionError| ForwardError::Broken;
    let (mut send, recv) = connection.open_bi().await.map_err(broken)?;
    let mut recv = CancelOnDrop(Some(recv));
    match write_frame(&mut send, message).await {
        Ok(()) => {}
        Err(WriteError::Encode(_)) => {
            let _ = send.reset(quinn::VarInt::from_u32(ResetCode::Cancelled.number()));
            return Err(ForwardError::TooLarge);
        }
        Err(WriteError::Io(_)) => return Err(ForwardError::Broken),
    }
    let _ = send.finish();
    let Some(stream) = &mut recv.0 else { return Err(ForwardError::Broken) };
    let answer = read_message::<InvokeResult>(stream).await;
    match answer {
        Ok(Some(result)) => {
            recv.0 = None;
            Ok(result.response.into_raw())
        }
        Ok(None) | Err(ReadError::Io(_) | ReadError::Truncated) => Err(ForwardError::Broken),
        Err(ReadError::Decode(_)) => Err(ForwardError::Nonsense),
    }
}

/// Tells the home to stop when the answer is no longer wanted.
struct CancelOnDrop(Option<quinn::RecvStream>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            let _ = stream.stop(quinn::VarInt::from_u32(ResetCode::Cancelled.number()));
        }
    }
}

/// Resolves when packets go out and none comes back: a living peer acknowledges within a round trip,
/// so a killed one is known long before the idle timeout.
async fn silence(connection: &quinn::Connection) {
    let count = || {
        let stats = connection.stats();
        (stats.udp_rx.datagrams, answerable(&stats.frame_tx))
    };
    let (mut heard, mut said) = count();
    let mut quiet = Duration::ZERO;
    while quiet < SILENCE {
        tokio::time::sleep(SILENCE_TICK).await;
        let (hears, says) = count();
        if hears != heard {
            (heard, said, quiet) = (hears, says, Duration::ZERO);
        } else if says != said {
            quiet += SILENCE_TICK;
        }
    }
}

/// How many frames went out that a living peer must acknowledge; acknowledgements themselves it need
/// not.
fn answerable(sent: &quinn::FrameStats) -> u64 {
    [
        sent.ping,
        sent.stream,
        sent.reset_stream,
        sent.stop_sending,
        sent.max_data,
        sent.max_stream_data,
        sent.max_streams_bidi,
        sent.new_connection_id,
        sent.retire_connection_id,
        sent.path_challenge,
    ]
    .iter()
    .sum()
}
