//! Taking connections: few at a time while they are nobody's, each within its time.

use std::net::UdpSocket;
use std::sync::Arc;

use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::identity::{IdentityError, server_config};
use plexus_mesh_proto::limits;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Mesh, link, transport};

/// Why the mesh can't be listened for.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The node's certificate could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS configuration does not suit QUIC.
    #[error("the node's TLS configuration does not suit QUIC")]
    Tls,
    /// The socket.
    #[error("the mesh socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// Makes `socket` the mesh's endpoint.
///
/// # Errors
/// See [`ListenError`].
pub fn listen(mesh: &Mesh, socket: UdpSocket) -> Result<quinn::Endpoint, ListenError> {
    let tls = server_config(&mesh.node)?;
    let crypto: quinn::crypto::rustls::QuicServerConfig =
        tls.try_into().map_err(|_| ListenError::Tls)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport()))
        .max_incoming(limits::UNAUTHENTICATED_CONNECTIONS);
    // Derived from the node's key, so that a restarted primary recognises the connections of the one
    // before it, and ends them with the first packet it hears.
    let secret = mesh.node.reset_key();
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*secret);
    let mut endpoint = quinn::EndpointConfig::new(Arc::new(reset));
    let label = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*secret),
        b"plexus mesh connection ids",
    );
    let ids = label.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte));
    endpoint
        .cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(ids)));
    let runtime = Arc::new(quinn::TokioRuntime);
    Ok(quinn::Endpoint::new(endpoint, Some(server), socket, runtime)?)
}

/// Serves connections until `stop` turns true, then says goodbye to each.
pub async fn run(mesh: Arc<Mesh>, endpoint: quinn::Endpoint, mut stop: watch::Receiver<bool>) {
    let strangers = Arc::new(Semaphore::new(limits::UNAUTHENTICATED_CONNECTIONS));
    let mut links = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = stop.wait_for(|stop| *stop) => None,
            Some(_) = links.join_next() => continue,
        };
        let Some(incoming) = incoming else { break };
        // Past half of the places, an address must first show that it is its sender's own.
        let crowded = strangers.available_permits() < limits::UNAUTHENTICATED_CONNECTIONS / 2;
        if crowded && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        match strangers.clone().try_acquire_owned() {
            Ok(place) => {
                links.spawn(link::run(mesh.clone(), incoming, place));
            }
            Err(_) => incoming.refuse(),
        }
    }
    let code = CloseCode::ShuttingDown;
    endpoint.close(quinn::VarInt::from_u32(code.number()), code.to_string().as_bytes());
    while links.join_next().await.is_some() {}
    endpoint.wait_idle().await;
}
