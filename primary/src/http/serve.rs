//! Serving connections: so many at once, each within its time, all ended in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::limits::Peer;
use super::patient::Patient;

/// The most connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a request's head may take to arrive, from the connection's start or the answer before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// How long an answer may wait for a client to read any of it.
const READER_PATIENCE: Duration = Duration::from_secs(60);
/// How long calls under way may take to end once the gateway is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// A bound socket, and how it is served.
pub struct Listener {
    /// The socket.
    pub tcp: TcpListener,
    /// Its TLS; plain HTTP without.
    pub tls: Option<TlsAcceptor>,
}

/// Serves `router` on `listener` until `stop` turns true, then lets what is under way finish.
pub async fn serve(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let Listener { tcp: listener, tls } = listener;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if let Some((stream, peer, place)) = accepted {
            let one = One { peer, place, router: router.clone(), watcher: graceful.watcher() };
            tokio::spawn(serve_one(one, stream, tls.clone()));
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, Peer(peer.ip().to_canonical()), place)),
        Err(error) => {
            // Out of file descriptors, say: give what is open a moment to close.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// One connection's belongings.
struct One {
    peer: Peer,
    place: OwnedSemaphorePermit,
    router: Router,
    watcher: Watcher,
}

async fn serve_one(one: One, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, READER_PATIENCE);
    let Some(tls) = tls else { return carry(one, stream).await };
    match tokio::time::timeout(TLS_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => carry(one, stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn carry(one: One, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let One { peer, place, router, watcher } = one;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let router = router.clone();
        request.extensions_mut().insert(peer);
        async move {
            let response = router.oneshot(request.map(Body::new)).await;
            response.map_err(|never: Infallible| never)
        }
    });
    // HTTP/1 alone: finding out which version a silent client speaks has no deadline.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended badly");
    }
    drop(place);
}
