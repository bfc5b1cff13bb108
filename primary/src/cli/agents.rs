//! `plexus agents` and `plexus grants`: who the agents are, and what they may do.

use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, CapabilityId};
use plexus_shared::model::trust::{Provenance, Sensitivity, TrustWindow};
use plexus_shared::model::verb::{Verb, VerbSet};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, read};
use super::output::{Answer, Failure, Table, or_dash, word};
use super::units::{millis, moment, now, parse_length, relative};
use crate::store::rows::AgentKind;

/// `plexus agents …`
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// Connect an agent: a one-time code for it, and what it may do from the start.
    Connect(ConnectArgs),
    /// List the agents.
    List,
}

/// `plexus grants …`
#[derive(Debug, Subcommand)]
pub(super) enum GrantsCommand {
    /// List every standing grant: which agent may do what, until when.
    List,
}

/// `plexus agents connect`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus agents connect claude --type claude-code --allow notes.file.read
  plexus agents connect ci --allow notes.file.list --allow notes.file.write=write --window 1d

Connecting an agent again makes a new code and kills the old one; the agent's credential works until \
the new code is redeemed.")]
pub(super) struct ConnectArgs {
    /// The agent's name: lower-case letters, digits, '-', '_' and '.'.
    name: AgentId,
    /// Let it use a capability from the start; all its verbs unless you name some. Repeatable.
    #[arg(long, value_name = "ID[=read,write]")]
    allow: Vec<Allow>,
    /// What kind of agent it is.
    #[arg(long = "type", value_enum, default_value = "generic")]
    kind: AgentKind,
    /// Your word for it.
    #[arg(long)]
    label: Option<String>,
    /// How long the grants stand: 30m, 1h, 1d, 7d or until-revoked. By default each capability's own.
    #[arg(long)]
    window: Option<TrustWindow>,
    /// How long the code can be redeemed, up to 1d. [default: 15m]
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    code_ttl: Option<Duration>,
}

/// One `--allow`.
#[derive(Clone, Debug)]
struct Allow {
    id: CapabilityId,
    verbs: Option<VerbSet>,
}

impl FromStr for Allow {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, verbs) = match text.split_once('=') {
            Some((id, verbs)) => (id, Some(parse_verbs(verbs)?)),
            None => (text, None),
        };
        let id = id.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { id, verbs })
    }
}

