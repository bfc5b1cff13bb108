//! The log as the owner has it: never a hole, signed, found again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;

use plexus_shared::audit::{AuditLog, EventType, Record, Tier, tail, verify};
use plexus_shared::clock::{Clock, SystemClock};
use plexus_shared::ids::CorrelationId;
use plexus_shared::state_dir::StateDir;
use plexus_tests::{PATIENCE, Stage};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

fn log_file(stage: &Stage) -> PathBuf {
    let mut files = std::fs::read_dir(stage.path("home/audit")).unwrap();
    files.next().unwrap().unwrap().path()
}

#[tokio::test]
async fn while_the_log_cannot_be_written_nothing_is_done_and_then_it_works_again_by_itself() {
    let (stage, primary) = Stage::shared().await;
    let ada = primary.agent("ada", &[READ]).await;
    let token = ada.token(READ).await;
    let path = json!({"path": "a.txt"});
    let read = async || ada.invoke(&token, READ, &path).await;
    assert_eq!(read().await.0, 200);
    let (_, asked) = ada.ask(&json!({WRITE: {"decision": "allow", "verbs": ["write"]}})).await;
    let id = asked["pendingId"].as_str().unwrap();
    primary.approve(id, Some("once")).await;
    let single = ada.taken(id).await;
    let text = json!({"path": "b.txt", "content": "x"});
    let write = async || ada.invoke(&single, WRITE, &text).await;

    // A folder has the file's name: not even root can write a line to it.
    let file = log_file(&stage);
    let lines = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    for _ in 0..3 {
        let (status, answer) = read().await;
        assert_ne!(status, 200);
        assert_eq!(answer["error"]["code"], "internal_error");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("audit is unavailable"), "{message}");
        assert!(!answer.to_string().contains("hello"), "nothing of what was read");
    }
    let (_, answer) = write().await;
    assert_eq!(answer["error"]["code"], "internal_error");
    assert!(!stage.path("notes/b.txt").exists(), "what could not be recorded is not done");
    assert_eq!(primary.get("status").await["audit"]["writable"], false);

    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, lines).unwrap();
    let (status, answer) = read().await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(primary.get("status").await["audit"]["writable"], true);
    let page = primary.get("audit?limit=1").await;
    assert_eq!(page["events"][0]["id"], answer["auditId"]);
    let (status, answer) = write().await;
    assert_eq!(status, 200, "the single use was not spent on what was not done: {answer}");
    assert_eq!(write().await.1["error"]["code"], "grant_required");
    assert_eq!(primary.get("audit/verify").await["ok"], true);
    assert_eq!(verify(&stage.path("home/audit")).unwrap().first_bad, None);
}

#[tokio::test]
async fn the_end_of_the_log_is_signed_and_another_key_is_told_from_the_nodes() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.agent("ada", &[]).await;
    primary.running.stop(PATIENCE).await.unwrap();
    let folder = stage.path("home/audit");
    let last = tail(&folder, None, 1, |_| true).unwrap().pop().unwrap();
    assert_eq!(last.event_type, EventType::Checkpoint);
    let (code, said) = stage.plexus(&["audit", "verify"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("signed up to event {}", last.seq)), "{said}");
    std::fs::write(stage.path("home/node-identity"), format!("{}\n", "07".repeat(32))).unwrap();
    let (code, said) = stage.plexus(&["audit", "verify"]).await;
    assert_eq!(code, 6, "{said}");
}

#[tokio::test]
async fn a_call_that_a_killed_gateway_left_open_is_closed_at_the_next_start() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    primary.running.stop(PATIENCE).await.unwrap();
    let dir = StateDir::open(&stage.path("home/audit")).unwrap();
    let log = AuditLog::open(dir, Arc::new(SystemClock), Tier::Primary).unwrap();
    let call = CorrelationId::fresh(SystemClock.now());
    let started = Record::new(EventType::Invoke).capability(WRITE).correlation(&call);
    log.append(started.detail(&json!({"phase": "started"}))).unwrap();
    drop(log);
    for _ in 0..2 {
        let primary = stage.primary().await;
        let page = primary.get(&format!("audit?correlation={call}")).await;
        let events = page["events"].as_array().unwrap();
        assert_eq!(events.len(), 2, "once, however often it starts: {page}");
        assert_eq!(events[0]["detail"], json!({"outcome": "unknown", "phase": "finished"}));
        primary.running.kill().await;
    }
    let (code, said) = stage.plexus(&["audit", "verify"]).await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn what_was_recorded_is_found_by_its_words_its_capabilities_and_its_place() {
    let (stage, primary) = Stage::shared().await;
    let ada = primary.agent("ada", &[READ]).await;
    let token = ada.token(READ).await;
    for path in ["a.txt", "nowhere.txt", "a.txt"] {
        let (_, answer) = ada.invoke(&token, READ, &json!({ "path": path })).await;
        let newest = primary.get("audit?limit=1").await;
        assert_eq!(newest["events"][0]["id"], answer["auditId"], "a reply's own record is found");
    }
    let types = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let found = primary.get("audit?q=nowhere.txt").await;
    assert_eq!(types(&found), ["invoke"]);
    let about = primary.get(&format!("audit?capability={READ}&outcome=ok&type=invoke")).await;
    assert_eq!(about["events"].as_array().unwrap().len(), 2);
    let granted = primary.get(&format!("audit?capability={READ}&limit=500")).await;
    assert!(types(&granted).iter().any(|kind| kind != "invoke"), "{granted}");
    let first = primary.get("audit?after=0&limit=2").await;
    assert_eq!((&first["events"][0]["seq"], &first["nextCursor"]), (&json!(1), &json!(2)));

    let out = stage.path("out.jsonl").display().to_string();
    let (code, said) = stage.plexus(&["audit", "export", "--out", &out]).await;
    assert_eq!(code, 0, "{said}");
    let exported = std::fs::read(&out).unwrap();
    assert_eq!(exported, std::fs::read(log_file(&stage)).unwrap(), "the very lines");
    let ask = plexus_shared::transport::http::Ask::get("/admin/api/audit/export");
    let streamed = primary.send(ask.header("x-plexus-connection-key", &primary.key)).await.unwrap();
    assert_eq!(&streamed.body[..], &exported[..]);

    let (code, said) = stage.plexus(&["audit", "query", "--type", "invoke", "--limit", "2"]).await;
    assert_eq!((code, said.lines().count()), (0, 2), "{said}");
    let (code, said) = stage.plexus(&["audit", "query", "--text", "nowhere.txt", "--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, said["events"].as_array().unwrap().len()), (0, 1));

    // The index can be thrown away.
    primary.running.stop(PATIENCE).await.unwrap();
    std::fs::write(stage.path("home/audit-index.db"), "not an index").unwrap();
    let primary = stage.primary().await;
    let again = primary.get("audit?q=nowhere.txt").await;
    assert_eq!(again, found);
}
