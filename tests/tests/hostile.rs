//! Attacks that worked once, each held by a test.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

/// Sends a request whose client hangs up without waiting for the answer.
fn send_and_leave(
    primary: &Primary,
    method: &str,
    path: &str,
    header: &str,
    value: &serde_json::Value,
) {
    let host = primary.url.strip_prefix("http://").unwrap();
    let text = value.to_string();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_memory_and_disk_alike() {
    let (stage, primary) = Stage::shared().await;
    let owner = format!("X-Plexus-Connection-Key: {}", primary.key);
    for n in 0..100 {
        let order = json!({"agentId": format!("agent-{n}"), "capabilities": ["notes.file.read"]});
        send_and_leave(&primary, "POST", "/admin/api/agents/connect", &owner, &order);
    }
    let ada = primary.agent("ada", &[]).await;
    let session = format!("X-Plexus-Session: {}", ada.session);
    for n in 0..20 {
        let ask = json!({"decision": "allow", "verbs": ["write"], "purpose": format!("{n}")});
        let request = json!({"grants": {"notes.file.write": ask}});
        send_and_leave(&primary, "PUT", "/grants", &session, &request);
    }
    // Its own request comes after all of those: changes are made one after the other.
    primary.agent("bob", &[]).await;
    let before = (kept(&primary).await, primary.get("pending").await);
    assert!(before.1["pending"].as_array().unwrap().len() <= 5, "at most five open items");
    primary.running.kill().await;
    let primary = stage.primary().await;
    let after = (kept(&primary).await, primary.get("pending").await);
    assert_eq!(before, after);
}

/// The agents, but for when they were here last: that is in memory alone.
async fn kept(primary: &Primary) -> Value {
    let mut listed = primary.get("agents/enrollments").await;
    for agent in listed["agents"].as_array_mut().unwrap() {
        agent.as_object_mut().unwrap().remove("lastSeenAt");
    }
    listed
}

#[tokio::test]
async fn the_gateways_own_state_is_not_shared_by_any_name() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let home = stage.path("home");
    let relative = home.join("../home/audit");
    std::os::unix::fs::symlink(&home, stage.path("link")).unwrap();
    for path in [home.clone(), home.join("audit"), relative, stage.path("link"), stage.path("")] {
        let source = json!({"id": "own", "kind": "workspace", "config": {"path": path}});
        let answer = primary.try_post("sources", &source).await;
        assert_eq!(answer.status, 400, "{}", path.display());
        assert!(body(&answer).to_string().contains("own keys"), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_in_its_time_and_keeps_no_one_out() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let host = primary.url.strip_prefix("http://").unwrap().to_owned();
    let mut silent = TcpStream::connect(&host).unwrap();
    let mut half = TcpStream::connect(&host).unwrap();
    half.write_all(b"GET / HT").unwrap();
    let others: Vec<_> = (0..200).map(|_| TcpStream::connect(&host).unwrap()).collect();
    assert_eq!(primary.get("status").await["version"], env!("CARGO_PKG_VERSION"));
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        // Ended by the gateway, cleanly or not; a time-out here would be an error of another kind.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    drop(others);
}

/// Sends a body that has no end, in such chunks, to `what`; what is answered before the connection ends
/// or `most` bytes are sent. Between chunks it listens for `pause`.
fn endless(
    primary: &Primary,
    (what, header): (&str, &str),
    chunk: usize,
    pause: Duration,
    most: usize,
) -> String {
    let host = primary.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(pause)).unwrap();
    let head = format!(
        "{what} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let piece = format!("{chunk:x}\r\n{}\r\n", " ".repeat(chunk));
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let mut over = false;
    for _ in 0..most / chunk {
        let sent = answer.is_empty() && stream.write_all(piece.as_bytes()).is_ok();
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && sent => {}
            // Hung up. With bytes of ours unread, the system may take the answer along.
            _ => {
                over = true;
                break;
            }
        }
    }
    assert!(over, "{what}: {most} bytes were taken");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_by_its_size_and_by_its_time() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let bearer = format!("Authorization: Bearer {token}");
    let key = format!("X-Plexus-Connection-Key: {}", primary.key);
    let doors = [
        ("POST /invoke", bearer.as_str()),
        ("POST /agents/enroll", "X-No: no"),
        ("POST /admin/api/agents/connect", &key),
    ];
    for door in doors {
        let answer = endless(&primary, door, 64 << 10, Duration::from_millis(1), 64 << 20);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{door:?}: {answer}");
    }
    // A byte now and then: never silent, and never done.
    std::thread::scope(|scope| {
        for door in doors {
            let primary = &primary;
            scope.spawn(move || {
                let answer = endless(primary, door, 1, Duration::from_millis(100), 600);
                assert!(answer.starts_with("HTTP/1.1 408"), "{door:?}: {answer}");
                let framed = answer.contains("\"ok\":false");
                assert_eq!(framed, door.0 == "POST /invoke", "{answer}");
            });
        }
    });
    assert_eq!(primary.get("status").await["version"], env!("CARGO_PKG_VERSION"));
}

/// A request of which the gateway has read the head, and now waits for the body.
fn half_sent(primary: &Primary, what: &str, header: &str, body: &str) -> TcpStream {
    let host = primary.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "{what} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It says so when somebody begins to read the body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn what_was_under_way_when_its_agent_was_revoked_comes_to_nothing() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let pat = format!("Authorization: Bearer {}", ada.pat);
    let session = format!("X-Plexus-Session: {}", ada.session);
    let hello = r#"{"client":{"name":"ada"}}"#;
    let ask = r#"{"grants":{"notes.file.read":"allow"}}"#;
    let call = r#"{"id":"notes.file.write","input":{"path":"a.txt","content":"x"}}"#;
    let requests = [
        ("POST /link/handshake", &pat, hello),
        ("PUT /grants", &session, ask),
        ("POST /invoke", &session, call),
    ];
    let waiting: Vec<_> = requests
        .iter()
        .map(|(what, header, body)| (half_sent(&primary, what, header, body), body, what))
        .collect();
    primary.post("agents/revoke", &json!({"agentId": "ada"})).await;
    for (mut stream, body, what) in waiting {
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{what}: {answer}");
    }
    assert_eq!(primary.get("grants").await["grants"], json!([]));
    assert_eq!(primary.get("pending").await["pending"], json!([]));
}

#[tokio::test]
async fn a_redeemed_code_ends_the_sessions_of_the_credential_before_it() {
    let (_stage, primary) = Stage::shared().await;
    let old = primary.agent("ada", &[]).await;
    let token = old.token("notes.file.read").await;
    let new = primary.agent("ada", &[]).await;
    let input = json!({"path": "a.txt"});
    let (status, answer) = old.invoke(&token, "notes.file.read", &input).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("session_expired")));
    assert_eq!(old.get("/manifest").await.0, 401);
    assert_eq!(primary.handshake(&old.pat).await.0, "", "the old credential is dead");
    let token = new.token("notes.file.read").await;
    assert_eq!(new.invoke(&token, "notes.file.read", &input).await.0, 200);
}

