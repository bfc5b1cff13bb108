//! Every route there is.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use plexus_shared::model::denial::{Code, Denial};

use super::error::{Failure, Framing};
use super::guard::{Guard, stand};
use super::{Services, admin, agent, events, page};

/// Where the owner's plane begins.
const OWNER: &str = "/admin/api";

/// One route: how it is asked for, and what answers.
struct Route {
    method: Method,
    path: &'static str,
    answer: MethodRouter<Services>,
}

macro_rules! routes_of {
    ($($name:ident $method:ident),*) => {$(
        fn $name<H: Handler<T, Services>, T: 'static>(path: &'static str, handler: H) -> Route {
            Route { method: Method::$method, path, answer: routing::$name(handler) }
        }
    )*};
}
routes_of!(get GET, put PUT, post POST, delete DELETE);

/// Every route there is, by method and path: what [`router`] is built from.
pub fn routes() -> impl Iterator<Item = (Method, String)> {
    let under =
        |base: &'static str| move |route: Route| (route.method, format!("{base}{}", route.path));
    let agents = agent_plane().into_iter().chain([call(), front()]).map(under(""));
    agents.chain(owner_plane().into_iter().map(under(OWNER)))
}

/// The routes over `services`, behind `guard`.
pub fn router(services: Services, guard: Guard) -> Router {
    let frozen = middleware::from_fn_with_state(services.clone(), stand_still);
    let agents = built_of(agent_plane()).layer(frozen.clone());
    let carried = agents.nest(OWNER, built_of(owner_plane()));
    Router::new()
        .merge(carried.layer(middleware::from_fn_with_state(services.clone(), carry_through)))
        // A call alone ends with its caller: whoever goes away takes it along.
        .merge(built_of([call()]).layer(frozen))
        .merge(built_of([front()]))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(services)
        .layer(middleware::from_fn_with_state(guard, stand))
}

/// The only place that adds a route to a router.
fn built_of(routes: impl IntoIterator<Item = Route>) -> Router<Services> {
    let add = |router: Router<Services>, route: Route| router.route(route.path, route.answer);
    routes.into_iter().fold(Router::new(), add)
}

fn call() -> Route {
    post("/invoke", agent::invoke::call)
}

fn front() -> Route {
    get("/admin", page::show)
}

fn agent_plane() -> Vec<Route> {
    vec![
        get("/.well-known/plexus", agent::well_known::show),
        post("/agents/enroll", agent::enroll::redeem),
        post("/link/handshake", agent::handshake::open),
        get("/manifest", agent::handshake::manifest),
        get("/grants", agent::grants::list),
        put("/grants", agent::grants::request),
        get("/grants/status", agent::grants::status),
        get("/grants/context", agent::lifecycle::context),
        post("/grants/refresh", agent::lifecycle::refresh),
        post("/grants/revoke", agent::lifecycle::revoke),
        get("/events", events::for_agent),
        post("/extensions", agent::extensions::register),
        delete("/extensions/{source}", agent::extensions::remove),
    ]
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
async fn carry_through(State(services): State<Services>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    services.core.tasks.spawn(next.run(request)).await.unwrap_or_else(|error| {
        tracing::error!(%error, path, "a request ended in a panic");
        let denial = Denial::internal("the gateway failed; its log says why");
        Failure::new(denial).framed(Framing::of(&path)).into_response()
    })
}

fn owner_plane() -> Vec<Route> {
    vec![
        post("/agents/connect", admin::agents::connect),
        post("/agents/revoke", admin::ledger::revoke_agent),
        get("/agents/enrollments", admin::agents::list),
        get("/pending", admin::pending::list),
        post("/pending/{id}", admin::pending::answer),
        get("/grants", admin::agents::grants),
        put("/grants", admin::ledger::grant),
        post("/revoke", admin::ledger::revoke),
        get("/tokens", admin::ledger::tokens),
        get("/bundles", admin::ledger::bundles),
        post("/bundles", admin::ledger::bundle),
        delete("/bundles/{id}", admin::ledger::drop_bundle),
        post("/key/rotate", admin::ledger::rotate_key),
        get("/capabilities", admin::exposure::capabilities),
        get("/exposure", admin::exposure::rules),
        put("/exposure", admin::exposure::replace),
        post("/exposure/{*pattern}", admin::exposure::set),
        get("/sources", admin::sources::list),
        post("/sources", admin::sources::add),
        post("/sources/{id}/enable", admin::sources::enable),
        post("/sources/{id}/disable", admin::sources::disable),
        post("/sources/{id}/reconfigure", admin::sources::reconfigure),
        delete("/sources/{id}", admin::sources::remove),
        get("/extensions", admin::extensions::list),
        post("/extensions", admin::extensions::install),
        post("/extensions/preview", admin::extensions::preview),
        delete("/extensions/{source}", admin::extensions::remove),
        get("/mesh", admin::mesh::show),
        post("/mesh/invite", admin::mesh::invite),
        post("/mesh/join-token", admin::mesh::invite),
        get("/audit", admin::audit::query),
        get("/audit/export", admin::audit::export),
        get("/audit/verify", admin::audit::verify),
        get("/secrets", admin::secrets::list),
        post("/secrets/{name}", admin::secrets::put),
        delete("/secrets/{name}", admin::secrets::remove),
        get("/settings", admin::settings::show),
        put("/settings", admin::settings::replace),
        get("/network", admin::settings::network),
        post("/network", admin::settings::set_network),
        get("/doctor", admin::doctor::show),
        post("/panic", admin::settings::panic),
        post("/resume", admin::settings::resume),
        get("/health", admin::status::health),
        get("/status", admin::status::show),
        get("/events", events::for_owner),
    ]
}

async fn nothing_here() -> Failure {
    let denial = Denial::new(
        Code::UnknownCapability,
        "there is no such route; GET /.well-known/plexus lists them",
    );
    Failure::new(denial).with_status(StatusCode::NOT_FOUND)
}

async fn wrong_method(uri: Uri) -> Failure {
    let message = "this route takes another method; GET /.well-known/plexus lists them";
    let framing = Framing::of(uri.path());
    Failure::malformed(StatusCode::METHOD_NOT_ALLOWED, message).framed(framing)
}
