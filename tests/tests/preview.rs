//! What a yes gives is told before it is given.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::Method;
use plexus_tests::{PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

const WRITE: &str = "notes.file.write";
const RUN: &str = "desk.note.run";

/// A gateway whose longest window is two hours, with a folder, a command, and a workflow that says it only
/// reads and runs the command.
async fn set() -> (Stage, Primary) {
    let (stage, primary) = Stage::shared().await;
    let settings = json!({"maxTrustWindowMs": 7_200_000});
    let kept = primary.owner(Method::PUT, "settings", Some(&settings)).await;
    assert_eq!(kept.status, 200);
    let clock = json!({
        "manifest": "plexus-extension/0.1", "source": "clock", "label": "Clock", "transport": "cli",
        "binaries": ["date"],
        "capabilities": [{"name": "time.set", "kind": "capability", "label": "Set",
            "describe": "Tells the time.", "grants": ["execute"],
            "route": {"bin": "date", "argv": ["+%s"]}}],
    });
    let desk = json!({
        "manifest": "plexus-extension/0.1", "source": "desk", "label": "Desk", "transport": "workflow",
        "allowCrossSource": true,
        "capabilities": [{"name": "note.run", "kind": "workflow", "label": "Run",
            "describe": "Looks at the time.", "grants": ["read"],
            "members": [{"id": "clock.time.set", "verbs": ["execute"]}]}],
    });
    for manifest in [clock, desk] {
        primary.post("extensions", &json!({ "manifest": manifest })).await;
    }
    (stage, primary)
}

async fn approve(primary: &Primary, asked: &Value, window: &Value) -> Value {
    let id = asked["pendingId"].as_str().unwrap();
    let yes = json!({"action": "approve", "trustWindow": window});
    primary.post(&format!("pending/{id}"), &yes).await["granted"].clone()
}

#[tokio::test]
async fn a_yes_gives_what_its_preview_said_within_the_owners_longest_and_a_workflows_whole() {
    let (_stage, primary) = set().await;
    let ada = primary.agent("ada", &[]).await;
    let constraint = json!({"pathPrefix": {"field": "path", "allow": ["in/"]}});
    let write = json!({"decision": "allow", "verbs": ["write"], "constraint": constraint,
        "purpose": "keep a log"});
    let (_, asked) = ada.ask(&json!({WRITE: write, RUN: "allow"})).await;
    let item = primary.get("pending").await["pending"][0].clone();
    assert_eq!(item["scopes"][1]["constraint"], constraint, "{item}");
    let hours = json!({"kind": "custom", "ms": 7_200_000});
    let once = json!({"kind": "once"});
    let expected = json!([
        {"id": RUN, "verbs": ["read"], "trustWindow": once, "longest": once,
            "members": [{"id": "clock.time.set", "verbs": ["execute"]}]},
        {"id": WRITE, "verbs": ["write"], "trustWindow": hours, "longest": hours,
            "constraint": constraint},
    ]);
    assert_eq!(item["preview"]["grants"], expected, "{item}");
    let granted = approve(&primary, &asked, &json!({"kind": "7d"})).await;
    for (given, told) in granted.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
        assert_eq!((&given["trustWindow"], &given["verbs"]), (&told["longest"], &told["verbs"]));
        assert_eq!(given["constraint"], told["constraint"], "{granted}");
    }
    assert_eq!(granted.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_changed_since_it_was_asked_for_has_no_window_and_a_yes_to_it_is_refused() {
    const THERE: &str = "local/nas/notes.file.write";
    let stage = Stage::new();
    let primary = stage.primary().await;
    let proxy = stage.nas(&primary).await;
    primary.show("local/nas/*").await;
    let ada = primary.agent("ada", &[]).await;
    let (_, asked) = ada.ask(&json!({THERE: {"decision": "allow", "verbs": ["write"]}})).await;
    let preview = async || primary.get("pending").await["pending"][0]["preview"]["grants"].clone();
    assert_eq!(preview().await[0]["trustWindow"]["kind"], "1d");
    proxy.stop(PATIENCE).await.unwrap();
    let config = std::fs::read_to_string(stage.path("proxy.toml")).unwrap();
    std::fs::write(stage.path("proxy.toml"), config.replace("read-write", "read")).unwrap();
    let _proxy = stage.proxy().await;
    let fewer = |w: &Value| w["capabilities"].as_array().is_some_and(|c| c.len() == 2);
    primary.workload(fewer).await;
    assert_eq!(preview().await, json!([{"id": THERE, "verbs": ["write"]}]));
    let path = format!("pending/{}", asked["pendingId"].as_str().unwrap());
    let yes = primary.try_post(&path, &json!({"action": "approve"})).await;
    assert_eq!(yes.status, 409, "{}", body(&yes));
    let (_, asked) = ada.ask(&json!({"local/nas/notes.file.read": "allow"})).await;
    let path = format!("pending/{}", asked["pendingId"].as_str().unwrap());
    let no = primary.post(&path, &json!({"action": "deny"})).await;
    assert_eq!(no["granted"], json!([]));
}
