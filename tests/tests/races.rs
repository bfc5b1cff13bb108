//! Many at once where only one may win: real threads, a connection each, the real binary.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use plexus_tests::wire::{Request, Wire, at_once};
use plexus_tests::{Agent, PATIENCE, Primary, Stage, all};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

/// How many threads do the same at once.
const THREADS: usize = 12;
/// How often.
const ROUNDS: usize = 8;

async fn set() -> (Stage, Primary, Agent) {
    let (stage, primary, ada) = Stage::with_ada().await;
    let limits = ["rateLimits.requestsPerSecond=100000", "rateLimits.burst=1000000"];
    let (code, said) = stage.plexus(&["settings", "set", limits[0], limits[1]]).await;
    assert_eq!(code, 0, "{said}");
    (stage, primary, ada)
}

async fn rows(primary: &Primary, query: &str) -> Vec<Value> {
    let audit = primary.get(&format!("audit?{query}&limit=500")).await;
    audit["events"].as_array().unwrap().clone()
}

fn call(primary: &Primary, token: &str, call: &Value) -> Request {
    let bearer = format!("Bearer {token}");
    Request::new(&primary.url, "POST /invoke", &[("Authorization", &bearer)], call)
}

/// Asks to write and has the owner say yes, once; the token.
async fn single(primary: &Primary, agent: &Agent) -> String {
    let item = agent.pending(WRITE, "write").await;
    primary.approve(&item, Some("once")).await;
    agent.taken(&item).await
}

#[tokio::test]
async fn an_enrollment_code_redeemed_by_many_at_once_gives_one_credential() {
    let (_stage, primary, _) = set().await;
    for round in 0..ROUNDS {
        let order = json!({"agentId": format!("agent-{round}"), "capabilities": []});
        let connected = primary.post("agents/connect", &order).await;
        let redeem = json!({"code": connected["code"]});
        let request = Request::new(&primary.url, "POST /agents/enroll", &[], &redeem);
        let answers = at_once(&primary.url, &vec![request; THREADS]);
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _)| *status == 200);
        assert_eq!(won.len(), 1, "{answers:?}");
        for (status, answer) in lost {
            // Who is late too often is told to wait; it gets nothing either way.
            let code = answer["error"]["code"].as_str().unwrap();
            assert!(matches!((*status, code), (401, "code_consumed") | (429, "rate_limited")));
            assert_eq!(answer["pat"], Value::Null, "{answer}");
        }
        let pat = won[0].1["pat"].as_str().unwrap();
        assert_ne!(primary.handshake(pat).await.0, "", "the one credential is good");
    }
    let enrolled = rows(&primary, "type=agent.enroll&outcome=ok").await;
    assert_eq!(enrolled.len(), ROUNDS + 1, "one row each, and ada's");
}

#[tokio::test]
async fn a_question_answered_by_many_at_once_has_one_answer() {
    let (_stage, primary, ada) = set().await;
    let key = [("X-Plexus-Connection-Key", primary.key.as_str())];
    for round in 0..ROUNDS {
        let ask = json!({"decision": "allow", "verbs": ["write"], "purpose": format!("{round}")});
        let id = ada.ask(&json!({ WRITE: ask })).await.1["pendingId"].as_str().unwrap().to_owned();
        let path = format!("POST /admin/api/pending/{id}");
        let once = json!({"action": "approve", "trustWindow": {"kind": "once"}});
        let (yes, no) = (once, json!({"action": "deny"}));
        let answer = |n| if n % 2 == 0 { &yes } else { &no };
        let requests: Vec<_> =
            (0..THREADS).map(|n| Request::new(&primary.url, &path, &key, answer(n))).collect();
        let answers = at_once(&primary.url, &requests);
        let won: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 409)), "{answers:?}");
        let state = if won[0].1["action"] == "approve" { "approved" } else { "denied" };
        let (_, status) = ada.get(&format!("/grants/status?pendingId={id}")).await;
        assert_eq!(status["state"], state, "the answer that was taken is the one that counts");
        assert_eq!(status["token"].is_object(), state == "approved");
    }
    let settled = rows(&primary, "type=grant.allow").await.len()
        + rows(&primary, "type=grant.deny").await.len();
    assert_eq!(settled, ROUNDS, "one row each");
}

#[tokio::test]
async fn a_single_use_used_by_many_at_once_is_dispatched_once() {
    let (stage, primary, ada) = set().await;
    for round in 0..ROUNDS {
        let token = single(&primary, &ada).await;
        let input = json!({"path": "log.txt", "content": "x", "mode": "append"});
        let request = call(&primary, &token, &json!({"id": WRITE, "input": input}));
        let answers = at_once(&primary.url, &vec![request; THREADS]);
        let won = answers.iter().filter(|(_, answer)| answer["ok"] == true).count();
        let spent = |(_, answer): &&(u16, Value)| answer["error"]["code"] == "grant_required";
        let lost = answers.iter().filter(spent).count();
        assert_eq!((won, lost), (1, THREADS - 1), "{answers:?}");
        let written = std::fs::read_to_string(stage.path("notes/log.txt")).unwrap();
        assert_eq!(written, "x".repeat(round + 1), "done once");
    }
    let done = rows(&primary, &format!("type=invoke&capability={WRITE}&outcome=ok")).await;
    assert_eq!(done.len(), ROUNDS, "and once, as the log has it");
}

