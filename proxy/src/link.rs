//! One tunnel, from the first frame to the last.
//!
//! 1. The control stream is opened and `Hello` sent. The primary's `Hello` is what admits this node;
//!    until then the connection is nothing.
//! 2. At once: the catalog goes up, health whenever it changes and at the agreed interval, the audit
//!    log where the primary's copy ends; acknowledgements are read, calls are taken.
//! 3. The first of these to end ends them all. When this node stops it lets calls finish, says goodbye
//!    and closes.
//!
//! Whatever this starts is owned here and over when [`run`] returns.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plexus_mesh_proto::bounded::Text;
use plexus_mesh_proto::catalog::CatalogError;
use plexus_mesh_proto::close::{CloseCode, Goodbye, GoodbyeReason};
use plexus_mesh_proto::hello::{AuthenticatedPeer, DialHandshake, Hello, Primary, Software};
use plexus_mesh_proto::io;
use plexus_shared::audit::{AuditSink, EventType, Record, RecordOutcome};
use plexus_shared::source::registry::Registry;
use quinn::{Connection, RecvStream, SendStream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::audit_mirror::{self, Mirrored};
use crate::catalog::Told;
use crate::control::{self, Cause, Outbox};
use crate::dial::{self, Dialed};
use crate::health::{self, Watched};
use crate::serve::{Calls, Service};

/// How long the primary may take to admit this node.
pub(crate) const HELLO_TIME: Duration = Duration::from_secs(10);

/// How long the last frames may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a tunnel works with.
#[derive(Clone)]
pub struct Node {
    /// What is offered.
    pub registry: Arc<Registry>,
    /// What calls go through.
    pub service: Service,
    /// The log and its folder.
    pub audit: Mirrored,
    /// How the sources are.
    pub health: Watched,
    /// The interval between health reports this node asks for.
    pub health_interval: Duration,
}

/// How a tunnel ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub cause: Cause,
    /// When the primary had admitted this node; `None` if it never did.
    pub accepted: Option<Instant>,
}

/// What this node calls itself.
#[must_use]
pub fn software() -> Software {
    Text::truncated(concat!("plexus-proxy/", env!("CARGO_PKG_VERSION")))
}

/// Opens the control stream and says hello.
pub(crate) async fn open(
    dialed: &Dialed,
    health_interval: Duration,
) -> Result<(DialHandshake, SendStream, RecvStream), Cause> {
    let connection = &dialed.connection;
    let lost = |why: &dyn std::fmt::Display| why_over(connection, Cause::Lost(why.to_string()));
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(&error))?;
    // Fails only when the stream is over already.
    let _ = send.set_priority(control::PRIORITY);
    let handshake = DialHandshake::new(dialed.pinned, Hello::new(software(), health_interval));
    io::write_frame(&mut send, handshake.hello()).await.map_err(|error| lost(&error))?;
    Ok((handshake, send, recv))
}

/// What the end of `connection` is really about: the code the peer closed it with says more than the
/// stream that broke with it.
pub(crate) fn why_over(connection: &Connection, otherwise: Cause) -> Cause {
    let reason = connection.close_reason();
    match (reason.as_ref().and_then(dial::closed_with), reason) {
        (Some(code), _) => Cause::Closed(code),
        (None, Some(reason)) if matches!(otherwise, Cause::Lost(_)) => {
            Cause::Lost(reason.to_string())
        }
        _ => otherwise,
    }
}

/// Runs one tunnel over a fresh connection until it ends or `stop` turns true.
pub async fn run(node: &Node, dialed: Dialed, mut stop: watch::Receiver<bool>) -> Ended {
    let connection = dialed.connection.clone();
    let greeting = timeout(HELLO_TIME, greet(&dialed, node.health_interval));
    let greeted = tokio::select! {
        greeted = greeting => greeted.unwrap_or(Err(Cause::TimedOut)),
        _ = stop.wait_for(|stop| *stop) => Err(Cause::Stopped),
    };
    let (peer, send, recv) = match greeted {
        Ok(admitted) => admitted,
        Err(cause) => {
            dial::close(&connection, cause.close_code());
            return Ended { cause, accepted: None };
        }
    };
    let accepted = Some(tokio::time::Instant::now().into_std());
    connected(node, &connection, &peer);
    let cause = Box::pin(stay(node, &connection, peer, (send, recv), stop)).await;
    dial::close(&connection, cause.close_code());
    disconnected(node, &connection, &cause);
    Ended { cause, accepted }
}

/// Says hello and waits for the primary's, which admits this node.
pub(crate) async fn greet(
    dialed: &Dialed,
    health_interval: Duration,
) -> Result<(AuthenticatedPeer<Primary>, SendStream, RecvStream), Cause> {
    let (handshake, send, mut recv) = open(dialed, health_interval).await?;
    let theirs = match io::read_message::<Hello>(&mut recv).await {
        Ok(Some(theirs)) => theirs,
        Ok(None) => return Err(Cause::Lost("the control stream ended".to_owned())),
        Err(error) => return Err(why_over(&dialed.connection, Cause::of_read(error))),
    };
    let peer = handshake.on_hello(dialed.observed, theirs).map_err(Cause::Disbelieved)?;
    Ok((peer, send, recv))
}

