//! A yes is to what was shown: what changed since is asked anew, and a single use of it is void.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use plexus_shared::transport::child::Running;
use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

const WRITE: &str = "local/nas/notes.file.write";

/// Starts the proxy with its source called `label`, which its entries tell, and waits until the
/// primary has them.
async fn called(stage: &Stage, primary: &Primary, label: &str) -> Running {
    let path = stage.path("proxy.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let kept = config.lines().filter(|line| !line.starts_with("label"));
    let kept: Vec<_> = kept.collect();
    std::fs::write(&path, format!("{}\nlabel = {label:?}\n", kept.join("\n"))).unwrap();
    let proxy = stage.proxy().await;
    let here = async {
        loop {
            let listed = primary.get("capabilities").await;
            let told = |entry: &Value| entry["describe"].as_str().unwrap().contains(label);
            let mine = |entry: &&Value| entry["id"] == WRITE;
            if listed["entries"].as_array().unwrap().iter().find(mine).is_some_and(told) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, here).await.unwrap();
    proxy
}

#[tokio::test]
async fn what_changed_since_it_was_asked_for_is_asked_anew() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    stage.join(&primary, "nas").await;
    let proxy = called(&stage, &primary, "Diary").await;
    primary.show("local/nas/*").await;
    let agent = primary.agent("ada", &[]).await;
    let first = agent.pending(WRITE, "write").await;
    proxy.stop(PATIENCE).await.unwrap();
    let proxy = called(&stage, &primary, "Accounts").await;

    let yes = json!({"action": "approve", "trustWindow": {"kind": "once"}});
    let late = primary.try_post(&format!("pending/{first}"), &yes).await;
    assert_eq!(late.status, 409);
    let second = body(&late)["error"]["pendingId"].as_str().unwrap().to_owned();
    let (_, status) = agent.get(&format!("/grants/status?pendingId={first}")).await;
    assert_eq!((&status["state"], status.get("token")), (&json!("denied"), None));
    let open = primary.get("pending").await;
    let open: Vec<_> = open["pending"].as_array().unwrap().iter().collect();
    assert_eq!(open.len(), 1, "the old one waits no more");
    assert_eq!(open[0]["pendingId"], json!(second));

    primary.post(&format!("pending/{second}"), &yes).await;
    let (_, status) = agent.get(&format!("/grants/status?pendingId={second}")).await;
    let token = status["token"]["token"].as_str().unwrap().to_owned();
    proxy.stop(PATIENCE).await.unwrap();
    let _proxy = called(&stage, &primary, "Diary").await;
    let input = json!({"path": "b.txt", "content": "x"});
    let (status, answer) = agent.invoke(&token, WRITE, &input).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("grant_required")), "{answer}");
    assert!(!stage.path("notes/b.txt").exists());
}

