//! The owner's command line, whole: each command once, for a person and for a program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use plexus_shared::transport::http::Method;
use plexus_tests::shell::Shell;
use plexus_tests::{Agent, PATIENCE, Primary, Stage};
use serde_json::{Value, json};

const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";
/// A secret that only standard input ever holds.
const PLANTED: &str = "correct-horse-battery";

/// What each command said to a person, and the shape of what it said to a program.
struct Transcript<'a> {
    shell: Shell<'a>,
    text: String,
    shapes: BTreeMap<String, Vec<String>>,
}

impl Transcript<'_> {
    /// Runs `line` for a person.
    async fn tell(&mut self, line: &str) {
        let out = self.shell.done(line).await;
        self.text.push_str(&format!("$ plexus {line}\n{out}\n"));
    }

    /// Runs `line` for a program.
    async fn shape(&mut self, line: &str) -> Value {
        let (code, document) = self.shell.json(line).await;
        assert_eq!(code, 0, "{line}: {document}");
        let members = document.as_object().unwrap();
        let keys = members.keys().skip(1).cloned().collect();
        let name = document["schema"].as_str().expect("a schema");
        self.shapes.insert(name.to_owned(), keys);
        document
    }

    /// Runs `line` for a person and for a program.
    async fn both(&mut self, line: &str) -> Value {
        self.tell(line).await;
        self.shape(line).await
    }

    async fn sources(&mut self, stage: &Stage) {
        let (notes, manifest) = (stage.path("notes"), file(stage, "clock.json", &clock()));
        let add = |id| {
            let notes = notes.display();
            format!("sources add workspace --path {notes} --id {id} --mode read-write")
        };
        self.tell(&add("notes")).await;
        self.shape(&add("more")).await;
        self.both("sources disable notes").await;
        self.both("sources list").await;
        self.both("sources enable notes").await;
        self.tell("sources remove more").await;
        self.both(&format!("extensions preview {manifest}")).await;
        self.both("extensions list").await;
        self.tell(&format!("sources add --manifest {manifest}")).await;
        self.both("extensions list").await;
        self.tell("extensions remove clock").await;
        self.shape(&format!("sources add --manifest {manifest}")).await;
        self.shape("extensions remove clock").await;
    }

    async fn secrets(&mut self) {
        let said = self.shell.fed("secret put github-token", &format!("{PLANTED}\n")).await;
        assert_eq!((said.code, said.out.as_str()), (0, "kept github-token\n"), "{said:?}");
        let said = self.shell.fed("secret put other --json", PLANTED).await;
        assert_eq!((said.code, &said.json()["schema"]), (0, &json!("plexus.secret.put/1")));
        self.both("secret list").await;
        self.tell("secret delete other").await;
        self.shape("secret delete github-token").await;
        // What is given where others can read it is refused, and not repeated.
        let said = self.shell.plexus(&format!("secret put github-token {PLANTED}")).await;
        assert!(said.code == 2 && said.err.contains("never an argument"), "{said:?}");
        let said = self.shell.fed("secret put github-token", "\n").await;
        assert!(said.code == 2 && said.err.contains("on standard input"), "{said:?}");
    }

    async fn requests(&mut self, ada: &Agent) {
        let first = call(ada, "a").await;
        self.both("pending").await;
        self.tell(&format!("approve {first}")).await;
        let second = call(ada, "b").await;
        self.tell(&format!("deny {second} --reason no")).await;
        let third = call(ada, "c").await;
        self.shape(&format!("deny {third}")).await;
        let fourth = call(ada, "d").await;
        self.shape(&format!("approve {fourth} --for 1h")).await;
        self.both("pending").await;
    }

    async fn agents(&mut self) {
        self.both(&format!("agents connect bob --type codex --allow {READ}")).await;
        self.both("agents rotate bob").await;
        self.both("agents list").await;
        self.both(&format!("grants grant bob {WRITE}=write --window 2h")).await;
        self.both("grants list").await;
        let tokens = self.both("tokens").await;
        let jti = tokens["tokens"][0]["jti"].as_str().unwrap();
        self.tell(&format!("grants revoke --token {jti}")).await;
        self.both(&format!("grants revoke bob {WRITE}")).await;
        let bundles = self.both("bundles list").await;
        let bundle = bundles["bundles"][0]["bundleId"].as_str().unwrap();
        self.both(&format!("bundles revoke {bundle}")).await;
        self.both("agents revoke bob --reason left").await;
    }

    async fn gateway(&mut self, stage: &Stage) {
        self.both(&format!("hide {WRITE}")).await;
        self.both(&format!("expose {WRITE}")).await;
        self.both("exposure").await;
        // Settings come and go: these two are looked at, and no list of them all.
        let told =
            self.shell.done("settings set maxTrustWindowMs=3600000 policy=confirm-all").await;
        assert!(told.contains("\nmaxTrustWindowMs=3600000\npolicy=confirm-all\n"), "{told}");
        assert_eq!(self.shell.done("settings").await, told);
        self.shape("settings").await;
        self.both("network set allowedHosts=gateway.home:7443,gateway.home").await;
        self.both("network").await;
        self.both("mesh list").await;
        self.both("panic").await;
        self.both("resume").await;
        self.both("status").await;
        self.shape("doctor").await;
        self.tell("audit query --type exposure.set --since 1h --limit 2").await;
        self.both("audit search --type exposure.set").await;
        self.both("audit tail -n 1 --type settings.change").await;
        self.both("audit verify").await;
        let [text, program] =
            ["text", "program"].map(|name| stage.path(name).display().to_string());
        self.tell(&format!("audit export --out {text} --type exposure.set")).await;
        self.shape(&format!("audit export --out {program}")).await;
        self.both("key rotate").await;
    }
}

