//! The ways through the protocol that it describes, each document whole: no member missing, none more.
//! The clock is the test's, so that the times are too.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod inside;

use std::sync::Arc;
use std::time::Duration;

use inside::Inside;
use plexus::trust::authorizer::{Authorizer, ConfirmRisky, Decision, Question};
use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::ear::Ear;
use plexus_tests::{Agent, Gateway, body, stable};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const LIST: &str = "notes.file.list";
const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";
const RUN: &str = "cc-master.orchestration.run";

/// What was answered, step by step.
struct Told<'a> {
    gateway: &'a Gateway,
    steps: Vec<Value>,
}

impl<'a> Told<'a> {
    fn by(gateway: &'a Gateway) -> Self {
        Self { gateway, steps: Vec::new() }
    }

    /// Notes a step's answer; the answer again.
    fn note(&mut self, step: &str, (status, answer): (u16, Value)) -> Value {
        self.steps.push(json!({"step": step, "status": status, "answer": answer.clone()}));
        answer
    }

    async fn tell(
        &mut self,
        what: (Method, &str),
        headers: &[(&'static str, &str)],
        value: &Value,
    ) -> Value {
        let answer = self.gateway.tell(what.0.clone(), what.1, headers, value).await;
        self.note(&format!("{} {}", what.0, what.1), answer)
    }

    /// All steps, as they are the same in every run.
    fn all(self) -> Value {
        let mut steps = stable(Value::Array(self.steps), &self.gateway.url);
        // What a file has from the machine the test runs on.
        for step in steps.as_array_mut().unwrap() {
            for name in ["mtime", "etag"] {
                if let Some(value) = step.pointer_mut(&format!("/answer/output/{name}")) {
                    *value = json!(format!("<{name}>"));
                }
            }
        }
        steps
    }
}

fn bearer(token: &Value) -> String {
    format!("Bearer {}", token["token"].as_str().unwrap())
}

fn input() -> Value {
    json!({"path": "b.txt", "content": "kept"})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_from_discovery_to_its_answer() {
    let inside = Inside::shared().await;
    let gateway = &inside.gateway;
    let mut told = Told::by(gateway);
    let well_known = body(&gateway.send(Ask::get("/.well-known/plexus")).await.unwrap());
    let path = |name: &str| {
        let url = well_known["auth"][name].as_str().unwrap();
        url.strip_prefix(&gateway.url).unwrap().to_owned()
    };
    let order = json!({"agentId": "agent-ez-1", "label": "Ez"});
    let connected = gateway.post("agents/connect", &order).await;
    told.note("POST /admin/api/agents/connect", (200, connected.clone()));
    let code = json!({"code": connected["code"]});
    let enrolled = told.tell((Method::POST, &path("enrollmentUrl")), &[], &code).await;
    told.tell((Method::POST, &path("enrollmentUrl")), &[], &code).await;
    let pat = format!("Bearer {}", enrolled["pat"].as_str().unwrap());
    let hello = json!({"client": {"name": "claude-code", "version": "2.x"}});
    let pat = [("authorization", pat.as_str())];
    let (status, mut greeted) =
        gateway.tell(Method::POST, &path("handshakeUrl"), &pat, &hello).await;
    let session = greeted["sessionId"].as_str().unwrap().to_owned();
    // The entries have a snapshot of their own.
    for entry in greeted["manifest"]["entries"].as_array_mut().unwrap() {
        *entry = entry["id"].take();
    }
    told.note("POST /link/handshake", (status, greeted));
    let header = well_known["auth"]["sessionHeader"].as_str().unwrap().to_ascii_lowercase();
    assert_eq!(header, "x-plexus-session");
    let session = [("x-plexus-session", session.as_str())];
    let grants = json!({"grants": {READ: "allow"}});
    let granted = told.tell((Method::PUT, &path("grantRequestUrl")), &session, &grants).await;
    let token = bearer(&granted);
    let call = json!({"id": READ, "input": {"path": "a.txt"}});
    let token = [("authorization", token.as_str())];
    told.tell((Method::POST, &path("invokeUrl")), &token, &call).await;
    let wrong = json!({"id": READ, "input": {"path": 7}});
    told.tell((Method::POST, &path("invokeUrl")), &token, &wrong).await;
    let own = json!({"jti": granted["jti"], "reason": "done"});
    told.tell((Method::POST, &path("revokeUrl")), &token, &own).await;
    told.tell((Method::POST, &path("invokeUrl")), &token, &call).await;
    let ask = Ask::get("/grants").header(session[0].0, session[0].1);
    told.note("GET /grants", (200, body(&gateway.send(ask).await.unwrap())));
    insta::assert_json_snapshot!("the_read", told.all());
    inside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_that_waits_for_its_owner() {
    let inside = Inside::shared().await;
    let gateway = &inside.gateway;
    let ada = gateway.agent("ada", &[]).await;
    let mut ear = Ear::agent(&ada).await;
    let mut told = Told::by(gateway);
    let write = json!({WRITE: {"decision": "allow", "verbs": ["write"], "purpose": "keep a log",
        "trustWindow": {"kind": "1h"}}});
    let asked = told.note("PUT /grants", ada.ask(&write).await);
    let item = asked["pendingId"].as_str().unwrap();
    told.note("GET /grants/status", ada.status(item).await);
    told.note("GET /admin/api/pending", (200, gateway.get("pending").await));
    inside.pass(1 * MINUTE);
    let yes = gateway.post(&format!("pending/{item}"), &json!({"action": "approve"})).await;
    told.note("POST /admin/api/pending/:id", (200, yes));
    let twice = gateway.try_post(&format!("pending/{item}"), &json!({"action": "deny"})).await;
    told.note("POST /admin/api/pending/:id", (twice.status.as_u16(), body(&twice)));
    let status = told.note("GET /grants/status", ada.status(item).await);
    let heard = ear.until("grant_resolved").await;
    told.note("event grant_resolved", (200, heard.data));
    let token = status["token"]["token"].as_str().unwrap();
    told.note("POST /invoke", ada.invoke(token, WRITE, &input()).await);
    told.note("GET /grants", ada.get("/grants").await);

    let other = told
        .note("PUT /grants", ada.ask(&json!({"notes.file.list": "deny", WRITE: "allow"})).await);
    assert_eq!(other["error"]["code"], "schema_validation_failed");
    let assisted = json!({"id": "notes.file.list", "input": {}});
    let (status, mut said) = ada.assisted(&assisted).await;
    said["output"]["entries"].as_array_mut().unwrap().clear();
    told.note("POST /invoke with a session alone", (status, said));
    inside.pass(61 * MINUTE);
    let ada = gateway.greet(&ada.pat).await;
    let call = json!({"id": WRITE, "input": input()});
    let waits = told.note("POST /invoke with a session alone", ada.assisted(&call).await);
    let item = waits["error"]["pendingId"].as_str().unwrap();
    told.note("GET /admin/api/pending", (200, gateway.get("pending").await));
    gateway.post(&format!("pending/{item}"), &json!({"action": "deny", "reason": "no"})).await;
    told.note("GET /grants/status", ada.status(item).await);
    insta::assert_json_snapshot!("the_write", told.all());
    inside.stop().await;
}

/// An extension as the protocol's example has it: a workflow that is executed, over a write, an
/// execute that waits at `pipe`, and a read.
async fn orchestration(inside: &Inside, pipe: &str) {
    let command = |name: &str, verb: &str, bin: &str, argv: Value| {
        json!({"name": name, "kind": "capability", "label": name, "describe": "Does it.",
            "grants": [verb], "route": {"bin": bin, "argv": argv}})
    };
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "cc-master", "label": "cc-master",
        "transport": "cli", "binaries": ["echo", "cat"],
        "capabilities": [
            command("board.create", "write", "echo", json!(["created"])),
            command("agent.dispatch", "execute", "cat", json!([pipe])),
            command("board.status", "read", "echo", json!(["all is done"])),
            {"name": "orchestration.run", "kind": "workflow", "label": "Run a long-horizon orchestration",
                "describe": "Builds a task DAG and dispatches agents toward a goal. Use when it is long.",
                "transport": "workflow", "grants": ["execute"], "members": [
                    {"id": "board.create", "verbs": ["write"]},
                    {"id": "agent.dispatch", "verbs": ["execute"]},
                    {"id": "board.status", "verbs": ["read"]}]},
        ],
    });
    inside.gateway.post("extensions", &json!({ "manifest": manifest })).await;
}

/// A pipe with a name: whoever reads it waits until somebody writes.
#[allow(clippy::disallowed_methods, reason = "std makes no pipes with names")]
fn pipe(inside: &Inside) -> String {
    let path = inside.stage.path("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Writes to the pipe, once somebody reads it.
async fn feed(pipe: String, before: impl AsyncFnOnce()) {
    let opened = tokio::task::spawn_blocking(move || std::fs::File::create(pipe).unwrap());
    let mut file = opened.await.unwrap();
    before().await;
    std::io::Write::write_all(&mut file, b"dispatched").unwrap();
}

/// The owner's yes to `RUN` for `agent`, and its token.
async fn run_granted(told: &mut Told<'_>, agent: &Agent) -> Value {
    let asked = json!({
        READ: "allow",
        WRITE: {"decision": "allow", "verbs": ["write"]},
        RUN: {"decision": "allow", "verbs": ["execute"]},
    });
    let asked = told.note("PUT /grants", agent.ask(&asked).await);
    let item = asked["pendingId"].as_str().unwrap();
    told.gateway.approve(item, Some("7d")).await;
    told.note("GET /grants/status", agent.status(item).await)["token"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn granting_a_workflow_brings_its_members_for_its_one_run() {
    let inside = Inside::shared().await;
    let pipe = pipe(&inside);
    orchestration(&inside, &pipe).await;
    let ada = inside.gateway.agent("ada", &[]).await;
    let mut told = Told::by(&inside.gateway);
    let granted = run_granted(&mut told, &ada).await;
    let token = granted["token"].as_str().unwrap();
    let direct = ada.invoke(token, "cc-master.board.status", &json!({})).await;
    told.note("POST /invoke of a member", direct);
    let run = json!({});
    let (ran, ()) = tokio::join!(ada.invoke(token, RUN, &run), feed(pipe, async || {}));
    told.note("POST /invoke of the workflow", ran);
    told.note("POST /invoke of the workflow", ada.invoke(token, RUN, &run).await);
    let header = bearer(&granted);
    let own = json!({"sessionId": ada.session, "jti": granted["jti"]});
    told.tell((Method::POST, "/grants/refresh"), &[("authorization", &header)], &own).await;
    told.note("GET /grants", ada.get("/grants").await);
    insta::assert_json_snapshot!("the_workflow", told.all());
    inside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoke_in_the_middle_of_a_run_halts_what_is_left_of_it() {
    let inside = Inside::shared().await;
    let pipe = pipe(&inside);
    orchestration(&inside, &pipe).await;
    let gateway = &inside.gateway;
    let ada = gateway.agent("ada", &[]).await;
    let mut told = Told::by(gateway);
    let granted = run_granted(&mut told, &ada).await;
    told.steps.clear();
    let mut ear = Ear::agent(&ada).await;
    let token = granted["token"].as_str().unwrap();
    let run = json!({});
    let revoked = std::sync::Mutex::new(Value::Null);
    let revoke = async || {
        let taken = json!({"agentId": "ada", "capabilityId": RUN});
        let owner = [("x-plexus-connection-key", gateway.key.as_str())];
        let (status, answer) = gateway.tell(Method::POST, "/grants/revoke", &owner, &taken).await;
        assert_eq!(status, 200);
        *revoked.lock().unwrap() = answer;
    };
    let (ran, ()) = tokio::join!(ada.invoke(token, RUN, &run), feed(pipe, revoke));
    told.note("POST /grants/revoke", (200, revoked.into_inner().unwrap()));
    told.note("POST /invoke of the workflow", ran);
    told.note("event token_revoked", (200, ear.until("token_revoked").await.data));
    told.note("POST /invoke of the workflow", ada.invoke(token, RUN, &run).await);
    let rows = gateway.get("audit?type=invoke&limit=500").await;
    let said = ["/capabilityId", "/outcome", "/detail/phase", "/detail/code"];
    let rows = rows["events"].as_array().unwrap().iter().rev();
    let rows = rows.map(|row| said.iter().map(|at| row.pointer(at).cloned()).collect::<Vec<_>>());
    told.note("what the log says", (200, json!(rows.collect::<Vec<_>>())));
    insta::assert_json_snapshot!("the_revoke", told.all());
    inside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_quarter_of_an_hour_carries_work_through_a_day_and_ends_with_its_grant() {
    let inside = Inside::shared().await;
    let gateway = &inside.gateway;
    let mut ada = gateway.agent("ada", &[]).await;
    let item = ada.pending(WRITE, "write").await;
    let day = json!({"kind": "custom", "ms": 25 * 3_600_000});
    let yes = json!({"action": "approve", "trustWindow": day});
    gateway.post(&format!("pending/{item}"), &yes).await;
    let mut token = ada.status(&item).await.1["token"].clone();
    let ends = token["grantExpiresAt"].clone();
    assert_eq!(ends, "2026-06-24T11:00:00.000Z");
    let (mut refreshed, mut greeted) = (0, 0);
    for minutes in (0..25 * 60).step_by(12) {
        // Within five minutes of a session's end, another; the grant is not asked for again.
        if minutes % 48 == 0 && minutes > 0 {
            ada = gateway.greet(&ada.pat).await;
            let (status, again) =
                ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await;
            assert_eq!(status, 200);
            (token, greeted) = (again, greeted + 1);
        } else if minutes > 0 {
            let header = bearer(&token);
            let own = json!({"sessionId": ada.session, "jti": token["jti"]});
            let header = [("authorization", header.as_str())];
            let (status, fresh) =
                gateway.tell(Method::POST, "/grants/refresh", &header, &own).await;
            assert_eq!(status, 200, "{minutes}: {fresh}");
            let old = token["token"].as_str().unwrap();
            let (_, dead) = ada.invoke(old, WRITE, &input()).await;
            assert_eq!(dead["error"]["code"], "token_revoked", "{minutes}: the old one is over");
            (token, refreshed) = (fresh, refreshed + 1);
        }
        let names: Vec<_> = token.as_object().unwrap().keys().cloned().collect();
        let all = ["token", "jti", "expiresAt", "scopes", "grantExpiresAt", "trustWindow"];
        assert_eq!(names, all, "{minutes}");
        assert_eq!(token["scopes"], json!([{"id": WRITE, "verbs": ["write"]}]), "{minutes}");
        assert_eq!((&token["grantExpiresAt"], &token["trustWindow"]), (&ends, &day), "{minutes}");
        assert!(token["expiresAt"].as_str() <= ends.as_str(), "{minutes}: {token}");
        let text = token["token"].as_str().unwrap();
        let (status, called) = ada.invoke(text, WRITE, &input()).await;
        assert_eq!(status, 200, "{minutes}: {called}");
        inside.pass(12 * MINUTE);
    }
    assert_eq!((refreshed, greeted), (93, 31));
    assert_eq!(gateway.get("pending").await["pending"], json!([]), "nothing was asked again");

    // The owner's day is over: neither a refresh nor a request gets past that, without the owner.
    let text = token["token"].as_str().unwrap();
    let (status, over) = ada.invoke(text, WRITE, &input()).await;
    assert_eq!((status, &over["error"]["code"]), (401, &json!("token_expired")));
    let header = bearer(&token);
    let own = json!({"sessionId": ada.session, "jti": token["jti"]});
    let header = [("authorization", header.as_str())];
    let (status, over) = gateway.tell(Method::POST, "/grants/refresh", &header, &own).await;
    assert_eq!((status, &over["error"]["code"]), (401, &json!("grant_required")), "{over}");
    let ada = gateway.greet(&ada.pat).await;
    ada.pending(WRITE, "write").await;
    inside.stop().await;
}

/// Says no to reading files, to `ada` alone; otherwise as by default.
struct NoReading;

impl Authorizer for NoReading {
    fn decide(&self, question: &Question<'_>) -> Decision {
        match (question.subject.as_str(), question.entry.as_str()) {
            ("ada", READ) => Decision::Deny("nothing is read on a Tuesday"),
            _ => ConfirmRisky.decide(question),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_declines_is_told_recorded_and_never_asked_of_the_owner() {
    let inside = Inside::decided_by(Some(Arc::new(NoReading))).await;
    let gateway = &inside.gateway;
    let (ada, bob) = (gateway.agent("ada", &[]).await, gateway.agent("bob", &[]).await);
    let declined = json!([{"id": READ, "reason": "nothing is read on a Tuesday"}]);

    let (status, answer) = ada.ask(&json!({READ: "allow"})).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("grant_required")), "{answer}");
    assert_eq!(answer["error"]["detail"]["declined"], declined);
    let (status, answer) = ada.ask(&json!({READ: "allow", LIST: "allow"})).await;
    assert_eq!((status, &answer["declined"]), (200, &declined), "{answer}");
    assert_eq!(answer["scopes"], json!([{"id": LIST, "verbs": ["read"]}]));
    let (status, answer) = ada.assisted(&json!({"id": READ, "input": {"path": "a.txt"}})).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("grant_required")), "{answer}");
    assert_eq!(gateway.get("pending").await["pending"], json!([]));
    let denials = gateway.get("audit?type=grant.deny&agent=ada").await;
    let by = |event: &Value| event["detail"]["by"] == "policy";
    assert_eq!(denials["events"].as_array().unwrap().iter().filter(|event| by(event)).count(), 3);

    assert_eq!(bob.ask(&json!({READ: "allow"})).await.0, 200, "another subject, another answer");
    inside.stop().await;
}
