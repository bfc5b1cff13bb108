//! A capability that lives elsewhere: joined, mounted, shown, called, lost, back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use plexus_shared::audit::{Event, LogReader, verify};
use plexus_tests::{Agent, PATIENCE, Primary, Stage};
use serde_json::{Value, json};

const READ: &str = "local/nas/notes.file.read";
const WRITE: &str = "local/nas/notes.file.write";

fn events(folder: &Path) -> Vec<Event> {
    let mut reader = LogReader::from_seq(folder, 1);
    let mut events = Vec::new();
    loop {
        let lines = reader.next_batch(1000, 1 << 20).unwrap();
        if lines.is_empty() {
            return events;
        }
        events.extend(lines.iter().map(|line| serde_json::from_str::<Event>(&line.text).unwrap()));
    }
}

async fn read(agent: &Agent, token: &str) -> (u16, Value) {
    agent.invoke(token, READ, &json!({"path": "a.txt"})).await
}

/// A primary with a workload `nas` that is connected and shown, and an agent that may read there.
async fn joined(stage: &Stage) -> (Primary, plexus_shared::transport::child::Running, Agent) {
    let primary = stage.primary().await;
    let proxy = stage.nas(&primary).await;
    primary.show("local/nas/*").await;
    let agent = primary.agent("ada", &[READ]).await;
    (primary, proxy, agent)
}

#[tokio::test]
async fn a_new_workload_is_hidden_until_it_is_exposed_and_then_read_like_any_other() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let _proxy = stage.nas(&primary).await;
    let agent = primary.agent("ada", &[READ]).await;
    let (_, manifest) = agent.get("/manifest").await;
    assert_eq!(manifest["manifest"]["entries"], json!([]), "joined is not visible");
    assert_eq!(agent.ask(&json!({READ: "allow"})).await.0, 400);
    primary.show("local/nas/*").await;
    let (_, manifest) = agent.get("/manifest").await;
    let entries = manifest["manifest"]["entries"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry["provenance"] == "extension"));
    let token = agent.token(READ).await;
    let (status, answer) = read(&agent, &token).await;
    assert_eq!((status, &answer["output"]["content"]), (200, &json!("hello")));
    let (status, answer) = agent.invoke(&token, READ, &json!({"path": "no"})).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!("transport_error")));
    assert_eq!(answer["error"]["detail"]["reason"], "not_found");
    let (status, answer) = agent.invoke(&token, READ, &json!({"way": "a.txt"})).await;
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("schema_validation_failed")));
}

#[tokio::test]
async fn both_ends_record_a_call_and_the_proxys_log_is_mirrored_once() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let token = agent.token(READ).await;
    let mut last = String::new();
    for _ in 0..20 {
        let (_, answer) = read(&agent, &token).await;
        answer["auditId"].as_str().unwrap().clone_into(&mut last);
    }
    proxy.stop(PATIENCE).await.unwrap();
    let there = events(&stage.path("proxy/audit"));
    let invokes = there.iter().filter(|e| e.event_type.as_str() == "invoke").count();
    assert_eq!(invokes, 20);
    // What the proxy wrote after it hung up comes with the next tunnel.
    let proxy = stage.proxy().await;
    let head = there.last().unwrap().seq;
    primary.workload(|w| w["auditCursor"].as_u64().is_some_and(|cursor| cursor >= head)).await;
    proxy.stop(PATIENCE).await.unwrap();
    primary.running.stop(PATIENCE).await.unwrap();
    let here = events(&stage.path("home/audit"));
    let mirrored: Vec<_> = here.iter().filter(|event| event.workload.is_some()).collect();
    let origins = origins(&here);
    assert!(origins.iter().copied().eq(1..=origins.len() as u64), "every line once, in order");
    for event in &there {
        let copy = mirrored
            .iter()
            .find(|copy| copy.origin.as_ref().is_some_and(|o| o.id == event.id))
            .unwrap();
        assert_eq!(copy.origin.as_ref().unwrap().hash, event.hash);
        assert_eq!(copy.workload.as_deref(), Some("nas"));
    }
    let own = here.iter().find(|event| event.id.as_str() == last).unwrap();
    let joined = there.iter().find(|event| event.correlation_id == own.correlation_id).unwrap();
    assert_eq!(joined.capability_id.as_deref(), Some("notes.file.read"), "bare at home");
    assert_eq!(own.capability_id.as_deref(), Some(READ), "the full address here");
    for folder in ["home/audit", "proxy/audit"] {
        assert_eq!(verify(&stage.path(folder)).unwrap().first_bad, None);
    }
}

