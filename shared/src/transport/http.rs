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
use tokio::task::JoinSet;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long an open stream may be silent; a gateway says something every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line of a stream, in bytes.
const MAX_LINE: usize = 4 << 20;
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
        let (response, _driving) = send(base, ask).await?;
        let (status, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| HttpError::Broken(error.to_string()))?.to_bytes();
        Ok(Answer { status: status.status, body })
    };
    tokio::time::timeout(deadline, whole).await.map_err(|_| HttpError::Deadline(deadline))?
}

/// Sends `ask` to the gateway at `base`; an answer that is a success is read line by line, as it comes.
/// Its head must come within `deadline`.
///
/// # Errors
/// See [`HttpError`].
pub async fn stream(base: &str, ask: Ask<'_>, deadline: Duration) -> Result<Streamed, HttpError> {
    let head = tokio::time::timeout(deadline, send(base, ask)).await;
    let (response, driving) = head.map_err(|_| HttpError::Deadline(deadline))??;
    let (head, body) = response.into_parts();
    let lines = Lines { body, held: Vec::new(), looked: 0, _driving: driving };
    if head.status.is_success() {
        return Ok(Streamed::Lines(lines));
    }
    let rest = Limited::new(lines.body, MAX_ANSWER).collect();
    let rest = tokio::time::timeout(deadline, rest).await;
    let body = rest.map_err(|_| HttpError::Deadline(deadline))?;
    let body = body.map_err(|error| HttpError::Broken(error.to_string()))?.to_bytes();
    Ok(Streamed::Refused(Answer { status: head.status, body }))
}

/// What a stream was answered with.
#[derive(Debug)]
pub enum Streamed {
    /// Lines, as they come.
    Lines(Lines),
    /// Anything but a success, whole.
    Refused(Answer),
}

/// The lines of an open stream.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    held: Vec<u8>,
    /// How much of `held` is known to have no line's end.
    looked: usize,
    _driving: Driving,
}

/// What moves the bytes of an exchange; it ends with the exchange.
type Driving = JoinSet<hyper::Result<()>>;

impl Lines {
    /// The next line, without its end; `None` when the stream has ended. Dropped half-way, nothing is
    /// lost.
    ///
    /// # Errors
    /// When the stream breaks, is silent for a minute, or has an endless line.
    pub async fn next(&mut self) -> Result<Option<String>, HttpError> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.held.len() > MAX_LINE {
                return Err(HttpError::Broken(format!("a line has more than {MAX_LINE} bytes")));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| HttpError::Deadline(SILENCE))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<String> {
        let end = self.held.iter().skip(self.looked).position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.looked) else {
            self.looked = self.held.len();
            return None;
        };
        let mut line: Vec<_> = self.held.drain(..=end).collect();
        self.looked = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

async fn send(base: &str, ask: Ask<'_>) -> Result<(Response<Incoming>, Driving), HttpError> {
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
    let mut driving = JoinSet::new();
    driving.spawn(connection);
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
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok((response, driving))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers one request with these pieces, then hangs up.
    async fn answering(pieces: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            for piece in pieces {
                // The client may have had enough.
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
                let _ = stream.flush().await;
                tokio::task::yield_now().await;
            }
        });
        base
    }

    async fn lines(pieces: &[&[u8]]) -> Lines {
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        let base = answering(pieces).await;
        match stream(&base, Ask::get("/"), Duration::from_secs(30)).await.unwrap() {
            Streamed::Lines(lines) => lines,
            Streamed::Refused(answer) => panic!("{answer:?}"),
        }
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let mut lines = lines(&[b"HTTP/1.1 200 OK\r\n\r\none\r\ntw", b"o\n", b"\nlost"]).await;
        for expected in ["one", "two", ""] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected);
        }
        assert_eq!(lines.next().await.unwrap(), None, "a line without its end is none");
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_off() {
        let endless = vec![b'x'; MAX_LINE + (1 << 20)];
        let mut lines = lines(&[b"HTTP/1.1 200 OK\r\n\r\n", &endless]).await;
        assert!(matches!(lines.next().await, Err(HttpError::Broken(_))));
    }

    #[tokio::test]
    async fn a_refusal_is_read_whole() {
        let head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nmuch".to_vec();
        let base = answering(vec![head]).await;
        let refused = stream(&base, Ask::get("/"), Duration::from_secs(30)).await.unwrap();
        let Streamed::Refused(answer) = refused else { panic!("taken for a stream") };
        assert_eq!((answer.status.as_u16(), &*answer.body), (429, &b"much"[..]));
    }
}
