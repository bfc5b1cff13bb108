//! HTTP by hand: requests that no client would send, from addresses of one's own choice.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// The JSON of the body; null where it is something else, or a stream.
    pub body: Value,
}

impl RawAnswer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| *known == name).map(|(_, value)| value).next()
    }

    /// The error's code.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

/// Sends `request` as it is to the gateway at `url`, and reads until that hangs up. An event stream is
/// read no further than its head.
pub async fn raw(url: &str, request: &str) -> RawAnswer {
    raw_from(Ipv4Addr::LOCALHOST, url, request).await
}

/// The same from `address`, one of this machine's: wrong credentials are counted by address.
pub async fn raw_from(address: Ipv4Addr, url: &str, request: &str) -> RawAnswer {
    let exchange = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        let there = url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut stream = socket.connect(there).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
        let stream_began = |heard: &[u8]| {
            let text = String::from_utf8_lossy(heard);
            text.contains("text/event-stream") && text.contains("\r\n\r\n")
        };
        while !stream_began(&heard) {
            match stream.read(&mut piece).await.unwrap() {
                0 => break,
                read => heard.extend_from_slice(&piece[..read]),
            }
        }
        heard
    };
    let heard = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer");
    let text = String::from_utf8_lossy(&heard);
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
    RawAnswer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: serde_json::from_str(rest).unwrap_or_default(),
    }
}
