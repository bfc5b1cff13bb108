//! `GET doctor`: the checks of the folder, and of what only the running gateway knows.

use axum::extract::State;
use serde_json::{Value, json};

use crate::doctor::{Check, folder};
use crate::http::Services;
use crate::http::extract::Owner;
use crate::store::Change;

/// Runs every check.
pub async fn show(State(services): State<Services>, _: Owner) -> axum::Json<Value> {
    let (home, now) = (services.state.path().to_owned(), services.core.now());
    let mut checks =
        tokio::task::spawn_blocking(move || folder(&home, now)).await.unwrap_or_default();
    checks.push(match services.core.audit.is_available() {
        true => Check::ok("audit.writable", "the last event was written"),
        false => Check::fail(
            "audit.writable",
            "the audit log can't be written, so every call is refused",
            "make room on the disk, and look at the folder's permissions",
        ),
    });
    checks.push(match services.core.store.commit(vec![Change::Probe]).await {
        Ok(()) => Check::ok("store.writable", "a change was kept"),
        Err(error) => Check::fail("store.writable", error.to_string(), "make room on the disk"),
    });
    checks.push(Check::ok("ports", format!("serves {}", services.reach.urls.join(", "))));
    checks.extend(mesh(&services));
    checks.push(sources(&services));
    let waiting = services.trust.waiting().len();
    let detail = format!("{waiting} wait for you");
    checks.push(Check::warn_unless(waiting == 0, "pending", detail, "see `plexus pending`"));
    let frozen = services.trust.is_frozen();
    let detail = if frozen { "every agent is refused" } else { "agents are let in" };
    checks.push(Check::warn_unless(!frozen, "frozen", detail, "plexus resume"));
    axum::Json(json!({ "checks": checks }))
}

fn mesh(services: &Services) -> [Check; 3] {
    let local = services.mesh.loopback_only();
    let listen = match local {
        true => "only this machine can dial in; other machines need `plexus serve --mesh-listen`",
        false => "other machines can dial in, if the network lets UDP through",
    };
    let (all, away) = services.mesh.away();
    let detail = match away.is_empty() {
        true => format!("{all} joined, all connected"),
        false => format!("not connected: {}", away.join(", ")),
    };
    let fix = "look at `plexus-proxy run` on those machines";
    let broken = services.mesh.broken_logs();
    let logs = match broken.is_empty() {
        true => "each continues its copy here".to_owned(),
        false => format!("does not continue its copy here: {}", broken.join(", ")),
    };
    let look = "run `plexus mesh list`; the log of such a machine was edited, cut or replaced";
    [
        Check::ok("mesh.listen", listen),
        Check::warn_unless(away.is_empty(), "mesh.workloads", detail, fix),
        Check::warn_unless(broken.is_empty(), "mesh.logs", logs, look),
    ]
}

fn sources(services: &Services) -> Check {
    let view = services.sources.view();
    let ill: Vec<_> = view.iter().filter_map(|source| source.trouble()).collect();
    let detail = match ill.is_empty() {
        true => format!("{} configured, all well", view.len()),
        false => ill.join("; "),
    };
    Check::warn_unless(ill.is_empty(), "sources", detail, "see `plexus sources list`")
}
