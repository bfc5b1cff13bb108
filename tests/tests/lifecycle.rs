//! What stands, for how long, for what; and how it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Agent, PATIENCE, Stage, all, body};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

#[tokio::test]
async fn a_constraint_narrows_a_grant_and_is_carried_by_its_tokens() {
    let (stage, primary, ada) = Stage::with_ada().await;
    std::fs::create_dir(stage.path("notes/in")).unwrap();
    std::fs::write(stage.path("notes/in/b.txt"), "inside").unwrap();
    let constraint = json!({"pathPrefix": {"field": "path", "allow": ["in/"]}});
    let ask = json!({READ: {"decision": "allow", "constraint": constraint}});
    let (status, answer) = ada.ask(&ask).await;
    assert_eq!((status, &answer["scopes"][0]["constraint"]), (200, &constraint));
    let token = answer["token"].as_str().unwrap();
    assert_eq!(ada.invoke(token, READ, &json!({"path": "in/b.txt"})).await.0, 200);
    for outside in [json!({"path": "a.txt"}), json!({"path": "in/../a.txt"}), json!({})] {
        let (status, answer) = ada.invoke(token, READ, &outside).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (401, &json!("grant_required")),
            "{outside}"
        );
    }
    let never = json!({READ: {"decision": "allow", "constraint": {"match": []}}});
    assert_eq!(ada.ask(&never).await.0, 400);
    let bearer = format!("Bearer {token}");
    let request = json!({"sessionId": ada.session, "jti": answer["jti"]});
    let refreshed = primary
        .tell(Method::POST, "/grants/refresh", &[("authorization", &bearer)], &request)
        .await
        .1;
    assert_eq!(refreshed["scopes"][0]["constraint"], constraint, "{refreshed}");
    assert_eq!(ada.get("/grants").await.1["grants"][0]["constraint"], constraint);
}

