//! Extensions: seen before they are taken, taken, listed, removed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use plexus_shared::ids::SourceId;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::trust::Provenance;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{bad_request, fault, refuse};
use crate::extensions::ExtensionError;
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};

/// The body of `POST extensions` and `POST extensions/preview`.
#[derive(Deserialize)]
pub struct ExtensionRequest {
    manifest: Box<RawValue>,
}

/// Lists extensions.
pub async fn list(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    axum::Json(json!({ "extensions": services.extensions.view() }))
}

/// Shows what a manifest would bring and reach.
pub async fn preview(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<ExtensionRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let preview = services.extensions.preview(request.manifest.get()).map_err(refused)?;
    Ok(axum::Json(json!({"ok": true, "preview": preview})))
}

/// Takes an extension: what the owner adds is managed.
pub async fn install(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<ExtensionRequest>,
) -> Result<axum::Json<Value>, Failure> {
    let installing = services.extensions.install(request.manifest.get(), Provenance::Managed);
    let shown = installing.await.map_err(refused)?;
    let revision = services.core.registry.catalog().revision();
    let registered = shown.ids();
    Ok(axum::Json(json!({
        "ok": true, "source": shown.source, "registered": registered, "reach": shown.reach,
        "revision": revision,
    })))
}

/// Removes an extension.
pub async fn remove(
    State(services): State<Services>,
    _: Owner,
    Path(source): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    let source: SourceId = source.parse().map_err(bad_request)?;
    services.extensions.remove(&source).await.map_err(refused)?;
    let revision = services.core.registry.catalog().revision();
    Ok(axum::Json(json!({"ok": true, "source": source, "revision": revision})))
}

pub(super) fn refused(error: ExtensionError) -> Failure {
    match error {
        ExtensionError::Manifest(ref problems) => {
            let denial = Denial::new(Code::SchemaValidationFailed, error.to_string());
            Failure::new(denial.with_detail(json!({ "problems": problems })))
        }
        ExtensionError::Taken(_)
        | ExtensionError::Collision(_)
        | ExtensionError::Reserved(_)
        | ExtensionError::Moved(_) => {
            refuse(StatusCode::CONFLICT, Code::SchemaValidationFailed, error)
        }
        ExtensionError::Unknown(_) => refuse(StatusCode::NOT_FOUND, Code::UnknownCapability, error),
        ExtensionError::Audit(_) | ExtensionError::Store(_) => fault(error),
    }
}
