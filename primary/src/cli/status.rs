//! `plexus status`: how the gateway is, on one screen.

use std::time::Duration;

use plexus_shared::clock::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, read};
use super::output::{Answer, Failure, count};
use super::units::{clock, length};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: String,
    base_url: String,
    pid: u32,
    started_at: Timestamp,
    uptime_ms: u64,
    revision: u64,
    capabilities: usize,
    exposed: usize,
    agents: usize,
    grants: usize,
    pending: usize,
    sessions: usize,
    tokens: usize,
    mesh: Mesh,
    audit: Audit,
    frozen: bool,
    reach: Reach,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reach {
    urls: Vec<String>,
    #[serde(default)]
    tls_fingerprint: Option<String>,
}

#[derive(Deserialize)]
struct Mesh {
    tenant: String,
    listen: Vec<String>,
    workloads: Vec<Workload>,
}

#[derive(Deserialize)]
struct Workload {
    workload: String,
    connection: String,
}

#[derive(Deserialize)]
struct Audit {
    writable: bool,
    seq: u64,
}

/// Runs `plexus status`.
pub(super) async fn show() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.get("status").await?;
    let status: Status = read(&data)?;
    let mut answer = Answer::new("status", data).lines(lines(&status));
    if status.frozen {
        answer = answer.note("the gateway is FROZEN: every agent is refused until `plexus resume`");
    }
    if status.audit.writable {
        return Ok(answer);
    }
    Ok(answer.note("the audit log can't be written, so every call is refused; is the disk full?"))
}

fn lines(status: &Status) -> Vec<String> {
    let up = length(Duration::from_millis(status.uptime_ms));
    let row = |name: &str, text: String| format!("  {name:<13} {text}");
    let waiting = match status.pending {
        0 => "nothing waits for you".to_owned(),
        n => {
            format!("{} for you; see `plexus pending`", count(n, "request waits", "requests wait"))
        }
    };
    let log = match status.audit.writable {
        true => count(usize::try_from(status.audit.seq).unwrap_or(usize::MAX), "event", "events"),
        false => format!("CAN'T BE WRITTEN, after event {}", status.audit.seq),
    };
    let mut lines = vec![
        format!("plexus {} at {}", status.version, status.base_url),
        row("up", format!("{up}, since {}, pid {}", clock(status.started_at), status.pid)),
        row(
            "capabilities",
            format!(
                "{}, {} shown (revision {})",
                status.capabilities, status.exposed, status.revision
            ),
        ),
        row("agents", status.agents.to_string()),
        row("grants", status.grants.to_string()),
        row("waiting", waiting),
        row(
            "in use",
            format!(
                "{}, {}",
                count(status.sessions, "session", "sessions"),
                count(status.tokens, "live token", "live tokens")
            ),
        ),
        row("audit log", log),
    ];
    let (mesh, joined) = (&status.mesh, status.mesh.workloads.len());
    lines.push(row(
        "mesh",
        format!(
            "{} on {}, {}",
            mesh.tenant,
            mesh.listen.join(", "),
            count(joined, "workload", "workloads")
        ),
    ));
    let workload =
        |workload: &Workload| row("", format!("{} {}", workload.workload, workload.connection));
    lines.extend(mesh.workloads.iter().map(workload));
    lines.extend(reach(&status.reach).map(|text| row("open to others", text)));
    lines
}

/// What others can reach, if anything.
fn reach(reach: &Reach) -> Option<String> {
    let fingerprint = reach.tls_fingerprint.as_ref()?;
    let urls: Vec<_> = reach.urls.iter().filter(|url| url.starts_with("https:")).cloned().collect();
    Some(format!("{}, certificate SHA-256 {fingerprint}", urls.join(", ")))
}