#[tokio::test]
async fn refresh_carries_on_what_stands_and_ends_the_old_token() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let (_, granted) = ada.ask(&json!({READ: "allow"})).await;
    let token = granted["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let request = json!({"sessionId": ada.session, "jti": granted["jti"]});
    let old = [("authorization", bearer.as_str())];
    let refresh = || primary.tell(Method::POST, "/grants/refresh", &old, &request);
    let (status, fresh) = refresh().await;
    assert_eq!(status, 200, "{fresh}");
    let input = json!({"path": "a.txt"});
    assert_eq!(ada.invoke(fresh["token"].as_str().unwrap(), READ, &input).await.0, 200);
    let (status, old) = ada.invoke(&token, READ, &input).await;
    assert_eq!((status, &old["error"]["code"]), (401, &json!("token_revoked")));
    assert_eq!(refresh().await.0, 401, "a token is refreshed once");
    let other = json!({"sessionId": ada.session, "jti": "tok_other"});
    let bearer = format!("Bearer {}", fresh["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(primary.tell(Method::POST, "/grants/refresh", &headers, &other).await.0, 401);
    primary.post("revoke", &json!({"agentId": "ada", "capabilityId": READ})).await;
    let request = json!({"sessionId": ada.session, "jti": fresh["jti"]});
    assert_eq!(primary.tell(Method::POST, "/grants/refresh", &headers, &request).await.0, 401);
}

#[tokio::test]
async fn a_revoke_takes_the_grant_its_tokens_and_the_silent_yes() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let bob = primary.agent("bob", &[]).await;
    let (mine, his) = (ada.token(READ).await, bob.token(READ).await);
    let other = ada.token("notes.file.list").await;
    let revoked = primary.post("revoke", &json!({"agentId": "ada", "capabilityId": READ})).await;
    assert_eq!((&revoked["ok"], &revoked["grantRemoved"]), (&json!(true), &json!(true)));
    let input = json!({"path": "a.txt"});
    assert_eq!(ada.invoke(&mine, READ, &input).await.1["error"]["code"], "token_revoked");
    assert_eq!(bob.invoke(&his, READ, &input).await.0, 200, "others are untouched");
    assert_eq!(ada.invoke(&other, "notes.file.list", &json!({})).await.0, 200, "and other tokens");
    let (_, asked) = ada.ask(&json!({READ: "allow"})).await;
    assert_eq!(asked["status"], "grant_pending_user", "what was revoked is asked again");
    let id = asked["pendingId"].as_str().unwrap();
    primary.approve(id, None).await;
    ada.token(READ).await;
    let again = primary.post("revoke", &json!({"agentId": "ada", "capabilityId": WRITE})).await;
    assert_eq!(again["grantRemoved"], false, "a revoke of nothing is fine");
}

#[tokio::test]
async fn an_agent_gives_back_its_own_token_and_nothing_else() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let bob = primary.agent("bob", &[]).await;
    let (_, mine) = ada.ask(&json!({READ: "allow"})).await;
    let (_, his) = bob.ask(&json!({READ: "allow"})).await;
    let bearer = format!("Bearer {}", mine["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let revoke = |value: Value| {
        let primary = &primary;
        async move { primary.tell(Method::POST, "/grants/revoke", &headers, &value).await.0 }
    };
    assert_eq!(revoke(json!({"jti": his["jti"]})).await, 403);
    assert_eq!(revoke(json!({"agentId": "bob", "capabilityId": READ})).await, 403);
    let mixed = json!({"jti": mine["jti"], "agentId": "bob", "capabilityId": READ});
    assert_eq!(revoke(mixed).await, 400, "the right to one carries no other");
    assert_eq!(revoke(json!({})).await, 400);
    let live = primary.get("tokens").await["tokens"].clone();
    let listed = live.as_array().unwrap().iter().find(|token| token["jti"] == mine["jti"]);
    assert_eq!(listed.unwrap()["scopes"], mine["scopes"], "the owner sees what it may do");
    assert_eq!(revoke(json!({"jti": mine["jti"]})).await, 200);
    let rows = primary.get("audit?type=token.revoke&agent=ada").await;
    assert_eq!(rows["events"][0]["jti"], mine["jti"], "found by whose it was: {rows}");
    let token = mine["token"].as_str().unwrap();
    assert_eq!(ada.invoke(token, READ, &json!({"path": "a.txt"})).await.0, 401);
}

#[tokio::test]
async fn a_revoked_agent_has_nothing_left() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let token = ada.token(READ).await;
    let waits = ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await.1;
    let revoked = primary.post("agents/revoke", &json!({"agentId": "ada", "reason": "left"})).await;
    let recorded = primary.get("audit?type=agent.revoke").await["events"][0].clone();
    assert_eq!(recorded["detail"]["denied"], json!([waits["pendingId"]]), "what ended with it");
    assert_eq!(
        (&revoked["enrollmentRevoked"], &revoked["grantsRemoved"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(ada.invoke(&token, READ, &json!({"path": "a.txt"})).await.0, 401);
    assert_eq!(ada.get("/manifest").await.0, 401);
    assert_eq!(primary.handshake(&ada.pat).await.0, "");
    assert_eq!(primary.get("pending").await["pending"], json!([]));
    let known = primary.get("agents/enrollments").await["agents"][0].clone();
    assert_eq!(known["status"], "revoked");
    assert!(known["codeExpiresAt"].is_string(), "when its code would have ended: {known}");
    primary.running.kill().await;
    let primary = stage.primary().await;
    assert_eq!(primary.handshake(&ada.pat).await.0, "", "nor after a restart");
    primary.post("agents/revoke", &json!({"agentId": "ada", "delete": true})).await;
    assert_eq!(primary.get("agents/enrollments").await["agents"], json!([]), "not even its name");
    let again = primary.try_post("agents/revoke", &json!({"agentId": "ada"})).await;
    assert_eq!(again.status, 404);
    primary.running.kill().await;
    let primary = stage.primary().await;
    assert_eq!(primary.get("agents/enrollments").await["agents"], json!([]));
    let back = primary.agent("ada", &[]).await;
    assert_eq!(back.ask(&json!({READ: "allow"})).await.1["status"], "grant_pending_user");
}

#[tokio::test]
async fn a_call_with_a_session_alone_asks_for_its_own_grant() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let (status, read) = ada.assisted(&json!({"id": READ, "input": {"path": "a.txt"}})).await;
    assert_eq!((status, &read["output"]["content"]), (200, &json!("hello")), "{read}");
    let token = read["grant"]["token"].as_str().unwrap();
    assert_eq!(ada.invoke(token, READ, &json!({"path": "a.txt"})).await.0, 200);

    let call = json!({"id": WRITE, "input": {"path": "b.txt", "content": "one"}});
    let (status, asked) = ada.assisted(&call).await;
    assert_eq!((status, &asked["error"]["code"]), (401, &json!("approval_required")));
    assert!(asked["auditId"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(ada.assisted(&call).await.1["error"]["pendingId"], asked["error"]["pendingId"]);
    let pending = primary.get("pending").await["pending"][0].clone();
    assert_eq!(pending["input"], call["input"], "the owner sees this very input");
    let id = pending["pendingId"].as_str().unwrap();
    primary.approve(id, None).await;
    let token = ada.taken(id).await;
    let other = json!({"path": "b.txt", "content": "two"});
    assert_eq!(ada.invoke(&token, WRITE, &other).await.1["error"]["code"], "grant_required");
    assert_eq!(ada.invoke(&token, WRITE, &call["input"]).await.0, 200);
    assert_eq!(ada.invoke(&token, WRITE, &call["input"]).await.0, 401, "and once");
    assert_eq!(std::fs::read_to_string(stage.path("notes/b.txt")).unwrap(), "one");
    assert_eq!(
        primary.get("grants").await["grants"].as_array().unwrap().len(),
        1,
        "the read alone stands"
    );
    let (status, answer) = ada.assisted(&json!({"id": "no.such.thing"})).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("unknown_capability")));
    assert!(answer["auditId"].as_str().unwrap().starts_with("evt_"));
}

#[tokio::test]
async fn a_keyed_call_is_made_once_whoever_repeats_it_and_whenever() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let order = json!({"agentId": "ada", "grants": {WRITE: {"verbs": ["write"]}}});
    let given = primary.owner(Method::PUT, "grants", Some(&order)).await;
    assert_eq!(given.status, 200, "{}", body(&given));
    let write = json!({WRITE: {"decision": "allow", "verbs": ["write"]}});
    let token = ada.ask(&write).await.1["token"].as_str().unwrap().to_owned();
    let append = |key: &str, text: &str| {
        json!({"id": WRITE, "idempotencyKey": key,
            "input": {"path": "log.txt", "content": text, "mode": "append"}})
    };
    let call = append("k1", "x");
    let answers = all((0..16).map(|_| ada.call(&token, &call))).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 200), "{answers:?}");
    assert_eq!(std::fs::read_to_string(stage.path("notes/log.txt")).unwrap(), "x");
    let (status, other) = ada.call(&token, &append("k1", "y")).await;
    assert_eq!((status, &other["error"]["code"]), (422, &json!("schema_validation_failed")));
    assert_eq!(other["error"]["capabilityId"], other["id"]);
    assert_eq!(ada.call(&token, &append("k2", "z")).await.0, 200);
    primary.running.kill().await;
    let primary = stage.primary().await;
    let ada = primary.greet(&ada.pat).await;
    let token = ada.ask(&write).await.1["token"].as_str().unwrap().to_owned();
    let (status, told) = ada.call(&token, &call).await;
    assert_eq!((status, &told["error"]["code"]), (200, &json!("transport_error")));
    assert_eq!(
        told["error"]["detail"],
        json!({"outcome": "ok", "auditId": answers[0].1["auditId"]})
    );
    assert_eq!(
        std::fs::read_to_string(stage.path("notes/log.txt")).unwrap(),
        "xz",
        "never run again"
    );
}

