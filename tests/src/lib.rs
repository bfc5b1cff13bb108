//! The stage of the black-box tests: real binaries, real sockets, throwaway state.
//!
//! Build the workspace first (`tests/run` does): the binaries are taken from beside the test.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

pub mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexus_shared::transport::child::{Program, Running};
use plexus_shared::transport::http::{Answer, Ask, HttpError, Method, exchange};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before a test calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary `name` of this workspace.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows itself");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/…/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run cargo build first", path.display());
    path
}

/// Throwaway folders of one test.
pub struct Stage {
    folder: TempDir,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// Fresh folders: `home` (not made), and `notes` with `a.txt` ("hello") in it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stage = Self { folder };
        std::fs::create_dir(stage.path("notes")).unwrap();
        std::fs::write(stage.path("notes/a.txt"), "hello").unwrap();
        stage
    }

    /// A path on the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program `name` with `args`, its state on this stage.
    pub fn program(&self, name: &str, args: &[&str]) -> Program {
        let env: Vec<(OsString, OsString)> = vec![
            ("PLEXUS_HOME".into(), self.path("home").into()),
            ("RUST_LOG".into(), "debug".into()),
        ];
        Program {
            path: binary(name),
            args: args.iter().map(Into::into).collect(),
            env,
            log: self.path(&format!("{name}.log")),
        }
    }

    /// Starts a primary on free ports.
    pub async fn primary(&self) -> Primary {
        self.primary_at(0, "127.0.0.1:0").await
    }

    /// Starts a primary on given ports.
    pub async fn primary_at(&self, port: u16, mesh: &str) -> Primary {
        let port = port.to_string();
        let args = ["serve", "--port", &port, "--mesh-listen", mesh];
        let mut running = self.program("plexus", &args).start().expect("plexus starts");
        let url =
            running.line("plexus ready ", PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
        let key = std::fs::read_to_string(self.path("home/connection-key")).unwrap();
        let runtime = std::fs::read(self.path("home/runtime.json")).unwrap();
        let runtime: Value = serde_json::from_slice(&runtime).unwrap();
        let mesh = runtime["meshAddr"].as_str().unwrap().to_owned();
        Primary { running, url, key: key.trim().to_owned(), mesh }
    }

    /// Runs `plexus ARGS` to its end; its exit code and standard output.
    pub async fn plexus(&self, args: &[&str]) -> (i32, String) {
        self.command("plexus", args).await
    }

    /// Runs `name ARGS` to its end; its exit code and standard output.
    pub async fn command(&self, name: &str, args: &[&str]) -> (i32, String) {
        let running = self.program(name, args).start().expect("the command starts");
        let (status, output) =
            running.finish(PATIENCE).await.unwrap_or_else(|error| panic!("{error}"));
        (status.code().unwrap_or(-1), output)
    }

    /// What the programs called `name` have logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Lets a proxy join `primary` as `workload`, sharing `notes`.
    pub async fn join(&self, primary: &Primary, workload: &str) {
        let invited = primary.post("mesh/invite", &json!({"workload": workload})).await;
        std::fs::write(self.path("ticket"), invited["ticket"].as_str().unwrap()).unwrap();
        let config = format!(
            "[[source]]\nid = \"notes\"\nkind = \"workspace\"\npath = {:?}\nmode = \"read-write\"\n",
            self.path("notes")
        );
        std::fs::write(self.path("proxy.toml"), config).unwrap();
        let ticket = self.path("ticket").display().to_string();
        let mut args = vec!["join", "--ticket-file", &ticket];
        let own = self.proxy_args();
        args.extend(own.iter().map(String::as_str));
        let (code, output) = self.command("plexus-proxy", &args).await;
        assert_eq!(code, 0, "{output}\n{}", self.log("plexus-proxy"));
    }

    fn proxy_args(&self) -> [String; 4] {
        let path = |name| self.path(name).display().to_string();
        ["--config".into(), path("proxy.toml"), "--state".into(), path("proxy")]
    }

    /// Starts the proxy that joined.
    pub async fn proxy(&self) -> Running {
        let own = self.proxy_args();
        let mut args = vec!["run"];
        args.extend(own.iter().map(String::as_str));
        let mut running = self.program("plexus-proxy", &args).start().expect("plexus-proxy starts");
        let ready = running.line("plexus-proxy ready", PATIENCE).await;
        ready.unwrap_or_else(|error| panic!("{error}"));
        running
    }
}

