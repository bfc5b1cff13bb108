//! From what the owner opened to what listens: loopback in the clear, all else over TLS.

use std::net::{SocketAddr, TcpListener};

use plexus_shared::state_dir::StateDir;

use crate::app::StartError;
use crate::http::Reach;
use crate::http::serve::Listener;
use crate::http::tls::{self, Tls};
use crate::network::{Network, Wire};
use crate::settings::{Policy, Settings};

/// Binds what the owner opened beside the loopback port.
pub(crate) fn open_up(
    network: &Network,
    loopback: &TcpListener,
) -> Result<Vec<TcpListener>, StartError> {
    let bound = loopback.local_addr().map_err(StartError::Runtime)?;
    let others = network.listen.iter().filter(|address| **address != bound);
    let bind = |addr: &SocketAddr| {
        TcpListener::bind(addr)
            .and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp))
            .map_err(|error| StartError::Listen { addr: *addr, error })
    };
    others.map(bind).collect()
}

/// Where `sockets` are bound.
pub(crate) fn addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
}

/// Makes listeners of sockets: what others can reach gets TLS, and there is no other way.
pub(crate) fn wire_up(
    state: &StateDir,
    loopback: TcpListener,
    opened: Vec<TcpListener>,
    network: &Network,
    base_url: &str,
) -> Result<(Vec<Listener>, Reach), StartError> {
    let open = addresses(&opened).iter().any(|address| Wire::of(address) == Wire::Tls);
    let tls: Option<Tls> = open.then(|| tls::load(state, &network.names())).transpose()?;
    let mut urls = vec![base_url.to_owned()];
    let listen = |tcp, tls| {
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(StartError::Runtime)?;
        Ok::<_, StartError>(Listener { tcp, tls })
    };
    let mut listeners = vec![listen(loopback, None)?];
    for socket in opened {
        let address = socket.local_addr().map_err(StartError::Runtime)?;
        let wire = Wire::of(&address);
        urls.push(format!("{}://{address}", wire.scheme()));
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        match (wire, acceptor) {
            (Wire::Plain, _) => listeners.push(listen(socket, None)?),
            (Wire::Tls, Some(acceptor)) => listeners.push(listen(socket, Some(acceptor))?),
            // Bound and never served: better than in the clear.
            (Wire::Tls, None) => {}
        }
    }
    Ok((listeners, Reach { urls, tls_fingerprint: tls.map(|tls| tls.fingerprint) }))
}

/// What the owner must know of this start.
pub(crate) fn warnings(settings: &Settings, reach: &Reach, frozen: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(fingerprint) = &reach.tls_fingerprint {
        let others: Vec<_> = reach.urls.iter().filter(|url| url.starts_with("https:")).collect();
        warnings.push(format!(
            "OTHER MACHINES CAN REACH THIS GATEWAY at {others:?}, over TLS; its certificate's SHA-256 \
             is {fingerprint}, and {} is for clients to trust",
            tls::CERTIFICATE
        ));
    }
    if settings.policy == Policy::AutoApprove {
        warnings.push(
            "EVERYTHING AGENTS ASK FOR IS GRANTED UNASKED: auth-config.json says auto-approve, \
             which is for tests alone"
                .to_owned(),
        );
    }
    if frozen {
        warnings.push("the gateway is frozen: every agent is refused until `plexus resume`".into());
    }
    warnings
}
