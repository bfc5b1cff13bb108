//! A whole proxy in this process: configuration, state, sources, and tunnels that come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(dead_code, reason = "each test program uses its part of the support")]

mod support;

use std::path::Path;

use plexus_mesh_proto::catalog::MountMode;
use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::health::HealthState;
use plexus_mesh_proto::io::ToPrimary;
use plexus_proxy::app::{App, Places, RunError};
use plexus_proxy::state::{Joined, State, StateError};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use support::{Primary, soon};

struct Home {
    temp: tempfile::TempDir,
    places: Places,
}

impl Home {
    /// A node with the workspace `notes` that has joined `primary`.
    fn new(primary: &Primary) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let notes = temp.path().join("notes");
        std::fs::create_dir(&notes).unwrap();
        std::fs::write(notes.join("today.md"), "buy milk").unwrap();
        let config = temp.path().join("proxy.toml");
        let text = format!(
            "[[source]]\nid = \"notes\"\nkind = \"workspace\"\npath = {:?}\nmode = \"read-write\"\n",
            notes.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        let places = Places { config, state: temp.path().join("state") };
        let state = State::open(&places.state).unwrap();
        let addresses = vec![primary.address().into()];
        state.keep_joined(&Joined { primary_key: primary.node.public(), addresses }).unwrap();
        Self { temp, places }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join(name)
    }

    fn run(&self) -> (watch::Sender<bool>, JoinHandle<()>) {
        let app = App::open(&self.places).unwrap();
        let (stop, stopped) = watch::channel(false);
        (stop, tokio::spawn(app.run(stopped)))
    }
}

#[tokio::test]
async fn a_file_is_read_and_written_through_the_tunnel() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    let (_stop, _task) = home.run();
    let mut tunnel = primary.admit(0).await;
    assert_eq!(tunnel.catalog().await.entries.len(), 3);
    let reply = tunnel.call("notes.file.read", r#"{"path":"today.md"}"#).await;
    assert_eq!(reply["output"]["content"], "buy milk");
    let input = r#"{"path":"new.md","content":"hello","ifAbsent":true}"#;
    let reply = tunnel.call("notes.file.write", input).await;
    assert_eq!(reply["ok"], true, "{reply}");
    assert_eq!(std::fs::read_to_string(home.path("notes/new.md")).unwrap(), "hello");
    let reply = tunnel.call("notes.file.read", r#"{"path":"../state/identity.key"}"#).await;
    assert_eq!(reply["error"]["detail"]["reason"], "outside", "{reply}");
    let reply = tunnel.call("notes.file.read", r#"{"file":"today.md"}"#).await;
    assert_eq!(reply["error"]["code"], "schema_validation_failed", "{reply}");
}

#[tokio::test]
async fn a_lost_tunnel_comes_back_and_offers_everything_again() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    let (_stop, _task) = home.run();
    let mut mirrored = 0;
    for round in 0..3 {
        let mut tunnel = primary.admit(mirrored).await;
        let change = tunnel.catalog().await;
        assert_eq!((change.mode, change.entries.len()), (MountMode::Full, 3), "round {round}");
        let lines = tunnel.audit().await;
        assert_eq!(lines[0]["seq"], json!(mirrored + 1), "it goes on where the copy ends");
        mirrored = lines.last().unwrap()["seq"].as_u64().unwrap();
        let reply = tunnel.call("notes.file.read", r#"{"path":"today.md"}"#).await;
        assert_eq!(reply["output"]["content"], "buy milk");
        tunnel.close(CloseCode::ShuttingDown);
    }
}

#[tokio::test]
async fn health_is_told_when_it_changes() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    let (_stop, _task) = home.run();
    let mut tunnel = primary.admit(0).await;
    let mut last = 0;
    let mut until = async |state: HealthState| loop {
        if let ToPrimary::Health(report) = tunnel.hear().await {
            assert!(report.seq > last);
            last = report.seq;
            if report.overall == state {
                return report.sources.to_vec();
            }
        }
    };
    assert_eq!(until(HealthState::Ok).await[0].source.as_str(), "notes");
    std::fs::rename(home.path("notes"), home.path("away")).unwrap();
    let down = soon(until(HealthState::Unavailable)).await;
    assert!(down[0].detail.as_deref().unwrap().contains("moved"));
}

#[tokio::test]
async fn stopping_ends_everything_and_frees_the_state() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    let (stop, task) = home.run();
    let second = App::open(&home.places).err().unwrap();
    assert!(matches!(second, RunError::State(StateError::Dir(_))), "{second}");
    let tunnel = primary.admit(0).await;
    stop.send_replace(true);
    assert_eq!(tunnel.closed().await, Some(CloseCode::ShuttingDown));
    soon(task).await.unwrap();
    assert!(App::open(&home.places).is_ok());
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_primary_that_is_not_there() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    drop(primary);
    let (stop, task) = home.run();
    stop.send_replace(true);
    soon(task).await.unwrap();
}

#[tokio::test]
async fn a_node_that_never_joined_does_not_run() {
    let primary = Primary::listen();
    let home = Home::new(&primary);
    std::fs::remove_file(home.places.state.join("joined.json")).unwrap();
    let error = App::open(&home.places).err().unwrap();
    assert!(matches!(error, RunError::State(StateError::NotJoined)), "{error}");
    assert!(!Path::new(&home.places.state.join("joined.json")).exists());
}
