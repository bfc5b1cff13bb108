//! `plexus agents`: who the agents are.

use std::time::Duration;

use clap::Subcommand;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::AgentId;
use plexus_shared::model::trust::TrustWindow;
use serde::Deserialize;
use serde_json::{Value, json};

use super::allow::Allow;
use super::client::{Client, ClientError, read};
use super::grants::Given;
use super::output::{Answer, Failure, Table, count, or_dash, word};
use super::units::{millis, moment, now, parse_length, relative};
use crate::store::rows::AgentKind;

/// `plexus agents …`
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// Connect an agent: a one-time code for it, and what it may do from the start.
    Connect(ConnectArgs),
    /// List the agents.
    #[command(after_help = "Example:\n  plexus agents list")]
    List,
    /// Give an agent a new code for a new credential; the old one works until the code is redeemed.
    Rotate(RotateArgs),
    /// Take everything an agent has: its credential, sessions, tokens, grants and requests.
    Revoke(RevokeArgs),
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
    #[command(flatten)]
    code: CodeArgs,
}

/// What of a one-time code can be said.
#[derive(Debug, clap::Args)]
struct CodeArgs {
    /// How long the code can be redeemed, up to 1d. [default: 15m]
    #[arg(long, value_name = "LENGTH", value_parser = parse_length)]
    code_ttl: Option<Duration>,
}

/// `plexus agents rotate`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus agents rotate claude
  plexus agents rotate ci --code-ttl 1h

Its grants stay. When the credential may be in other hands, `plexus agents revoke` it instead: that \
ends it now.")]
pub(super) struct RotateArgs {
    /// Which; `plexus agents list` has the names.
    name: AgentId,
    #[command(flatten)]
    code: CodeArgs,
}

/// `plexus agents revoke`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus agents revoke claude
  plexus agents revoke ci --reason 'the laptop is lost'
  plexus agents revoke ci --delete")]
pub(super) struct RevokeArgs {
    /// Which; `plexus agents list` has the names.
    name: AgentId,
    /// Forget its name, too.
    #[arg(long)]
    delete: bool,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connected {
    code: String,
    expires_at: Timestamp,
    install_command: String,
    #[serde(flatten)]
    given: Given,
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

impl AgentLine {
    /// Whether the newest code was not redeemed, nor revoked.
    fn has_code(&self) -> bool {
        self.status != "revoked" && self.redeemed_at.is_none_or(|at| at < self.issued_at)
    }
}

/// Runs `plexus agents …`.
pub(super) async fn run(command: AgentsCommand) -> Result<Answer, Failure> {
    match command {
        AgentsCommand::Connect(args) => connect(args).await,
        AgentsCommand::List => list().await,
        AgentsCommand::Rotate(args) => rotate(args).await,
        AgentsCommand::Revoke(args) => revoke(args).await,
    }
}

async fn connect(args: ConnectArgs) -> Result<Answer, Failure> {
    let capability = |allow: &Allow| match allow.verbs {
        Some(verbs) => json!({"id": allow.id, "verbs": verbs}),
        None => json!(allow.id),
    };
    let body = json!({
        "agentId": args.name,
        "agentType": args.kind,
        "label": args.label,
        "capabilities": args.allow.iter().map(capability).collect::<Vec<_>>(),
        "trustWindow": args.window,
        "codeTtlMs": args.code.code_ttl.map(millis),
    });
    let data: Value = Client::find()?.post("agents/connect", &body).await?;
    let connected: Connected = read(&data)?;
    let mut given = connected.given.lines();
    if given.is_empty() {
        given.push("it may do nothing yet; it can ask, and you answer".to_owned());
    }
    let answer = Answer::new("agents.connect", data).line(format!("connected {}", args.name));
    Ok(answer.lines(given).lines(connected.tell_code()))
}

impl Connected {
    fn tell_code(&self) -> [String; 6] {
        let ends = moment(self.expires_at, now());
        [
            String::new(),
            format!("one-time code, shown only now; it ends {ends}:"),
            format!("  {}", self.code),
            String::new(),
            "where the agent runs, redeem it once; the answer holds the agent's own credential:"
                .into(),
            format!("  {}", self.install_command),
        ]
    }
}

async fn rotate(args: RotateArgs) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let (known, _) = enrolled(&client).await?;
    let name = &args.name;
    let known = known.into_iter().find(|agent| agent.agent_id == name.as_str());
    let kind = match known {
        Some(agent) if agent.status == "revoked" => {
            let why = format!("{name} is revoked; `plexus agents connect {name}` connects it anew");
            return Err(Failure::usage(why));
        }
        Some(agent) => agent.agent_type,
        None => {
            let why =
                format!("there is no agent called {name}; `plexus agents list` has the names");
            return Err(Failure::usage(why));
        }
    };
    let body = json!({
        "agentId": name, "agentType": kind, "codeTtlMs": args.code.code_ttl.map(millis),
    });
    let data: Value = client.post("agents/connect", &body).await?;
    let connected: Connected = read(&data)?;
    let line = format!("a new code for {name}; its credential works until the code is redeemed");
    Ok(Answer::new("agents.rotate", data).line(line).lines(connected.tell_code()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revoked {
    sessions_invalidated: usize,
    grants_removed: usize,
    revoked_jtis: Vec<String>,
}

async fn revoke(args: RevokeArgs) -> Result<Answer, Failure> {
    let body = json!({"agentId": args.name, "reason": args.reason, "delete": args.delete});
    let data: Value = Client::find()?.post("agents/revoke", &body).await?;
    let revoked: Revoked = read(&data)?;
    let line = format!(
        "revoked {}: {}, {}, {}",
        args.name,
        count(revoked.grants_removed, "grant", "grants"),
        count(revoked.sessions_invalidated, "session", "sessions"),
        count(revoked.revoked_jtis.len(), "token", "tokens"),
    );
    Ok(Answer::new("agents.revoke", data).line(line))
}

async fn enrolled(client: &Client) -> Result<(Vec<AgentLine>, Value), ClientError> {
    client.list("agents/enrollments", "agents").await
}

async fn list() -> Result<Answer, Failure> {
    let (agents, data) = enrolled(&Client::find()?).await?;
    let now = now();
    let ago = |at: Option<Timestamp>| at.map(|at| relative(at, now)).unwrap_or_default();
    let mut table =
        Table::new(["AGENT", "TYPE", "STATUS", "CONNECTED", "REDEEMED", "OPEN CODE", "LABEL"]);
    for agent in &agents {
        let code = match agent.code_expires_at.filter(|_| agent.has_code()) {
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
    let none = "no agents; connect one with `plexus agents connect NAME --allow ID`";
    Ok(Answer::new("agents.list", data).table(table, none))
}