#[tokio::test]
async fn a_workflow_whose_member_changed_is_asked_anew_and_a_single_use_of_it_is_void() {
    const SAVE: &str = "desk.note.save";
    let stage = Stage::new();
    let primary = stage.primary().await;
    stage.join(&primary, "nas").await;
    let proxy = called(&stage, &primary, "Diary").await;
    primary.show("local/nas/*").await;
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "desk", "label": "Desk",
        "transport": "workflow", "allowCrossSource": true,
        "capabilities": [{"name": "note.save", "kind": "workflow", "label": "Save",
            "describe": "Saves it.", "grants": ["read"],
            "members": [{"id": WRITE, "verbs": ["write"]}]}]});
    primary.post("extensions", &json!({ "manifest": manifest })).await;
    let agent = primary.agent("ada", &[]).await;
    let first = agent.pending(SAVE, "read").await;
    proxy.stop(PATIENCE).await.unwrap();
    let proxy = called(&stage, &primary, "Accounts").await;
    let yes = json!({"action": "approve", "trustWindow": {"kind": "once"}});
    let late = primary.try_post(&format!("pending/{first}"), &yes).await;
    assert_eq!(late.status, 409, "it writes to another thing now");
    let second = body(&late)["error"]["pendingId"].as_str().unwrap().to_owned();

    primary.post(&format!("pending/{second}"), &yes).await;
    let token = agent.taken(&second).await;
    proxy.stop(PATIENCE).await.unwrap();
    let proxy = called(&stage, &primary, "Diary").await;
    let input = json!({"path": "b.txt", "content": "x"});
    let (status, answer) = agent.invoke(&token, SAVE, &input).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("grant_required")), "{answer}");
    assert!(!stage.path("notes/b.txt").exists());
    proxy.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_not_repeated_under_another_definition() {
    const READ: &str = "local/nas/notes.file.read";
    let stage = Stage::new();
    let primary = stage.primary().await;
    stage.join(&primary, "nas").await;
    let proxy = called(&stage, &primary, "Diary").await;
    primary.show("local/nas/*").await;
    let agent = primary.agent("ada", &[READ]).await;
    let bearer = format!("Bearer {}", agent.token(READ).await);
    let call = json!({"id": READ, "idempotencyKey": "k", "input": {"path": "a.txt"}});
    let read = async || {
        let ask = Ask::with_body(Method::POST, "/invoke", &call);
        body(&agent.send(ask.header("authorization", &bearer)).await)
    };
    let first = read().await;
    assert_eq!(first["output"]["content"], "hello", "{first}");
    assert_eq!(read().await["output"], first["output"]);
    proxy.stop(PATIENCE).await.unwrap();
    let proxy = called(&stage, &primary, "Accounts").await;
    let again = read().await;
    assert_eq!(again["error"]["code"], "transport_error", "{again}");
    assert_eq!(again["error"]["detail"], json!({"outcome": "ok", "auditId": first["auditId"]}));
    proxy.stop(PATIENCE).await.unwrap();
}

/// A command that says what it is told, `how` the owner wants it now: what was there is replaced.
async fn install(primary: &Primary, how: &str) {
    primary.owner(Method::DELETE, "extensions/tool", None).await;
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "tool", "label": "Tool",
        "transport": "cli", "binaries": ["echo"],
        "capabilities": [{"name": "word.say", "kind": "capability", "label": "Say",
            "describe": "Says it.", "grants": ["write"],
            "route": {"bin": "echo", "argv": [how, "{text}"]}}]});
    primary.post("extensions", &json!({ "manifest": manifest })).await;
}

#[tokio::test]
async fn what_its_owner_updates_between_question_and_yes_is_asked_anew() {
    let (_stage, primary) = Stage::shared().await;
    install(&primary, "softly").await;
    let ada = primary.agent("ada", &[]).await;
    let call = json!({"id": "tool.word.say", "input": {"text": "hello"}});
    let asked = async || {
        let (_, asked) = ada.assisted(&call).await;
        asked["error"]["pendingId"].as_str().unwrap_or_else(|| panic!("{asked}")).to_owned()
    };
    let first = asked().await;
    install(&primary, "loudly").await;
    let yes = json!({"action": "approve"});
    assert_eq!(primary.try_post(&format!("pending/{first}"), &yes).await.status, 409);
    assert_ne!(ada.status(&first).await.1["state"], "approved");

    let second = asked().await;
    assert_ne!(first, second, "it is another question");
    primary.approve(&second, None).await;
    let token = ada.taken(&second).await;
    install(&primary, "softly").await;
    let (status, void) = ada.call(&token, &call).await;
    assert_eq!((status, &void["ok"]), (401, &json!(false)), "{void}");

    let third = asked().await;
    primary.approve(&third, None).await;
    let (status, said) = ada.call(&ada.taken(&third).await, &call).await;
    assert_eq!((status, &said["output"]["stdout"]), (200, &json!("softly hello\n")), "{said}");
}
