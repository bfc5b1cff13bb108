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
use tokio::task::JoinSet;
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
pub const DRAIN: Duration = Duration::from_secs(10);

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
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        if let Some((stream, peer, place)) = accepted {
            let one = One { peer, place, router: router.clone(), watcher: graceful.watcher() };
            connections.spawn(serve_one(one, stream, tls.clone()));
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut");
    }
    connections.shutdown().await;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use axum::routing::get;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_does_not_end_in_time_is_cut_and_nothing_of_it_is_left() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (begun, held) = (Arc::new(Notify::new()), Arc::new(()));
        let (tell, hold) = (begun.clone(), held.clone());
        let endless = move || async move {
            let _held = hold;
            tell.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/", get(endless));
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(Listener { tcp, tls: None }, router, stopped));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        stop.send_replace(true);
        // From here on only the time is waited for, so it passes at once.
        tokio::time::pause();
        serving.await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1, "the call has ended");
    }
}