#[tokio::test]
async fn a_bundle_groups_what_was_granted_and_goes_as_one() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let write = json!({"decision": "allow", "verbs": ["write"]});
    let context = json!([{"kind": "inline", "label": "how", "markdown": "# Be brief"}]);
    let request = json!({"grants": {READ: "allow", WRITE: write},
        "bundle": {"name": "tidy up", "context": context}});
    let ask = Ask::with_body(Method::PUT, "/grants", &request);
    let asked = body(&ada.send(ask.header("x-plexus-session", &ada.session)).await);
    let id = asked["pendingId"].as_str().unwrap();
    primary.approve(id, None).await;
    let bundles = primary.get("bundles").await["bundles"].clone();
    assert_eq!((&bundles[0]["name"], bundles.as_array().unwrap().len()), (&json!("tidy up"), 1));
    assert_eq!(bundles[0]["members"].as_array().unwrap().len(), 2);
    let bundle = bundles[0]["bundleId"].as_str().unwrap();
    let path = format!("/grants/context?bundle={bundle}");
    assert_eq!(ada.get(&path).await.1["context"][0]["markdown"], "# Be brief");
    let bob = primary.agent("bob", &[]).await;
    assert_eq!(bob.get(&path).await.0, 403, "a bundle is its agent's own");
    let token = ada.token(READ).await;
    primary.post("revoke", &json!({"bundleId": bundle})).await;
    assert_eq!(primary.get("grants").await["grants"], json!([]));
    assert_eq!(ada.invoke(&token, READ, &json!({"path": "a.txt"})).await.0, 401);
}

