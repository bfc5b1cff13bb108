//! What arrives from outside, at its worst: every byte bounded, every answer typed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

/// Sends `request` as it is; the status and the JSON that came back.
fn raw(primary: &Primary, request: &str) -> (u16, Value) {
    let address = primary.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(text).unwrap_or_default())
}

const ROUTES: [(&str, &str); 12] = [
    ("GET", "/.well-known/plexus"),
    ("POST", "/agents/enroll"),
    ("POST", "/link/handshake"),
    ("GET", "/manifest"),
    ("PUT", "/grants"),
    ("GET", "/grants/status?pendingId=x"),
    ("POST", "/invoke"),
    ("GET", "/admin/api/status"),
    ("POST", "/admin/api/mesh/invite"),
    ("GET", "/events"),
    ("GET", "/admin/api/events"),
    ("GET", "/no/such/route"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_only_to_the_gateways_own_address() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let host = primary.url.strip_prefix("http://").unwrap().to_owned();
    let foreign = [
        "Host: evil.example\r\n".to_owned(),
        "Host: 127.0.0.1\r\n".to_owned(),
        "Host: 127.0.0.1:1\r\n".to_owned(),
        format!("Host: {host}\r\nHost: {host}\r\n"),
        format!("Host: {host}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: {host}\r\nOrigin: null\r\n"),
    ];
    for (method, route) in ROUTES {
        for headers in &foreign {
            let request =
                format!("{method} {route} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            let (status, answer) = raw(&primary, &request);
            let code = answer["error"]["code"].as_str();
            let refused = (status, code) == (403, Some("host_forbidden"));
            // Two Host headers are no HTTP at all; either refusal will do.
            assert!(
                refused || (status == 400 && headers.matches("Host").count() == 2),
                "{route}: {status} {answer}"
            );
            if refused && route == "/invoke" {
                assert_eq!((&answer["ok"], &answer["auditId"]), (&json!(false), &json!("")));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_typed_and_refused_in_each_routes_framing() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let large = |len: usize| json!({"code": "x".repeat(len), "grants": {}, "id": "a.b.c"});
    for (method, path, len) in [
        (Method::POST, "/agents/enroll", 2 << 20),
        (Method::PUT, "/grants", 2 << 20),
        (Method::POST, "/invoke", 11 << 20),
    ] {
        let request = large(len);
        let ask = Ask::with_body(method.clone(), path, &request);
        let ask = ask.header("x-plexus-session", &ada.session);
        // The gateway may answer and hang up before it has taken the whole body.
        if let Ok(answer) = primary.send(ask).await {
            assert_eq!(answer.status, 413, "{path}");
        }
        let ask = Ask { method, body: None, ..Ask::get(path) };
        let answer = primary.send(ask.header("x-plexus-session", &ada.session)).await.unwrap();
        assert_eq!(answer.status, 415, "{path}");
        let answer = body(&answer);
        match path {
            "/invoke" => assert_eq!(answer["ok"], false),
            "/agents/enroll" => assert_eq!(answer["error"]["code"], "malformed"),
            _ => assert_eq!(answer["error"]["code"], "schema_validation_failed"),
        }
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in ["", "null", "[]", "\"x\"", "{\"id\":7}", "{\"id\":\"a.b.c\",\"input\":", &deep] {
        let ask = Ask { method: Method::POST, body: Some(text.into()), ..Ask::get("/invoke") };
        let ask = ask.header("content-type", "application/json");
        let answer = primary.send(ask).await.unwrap();
        assert_eq!(answer.status, 400, "{}", text.chars().take(20).collect::<String>());
        assert_eq!(body(&answer)["error"]["code"], "schema_validation_failed");
    }
    let status = primary.get("status").await;
    assert_eq!(status["audit"]["writable"], true);
}

#[tokio::test]
async fn hostile_inputs_of_a_call_are_bounded_and_recorded_without_their_secrets() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let bearer = format!("Bearer {token}");
    for input in [
        json!({"path": "../connection-key"}),
        json!({"path": "/etc/passwd"}),
        json!({"path": "x".repeat(1 << 20)}),
        json!({"path": primary.key}),
        json!({"path": "a.txt", "password": "hunter2hunter2"}),
    ] {
        let (status, answer) = ada.invoke(&token, "notes.file.read", &input).await;
        assert_eq!(answer["ok"], false, "{status} {answer}");
        assert!(answer["auditId"].as_str().unwrap().starts_with("evt_"));
        assert!(!answer.to_string().contains("root:"));
    }
    let deep = format!(
        "{{\"id\":\"notes.file.read\",\"input\":{}1{}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let ask = Ask { method: Method::POST, body: Some(deep.into_bytes()), ..Ask::get("/invoke") };
    let ask = ask.header("content-type", "application/json").header("authorization", &bearer);
    let answer = primary.send(ask).await.unwrap();
    assert!(answer.status.is_client_error());
    let log = std::fs::read_dir(stage.path("home/audit")).unwrap();
    let log: String =
        log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let secrets =
        [primary.key.as_str(), token.as_str(), ada.pat.as_str(), "hunter2hunter2", "plx_enroll_0"];
    for secret in secrets {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(log.lines().all(|line| line.len() < 1 << 20));
}
