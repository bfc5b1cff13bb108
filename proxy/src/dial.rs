//! Reaching the primary: one socket, every address it may be at, the first that answers with its key.
//!
//! 1. Each candidate is resolved anew at each attempt: a laptop changes its address.
//! 2. Attempts start a quarter of a second apart, or as soon as the one before has failed, the last
//!    good address first. The first to finish its TLS handshake wins and the others are dropped.
//! 3. TLS accepts the pinned key and nothing else, so it does not matter who answers at an address.
//!
//! A finished handshake does not mean that the primary admits this node: its `Hello` does.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::identity::{IdentityError, NodeKey, PublicKey, client_config, peer_key};
use plexus_mesh_proto::limits;
use plexus_mesh_proto::ticket::Candidate;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Between the starts of two attempts.
const STAGGER: Duration = Duration::from_millis(250);

/// How long a name may take to resolve.
const RESOLVE_TIME: Duration = Duration::from_secs(5);

/// How long one address may take to answer.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long the last packets may take to leave.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// The most addresses of one name that are tried.
const MAX_RESOLVED: usize = 8;

/// What one stream may have in flight towards us: the largest frame and room for the next.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024 + 64 * 1024;

/// What all streams together may have in flight towards us.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Streams beyond the advertised calls: enough to tell the primary that there are too many.
const SPARE_STREAMS: u32 = 32;

/// The name TLS asks for and nobody looks at.
const SERVER_NAME: &str = "plexus";

/// Why there is no way to dial.
#[derive(Debug, thiserror::Error)]
pub enum DialerError {
    /// The node's certificate or TLS settings.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS settings do not suit QUIC.
    #[error("the node's TLS settings do not suit QUIC")]
    Tls,
    /// No UDP socket.
    #[error("no UDP socket can be opened: {0}")]
    Socket(#[from] std::io::Error),
}

/// A connection whose peer proved the pinned key. It is not admitted yet.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub connection: Connection,
    /// The key that TLS observed.
    pub observed: PublicKey,
    /// The key that was demanded.
    pub pinned: PublicKey,
}

/// Nobody with the primary's key answered.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    attempts: Vec<Attempt>,
}

/// One attempt that failed.
#[derive(Debug)]
struct Attempt {
    place: String,
    why: Failure,
}

/// Why an attempt failed.
#[derive(Debug)]
enum Failure {
    Resolve(std::io::Error),
    NoAddress,
    TimedOut,
    Connect(quinn::ConnectError),
    Connection(ConnectionError),
    NoKey,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "the name does not resolve: {error}"),
            Self::NoAddress => write!(f, "the name has no address"),
            Self::TimedOut | Self::Connection(ConnectionError::TimedOut) => {
                write!(f, "no answer")
            }
            Self::Connect(error) => write!(f, "{error}"),
            Self::Connection(error) if is_tls(error) => {
                write!(f, "what answers there is not this primary ({error})")
            }
            Self::Connection(error) => write!(f, "{error}"),
            Self::NoKey => write!(f, "what answers there proved no key"),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the primary was not reached")?;
        for (index, Attempt { place, why }) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{place}: {why}")?;
        }
        Ok(())
    }
}

impl Unreachable {
    /// Whether something answered that is not the primary.
    pub fn met_a_stranger(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.why {
            Failure::NoKey => true,
            Failure::Connection(error) => is_tls(error),
            _ => false,
        })
    }
}

/// Whether the TLS handshake itself failed: QUIC gives its alerts the numbers from 0x100 to 0x1ff.
fn is_tls(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::TransportError(error) => (0x100..0x200).contains(&u64::from(error.code)),
        _ => false,
    }
}

/// The one socket, and where the primary may be.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    client: ClientConfig,
    pinned: PublicKey,
    candidates: Vec<Candidate>,
    last_good: Option<Candidate>,
}

impl Dialer {
    /// A dialer as `node` for the primary of key `pinned`. Needs a running tokio.
    ///
    /// # Errors
    /// See [`DialerError`].
    pub fn new(
        node: &NodeKey,
        pinned: PublicKey,
        candidates: Vec<Candidate>,
    ) -> Result<Self, DialerError> {
        let tls = client_config(node, pinned)?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|_| DialerError::Tls)?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(transport()));
        let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*node.reset_key());
        let config = quinn::EndpointConfig::new(Arc::new(reset));
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(config, None, bind()?, runtime)?;
        Ok(Self { endpoint, client, pinned, candidates, last_good: None })
    }

    /// Tries every candidate once.
    ///
    /// # Errors
    /// When none answered with the pinned key.
    pub async fn dial(&mut self) -> Result<Dialed, Unreachable> {
        let others = self.candidates.iter().filter(|known| Some(*known) != self.last_good.as_ref());
        let order: Vec<_> = self.last_good.iter().chain(others).cloned().collect();
        let attempts = order.into_iter().map(|candidate| {
            connect_candidate(self.endpoint.clone(), self.client.clone(), candidate)
        });
        match race(attempts).await {
            Ok((candidate, (connection, observed))) => {
                self.last_good = Some(candidate);
                Ok(Dialed { connection, observed, pinned: self.pinned })
            }
            Err(failed) => Err(Unreachable { attempts: failed.into_iter().flatten().collect() }),
        }
    }

    /// Ends everything with `code` and gives the last packets a moment to leave.
    pub async fn close(self, code: CloseCode) {
        self.endpoint.close(VarInt::from_u32(code.number()), code.as_str().as_bytes());
        let _ = timeout(CLOSE_TIME, self.endpoint.wait_idle()).await;
    }
}

