//! What happens to a gateway until it dies, and what of it was answered.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;

use plexus_shared::transport::child::{ChildError, Running};
use plexus_shared::transport::http::{Ask, Method};
use plexus_tests::{Gateway, PATIENCE, Stage, body};
use serde_json::{Value, json};

/// The gateway died, as it was told to.
#[derive(Debug)]
pub(crate) struct Died;

/// A running gateway that may die at any time.
pub(crate) struct Life {
    running: Running,
    pub(crate) gateway: Gateway,
}

impl Life {
    /// Starts the gateway of `stage`, which is to die at `failpoint`.
    pub(crate) async fn begin(stage: &Stage, failpoint: Option<&str>) -> Result<Self, Died> {
        let args = ["serve", "--port", "0", "--mesh-listen", "127.0.0.1:0"];
        let mut program = stage.program("plexus", &args);
        program.env.retain(|(name, _)| name != "RUST_LOG");
        program.env.push(("RUST_LOG".into(), "warn".into()));
        program.env.extend(failpoint.map(|point| ("PLEXUS_FAILPOINT".into(), point.into())));
        let mut running = program.start().unwrap();
        let url = match running.line("plexus ready ", PATIENCE).await {
            Ok(url) => url,
            Err(error) => return Err(died(error)),
        };
        let key = std::fs::read_to_string(stage.path("home/connection-key")).unwrap();
        let gateway = Gateway { url, key: key.trim().to_owned() };
        Ok(Self { running, gateway })
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> Result<(), Died> {
        self.running.stop(PATIENCE).await.map_err(died)
    }

    /// Ends it without a word.
    pub(crate) async fn kill(self) {
        self.running.kill().await;
    }

    /// It no longer answers: it has died, and in no other way.
    pub(crate) async fn mourn(self) {
        let (status, _) = self.running.finish(PATIENCE).await.unwrap();
        assert!(status.signal().is_some(), "it ended by itself: {status}");
    }
}

fn died(error: ChildError) -> Died {
    match error {
        ChildError::Ended { status, .. } if status.signal().is_some() => Died,
        other => panic!("{other}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Ada,
    Bob,
    Eve,
}

pub(crate) const ALL: [Who; 3] = [Who::Ada, Who::Bob, Who::Eve];

/// Something that is answered once it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fact {
    Shared,
    Configured,
    Connected(Who),
    Enrolled(Who),
    Asked,
    Approved,
    Used,
    Granted,
    Keyed,
    Denied,
    Revoked,
    Hidden,
    Ended,
    Invited,
    Rotated,
    Added,
    Removed,
    Frozen,
    Resumed,
}

/// One turn of the story: its own source and agents.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) n: u64,
    /// What was begun; true once it was answered.
    facts: HashMap<Fact, bool>,
    pub(crate) codes: HashMap<Who, String>,
    pub(crate) pats: HashMap<Who, String>,
    sessions: HashMap<Who, String>,
    pub(crate) asked: String,
    pub(crate) denied: String,
    pub(crate) single: String,
    pub(crate) key: String,
    /// The records of what was answered.
    pub(crate) records: Vec<String>,
}

impl Turn {
    pub(crate) fn new(n: u64) -> Self {
        Self { n, ..Self::default() }
    }

    /// Whether it is so; `None` when it was begun and no answer came.
    pub(crate) fn is(&self, fact: Fact) -> Option<bool> {
        match self.facts.get(&fact) {
            None => Some(false),
            Some(true) => Some(true),
            Some(false) => None,
        }
    }

    /// What was found must be what was answered.
    pub(crate) fn must(&self, fact: Fact, found: bool) {
        assert!(self.is(fact).is_none_or(|so| so == found), "{fact:?} of turn {}: {found}", self.n);
    }

    pub(crate) fn id(&self, what: &str) -> String {
        format!("notes{}.file.{what}", self.n)
    }

    pub(crate) fn name(&self, who: Who) -> String {
        format!("{who:?}-{}", self.n).to_lowercase()
    }

    /// The call that writes `mark` at the end of this turn's log.
    pub(crate) fn append(&self, mark: &str) -> Value {
        let input = json!({"path": "log.txt", "content": mark, "mode": "append"});
        json!({"id": self.id("write"), "input": input})
    }

