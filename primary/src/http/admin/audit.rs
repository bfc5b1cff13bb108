//! The audit log, for the owner: newest first, a page at a time.

use axum::extract::{Query, State};
use plexus_shared::audit::{Event, tail, verify as verify_log};
use plexus_shared::clock::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bad_request, fault};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::Owner;

/// Events in a page when it isn't said, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// The query of `GET audit`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuditQuery {
    agent: Option<String>,
    capability: Option<String>,
    r#type: Option<String>,
    outcome: Option<String>,
    tier: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    q: Option<String>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

impl AuditQuery {
    fn accepts(&self, event: &Event) -> bool {
        let is = |asked: &Option<String>, found: Option<&str>| {
            asked.as_deref().is_none_or(|asked| found == Some(asked))
        };
        is(&self.agent, event.agent_id.as_ref().map(plexus_shared::ids::AgentId::as_str))
            && is(&self.capability, event.capability_id.as_deref())
            && is(&self.r#type, Some(event.event_type.as_str()))
            && is(&self.outcome, event.outcome.map(plexus_shared::audit::RecordOutcome::as_str))
            && is(&self.tier, event.tier.map(plexus_shared::audit::Tier::as_str))
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
            && self.q.as_deref().is_none_or(|text| json!(event).to_string().contains(text))
    }
}

/// Shows a page of events.
pub async fn query(
    State(services): State<Services>,
    _: Owner,
    query: Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<axum::Json<Value>, Failure> {
    let Query(query) = query.map_err(|error| bad_request(error.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let folder = services.core.audit.folder().to_owned();
    let cursor = query.cursor;
    let page = tokio::task::spawn_blocking(move || {
        tail(&folder, cursor, limit, |event| query.accepts(event))
    });
    let events = page.await.map_err(fault)?.map_err(fault)?;
    let next = (events.len() == limit).then(|| events.last().map(|event| event.seq)).flatten();
    let mut body = json!({ "events": events });
    if let Some(next) = next {
        body["nextCursor"] = json!(next);
    }
    Ok(axum::Json(body))
}

/// Walks the whole chain.
pub async fn verify(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    let folder = services.core.audit.folder().to_owned();
    let walked = tokio::task::spawn_blocking(move || verify_log(&folder));
    let report = walked.await.map_err(fault)?.map_err(fault)?;
    let mut body = json!({
        "ok": report.first_bad.is_none(),
        "files": report.files,
        "events": report.events,
    });
    if let Some(bad) = report.first_bad {
        body["firstBad"] = json!(bad);
    }
    Ok(axum::Json(body))
}