#[tokio::test]
async fn a_key_used_by_many_at_once_is_dispatched_once_and_answers_all() {
    let (stage, primary, ada) = set().await;
    let window = json!({"kind": "custom", "ms": 600_000});
    let grants = json!({"agentId": "ada", "grants": {WRITE: ["write"]}, "trustWindow": window});
    let key = [("X-Plexus-Connection-Key", primary.key.as_str())];
    let request = Request::new(&primary.url, "PUT /admin/api/grants", &key, &grants);
    assert_eq!(Wire::connect(&primary.url).exchange(&request).0, 200);
    let asked = ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await.1;
    let token = asked["token"].as_str().unwrap();
    for round in 0..ROUNDS {
        let input = json!({"path": "log.txt", "content": "x", "mode": "append"});
        let keyed = json!({"id": WRITE, "input": input, "idempotencyKey": format!("key-{round}")});
        let answers = at_once(&primary.url, &vec![call(&primary, token, &keyed); THREADS]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].1["ok"], true, "{answers:?}");
        let written = std::fs::read_to_string(stage.path("notes/log.txt")).unwrap();
        assert_eq!(written, "x".repeat(round + 1), "done once");
    }
    let rows = rows(&primary, &format!("type=invoke&capability={WRITE}")).await;
    let begun = rows.iter().filter(|row| row["detail"]["phase"] == "started").count();
    assert_eq!(begun, ROUNDS, "and begun once, as the log has it");
}

#[tokio::test]
async fn a_join_ticket_used_by_many_at_once_admits_one() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    for round in 0..ROUNDS {
        let order = json!({"workload": format!("nas-{round}")});
        let invited = primary.post("mesh/invite", &order).await;
        std::fs::write(stage.path("ticket"), invited["ticket"].as_str().unwrap()).unwrap();
        let ticket = stage.path("ticket").display().to_string();
        let state = |n| stage.path(&format!("proxy-{round}-{n}")).display().to_string();
        let states: Vec<_> = (0..8).map(state).collect();
        let args = states.iter().map(|state| ["join", "--ticket-file", &ticket, "--state", state]);
        let args: Vec<_> = args.collect();
        let codes = all(args.iter().map(|args| stage.command("plexus-proxy", args))).await;
        let mut codes: Vec<_> = codes.into_iter().map(|(code, _)| code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 4, 4, 4, 4, 4, 4, 4], "{}", stage.log("plexus-proxy"));
    }
    let mesh = primary.get("mesh").await;
    assert_eq!(mesh["workloads"].as_array().unwrap().len(), ROUNDS, "{mesh}");
    assert_eq!(rows(&primary, "type=mesh.enroll&outcome=ok").await.len(), ROUNDS);
}

/// How many calls are made beside each revoke, at least; and how many of each thread's are sent once
/// its reply was seen.
const CALLS: usize = 10_000;
const AFTERWARDS: usize = 100;

/// Calls with `token` from many threads while `revoke` is sent among them. No call that is sent after
/// the revoke's reply was seen is accepted; one that was sent before may be, or not.
fn revoke_beside_calls(primary: &Primary, token: &str, revoke: &Request) {
    let read = call(primary, token, &json!({"id": READ, "input": {"path": "a.txt"}}));
    let (done, revoked) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (half, halfway) = mpsc::channel();
    let caller = || {
        let mut wire = Wire::connect(&primary.url);
        let (mut allowed, mut afterwards) = (0, 0);
        while done.load(Ordering::Relaxed) < CALLS || afterwards < AFTERWARDS {
            // Read before the call is sent: whoever sees it set sends after the reply.
            let after = revoked.load(Ordering::SeqCst);
            let (status, answer) = wire.exchange(&read);
            match status {
                200 => assert_eq!(answer["output"]["content"], "hello"),
                _ => assert_eq!((status, answer["output"].is_null()), (401, true), "{answer}"),
            }
            assert!(!after || status == 401, "accepted after the revoke: {answer}");
            allowed += usize::from(status == 200);
            afterwards += usize::from(after);
            if done.fetch_add(1, Ordering::Relaxed) == CALLS / 2 {
                half.send(()).unwrap();
            }
        }
        allowed
    };
    let allowed: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS).map(|_| scope.spawn(caller)).collect();
        let mut owner = Wire::connect(&primary.url);
        // Should no one come so far, the calls below say why.
        let _ = halfway.recv_timeout(PATIENCE);
        let (status, answer) = owner.exchange(revoke);
        revoked.store(true, Ordering::SeqCst);
        assert_eq!(status, 200, "{answer}");
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert!(allowed >= CALLS / 2, "it was used before: {allowed}");
}

fn admin(primary: &Primary, path: &str, value: &Value) -> Request {
    let key = [("X-Plexus-Connection-Key", primary.key.as_str())];
    Request::new(&primary.url, &format!("POST /admin/api/{path}"), &key, value)
}

#[tokio::test]
async fn no_call_is_accepted_after_a_revoke_was_answered_however_many_are_made() {
    let (_stage, primary, ada) = set().await;
    let (_, granted) = ada.ask(&json!({READ: "allow"})).await;
    let by_id = json!({"jti": granted["jti"]});
    let token = granted["token"].as_str().unwrap();
    revoke_beside_calls(&primary, token, &admin(&primary, "revoke", &by_id));

    let token = ada.token(READ).await;
    let pair = json!({"agentId": "ada", "capabilityId": READ});
    revoke_beside_calls(&primary, &token, &admin(&primary, "revoke", &pair));

    let bob = primary.agent("bob", &[READ]).await;
    let whole = json!({"agentId": "bob"});
    let token = bob.token(READ).await;
    revoke_beside_calls(&primary, &token, &admin(&primary, "agents/revoke", &whole));
    assert_eq!(primary.get("audit/verify").await["ok"], true);
}
