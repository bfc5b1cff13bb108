//! What happens is told as it happens: to whom it is meant for, and to no one else.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use plexus_shared::transport::http::{Ask, Streamed, stream};
use plexus_tests::ear::Ear;
use plexus_tests::raw::raw;
use plexus_tests::{PATIENCE, Stage, body};
use serde_json::json;

#[tokio::test]
async fn without_a_session_or_the_key_nothing_is_told() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let ada = primary.agent("ada", &[]).await;
    for (path, header) in [
        ("/events", ("x-other", "none")),
        ("/events", ("x-plexus-session", "sess_none")),
        ("/events", ("x-plexus-connection-key", primary.key.as_str())),
        ("/admin/api/events", ("x-plexus-session", ada.session.as_str())),
        ("/admin/api/events", ("x-plexus-connection-key", "plx_live_none")),
    ] {
        let answer = primary.send(Ask::get(path).header(header.0, header.1)).await.unwrap();
        assert_eq!(answer.status, 401, "{path} {header:?}");
        assert_eq!(body(&answer)["error"]["code"], "session_expired");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_its_terms_first_and_is_kept_by_no_cache() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let ada = primary.agent("ada", &[]).await;
    let host = primary.url.strip_prefix("http://").unwrap();
    let session = &ada.session;
    let ask =
        format!("GET /events HTTP/1.1\r\nHost: {host}\r\nX-Plexus-Session: {session}\r\n\r\n");
    let answer = raw(&primary.url, &ask).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    Ear::agent(&ada).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_the_session_that_asked_and_nowhere_else() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let bob = primary.agent("bob", &[]).await;
    let twin = primary.greet(&ada.pat).await;
    let (mut hers, mut twins) = (Ear::agent(&ada).await, Ear::agent(&twin).await);
    let (mut his, mut owners) = (Ear::agent(&bob).await, Ear::owner(&primary).await);

    let pending = ada.pending("notes.file.write", "write").await;
    let added = owners.until("pending_added").await;
    assert_eq!(
        (&added.data["pendingId"], &added.data["agentId"], &added.data["capabilities"]),
        (&json!(pending), &json!("ada"), &json!(["notes.file.write"]))
    );
    primary.approve(&pending, Some("once")).await;
    let resolved = hers.until("grant_resolved").await;
    assert_eq!(
        (&resolved.data["pendingId"], &resolved.data["decision"]),
        (&json!(pending), &json!("approved"))
    );
    let token = resolved.data["token"]["token"].as_str().unwrap().to_owned();
    let input = json!({"path": "b.txt", "content": "x"});
    assert_eq!(ada.invoke(&token, "notes.file.write", &input).await.0, 200, "and it works");

    let denied = ada.pending("notes.file.write", "write").await;
    primary.post(&format!("pending/{denied}"), &json!({"action": "deny"})).await;
    let resolved = hers.until("grant_resolved").await;
    assert_eq!((&resolved.data["decision"], resolved.data.get("token")), (&json!("denied"), None));

    // What is told to all comes last: by then everything before it was told too.
    primary.post("exposure/notes.file.list", &json!({"enabled": false})).await;
    for ear in [&mut twins, &mut his, &mut owners] {
        ear.until("manifest_changed").await;
        assert!(!ear.heard.contains(&token) && !ear.heard.contains("eyJ"), "{}", ear.heard);
    }
    for ear in [&twins, &his] {
        assert!(!ear.heard.contains(&pending) && !ear.heard.contains("ada"), "{}", ear.heard);
    }
    // Lines of the log are told together, a little later.
    if !owners.heard.contains("event: audit_appended\n") {
        owners.until("audit_appended").await;
    }
    assert!(!owners.heard.contains("eyJ"), "{}", owners.heard);
    for name in ["grant_resolved", "pending_resolved", "audit_appended"] {
        assert!(owners.heard.contains(&format!("event: {name}\n")), "{name}: {}", owners.heard);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_hears_what_it_missed() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let set = async |enabled: bool| {
        primary.post("exposure/notes.file.list", &json!({ "enabled": enabled })).await;
    };
    let mut ear = Ear::agent(&ada).await;
    set(false).await;
    let hidden = ear.until("manifest_changed").await;
    let moved = &hidden.data["changed"];
    assert_eq!((&moved["removed"], &moved["added"]), (&json!(["notes.file.list"]), &json!([])));
    drop(ear);

    set(true).await;
    let pending = ada.pending("notes.file.write", "write").await;
    primary.approve(&pending, Some("once")).await;
    let mut back = Ear::agent_after(&ada, &hidden.id).await;
    let shown = back.until("manifest_changed").await;
    assert_eq!(shown.data["changed"]["added"], json!(["notes.file.list"]));
    assert!(shown.data["revision"].as_u64() > hidden.data["revision"].as_u64());
    let resolved = back.until("grant_resolved").await;
    assert!(resolved.data["token"]["token"].is_string());

    // A number from another life, or none at all: read everything anew.
    for unknown in ["1", "abc"] {
        let told = Ear::agent_after(&ada, unknown).await.next().await.unwrap();
        assert_eq!(told.name, "manifest_changed");
        assert_eq!(told.data["revision"], shown.data["revision"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_bounded_and_do_not_hold_up_a_stop() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let ada = primary.agent("ada", &[]).await;
    let mut open = vec![Ear::owner(&primary).await];
    for _ in 0..4 {
        open.push(Ear::agent(&ada).await);
    }
    let more = Ask::get("/events").header("x-plexus-session", &ada.session);
    let answer = primary.send(more).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &body(&answer)["error"]["code"]),
        (429, &json!("rate_limited"))
    );

    // A client that goes away gives its place back.
    open.pop();
    let again = async {
        loop {
            let more = Ask::get("/events").header("x-plexus-session", &ada.session);
            match stream(&primary.url, more, PATIENCE).await.unwrap() {
                Streamed::Lines(lines) => return Ear { lines, heard: String::new() },
                Streamed::Refused(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    open.push(tokio::time::timeout(PATIENCE, again).await.unwrap());

    primary.running.stop(PATIENCE).await.unwrap();
    for mut ear in open {
        while ear.next().await.is_some() {}
    }
    let log = stage.log("plexus");
    assert!(!log.contains("did not end in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_comes_and_goes_is_told_to_those_who_see_it() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let ada = primary.agent("ada", &[]).await;
    let proxy = stage.nas(&primary).await;
    let (mut hers, mut owners) = (Ear::agent(&ada).await, Ear::owner(&primary).await);
    primary.post("exposure/local/nas/notes.file.read", &json!({"enabled": true})).await;
    hers.until("manifest_changed").await;
    proxy.stop(PATIENCE).await.unwrap();
    let down = hers.until("source_status").await;
    assert_eq!(
        (&down.data["source"], &down.data["available"]),
        (&json!("local/nas"), &json!(false))
    );
    let changed = owners.until("mesh_changed").await;
    assert_eq!(changed.data, json!({"workload": "nas", "change": "disconnected"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_watches_what_begins_to_wait() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let first = ada.pending("notes.file.write", "write").await;
    let mut watch = stage.program("plexus", &["pending", "--watch", "--json"]).start().unwrap();
    let line = watch.line("{\"schema\":\"plexus.pending.item/1\"", PATIENCE).await.unwrap();
    assert!(line.contains(&first), "{line}");
    let bob = primary.agent("bob", &[]).await;
    let second = bob.pending("notes.file.write", "write").await;
    let line = watch.line("{\"schema\":\"plexus.pending.item/1\"", PATIENCE).await.unwrap();
    assert!(line.contains(&second) && !line.contains(&first), "{line}");
    watch.kill().await;
}
