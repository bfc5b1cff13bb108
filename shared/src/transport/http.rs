//! A small HTTP/1.1 client over one TCP connection: what the owner's command line speaks to a gateway
//! with. Loopback and plain text only; every step has its time, every answer its bound.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
pub use hyper::{Method, StatusCode};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The base URL is not `http://host:port`.
    #[error("{0:?} is not the address of a gateway (http://127.0.0.1:PORT)")]
    Address(String),
    /// No one listens there.
    #[error("nothing answers at {0}: {1}")]
    Connect(String, std::io::Error),
    /// It took too long.
    #[error("the gateway took longer than {} s to answer", .0.as_secs())]
    Deadline(Duration),
    /// The exchange broke.
    #[error("the exchange with the gateway broke: {0}")]
    Broken(String),
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The method.
    pub method: Method,
    /// The path and query.
    pub path: &'a str,
    /// Headers beyond the usual.
    pub headers: Vec<(&'static str, &'a str)>,
    /// A JSON body.
    pub body: Option<Vec<u8>>,
}

impl<'a> Ask<'a> {
    /// A request without a body.
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: None }
    }

    /// A request with a JSON body.
    pub fn with_body(method: Method, path: &'a str, body: &serde_json::Value) -> Self {
        Self { method, path, headers: Vec::new(), body: Some(body.to_string().into_bytes()) }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, whole.
    pub body: Bytes,
}

/// Sends `ask` to the gateway at `base` and reads the whole answer, within `deadline`.
///
/// # Errors
/// See [`HttpError`].
pub async fn exchange(base: &str, ask: Ask<'_>, deadline: Duration) -> Result<Answer, HttpError> {
    let whole = async {
        let (status, body) = send(base, ask).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| HttpError::Broken(error.to_string()))?.to_bytes();
        Ok(Answer { status: status.status, body })
    };
    tokio::time::timeout(deadline, whole).await.map_err(|_| HttpError::Deadline(deadline))?
}

async fn send(base: &str, ask: Ask<'_>) -> Result<Response<Incoming>, HttpError> {
    let authority = base.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let authority = authority
        .filter(|authority| !authority.is_empty() && !authority.contains('/'))
        .ok_or_else(|| HttpError::Address(base.to_owned()))?;
    let broken = |error: &dyn std::fmt::Display| HttpError::Broken(error.to_string());
    let failed = |error| HttpError::Connect(base.to_owned(), error);
    let stream = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(authority))
        .await
        .map_err(|_| HttpError::Deadline(CONNECT_TIME))?
        .map_err(failed)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // Ends with the exchange: the sender is dropped with it.
    tokio::spawn(connection);
    let mut request =
        Request::builder().method(ask.method).uri(ask.path).header(header::HOST, authority);
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    if ask.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(ask.body.unwrap_or_default()));
    let request = request.body(body).map_err(|error| broken(&error))?;
    sender.send_request(request).await.map_err(|error| broken(&error))
}
