//! The audit log, for the owner: newest first, a page at a time.
//!
//! The index answers; while it can't, the files do. Either way what is shown is the very line of the log.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use plexus_shared::audit::{Event, LogReader, ReadError, backwards, verify_by};
use plexus_shared::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{bad_request, fault};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::Owner;
use crate::store::audit_query::{Filter, Page};

/// Events in a page when it isn't said, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;
/// How long a page waits for the index to come up to the log.
const PATIENCE: Duration = Duration::from_secs(2);

/// The query of `GET audit`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuditQuery {
    agent: Option<String>,
    capability: Option<String>,
    r#type: Option<String>,
    outcome: Option<String>,
    tier: Option<String>,
    workload: Option<String>,
    correlation: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    q: Option<String>,
    cursor: Option<u64>,
    after: Option<u64>,
    limit: Option<usize>,
}

type Asked = Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>;

impl AuditQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
    }

    fn filter(self) -> Filter {
        Filter {
            agent: self.agent,
            capability: self.capability,
            event_type: self.r#type,
            outcome: self.outcome,
            tier: self.tier,
            workload: self.workload,
            correlation: self.correlation,
            since: self.since,
            until: self.until,
            text: self.q,
            before: self.cursor,
            after: self.after,
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Each as it stands in the log.
    events: Vec<Box<RawValue>>,
    /// Where the next page begins, when there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<u64>,
}

/// Shows a page of events: those before `cursor`, newest first, or those after `after`, oldest first.
pub async fn query(
    State(services): State<Services>,
    _: Owner,
    query: Asked,
) -> Result<axum::Json<Shown>, Failure> {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let limit = query.limit();
    let page = page(&services, query.filter(), limit).await?;
    let next_cursor = page.lines.last().filter(|_| page.is_full(limit)).map(|line| line.seq);
    let events = page.lines.into_iter().map(|line| RawValue::from_string(line.text));
    let events = events.collect::<Result<_, _>>().map_err(fault)?;
    Ok(axum::Json(Shown { events, next_cursor }))
}

/// Streams every line that is asked for, oldest first, as it stands in the log.
pub async fn export(
    State(services): State<Services>,
    _: Owner,
    query: Asked,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let filter = query.filter();
    let end = services.core.audit.head().seq;
    let filter = Filter {
        after: Some(filter.after.unwrap_or(0)),
        before: Some(filter.before.unwrap_or(end.saturating_add(1))),
        ..filter
    };
    let (lines, streamed) = mpsc::channel(2);
    // Whoever goes away ends it: the channel is closed then.
    services.core.tasks.clone().spawn(send_all(services, filter, lines));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::new(Streamed(streamed))).into_response())
}

type Piece = Result<Bytes, Broken>;

async fn send_all(services: Services, mut filter: Filter, lines: mpsc::Sender<Piece>) {
    loop {
        let Ok(page) = page(&services, filter.clone(), MAX_PAGE).await else {
            // Broken off, so that no one takes a part for the whole.
            let _ = lines.send(Err(Broken)).await;
            return;
        };
        for line in &page.lines {
            if lines.send(Ok(format!("{}\n", line.text).into())).await.is_err() {
                return;
            }
        }
        match page.lines.last() {
            Some(last) if page.is_full(MAX_PAGE) => filter.after = Some(last.seq),
            _ => return,
        }
    }
}

/// The log can't be read on.
#[derive(Debug, thiserror::Error)]
#[error("the audit log could not be read to its end")]
struct Broken;

/// A body that is sent piece by piece.
struct Streamed(mpsc::Receiver<Piece>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// The first `limit` lines that `filter` asks for. All that was recorded before this is looked at.
async fn page(services: &Services, filter: Filter, limit: usize) -> Result<Page, Failure> {
    let core = services.core.clone();
    let head = core.audit.head().seq;
    let index = match &core.audit_index {
        Some(index) if index.reach(head, PATIENCE).await => Some(Arc::clone(index)),
        _ => None,
    };
    let look = move || {
        if let Some(index) = index {
            match index.find(&filter, limit) {
                Ok(page) => return Ok(page),
                Err(error) => tracing::warn!(%error, "the audit files are read instead"),
            }
        }
        read_files(core.audit.folder(), &filter, limit)
    };
    tokio::task::spawn_blocking(look).await.map_err(fault)?.map_err(fault)
}

/// The same from the files.
pub(crate) fn read_files(
    folder: &std::path::Path,
    filter: &Filter,
    limit: usize,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    let Some(after) = filter.after else {
        backwards(folder, filter.before, |event| {
            let text = json!(event).to_string();
            if filter.accepts(&event, &text) {
                page.add(event.seq, text);
            }
            if page.is_full(limit) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        return Ok(page);
    };
    let mut reader = LogReader::from_seq(folder, after.saturating_add(1));
    loop {
        let lines = reader.next_batch(1000, 4 << 20)?;
        let is_over = |seq| filter.before.is_some_and(|before| seq >= before);
        let at_end = lines.last().is_none_or(|line| is_over(line.seq));
        for line in lines {
            let Ok(event) = serde_json::from_str::<Event>(&line.text) else { continue };
            if filter.accepts(&event, &line.text) {
                page.add(line.seq, line.text);
            }
            if page.is_full(limit) {
                return Ok(page);
            }
        }
        if at_end {
            return Ok(page);
        }
    }
}

/// Walks the whole chain.
pub async fn verify(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    let folder = services.core.audit.folder().to_owned();
    let key = services.mesh.public_key();
    let walked = tokio::task::spawn_blocking(move || verify_by(&folder, Some(key)));
    let report = walked.await.map_err(fault)?.map_err(fault)?;
    let mut body = json!({
        "ok": report.first_bad.is_none(),
        "files": report.files,
        "removedFiles": report.removed_files,
        "events": report.events,
        "signedThrough": report.signed_through,
        "publicKey": report.public_key,
    });
    if let Some(bad) = report.first_bad {
        body["firstBad"] = json!(bad);
    }
    Ok(axum::Json(body))
}
