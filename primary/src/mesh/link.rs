//! One connection, from its first byte to its last.

use std::sync::Arc;

use plexus_mesh_proto::audit::AuditAck;
use plexus_mesh_proto::bounded::{List, Text};
use plexus_mesh_proto::catalog::{Assembly, MountAck, RefusedEntry};
use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::enroll::{
    EXPORTER_LABEL, EXPORTER_LEN, EnrollRefusal, EnrollResult, EnrollWindow,
};
use plexus_mesh_proto::frame::{FrameKind, Message};
use plexus_mesh_proto::hello::{
    AcceptHandshake, Accepted, AuthenticatedPeer, Hello, Proxy, Software,
};
use plexus_mesh_proto::identity::{PublicKey, peer_key};
use plexus_mesh_proto::io::{self, ReadError, ToPrimary};
use plexus_mesh_proto::limits;
use plexus_mesh_proto::{address::WorkloadName, health};
use plexus_shared::model::health::{Health, HealthStatus};
use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::route::close;
use super::{HEALTH_INTERVAL, Mesh, WRITE_TIME};

/// Why a connection was ended by this side.
enum End {
    /// With a word the other side understands.
    Close(CloseCode),
    /// The other side ended it, or it broke.
    Gone,
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Close(code)
    }
}

/// What reading from a peer that broke the protocol ends in.
fn read_end(error: &ReadError) -> End {
    match error {
        ReadError::Io(_) | ReadError::Truncated => End::Gone,
        ReadError::Decode(_) => End::Close(CloseCode::Violation),
    }
}

/// Runs one incoming connection; `place` is its place among strangers, given up once it is known.
pub(super) async fn run(mesh: Arc<Mesh>, incoming: quinn::Incoming, place: OwnedSemaphorePermit) {
    let remote = incoming.remote_address();
    let connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return tracing::debug!(%remote, %error, "a connection was not taken"),
    };
    let connection = match timeout(limits::ENROLL_TIME, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%remote, "a TLS handshake took too long"),
    };
    match admit(&mesh, &connection, place).await {
        Ok(()) | Err(End::Gone) => {}
        Err(End::Close(code)) => {
            tracing::info!(%remote, %code, "a connection was closed");
            close(&connection, code);
        }
    }
}

type Control = (quinn::SendStream, quinn::RecvStream);

async fn admit(
    mesh: &Arc<Mesh>,
    connection: &quinn::Connection,
    place: OwnedSemaphorePermit,
) -> Result<(), End> {
    let key = observed_key(connection).ok_or(CloseCode::UnknownKey)?;
    let opening = timeout(limits::ENROLL_TIME, open_control(connection));
    let (control, theirs) = opening.await.map_err(|_| CloseCode::Timeout)??;
    let ours = Hello::new(software(), HEALTH_INTERVAL);
    match AcceptHandshake::new(ours, key, mesh.admission(&key)).on_hello(theirs) {
        Accepted::Peer(peer, reply) => {
            drop(place);
            stay(mesh, connection, control, peer, reply).await
        }
        Accepted::EnrollOnly(window) => {
            let result = timeout(limits::ENROLL_TIME, enroll(mesh, connection, control, window));
            // It said hello and had nothing to enroll with: a key that is not known, or no longer.
            result.await.map_err(|_| CloseCode::UnknownKey)?
        }
        Accepted::Refused(code) => Err(code.into()),
    }
}

fn software() -> Software {
    Software::truncated(concat!("plexus/", env!("CARGO_PKG_VERSION")))
}

fn observed_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    peer_key(&certificates).ok()
}

async fn open_control(connection: &quinn::Connection) -> Result<(Control, Hello), End> {
    let (send, mut recv) = connection.accept_bi().await.map_err(|_| End::Gone)?;
    // Control frames go before the bytes of any result.
    let _ = send.set_priority(10);
    let hello = io::read_message::<Hello>(&mut recv).await.map_err(|error| read_end(&error))?;
    Ok(((send, recv), hello.ok_or(End::Gone)?))
}

async fn say<M: Message>(send: &mut quinn::SendStream, message: &M) -> Result<(), End> {
    match timeout(WRITE_TIME, io::write_frame(send, message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(CloseCode::Timeout.into()),
    }
}

/// Runs a change to its end, whatever becomes of the connection that asked for it.
async fn carry_through<T: Send + 'static>(
    mesh: &Mesh,
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, End> {
    mesh.core.tasks.spawn(change).await.map_err(|error| {
        tracing::error!(%error, "a change that a workload asked for ended in a panic");
        End::Close(CloseCode::Violation)
    })
}

/// One enrollment, told how it went, and the connection is over.
async fn enroll(
    mesh: &Arc<Mesh>,
    connection: &quinn::Connection,
    (mut send, mut recv): Control,
    window: EnrollWindow,
) -> Result<(), End> {
    let mut exporter = [0; EXPORTER_LEN];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| CloseCode::EnrollFailed)?;
    let result = match io::read_frame(&mut recv, &[FrameKind::Enroll]).await {
        Ok(Some(frame)) => match window.attempt(&frame, mesh.public_key(), exporter) {
            Ok(attempt) => {
                let enrolling = mesh.clone();
                carry_through(mesh, async move { enrolling.enroll(attempt).await }).await?
            }
            Err(code) => EnrollResult::Refused { code },
        },
        Ok(None) => return Err(CloseCode::UnknownKey.into()),
        Err(ReadError::Decode(_)) => EnrollResult::Refused { code: EnrollRefusal::Malformed },
        Err(_) => return Err(End::Gone),
    };
    say(&mut send, &result).await?;
    let _ = send.finish();
    // The answer has arrived once the stream is acknowledged, or the other side has gone.
    let _ = send.stopped().await;
    Err(match result {
        EnrollResult::Joined => CloseCode::EnrollDone,
        EnrollResult::Refused { .. } => CloseCode::EnrollFailed,
    }
    .into())
}