#[tokio::test]
async fn a_large_body_is_held_for_whoever_was_let_in_alone() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let call = json!({"id": "notes.file.read", "input": {"path": "x".repeat(2 << 20)}});
    let ask = || Ask::with_body(Method::POST, "/invoke", &call);
    if let Ok(answer) = primary.send(ask()).await {
        assert_eq!(answer.status, 413);
    }
    let bearer = format!("Bearer {token}");
    let answer = primary.send(ask().header("authorization", &bearer)).await.unwrap();
    assert_eq!(answer.status, 422, "read, and then refused for its shape");
    assert_eq!(ada.assisted(&call).await.0, 422, "and so with a session alone");
    let large = json!({"path": "b.txt", "content": "x".repeat(2 << 20)});
    let call = json!({"id": "notes.file.write", "input": large});
    let (status, refused) = ada.assisted(&call).await;
    assert_eq!((status, refused["error"]["code"].as_str()), (401, Some("grant_required")));
    assert_eq!(primary.get("pending").await["pending"], json!([]), "too much for the owner to see");
    let give = json!({"agentId": "ada", "grants": {"notes.file.write": ["write"]}});
    primary.owner(Method::PUT, "grants", Some(&give)).await;
    assert_eq!(ada.assisted(&call).await.0, 200, "what the owner need not see");
}

