//! The program itself: what it prints, and what it exits with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the program under test is a process")]
#![allow(dead_code, reason = "each test program uses its part of the support")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use plexus_mesh_proto::bounded::List;
use plexus_mesh_proto::close::CloseCode;
use plexus_mesh_proto::enroll::{EnrollRefusal, EnrollResult};
use plexus_mesh_proto::io::ToPrimary;
use plexus_mesh_proto::ticket::Ticket;
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_blocking};

use support::{Primary, soon};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plexus-proxy"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn config(dir: &Path, text: &str) -> String {
    let file = dir.join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn workspace(dir: &Path) -> String {
    format!(
        "[[source]]\nid = \"notes\"\nkind = \"workspace\"\npath = {:?}\n",
        dir.display().to_string()
    )
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn config_check_shows_what_would_be_mounted() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("notes")).unwrap();
    let file = config(temp.path(), &workspace(&temp.path().join("notes")));
    let checked = program().args(["config", "check", "--config", &file]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(stdout(&checked).contains("  notes.file.read  read"), "{}", stdout(&checked));
    let checked =
        program().args(["config", "check", "--json", "--config", &file]).output().unwrap();
    let value: Value = serde_json::from_str(&stdout(&checked)).unwrap();
    assert_eq!(value["sources"][0]["capabilities"][0]["id"], "notes.file.list");
}

#[test]
fn a_mistake_is_told_with_its_line_and_exit_code_2() {
    let temp = tempfile::tempdir().unwrap();
    let file = config(temp.path(), &workspace(&temp.path().join("missing")));
    let checked = program().args(["config", "check", "--config", &file]).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    assert!(stderr(&checked).contains(&format!("{file}:4: ")), "{}", stderr(&checked));
    let checked =
        program().args(["--json", "config", "check", "--config", &file]).output().unwrap();
    let value: Value = serde_json::from_str(&stdout(&checked)).unwrap();
    assert_eq!(value["error"]["code"], "usage");
    let state = temp.path().join("state").display().to_string();
    let run = program().args(["run", "--config", &file, "--state", &state]).output().unwrap();
    assert_eq!((run.status.code(), stdout(&run).as_str()), (Some(2), ""));
    assert_eq!(program().arg("jump").output().unwrap().status.code(), Some(2));
}

#[test]
fn what_is_no_ticket_is_told_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state").display().to_string();
    let joined = program().args(["join", "plxj_abc", "--state", &state]).output().unwrap();
    assert_eq!(joined.status.code(), Some(2));
    assert!(stderr(&joined).contains("other users of this machine"), "{}", stderr(&joined));
    assert!(stderr(&joined).contains("no join ticket"), "{}", stderr(&joined));
    assert!(!Path::new(&state).exists());
}

/// Joins with `ticket` through standard input.
fn join(ticket: &Ticket, state: &str) -> JoinHandle<Output> {
    let mut command = program();
    command.args(["join", "--ticket-file", "-", "--state", state]);
    let ticket = ticket.encode().unwrap();
    spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", *ticket).unwrap();
        child.wait_with_output().unwrap()
    })
}

#[tokio::test]
async fn join_then_run_then_sigterm() {
    let primary = Primary::listen();
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state").display().to_string();
    let joining = join(&primary.ticket(), &state);
    let mut arrival = primary.arrival().await;
    arrival.request().await;
    arrival.answer(EnrollResult::Joined).await;
    let joined = soon(joining).await.unwrap();
    assert!(joined.status.success(), "{joined:?}");
    assert!(stdout(&joined).starts_with("joined; run `plexus-proxy run`"), "{joined:?}");

    std::fs::create_dir(temp.path().join("notes")).unwrap();
    let file = config(temp.path(), &workspace(&temp.path().join("notes")));
    let mut command = program();
    command.args(["run", "--config", &file, "--state", &state]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut tunnel = primary.admit(0).await;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "plexus-proxy ready\n");
    let second = program().args(["run", "--config", &file, "--state", &state]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("already in use"), "{}", stderr(&second));
    assert_eq!(tunnel.catalog().await.entries.len(), 2);

    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    while !matches!(tunnel.hear().await, ToPrimary::Goodbye(_)) {}
    assert_eq!(tunnel.closed().await, Some(CloseCode::ShuttingDown));
    let ended = soon(spawn_blocking(move || child.wait().unwrap())).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_refused_join_exits_with_4_and_an_unreachable_one_with_5() {
    let primary = Primary::listen();
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state").display().to_string();
    let joining = join(&primary.ticket(), &state);
    let mut arrival = primary.arrival().await;
    arrival.request().await;
    arrival.answer(EnrollResult::Refused { code: EnrollRefusal::TokenExpired }).await;
    let joined = soon(joining).await.unwrap();
    assert_eq!(joined.status.code(), Some(4));
    assert!(stderr(&joined).contains("token_expired"), "{}", stderr(&joined));

    // An address nothing can be sent to.
    let addresses = List::new(vec!["[::]:7078".parse().unwrap()]).unwrap();
    let joining = join(&Ticket { addresses, ..primary.ticket() }, &state);
    assert_eq!(soon(joining).await.unwrap().status.code(), Some(5));
}
