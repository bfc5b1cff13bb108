//! What the owner does with sources and bundles, and sees of their health.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::Method;
use plexus_tests::{PATIENCE, Stage, body};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

#[tokio::test]
async fn a_disabled_source_is_not_there_and_what_was_granted_on_it_waits() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token(READ).await;
    let input = json!({"path": "a.txt"});
    assert_eq!(ada.invoke(&token, READ, &input).await.0, 200);
    let before = primary.get("status").await["revision"].as_u64().unwrap();
    let off = primary.post("sources/notes/disable", &json!({})).await;
    assert_eq!(
        (&off["ok"], &off["source"], &off["registered"]),
        (&json!(true), &json!("notes"), &json!([]))
    );
    assert!(off["revision"].as_u64().unwrap() > before, "{off}");
    let (status, gone) = ada.invoke(&token, READ, &input).await;
    assert_eq!((status, &gone["error"]["code"]), (404, &json!("unknown_capability")));
    let listed = primary.get("sources").await["sources"][0].clone();
    assert_eq!((&listed["enabled"], &listed["status"]), (&json!(false), &json!("unknown")));
    let taken =
        json!({"id": "notes", "kind": "workspace", "config": {"path": stage.path("notes")}});
    assert_eq!(primary.try_post("sources", &taken).await.status, 409, "its name is kept");

    primary.running.stop(PATIENCE).await.unwrap();
    let primary = stage.primary().await;
    let ada = primary.greet(&ada.pat).await;
    assert_eq!(primary.get("capabilities").await["entries"], json!([]), "and stays so");
    let checks = primary.get("doctor").await["checks"].to_string();
    assert!(!checks.contains("it is disabled"), "it is as the owner wants it: {checks}");
    let on = primary.post("sources/notes/enable", &json!({})).await;
    assert!(on["registered"].to_string().contains(READ), "{on}");
    assert_eq!(primary.get("grants").await["grants"].as_array().unwrap().len(), 1, "it stood");
    let token = ada.token(READ).await;
    assert_eq!(ada.invoke(&token, READ, &input).await.0, 200);
    for path in ["sources/nothing/enable", "sources/nothing/disable"] {
        assert_eq!(primary.try_post(path, &json!({})).await.status, 404, "{path}");
    }
    let later = json!({"id": "later", "kind": "workspace", "enabled": false,
        "config": {"path": stage.path("notes")}});
    assert_eq!(primary.post("sources", &later).await["registered"], json!([]));
    let said = primary.get("audit?type=source.change").await.to_string();
    assert!(said.contains("disable") && said.contains("enable"), "{said}");
}

