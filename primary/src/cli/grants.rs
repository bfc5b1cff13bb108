//! `plexus grants`, `plexus tokens`, `plexus bundles`: what agents may do now.

use std::collections::BTreeMap;

use clap::Subcommand;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, TokenId};
use plexus_shared::model::plain;
use plexus_shared::model::trust::{Provenance, Sensitivity, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Exit;
use super::allow::{Allow, Narrowing};
use super::client::{Client, read, segment};
use super::item::narrowed;
use super::output::{Answer, Failure, Table, count, word};
use super::units::{moment, now, relative};

/// `plexus grants …`
#[derive(Debug, Subcommand)]
pub(super) enum GrantsCommand {
    /// List every standing grant: which agent may do what, until when.
    #[command(after_help = "Example:\n  plexus grants list")]
    List,
    /// Let an agent use capabilities without asking, by your word.
    Grant(GrantArgs),
    /// Take back what an agent holds on a capability, or one token.
    Revoke(RevokeArgs),
}

/// `plexus grants grant`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus grants grant claude notes.file.read
  plexus grants grant claude notes.file.write=write --window 1h
  plexus grants grant ci notes.file.write --constraint @drafts-only.json

What executes is approved for each use and can't be granted ahead; when nothing could be, the exit code \
is 2.")]
pub(super) struct GrantArgs {
    /// Whom.
    agent: AgentId,
    /// What; all its verbs unless you name some. Repeatable.
    #[arg(value_name = "ID[=read,write]", required = true)]
    allow: Vec<Allow>,
    /// How long the grants stand: 30m, 1h, 1d, 7d or until-revoked. By default each capability's own.
    #[arg(long)]
    window: Option<TrustWindow>,
    /// Only for inputs within this: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    constraint: Option<Narrowing>,
}

/// `plexus grants revoke`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus grants revoke claude notes.file.write --reason 'the draft is done'
  plexus grants revoke --token tok_01K5XY2M7Q8R9S0T1V2W3X4Y5Z

Its tokens end with it, calls under way too; the next request for it, a read too, waits for you. A token \
alone leaves the grant behind it.")]
pub(super) struct RevokeArgs {
    /// From whom.
    #[arg(required_unless_present = "token", requires = "capability")]
    agent: Option<AgentId>,
    /// What.
    #[arg(value_name = "ID")]
    capability: Option<CapabilityId>,
    /// Only this token; `plexus tokens` lists them.
    #[arg(long, value_name = "JTI", conflicts_with_all = ["agent", "capability"])]
    token: Option<TokenId>,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// `plexus bundles …`
#[derive(Debug, Subcommand)]
pub(super) enum BundlesCommand {
    /// List the bundles, each with what it lets its agent do.
    #[command(after_help = "Example:\n  plexus bundles list")]
    List,
    /// Take a bundle back, all its grants with it.
    #[command(after_help = "Example:\n  plexus bundles revoke bndl_01K5XY2M7Q8R9S0T1V2W3X4Y5Z")]
    Revoke {
        /// The bundle; `plexus bundles list` has the ids.
        id: BundleId,
    },
}

/// A grant that stands.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grant {
    agent_id: String,
    capability_id: String,
    verbs: VerbSet,
    provenance: Provenance,
    sensitivity: Sensitivity,
    expires_at: Timestamp,
    trust_window: TrustWindow,
    #[serde(default, deserialize_with = "plain::maybe")]
    constraint: Option<Value>,
    #[serde(default)]
    top_level_disabled: bool,
}

impl Grant {
    fn ends(&self, now: Timestamp) -> String {
        match self.trust_window {
            TrustWindow::UntilRevoked => "when you revoke it".to_owned(),
            _ => moment(self.expires_at, now),
        }
    }
}

/// What was given at the owner's word, and what was not.
#[derive(Deserialize)]
pub(super) struct Given {
    granted: Vec<Grant>,
    skipped: Vec<Skipped>,
}

#[derive(Deserialize)]
struct Skipped {
    id: String,
    reason: String,
}

impl Given {
    /// As a table; nothing when nothing was asked for.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.granted.is_empty() && self.skipped.is_empty() {
            return Vec::new();
        }
        let now = now();
        let mut table = Table::new(["", "CAPABILITY", "VERBS", "ENDS"]);
        for grant in &self.granted {
            let (id, verbs) = (grant.capability_id.clone(), grant.verbs.to_string());
            table.row(["granted".to_owned(), id, verbs, grant.ends(now)]);
            grant.constraint.iter().for_each(|constraint| table.remark(narrowed(constraint)));
        }
        for skipped in &self.skipped {
            table.row(["skipped".to_owned(), skipped.id.clone(), "-".to_owned(), "-".to_owned()]);
            table.remark(skipped.reason.clone());
        }
        table.lines()
    }
}

/// Runs `plexus grants …`.
pub(super) async fn run(command: GrantsCommand) -> Result<Answer, Failure> {
    match command {
        GrantsCommand::List => list().await,
        GrantsCommand::Grant(args) => grant(args).await,
        GrantsCommand::Revoke(args) => revoke(args).await,
    }
}

#[derive(Deserialize)]
struct Present {
    id: String,
}

