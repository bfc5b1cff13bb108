//! Secrets planted wherever an agent or the owner can put a word: never in the log, never in what is
//! told of it, never in a refusal.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod inside;

use std::time::Duration;

use inside::Inside;
use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::ear::Ear;
use plexus_tests::{Agent, body};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How many secrets are planted.
const CASES: u32 = 300;
const READ: &str = "notes.file.read";
const WRITE: &str = "notes.file.write";
/// A command that was given a secret, and says what it is told.
const SAY: &str = "keys.word.say";
/// That secret: nothing about it looks like one.
const DECLARED: &str = "quite-an-ordinary \"word\"/42";

/// What is planted.
#[derive(Clone, Debug)]
enum Secret {
    /// A text that is a credential by its looks; the part that must not be seen.
    Shaped(String, String),
    /// A value that is secret because of its key.
    Named(String, String),
    /// What the owner gave to an extension.
    Declared,
    /// A credential that is really in force.
    InForce(usize),
}

/// Where.
#[derive(Clone, Copy, Debug)]
enum Place {
    Path,
    Extra,
    Argument,
    Content,
    Id,
    Purpose,
    Client,
    Reason,
    Label,
    Misshapen,
    Bearer,
    Session,
    Key,
    Headers,
    Refused,
    Waiting,
}

const PLACES: [Place; 16] = [
    Place::Path,
    Place::Extra,
    Place::Argument,
    Place::Content,
    Place::Id,
    Place::Purpose,
    Place::Client,
    Place::Reason,
    Place::Label,
    Place::Misshapen,
    Place::Bearer,
    Place::Session,
    Place::Key,
    Place::Headers,
    Place::Refused,
    Place::Waiting,
];

fn secret() -> impl Strategy<Value = Secret> {
    const SHAPES: [&str; 8] = [
        "plx_live_{}",
        "plx_agent_{}",
        "plx_enroll_{}",
        "eyJhbGciOiJIUzI1NiJ9.eyJ{}.c2ln",
        "Bearer {}",
        "Authorization: Basic {}",
        "cookie={}",
        "Set-Cookie: sid={}; HttpOnly",
    ];
    const KEYS: [&str; 7] =
        ["password", "API-Key", "client_secret", "Set-Cookie", "token", "Authorization", "PAT"];
    prop_oneof![
        4 => (select(&SHAPES[..]), "[0-9a-f]{64}").prop_map(|(shape, hex)| {
            Secret::Shaped(shape.replace("{}", &hex), hex)
        }),
        3 => (select(&KEYS[..]), "[a-zA-Z0-9+/]{12,40}")
            .prop_map(|(key, value)| Secret::Named(key.to_owned(), value)),
        2 => Just(Secret::Declared),
        2 => (0_usize..4).prop_map(Secret::InForce),
    ]
}

/// One secret, in one place, so many levels deep, between these words.
#[derive(Clone, Debug)]
struct Case {
    secret: Secret,
    place: Place,
    depth: usize,
    before: String,
}

fn case() -> impl Strategy<Value = Case> {
    (secret(), select(&PLACES[..]), 0_usize..4, "[a-z ]{0,30}")
        .prop_map(|(secret, place, depth, before)| Case { secret, place, depth, before })
}

struct World {
    inside: Inside,
    ada: Agent,
    token: String,
    say: String,
    in_force: [String; 4],
    ears: Vec<JoinHandle<String>>,
}

impl World {
    async fn new() -> Self {
        let inside = Inside::shared().await;
        let gateway = &inside.gateway;
        let secrets = inside.stage.path("home/secrets");
        std::fs::write(secrets.join("word"), DECLARED).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(secrets.join("word"), private).unwrap();
        let manifest = json!({"manifest": "plexus-extension/0.1", "source": "keys", "label": "Keys",
            "transport": "cli", "binaries": ["echo"],
            "secrets": [{"name": "word", "attach": "env", "as": "WORD"}],
            "capabilities": [{"name": "word.say", "kind": "capability", "label": "Say",
                "describe": "Says it.", "grants": ["read"],
                "io": {"input": {"type": "object", "properties": {"text": {"type": "string"}}}},
                "route": {"bin": "echo", "argv": ["{text?}"]}}]});
        gateway.post("extensions", &json!({ "manifest": manifest })).await;
        let (ada, bob) = (gateway.agent("ada", &[]).await, gateway.agent("bob", &[]).await);
        let (token, say) = (ada.token(READ).await, ada.token(SAY).await);
        let eve = gateway.post("agents/connect", &json!({"agentId": "eve"})).await;
        let code = eve["code"].as_str().unwrap().to_owned();
        let in_force = [gateway.key.clone(), bob.pat.clone(), bob.token(READ).await, code];
        let ears = [Ear::owner(gateway).await, Ear::agent(&ada).await, Ear::agent(&bob).await];
        let listen = |mut ear: Ear| async move {
            while ear.next().await.is_some() {}
            ear.heard
        };
        let ears = ears.into_iter().map(|ear| tokio::spawn(listen(ear))).collect();
        Self { inside, ada, token, say, in_force, ears }
    }

