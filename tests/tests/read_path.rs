//! The agent's way, on the gateway's own machine: discover, enroll, handshake, be granted, call.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Stage, body, each_text};
use serde_json::{Value, json};

/// `value` with everything that differs from run to run replaced by its kind, times too.
fn stable(value: Value, url: &str) -> Value {
    let mut value = plexus_tests::stable(value, url);
    each_text(&mut value, &mut |text| {
        let bytes = text.as_bytes();
        if bytes.len() == 24 && bytes.get(10) == Some(&b'T') && bytes.ends_with(b"Z") {
            "<time>".clone_into(text);
        }
    });
    value
}

#[tokio::test]
async fn the_documents_have_the_contracts_shapes() {
    let (_stage, primary) = Stage::shared().await;
    let well_known = body(&primary.send(Ask::get("/.well-known/plexus")).await.unwrap());
    insta::assert_json_snapshot!("well_known", stable(well_known, &primary.url));
    let agent = primary.agent("ada", &[]).await;
    let (_, greeted) = primary.handshake(&agent.pat).await;
    insta::assert_json_snapshot!("handshake", stable(greeted, &primary.url));
    let (_, manifest) = agent.get("/manifest").await;
    assert_eq!(manifest["manifest"]["entries"].as_array().unwrap().len(), 3);

    let read = "notes.file.read";
    let write = json!({"decision": "allow", "verbs": ["write"], "purpose": "to\u{202e} answer"});
    let (status, mixed) = agent.ask(&json!({read: "allow", "notes.file.write": write})).await;
    assert_eq!(status, 200);
    insta::assert_json_snapshot!("grant_pending", stable(mixed.clone(), &primary.url));
    let token = mixed["partialToken"]["token"].as_str().unwrap();
    let (status, called) = agent.invoke(token, read, &json!({"path": "a.txt"})).await;
    assert_eq!((status, &called["output"]["content"]), (200, &json!("hello")));
    let (status, denied) = agent.invoke(token, "notes.file.write", &json!({"path": "b"})).await;
    assert_eq!(status, 401);
    insta::assert_json_snapshot!("invoke_denied", stable(denied, &primary.url));
    let (status, held) = agent.get("/grants").await;
    assert_eq!(status, 200);
    insta::assert_json_snapshot!("grants", stable(held, &primary.url));
    primary.running.stop(plexus_tests::PATIENCE).await.unwrap();
}

#[tokio::test]
async fn what_needs_the_owner_waits_for_the_owner_and_only_its_asker_sees_the_answer() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let bob = primary.agent("bob", &[]).await;
    let write = json!({"notes.file.write": {"decision": "allow", "verbs": ["write"]}});
    let (_, asked) = ada.ask(&write).await;
    let (_, again) = ada.ask(&write).await;
    assert_eq!(asked["pendingId"], again["pendingId"], "the same question is asked once");
    let id = asked["pendingId"].as_str().unwrap();
    let path = format!("/grants/status?pendingId={id}");
    assert_eq!(ada.get(&path).await.1["state"], "pending");
    let others = bob.get(&path).await;
    assert_eq!(others.0, 403);
    assert_eq!(others, bob.get("/grants/status?pendingId=pend_none").await, "told alike");

    primary.approve(id, Some("once")).await;
    let again = json!({"action": "approve"});
    assert_eq!(primary.try_post(&format!("pending/{id}"), &again).await.status, 409);
    assert_eq!(ada.get(&path).await.1["state"], "approved");
    let token = ada.taken(id).await;
    let input = json!({"path": "b.txt", "content": "x"});
    assert_eq!(ada.invoke(&token, "notes.file.write", &input).await.0, 200);
    let (status, used) = ada.invoke(&token, "notes.file.write", &input).await;
    assert_eq!((status, &used["error"]["code"]), (401, &json!("grant_required")), "once is once");
    let (_, held) = ada.get("/grants").await;
    assert_eq!(held["grants"], json!([]), "a single use leaves nothing standing");
}