async fn list() -> Result<Answer, Failure> {
    let client = Client::find()?;
    let (grants, data) = client.list("grants", "grants").await?;
    let (present, _) = client.list("capabilities", "entries").await?;
    let none = "no agent holds a grant; `plexus grants grant AGENT ID` gives one";
    Ok(Answer::new("grants.list", data).table(table(&grants, &present), none))
}

fn table(grants: &[Grant], present: &[Present]) -> Table<6> {
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
        grant.constraint.iter().for_each(|constraint| table.remark(narrowed(constraint)));
        if grant.top_level_disabled {
            table.remark(
                "hidden by you now, so it can't be used; `plexus exposure` shows the rules",
            );
        }
    }
    table
}

async fn grant(args: GrantArgs) -> Result<Answer, Failure> {
    let constraint = args.constraint.as_ref().map(Narrowing::value);
    let given = |allow: &Allow| {
        let given = json!({"verbs": allow.verbs, "constraint": constraint});
        (allow.id.to_string(), given)
    };
    let grants: BTreeMap<_, _> = args.allow.iter().map(given).collect();
    if grants.len() < args.allow.len() {
        return Err(Failure::usage(
            "a capability is named twice; name it once, with all its verbs",
        ));
    }
    let body = json!({"agentId": args.agent, "grants": grants, "trustWindow": args.window});
    let data: Value = Client::find()?.put("grants", &body).await?;
    let given: Given = read(&data)?;
    // Nothing was given: a script is not to take that for done.
    let exit = if given.granted.is_empty() { Exit::Usage } else { Exit::Ok };
    Ok(Answer::new("grants.grant", data).lines(given.lines()).exit(exit))
}

async fn revoke(args: RevokeArgs) -> Result<Answer, Failure> {
    let body = match &args.token {
        Some(jti) => json!({"jti": jti, "reason": args.reason}),
        None => json!({
            "agentId": args.agent, "capabilityId": args.capability, "reason": args.reason,
        }),
    };
    let data: Value = Client::find()?.post("revoke", &body).await?;
    let what = match (&args.agent, &args.capability) {
        (Some(agent), Some(id)) => format!("{agent} on {id}"),
        _ => args.token.map(|jti| jti.to_string()).unwrap_or_default(),
    };
    taken("grants.revoke", &what, data)
}

/// Tells what a revoke took.
fn taken(schema: &'static str, what: &str, data: Value) -> Result<Answer, Failure> {
    let jtis: Vec<String> = read(&data["revokedJtis"])?;
    let had = data["grantRemoved"] == true;
    let line = match (had, jtis.len()) {
        (false, 0) => format!("{what}: there was nothing to revoke"),
        (true, n) => format!("revoked {what}, and {}", count(n, "token", "tokens")),
        (false, n) => format!("revoked {what}: {}", count(n, "token", "tokens")),
    };
    Ok(Answer::new(schema, data).line(line))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenLine {
    jti: String,
    agent_id: String,
    scopes: Vec<ScopeLine>,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLine {
    id: String,
    verbs: VerbSet,
    #[serde(default)]
    synthesized_for: Option<String>,
    #[serde(default, deserialize_with = "plain::maybe")]
    constraint: Option<Value>,
}

/// Runs `plexus tokens`.
pub(super) async fn tokens() -> Result<Answer, Failure> {
    let (tokens, data) = Client::find()?.list::<TokenLine>("tokens", "tokens").await?;
    let now = now();
    let mut table = Table::new(["TOKEN", "AGENT", "ENDS", "FOR"]);
    for token in tokens {
        let ends = relative(token.expires_at, now);
        let own = |scope: &&ScopeLine| scope.synthesized_for.is_none();
        let what = token.scopes.iter().filter(own).map(|s| format!("{} {}", s.verbs, s.id));
        table.row([token.jti, token.agent_id, ends, what.collect::<Vec<_>>().join(", ")]);
        for scope in &token.scopes {
            if let Some(workflow) = &scope.synthesized_for {
                let what = format!("{} {}", scope.verbs, scope.id);
                table.remark(format!("{what}, in a run of {workflow}"));
            }
            if let Some(constraint) = &scope.constraint {
                table.remark(format!("{} {}", scope.id, narrowed(constraint)));
            }
        }
    }
    Ok(Answer::new("tokens", data).table(table, "no token lives"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleLine {
    bundle_id: String,
    name: String,
    agent_id: String,
    created_at: Timestamp,
    members: Vec<Grant>,
}

/// Runs `plexus bundles …`.
pub(super) async fn bundles(command: BundlesCommand) -> Result<Answer, Failure> {
    let client = Client::find()?;
    if let BundlesCommand::Revoke { id } = command {
        let path = format!("bundles/{}", segment(id.as_str()));
        return taken("bundles.revoke", id.as_str(), client.delete(&path).await?);
    }
    let (bundles, data) = client.list::<BundleLine>("bundles", "bundles").await?;
    let now = now();
    let mut table = Table::new(["BUNDLE", "AGENT", "MADE", "NAME"]);
    for bundle in bundles {
        let made = relative(bundle.created_at, now);
        table.row([bundle.bundle_id, bundle.agent_id, made, bundle.name]);
        for grant in &bundle.members {
            let (verbs, id, ends) = (grant.verbs, &grant.capability_id, grant.ends(now));
            table.remark(format!("{verbs} {id}, ends {ends}"));
        }
    }
    let none = "no bundles; an agent asks for one with its grants";
    Ok(Answer::new("bundles.list", data).table(table, none))
}
