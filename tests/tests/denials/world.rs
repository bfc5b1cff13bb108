//! Calls with faults in them: prepared while all is well, sent when what they wait for has gone wrong.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plexus_shared::admit::token::{Claims, TokenKeys, VerifiedToken};
use plexus_shared::clock::{Clock, SystemClock, Timestamp};
use plexus_shared::transport::child::Running;
use plexus_shared::transport::http::Method;
use plexus_tests::raw::{RawAnswer, raw};
use plexus_tests::{Agent, PATIENCE, Primary, Stage, all};
use serde_json::{Value, json};

use crate::gates::{Door, Gate};

/// A call, ready to be sent.
pub(crate) struct Shot {
    pub(crate) door: Door,
    pub(crate) faults: Vec<Gate>,
    /// Whose word it comes with: a token's text, or a session.
    word: String,
    body: String,
}

pub(crate) struct World {
    stage: Stage,
    pub(crate) primary: Primary,
    proxy: Option<Running>,
    agents: AtomicUsize,
}

impl World {
    /// Two folders, workflows over them, and one of the folders on another machine too.
    pub(crate) async fn new() -> Self {
        let (stage, primary) = Stage::shared().await;
        std::fs::create_dir(stage.path("notes/in")).unwrap();
        for id in ["gone", "temp"] {
            std::fs::create_dir_all(stage.path(id).join("in")).unwrap();
            let config = json!({"path": stage.path(id), "mode": "read-write"});
            let source = json!({"id": id, "kind": "workspace", "config": config});
            primary.post("sources", &source).await;
        }
        let over = |source: &str, does: &str| {
            let verb = if does == "write" { "write" } else { "read" };
            json!({"name": format!("{source}.{does}"), "kind": "workflow", "label": does,
                "describe": "Does it.", "grants": ["read"],
                "members": [{"id": format!("{source}.file.{does}"), "verbs": [verb]}]})
        };
        let workflows = [
            over("notes", "write"),
            over("notes", "list"),
            over("gone", "write"),
            over("temp", "write"),
        ];
        let manifest = json!({"manifest": "plexus-extension/0.1", "source": "desk",
            "label": "Desk", "transport": "workflow", "allowCrossSource": true,
            "capabilities": workflows});
        primary.post("extensions", &json!({ "manifest": manifest })).await;
        let proxy = Some(stage.nas(&primary).await);
        primary.show("local/nas/*").await;
        Self { stage, primary, proxy, agents: AtomicUsize::new(0) }
    }

    async fn agent(&self) -> (String, Agent) {
        let name = format!("a{}", self.agents.fetch_add(1, Ordering::Relaxed));
        let agent = self.primary.agent(&name, &[]).await;
        (name, agent)
    }

    /// All of these calls.
    pub(crate) async fn prepared(&self, wanted: &[(Door, Vec<Gate>)]) -> Vec<Shot> {
        let mut shots = Vec::new();
        for some in wanted.chunks(16) {
            let some = some.iter().map(|(door, faults)| self.prepare(*door, faults));
            shots.extend(all(some).await);
        }
        shots
    }