#[tokio::test]
async fn a_stopped_home_is_told_at_once_and_its_return_heals_without_a_new_grant() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let token = agent.token(READ).await;
    proxy.stop(PATIENCE).await.unwrap();
    primary.workload(|w| w["connection"] == "disconnected").await;
    let (status, answer) = read(&agent, &token).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("capability_unavailable")));
    assert!(answer["error"]["unavailableSince"].is_string());
    let (_, manifest) = agent.get("/manifest").await;
    let entries = manifest["manifest"]["entries"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 3, "a drop never unmounts");
    assert_eq!(entries[0]["health"]["status"], "unavailable");
    let _proxy = stage.proxy().await;
    primary.workload(|w| w["connection"] == "connected").await;
    let (status, answer) = read(&agent, &token).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
}

#[tokio::test]
async fn a_killed_home_costs_no_call_more_than_its_silence_and_heals() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let token = agent.token(READ).await;
    assert_eq!(read(&agent, &token).await.0, 200);
    proxy.kill().await;
    let (status, answer) = read(&agent, &token).await;
    let code = answer["error"]["code"].as_str().unwrap();
    // The call that finds out was under way, so what became of it is not known; the next is told.
    match code {
        "transport_error" => assert_eq!(answer["error"]["detail"]["outcome"], "unknown"),
        _ => assert_eq!((status, code), (503, "capability_unavailable")),
    }
    primary.workload(|w| w["connection"] == "disconnected").await;
    let (status, answer) = read(&agent, &token).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("capability_unavailable")));
    let _proxy = stage.proxy().await;
    primary.workload(|w| w["connection"] == "connected").await;
    assert_eq!(read(&agent, &token).await.0, 200, "no new grant was asked for");
}

#[tokio::test]
async fn a_restarted_primary_remembers_what_was_mounted_and_its_proxy_comes_back() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let port = primary.url.rsplit(':').next().unwrap().parse().unwrap();
    let mesh = primary.mesh.clone();
    proxy.stop(PATIENCE).await.unwrap();
    primary.running.kill().await;
    let primary = stage.primary_at(port, &mesh).await;
    let (session, greeted) = primary.handshake(&agent.pat).await;
    assert_eq!(greeted["manifest"]["entries"].as_array().unwrap().len(), 3, "mounted, and down");
    let agent = Agent { session, ..agent };
    let token = agent.token(READ).await;
    assert_eq!(read(&agent, &token).await.1["error"]["code"], "capability_unavailable");
    let proxy = stage.proxy().await;
    primary.workload(|w| w["connection"] == "connected").await;
    assert_eq!(read(&agent, &token).await.0, 200);
    // And the other way about: the primary goes, without a word, under a living proxy.
    primary.running.kill().await;
    let primary = stage.primary_at(port, &mesh).await;
    primary.workload(|w| w["connection"] == "connected").await;
    let head = events(&stage.path("proxy/audit")).last().unwrap().seq;
    primary.workload(|w| w["auditCursor"].as_u64().is_some_and(|cursor| cursor >= head)).await;
    proxy.stop(PATIENCE).await.unwrap();
    let origins = origins(&events(&stage.path("home/audit")));
    assert!(origins.iter().copied().eq(1..=origins.len() as u64), "once each, across both kills");
}

/// The numbers that mirrored lines have in the log they come from.
fn origins(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.origin.as_ref()).map(|origin| origin.seq).collect()
}