#[tokio::test]
async fn what_comes_under_a_removed_sources_name_is_something_else() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let write = json!({"notes.file.write": {"decision": "allow", "verbs": ["write"]}});
    ada.ask(&write).await;
    let path = "/admin/api/sources/notes";
    let ask = Ask { method: Method::DELETE, ..Ask::get(path) };
    let ask = ask.header("x-plexus-connection-key", &primary.key);
    assert_eq!(primary.send(ask).await.unwrap().status, 200);
    assert_eq!(primary.get("grants").await["grants"], json!([]));
    assert_eq!(primary.get("pending").await["pending"], json!([]));
    std::fs::create_dir(stage.path("secret")).unwrap();
    std::fs::write(stage.path("secret/a.txt"), "secret").unwrap();
    let config = json!({"path": stage.path("secret")});
    primary.post("sources", &json!({"id": "notes", "kind": "workspace", "config": config})).await;
    let (status, answer) = ada.invoke(&token, "notes.file.read", &json!({"path": "a.txt"})).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("token_revoked")));
}

/// The member name that serde_json's own values unfold: the text below it is read as JSON once more.
const UNFOLDED: &str = "$serde_json::private::RawValue";

/// JSON in JSON in JSON: thousands of levels, each text a legal one.
fn folded() -> serde_json::Value {
    let mut value = json!(1);
    loop {
        let inner =
            (0..120).fold(json!({ UNFOLDED: value.to_string() }), |inner, _| json!([inner]));
        if inner.to_string().len() > 900_000 {
            return value;
        }
        value = inner;
    }
}

#[tokio::test]
async fn no_name_of_a_member_is_unfolded_by_any_reader() {
    let (stage, primary) = Stage::shared().await;
    let ada = primary.agent("ada", &["notes.file.read"]).await;
    let hello = json!({"client": folded()});
    let answer = primary.send(Ask::with_body(Method::POST, "/link/handshake", &hello)).await;
    assert_eq!(answer.unwrap().status, 401, "no one has said who they are");
    let equal = json!({"match": [{"field": "path", "op": "eq", "value": folded()}]});
    let narrow = json!({"decision": "allow", "constraint": equal});
    assert_eq!(ada.ask(&json!({"notes.file.read": narrow})).await.0, 400);
    let settings = primary.owner(Method::PUT, "settings", Some(&folded())).await;
    assert_eq!(settings.status, 400);

    let token = ada.token("notes.file.read").await;
    let refused = ada.invoke(&token, "notes.file.read", &json!({UNFOLDED: "not JSON"})).await;
    assert_eq!(refused.0, 422, "{}", refused.1);
    // The last line of its log is the one that says so.
    primary.running.kill().await;
    let primary = stage.primary().await;
    let verified = primary.get("audit/verify").await;
    assert_eq!(verified["ok"], true, "{verified}");
    let shown = primary.owner(Method::GET, "audit?outcome=denied", None).await;
    assert!(String::from_utf8_lossy(&shown.body).contains(UNFOLDED));
}

#[tokio::test]
async fn a_key_that_can_not_be_kept_leaves_the_old_one_and_a_record_that_says_so() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let key = stage.path("home/connection-key");
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    let rotated = primary.owner(Method::POST, "key/rotate", Some(&json!({}))).await;
    assert_eq!(rotated.status, 500);
    let rows = primary.get("audit?type=key.rotate").await;
    let outcomes: Vec<_> =
        rows["events"].as_array().unwrap().iter().map(|e| &e["outcome"]).collect();
    assert_eq!(outcomes, ["error", "ok"]);
}
