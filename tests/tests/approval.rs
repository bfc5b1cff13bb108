//! What a yes means: no more than was asked for, no more than the owner says, and nothing that can't be
//! handed over.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Agent, Primary, Stage, body};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

async fn set() -> (Stage, Primary, Agent) {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.share(&stage).await;
    let ada = primary.agent("ada", &[]).await;
    (stage, primary, ada)
}

fn below(places: &[&str]) -> Value {
    json!({"pathPrefix": {"field": "path", "allow": places}})
}

/// A constraint of about `bytes`, which admits `a.txt`.
fn long(bytes: usize) -> Value {
    let mut values = vec!["a.txt".to_owned()];
    values.extend((0..4).map(|n| n.to_string().repeat(bytes / 4)));
    json!({"allow": {"field": "path", "values": values}})
}

#[tokio::test]
async fn the_owners_constraint_joins_each_that_was_asked_with() {
    let (stage, primary, ada) = set().await;
    let (code, said) = stage.plexus(&["settings", "set", "policy=confirm-all"]).await;
    assert_eq!(code, 0, "{said}");
    let ask = json!({
        READ: {"decision": "allow", "constraint": below(&["in/"])},
        WRITE: {"decision": "allow", "verbs": ["write"], "constraint": below(&["in/log", "out"])},
    });
    let (_, asked) = ada.ask(&ask).await;
    let id = asked["pendingId"].as_str().unwrap();
    let waiting = primary.get("pending").await["pending"][0].clone();
    assert_eq!(waiting["scopes"][0]["constraint"], below(&["in/"]), "the owner sees it");
    let approve = |constraint: Value| {
        let (primary, path) = (&primary, format!("pending/{id}"));
        let answer = json!({"action": "approve", "constraint": constraint});
        async move { primary.try_post(&path, &answer).await }
    };
    let elsewhere = json!({"pathPrefix": {"field": "folder", "allow": ["in"]}});
    for unfit in [below(&["elsewhere"]), elsewhere, long(20_000)] {
        let refused = approve(unfit).await;
        assert_eq!(refused.status, 400, "{}", body(&refused));
    }
    let (_, status) = ada.get(&format!("/grants/status?pendingId={id}")).await;
    assert_eq!(status["state"], "pending", "a yes that can't be is none");
    assert_eq!(primary.get("grants").await["grants"], json!([]));

    assert_eq!(approve(below(&["in/log", "in/b", "elsewhere"])).await.status, 200);
    let (_, status) = ada.get(&format!("/grants/status?pendingId={id}")).await;
    let scopes = &status["token"]["scopes"];
    assert_eq!(scopes[0]["constraint"], below(&["in/b", "in/log"]), "{scopes}");
    assert_eq!(scopes[1]["constraint"], below(&["in/log"]), "{scopes}");
    let token = status["token"]["token"].as_str().unwrap();
    for path in ["in/a.txt", "elsewhere/a.txt", "out/a.txt"] {
        let (_, answer) = ada.invoke(token, READ, &json!({ "path": path })).await;
        assert_eq!(answer["error"]["code"], "grant_required", "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_no_token_could_carry_is_neither_granted_nor_asked() {
    let (_stage, primary, ada) = set().await;
    let read = async |bytes: usize| {
        ada.ask(&json!({READ: {"decision": "allow", "constraint": long(bytes)}})).await
    };
    let (mut given, mut refused) = (0, 0);
    for bytes in (11_200..12_400).step_by(40) {
        let (status, answer) = read(bytes).await;
        if status == 400 {
            assert_eq!(answer["error"]["code"], "schema_validation_failed", "{answer}");
            refused += 1;
            continue;
        }
        let token = answer["token"].as_str().unwrap();
        let (status, answer) = ada.invoke(token, READ, &json!({"path": "a.txt"})).await;
        assert_eq!(status, 200, "{bytes}: what is given can be read back: {answer}");
        given += 1;
    }
    assert!(given > 0 && refused > 0, "{given} {refused}");
    let held = primary.get("grants").await["grants"].as_array().unwrap().len();
    assert_eq!(held, given, "what was refused was not granted either");

    let write = json!({"decision": "allow", "verbs": ["write"], "constraint": long(12_400)});
    assert_eq!(ada.ask(&json!({ WRITE: write })).await.0, 400);
    assert_eq!(primary.get("pending").await["pending"], json!([]), "nobody was asked");
    let order = json!({"agentId": "ada", "grants": {WRITE: {"constraint": long(12_400)}}});
    let ask = Ask::with_body(Method::PUT, "/admin/api/grants", &order);
    let given = primary.send(ask.header("x-plexus-connection-key", &primary.key)).await.unwrap();
    assert_eq!(given.status, 400, "nor by the owner's own hand");
}

#[tokio::test]
async fn a_bundle_goes_with_all_that_it_gave_and_was_to_give() {
    let (stage, primary, ada) = set().await;
    let session = [("x-plexus-session", ada.session.as_str())];
    let ask = async |verb: &str, id: &str| {
        let request = json!({"grants": {id: {"decision": "allow", "verbs": [verb]}},
            "bundle": {"name": "tidy up"}});
        primary.tell(Method::PUT, "/grants", &session, &request).await.1
    };
    let read = ask("read", READ).await;
    let single = ask("write", WRITE).await["pendingId"].as_str().unwrap().to_owned();
    primary.approve(&single, Some("once")).await;
    let single = ada.taken(&single).await;
    let waiting = ask("write", WRITE).await["pendingId"].as_str().unwrap().to_owned();
    let other = ada.pending(WRITE, "write").await;
    let bundle = primary.get("bundles").await["bundles"][0]["bundleId"].clone();
    primary.post("revoke", &json!({ "bundleId": bundle })).await;

    let text = json!({"path": "b.txt", "content": "x"});
    let (_, answer) = ada.invoke(&single, WRITE, &text).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "its single use is over: {answer}");
    let token = read["token"].as_str().unwrap();
    assert_eq!(ada.invoke(token, READ, &json!({"path": "a.txt"})).await.0, 401);
    assert_eq!(ada.status(&waiting).await.1["state"], "denied", "what waits for it does no more");
    assert_eq!(ada.status(&other).await.1["state"], "pending", "and nothing else is touched");
    let marked = async |ada: &Agent| ada.ask(&json!({READ: "allow"})).await.1["status"].clone();
    assert_eq!(marked(&ada).await, "grant_pending_user", "its reads are not allowed unasked");
    primary.running.kill().await;
    let primary = stage.primary().await;
    let ada = primary.greet(&ada.pat).await;
    assert_eq!(marked(&ada).await, "grant_pending_user", "nor after a restart");
}

#[tokio::test]
async fn the_owner_sees_how_far_a_question_has_come_and_never_its_token() {
    let (_stage, primary, ada) = set().await;
    let bob = primary.agent("bob", &[]).await;
    let pending = ada.pending(WRITE, "write").await;
    let key = [("x-plexus-connection-key", primary.key.as_str())];
    let seen = async |id: &str| {
        let path = format!("/grants/status?pendingId={id}");
        primary.tell(Method::GET, &path, &key, &json!({})).await
    };
    let (status, before) = seen(&pending).await;
    assert_eq!((status, &before["state"]), (200, &json!("pending")));
    assert_eq!(before["pendingNarration"][0]["id"], WRITE);
    primary.approve(&pending, None).await;
    let (_, after) = seen(&pending).await;
    assert_eq!((&after["state"], after.get("token")), (&json!("approved"), None));
    assert!(ada.status(&pending).await.1["token"]["token"].is_string());
    let nothing = seen("pend_00000000000000000000000000").await;
    assert_eq!(nothing.0, 403);
    assert_eq!(bob.status(&pending).await, nothing, "as for an id that never was");
}