#[tokio::test]
async fn a_log_that_was_cut_back_is_told_mirrored_no_further_and_holds_up_no_call() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let token = agent.token(READ).await;
    for _ in 0..5 {
        assert_eq!(read(&agent, &token).await.0, 200);
    }
    proxy.kill().await;
    let folder = stage.path("proxy/audit");
    let head = events(&folder).last().unwrap().seq;
    let proxy = stage.proxy().await;
    let mirrored = |w: &Value| w["auditCursor"].as_u64().is_some_and(|cursor| cursor >= head);
    let view = primary.workload(mirrored).await;
    assert_eq!(view["auditFault"], Value::Null, "a kill breaks nothing");
    proxy.kill().await;

    // Whoever holds the machine takes back what it did, and goes on with good hashes.
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, kept).unwrap();
    let _proxy = stage.proxy().await;
    primary.workload(|w| w["connection"] == "connected").await;
    let told = async {
        loop {
            assert_eq!(read(&agent, &token).await.0, 200, "calls go on");
            let mesh = primary.get("mesh").await;
            if mesh["workloads"][0]["auditFault"].is_string() {
                return mesh["workloads"][0].clone();
            }
        }
    };
    let view = tokio::time::timeout(PATIENCE, told).await.expect("the owner is told");
    let fault = view["auditFault"].as_str().unwrap();
    assert!(fault.contains("does not follow"), "{fault}");
    for _ in 0..5 {
        assert_eq!(read(&agent, &token).await.0, 200, "and after it was told");
    }
    let after = primary.get("mesh").await["workloads"][0].clone();
    assert_eq!(
        (&after["auditCursor"], &after["connection"]),
        (&view["auditCursor"], &json!("connected"))
    );
    let refused = primary.get("audit?type=mesh.connect&outcome=denied").await;
    assert_eq!(refused["events"].as_array().unwrap().len(), 1, "recorded once: {refused}");
    let (_, said) = stage.plexus(&["doctor"]).await;
    assert!(said.contains("does not continue its copy here: nas"), "{said}");
    primary.running.stop(PATIENCE).await.unwrap();
    let here = stage.path("home/audit");
    let origins = origins(&events(&here));
    assert!(origins.iter().copied().eq(1..=origins.len() as u64), "nothing was taken twice");
    assert_eq!(verify(&here).unwrap().first_bad, None);
}

#[tokio::test]
async fn a_write_through_the_tunnel_needs_the_owner_and_leaves_two_rows_at_both_ends() {
    let stage = Stage::new();
    let (primary, proxy, agent) = joined(&stage).await;
    let write = json!({WRITE: {"decision": "allow", "verbs": ["write"]}});
    let (_, asked) = agent.ask(&write).await;
    let id = asked["pendingId"].as_str().unwrap();
    primary.approve(id, None).await;
    let token = agent.taken(id).await;
    let input = json!({"path": "b.txt", "content": "from afar"});
    let (status, answer) = agent.invoke(&token, WRITE, &input).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_eq!(std::fs::read_to_string(stage.path("notes/b.txt")).unwrap(), "from afar");
    proxy.stop(PATIENCE).await.unwrap();
    primary.running.stop(PATIENCE).await.unwrap();
    for (folder, id) in [("home/audit", WRITE), ("proxy/audit", "notes.file.write")] {
        let rows: Vec<_> = events(&stage.path(folder));
        let own =
            rows.iter().filter(|e| e.workload.is_none() && e.capability_id.as_deref() == Some(id));
        let phases: Vec<_> = own.map(|e| e.detail.as_ref().unwrap()["phase"].clone()).collect();
        assert_eq!(phases, [json!("started"), json!("finished")], "{folder}");
    }
}

#[tokio::test]
async fn a_ticket_admits_one_node_once() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    stage.join(&primary, "nas").await;
    let other = Stage::new();
    std::fs::copy(stage.path("ticket"), other.path("ticket")).unwrap();
    let ticket = other.path("ticket").display().to_string();
    let state = other.path("proxy").display().to_string();
    let args = ["join", "--ticket-file", &ticket, "--state", &state];
    let (code, _) = other.command("plexus-proxy", &args).await;
    assert_eq!(code, 4, "refused");
    assert!(other.log("plexus-proxy").contains("token_consumed"), "{}", other.log("plexus-proxy"));
    // The node that joined may say so again: a lost answer is healed by its key.
    let ticket = stage.path("ticket").display().to_string();
    let state = stage.path("proxy").display().to_string();
    let args = ["join", "--ticket-file", &ticket, "--state", &state];
    assert_eq!(stage.command("plexus-proxy", &args).await.0, 0);
    let invite = primary.try_post("mesh/invite", &json!({"workload": "nas"})).await;
    assert_eq!(invite.status, 409, "the name is taken");
}
