//! A client for threads: blocking, over a connection of its own that stays open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;

use serde_json::Value;

use crate::PATIENCE;

/// A request as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// `what` is the method and the path.
    pub fn new(url: &str, what: &str, headers: &[(&str, &str)], body: &Value) -> Self {
        let (host, body) = (host(url), body.to_string());
        let length = body.len();
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!(
            "{what} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        Self(text.into_bytes())
    }
}

/// An open connection.
pub struct Wire(TcpStream);

impl Wire {
    /// Connects to the gateway at `url`.
    pub fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(host(url)).expect("the gateway is there");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends `request` and reads the whole answer.
    pub fn exchange(&mut self, request: &Request) -> (u16, Value) {
        self.send(&request.0);
        self.answer()
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the gateway reads");
    }

    /// Whether the gateway asks for the body of a request that said `Expect: 100-continue`.
    pub fn is_asked_for_more(&mut self) -> bool {
        let mut read = Vec::new();
        let mut byte = [0];
        while !read.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("an answer in time");
            read.extend(byte);
        }
        read.starts_with(b"HTTP/1.1 100 ")
    }

    /// Reads an answer.
    pub fn answer(&mut self) -> (u16, Value) {
        let mut read = Vec::with_capacity(1024);
        let mut chunk = [0; 4096];
        loop {
            if let Some((status, body)) = parse(&read) {
                return (status, body);
            }
            let more = self.0.read(&mut chunk).expect("an answer in time");
            assert_ne!(more, 0, "hung up after: {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&chunk[..more]);
        }
    }
}

fn host(url: &str) -> &str {
    url.strip_prefix("http://").expect("a plain URL")
}

/// The status and the JSON of an answer, once all of it is there.
fn parse(read: &[u8]) -> Option<(u16, Value)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (String::from_utf8_lossy(&read[..end]).to_lowercase(), &read[end + 4..]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("an answer says its length").parse().unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (body.len() >= length).then(|| (status, serde_json::from_slice(body).unwrap_or_default()))
}

/// Sends `requests` at once, each from a thread and over a connection of its own: the gateway has all
/// of every one but its last byte before any thread sends that.
pub fn at_once(url: &str, requests: &[Request]) -> Vec<(u16, Value)> {
    let waiting = requests.iter().map(|Request(bytes)| {
        let (last, rest) = bytes.split_last().unwrap();
        let mut wire = Wire::connect(url);
        wire.send(rest);
        (wire, *last)
    });
    let waiting: Vec<_> = waiting.collect();
    let ready = Barrier::new(requests.len());
    std::thread::scope(|scope| {
        let finish = |(mut wire, last): (Wire, u8)| {
            let ready = &ready;
            scope.spawn(move || {
                ready.wait();
                wire.send(&[last]);
                wire.answer()
            })
        };
        let threads: Vec<_> = waiting.into_iter().map(finish).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