#[tokio::test]
async fn the_owners_session_asks_like_any_other_and_ends_with_the_key() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let hello = |agent: Option<&str>| json!({"connectionKey": primary.key, "client": {"agentId": agent, "name": "console"}});
    let (status, anonymous) =
        primary.tell(Method::POST, "/link/handshake", &[], &hello(None)).await;
    assert_eq!(status, 200);
    let session = anonymous["sessionId"].as_str().unwrap().to_owned();
    let owner = Agent { session, pat: String::new(), url: primary.url.clone() };
    let (_, granted) = owner.ask(&json!({READ: "allow"})).await;
    assert_eq!(granted["trustWindow"]["kind"], "once", "no name, nothing that lasts: {granted}");
    ada.token(READ).await;
    assert_eq!(owner.get("/grants").await.1["grants"].as_array().unwrap().len(), 1, "it sees all");
    let (status, _) =
        primary.tell(Method::POST, "/link/handshake", &[], &hello(Some("Not A Name"))).await;
    assert_eq!(status, 400);
    let wrong = json!({"connectionKey": "plx_live_00"});
    assert_eq!(primary.tell(Method::POST, "/link/handshake", &[], &wrong).await.0, 401);

    let rotated = primary.post("key/rotate", &json!({})).await;
    let key = rotated["connectionKey"].as_str().unwrap();
    assert_eq!(owner.get("/manifest").await.0, 401, "the old key's session is over");
    assert_eq!(ada.get("/manifest").await.0, 200, "no agent is touched");
    let old = Ask::get("/admin/api/status").header("x-plexus-connection-key", &primary.key);
    assert_eq!(primary.send(old).await.unwrap().status, 401);
    let new = Ask::get("/admin/api/tokens").header("x-plexus-connection-key", key);
    let tokens = primary.send(new).await.unwrap();
    assert_eq!(tokens.status, 200);
    assert!(!String::from_utf8_lossy(&tokens.body).contains("eyJ"), "never the token itself");
}

#[tokio::test]
async fn the_owners_session_may_wait_for_an_answer_under_any_name_or_none() {
    let (_stage, primary) = Stage::shared().await;
    let note = json!({"path": "a.txt", "content": "x"});
    for (name, twice) in [(None, 401), (Some("not-connected"), 200)] {
        let hello = json!({"connectionKey": primary.key, "client": {"agentId": name}});
        let (_, greeted) = primary.tell(Method::POST, "/link/handshake", &[], &hello).await;
        let session = greeted["sessionId"].as_str().unwrap().to_owned();
        let asker = Agent { session, pat: String::new(), url: primary.url.clone() };
        let pending = asker.pending(WRITE, "write").await;
        primary.approve(&pending, None).await;
        let token = asker.taken(&pending).await;
        assert_eq!(asker.invoke(&token, WRITE, &note).await.0, 200);
        assert_eq!(asker.invoke(&token, WRITE, &note).await.0, twice, "{name:?}");
    }
    let revoked = primary.post("agents/revoke", &json!({"agentId": "not-connected"})).await;
    let taken = (&revoked["grantsRemoved"], &revoked["sessionsInvalidated"]);
    assert_eq!(taken, (&json!(1), &json!(1)), "what goes by a name is taken by it: {revoked}");
}

#[tokio::test]
async fn an_agents_revoke_ends_the_owners_sessions_under_its_name() {
    let (_stage, primary) = Stage::shared().await;
    let hello = json!({"connectionKey": primary.key, "client": {"agentId": "not-connected"}});
    let (_, greeted) = primary.tell(Method::POST, "/link/handshake", &[], &hello).await;
    let session = greeted["sessionId"].as_str().unwrap().to_owned();
    let asker = Agent { session, pat: String::new(), url: primary.url.clone() };
    assert_eq!(asker.get("/manifest").await.0, 200);
    let revoked = primary.post("agents/revoke", &json!({"agentId": "not-connected"})).await;
    assert_eq!(revoked["sessionsInvalidated"], 1, "{revoked}");
    assert_eq!(asker.get("/manifest").await.0, 401);
    let again = primary.try_post("agents/revoke", &json!({"agentId": "not-connected"})).await;
    assert_eq!(again.status, 404, "nothing goes by that name any more");
}