    /// The same, under a key.
    pub(crate) fn keyed(&self) -> Value {
        let mut call = self.append("2");
        call["idempotencyKey"] = json!("the key");
        call
    }

    pub(crate) fn settings(&self) -> Value {
        json!({"maxTrustWindowMs": 3_600_000 + self.n})
    }

    async fn tell(&mut self, life: &Life, ask: Ask<'_>) -> Result<Value, Died> {
        let answer = life.gateway.send(ask).await.map_err(|_| Died)?;
        let body = body(&answer);
        assert!(answer.status.is_success(), "{body}");
        self.records.extend(body["auditId"].as_str().map(str::to_owned));
        Ok(body)
    }

    /// A request of the owner's that makes `fact` so.
    async fn owner(
        &mut self,
        life: &Life,
        fact: Fact,
        (method, path, value): (Method, &str, Value),
    ) -> Result<Value, Died> {
        self.facts.insert(fact, false);
        let path = format!("/admin/api/{path}");
        let ask = Ask::with_body(method, &path, &value);
        let key = life.gateway.key.clone();
        let answer = self.tell(life, ask.header("x-plexus-connection-key", &key)).await?;
        self.facts.insert(fact, true);
        Ok(answer)
    }

    async fn ask(&mut self, life: &Life, who: Who, grants: Value) -> Result<Value, Died> {
        let session = self.sessions[&who].clone();
        let value = json!({ "grants": grants });
        let ask = Ask::with_body(Method::PUT, "/grants", &value);
        self.tell(life, ask.header("x-plexus-session", &session)).await
    }

    async fn call(&mut self, life: &Life, token: &str, call: &Value) -> Result<Value, Died> {
        let bearer = format!("Bearer {token}");
        let ask = Ask::with_body(Method::POST, "/invoke", call);
        self.tell(life, ask.header("authorization", &bearer)).await
    }

    /// Lives through the turn, up to its end or the gateway's.
    pub(crate) async fn live(&mut self, stage: &Stage, life: &mut Life) -> Result<(), Died> {
        let folder = stage.path(&format!("notes/{}", self.n));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.txt"), "hello").unwrap();
        for (fact, name) in [(Fact::Shared, "notes"), (Fact::Added, "other")] {
            let config = json!({"path": folder, "mode": "read-write"});
            let id = format!("{name}{}", self.n);
            let source = json!({"id": id, "kind": "workspace", "config": config});
            self.owner(life, fact, (Method::POST, "sources", source)).await?;
        }
        let settings = self.settings();
        self.owner(life, Fact::Configured, (Method::PUT, "settings", settings)).await?;
        for who in ALL {
            self.enroll(life, who).await?;
        }
        self.read(life).await?;
        self.use_once(life).await?;
        self.use_keyed(life).await?;
        self.take_back(life).await?;
        let rotated = self.owner(life, Fact::Rotated, (Method::POST, "key/rotate", json!({})));
        self.key = rotated.await?["connectionKey"].as_str().unwrap().to_owned();
        life.gateway.key.clone_from(&self.key);
        Ok(())
    }

    async fn enroll(&mut self, life: &Life, who: Who) -> Result<(), Died> {
        let capabilities = if who == Who::Ada { vec![self.id("read")] } else { vec![] };
        let order = json!({"agentId": self.name(who), "capabilities": capabilities});
        let order = (Method::POST, "agents/connect", order);
        let connected = self.owner(life, Fact::Connected(who), order).await?;
        let code = connected["code"].as_str().unwrap().to_owned();
        self.codes.insert(who, code.clone());
        self.facts.insert(Fact::Enrolled(who), false);
        let redeem = json!({ "code": code });
        let ask = Ask::with_body(Method::POST, "/agents/enroll", &redeem);
        let pat = self.tell(life, ask).await?["pat"].as_str().unwrap().to_owned();
        self.facts.insert(Fact::Enrolled(who), true);
        let bearer = format!("Bearer {pat}");
        self.pats.insert(who, pat);
        let ask = Ask { method: Method::POST, ..Ask::get("/link/handshake") };
        let greeted = self.tell(life, ask.header("authorization", &bearer)).await?;
        self.sessions.insert(who, greeted["sessionId"].as_str().unwrap().to_owned());
        Ok(())
    }