/// A running primary, and its owner's hand.
pub struct Primary {
    /// The process.
    pub running: Running,
    /// Where it serves.
    pub url: String,
    /// The owner's key.
    pub key: String,
    /// Where workloads dial it.
    pub mesh: String,
}

impl Primary {
    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, HttpError> {
        exchange(&self.url, ask, PATIENCE).await
    }

    /// Reads the owner's plane.
    pub async fn get(&self, path: &str) -> Value {
        let path = format!("/admin/api/{path}");
        body(
            &self.send(Ask::get(&path).header("x-plexus-connection-key", &self.key)).await.unwrap(),
        )
    }

    /// Posts to the owner's plane; the answer must be a success.
    pub async fn post(&self, path: &str, value: &Value) -> Value {
        let answer = self.try_post(path, value).await;
        assert!(answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.body));
        body(&answer)
    }

    /// Posts to the owner's plane.
    pub async fn try_post(&self, path: &str, value: &Value) -> Answer {
        let path = format!("/admin/api/{path}");
        let ask = Ask::with_body(Method::POST, &path, value);
        self.send(ask.header("x-plexus-connection-key", &self.key)).await.unwrap()
    }

    /// Adds the stage's `notes` as a source of this machine.
    pub async fn share(&self, stage: &Stage) {
        let config = json!({"path": stage.path("notes"), "mode": "read-write"});
        self.post("sources", &json!({"id": "notes", "kind": "workspace", "config": config})).await;
    }

    /// Connects, enrolls and greets an agent called `name` that starts with `capabilities`.
    pub async fn agent(&self, name: &str, capabilities: &[&str]) -> Agent {
        let order = json!({"agentId": name, "capabilities": capabilities});
        let code = self.post("agents/connect", &order).await["code"].as_str().unwrap().to_owned();
        let redeem = json!({ "code": code });
        let ask = Ask::with_body(Method::POST, "/agents/enroll", &redeem);
        let enrolled = body(&self.send(ask).await.unwrap());
        let pat = enrolled["pat"].as_str().unwrap().to_owned();
        let (session, _) = self.handshake(&pat).await;
        Agent { url: self.url.clone(), pat, session }
    }

    /// Opens a session with `pat`: its id, and the whole answer.
    pub async fn handshake(&self, pat: &str) -> (String, Value) {
        let bearer = format!("Bearer {pat}");
        let ask = Ask { method: Method::POST, ..Ask::get("/link/handshake") };
        let greeted = body(&self.send(ask.header("authorization", &bearer)).await.unwrap());
        (greeted["sessionId"].as_str().unwrap_or_default().to_owned(), greeted)
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

    /// `GET` with the session.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.send(Ask::get(path).header("x-plexus-session", &self.session)).await;
        (answer.status.as_u16(), body(&answer))
    }

    /// One call.
    pub async fn invoke(&self, token: &str, id: &str, input: &Value) -> (u16, Value) {
        let call = json!({"id": id, "input": input});
        let bearer = format!("Bearer {token}");
        let ask = Ask::with_body(Method::POST, "/invoke", &call);
        let answer = self.send(ask.header("authorization", &bearer)).await;
        (answer.status.as_u16(), body(&answer))
    }
}

/// An answer's JSON.
pub fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&answer.body)))
}

/// Runs `tasks` at once, in order of their start.
pub async fn all<T>(tasks: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).map(Some).collect();
    let mut done: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (task, done) in tasks.iter_mut().zip(&mut done) {
            if let Some(running) = task
                && let std::task::Poll::Ready(value) = running.as_mut().poll(cx)
            {
                (*task, *done) = (None, Some(value));
            }
        }
        if tasks.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
