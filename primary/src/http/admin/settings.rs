//! The owner's settings, the addresses the gateway listens on, and the emergency stop.

use axum::extract::State;
use axum::http::StatusCode;
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::model::denial::Code;
use plexus_shared::model::plain::Plain;
use serde_json::{Value, json};

use super::{bad_request, fault, refuse, unrecorded};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::network::{self, NETWORK, Network};
use crate::settings::{self, Policy, Settings};

/// Shows the settings in force, the defaults too.
pub async fn show(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    axum::Json(json!({ "settings": services.core.settings.now() }))
}

/// Replaces the settings: checked whole, kept, then in force for whatever begins after the answer.
pub async fn replace(
    State(services): State<Services>,
    _: Owner,
    Json(Plain(document)): Json<Plain>,
) -> Result<axum::Json<Value>, Failure> {
    let after = Settings::parse(&document).map_err(bad_request)?;
    let _gate = services.settings_gate.lock().await;
    let before = services.core.settings.now();
    if after.policy == Policy::AutoApprove && before.policy != Policy::AutoApprove {
        let why = "policy: auto-approve is for tests; only auth-config.json itself can say so";
        return Err(refuse(StatusCode::BAD_REQUEST, Code::SchemaValidationFailed, why));
    }
    let record = Record::new(EventType::SettingsChange).outcome(RecordOutcome::Ok);
    let record = record.detail(&json!({"before": before, "after": after}));
    services.core.audit.append(record.clone()).map_err(unrecorded)?;
    if let Err(error) = settings::save(&services.state, &after) {
        services.core.note_failure(record);
        return Err(fault(error));
    }
    services.core.settings.set(after);
    services.core.audit.decide(after.audit_durability, after.audit_retention_days);
    Ok(axum::Json(json!({"ok": true, "settings": after})))
}

/// Shows where the gateway can be reached, and what the next start will open.
pub async fn network(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    let next = network::load(&services.state).map_err(fault)?;
    Ok(axum::Json(json!({"network": next, "reach": services.reach})))
}

/// Keeps what the next start will open.
pub async fn set_network(
    State(services): State<Services>,
    _: Owner,
    Json(Plain(document)): Json<Plain>,
) -> Result<axum::Json<Value>, Failure> {
    let network = Network::parse(&document).map_err(bad_request)?;
    let _gate = services.settings_gate.lock().await;
    let record = Record::new(EventType::SettingsChange).outcome(RecordOutcome::Ok);
    let record = record.detail(&json!({"file": NETWORK, "after": network}));
    services.core.audit.append(record.clone()).map_err(unrecorded)?;
    if let Err(error) = network::save(&services.state, &network) {
        services.core.note_failure(record);
        return Err(fault(error));
    }
    Ok(axum::Json(json!({
        "ok": true,
        "network": network,
        "note": "restart the gateway for it to take effect",
    })))
}

/// Freezes the gateway.
pub async fn panic(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    let frozen = services.trust.freeze().await.map_err(|error| {
        fault(format!("agents are refused now, but it could not all be kept: {error}"))
    })?;
    Ok(axum::Json(json!({"ok": true, "frozen": true, "ended": frozen})))
}

/// Lets agents in again.
pub async fn resume(
    State(services): State<Services>,
    _: Owner,
) -> Result<axum::Json<Value>, Failure> {
    services.trust.resume().await.map_err(fault)?;
    Ok(axum::Json(json!({"ok": true, "frozen": false})))
}
