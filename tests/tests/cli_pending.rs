//! What the owner is shown before a yes, and what the yes then gives.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::shell::Shell;
use plexus_tests::{PATIENCE, Primary, Stage, body};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";

fn waits(answer: &Value) -> String {
    let id = answer["pendingId"].as_str().or(answer["error"]["pendingId"].as_str());
    id.unwrap().to_owned()
}

#[tokio::test]
async fn the_owner_sees_the_very_input_each_constraint_and_the_agents_words_as_such() {
    let (stage, _primary, ada) = Stage::with_ada().await;
    let mut shell = Shell::on(&stage);
    let hidden = "keep\u{202e}txt.sh\u{200b}\n\u{1b}[2Jrm";
    let call = json!({"id": WRITE, "input": {"path": "b.txt", "content": hidden}});
    let first = waits(&ada.assisted(&call).await.1);
    let constraint = json!({"pathPrefix": {"field": "path", "allow": ["in\u{200d}/"]}});
    let ask = json!({WRITE: {"decision": "allow", "verbs": ["write"], "constraint": constraint,
        "purpose": "tidy» approved by the owner"}});
    let second = waits(&ada.ask(&ask).await.1);
    let shown = shell.done("pending").await;
    for told in [
        r#""content": "keep\u202etxt.sh\u200b\n\u001b[2Jrm""#,
        "for this very input, and no other (SHA-256 ",
        r#"only for inputs within {"pathPrefix":{"field":"path","allow":["in\u200d/"]}}"#,
        "«the agent says: tidy› approved by the owner»",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    let raw = |c: char| c != '\n' && (c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c));
    assert!(!shown.contains(raw), "{shown:?}");

    let approved = shell.done(&format!("approve {first}")).await;
    assert!(approved.contains(r#""content": "keep\u202etxt.sh\u200b\n\u001b[2Jrm""#), "{approved}");
    let token = ada.taken(&first).await;
    let other = json!({"path": "b.txt", "content": "other"});
    assert_eq!(ada.invoke(&token, WRITE, &other).await.0, 401);
    assert_eq!(ada.invoke(&token, WRITE, &call["input"]).await.0, 200, "exactly what was shown");

    let said = shell.plexus(&format!("approve {second} --for 1h")).await;
    assert!(said.out.contains("write notes.file.write for 1h, only for inputs within"), "{said:?}");
}

#[tokio::test]
async fn an_input_too_long_for_a_screen_is_cut_and_whole_as_json() {
    let (stage, _primary, ada) = Stage::with_ada().await;
    let mut shell = Shell::on(&stage);
    let long = "x".repeat(100_000);
    let call = json!({"id": WRITE, "input": {"path": "b.txt", "content": long}});
    ada.assisted(&call).await;
    let shown = shell.done("pending").await;
    assert!(shown.len() < 4000 && shown.contains("… 99"), "{} bytes", shown.len());
    let (_, document) = shell.json("pending").await;
    assert_eq!(document["pending"][0]["input"], call["input"]);
}

async fn settle(primary: &Primary, settings: &Value) {
    let answer = primary.owner(Method::PUT, "settings", Some(settings)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_window_is_told_as_the_gateway_gave_it() {
    let (stage, primary, ada) = Stage::with_ada().await;
    settle(&primary, &json!({"maxTrustWindowMs": 7_200_000})).await;
    let clock = json!({
        "manifest": "plexus-extension/0.1", "source": "clock", "label": "Clock", "transport": "cli",
        "binaries": ["date"],
        "capabilities": [
            {"name": "time.set", "kind": "capability", "label": "Set", "describe": "Sets the time.",
             "grants": ["execute"], "route": {"bin": "date", "argv": ["+%s"]}},
            {"name": "time.run", "kind": "workflow", "label": "Run", "describe": "Looks at the time.",
             "grants": ["read"], "members": [{"id": "time.set", "verbs": ["execute"]}]}],
    });
    primary.post("extensions", &json!({ "manifest": clock })).await;
    let mut shell = Shell::on(&stage);
    let item = ada.pending("clock.time.run", "read").await;
    let shown = shell.done("pending").await;
    assert!(shown.contains("read clock.time.run") && shown.contains("once only"), "{shown}");
    assert!(shown.contains("its run calls clock.time.set [execute]"), "{shown}");
    let said = shell.plexus(&format!("approve {item} --for 7d")).await;
    assert!(said.out.contains("ada may read clock.time.run once\n"), "{said:?}");
    assert!(said.err.contains("clock.time.run stands no longer than once"), "{said:?}");

    let item = ada.pending(WRITE, "write").await;
    assert!(shell.done("pending").await.contains("elevated     2h"));
    let end = &item[item.len() - 6..];
    let (_, said) = shell.json(&format!("approve {end} --for 7d")).await;
    let hours = json!({"kind": "custom", "ms": 7_200_000});
    assert_eq!((&said["pendingId"], &said["granted"][0]["trustWindow"]), (&json!(item), &hours));
}

#[tokio::test]
async fn a_source_that_an_agent_brings_is_shown_by_what_it_reaches() {
    let (stage, _primary, ada) = Stage::with_ada().await;
    let mut shell = Shell::on(&stage);
    let manifest = json!({
        "manifest": "plexus-extension/0.1", "source": "say", "label": "Say\u{2066}", "transport": "cli",
        "binaries": ["printf"], "secrets": [{"name": "say-token", "attach": "env", "as": "SAY_TOKEN"}],
        "capabilities": [{"name": "word.say", "kind": "capability", "label": "Say",
            "describe": "Says a word.", "grants": ["write"],
            "route": {"bin": "printf", "argv": ["--", "said %s", "{word}"], "secrets": ["say-token"]}}],
    });
    let request = json!({ "manifest": manifest });
    let ask = Ask::with_body(Method::POST, "/extensions", &request);
    let asked = body(&ada.send(ask.header("x-plexus-session", &ada.session)).await);
    assert!(asked["pendingId"].is_string(), "{asked}");
    let item = waits(&asked);
    let shown = shell.done("pending").await;
    for told in [
        "ada    add the source say",
        "binaries     printf",
        "commands     word.say [write]: printf -- \"said %s\" {word}",
        "say-token as SAY_TOKEN",
        "capability   say.word.say [write] over cli: Say",
        "has the whole manifest (SHA-256 ",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    let (_, document) = shell.json("pending").await;
    assert_eq!(document["pending"][0]["register"]["manifest"], manifest);
    let said = shell.done(&format!("approve {item}")).await;
    assert!(said.contains("ada may add the source say"), "{said}");
    assert!(shell.done("extensions list").await.contains("extension"), "someone else's class");
}

#[tokio::test]
async fn the_owner_narrows_a_yes_with_json_or_a_file() {
    let (stage, _primary, ada) = Stage::with_ada().await;
    let mut shell = Shell::on(&stage);
    std::fs::create_dir(stage.path("notes/in")).unwrap();
    let narrow =
        |place: &str| json!({"pathPrefix": {"field": "path", "allow": [place]}}).to_string();
    let file = stage.path("narrow.json");
    std::fs::write(&file, narrow("in/")).unwrap();
    let item = ada.pending(WRITE, "write").await;
    let from = format!("--constraint @{}", file.display());
    let approved = shell.done(&format!("approve {item} --for 1h {from}")).await;
    assert!(approved.contains("only for inputs within"), "{approved}");
    let token = ada.taken(&item).await;
    let write = |path: &str| json!({"path": path, "content": "x"});
    assert_eq!(ada.invoke(&token, WRITE, &write("in/b.txt")).await.0, 200);
    assert_eq!(ada.invoke(&token, WRITE, &write("b.txt")).await.0, 401);
    let text = narrow("a.txt");
    shell.done(&format!("grants grant ada {READ} --constraint '{text}'")).await;
    let grants = shell.done("grants list").await;
    assert!(
        grants.contains(&format!("only for inputs within {}", text.replace(' ', ""))),
        "{grants}"
    );
}

#[tokio::test]
async fn watching_shows_a_request_as_it_comes_and_ends_with_ctrl_c() {
    let (stage, _primary, ada) = Stage::with_ada().await;
    let first = ada.pending(WRITE, "write").await;
    let watching = stage.program("plexus", &["pending", "--watch", "--json"]);
    let mut watching = watching.start().unwrap();
    let item = async |watching: &mut plexus_shared::transport::child::Running| {
        let line = watching.line("{\"schema\":\"plexus.pending.item/1\",", PATIENCE).await.unwrap();
        let document: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        document["item"].clone()
    };
    assert_eq!(item(&mut watching).await["pendingId"], first.as_str(), "what waits already");
    let call = json!({"id": WRITE, "input": {"path": "b.txt", "content": "x"}});
    let second = waits(&ada.assisted(&call).await.1);
    let shown = item(&mut watching).await;
    assert_eq!((&shown["pendingId"], &shown["input"]), (&json!(second), &call["input"]));
    let interrupt = format!("kill -INT {}", watching.pid().unwrap());
    let mut kill = stage.program("plexus", &["-c", &interrupt]);
    kill.path = "/bin/sh".into();
    kill.start().unwrap().succeed(PATIENCE).await.unwrap();
    let (status, rest) = watching.finish(PATIENCE).await.unwrap();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
}
