//! `GET /events` and `GET /admin/api/events`: what happens, as server-sent events.
//!
//! The answer begins with how soon to come back, then tells events as they come and a comment when
//! there are none. It ends with the session, with the gateway, or when the client goes: the body is
//! polled by the connection alone, so nothing of it outlives that.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use plexus_shared::model::denial::{Code, Denial};

use super::Services;
use super::error::Failure;
use super::extract::Owner;
use crate::events::{Crowded, Next, Subscription, Told, Viewer};
use crate::trust::sessions::Session;

/// How soon to come back after a break, in the protocol's own words.
const RETRY: &[u8] = b"retry: 3000\n\n";
/// Nothing happened: a line that readers pass over.
const QUIET: &[u8] = b": quiet\n\n";

/// Tells an agent what is meant for its session.
pub async fn for_agent(
    State(services): State<Services>,
    session: Session,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    tell(&services, Viewer::Session(session), &headers)
}

/// Tells the owner everything.
pub async fn for_owner(
    State(services): State<Services>,
    owner: Owner,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    tell(&services, Viewer::Owner(owner.key()), &headers)
}

fn tell(services: &Services, viewer: Viewer, headers: &HeaderMap) -> Result<Response, Failure> {
    let subscription = services.core.events.subscribe(viewer, last_seen(headers));
    let subscription = subscription.map_err(|crowded: Crowded| {
        Failure::new(Denial::new(Code::RateLimited, crowded.to_string()))
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::new(Stream::new(subscription))).into_response())
}

/// The number of the last event the client knows. One that can't be read was never given.
fn last_seen(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("last-event-id")?.to_str().unwrap_or("?").trim();
    (!text.is_empty()).then(|| text.parse().unwrap_or(0))
}

type Turn = Pin<Box<dyn Future<Output = (Subscription, Option<Next>)> + Send>>;

/// A subscription as a body.
struct Stream {
    begun: bool,
    turn: Option<Turn>,
}

impl Stream {
    fn new(subscription: Subscription) -> Self {
        Self { begun: false, turn: Some(turn(subscription)) }
    }
}

fn turn(mut subscription: Subscription) -> Turn {
    Box::pin(async move {
        let next = subscription.next().await;
        (subscription, next)
    })
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = |bytes: Bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if !std::mem::replace(&mut self.begun, true) {
            return data(Bytes::from_static(RETRY));
        }
        let Some(running) = &mut self.turn else { return Poll::Ready(None) };
        let Poll::Ready((subscription, next)) = running.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.turn = next.is_some().then(|| turn(subscription));
        match next {
            Some(Next::Told(told)) => data(spell(&told)),
            Some(Next::Quiet) => data(Bytes::from_static(QUIET)),
            None => Poll::Ready(None),
        }
    }
}

/// JSON has no raw line break, so an event is always these lines and no more.
fn spell(told: &Told) -> Bytes {
    let Told { id, name, data } = told;
    format!("event: {name}\nid: {id}\ndata: {data}\n\n").into()
}