/// What differs from run to run goes.
fn settled() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    for (what, becomes) in [
        (r"(pend|tok|sess|evt|bndl)_[0-9A-Z]{26}", "${1}_…"),
        (r"plx_(\w+)_[0-9a-f]{64}", "plx_${1}_…"),
        (r"\S*/\.tmp\w+", "<stage>"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?Z", "<time>"),
        (r"\b\d+[smh] ago", "<ago>"),
        (r"in (14|15)m", "in 15m"),
        (r"(?m)^ +\d+  <time>", "#  <time>"),
        (r"(?m)^( +up +).*$", "${1}<since>"),
        (r"\bevent \d+|\b\d+ events", "<events>"),
        (r"revision \d+", "revision <n>"),
        (r" {2,}", "  "),
        (r"-{3,}", "---"),
    ] {
        settings.add_filter(what, becomes);
    }
    settings
}

fn file(stage: &Stage, name: &str, document: &Value) -> String {
    let path = stage.path(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path.display().to_string()
}

fn clock() -> Value {
    json!({
        "manifest": "plexus-extension/0.1", "source": "clock", "label": "Clock", "transport": "cli",
        "binaries": ["date"],
        "capabilities": [{"name": "time.tell", "kind": "capability", "label": "Tell",
            "describe": "Tells the time.", "grants": ["read"],
            "route": {"bin": "date", "argv": ["+%s"], "env": ["TZ"]}}],
    })
}

/// An agent with a bundle, and so with something to see.
async fn bundled(primary: &Primary) -> Agent {
    let ada = primary.agent("ada", &[READ]).await;
    let bundle = json!({"grants": {"notes.file.list": "allow"}, "bundle": {"name": "tidy up"}});
    let session = [("x-plexus-session", ada.session.as_str())];
    let (status, _) = primary.tell(Method::PUT, "/grants", &session, &bundle).await;
    assert_eq!(status, 200);
    ada
}

/// A call of `ada` that waits for the owner: the item.
async fn call(ada: &Agent, content: &str) -> String {
    let call = json!({"id": WRITE, "input": {"path": "b.txt", "content": content}});
    let (_, asked) = ada.assisted(&call).await;
    asked["error"]["pendingId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_command_has_a_table_for_people_and_a_document_for_programs_and_tells_no_secret() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let shell = Shell::on(&stage);
    let mut said = Transcript { shell, text: String::new(), shapes: BTreeMap::new() };
    said.sources(&stage).await;
    said.secrets().await;
    let ada = bundled(&primary).await;
    said.requests(&ada).await;
    said.agents().await;
    said.gateway(&stage).await;
    said.shape("agents rotate ada").await;
    assert_ne!(primary.handshake(&ada.pat).await.0, "", "until the new code is redeemed");
    settled().bind(|| {
        insta::assert_snapshot!("people", said.text);
        insta::assert_json_snapshot!("programs", said.shapes);
    });
    let rotated = std::fs::read_to_string(stage.path("home/connection-key")).unwrap();
    let mut secrets =
        vec![primary.key.clone(), rotated, ada.pat, "eyJ".to_owned(), PLANTED.to_owned()];
    for name in ["token-secret", "node-identity"] {
        secrets.push(std::fs::read_to_string(stage.path("home").join(name)).unwrap());
    }
    for secret in secrets {
        assert!(!said.shell.heard.contains(secret.trim()), "a secret was told");
    }
}

#[tokio::test]
async fn every_exit_code_is_seen_and_each_refusal_says_what_to_do() {
    let stage = Stage::new();
    let mut shell = Shell::on(&stage);
    let refused = async |shell: &mut Shell<'_>, line: &str, code: i32, next: &str| {
        let said = shell.plexus(line).await;
        assert_eq!(said.code, code, "{line}: {said:?}");
        assert!(said.err.starts_with("plexus: ") && said.err.contains(next), "{line}: {said:?}");
        let (again, document) = shell.json(line).await;
        assert_eq!((again, &document["schema"]), (code, &json!("plexus.error/1")), "{document}");
        assert!(document["error"]["message"].is_string(), "{document}");
    };
    refused(&mut shell, "status", 5, "start one with `plexus serve`").await;
    let (stage, primary, ada) = {
        let primary = stage.primary().await;
        primary.share(&stage).await;
        let ada = primary.agent("ada", &[]).await;
        (&stage, primary, ada)
    };
    refused(&mut shell, "status --no-such-flag", 2, "--help").await;
    refused(&mut shell, "approve WXYZ", 2, "see `plexus pending`").await;
    refused(&mut shell, "approve WXYZ --constraint '{}'", 2, "constraint").await;
    refused(&mut shell, "agents rotate nobody", 2, "`plexus agents list`").await;
    refused(&mut shell, "agents revoke nobody", 2, "`plexus agents list`").await;
    refused(&mut shell, "sources add workspace --path /no/such", 2, "name a folder").await;
    refused(&mut shell, "settings set policy=never", 2, "confirm-risky").await;
    refused(&mut shell, "audit export --out /no/such/file", 1, "can't be written").await;
    refused(&mut shell, "audit export --out /dev/null", 1, "there already; name another").await;
    let manifest = file(stage, "bad.json", &json!({"manifest": "x", "source": "../y"}));
    refused(&mut shell, &format!("sources add --manifest {manifest}"), 2, "  /source: ").await;

    assert_eq!(shell.plexus("pending --exit-code").await.code, 0);
    ada.pending(WRITE, "write").await;
    assert_eq!(shell.plexus("pending --exit-code").await.code, 3);
    assert_eq!(shell.plexus("pending").await.code, 0);

    let key = stage.path("home/connection-key");
    std::fs::write(&key, primary.key.replace(|c: char| c.is_ascii_digit(), "a")).unwrap();
    refused(&mut shell, "status", 4, "restart it").await;
    std::fs::write(&key, &primary.key).unwrap();
    assert_eq!(shell.plexus("agents revoke ada").await.code, 0);
    refused(&mut shell, "agents rotate ada", 2, "`plexus agents connect ada`").await;
    assert_eq!(shell.plexus("agents revoke ada --delete").await.code, 0);
    assert_eq!(shell.json("agents list").await.1["agents"], json!([]));

    primary.running.stop(PATIENCE).await.unwrap();
    refused(&mut shell, "pending --watch", 5, "start one with `plexus serve`").await;
    let log = std::fs::read_dir(stage.path("home/audit")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("\"ada\"", "\"eve\"", 1)).unwrap();
    assert_eq!(shell.plexus("audit verify").await.code, 6);
    let (code, told) = shell.json("audit verify").await;
    assert_eq!(
        (code, &told["schema"], &told["ok"]),
        (6, &json!("plexus.audit.verify/1"), &json!(false))
    );
}

#[tokio::test]
async fn a_wrong_word_is_told_with_where_the_right_ones_are() {
    let (stage, _primary, _ada) = Stage::with_ada().await;
    let mut shell = Shell::on(&stage);
    for (line, next) in [
        ("audit query --since yesterday", "1h"),
        ("settings set polcy=confirm-all", "`plexus settings`"),
        ("network set bind=0.0.0.0:1", "`plexus network`"),
        ("extensions remove nope", "`plexus extensions list`"),
        ("approve", "<ID>"),
    ] {
        let (code, document) = shell.json(line).await;
        let told = document["error"]["message"].as_str().unwrap();
        assert!(code == 2 && told.contains(next), "{line}: {told}");
    }
    let mut runs = clock();
    runs["capabilities"][0]["grants"] = json!(["execute"]);
    let runs = file(&stage, "runs.json", &runs);
    shell.done(&format!("sources add --manifest {runs}")).await;
    let nothing = shell.plexus("grants grant ada clock.time.tell").await;
    let why = nothing.out.contains("can not be granted ahead");
    assert_eq!((nothing.code, why), (2, true), "nothing was given: {nothing:?}");
}

#[tokio::test]
async fn an_event_is_one_line_whatever_an_agent_wrote() {
    let (stage, primary, ada) = Stage::with_ada().await;
    let hostile = "a.b.c\n    99  2026-06-23 11:00:05Z  -  invoke  ok\u{1b}[2J\r\u{202e}\u{2028}";
    let (_, refused) = ada.assisted(&json!({"id": hostile, "input": {"path": hostile}})).await;
    assert_eq!(refused["error"]["code"], "unknown_capability");
    primary.greet(&ada.pat).await;
    let mut shell = Shell::on(&stage);
    let (_, document) = shell.json("audit tail -n 100").await;
    let events = document["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["capabilityId"] == hostile), "{document}");
    for command in ["tail -n 100", "query --limit 100"] {
        let told = shell.done(&format!("audit {command}")).await;
        assert_eq!(told.lines().count(), events.len(), "{told}");
        let moves = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!told.contains(moves), "{told:?}");
    }
}

#[tokio::test]
async fn shells_and_readers_are_served_without_a_gateway() {
    let stage = Stage::new();
    let mut shell = Shell::on(&stage);
    for (name, word) in
        [("bash", "complete -F"), ("zsh", "#compdef plexus"), ("fish", "complete -c plexus")]
    {
        let script = shell.done(&format!("completions {name}")).await;
        assert!(script.contains(word) && script.contains("exit-code"), "{name}: {script}");
        let (_, document) = shell.json(&format!("completions {name}")).await;
        assert_eq!((&document["shell"], &document["script"]), (&json!(name), &json!(script)));
    }
    assert!(shell.done("man").await.contains(".TH plexus 1"));
    let folder = stage.path("man");
    let (_, document) = shell.json(&format!("man --out {}", folder.display())).await;
    let files = document["files"].as_array().unwrap();
    assert!(files.len() > 50, "{files:?}");
    for file in files {
        let page = std::fs::read_to_string(file.as_str().unwrap()).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Example"), "{file}");
    }
    let approve = std::fs::read_to_string(folder.join("plexus-approve.1")).unwrap();
    assert!(approve.contains("pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z"), "{approve}");
}