    /// The call at `door` with all of `faults`, as far as they are the call's own.
    async fn prepare(&self, door: Door, faults: &[Gate]) -> Shot {
        let has = |gate| faults.contains(&gate);
        let (name, agent) = self.agent().await;
        let id = target(door, faults);
        let input = match (has(Gate::Schema), has(Gate::Hidden)) {
            (true, _) => json!({"path": 7, "content": "x"}),
            (false, true) => json!({}),
            (false, false) => json!({"path": "b.txt", "content": "x"}),
        };
        let other = json!({"path": "in/c.txt", "content": "y"});
        let mut call = json!({"id": id, "input": input});
        if has(Gate::Key) {
            call["idempotencyKey"] = json!("k");
        }
        let mut word = self.word(door, &agent, &id, faults, &other).await;
        if has(Gate::Key) || has(Gate::Spent) {
            let input = if has(Gate::Hidden) { json!({"path": "in"}) } else { other };
            let mut before = json!({"id": id, "input": input});
            if has(Gate::Key) {
                before["idempotencyKey"] = json!("k");
            }
            let (status, said) = match door {
                Door::Session => agent.assisted(&before).await,
                _ => agent.call(&word, &before).await,
            };
            assert_eq!((status, &said["ok"]), (200, &json!(true)), "{door:?} {faults:?}: {said}");
        }
        if has(Gate::Session) {
            let code = self.primary.post("agents/connect", &json!({ "agentId": name })).await;
            let redeem = json!({"code": code["code"]});
            self.primary.tell(Method::POST, "/agents/enroll", &[], &redeem).await;
        }
        if door != Door::Session {
            word = self.spoilt(&word, faults).await;
        }
        let body = if has(Gate::Body) { r#"{"id": 7}"#.to_owned() } else { call.to_string() };
        Shot { door, faults: faults.to_vec(), word, body }
    }

    /// What `agent` shows to call `id`: a session, or a token that is right but for the scope's faults.
    async fn word(
        &self,
        door: Door,
        agent: &Agent,
        id: &str,
        faults: &[Gate],
        other: &Value,
    ) -> String {
        let has = |gate| faults.contains(&gate);
        if has(Gate::Verbs) || (has(Gate::Unknown) && door != Door::Member) {
            // A token for something else.
            return match door {
                Door::Session => agent.session.clone(),
                _ => agent.token("notes.file.read").await,
            };
        }
        let verb = if id.ends_with(".write") && door != Door::Member { "write" } else { "read" };
        let token = if has(Gate::Binding) {
            let (_, asked) = agent.assisted(&json!({"id": id, "input": other})).await;
            let item = asked["error"]["pendingId"].as_str().unwrap_or_else(|| panic!("{asked}"));
            self.primary.approve(item, None).await;
            agent.taken(item).await
        } else {
            let mut ask = json!({"decision": "allow", "verbs": [verb]});
            if has(Gate::Constraint) {
                ask["constraint"] = json!({"pathPrefix": {"field": "path", "allow": ["in/"]}});
            }
            let (_, said) = agent.ask(&json!({ id: ask })).await;
            match (said["token"].as_str(), said["pendingId"].as_str()) {
                (Some(token), _) => token.to_owned(),
                (None, Some(item)) => {
                    let window = has(Gate::Spent).then_some("once");
                    self.primary.approve(item, window).await;
                    agent.taken(item).await
                }
                (None, None) => panic!("{id}: {said}"),
            }
        };
        if door == Door::Session { agent.session.clone() } else { token }
    }

    /// `token` with what is wrong with tokens themselves.
    async fn spoilt(&self, token: &str, faults: &[Gate]) -> String {
        let has = |gate| faults.contains(&gate);
        let keys = TokenKeys::new(&self.token_secret());
        let read = keys.verify(token).unwrap();
        if has(Gate::Revoked) {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str())];
            let own = json!({"jti": read.jti()});
            let (status, _) =
                self.primary.tell(Method::POST, "/grants/revoke", &headers, &own).await;
            assert_eq!(status, 200);
        }
        let now = SystemClock.now();
        let ends = if has(Gate::Exp) { Timestamp::from_millis(0) } else { now.plus(PATIENCE) };
        match (has(Gate::Signature), has(Gate::Exp)) {
            (true, _) => TokenKeys::new(&[7; 32]).sign(&like(&read, ends)).unwrap(),
            // No test waits until a token of a minute is over: this one says that it is.
            (false, true) => keys.sign(&like(&read, ends)).unwrap(),
            (false, false) => token.to_owned(),
        }
    }

    fn token_secret(&self) -> [u8; 32] {
        let text = std::fs::read_to_string(self.stage.path("home/token-secret")).unwrap();
        let byte = |n: usize| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    /// What is wrong with the gateway itself, and stays so: something is hidden, removed, down.
    pub(crate) async fn go_wrong(&self) {
        for hidden in ["notes.file.list", "gone.file.list", "local/nas/notes.file.list"] {
            self.primary.post(&format!("exposure/{hidden}"), &json!({"enabled": false})).await;
        }
        let removed = self.primary.owner(Method::DELETE, "sources/temp", None).await;
        assert_eq!(removed.status, 200);
        std::fs::rename(self.stage.path("gone"), self.stage.path("elsewhere")).unwrap();
        let down = async {
            let is_down = |entry: &Value| {
                entry["id"] == "gone.file.write" && entry["health"]["status"] == "unavailable"
            };
            while !self.primary.get("capabilities").await["entries"]
                .as_array()
                .unwrap()
                .iter()
                .any(is_down)
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, down).await.expect("the folder is missed");
    }

    /// The other machine goes.
    pub(crate) async fn disconnect(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop(PATIENCE).await.unwrap();
        }
        self.primary.workload(|w| w["connection"] == "disconnected").await;
    }

    /// As few requests as can be, or as many as usual.
    pub(crate) async fn limit(&self, limited: bool) {
        let few = json!({"rateLimits": {"burst": 1, "requestsPerSecond": 1}});
        let settings = if limited { few } else { json!({}) };
        let set = self.primary.owner(Method::PUT, "settings", Some(&settings)).await;
        assert_eq!(set.status, 200, "{}", String::from_utf8_lossy(&set.body));
    }

    fn log_file(&self) -> PathBuf {
        let mut files = std::fs::read_dir(self.stage.path("home/audit")).unwrap();
        files.next().unwrap().unwrap().path()
    }

    /// A folder takes the log's name, so that not even root can write a line to it: what was there.
    pub(crate) fn break_log(&self) -> (PathBuf, Vec<u8>) {
        let file = self.log_file();
        let lines = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        (file, lines)
    }

    pub(crate) fn mend_log(&self, (file, lines): (PathBuf, Vec<u8>)) {
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, lines).unwrap();
    }

    pub(crate) async fn send(&self, shot: &Shot) -> RawAnswer {
        let foreign = shot.faults.contains(&Gate::Guard);
        let host = self.primary.url.strip_prefix("http://").unwrap();
        let host = if foreign { "evil.example" } else { host };
        let word = match shot.door {
            Door::Session => format!("X-Plexus-Session: {}", shot.word),
            _ => format!("Authorization: Bearer {}", shot.word),
        };
        let (body, length) = (&shot.body, shot.body.len());
        let request = format!(
            "POST /invoke HTTP/1.1\r\nHost: {host}\r\n{word}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        raw(&self.primary.url, &request).await
    }
}

/// Claims as `token` has them, but for their end.
fn like(token: &VerifiedToken, ends: Timestamp) -> Claims {
    let (agent, session, jti) = (token.agent(), token.session(), token.jti());
    let scopes = token.scopes().to_vec();
    Claims::new(agent.clone(), session.clone(), jti.clone(), scopes, SystemClock.now(), ends, None)
}

/// What is called.
fn target(door: Door, faults: &[Gate]) -> String {
    let has = |gate| faults.contains(&gate);
    let does = if has(Gate::Hidden) { "list" } else { "write" };
    let source = if has(Gate::Down) && door != Door::Mounted { "gone" } else { "notes" };
    match door {
        Door::Member if has(Gate::Unknown) => "desk.temp.write".to_owned(),
        Door::Member => format!("desk.{source}.{does}"),
        _ if has(Gate::Unknown) => "no.such.thing".to_owned(),
        Door::Mounted => format!("local/nas/{source}.file.{does}"),
        Door::Token | Door::Session => format!("{source}.file.{does}"),
    }
}