#[tokio::test]
async fn asking_wrongly_is_told_apart() {
    let (_stage, _primary, ada) = Stage::with_ada().await;
    let allow = |verbs: Value| json!({"decision": "allow", "verbs": verbs});
    let read = "notes.file.read";
    for (grants, code) in [
        (json!({"no.such.thing": "allow", read: "allow"}), "unknown_capability"),
        (json!({read: "ALLOW"}), "schema_validation_failed"),
        (json!({read: null}), "schema_validation_failed"),
        (json!({read: allow(json!([]))}), "schema_validation_failed"),
        (json!({read: allow(json!(["write"]))}), "schema_validation_failed"),
        (json!({read: allow(json!(["delete"]))}), "schema_validation_failed"),
        (json!({"notes.file.write": "allow"}), "schema_validation_failed"),
        (json!({read: "deny"}), "schema_validation_failed"),
        (json!({}), "schema_validation_failed"),
        (json!([]), "schema_validation_failed"),
        (
            json!({read: {"decision": "allow", "constraint": {"match": []}}}),
            "schema_validation_failed",
        ),
    ] {
        let (status, answer) = ada.ask(&grants).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{grants}");
        let told = answer["error"].to_string();
        let asked = grants.as_object().into_iter().flatten().find(|(_, asked)| *asked != "deny");
        assert!(asked.is_none_or(|(id, _)| told.contains(id.as_str())), "which one: {told}");
    }
    assert_eq!(ada.get("/grants").await.1["grants"], json!([]), "nothing was granted on the way");
    let token = ada.token(read).await;
    let (status, answer) = ada.invoke(&token, read, &json!({"path": 7})).await;
    assert_eq!((status, &answer["error"]["detail"]["errors"][0]["path"]), (422, &json!("/path")));
    let (status, answer) = ada.invoke(&token, "no.such.thing", &json!({})).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_capability")));
}

#[tokio::test]
async fn a_hidden_capability_is_gone_for_all_but_its_holder() {
    let (_stage, primary) = Stage::shared().await;
    let (ada, bob) = (primary.agent("ada", &[]).await, primary.agent("bob", &[]).await);
    let (read, list) = ("notes.file.read", "notes.file.list");
    let (held, other) = (ada.token(read).await, bob.token(list).await);
    let before = ada.get("/manifest").await.1["manifest"]["revision"].as_u64().unwrap();
    primary.post("exposure/notes.file.read", &json!({"enabled": false})).await;
    let input = json!({"path": "a.txt"});
    let (status, answer) = ada.invoke(&held, read, &input).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("capability_unexposed")));
    let (status, answer) = bob.invoke(&other, read, &input).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_capability")));
    assert_eq!(ada.ask(&json!({read: "allow"})).await.0, 400);
    let manifest = ada.get("/manifest").await.1["manifest"].clone();
    assert_eq!(manifest["entries"].as_array().unwrap().len(), 2);
    assert!(manifest["revision"].as_u64().unwrap() > before);
    assert_eq!(ada.get("/grants").await.1["grants"][0]["topLevelDisabled"], true);
    primary.post("exposure/notes.file.read", &json!({"enabled": true})).await;
    assert_eq!(ada.invoke(&held, read, &input).await.0, 200, "the grant stood all along");
}

