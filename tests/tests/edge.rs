//! What arrives from outside, at its worst: every byte bounded, every answer typed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Stage, body};
use serde_json::json;

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