    /// What is planted as text, and what of it must not be seen.
    fn text(&self, case: &Case) -> (String, String) {
        let (text, needle) = match &case.secret {
            Secret::Shaped(text, needle) => (text.clone(), needle.clone()),
            // A value alone looks like nothing; its key goes before it.
            Secret::Named(_, value) => (format!("Authorization: {value}"), value.clone()),
            Secret::Declared => (DECLARED.to_owned(), DECLARED.to_owned()),
            Secret::InForce(which) => {
                (self.in_force[*which].clone(), self.in_force[*which].clone())
            }
        };
        (format!("{} {text}", case.before).trim_start().to_owned(), needle)
    }

    /// The same as JSON, so many levels deep.
    fn value(&self, case: &Case) -> Value {
        let (text, _) = self.text(case);
        let leaf = match &case.secret {
            Secret::Named(key, value) => json!({key: value}),
            _ => json!({"note": text}),
        };
        (0..case.depth).fold(leaf, |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({"inner": inner}),
        })
    }

    /// Plants it; everything that was answered as a refusal.
    async fn plant(&self, case: &Case) -> Vec<String> {
        let (text, _) = self.text(case);
        let value = self.value(case);
        let ada = &self.ada;
        let answer = match case.place {
            Place::Path => ada.invoke(&self.token, READ, &json!({"path": text})).await,
            Place::Extra => ada.invoke(&self.token, READ, &json!({"path": value})).await,
            Place::Argument => ada.invoke(&self.say, SAY, &json!({"text": text, "x": value})).await,
            Place::Refused => {
                ada.invoke(&self.token, SAY, &json!({"text": text, "x": value})).await
            }
            Place::Id => {
                let (status, mut answer) = ada.invoke(&self.token, &text, &value).await;
                // Its own words, to whoever asked.
                answer["id"] = Value::Null;
                answer["error"]["capabilityId"] = Value::Null;
                (status, answer)
            }
            Place::Content => {
                std::fs::write(self.inside.stage.path("notes/s.txt"), &text).unwrap();
                ada.invoke(&self.token, READ, &json!({"path": "s.txt"})).await
            }
            Place::Waiting => {
                let call = json!({"id": WRITE, "input": {"path": "w.txt", "content": text}});
                let answer = ada.assisted(&call).await;
                self.deny_all().await;
                answer
            }
            Place::Purpose => {
                let ask = json!({"decision": "allow", "verbs": ["write"], "purpose": text});
                let answer = ada.ask(&json!({WRITE: ask})).await;
                self.deny_all().await;
                answer
            }
            Place::Client | Place::Reason | Place::Label | Place::Misshapen => {
                self.said(case.place, &text, &value).await
            }
            Place::Bearer | Place::Session | Place::Key | Place::Headers => {
                return self.shown(case.place, &text).await;
            }
        };
        if answer.0 < 400 && answer.1.get("error").is_none() {
            Vec::new()
        } else {
            vec![answer.1.to_string()]
        }
    }

    /// Says `text` where words go.
    async fn said(&self, place: Place, text: &str, value: &Value) -> (u16, Value) {
        let (ada, gateway) = (&self.ada, &self.inside.gateway);
        match place {
            Place::Client => {
                let pat = format!("Bearer {}", ada.pat);
                let hello = json!({"client": {"name": text, "more": value}});
                let headers = [("authorization", pat.as_str())];
                gateway.tell(Method::POST, "/link/handshake", &headers, &hello).await
            }
            Place::Reason => {
                let taken = json!({"agentId": "bob", "capabilityId": WRITE, "reason": text});
                (200, gateway.post("revoke", &taken).await)
            }
            Place::Label => {
                let order = json!({"agentId": "fay", "label": text});
                let answer = gateway.try_post("agents/connect", &order).await;
                (answer.status.as_u16(), body(&answer))
            }
            _ => {
                let session = [("x-plexus-session", ada.session.as_str())];
                let wrong = json!({"grants": text, "bundle": value});
                gateway.tell(Method::PUT, "/grants", &session, &wrong).await
            }
        }
    }

    async fn deny_all(&self) {
        for item in self.inside.gateway.get("pending").await["pending"].as_array().unwrap() {
            let item = item["pendingId"].as_str().unwrap();
            self.inside.gateway.post(&format!("pending/{item}"), &json!({"action": "deny"})).await;
        }
    }

    /// Shows `text` where a credential goes, at a route of each kind.
    async fn shown(&self, place: Place, text: &str) -> Vec<String> {
        let bearer = format!("Bearer {text}");
        let mut told = Vec::new();
        for (method, path) in [
            (Method::GET, "/manifest"),
            (Method::POST, "/link/handshake"),
            (Method::POST, "/invoke"),
            (Method::POST, "/grants/refresh"),
            (Method::GET, "/admin/api/status"),
        ] {
            let body = (method == Method::POST).then(|| b"{\"id\": \"a.b.c\"}".to_vec());
            let ask = Ask { method, body, ..Ask::get(path) };
            let ask = match place {
                Place::Bearer => ask.header("authorization", &bearer),
                Place::Session => ask.header("x-plexus-session", text),
                Place::Key => ask.header("x-plexus-connection-key", text),
                _ => ask.header("cookie", text).header("user-agent", text),
            };
            let answer = self.inside.gateway.send(ask).await.unwrap();
            if !answer.status.is_success() {
                told.push(String::from_utf8_lossy(&answer.body).into_owned());
            }
        }
        told
    }

    /// The log as it lies on the disk, and as the owner is shown it.
    async fn log(&self, whole: bool) -> Vec<(&'static str, String)> {
        let folder = std::fs::read_dir(self.inside.stage.path("home/audit")).unwrap();
        let files =
            folder.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect::<Vec<_>>();
        let on_disk = String::from_utf8(files.concat()).unwrap();
        let page = self.inside.gateway.get("audit?limit=20").await.to_string();
        let mut seen = vec![("the log's files", on_disk), ("GET audit", page)];
        if whole {
            let export = self.inside.gateway.owner(Method::GET, "audit/export", None).await;
            seen.push(("GET audit/export", String::from_utf8(export.body.to_vec()).unwrap()));
            let index = std::fs::read_dir(self.inside.stage.path("home")).unwrap();
            let index = index.map(|file| file.unwrap().path());
            for file in index.filter(|path| path.display().to_string().contains("audit-index")) {
                let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
                seen.push(("the log's index", text));
            }
        }
        seen
    }
}