    async fn read(&mut self, life: &Life) -> Result<(), Died> {
        let asked = self.ask(life, Who::Ada, json!({self.id("read"): "allow"})).await?;
        let token = asked["token"].as_str().unwrap();
        let call = json!({"id": self.id("read"), "input": {"path": "a.txt"}});
        for _ in 0..3 {
            let answer = self.call(life, token, &call).await?;
            assert_eq!(answer["output"]["content"], "hello");
        }
        Ok(())
    }

    /// Asks to write, and the item.
    async fn pending(&mut self, life: &Life, who: Who) -> Result<String, Died> {
        let ask = json!({self.id("write"): {"decision": "allow", "verbs": ["write"]}});
        let asked = self.ask(life, who, ask).await?;
        Ok(asked["pendingId"].as_str().unwrap().to_owned())
    }

    async fn use_once(&mut self, life: &Life) -> Result<(), Died> {
        self.facts.insert(Fact::Asked, false);
        self.asked = self.pending(life, Who::Ada).await?;
        self.facts.insert(Fact::Asked, true);
        let path = format!("pending/{}", self.asked);
        let once = json!({"action": "approve", "trustWindow": {"kind": "once"}});
        self.owner(life, Fact::Approved, (Method::POST, &path, once)).await?;
        let session = self.sessions[&Who::Ada].clone();
        let path = format!("/grants/status?pendingId={}", self.asked);
        let ask = Ask::get(&path).header("x-plexus-session", &session);
        let status = self.tell(life, ask).await?;
        self.single = status["token"]["token"].as_str().unwrap().to_owned();
        self.facts.insert(Fact::Used, false);
        let answer = self.call(life, &self.single.clone(), &self.append("1")).await?;
        assert_eq!(answer["ok"], true, "{answer}");
        self.facts.insert(Fact::Used, true);
        Ok(())
    }

    async fn use_keyed(&mut self, life: &Life) -> Result<(), Died> {
        let window = json!({"kind": "custom", "ms": 600_000});
        let grants = json!({self.id("write"): ["write"]});
        let grants =
            json!({"agentId": self.name(Who::Bob), "grants": grants, "trustWindow": window});
        self.owner(life, Fact::Granted, (Method::PUT, "grants", grants)).await?;
        let ask = json!({self.id("write"): {"decision": "allow", "verbs": ["write"]}});
        let asked = self.ask(life, Who::Bob, ask).await?;
        let token = asked["token"].as_str().unwrap();
        self.facts.insert(Fact::Keyed, false);
        let answer = self.call(life, token, &self.keyed()).await?;
        assert_eq!(answer["ok"], true, "{answer}");
        self.facts.insert(Fact::Keyed, true);
        Ok(())
    }

    async fn take_back(&mut self, life: &Life) -> Result<(), Died> {
        let denied = self.pending(life, Who::Eve).await?;
        let path = format!("pending/{denied}");
        self.denied = denied;
        let no = json!({"action": "deny"});
        self.owner(life, Fact::Denied, (Method::POST, &path, no)).await?;
        let pair = json!({"agentId": self.name(Who::Ada), "capabilityId": self.id("read")});
        self.owner(life, Fact::Revoked, (Method::POST, "revoke", pair)).await?;
        let path = format!("exposure/{}", self.id("list"));
        let hide = (Method::POST, path.as_str(), json!({"enabled": false}));
        self.owner(life, Fact::Hidden, hide).await?;
        let eve = json!({"agentId": self.name(Who::Eve)});
        self.owner(life, Fact::Ended, (Method::POST, "agents/revoke", eve)).await?;
        let nas = json!({"workload": format!("nas-{}", self.n)});
        self.owner(life, Fact::Invited, (Method::POST, "mesh/invite", nas)).await?;
        let path = format!("sources/other{}", self.n);
        self.owner(life, Fact::Removed, (Method::DELETE, &path, json!({}))).await?;
        self.owner(life, Fact::Frozen, (Method::POST, "panic", json!({}))).await?;
        self.owner(life, Fact::Resumed, (Method::POST, "resume", json!({}))).await?;
        Ok(())
    }
}