#[tokio::test]
async fn a_source_that_is_configured_otherwise_is_something_else() {
    let (stage, primary, ada) = Stage::with_ada().await;
    std::fs::create_dir(stage.path("other")).unwrap();
    std::fs::write(stage.path("other/a.txt"), "private").unwrap();
    let token = ada.token(READ).await;
    let pending = ada.pending(WRITE, "write").await;
    let to = |path: Value| json!({"config": {"path": path, "mode": "read-write"}});
    for wrong in [to(json!("relative")), to(json!(7)), json!({"config": {}}), json!({})] {
        let answer = primary.try_post("sources/notes/reconfigure", &wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", body(&answer));
    }
    assert_eq!(ada.invoke(&token, READ, &json!({"path": "a.txt"})).await.0, 200, "as it was");
    let same = primary.get("sources").await["sources"][0]["config"].clone();
    primary.post("sources/notes/reconfigure", &json!({ "config": same })).await;
    assert_eq!(ada.invoke(&token, READ, &json!({"path": "a.txt"})).await.0, 200, "it is the same");
    let moved = primary.post("sources/notes/reconfigure", &to(json!(stage.path("other")))).await;
    assert!(moved["registered"].to_string().contains(READ), "{moved}");
    let (status, old) = ada.invoke(&token, READ, &json!({"path": "a.txt"})).await;
    assert_eq!((status, &old["error"]["code"]), (401, &json!("token_revoked")));
    assert_eq!(primary.get("grants").await["grants"], json!([]));
    assert_eq!(ada.status(&pending).await.1["state"], "denied");
    let token = ada.token(READ).await;
    let (_, read) = ada.invoke(&token, READ, &json!({"path": "a.txt"})).await;
    assert!(read["output"].to_string().contains("private"), "{read}");
}

#[tokio::test]
async fn a_bundle_of_the_owners_is_like_any_other() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let context = json!([{"kind": "inline", "label": "how", "markdown": "# Be brief"}]);
    let bundle = json!({"name": "tidy up", "agentId": "ada", "context": context,
        "grants": {READ: ["read"], WRITE: {"verbs": ["write"], "trustWindow": {"kind": "1h"}}}});
    let made = primary.post("bundles", &bundle).await;
    let id = made["bundleId"].as_str().unwrap();
    assert_eq!(made["granted"].as_array().unwrap().len(), 2, "{made}");
    assert_eq!(made["skipped"], json!([]));
    let again = primary.post("bundles", &bundle).await;
    assert_eq!(again["bundleId"], id, "one agent's bundles of one name are one");
    let listed = primary.get("bundles").await["bundles"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("tidy up")));
    let (_, read) = ada.get(&format!("/grants/context?bundle={id}")).await;
    assert_eq!(read["context"][0]["markdown"], "# Be brief");
    let token = ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await.1;
    let token = token["token"].as_str().unwrap();
    let gone = primary.owner(Method::DELETE, &format!("bundles/{id}"), None).await;
    assert_eq!(body(&gone)["grantRemoved"], true);
    assert_eq!(ada.invoke(token, WRITE, &json!({"path": "b", "content": "x"})).await.0, 401);
    let wrong = [
        json!({"name": "x", "agentId": "nobody", "grants": {READ: ["read"]}}),
        json!({"name": "x", "agentId": "ada", "grants": {"notes.file.gone": ["read"]}}),
        json!({"name": " ", "agentId": "ada", "grants": {READ: ["read"]}}),
        json!({"agentId": "ada", "grants": {READ: ["read"]}}),
        json!({"name": "x", "agentId": "ada", "grants": {READ: ["read"]}, "context": [{"kind": "x"}]}),
    ];
    for wrong in wrong {
        assert_eq!(primary.try_post("bundles", &wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(primary.get("bundles").await["bundles"], json!([]));
}

#[tokio::test]
async fn the_owner_sees_how_everything_is() {
    let (stage, primary) = Stage::shared().await;
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "words", "label": "Words",
        "transport": "skill", "capabilities": [{"name": "word.howto", "kind": "skill",
            "label": "How", "grants": [], "describe": "How.",
            "body": {"format": "markdown", "markdown": "# How"}}]});
    primary.post("extensions", &json!({ "manifest": manifest })).await;
    stage.join(&primary, "nas").await;
    let health = primary.get("health").await["sources"].clone();
    let told = |n: usize| {
        let line = &health[n];
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        [text("source"), text("kind"), text("status")]
    };
    assert_eq!(told(0), ["notes", "source", "ok"]);
    assert_eq!(told(1), ["words", "extension", "ok"]);
    assert_eq!(told(2), ["local/nas", "workload", "unavailable"], "{health}");
    assert!(health[2]["detail"].is_string() && health[2]["checkedAt"].is_string(), "{health}");
}

#[tokio::test]
async fn the_owner_sees_when_an_agent_was_here_last() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    primary.post("agents/connect", &json!({"agentId": "bob"})).await;
    let agents = primary.get("agents/enrollments").await["agents"].clone();
    let (first, never) = (agents[0]["lastSeenAt"].clone(), agents[1].get("lastSeenAt"));
    assert!(first.is_string() && never.is_none(), "{agents}");
    assert_eq!(ada.get("/manifest").await.0, 200);
    let agents = primary.get("agents/enrollments").await["agents"].clone();
    let last = agents[0]["lastSeenAt"].as_str().unwrap();
    assert!(last >= first.as_str().unwrap() && agents[1].get("lastSeenAt").is_none(), "{agents}");
}