fn parse_verbs(text: &str) -> Result<VerbSet, String> {
    let verb = |name: &str| {
        let known = Verb::ALL.into_iter().find(|verb| verb.as_str() == name);
        known.ok_or_else(|| format!("{name:?} is not a verb; the verbs are read, write, execute"))
    };
    text.split(',').map(verb).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connected {
    code: String,
    expires_at: Timestamp,
    install_command: String,
    granted: Vec<GrantLine>,
    skipped: Vec<Skipped>,
}

#[derive(Deserialize)]
struct Skipped {
    id: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrantLine {
    agent_id: String,
    capability_id: String,
    verbs: VerbSet,
    provenance: Provenance,
    sensitivity: Sensitivity,
    expires_at: Timestamp,
    trust_window: TrustWindow,
    #[serde(default)]
    top_level_disabled: bool,
}

#[derive(Deserialize)]
struct Present {
    id: String,
}

impl GrantLine {
    fn ends(&self, now: Timestamp) -> String {
        match self.trust_window {
            TrustWindow::UntilRevoked => "when you revoke it".to_owned(),
            _ => moment(self.expires_at, now),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentLine {
    agent_id: String,
    agent_type: AgentKind,
    status: String,
    issued_at: Timestamp,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    code_expires_at: Option<Timestamp>,
    #[serde(default)]
    redeemed_at: Option<Timestamp>,
}

/// Runs `plexus agents …`.
pub(super) async fn run(command: AgentsCommand) -> Result<Answer, Failure> {
    match command {
        AgentsCommand::Connect(args) => connect(args).await,
        AgentsCommand::List => list().await,
    }
}

/// Runs `plexus grants …`.
pub(super) async fn grants(command: GrantsCommand) -> Result<Answer, Failure> {
    let GrantsCommand::List = command;
    let client = Client::find()?;
    let data: Value = client.get("grants").await?;
    let grants: Vec<GrantLine> = read(&data["grants"])?;
    let present: Value = client.get("capabilities").await?;
    let present: Vec<Present> = read(&present["entries"])?;
    let lines = match grants.is_empty() {
        true => vec!["no agent holds a grant".to_owned()],
        false => grant_table(&grants, &present).lines(),
    };
    Ok(Answer::new("grants.list", data).lines(lines))
}

fn grant_table(grants: &[GrantLine], present: &[Present]) -> Table<6> {
    let now = now();
    let mut table = Table::new(["AGENT", "CAPABILITY", "VERBS", "CLASS", "SENSITIVITY", "ENDS"]);
    for grant in grants {
        let is_here = present.iter().any(|entry| entry.id == grant.capability_id);
        let known = |what: String| if is_here { what } else { "gone".to_owned() };
        table.row([
            grant.agent_id.clone(),
            grant.capability_id.clone(),
            grant.verbs.to_string(),
            known(word(grant.provenance)),
            known(word(grant.sensitivity)),
            grant.ends(now),
        ]);
        if grant.top_level_disabled {
            table.remark(
                "hidden by you now, so it can't be used; `plexus exposure` shows the rules",
            );
        }
    }
    table
}

async fn connect(args: ConnectArgs) -> Result<Answer, Failure> {
    let capabilities: Vec<_> = args
        .allow
        .iter()
        .map(|allow| match allow.verbs {
            Some(verbs) => json!({"id": allow.id, "verbs": verbs}),
            None => json!(allow.id),
        })
        .collect();
    let body = json!({
        "agentId": args.name,
        "agentType": args.kind,
        "label": args.label,
        "capabilities": capabilities,
        "trustWindow": args.window,
        "codeTtlMs": args.code_ttl.map(millis),
    });
    let data: Value = Client::find()?.post("agents/connect", &body).await?;
    let connected: Connected = read(&data)?;
    let lines = tell_connected(&args.name, &connected);
    Ok(Answer::new("agents.connect", data).lines(lines))
}

fn tell_connected(name: &AgentId, connected: &Connected) -> Vec<String> {
    let now = now();
    let mut table = Table::new(["", "CAPABILITY", "VERBS", "ENDS"]);
    for grant in &connected.granted {
        let (id, verbs) = (grant.capability_id.clone(), grant.verbs.to_string());
        table.row(["granted".to_owned(), id, verbs, grant.ends(now)]);
    }
    for skipped in &connected.skipped {
        table.row(["skipped".to_owned(), skipped.id.clone(), "-".to_owned(), "-".to_owned()]);
        table.remark(skipped.reason.clone());
    }
    let mut lines = vec![format!("connected {name}")];
    match connected.granted.is_empty() && connected.skipped.is_empty() {
        true => lines.push("it may do nothing yet; it can ask, and you answer".to_owned()),
        false => lines.extend(table.lines()),
    }
    lines.extend([
        String::new(),
        format!("one-time code, shown only now; it ends {}:", moment(connected.expires_at, now)),
        format!("  {}", connected.code),
        String::new(),
        "where the agent runs, redeem it once; the answer holds the agent's own credential:".into(),
        format!("  {}", connected.install_command),
    ]);
    lines
}

async fn list() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.get("agents/enrollments").await?;
    let agents: Vec<AgentLine> = read(&data["agents"])?;
    let answer = Answer::new("agents.list", data);
    if agents.is_empty() {
        let hint = "no agents; connect one with `plexus agents connect NAME --allow ID`";
        return Ok(answer.line(hint));
    }
    let now = now();
    let ago = |at: Option<Timestamp>| at.map(|at| relative(at, now)).unwrap_or_default();
    let mut table =
        Table::new(["AGENT", "TYPE", "STATUS", "CONNECTED", "REDEEMED", "OPEN CODE", "LABEL"]);
    for agent in &agents {
        let code = match agent.code_expires_at {
            Some(ends) if ends <= now => "ended".to_owned(),
            Some(ends) => format!("ends {}", relative(ends, now)),
            None => "-".to_owned(),
        };
        table.row([
            agent.agent_id.clone(),
            word(agent.agent_type),
            agent.status.clone(),
            relative(agent.issued_at, now),
            or_dash(ago(agent.redeemed_at)),
            code,
            agent.label.clone().unwrap_or_default(),
        ]);
    }
    Ok(answer.lines(table.lines()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_allow_names_a_capability_and_perhaps_verbs() {
        let bare: Allow = "notes.file.read".parse().unwrap();
        assert!(bare.verbs.is_none());
        let some: Allow = "local/nas/notes.file.write=read,write".parse().unwrap();
        assert_eq!(some.verbs.unwrap().to_string(), "read+write");
        for bad in ["", "notes", "a.b.c=", "a.b.c=fly", "a.b.c=read,", "a.b.c=read+write"] {
            assert!(bad.parse::<Allow>().is_err(), "{bad:?}");
        }
    }
}
