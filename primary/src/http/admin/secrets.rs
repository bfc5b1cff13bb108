//! Secrets: put, listed by name, removed. A value comes in here and goes out nowhere.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::model::denial::Code;
use plexus_shared::transport::secrets::SecretError;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{bad_request, fault, refuse, unrecorded};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};

#[derive(Deserialize)]
struct SecretRequest {
    value: String,
}

/// Lists secrets: names and times, never a value.
pub async fn list(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    let secrets = services.secrets.list().map_err(refused)?;
    Ok(axum::Json(json!({ "secrets": secrets })))
}

/// Puts a secret: calls that begin after the answer get it.
pub async fn put(
    State(services): State<Services>,
    _: Owner,
    Path(name): Path<String>,
    Json(body): Json<Box<RawValue>>,
) -> Result<axum::Json<Value>, Failure> {
    // What is wrong with a body is not told in its own words: they may be the secret.
    let shape = |_| bad_request("send {\"value\": \"…\"}, a text");
    let request: SecretRequest = serde_json::from_str(body.get()).map_err(shape)?;
    let value = Zeroizing::new(request.value);
    let _gate = services.settings_gate.lock().await;
    services.secrets.check(&name, &value).map_err(refused)?;
    changed(&services, &name, "put", || services.secrets.put(&name, &value))
}

/// Removes a secret: what is called after the answer goes without it.
pub async fn remove(
    State(services): State<Services>,
    _: Owner,
    Path(name): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    let _gate = services.settings_gate.lock().await;
    let known = services.secrets.list().map_err(refused)?;
    if known.iter().all(|secret| secret.name != name) {
        return Err(refused(SecretError::Unknown(name.chars().take(64).collect())));
    }
    changed(&services, &name, "remove", || services.secrets.remove(&name))
}

/// Records, by its name alone, what is done to a secret, then does it.
fn changed(
    services: &Services,
    name: &str,
    action: &str,
    change: impl FnOnce() -> Result<(), SecretError>,
) -> Result<axum::Json<Value>, Failure> {
    let record = Record::new(EventType::SettingsChange).outcome(RecordOutcome::Ok);
    let record = record.detail(&json!({"file": "secrets", "name": name, "action": action}));
    services.core.audit.append(record.clone()).map_err(unrecorded)?;
    change().map_err(|error| {
        services.core.note_failure(record);
        refused(error)
    })?;
    Ok(axum::Json(json!({"ok": true, "name": name})))
}

fn refused(error: SecretError) -> Failure {
    match error {
        SecretError::Name | SecretError::Value => bad_request(error),
        SecretError::Full => refuse(StatusCode::CONFLICT, Code::SchemaValidationFailed, error),
        SecretError::Unknown(_) => refuse(StatusCode::NOT_FOUND, Code::UnknownCapability, error),
        SecretError::Folder(_) => fault(error),
    }
}
