//! A call under a key is made once; what was not made leaves its key free, and what was answered is told
//! to nobody it was not for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::Write;
use std::time::Duration;

use plexus_shared::state_dir::StateDir;
use plexus_shared::transport::child::Program;
use plexus_shared::transport::http::{Ask, Method, exchange};
use plexus_tests::{Agent, PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

/// A call under the key `k`.
async fn keyed(url: &str, token: &str, id: &str, input: &Value) -> (u16, Value) {
    let call = json!({"id": id, "idempotencyKey": "k", "input": input});
    let bearer = format!("Bearer {token}");
    let ask = Ask::with_body(Method::POST, "/invoke", &call).header("authorization", &bearer);
    let answer = exchange(url, ask, PATIENCE).await.unwrap();
    (answer.status.as_u16(), body(&answer))
}

/// Installs a command of the owner's, which reads.
async fn install(primary: &Primary, command: &Value, secrets: &Value) {
    let mut entry = json!({"name": "word.say", "kind": "capability", "label": "Say",
        "describe": "Says a word.", "grants": ["read"]});
    entry["route"] = command.clone();
    let manifest = json!({"manifest": "plexus-extension/0.1", "source": "desk", "label": "Desk",
        "transport": "cli", "binaries": [command["bin"]], "capabilities": [entry],
        "secrets": secrets});
    primary.post("extensions", &json!({ "manifest": manifest })).await;
}

fn told(answer: &Value) -> (&Value, &Value) {
    (&answer["error"]["code"], &answer["error"]["detail"]["outcome"])
}

#[tokio::test]
async fn a_call_without_its_secret_leaves_its_key_free_on_disk_too() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let command = json!({"bin": "printenv", "argv": ["TOKEN"]});
    install(&primary, &command, &json!([{"name": "tok", "attach": "env", "as": "TOKEN"}])).await;
    let ada = primary.agent("ada", &[]).await;
    let token = ada.token("desk.word.say").await;
    let say = async |url: &str, token: &str| keyed(url, token, "desk.word.say", &json!({})).await;
    for _ in 0..2 {
        let (status, answer) = say(&primary.url, &token).await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("source_unavailable")));
    }
    primary.running.kill().await;
    let primary = stage.primary().await;
    let (session, _) = primary.handshake(&ada.pat).await;
    let ada = Agent { session, url: primary.url.clone(), ..ada };
    let token = ada.token("desk.word.say").await;
    let home = StateDir::open(&stage.path("home")).unwrap();
    home.subdir("secrets").unwrap().write("tok", b"a word of the owner\n").unwrap();
    let (status, answer) = say(&primary.url, &token).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_eq!(say(&primary.url, &token).await.1["auditId"], answer["auditId"], "and once");
}

#[tokio::test]
async fn a_call_that_could_not_be_recorded_leaves_its_key_free() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.share(&stage).await;
    let ada = primary.agent("ada", &[WRITE]).await;
    let (_, granted) = ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await;
    let token = granted["token"].as_str().unwrap();
    let text = json!({"path": "log.txt", "content": "x", "mode": "append"});
    let append = async || keyed(&primary.url, token, WRITE, &text).await;
    // A folder has the file's name: not even root can write a line to it.
    let log = std::fs::read_dir(stage.path("home/audit")).unwrap().next().unwrap().unwrap().path();
    let lines = std::fs::read(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert_eq!(append().await.1["error"]["code"], "internal_error");
    std::fs::remove_dir(&log).unwrap();
    std::fs::write(&log, lines).unwrap();
    for _ in 0..2 {
        let (status, answer) = append().await;
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    }
    assert_eq!(std::fs::read_to_string(stage.path("notes/log.txt")).unwrap(), "x");
}

#[tokio::test]
async fn an_answer_is_held_no_longer_than_its_agent_and_its_source() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.share(&stage).await;
    let ada = primary.agent("ada", &[READ]).await;
    let path = json!({"path": "a.txt"});
    let (first, token) = (path.clone(), ada.token(READ).await);
    assert_eq!(keyed(&ada.url, &token, READ, &first).await.1["output"]["content"], "hello");

    primary.post("agents/revoke", &json!({"agentId": "ada"})).await;
    let ada = primary.agent("ada", &[READ]).await;
    let token = ada.token(READ).await;
    let (_, answer) = keyed(&ada.url, &token, READ, &path).await;
    assert_eq!(told(&answer), (&json!("transport_error"), &json!("ok")), "{answer}");

    let bob = primary.agent("bob", &[READ]).await;
    let token = bob.token(READ).await;
    assert_eq!(keyed(&bob.url, &token, READ, &path).await.1["output"]["content"], "hello");
    let remove = Ask { method: Method::DELETE, ..Ask::get("/admin/api/sources/notes") };
    let removed = primary.send(remove.header("x-plexus-connection-key", &primary.key)).await;
    assert_eq!(removed.unwrap().status, 200);
    primary.share(&stage).await;
    let token = bob.token(READ).await;
    let (_, answer) = keyed(&bob.url, &token, READ, &path).await;
    assert_eq!(told(&answer), (&json!("transport_error"), &json!("ok")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_whose_token_was_revoked_while_it_waited_is_told_nothing() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let pipe = stage.path("pipe");
    let made = Program {
        path: "/usr/bin/mkfifo".into(),
        args: vec![pipe.clone().into()],
        env: Vec::new(),
        log: stage.path("mkfifo.log"),
    };
    assert!(made.start().unwrap().finish(PATIENCE).await.unwrap().0.success());
    install(&primary, &json!({"bin": "cat", "argv": [pipe]}), &json!([])).await;
    primary.share(&stage).await;
    let ada = primary.agent("ada", &[]).await;
    let (_, granted) = ada.ask(&json!({"desk.word.say": "allow"})).await;
    let (token, jti) = (granted["token"].as_str().unwrap(), &granted["jti"]);
    let other = ada.token(READ).await;
    let (code, said) = stage.plexus(&["settings", "set", "rateLimits.concurrentCalls=2"]).await;
    assert_eq!(code, 0, "{said}");
    let call = || {
        let (url, token) = (primary.url.clone(), token.to_owned());
        tokio::spawn(async move {
            loop {
                let answer = keyed(&url, &token, "desk.word.say", &json!({})).await;
                // A look at the places, below, takes one itself for a moment.
                if answer.0 != 429 {
                    return answer;
                }
            }
        })
    };
    let first = call();
    // Opened once the command has opened its end: it runs.
    let opened = tokio::task::spawn_blocking(move || std::fs::File::create(pipe));
    let mut pipe = tokio::time::timeout(PATIENCE, opened).await.unwrap().unwrap().unwrap();
    let second = call();
    // With two calls under way there is no place for a third.
    let both = async {
        while ada.invoke(&other, READ, &json!({"path": "a.txt"})).await.0 != 429 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    primary.post("revoke", &json!({ "jti": jti })).await;
    pipe.write_all(b"the word").unwrap();
    drop(pipe);
    assert_eq!(first.await.unwrap().1["output"]["stdout"], "the word");
    let (status, answer) = second.await.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("token_revoked")), "{answer}");
    assert!(!answer.to_string().contains("the word"));
}
