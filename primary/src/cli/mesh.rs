//! `plexus mesh`: other machines, and the tickets that admit them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use plexus_mesh_proto::address::WorkloadName;
use plexus_shared::clock::Timestamp;
use plexus_shared::model::trust::Provenance;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use super::client::{Client, read};
use super::output::{Answer, Failure, Table, or_dash, word};
use super::units::{millis, moment, now, parse_length, relative};

/// `plexus mesh …`
#[derive(Debug, Subcommand)]
pub(super) enum MeshCommand {
    /// Invite a machine: one line that admits it, once.
    Invite(InviteArgs),
    /// List the workloads that joined.
    #[command(after_help = "Example:\n  plexus mesh list")]
    List,
}

/// `plexus mesh invite`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus mesh invite nas > ticket
  plexus mesh invite nas --ttl 10m --expose 'notes.*' --ticket-file ./nas.ticket

Whoever has the ticket first joins in the workload's name: hand it over like a password.")]
pub(super) struct InviteArgs {
    /// The workload's name, which begins the addresses of its capabilities.
    name: WorkloadName,
    /// How long the ticket can be used, up to 30d. [default: 1h]
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    ttl: Option<Duration>,
    /// Show agents what matches from the start: a pattern over the workload's own ids. Repeatable.
    #[arg(long, value_name = "GLOB")]
    expose: Vec<String>,
    /// Whether you vouch for what it shares.
    #[arg(long, value_enum, default_value = "extension")]
    trust: Trust,
    /// Write the ticket to this new file, private to you, instead of printing it.
    #[arg(long, value_name = "FILE")]
    ticket_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Trust {
    /// You do: treated like what is on this machine.
    Managed,
    /// You do not: shorter windows, more questions.
    Extension,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invited {
    #[serde(default)]
    loopback_only: bool,
    ticket: String,
    expires_at: Timestamp,
    join_command: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadLine {
    workload: String,
    state: String,
    #[serde(default)]
    remote: Option<String>,
    #[serde(default)]
    rtt_ms: Option<f64>,
    since: Timestamp,
    trust: Provenance,
    capabilities: Vec<String>,
    refused: Vec<Refused>,
    audit_cursor: u64,
    #[serde(default)]
    audit_fault: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    id: String,
    reason: String,
}

/// Runs `plexus mesh …`.
pub(super) async fn run(command: MeshCommand) -> Result<Answer, Failure> {
    match command {
        MeshCommand::Invite(args) => invite(args).await,
        MeshCommand::List => list().await,
    }
}

async fn invite(args: InviteArgs) -> Result<Answer, Failure> {
    // Claimed before there is a ticket, so that no ticket is made that can't be kept.
    let mut file = args.ticket_file.as_deref().map(TicketFile::claim).transpose()?;
    let body = json!({
        "workload": args.name,
        "ttlMs": args.ttl.map(millis),
        "expose": args.expose,
        "trust": args.trust,
    });
    let mut data: Value = Client::find()?.post("mesh/invite", &body).await?;
    let invited: Invited = read(&data)?;
    let ends = moment(invited.expires_at, now());
    let admits = format!("this ticket admits one machine as {}, once; it ends {ends}", args.name);
    let join = format!("on that machine, with the ticket on its stdin: {}", invited.join_command);
    let lines = match &mut file {
        Some(file) => {
            file.keep(&invited.ticket)?;
            let path = file.path.display().to_string();
            data["ticketFile"] = json!(path);
            if let Some(data) = data.as_object_mut() {
                data.remove("ticket");
            }
            vec![format!("ticket written to {path}")]
        }
        None => vec![invited.ticket],
    };
    let loopback = "only this machine can dial in; to let another one, run the gateway with \
                    `plexus serve --mesh-listen 0.0.0.0:7078` and invite again";
    let answer = Answer::new("mesh.invite", data).lines(lines).note(admits).note(join);
    Ok(if invited.loopback_only { answer.note(loopback) } else { answer })
}

/// A new file for a ticket; removed again when no ticket came to be in it.
struct TicketFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl TicketFile {
    fn claim(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            let what = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "it exists already".to_owned(),
                _ => error.to_string(),
            };
            let path = path.display();
            Failure::usage(format!("cannot write {path}: {what}; name a new file"))
        })?;
        Ok(Self { path: path.to_owned(), file, kept: false })
    }

    fn keep(&mut self, ticket: &str) -> Result<(), Failure> {
        let written = writeln!(self.file, "{ticket}").and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            let path = self.path.display();
            let message = format!("cannot write {path}: {error}; make room and invite again");
            Failure::new(Exit::Failed, "failed", message)
        })?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for TicketFile {
    fn drop(&mut self) {
        if !self.kept {
            // An empty file that stays is a nuisance, not a danger.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn list() -> Result<Answer, Failure> {
    let (workloads, data) = Client::find()?.list::<WorkloadLine>("mesh", "workloads").await?;
    let none = "no workload has joined; invite one with `plexus mesh invite NAME`";
    Ok(Answer::new("mesh.list", data).table(table(&workloads, now()), none))
}

fn table(workloads: &[WorkloadLine], now: Timestamp) -> Table<9> {
    let mut table = Table::new([
        "WORKLOAD",
        "STATE",
        "SINCE",
        "ADDRESS",
        "RTT",
        "CLASS",
        "CAPABILITIES",
        "REFUSED",
        "AUDIT",
    ]);
    for workload in workloads {
        table.row([
            workload.workload.clone(),
            workload.state.clone(),
            relative(workload.since, now),
            or_dash(workload.remote.as_deref().unwrap_or_default()),
            or_dash(workload.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default()),
            word(workload.trust),
            workload.capabilities.len().to_string(),
            workload.refused.len().to_string(),
            workload.audit_cursor.to_string(),
        ]);
        for refused in &workload.refused {
            table.remark(format!("refused {}: {}", refused.id, refused.reason));
        }
        if let Some(fault) = &workload.audit_fault {
            table.remark(format!("audit rests at {}: {fault}", workload.audit_cursor));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_ticket_file_is_new_private_and_gone_when_no_ticket_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket");
        drop(TicketFile::claim(&path).unwrap());
        assert!(!path.exists());
        let mut file = TicketFile::claim(&path).unwrap();
        file.keep("one line").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one line\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = TicketFile::claim(&path).err().unwrap();
        assert!(again.to_string().contains("exists already"), "{again}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one line\n");
    }

    #[test]
    fn a_workload_shows_what_of_it_was_refused() {
        let workload = json!({
            "workload": "nas", "state": "available", "connection": "connected",
            "remote": "10.0.0.2:4000", "rttMs": 1.25, "since": "2026-06-23T11:00:00Z",
            "trust": "extension", "capabilities": ["local/nas/notes.file.read"],
            "refused": [{"id": "bad", "reason": "no id"}], "auditCursor": 7,
            "auditFault": "it does not follow",
        });
        let workload: WorkloadLine = read(&workload).unwrap();
        let now = workload.since.plus(Duration::from_secs(5));
        let lines = table(&[workload], now).lines();
        assert!(lines[1].starts_with("nas       available  5s ago  10.0.0.2:4000  1.2 ms"));
        assert_eq!(lines[2], "    refused bad: no id");
        assert_eq!(lines[3], "    audit rests at 7: it does not follow");
    }
}