#[tokio::test]
async fn whoever_has_a_deleted_agents_name_finds_nothing_of_its_bundles() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let bundle =
        json!({"name": "tidy up", "context": [{"kind": "inline", "markdown": "# Private"}]});
    let session = [("x-plexus-session", ada.session.as_str())];
    let request = json!({"grants": {READ: "allow"}, "bundle": bundle});
    primary.tell(Method::PUT, "/grants", &session, &request).await;
    let id = primary.get("bundles").await["bundles"][0]["bundleId"].as_str().unwrap().to_owned();
    let path = format!("/grants/context?bundle={id}");
    assert_eq!(ada.get(&path).await.1["context"][0]["markdown"], "# Private");
    primary.post("agents/revoke", &json!({"agentId": "ada", "delete": true})).await;
    let heir = primary.agent("ada", &[]).await;
    assert_eq!(heir.get(&path).await.0, 403);
    assert_eq!(primary.get("bundles").await["bundles"], json!([]));
    primary.running.stop(PATIENCE).await.unwrap();
    let primary = stage.primary().await;
    assert_eq!(primary.get("bundles").await["bundles"], json!([]), "nor after a restart");
}

#[tokio::test]
async fn what_an_agent_may_keep_without_the_owner_is_bounded() {
    let (_stage, primary, ada) = Stage::with_ada().await;
    let limits = json!({"rateLimits": {"requestsPerSecond": 10_000, "burst": 10_000}});
    primary.owner(Method::PUT, "settings", Some(&limits)).await;
    let some = |n: u32| json!({"allow": {"field": "path", "values": [format!("{n}.txt")]}});
    let ask = async |n: u32| {
        let grant = json!({"decision": "allow", "constraint": some(n)});
        let bundle = json!({"name": format!("task {n}")});
        let request = json!({"grants": {READ: grant}, "bundle": bundle});
        let session = [("x-plexus-session", ada.session.as_str())];
        primary.tell(Method::PUT, "/grants", &session, &request).await
    };
    for n in 0..64 {
        let (status, granted) = ask(n).await;
        assert_eq!(status, 200, "{granted}");
    }
    let (status, refused) = ask(64).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("rate_limited")), "{refused}");
    assert_eq!(ask(0).await.0, 200, "what is held is given as ever");
    let count = async |what: &str| {
        let listed = primary.get(what).await;
        listed[what].as_array().unwrap().len()
    };
    assert_eq!((count("grants").await, count("bundles").await), (64, 64));

    // A bundle that gives nothing any more makes room for the next.
    primary.post("revoke", &json!({"agentId": "ada", "capabilityId": READ})).await;
    let list = json!({"grants": {"notes.file.list": "allow"}, "bundle": {"name": "another"}});
    let session = [("x-plexus-session", ada.session.as_str())];
    let (status, granted) = primary.tell(Method::PUT, "/grants", &session, &list).await;
    assert_eq!(status, 200, "{granted}");
    assert_eq!((count("grants").await, count("bundles").await), (1, 64));
}

#[tokio::test]
async fn what_a_token_asks_for_itself_is_counted_and_a_dead_one_is_recorded_once() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let (_, granted) = ada.ask(&json!({READ: "allow"})).await;
    let bearer = format!("Bearer {}", granted["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let give_back = json!({"jti": granted["jti"]});
    let mut records = Vec::new();
    for _ in 0..5 {
        let (status, said) =
            primary.tell(Method::POST, "/grants/revoke", &headers, &give_back).await;
        assert_eq!((status, &said["ok"]), (200, &json!(true)), "{said}");
        records.push(said["auditId"].as_str().unwrap().to_owned());
    }
    assert!(records[0].starts_with("evt_"));
    assert!(records[1..].iter().all(String::is_empty), "{records:?}");
    let rows = primary.get("audit?type=token.revoke").await["events"].as_array().unwrap().len();
    assert_eq!(rows, 1);

    let (code, said) = stage
        .plexus(&["settings", "set", "rateLimits.burst=5", "rateLimits.requestsPerSecond=1"])
        .await;
    assert_eq!(code, 0, "{said}");
    let bob = primary.agent("bob", &[]).await;
    let (_, granted) = bob.ask(&json!({READ: "allow"})).await;
    let bearer = format!("Bearer {}", granted["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let of_another = json!({"sessionId": bob.session, "jti": "tok_00000000000000000000000000"});
    for path in ["/grants/refresh", "/grants/revoke"] {
        let asked = (0..8).map(|_| primary.tell(Method::POST, path, &headers, &of_another));
        let answers = all(asked).await;
        let limited = answers.iter().filter(|(status, _)| *status == 429).count();
        assert!(limited > 0, "{path}: {answers:?}");
    }
}
