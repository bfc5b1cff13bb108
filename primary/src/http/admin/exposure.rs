//! What the owner shows.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::model::entry::CapabilityEntry;
use plexus_shared::model::exposure::ExposureRule;
use plexus_shared::source::registry::Listed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{bad_request, fault, unrecorded};
use crate::http::Services;
use crate::http::agent::well_known::gateway;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::store::Change;

/// The most rules, and the longest pattern in bytes.
const MAX_RULES: usize = 10_000;
const MAX_PATTERN: usize = 400;

#[derive(Serialize)]
struct Listing<'a> {
    #[serde(flatten)]
    entry: CapabilityEntry<'a>,
    exposed: bool,
}

impl<'a> Listing<'a> {
    fn of(listed: &'a Listed) -> Self {
        Self { entry: listed.target.entry(), exposed: listed.exposed }
    }
}

#[derive(Serialize)]
struct Listings<'a> {
    gateway: Value,
    revision: u64,
    entries: Vec<Listing<'a>>,
}

/// Shows every entry, hidden ones too.
pub async fn capabilities(State(services): State<Services>, _: Owner) -> Response {
    let catalog = services.core.registry.catalog();
    axum::Json(Listings {
        gateway: gateway(&services),
        revision: catalog.revision(),
        entries: catalog.all().map(Listing::of).collect(),
    })
    .into_response()
}

/// Shows the rules in order.
pub async fn rules(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    axum::Json(json!({ "rules": services.core.registry.rules().rules() }))
}

/// The body of `POST exposure/:pattern`.
#[derive(Deserialize)]
pub struct SetRequest {
    enabled: bool,
}

/// Shows or hides one id, or everything a pattern matches: the newest word on it.
pub async fn set(
    State(services): State<Services>,
    _: Owner,
    Path(pattern): Path<String>,
    Json(request): Json<SetRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let _gate = services.core.exposure_gate.lock().await;
    let rule = ExposureRule { pattern, enabled: request.enabled };
    let rules = services.core.registry.rules().with(rule.clone()).rules();
    apply(&services, rules, json!({ "set": rule })).await
}

/// Replaces the rules.
pub async fn replace(
    State(services): State<Services>,
    _: Owner,
    Json(rules): Json<Vec<ExposureRule>>,
) -> Result<axum::Json<Value>, Failure> {
    let _gate = services.core.exposure_gate.lock().await;
    let detail = json!({ "rules": rules });
    apply(&services, rules, detail).await
}

/// Records, keeps, then applies `rules`; calls that begin after the answer see them.
async fn apply(
    services: &Services,
    rules: Vec<ExposureRule>,
    detail: Value,
) -> Result<axum::Json<Value>, Failure> {
    let wrong = |rule: &&ExposureRule| rule.pattern.is_empty() || rule.pattern.len() > MAX_PATTERN;
    if rules.len() > MAX_RULES || rules.iter().any(|rule| wrong(&rule)) {
        return Err(bad_request(format!(
            "at most {MAX_RULES} rules, each with a pattern of 1 to {MAX_PATTERN} bytes"
        )));
    }
    let record = Record::new(EventType::ExposureSet).outcome(RecordOutcome::Ok).detail(&detail);
    services.core.audit.append(record).map_err(unrecorded)?;
    services.core.store.commit(vec![Change::SetRules(rules.clone())]).await.map_err(fault)?;
    services.core.registry.set_rules(rules.clone());
    let revision = services.core.registry.catalog().revision();
    Ok(axum::Json(json!({"ok": true, "rules": rules, "revision": revision})))
}