/// `needle` as it stands, and as it stands within JSON.
fn spellings(needle: &str) -> [String; 2] {
    let quoted = Value::from(needle).to_string();
    [needle.to_owned(), quoted[1..quoted.len() - 1].to_owned()]
}

fn unseen(what: &str, text: &str, needle: &str) -> Result<(), TestCaseError> {
    for spelling in spellings(needle) {
        if let Some(at) = text.find(&spelling) {
            let around: String = text[..at].chars().rev().take(300).collect();
            let around: String = around.chars().rev().collect();
            return Err(TestCaseError::fail(format!("{what}: …{around}[HERE]")));
        }
    }
    Ok(())
}

/// Whether the gateway can know that this is a secret: one that only an extension was given is known
/// where that extension is called.
fn can_be_known(case: &Case) -> bool {
    let of_the_extension = matches!(case.place, Place::Argument | Place::Refused);
    !matches!(case.secret, Secret::Declared) || of_the_extension
}

#[test]
fn a_planted_secret_is_in_no_log_no_export_no_stream_and_no_refusal() {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let planted = std::cell::RefCell::new(Vec::new());
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    let result = runner.run(&case().prop_filter("unknown", can_be_known), |case| {
        let (_, needle) = world.text(&case);
        let (refusals, seen) = runtime.block_on(async {
            world.inside.pass(Duration::from_secs(1));
            (world.plant(&case).await, world.log(false).await)
        });
        planted.borrow_mut().push(needle.clone());
        refusals.iter().try_for_each(|refusal| unseen("a refusal", refusal, &needle))?;
        seen.iter().try_for_each(|(what, text)| unseen(what, text, &needle))
    });
    result.unwrap_or_else(|error| panic!("{error}"));

    let planted = planted.into_inner();
    let World { inside, ears, .. } = runtime.block_on(async {
        let seen = world.log(true).await;
        assert!(seen.iter().any(|(what, _)| *what == "the log's index"), "it is there");
        assert!(seen[0].1.lines().count() > CASES as usize, "and all of it was recorded");
        for needle in &planted {
            seen.iter().try_for_each(|(what, text)| unseen(what, text, needle)).unwrap();
        }
        world
    });
    runtime.block_on(async {
        inside.stop().await;
        for (ear, told) in ears.into_iter().zip(["audit_appended", "grant_resolved", ""]) {
            let heard = ear.await.unwrap();
            assert!(heard.contains(told), "something was told");
            planted.iter().try_for_each(|needle| unseen("a stream", &heard, needle)).unwrap();
        }
    });
}
