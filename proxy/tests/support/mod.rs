//! A small primary: the protocol's own machines over real QUIC, and nothing behind them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::address::MountPoint;
use plexus_mesh_proto::audit::AuditAck;
use plexus_mesh_proto::bounded::{List, Text};
use plexus_mesh_proto::catalog::{Assembly, CatalogChange};
use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::enroll::{
    EXPORTER_LABEL, EXPORTER_LEN, EnrollAttempt, EnrollResult, EnrollWindow,
};
use plexus_mesh_proto::frame::{FrameKind, Message};
use plexus_mesh_proto::hello::{AcceptHandshake, Accepted, Admission, Hello};
use plexus_mesh_proto::identity::{NodeKey, PublicKey, peer_key, server_config};
use plexus_mesh_proto::invoke::{Invoke, InvokeResult};
use plexus_mesh_proto::io::{self, ToPrimary};
use plexus_mesh_proto::json::Json;
use plexus_mesh_proto::ticket::{JoinToken, Ticket};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use zeroize::Zeroizing;

/// Waits for something that must come, and for no longer than a test may hang.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes in time")
}

pub(crate) fn key(fill: u8) -> NodeKey {
    NodeKey::from_seed(Zeroizing::new([fill; 32])).unwrap()
}

pub(crate) fn mount_point() -> MountPoint {
    MountPoint::new("local".parse().unwrap(), "nas".parse().unwrap())
}

pub(crate) struct Primary {
    pub(crate) node: NodeKey,
    endpoint: Endpoint,
}

impl Primary {
    pub(crate) fn listen() -> Self {
        let node = key(200);
        let crypto = QuicServerConfig::try_from(server_config(&node).unwrap()).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_uni_streams(VarInt::from_u32(0));
        config.transport_config(Arc::new(transport));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).unwrap();
        Self { node, endpoint }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket {
            tenant: "local".parse().unwrap(),
            workload: "nas".parse().unwrap(),
            addresses: List::new(vec![self.address().into()]).unwrap(),
            primary_key: self.node.public(),
            token: JoinToken::from_bytes([9; 32]),
            expires_at_ms: u64::MAX,
        }
    }

    /// Takes a connection whose handshake fails.
    pub(crate) async fn failure(&self) {
        let incoming = soon(self.endpoint.accept()).await.unwrap();
        assert!(soon(incoming.accept().unwrap()).await.is_err());
    }

    /// Takes the next connection as far as its hello.
    pub(crate) async fn arrival(&self) -> Arrival {
        let incoming = soon(self.endpoint.accept()).await.unwrap();
        let connection = soon(incoming.accept().unwrap()).await.unwrap();
        let identity = connection.peer_identity().unwrap();
        let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().unwrap();
        let observed = peer_key(&certificates).unwrap();
        let (send, mut recv) = soon(connection.accept_bi()).await.unwrap();
        let hello = soon(io::read_message::<Hello>(&mut recv)).await.unwrap().unwrap();
        Arrival { connection, observed, hello, send, recv, primary: self.node.public() }
    }

    /// Takes the next connection and admits it; its audit is mirrored as far as `through`.
    pub(crate) async fn admit(&self, through: u64) -> Tunnel {
        let mut tunnel = self.arrival().await.admit().await;
        tunnel.say(&AuditAck { through }).await;
        tunnel
    }
}

/// A connection that has said hello.
pub(crate) struct Arrival {
    pub(crate) connection: Connection,
    pub(crate) observed: PublicKey,
    pub(crate) hello: Hello,
    send: SendStream,
    recv: RecvStream,
    primary: PublicKey,
}

impl Arrival {
    fn accepted(&self, admission: Admission) -> Accepted {
        let ours = Hello::new(Text::truncated("fake/0"), Duration::from_secs(1));
        AcceptHandshake::new(ours, self.observed, admission).on_hello(self.hello.clone())
    }

    /// It is known: says hello.
    pub(crate) async fn admit(mut self) -> Tunnel {
        let Accepted::Peer(_, reply) = self.accepted(Admission::Known(mount_point())) else {
            panic!("a known key is admitted");
        };
        soon(io::write_frame(&mut self.send, &reply)).await.unwrap();
        let Self { connection, send, recv, .. } = self;
        Tunnel { connection, send, recv, assembly: Assembly::default() }
    }

