//! What granting a workflow lets its run do, and what it does not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Agent, Primary, Stage};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";
const LOOK: &str = "desk.note.look";
const SAVE: &str = "desk.note.save";

/// A gateway with a folder and two workflows over it, each of which says that it only reads.
async fn set() -> (Stage, Primary, Agent) {
    let (stage, primary) = Stage::shared().await;
    let workflow = |name: &str, member: &str, verb: &str| {
        json!({"name": name, "kind": "workflow", "label": name, "describe": "Looks at a note.",
            "grants": ["read"], "members": [{"id": member, "verbs": [verb]}]})
    };
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "desk", "label": "Desk", "transport": "workflow",
        "allowCrossSource": true,
        "capabilities": [workflow("note.look", READ, "read"), workflow("note.save", WRITE, "write")],
    });
    let installed = primary.post("extensions", &json!({ "manifest": manifest })).await;
    assert_eq!(installed["registered"], json!([LOOK, SAVE]), "{installed}");
    let ada = primary.agent("ada", &[]).await;
    (stage, primary, ada)
}

fn note() -> Value {
    json!({"path": "a.txt", "content": "kept"})
}

#[tokio::test]
async fn a_workflow_runs_with_its_members_scopes_and_nobody_else_does() {
    let (stage, primary, ada) = set().await;
    std::fs::write(stage.path("notes/a.txt"), "seen").unwrap();
    let (status, granted) = ada.ask(&json!({LOOK: "allow"})).await;
    assert_eq!(status, 200, "{granted}");
    let members = json!([{"workflowId": LOOK, "memberScopes": [{"id": READ, "verbs": ["read"]}]}]);
    assert_eq!(granted["transitive"], members);
    assert_eq!(granted["scopes"][1]["synthesizedFor"], LOOK);
    let token = granted["token"].as_str().unwrap();
    let (status, ran) = ada.invoke(token, LOOK, &json!({"path": "a.txt"})).await;
    assert_eq!(status, 200, "{ran}");
    assert!(ran["output"].to_string().contains("seen"), "{ran}");
    let (status, direct) = ada.invoke(token, READ, &json!({"path": "a.txt"})).await;
    assert_eq!((status, &direct["error"]["code"]), (401, &json!("grant_required")));
    primary.post("revoke", &json!({"agentId": "ada", "capabilityId": LOOK})).await;
    assert_eq!(ada.invoke(token, LOOK, &json!({"path": "a.txt"})).await.0, 401);
}

#[tokio::test]
async fn a_workflow_that_writes_waits_for_the_owner_whatever_it_says_of_itself() {
    let (stage, primary, ada) = set().await;
    std::fs::write(stage.path("notes/a.txt"), "as it was").unwrap();
    let (status, asked) = ada.ask(&json!({SAVE: "allow"})).await;
    let id = asked["pendingId"].as_str().unwrap_or_else(|| panic!("{status} {asked}"));
    let waiting = primary.get("pending").await["pending"][0]["pendingNarration"][0].clone();
    assert!(waiting["summary"].as_str().unwrap().contains("notes.file.write [write]"), "{waiting}");
    assert_eq!(waiting["sensitivity"], "elevated", "{waiting}");
    primary.approve(id, None).await;
    let token = ada.token(SAVE).await;
    let (status, ran) = ada.invoke(&token, SAVE, &note()).await;
    assert_eq!(status, 200, "{ran}");
    assert_eq!(std::fs::read_to_string(stage.path("notes/a.txt")).unwrap(), "kept");
    assert_eq!(ada.invoke(&token, WRITE, &note()).await.0, 401, "its members stay its own");
}

#[tokio::test]
async fn what_was_revoked_is_not_reached_through_a_workflow_unasked() {
    let (stage, primary, ada) = set().await;
    std::fs::write(stage.path("notes/a.txt"), "seen").unwrap();
    let (_, granted) = ada.ask(&json!({LOOK: "allow"})).await;
    let token = granted["token"].as_str().unwrap();
    primary.post("revoke", &json!({"agentId": "ada", "capabilityId": READ})).await;
    let (status, ran) = ada.invoke(token, LOOK, &json!({"path": "a.txt"})).await;
    assert_eq!((status, &ran["error"]["code"]), (401, &json!("token_revoked")), "{ran}");
    let (status, asked) = ada.ask(&json!({LOOK: "allow"})).await;
    assert!(asked["pendingId"].is_string(), "held or not, the owner is asked: {status} {asked}");
}

#[tokio::test]
async fn a_workflow_ends_with_the_source_that_it_reaches() {
    let (stage, primary, ada) = set().await;
    let (_, asked) = ada.ask(&json!({SAVE: "allow"})).await;
    let id = asked["pendingId"].as_str().unwrap();
    primary.post(&format!("pending/{id}"), &json!({"action": "approve"})).await;
    let token = ada.token(SAVE).await;
    let ask = Ask { method: Method::DELETE, ..Ask::get("/admin/api/sources/notes") };
    let ask = ask.header("x-plexus-connection-key", &primary.key);
    assert_eq!(primary.send(ask).await.unwrap().status, 200);
    std::fs::create_dir(stage.path("other")).unwrap();
    let config = json!({"path": stage.path("other"), "mode": "read-write"});
    primary.post("sources", &json!({"id": "notes", "kind": "workspace", "config": config})).await;
    let (status, ran) = ada.invoke(&token, SAVE, &note()).await;
    assert_eq!((status, &ran["error"]["code"]), (401, &json!("token_revoked")), "{ran}");
    let (_, asked) = ada.ask(&json!({SAVE: "allow"})).await;
    assert!(asked["pendingId"].is_string(), "what it writes to is another thing now: {asked}");
    primary.running.kill().await;
    let primary = stage.primary().await;
    assert_eq!(primary.get("grants").await["grants"], json!([]), "nor after a restart");
}

#[tokio::test]
async fn a_question_about_a_workflow_ends_with_the_source_that_it_reaches() {
    let (stage, primary, ada) = set().await;
    let (_, asked) = ada.ask(&json!({SAVE: "allow"})).await;
    let pending = asked["pendingId"].as_str().unwrap();
    primary.owner(Method::DELETE, "sources/notes", None).await;
    std::fs::create_dir(stage.path("elsewhere")).unwrap();
    let config = json!({"path": stage.path("elsewhere"), "mode": "read-write"});
    primary.post("sources", &json!({"id": "notes", "kind": "workspace", "config": config})).await;
    let yes = json!({"action": "approve"});
    let late = primary.try_post(&format!("pending/{pending}"), &yes).await;
    assert_eq!(late.status, 409, "what it writes to is another thing than was asked about");
    assert_eq!(ada.status(pending).await.1["state"], "denied");
}