/// An admitted node's stay; gives why it ended.
async fn stay(
    node: &Node,
    connection: &Connection,
    peer: AuthenticatedPeer<Primary>,
    (send, mut recv): (SendStream, RecvStream),
    mut stop: watch::Receiver<bool>,
) -> Cause {
    let every = peer.negotiated().health_interval;
    let mut calls = Calls::new(node.service.clone(), peer);
    let (acked, heard) = watch::channel(None);
    let (out, queue) = control::outbox();
    let mut writer = Box::pin(control::write(send, queue));
    let mut talk = Box::pin(async {
        tokio::select! {
            cause = control::read(&mut recv, &acked) => cause,
            cause = tell_catalog(&node.registry, out.clone()) => cause,
            cause = tell_health(node.health.clone(), every, out.clone()) => cause,
            cause = audit_mirror::run(node.audit.clone(), heard, out.clone()) => cause,
        }
    });
    let cause = tokio::select! {
        written = &mut writer => unwritten(written),
        cause = &mut talk => cause,
        error = calls.accept(connection) => Cause::Lost(error.to_string()),
        _ = stop.wait_for(|stop| *stop) => Cause::Stopped,
    };
    if cause != Cause::Stopped {
        return why_over(connection, cause);
    }
    // Goodbye is the last word: the primary takes the route away when it hears it. Until then calls
    // under way finish, and ones that come are told that this node is stopping.
    let over = tokio::select! {
        _ = &mut writer => true,
        _ = &mut talk => true,
        () = calls.drain(connection) => false,
    };
    drop(talk);
    if !over {
        let goodbye = Goodbye { reason: GoodbyeReason::ShuttingDown };
        let farewell = async {
            let _ = out.say(&goodbye).await;
            drop(out);
            let _ = writer.await;
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
    Cause::Stopped
}

/// The writer is over before its time.
fn unwritten(written: Result<(), Cause>) -> Cause {
    written.err().unwrap_or_else(|| Cause::Lost("nothing is left to say".to_owned()))
}

async fn tell_catalog(registry: &Registry, out: Outbox) -> Cause {
    let mut revision = registry.subscribe();
    let mut told = Told::default();
    loop {
        revision.borrow_and_update();
        if let Some(change) = told.change(&registry.catalog()) {
            let frames = match change.into_frames() {
                Ok(frames) => frames,
                Err(error) => return too_large(error),
            };
            for frame in frames {
                if let Err(cause) = out.say(&frame).await {
                    return cause;
                }
            }
        }
        if revision.changed().await.is_err() {
            // Nobody is left who could change it.
            return pending().await;
        }
    }
}

fn too_large(error: CatalogError) -> Cause {
    tracing::error!(%error, "the catalog cannot be offered; bear fewer sources on this node");
    Cause::Lost(format!("the catalog cannot be offered: {error}"))
}

async fn tell_health(mut watched: Watched, every: Duration, out: Outbox) -> Cause {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seq = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = watched.changed() => {}
        }
        seq += 1;
        let report = health::report(seq, &watched.borrow_and_update());
        if let Err(cause) = out.say(&report).await {
            return cause;
        }
    }
}

fn connected(node: &Node, connection: &Connection, peer: &AuthenticatedPeer<Primary>) {
    let (remote, software) = (remote(connection), peer.software().as_str());
    tracing::info!(%remote, software, "the primary admitted this node");
    record(
        node,
        Record::new(EventType::MeshConnect).outcome(RecordOutcome::Ok).detail(&json!({
            "remote": remote.to_string(),
            "primary": peer.key().fingerprint(),
            "software": software,
        })),
    );
}

fn disconnected(node: &Node, connection: &Connection, cause: &Cause) {
    tracing::info!(%cause, "the tunnel is down");
    record(
        node,
        Record::new(EventType::MeshDisconnect).outcome(RecordOutcome::Ok).detail(&json!({
            "remote": remote(connection).to_string(),
            "reason": cause.to_string(),
        })),
    );
}

/// The primary's address as people write it: an IPv4 one is not dressed up as IPv6.
fn remote(connection: &Connection) -> SocketAddr {
    let remote = connection.remote_address();
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

/// A tunnel is up or down whether or not it can be recorded; calls are what waits for the log.
fn record(node: &Node, record: Record) {
    if let Err(error) = AuditSink::append(&*node.audit.log, record) {
        tracing::error!(%error, "a tunnel's record could not be written");
    }
}

/// What to tell the owner of a node that the primary will not have.
#[must_use]
pub fn advice(code: CloseCode) -> Option<&'static str> {
    match code {
        CloseCode::UnknownKey => Some(
            "the primary does not know this node's key; join it with a new ticket from `plexus mesh \
             invite`",
        ),
        CloseCode::Revoked => Some(
            "the owner revoked this node's key; to come back, remove identity.key from the state \
             folder and join with a new ticket",
        ),
        CloseCode::ProtocolVersion => {
            Some("this program and the primary speak different versions; update the older one")
        }
        CloseCode::Replaced => Some(
            "another node uses the same key; give each node a state folder of its own and join it \
             with its own ticket",
        ),
        _ => None,
    }
}
