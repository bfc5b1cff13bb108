//! Every route of the gateway's own table, by every credential in every place: what comes out, and in
//! which framing. A route without a row fails, and so does a row without a route.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::collections::BTreeSet;
use std::path::Path;

use plexus_tests::raw::RawAnswer;
use serde_json::json;
use world::{Door, KINDS, Kind, PLACES, Place, Row, World, row};

/// The routes that take no credential in a header or a session in a body: all there are.
const WITHOUT_CREDENTIAL: [&str; 3] =
    ["GET /.well-known/plexus", "GET /admin", "POST /agents/enroll"];

fn said(answer: &RawAnswer) -> (u16, &str) {
    (answer.status, answer.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_has_its_row_and_opens_to_its_own_credential_alone() {
    let mut world = World::new().await;
    let rows = world.rows();
    let named = |method: &str, route: &str| format!("{method} {route}");
    let mine: BTreeSet<_> = rows.iter().map(|row| named(row.method, row.route)).collect();
    let there: BTreeSet<_> =
        plexus::http::router::routes().map(|(m, path)| named(m.as_str(), &path)).collect();
    let strays: Vec<_> = there.symmetric_difference(&mine).collect();
    assert!(
        strays.is_empty(),
        "each route has a row in world.rs, and each row a route: {strays:?}"
    );
    let mut open = BTreeSet::new();
    for row in &rows {
        let name = named(row.method, row.route);
        let answer = world.ask(row, "", row.body.as_ref()).await;
        assert_eq!(said(&answer), row.door.refuses(None), "{name}, with nothing");
        if ![401, 403].contains(&answer.status) {
            open.insert(name.clone());
        }
        for (place, kind, live) in shown_everywhere() {
            if live && row.door.opens(place, kind) {
                continue;
            }
            let whose = if live { &world.ada } else { &world.gone };
            let Some((headers, body)) = World::shown(row, place, whose.show(kind)) else {
                continue;
            };
            let answer = world.ask(row, &headers, body.as_ref()).await;
            let expected = row.door.refuses(Some((place, kind)));
            let which = if live { "a live" } else { "a dead" };
            assert_eq!(said(&answer), expected, "{name}: {which} {kind:?} as {place:?}");
        }
    }
    assert_eq!(open, WITHOUT_CREDENTIAL.map(str::to_owned).into(), "and these are all");

    for row in rows.iter().filter(|row| row.door != Door::Key) {
        let (headers, body) = world.right(row, &world.bob);
        let answer = world.ask(row, &headers, body.as_ref()).await;
        assert_eq!(said(&answer), row.others, "{} by another agent", row.path);
        let text = answer.body.to_string();
        assert!(!text.contains("\"ada\""), "{}: another agent's business: {text}", row.path);
    }
    for row in &rows {
        let (headers, body) = world.right(row, &world.ada);
        let answer = world.ask(row, &headers, body.as_ref()).await;
        assert_eq!(said(&answer), (200, ""), "{} {} by its own: {answer:?}", row.method, row.path);
    }
    world.everything_is_recorded();
}

#[test]
fn every_route_is_on_the_protocol_page() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (method, path) in plexus::http::router::routes() {
        let short = path.strip_prefix("/admin/api/").unwrap_or(&path);
        let short = short.replace("{*", ":").replace('{', ":").replace('}', "");
        let told =
            page.contains(&format!("`{method} {short}")) || page.contains(&format!("`{short}`"));
        assert!(told, "{method} {short}");
    }
}

/// Every kind of credential in every place, good and taken back.
fn shown_everywhere() -> impl Iterator<Item = (Place, Kind, bool)> {
    let kinds = |place| KINDS.into_iter().map(move |kind| (place, kind));
    let all = PLACES.into_iter().flat_map(kinds);
    all.flat_map(|(place, kind)| [(place, kind, true), (place, kind, false)])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_only_to_the_gateways_own_address() {
    let mut world = World::new().await;
    let host = world.primary.url.strip_prefix("http://").unwrap().to_owned();
    let foreign = [
        "Host: evil.example\r\n".to_owned(),
        "Host: 127.0.0.1\r\n".to_owned(),
        "Host: 127.0.0.1:1\r\n".to_owned(),
        format!("Host: {host}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: {host}\r\nOrigin: null\r\n"),
    ];
    let nowhere = row("GET", "/no/such/route", Door::Nothing);
    for row in world.rows().iter().chain([&nowhere]) {
        let (right, body) = world.right(row, &world.ada);
        for headers in &foreign {
            let answer = world.send(row, &format!("{headers}{right}"), body.as_ref()).await;
            assert_eq!(said(&answer), (403, "host_forbidden"), "{} {headers}", row.path);
        }
        // Two Host headers are no HTTP at all; either refusal will do.
        let twice = format!("Host: {host}\r\nHost: {host}\r\n{right}");
        let answer = world.send(row, &twice, body.as_ref()).await;
        assert!([400, 403].contains(&answer.status), "{}", row.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_frozen_every_route_of_agents_says_so() {
    let mut world = World::new().await;
    world.primary.post("panic", &json!({})).await;
    for row in world.agents_rows() {
        let (headers, body) = world.right(&row, &world.ada);
        let answer = world.ask(&row, &headers, body.as_ref()).await;
        let expected = match row.door {
            Door::Nothing => (200, ""),
            _ => (503, "source_unavailable"),
        };
        assert_eq!(said(&answer), expected, "{} while frozen", row.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_and_another_path_are_told_as_such() {
    let mut world = World::new().await;
    for row in world.rows() {
        let row = Row { method: "PATCH", ..row };
        let (headers, body) = world.right(&row, &world.ada);
        let answer = world.ask(&row, &headers, body.as_ref()).await;
        let code = if row.door == Door::Code { "malformed" } else { "schema_validation_failed" };
        assert_eq!(said(&answer), (405, code), "{}", row.path);
    }
    for path in ["/", "/admin/", "/admin/api", "/admin/api/nothing", "/grants/", "//invoke"] {
        let answer = world.ask(&row("GET", path, Door::Nothing), "", None).await;
        assert_eq!(said(&answer), (404, "unknown_capability"), "{path}");
    }
}
