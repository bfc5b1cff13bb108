//! `/extensions`: an agent brings a source of its own, and takes it away.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use plexus_shared::ids::SourceId;
use plexus_shared::model::denial::{Code, Denial};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::extensions::{ExtensionError, RegisterError, Registering};
use crate::http::error::Failure;
use crate::http::extract::{SessionOrOwner, session_header};
use crate::http::limits::Asker;
use crate::http::{Services, extract};

/// The body of `POST /extensions`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    #[serde(default)]
    session_id: Option<String>,
    manifest: Box<RawValue>,
}

/// Puts an extension before the owner. It is not there before the owner's yes.
pub async fn register(
    State(services): State<Services>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<RegisterRequest>,
) -> Result<Json<Value>, Failure> {
    let named = session_header(&headers).or(body.session_id.as_deref());
    let session = services.trust.session(named)?;
    services.limits.request(&services.core, &Asker::live(&session.agent))?;
    let registering = services.extensions.register(&session, body.manifest).await;
    let revision = services.core.registry.catalog().revision();
    Ok(Json(match registering.map_err(as_told)? {
        Registering::Stands(preview) => json!({
            "ok": true, "source": preview.source, "registered": preview.ids(), "revision": revision,
        }),
        Registering::Waits(item) => json!({
            "ok": true,
            "source": item.registers(),
            "registered": [],
            "revision": revision,
            "status": "grant_pending_user",
            "pendingId": item.id,
            "pending": item.capabilities(),
            "statusUrl": format!("{}/grants/status?pendingId={}", services.base_url, item.id),
            "approvalUrl": format!("{}/admin#pending/{}", services.base_url, item.id),
        }),
    }))
}

/// Removes an extension: the owner any, an agent its own. For anyone else there is none.
pub async fn remove(
    State(services): State<Services>,
    SessionOrOwner(session): SessionOrOwner,
    Path(source): Path<String>,
) -> Result<Json<Value>, Failure> {
    let source: SourceId = source.parse().map_err(|_| unknown())?;
    match session {
        Some(session) => {
            services.extensions.take_back(&session, &source).await.map_err(as_told)?;
        }
        None => services.extensions.remove(&source).await.map_err(refused)?,
    }
    let revision = services.core.registry.catalog().revision();
    Ok(Json(json!({"ok": true, "source": source, "revision": revision})))
}

fn as_told(error: RegisterError) -> Failure {
    match error {
        RegisterError::Extension(error) => refused(error),
        RegisterError::Refused(denial) => (*denial).into(),
    }
}

fn unknown() -> Failure {
    let message = "there is no extension of this name that you may remove";
    Failure::new(Denial::new(Code::UnknownCapability, message))
}

/// What an agent is told: which names are taken, by whom and why, is not its business.
fn refused(error: ExtensionError) -> Failure {
    match error {
        ExtensionError::Manifest(ref problems) => {
            let denial = Denial::new(Code::SchemaValidationFailed, error.to_string());
            Failure::new(denial.with_detail(json!({ "problems": problems })))
        }
        ExtensionError::Reserved(_)
        | ExtensionError::Taken(_)
        | ExtensionError::Collision(_)
        | ExtensionError::Moved(_) => {
            let message = "this source name is taken; choose another";
            Failure::malformed(StatusCode::CONFLICT, message)
        }
        ExtensionError::Unknown(_) => unknown(),
        ExtensionError::Audit(_) | ExtensionError::Store(_) => {
            tracing::error!(%error, "an agent's extension was left as it was");
            Denial::internal("it could not be recorded and kept, so nothing was changed").into()
        }
    }
}
