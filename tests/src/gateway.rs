//! A gateway as its owner and its agents reach it: over HTTP, and in no other way.

use std::time::Duration;

use plexus_shared::transport::http::{Answer, Ask, HttpError, Method, exchange};
use serde_json::{Value, json};

use crate::{PATIENCE, Stage, body};

/// Where a gateway is, and its owner's hand on it.
pub struct Gateway {
    /// Where it serves.
    pub url: String,
    /// The owner's key.
    pub key: String,
}

impl Gateway {
    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, HttpError> {
        exchange(&self.url, ask, PATIENCE).await
    }

    /// Sends `value` with these headers; the status and the JSON that came back.
    pub async fn tell(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        value: &Value,
    ) -> (u16, Value) {
        let mut ask = Ask::with_body(method, path, value);
        ask.headers.extend(headers);
        let answer = self.send(ask).await.unwrap();
        (answer.status.as_u16(), body(&answer))
    }

    /// Reads the owner's plane.
    pub async fn get(&self, path: &str) -> Value {
        body(&self.owner(Method::GET, path, None).await)
    }

    /// Posts to the owner's plane; the answer must be a success.
    pub async fn post(&self, path: &str, value: &Value) -> Value {
        let answer = self.try_post(path, value).await;
        assert!(answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.body));
        body(&answer)
    }

    /// Posts to the owner's plane.
    pub async fn try_post(&self, path: &str, value: &Value) -> Answer {
        self.owner(Method::POST, path, Some(value)).await
    }

    /// One request of the owner's.
    pub async fn owner(&self, method: Method, path: &str, value: Option<&Value>) -> Answer {
        let path = format!("/admin/api/{path}");
        let body = value.map(|value| value.to_string().into_bytes());
        let ask = Ask { method, body, ..Ask::get(&path) };
        self.send(ask.header("x-plexus-connection-key", &self.key)).await.unwrap()
    }

    /// Adds the stage's `notes` as a source of this machine.
    pub async fn share(&self, stage: &Stage) {
        let config = json!({"path": stage.path("notes"), "mode": "read-write"});
        self.post("sources", &json!({"id": "notes", "kind": "workspace", "config": config})).await;
    }

    /// The owner's yes, in the window of the class; or `once`.
    pub async fn approve(&self, pending: &str, window: Option<&str>) {
        let mut answer = json!({"action": "approve"});
        if let Some(kind) = window {
            answer["trustWindow"] = json!({ "kind": kind });
        }
        self.post(&format!("pending/{pending}"), &answer).await;
    }

    /// Connects, enrolls and greets an agent called `name` that starts with `capabilities`.
    pub async fn agent(&self, name: &str, capabilities: &[&str]) -> Agent {
        let order = json!({"agentId": name, "capabilities": capabilities});
        let code = self.post("agents/connect", &order).await["code"].as_str().unwrap().to_owned();
        let redeem = json!({ "code": code });
        let (_, enrolled) = self.tell(Method::POST, "/agents/enroll", &[], &redeem).await;
        self.greet(enrolled["pat"].as_str().unwrap()).await
    }

    /// The agent of `pat`, with a session of its own.
    pub async fn greet(&self, pat: &str) -> Agent {
        let (session, _) = self.handshake(pat).await;
        Agent { url: self.url.clone(), pat: pat.to_owned(), session }
    }

    /// Opens a session with `pat`: its id, and the whole answer.
    pub async fn handshake(&self, pat: &str) -> (String, Value) {
        let bearer = format!("Bearer {pat}");
        let ask = Ask { method: Method::POST, ..Ask::get("/link/handshake") };
        let greeted = body(&self.send(ask.header("authorization", &bearer)).await.unwrap());
        (greeted["sessionId"].as_str().unwrap_or_default().to_owned(), greeted)
    }

    /// Shows what `pattern` matches.
    pub async fn show(&self, pattern: &str) {
        let pattern = pattern.replace('/', "%2F").replace('*', "%2A");
        self.post(&format!("exposure/{pattern}"), &json!({"enabled": true})).await;
    }

    /// Waits until `look` finds what it looks for in the mesh's view of its first workload.
    pub async fn workload(&self, look: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let mesh = self.get("mesh").await;
                if look(&mesh["workloads"][0]) {
                    return mesh["workloads"][0].clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the workload comes to this state")
    }

    /// Waits until the first workload is connected and has mounted something.
    pub async fn mounted(&self) {
        let up = |w: &Value| {
            w["connection"] == "connected"
                && w["capabilities"].as_array().is_some_and(|c| !c.is_empty())
        };
        self.workload(up).await;
    }
}

/// An agent with a session.
pub struct Agent {
    /// Where its gateway is.
    pub url: String,
    /// Its durable credential.
    pub pat: String,
    /// Its session.
    pub session: String,
}

impl Agent {
    /// Sends one request.
    pub async fn send(&self, ask: Ask<'_>) -> Answer {
        exchange(&self.url, ask, PATIENCE).await.unwrap()
    }

    /// `PUT /grants` with this map.
    pub async fn ask(&self, grants: &Value) -> (u16, Value) {
        let request = json!({ "grants": grants });
        let ask = Ask::with_body(Method::PUT, "/grants", &request);
        let answer = self.send(ask.header("x-plexus-session", &self.session)).await;
        (answer.status.as_u16(), body(&answer))
    }

    /// Asks for one read and takes the token.
    pub async fn token(&self, id: &str) -> String {
        let (status, answer) = self.ask(&json!({id: "allow"})).await;
        let token = answer["token"].as_str();
        token.unwrap_or_else(|| panic!("{id}: {status} {answer}")).to_owned()
    }

    /// Asks for `verb` of `id`, which waits for the owner: the item.
    pub async fn pending(&self, id: &str, verb: &str) -> String {
        let (status, asked) = self.ask(&json!({id: {"decision": "allow", "verbs": [verb]}})).await;
        let item = asked["pendingId"].as_str();
        item.unwrap_or_else(|| panic!("{id}: {status} {asked}")).to_owned()
    }

    /// How far an item has come.
    pub async fn status(&self, pending: &str) -> (u16, Value) {
        self.get(&format!("/grants/status?pendingId={pending}")).await
    }

    /// The token of an item that the owner has approved.
    pub async fn taken(&self, pending: &str) -> String {
        let (_, status) = self.status(pending).await;
        let token = status["token"]["token"].as_str();
        token.unwrap_or_else(|| panic!("{status}")).to_owned()
    }

    /// `GET` with the session.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.send(Ask::get(path).header("x-plexus-session", &self.session)).await;
        (answer.status.as_u16(), body(&answer))
    }

    /// One call.
    pub async fn invoke(&self, token: &str, id: &str, input: &Value) -> (u16, Value) {
        self.call(token, &json!({"id": id, "input": input})).await
    }

    /// One call, as it is spelt.
    pub async fn call(&self, token: &str, call: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let ask = Ask::with_body(Method::POST, "/invoke", call);
        let answer = self.send(ask.header("authorization", &bearer)).await;
        (answer.status.as_u16(), body(&answer))
    }

    /// One call by the session alone, as it is spelt.
    pub async fn assisted(&self, call: &Value) -> (u16, Value) {
        let ask = Ask::with_body(Method::POST, "/invoke", call);
        let answer = self.send(ask.header("x-plexus-session", &self.session)).await;
        (answer.status.as_u16(), body(&answer))
    }
}
