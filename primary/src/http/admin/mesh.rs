//! The mesh, for the owner.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use plexus_mesh_proto::address::WorkloadName;
use plexus_shared::model::denial::Code;
use plexus_shared::model::trust::Provenance;
use serde::Deserialize;
use serde_json::json;

use super::{bad_request, fault, refuse};
use crate::http::Services;
use crate::http::error::Failure;
use crate::http::extract::{Json, Owner};
use crate::mesh::{Invite, InviteError, MeshView};

/// Shows the mesh.
pub async fn show(State(services): State<Services>, _: Owner) -> axum::Json<MeshView> {
    axum::Json(services.mesh.view())
}

/// The body of `POST mesh/invite`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InviteRequest {
    workload: WorkloadName,
    #[serde(default)]
    ttl_ms: Option<u64>,
    #[serde(default)]
    expose: Vec<String>,
    #[serde(default)]
    trust: Option<Class>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Managed,
    Extension,
}

/// Invites a workload: one line that admits it, once.
pub async fn invite(
    State(services): State<Services>,
    _: Owner,
    Json(request): Json<InviteRequest>,
) -> Result<Response, Failure> {
    if request.expose.len() > 100 || request.expose.iter().any(|p| p.is_empty() || p.len() > 200) {
        return Err(bad_request("expose takes at most 100 patterns of 1 to 200 bytes"));
    }
    let workload = request.workload.clone();
    let order = Invite {
        workload: request.workload,
        ttl: request.ttl_ms.map(Duration::from_millis),
        expose: request.expose,
        class: match request.trust {
            Some(Class::Managed) => Provenance::Managed,
            Some(Class::Extension) | None => Provenance::Extension,
        },
    };
    let invitation = services.mesh.invite(order).await.map_err(|error| match error {
        InviteError::Taken(_) => refuse(StatusCode::CONFLICT, Code::SchemaValidationFailed, error),
        InviteError::Audit(_) | InviteError::Store(_) | InviteError::Ticket(_) => fault(error),
    })?;
    let body = json!({
        "ticket": *invitation.ticket,
        "expiresAt": invitation.expires_at,
        "workload": workload,
        "joinCommand": "plexus-proxy join --ticket-file -",
        "loopbackOnly": services.mesh.loopback_only(),
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}
