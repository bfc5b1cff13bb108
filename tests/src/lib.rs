//! The stage of the black-box tests: real binaries, real sockets, throwaway state.
//!
//! Build the workspace first (`tests/run` does): the binaries are taken from beside the test.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

pub mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexus_shared::transport::child::{Program, Running};
use plexus_shared::transport::http::Answer;
use serde_json::{Value, json};
use tempfile::TempDir;

pub mod ear;
pub mod gateway;
pub mod raw;
pub mod shell;

pub use gateway::{Agent, Gateway};

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
        Self::beneath(&std::env::temp_dir())
    }

    /// As [`Stage::new`], in memory where the system has such a place: what is synced often is quicker
    /// there.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self::beneath(if memory.is_dir() { memory } else { Path::new("/tmp") })
    }

    fn beneath(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
        let stage = Self { folder };
        std::fs::create_dir(stage.path("notes")).unwrap();
        std::fs::write(stage.path("notes/a.txt"), "hello").unwrap();
        stage
    }

    /// A gateway that shares `notes` as a source of this machine.
    pub async fn shared() -> (Self, Primary) {
        let stage = Self::new();
        let primary = stage.primary().await;
        primary.share(&stage).await;
        (stage, primary)
    }

    /// The same, with an agent called ada.
    pub async fn with_ada() -> (Self, Primary, Agent) {
        let (stage, primary) = Self::shared().await;
        let ada = primary.agent("ada", &[]).await;
        (stage, primary, ada)
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
        Primary { running, gateway: Gateway { url, key: key.trim().to_owned() }, mesh }
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

    /// Lets a proxy join `primary` as `nas`, and starts it: its capabilities are mounted, and hidden.
    pub async fn nas(&self, primary: &Primary) -> Running {
        self.join(primary, "nas").await;
        let proxy = self.proxy().await;
        primary.mounted().await;
        proxy
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

/// A running primary.
pub struct Primary {
    /// The process.
    pub running: Running,
    /// Where it is, and its owner's hand on it.
    pub gateway: Gateway,
    /// Where workloads dial it.
    pub mesh: String,
}

impl std::ops::Deref for Primary {
    type Target = Gateway;
    fn deref(&self) -> &Gateway {
        &self.gateway
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

/// `value` with everything that differs from run to run, but for times, replaced by its kind: ids,
/// credentials, the gateway's address.
pub fn stable(mut value: Value, url: &str) -> Value {
    each_text(&mut value, &mut |text| {
        *text = text.replace(url, "<base>");
        for prefix in
            ["sess_", "tok_", "pend_", "evt_", "bndl_", "plx_agent_", "plx_enroll_", "eyJ"]
        {
            if let Some(at) = text.find(prefix) {
                text.replace_range(at.., &format!("{prefix}…"));
            }
        }
    });
    value
}

/// Lets `change` change every text in `value`.
pub fn each_text(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| each_text(member, change)),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::String(text) => change(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
