//! The first gate of every route: is the request meant for this gateway?
//!
//! A page in the owner's browser can reach loopback, and can make a name of its own resolve to it. So
//! the `Host` must be exactly the bound authority, port and all, and an `Origin` must be our own.
//! Nothing of a refused request's body is read.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use plexus_shared::model::denial::{Code, Denial};

use super::error::{Failure, Framing};
use crate::network::{Network, Wire};

/// The authorities this gateway answers to.
#[derive(Clone, Debug)]
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    /// A guard of the loopback `port`, of what else is bound and of what the owner listed.
    pub fn new(port: u16, bound: &[SocketAddr], network: &Network) -> Self {
        let mut guard = Self::loopback(port);
        // A page can ask for 0.0.0.0 too: listening everywhere is not being called so.
        for address in bound.iter().filter(|address| !address.ip().is_unspecified()) {
            let origin = format!("{}://{address}", Wire::of(address).scheme());
            guard.hosts.push(address.to_string());
            guard.origins.push(origin);
        }
        guard.hosts.extend(network.allowed_hosts.iter().cloned());
        guard.origins.extend(network.allowed_origins.iter().cloned());
        guard
    }

    /// A guard of the loopback `port`.
    fn loopback(port: u16) -> Self {
        let hosts: Vec<_> =
            ["127.0.0.1", "localhost"].iter().map(|name| format!("{name}:{port}")).collect();
        let origins = hosts.iter().map(|host| format!("http://{host}")).collect();
        Self { hosts, origins }
    }

    fn admits(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.host_is_ours(uri, headers) && self.origin_is_ours(headers)
    }

    /// Exactly one host, ours. HTTP/2 has it in the URI's authority; where both are there, both count.
    fn host_is_ours(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let ours = |host: &str| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        let mut named = headers.get_all(header::HOST).iter();
        let (host, second) = (named.next(), named.next());
        let authority = uri.authority().map(|authority| authority.as_str());
        let header_ok = host.is_none_or(|host| host.to_str().is_ok_and(ours));
        let authority_ok = authority.is_none_or(ours);
        second.is_none() && (host.is_some() || authority.is_some()) && header_ok && authority_ok
    }

    fn origin_is_ours(&self, headers: &HeaderMap) -> bool {
        let ours = |origin: &str| self.origins.iter().any(|known| known == origin);
        headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(ours))
    }
}

/// Lets a request of ours through and refuses any other, in its endpoint's framing.
pub async fn stand(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.admits(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message = "this gateway answers only to its own address; use the baseUrl it printed";
    Failure::new(Denial::new(Code::HostForbidden, message))
        .framed(Framing::of(request.uri().path()))
        .into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn admits(uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        Guard::loopback(7077).admits(&uri.parse().unwrap(), &map)
    }

    #[test]
    fn only_the_bound_authority_with_its_port_is_answered() {
        assert!(admits("/", &[("host", "127.0.0.1:7077")]));
        assert!(admits("/", &[("host", "LOCALHOST:7077")]));
        assert!(admits("http://localhost:7077/", &[]), "HTTP/2 names it in the URI");
        for host in ["127.0.0.1", "127.0.0.1:7078", "evil.example:7077", "", "localhost:7077.", "a"]
        {
            assert!(!admits("/", &[("host", host)]), "{host}");
        }
        assert!(!admits("/", &[]), "no host at all");
        assert!(!admits("/", &[("host", "127.0.0.1:7077"), ("host", "127.0.0.1:7077")]));
        assert!(!admits("http://evil.example/", &[("host", "127.0.0.1:7077")]));
    }

    #[test]
    fn a_foreign_page_is_refused_and_no_origin_is_fine() {
        let host = ("host", "127.0.0.1:7077");
        assert!(admits("/", &[host, ("origin", "http://127.0.0.1:7077")]));
        for origin in ["http://evil.example", "null", "https://127.0.0.1:7077", "http://localhost"]
        {
            assert!(!admits("/", &[host, ("origin", origin)]), "{origin}");
        }
    }
}
