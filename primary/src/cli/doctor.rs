//! `plexus doctor`: is everything as it should be, and if not, what to do.

use serde_json::{Value, json};

use super::Exit;
use super::client::{Client, ClientError, read};
use super::output::{Answer, Failure, count};
use super::units::now;
use crate::config::home;
use crate::doctor::{Check, Result as Outcome, folder};

/// Runs the gateway's checks; those of the state folder alone when none runs.
pub(super) async fn run() -> Result<Answer, Failure> {
    let home = home().ok_or(ClientError::NoHome)?;
    let mut checks: Vec<Check> = match online().await {
        Ok(checks) => checks,
        Err(error) => {
            let mut checks = folder(&home, now());
            checks.push(match error {
                ClientError::NotRunning(_) => {
                    Check::warn("gateway", "no gateway is running", "plexus serve")
                }
                error => Check::fail("gateway", error.to_string(), "do what the message says"),
            });
            checks
        }
    };
    checks.sort_by_key(|check| match check.result {
        Outcome::Fail => 0,
        Outcome::Warn => 1,
        Outcome::Ok => 2,
    });
    let failed = checks.iter().filter(|check| check.result == Outcome::Fail).count();
    let exit = match failed {
        0 => Exit::Ok,
        _ if checks.iter().any(|check| check.integrity) => Exit::Integrity,
        _ => Exit::Failed,
    };
    let summary = match failed {
        0 => "nothing is broken".to_owned(),
        n => format!("{} failed", count(n, "check", "checks")),
    };
    let answer = Answer::new("doctor", json!({ "checks": checks })).exit(exit);
    Ok(answer.lines(checks.iter().flat_map(lines)).line(summary))
}

async fn online() -> Result<Vec<Check>, ClientError> {
    let data: Value = Client::find()?.get("doctor").await?;
    read(&data["checks"])
}

fn lines(check: &Check) -> Vec<String> {
    let word = match check.result {
        Outcome::Ok => "ok  ",
        Outcome::Warn => "warn",
        Outcome::Fail => "FAIL",
    };
    let mut lines = vec![format!("{word}  {:<15} {}", check.id, check.detail)];
    lines.extend(check.fix.as_ref().map(|fix| format!("      {:<15} -> {fix}", "")));
    lines
}