#[tokio::test]
async fn credentials_open_only_their_own_door() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token("notes.file.read").await;
    let key = primary.key.clone();
    for bearer in [&key, &token, "plx_agent_00"] {
        let (session, answer) = primary.handshake(bearer).await;
        assert_eq!((session.as_str(), &answer["error"]["code"]), ("", &json!("session_expired")));
    }
    let owner = json!({"connectionKey": primary.key});
    let pat = format!("Bearer {}", ada.pat);
    for bearers in [&["Bearer"][..], &["Bearer "], &["bearer x"], &[&pat, &pat], &["Basic x", &pat]]
    {
        let headers: Vec<_> = bearers.iter().map(|bearer| ("authorization", *bearer)).collect();
        let (status, _) = primary.tell(Method::POST, "/link/handshake", &headers, &owner).await;
        assert!([401, 429].contains(&status), "never falls through to the body: {bearers:?}");
        let call = json!({"id": "notes.file.list", "input": {}});
        let headers = [&headers[..], &[("x-plexus-session", ada.session.as_str())]].concat();
        let (status, _) = primary.tell(Method::POST, "/invoke", &headers, &call).await;
        assert_eq!(status, 401, "nor to the session: {bearers:?}");
    }
    for bearer in [&key, &ada.pat, &ada.session, "x"] {
        let (status, answer) = ada.invoke(bearer, "notes.file.read", &json!({})).await;
        assert_eq!((status, answer["auditId"].as_str()), (401, Some("")), "an edge refusal");
        assert!(answer["error"]["grantRequestUrl"].as_str().unwrap().ends_with("/grants"));
    }
    for wrong in [&ada.pat, &token, "plx_live_00"] {
        let ask = Ask::get("/admin/api/status").header("x-plexus-connection-key", wrong);
        assert_eq!(primary.send(ask).await.unwrap().status, 401);
    }
    let redeem = json!({ "code": ada.pat });
    let ask = Ask::with_body(Method::POST, "/agents/enroll", &redeem);
    assert_eq!(body(&primary.send(ask).await.unwrap())["error"]["code"], "malformed");
}

#[tokio::test]
async fn grants_outlive_a_restart_and_sessions_do_not() {
    let (stage, primary) = Stage::shared().await;
    let ada = primary.agent("ada", &["notes.file.read"]).await;
    let token = ada.token("notes.file.read").await;
    let revision = primary.get("capabilities").await["revision"].as_u64().unwrap();
    let mesh = primary.mesh.clone();
    let port = primary.url.rsplit(':').next().unwrap().parse().unwrap();
    primary.running.stop(plexus_tests::PATIENCE).await.unwrap();
    let primary = stage.primary_at(port, &mesh).await;
    let (status, answer) = ada.invoke(&token, "notes.file.read", &json!({"path": "a.txt"})).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("session_expired")));
    let ada = primary.greet(&ada.pat).await;
    assert_eq!(ada.get("/grants").await.1["grants"][0]["capabilityId"], "notes.file.read");
    let token = ada.token("notes.file.read").await;
    assert_eq!(ada.invoke(&token, "notes.file.read", &json!({"path": "a.txt"})).await.0, 200);
    assert!(primary.get("capabilities").await["revision"].as_u64().unwrap() >= revision);
}

#[tokio::test]
async fn a_skill_is_read_and_neither_granted_nor_called() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let body = json!({"format": "markdown", "markdown": "# Be brief"});
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "guide", "label": "Guide",
        "transport": "skill", "capabilities": [{"name": "how.to", "kind": "skill", "label": "How",
        "describe": "How to ask.", "body": body}]});
    primary.post("extensions", &json!({ "manifest": manifest })).await;
    let (_, seen) = ada.get("/manifest").await;
    let entries = seen["manifest"]["entries"].as_array().unwrap();
    let skill = entries.iter().find(|entry| entry["id"] == "guide.how.to").unwrap();
    assert_eq!(skill["body"], body);
    let points_there = |refused: &Value| {
        refused["error"]["message"].as_str().is_some_and(|message| message.contains("/manifest"))
    };
    let (status, asked) = ada.ask(&json!({"guide.how.to": "allow"})).await;
    assert!(status == 400 && points_there(&asked), "{asked}");
    let token = ada.token("notes.file.read").await;
    let (status, called) = ada.invoke(&token, "guide.how.to", &json!({})).await;
    assert!(status == 401 && points_there(&called), "{called}");
}
