//! Secrets: they reach the command that declared them, and nobody is ever shown one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{PATIENCE, Stage};
use serde_json::json;

const SHOW: &str = "peek.token.show";
const VALUE: &str = "s3cret-\"quoted\"-value";

#[tokio::test]
async fn a_secret_comes_in_reaches_its_command_and_goes_out_nowhere() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "peek", "label": "Peek", "transport": "cli",
        "binaries": ["printenv"],
        "secrets": [{"name": "peek-token", "attach": "env", "as": "PEEK_TOKEN"}],
        "capabilities": [{"name": "token.show", "kind": "capability", "label": "Show",
            "describe": "Shows it.", "grants": ["write"],
            "route": {"bin": "printenv", "argv": ["PEEK_TOKEN"]}}],
    });
    primary.post("extensions", &json!({ "manifest": manifest })).await;
    let ada = primary.agent("ada", &[SHOW]).await;
    let ask = json!({SHOW: {"decision": "allow", "verbs": ["write"]}});
    let token = ada.ask(&ask).await.1["token"].as_str().unwrap().to_owned();
    let (status, without) = ada.invoke(&token, SHOW, &json!({})).await;
    assert_eq!((status, &without["error"]["code"]), (503, &json!("source_unavailable")));
    let mut heard = String::new();
    for value in ["another-one", VALUE] {
        let put = primary.post("secrets/peek-token", &json!({ "value": value })).await;
        assert_eq!(put, json!({"ok": true, "name": "peek-token"}));
        let (_, ran) = ada.invoke(&token, SHOW, &json!({"word": value})).await;
        assert_eq!(ran["output"]["stdout"], "[redacted]\n", "its command printed it: {ran}");
        heard += &ran.to_string();
    }
    let listed = primary.get("secrets").await;
    let secret = listed["secrets"][0].as_object().unwrap();
    assert_eq!(secret.keys().collect::<Vec<_>>(), ["name", "updatedAt"], "{listed}");
    assert_eq!(
        (secret["name"].as_str(), listed["secrets"].as_array().unwrap().len()),
        (Some("peek-token"), 1)
    );
    for path in ["audit?limit=100", "capabilities", "extensions", "status", "doctor", "settings"] {
        heard += &primary.get(path).await.to_string();
    }
    primary.running.stop(PATIENCE).await.unwrap();
    let half = stage.path("home/secrets/.peek-token.0123456789abcdef");
    std::fs::write(&half, VALUE).unwrap();
    let primary = stage.primary().await;
    assert!(!half.exists(), "what a killed gateway left of one is gone");
    let ada = primary.greet(&ada.pat).await;
    let token = ada.ask(&ask).await.1["token"].as_str().unwrap().to_owned();
    let (_, ran) = ada.invoke(&token, SHOW, &json!({})).await;
    assert_eq!(ran["output"]["stdout"], "[redacted]\n", "it is kept: {ran}");
    let gone = primary.owner(Method::DELETE, "secrets/peek-token", None).await;
    assert_eq!(gone.status, 200);
    assert_eq!(primary.owner(Method::DELETE, "secrets/peek-token", None).await.status, 404);
    assert_eq!(primary.get("secrets").await["secrets"], json!([]));
    assert_eq!(ada.invoke(&token, SHOW, &json!({})).await.0, 503, "calls go without it");
    let said = primary.get("audit?type=settings.change").await.to_string();
    assert!(said.contains("peek-token"), "by its name it is recorded: {said}");
    heard += &said;
    heard += &stage.log("plexus");
    assert!(!heard.contains("s3cret") && !heard.contains("another-one"), "{heard}");
}

#[tokio::test]
async fn what_an_entry_calls_secret_is_in_no_record() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "door", "label": "Door", "transport": "cli",
        "binaries": ["echo"],
        "capabilities": [{"name": "lock.open", "kind": "capability", "label": "Open",
            "describe": "Opens it.", "grants": ["write"],
            "io": {"input": {"type": "object", "additionalProperties": false, "properties": {
                "floor": {"type": "string"}, "digits": {"type": "string", "writeOnly": true}}}},
            "route": {"bin": "echo", "argv": ["{floor}"]}}],
    });
    primary.post("extensions", &json!({ "manifest": manifest })).await;
    let open = "door.lock.open";
    let ada = primary.agent("ada", &[open]).await;
    let ask = json!({open: {"decision": "allow", "verbs": ["write"]}});
    let token = ada.ask(&ask).await.1["token"].as_str().unwrap().to_owned();
    let (status, _) = ada.invoke(&token, open, &json!({"floor": "first", "digits": "8-9-1"})).await;
    assert_eq!(status, 200);
    let wrong = json!({"floor": "first", "digits": "8-9-1", "more": 1});
    assert_eq!(ada.invoke(&token, open, &wrong).await.0, 422);
    let recorded = primary.get("audit?type=invoke").await.to_string();
    assert!(recorded.contains("first") && !recorded.contains("8-9-1"), "{recorded}");
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_repeating_it() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let post = |name: &str, text: String| {
        let path = format!("/admin/api/secrets/{name}");
        let key = primary.key.clone();
        let primary = &primary;
        async move {
            let body = Some(text.into_bytes());
            let ask = Ask { method: Method::POST, body, ..Ask::get(&path) };
            let answer = primary.send(ask.header("x-plexus-connection-key", &key)).await.unwrap();
            (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
        }
    };
    let shapes = [
        "\"hunter22\"",
        "{\"value\": 22334455}",
        "{\"value\": [\"hunter22\"]}",
        "{\"hunter22\": 1}",
        "{\"value\": \"hunter22\"",
        "{\"value\": \"hunter22\", \"value\": \"hunter22\"}",
        "{\"value\": \"h22\"}",
        "{\"value\": \"\\n\\n\\n\\n\\n\"}",
        "{\"value\": \"hunter22\\u0000\"}",
    ];
    for shape in shapes {
        let (status, said) = post("a", shape.to_owned()).await;
        assert_eq!(status, 400, "{shape}: {said}");
        assert!(!said.contains("hunter22") && !said.contains("22334455"), "{said}");
    }
    let sized = |size: usize| json!({"value": "x".repeat(size)}).to_string();
    assert_eq!(post("a", sized(65_537)).await.0, 400);
    let long = "n".repeat(65);
    for name in [".a", "a%2fb", "..%2fconnection-key", "a%20b", "%00", long.as_str()] {
        assert_eq!(post(name, sized(8)).await.0, 400, "{name}");
    }
    assert_eq!(primary.get("secrets").await["secrets"], json!([]), "nothing was kept");
    assert_eq!(primary.get("audit?type=settings.change").await["events"], json!([]));
    assert_eq!(post("a", sized(65_536)).await.0, 200);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = std::fs::metadata(stage.path("home/secrets/a")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