    /// It is unknown: reads its join request.
    pub(crate) async fn request(&mut self) -> EnrollAttempt {
        let Accepted::EnrollOnly(window) = self.accepted(Admission::Unknown) else {
            panic!("an unknown key may enroll");
        };
        self.attempt(window).await
    }

    async fn attempt(&mut self, window: EnrollWindow) -> EnrollAttempt {
        let mut exporter = [0; EXPORTER_LEN];
        self.connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"").unwrap();
        let frame = soon(io::read_frame(&mut self.recv, &[FrameKind::Enroll])).await;
        window.attempt(&frame.unwrap().unwrap(), self.primary, exporter).unwrap()
    }

    pub(crate) async fn answer(mut self, result: EnrollResult) {
        soon(io::write_frame(&mut self.send, &result)).await.unwrap();
        self.send.finish().unwrap();
        let _ = soon(self.send.stopped()).await;
        self.close(CloseCode::EnrollDone);
    }

    pub(crate) fn close(&self, code: CloseCode) {
        self.connection.close(VarInt::from_u32(code.number()), b"");
    }
}

/// An admitted proxy's connection.
pub(crate) struct Tunnel {
    pub(crate) connection: Connection,
    send: SendStream,
    recv: RecvStream,
    assembly: Assembly,
}

impl Tunnel {
    pub(crate) async fn say<M: Message>(&mut self, message: &M) {
        soon(io::write_frame(&mut self.send, message)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ToPrimary {
        soon(ToPrimary::read(&mut self.recv)).await.unwrap().unwrap()
    }

    /// The next whole change of the catalog, whatever comes before it.
    pub(crate) async fn catalog(&mut self) -> CatalogChange {
        loop {
            if let ToPrimary::Mount(frame) = self.hear().await
                && let Some(change) = self.assembly.push(frame).unwrap()
            {
                return change;
            }
        }
    }

    /// The next lines of the audit, whatever comes before them.
    pub(crate) async fn audit(&mut self) -> Vec<Value> {
        loop {
            if let ToPrimary::AuditBatch(batch) = self.hear().await {
                let lines = batch.lines.into_iter();
                return lines.map(|line| serde_json::from_str(line.get()).unwrap()).collect();
            }
        }
    }

    /// Sends a call; its answer comes on the stream.
    pub(crate) async fn send_call(&self, id: &str, input: &str) -> (SendStream, RecvStream) {
        let (mut send, recv) = soon(self.connection.open_bi()).await.unwrap();
        soon(io::write_frame(&mut send, &invoke(id, input))).await.unwrap();
        (send, recv)
    }

    /// One whole call.
    pub(crate) async fn call(&self, id: &str, input: &str) -> Value {
        let (mut send, mut recv) = self.send_call(id, input).await;
        send.finish().unwrap();
        answer(&mut recv).await
    }

    pub(crate) fn close(&self, code: CloseCode) {
        self.connection.close(VarInt::from_u32(code.number()), b"");
    }

    /// The code the proxy closes the connection with.
    pub(crate) async fn closed(&self) -> Option<CloseCode> {
        match soon(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                CloseCode::from_number(u32::try_from(close.error_code.into_inner()).unwrap())
            }
            _ => None,
        }
    }
}

pub(crate) fn invoke(id: &str, input: &str) -> Invoke {
    let id = id.parse().unwrap();
    Invoke {
        address: mount_point().mount(&id),
        id,
        input: Some(Json::from_string(input.to_owned()).unwrap()),
        correlation_id: Text::truncated("corr_01KAXYZ0000000000000000000"),
        idempotency_key: None,
        deadline_ms: 60_000,
        agent_id: Text::truncated("claude"),
    }
}

pub(crate) async fn answer(recv: &mut RecvStream) -> Value {
    let result = soon(io::read_message::<InvokeResult>(recv)).await.unwrap().unwrap();
    assert!(soon(recv.read(&mut [0])).await.unwrap().is_none(), "the stream ends with its answer");
    serde_json::from_str(result.response.get()).unwrap()
}
