//! Commands that are really run, and what is left of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read};

use super::*;
use crate::transport::child::{Finished, Job, JobError};

fn job(path: &str, args: &[&str]) -> Job {
    let args = args.iter().map(OsString::from).collect();
    let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    Job { path: path.into(), name, args, env: vec![("PATH".into(), "/usr/bin:/bin".into())] }
}

/// A pipe with a name: whoever reads it meets its end when the last process that holds it is gone.
#[allow(clippy::disallowed_methods, reason = "std makes no pipes with names")]
fn pipe(base: &tempfile::TempDir) -> String {
    let path = base.path().join("pipe").to_str().unwrap().to_owned();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Runs a script whose grandchild holds the pipe; `stop` cancels it once it is under way. Returns when
/// no process holds the pipe any more.
async fn run_with_a_grandchild(then: &str, stop: bool) -> Option<Result<Finished, JobError>> {
    let base = tempfile::tempdir().unwrap();
    let path = pipe(&base);
    let script = format!("exec 3>'{path}'; sleep 1000 & echo ready >&3; {then}");
    let job = job("/bin/sh", &["-c", &script]);
    let running = tokio::spawn(job.run(Duration::from_secs(60), 1 << 16));
    let reader = tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::new(std::fs::File::open(path).unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        reader
    });
    let mut reader = reader.await.unwrap();
    if stop {
        running.abort();
    }
    let ended = running.await.ok();
    let rest = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
    let end = tokio::time::timeout(Duration::from_secs(30), rest).await;
    assert!(end.is_ok(), "a process outlived its call");
    ended
}

#[tokio::test]
async fn a_cancelled_call_leaves_no_process_its_grandchildren_included() {
    assert!(run_with_a_grandchild("wait", true).await.is_none());
}

#[tokio::test]
async fn a_call_that_ends_takes_those_it_left_behind_with_it() {
    let finished = run_with_a_grandchild("exit 3", false).await.unwrap().unwrap();
    assert_eq!(finished.status.code(), Some(3));
}

#[tokio::test]
async fn output_without_end_is_cut_off_with_its_whole_group() {
    let ended = run_with_a_grandchild("exec yes", false).await.unwrap();
    assert_eq!(ended.unwrap_err(), JobError::Overflow);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped() {
    let ended = job("/bin/sleep", &["1000"]).run(Duration::from_millis(20), 100).await;
    assert_eq!(ended.unwrap_err(), JobError::Slow);
}

fn cli(shape: Shape, env: &[(&str, &str)]) -> Cli {
    let argv = Template::read(&["{text}"], None).unwrap();
    let route = Route {
        bin: "echo".into(),
        argv,
        env: Vec::new(),
        secrets: Vec::new(),
        timeout: DEFAULT_TIMEOUT,
        shape,
    };
    let path = [("PATH", "/usr/bin:/bin")];
    let all = path.iter().chain(env).map(|(name, value)| (name.into(), value.into()));
    Cli::new(route, &Host::new(all), SecretFiles::none()).unwrap()
}

fn ended(bin: &str, script: &str) -> Job {
    let mut job = job("/bin/sh", &["-c", script]);
    job.name = bin.into();
    job
}

#[tokio::test]
async fn a_failure_tells_the_exit_code_and_the_complaint_without_paths_and_values() {
    let cli = cli(Shape::Text, &[("HOME", "/home/someone")]);
    let script = "echo 'in /home/someone/x with hunter22, a \"q\\u' >&2; exit 7";
    let finished = ended("echo", script).run(DEFAULT_TIMEOUT, MAX_OUTPUT).await;
    let attached = Attached(vec![("TOKEN".into(), Zeroizing::new("hunter22".into()))]);
    let denial = cli.outcome(finished, &attached).unwrap_err();
    assert_eq!(denial.code, Code::TransportError);
    let detail = denial.detail.unwrap();
    assert_eq!(detail["reason"], "exit");
    assert_eq!(detail["exitCode"], 7);
    let stderr = detail["stderr"].as_str().unwrap();
    assert!(stderr.starts_with("in ~/x with [redacted]"), "{stderr}");
    let long = "i=0; while [ $i -lt 500 ]; do echo 0123456789 >&2; i=$((i+1)); done; exit 1";
    let finished = ended("echo", long).run(DEFAULT_TIMEOUT, MAX_OUTPUT).await;
    let denial = cli.outcome(finished, &attached).unwrap_err();
    assert_eq!(denial.detail.unwrap()["stderr"].as_str().unwrap().len(), STDERR_TAIL);
}

#[tokio::test]
async fn what_a_command_prints_is_its_output_without_its_secrets() {
    let attached = Attached(vec![("TOKEN".into(), Zeroizing::new("hunter22".into()))]);
    let said = |shape, script: &'static str| {
        let (cli, attached) = (cli(shape, &[]), &attached);
        async move {
            let finished = ended("echo", script).run(DEFAULT_TIMEOUT, MAX_OUTPUT).await;
            cli.outcome(finished, attached).map(|output| match output {
                Output::Json(raw) | Output::Mcp(raw) => raw.get().to_owned(),
            })
        }
    };
    let text = said(Shape::Text, "echo a hunter22").await.unwrap();
    assert_eq!(text, r#"{"stdout":"a [redacted]\n","exitCode":0}"#);
    let read = said(Shape::Json, "echo ' {\"b\":1.50,\"a\":\"hunter22\"}'").await.unwrap();
    assert_eq!(read, r#"{"b":1.50,"a":"[redacted]"}"#);
    let broken = said(Shape::Json, "echo no").await.unwrap_err();
    assert_eq!(broken.detail.unwrap()["reason"], "output");
}

#[tokio::test]
async fn a_command_sees_no_environment_but_what_was_declared() {
    let mut cli = cli(Shape::Text, &[("LANG", "C"), ("AWS_SECRET", "x"), ("TZ", "UTC")]);
    cli.env = Host::new([("TZ".into(), "UTC".into()), ("AWS_SECRET".into(), "x".into())])
        .of(&["TZ".to_owned()]);
    let attached = Attached(vec![("TOKEN".into(), Zeroizing::new("hunter22".into()))]);
    let job = Job { path: "/usr/bin/env".into(), ..cli.job(Vec::new(), &attached) };
    let finished = job.run(DEFAULT_TIMEOUT, MAX_OUTPUT).await.unwrap();
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), "TOKEN=hunter22\nTZ=UTC\n");
}

#[test]
fn a_secret_within_another_leaves_nothing_of_the_longer_one() {
    let secret = |name: &str, value: &str| (name.to_owned(), Zeroizing::new(value.to_owned()));
    let attached = Attached(vec![secret("USER", "ada1"), secret("LOGIN", "ada1:h\"nter22")]);
    for said in ["it was ada1:h\"nter22.", r#"{"it":"ada1:h\"nter22"}"#] {
        let shown = hidden(said.as_bytes(), &attached);
        assert!(!shown.contains("nter22"), "{shown}");
    }
}