/// Closes `connection` with `code` and its sentence.
pub(crate) fn close(connection: &Connection, code: CloseCode) {
    connection.close(VarInt::from_u32(code.number()), code.as_str().as_bytes());
}

/// The code the peer closed with, when it is one of ours.
pub(crate) fn closed_with(error: &ConnectionError) -> Option<CloseCode> {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            u32::try_from(close.error_code.into_inner()).ok().and_then(CloseCode::from_number)
        }
        _ => None,
    }
}

fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .max_idle_timeout(limits::IDLE.try_into().ok())
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::CONCURRENT_CALLS + SPARE_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

/// A socket for both address families; for the old one alone where the new one is missing.
fn bind() -> std::io::Result<UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let both = || {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        // Whether it is so by default is a setting of the system.
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok(socket.into())
    };
    both().or_else(|_: std::io::Error| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
}

/// Connects to the first of `candidate`'s addresses that answers.
async fn connect_candidate(
    endpoint: Endpoint,
    client: ClientConfig,
    candidate: Candidate,
) -> Result<(Candidate, (Connection, PublicKey)), Vec<Attempt>> {
    let failed = |why| vec![Attempt { place: candidate.to_string(), why }];
    let found = match timeout(RESOLVE_TIME, tokio::net::lookup_host(candidate.as_str())).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(failed(Failure::Resolve(error))),
        Err(_) => return Err(failed(Failure::TimedOut)),
    };
    let mut addresses: Vec<_> = found.take(MAX_RESOLVED).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(failed(Failure::NoAddress));
    }
    let attempts = addresses.into_iter().map(|address| {
        let (endpoint, client) = (endpoint.clone(), client.clone());
        async move {
            let connected = connect(&endpoint, client, address).await;
            connected.map_err(|why| Attempt { place: address.to_string(), why })
        }
    });
    race(attempts).await.map(|connected| (candidate.clone(), connected))
}

async fn connect(
    endpoint: &Endpoint,
    client: ClientConfig,
    address: SocketAddr,
) -> Result<(Connection, PublicKey), Failure> {
    let connecting =
        endpoint.connect_with(client, address, SERVER_NAME).map_err(Failure::Connect)?;
    let connection = match timeout(CONNECT_TIME, connecting).await {
        Ok(connected) => connected.map_err(Failure::Connection)?,
        Err(_) => return Err(Failure::TimedOut),
    };
    match observed_key(&connection) {
        Some(observed) => Ok((connection, observed)),
        None => {
            close(&connection, CloseCode::UnknownKey);
            Err(Failure::NoKey)
        }
    }
}

fn observed_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    peer_key(&certificates).ok()
}

/// Runs `attempts`, each started [`STAGGER`] after the one before or as soon as one has failed; the
/// first success ends the others.
async fn race<T, E, F>(attempts: impl IntoIterator<Item = F>) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = attempts.into_iter().fuse();
    let mut running = JoinSet::new();
    let mut failures = Vec::new();
    let mut more = true;
    loop {
        if more {
            match waiting.next() {
                Some(attempt) => drop(running.spawn(attempt)),
                None => more = false,
            }
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            () = tokio::time::sleep(STAGGER), if more => continue,
        };
        match ended {
            Some(Ok(Ok(won))) => return Ok(won),
            Some(Ok(Err(failure))) => failures.push(failure),
            Some(Err(_)) => {}
            None if more => {}
            None => return Err(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<u8, u8>> + Send>>;

    fn after(millis: u64, result: Result<u8, u8>) -> Boxed {
        Box::pin(async move {
            sleep(Duration::from_millis(millis)).await;
            result
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_one_stagger_and_no_more() {
        let begun = Instant::now();
        let silent: Boxed = Box::pin(pending());
        assert_eq!(race([silent, after(10, Ok(2))]).await, Ok(2));
        assert_eq!(begun.elapsed(), STAGGER + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once_and_all_failures_are_told() {
        let begun = Instant::now();
        let all = [after(5, Err(1)), after(5, Err(2)), after(5, Err(3))];
        assert_eq!(race(all).await, Err(vec![1, 2, 3]));
        assert_eq!(begun.elapsed(), Duration::from_millis(15));
        assert_eq!(race(Vec::<Boxed>::new()).await, Err(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_finish_wins_whatever_the_order() {
        assert_eq!(race([after(400, Ok(1)), after(10, Ok(2))]).await, Ok(2));
        assert_eq!(race([after(100, Ok(1)), after(10, Ok(2))]).await, Ok(1));
    }
}