/// A known workload's stay.
async fn stay(
    mesh: &Arc<Mesh>,
    connection: &quinn::Connection,
    (mut send, mut recv): Control,
    peer: AuthenticatedPeer<Proxy>,
    reply: Hello,
) -> Result<(), End> {
    let name = peer.mount_point().workload().clone();
    connection.set_receive_window(quinn::VarInt::from_u32(64 << 20));
    say(&mut send, &reply).await?;
    say(&mut send, &AuditAck { through: mesh.cursor(&name).seq }).await?;
    mesh.connected(&peer, connection).map_err(|_| CloseCode::ShuttingDown)?;
    let end = tokio::select! {
        end = listen(mesh, &name, &mut send, &mut recv) => end,
        _ = connection.closed() => End::Gone,
    };
    mesh.disconnected(&name, connection, &reason(connection, &end));
    Err(end)
}

fn reason(connection: &quinn::Connection, end: &End) -> String {
    match (end, connection.close_reason()) {
        (End::Close(code), _) => code.to_string(),
        (End::Gone, Some(reason)) => reason.to_string(),
        (End::Gone, None) => "the control stream ended".to_owned(),
    }
}

async fn listen(
    mesh: &Arc<Mesh>,
    name: &WorkloadName,
    send: &mut quinn::SendStream,
    recv: &mut quinn::RecvStream,
) -> End {
    let mut assembly = Assembly::default();
    loop {
        let heard = match ToPrimary::read(recv).await {
            Ok(Some(heard)) => heard,
            Ok(None) => return End::Gone,
            Err(error) => return read_end(&error),
        };
        let answered = match heard {
            ToPrimary::Mount(frame) => match assembly.push(frame) {
                Ok(Some(change)) => {
                    let (bearer, name) = (mesh.clone(), name.clone());
                    let mounting = async move { bearer.mount(&name, change).await };
                    match carry_through(mesh, mounting).await {
                        Ok((mounted, refused, revision)) => {
                            say(send, &mount_ack(revision, mounted, refused)).await
                        }
                        Err(end) => Err(end),
                    }
                }
                Ok(None) => Ok(()),
                Err(_) => Err(CloseCode::Violation.into()),
            },
            ToPrimary::Health(report) => {
                mesh.health(name, &report);
                Ok(())
            }
            ToPrimary::AuditBatch(batch) => {
                let (taker, name) = (mesh.clone(), name.clone());
                let taking = async move { taker.mirror(&name, batch).await };
                match carry_through(mesh, taking).await {
                    Ok(Ok(through)) => say(send, &AuditAck { through }).await,
                    Ok(Err(code)) => Err(code.into()),
                    Err(end) => Err(end),
                }
            }
            ToPrimary::Goodbye(_) => return End::Gone,
            // A key that has joined asks again: its answer was lost, or it was run twice.
            ToPrimary::Enroll(_) => return End::Gone,
            ToPrimary::Hello(_) => Err(CloseCode::Violation.into()),
        };
        if let Err(end) = answered {
            return end;
        }
    }
}

fn mount_ack(
    revision: u64,
    mounted: usize,
    refused: Vec<plexus_shared::source::registry::Refused>,
) -> MountAck {
    let refused = refused.into_iter().map(|refused| RefusedEntry {
        id: Text::truncated(refused.id),
        reason: Text::truncated(refused.reason),
    });
    MountAck {
        revision,
        mounted: u32::try_from(mounted).unwrap_or(u32::MAX),
        refused: List::truncated(refused.collect()),
    }
}

/// A workload's report as its entries show it.
pub(super) fn reported(report: &health::Health, now: plexus_shared::clock::Timestamp) -> Health {
    let status = match report.overall {
        health::HealthState::Ok => HealthStatus::Ok,
        health::HealthState::Degraded => HealthStatus::Degraded,
        health::HealthState::Unavailable => HealthStatus::Unavailable,
        health::HealthState::Unknown => HealthStatus::Unknown,
    };
    let worst = report.sources.iter().find(|source| source.state == report.overall);
    let detail = worst.and_then(|source| source.detail.as_ref()).map(ToString::to_string);
    Health { status, detail, checked_at: Some(now) }
}
