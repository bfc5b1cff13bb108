//! Every route there is.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use plexus_shared::model::denial::{Code, Denial};

use super::error::{Failure, Framing};
use super::guard::{Guard, stand};
use super::{Services, admin, agent, events};

/// The routes over `services`, behind `guard`.
pub fn router(services: Services, guard: Guard) -> Router {
    let frozen = middleware::from_fn_with_state(services.clone(), stand_still);
    let agents = agent_plane().layer(frozen.clone());
    let carried = agents.nest("/admin/api", admin_plane());
    Router::new()
        .merge(carried.layer(middleware::from_fn(carry_through)))
        // A call alone ends with its caller: whoever goes away takes it along.
        .route("/invoke", post(agent::invoke::call).layer(frozen))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(services)
        .layer(middleware::from_fn_with_state(guard, stand))
}

fn agent_plane() -> Router<Services> {
    Router::new()
        .route("/.well-known/plexus", get(agent::well_known::show))
        .route("/agents/enroll", post(agent::enroll::redeem))
        .route("/link/handshake", post(agent::handshake::open))
        .route("/manifest", get(agent::handshake::manifest))
        .route("/grants", get(agent::grants::list).put(agent::grants::request))
        .route("/grants/status", get(agent::grants::status))
        .route("/grants/context", get(agent::lifecycle::context))
        .route("/grants/refresh", post(agent::lifecycle::refresh))
        .route("/grants/revoke", post(agent::lifecycle::revoke))
        .route("/events", get(events::for_agent))
}

/// While the owner has frozen the gateway, agents hear nothing else.
async fn stand_still(State(services): State<Services>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !services.trust.is_frozen() || path == "/.well-known/plexus" {
        return next.run(request).await;
    }
    let message = "the owner has frozen this gateway; try again once the owner resumes it";
    let denial = Denial::new(Code::SourceUnavailable, message);
    Failure::new(denial).framed(Framing::of(path)).into_response()
}

/// Runs a request to its end, whoever still waits for the answer: a change that was begun is made
/// whole. A panic becomes an answer like any other fault.
async fn carry_through(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    tokio::spawn(next.run(request)).await.unwrap_or_else(|error| {
        tracing::error!(%error, path, "a request ended in a panic");
        let denial = Denial::internal("the gateway failed; its log says why");
        Failure::new(denial).framed(Framing::of(&path)).into_response()
    })
}

fn admin_plane() -> Router<Services> {
    Router::new()
        .route("/agents/connect", post(admin::agents::connect))
        .route("/agents/revoke", post(admin::ledger::revoke_agent))
        .route("/agents/enrollments", get(admin::agents::list))
        .route("/pending", get(admin::pending::list))
        .route("/pending/{id}", post(admin::pending::answer))
        .route("/grants", get(admin::agents::grants).put(admin::ledger::grant))
        .route("/revoke", post(admin::ledger::revoke))
        .route("/tokens", get(admin::ledger::tokens))
        .route("/bundles", get(admin::ledger::bundles))
        .route("/bundles/{id}", delete(admin::ledger::drop_bundle))
        .route("/key/rotate", post(admin::ledger::rotate_key))
        .route("/capabilities", get(admin::exposure::capabilities))
        .route("/exposure", get(admin::exposure::rules).put(admin::exposure::replace))
        .route("/exposure/{*pattern}", post(admin::exposure::set))
        .route("/sources", get(admin::sources::list).post(admin::sources::add))
        .route("/sources/{id}", delete(admin::sources::remove))
        .route("/extensions", get(admin::extensions::list).post(admin::extensions::install))
        .route("/extensions/preview", post(admin::extensions::preview))
        .route("/extensions/{source}", delete(admin::extensions::remove))
        .route("/mesh", get(admin::mesh::show))
        .route("/mesh/invite", post(admin::mesh::invite))
        .route("/mesh/join-token", post(admin::mesh::invite))
        .route("/audit", get(admin::audit::query))
        .route("/audit/export", get(admin::audit::export))
        .route("/audit/verify", get(admin::audit::verify))
        .route("/settings", get(admin::settings::show).put(admin::settings::replace))
        .route("/network", get(admin::settings::network).post(admin::settings::set_network))
        .route("/doctor", get(admin::doctor::show))
        .route("/panic", post(admin::settings::panic))
        .route("/resume", post(admin::settings::resume))
        .route("/status", get(admin::status::show))
        .route("/events", get(events::for_owner))
}

async fn nothing_here() -> Failure {
    let denial = Denial::new(
        Code::UnknownCapability,
        "there is no such route; GET /.well-known/plexus lists them",
    );
    Failure::new(denial).with_status(StatusCode::NOT_FOUND)
}

async fn wrong_method() -> Failure {
    let message = "this route takes another method; GET /.well-known/plexus lists them";
    Failure::malformed(StatusCode::METHOD_NOT_ALLOWED, message)
}
