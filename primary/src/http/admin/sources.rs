//! Configured sources.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use plexus_shared::ids::SourceId;
use plexus_shared::model::denial::Code;
use plexus_shared::model::plain;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bad_request, fault, refuse};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::sources::{Alteration, SourceError};
use crate::store::rows::SourceRow;

/// Lists sources.
pub async fn list(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    axum::Json(json!({ "sources": services.sources.view() }))
}

/// The body of `POST sources`.
#[derive(Deserialize)]
pub struct AddRequest {
    id: SourceId,
    kind: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(deserialize_with = "plain::member")]
    config: Value,
}

const fn enabled() -> bool {
    true
}

/// Adds a source.
pub async fn add(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<AddRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let AddRequest { id, kind, label, enabled, config } = request;
    if services.extensions.has(&id) {
        return Err(refused(SourceError::Taken(id)));
    }
    let label = label.map(|label| crate::trust::narration::plain(&label, 120));
    let row = SourceRow { id: id.clone(), kind, label, enabled, config };
    let registered = services.sources.add(row).await.map_err(refused)?;
    let revision = services.core.registry.catalog().revision();
    Ok(axum::Json(json!({
        "ok": true, "source": id, "registered": registered, "revision": revision,
    })))
}

/// Starts a source.
pub async fn enable(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    alter(&services, &id, &Alteration::Enable).await
}

/// Stops a source, which stays configured.
pub async fn disable(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    alter(&services, &id, &Alteration::Disable).await
}

/// The body of `POST sources/:id/reconfigure`.
#[derive(Deserialize)]
pub struct ReconfigureRequest {
    #[serde(default)]
    label: Option<String>,
    #[serde(deserialize_with = "plain::member")]
    config: Value,
}

/// Makes a source something else.
pub async fn reconfigure(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
    Json(request): Json<ReconfigureRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let ReconfigureRequest { label, config } = request;
    let label = label.map(|label| crate::trust::narration::plain(&label, 120));
    alter(&services, &id, &Alteration::Reconfigure { config, label }).await
}

async fn alter(
    services: &Services,
    id: &str,
    alteration: &Alteration,
) -> Result<axum::Json<Value>, Failure> {
    let id: SourceId = id.parse().map_err(bad_request)?;
    let registered = services.sources.alter(&id, alteration, &services.trust).await;
    let registered = registered.map_err(refused)?;
    let revision = services.core.registry.catalog().revision();
    Ok(axum::Json(json!({
        "ok": true, "source": id, "registered": registered, "revision": revision,
    })))
}

/// Removes a source.
pub async fn remove(
    State(services): State<Services>,
    _: Owner,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    let id: SourceId = id.parse().map_err(bad_request)?;
    services.sources.remove(&id, &services.trust).await.map_err(refused)?;
    let revision = services.core.registry.catalog().revision();
    Ok(axum::Json(json!({"ok": true, "source": id, "revision": revision})))
}

fn refused(error: SourceError) -> Failure {
    match error {
        SourceError::Taken(_) | SourceError::Collision(_) => {
            refuse(StatusCode::CONFLICT, Code::SchemaValidationFailed, error)
        }
        SourceError::Unknown(_) => refuse(StatusCode::NOT_FOUND, Code::UnknownCapability, error),
        SourceError::Kind(_) | SourceError::Config(_) => bad_request(error),
        SourceError::Audit(_) | SourceError::Store(_) => fault(error),
    }
}
