//! `plexus pending`: what waits for the owner.

use serde_json::Value;

use super::Exit;
use super::client::{Client, read};
use super::item::Item;
use super::output::{Answer, Failure};
use super::units::now;

/// `plexus pending`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus pending
  plexus pending --watch
  plexus pending --watch --json | jq .item
  plexus pending --exit-code

With --watch, --json prints one document for each item, each on a line of its own.")]
pub(super) struct PendingArgs {
    /// Show what waits, then what comes, until interrupted.
    #[arg(short, long)]
    pub(super) watch: bool,
    /// End with 3 when something waits.
    #[arg(long, conflicts_with = "watch")]
    exit_code: bool,
}

/// Runs `plexus pending`.
pub(super) async fn list(args: PendingArgs) -> Result<Answer, Failure> {
    let (items, data) = Client::find()?.list::<Item>("pending", "pending").await?;
    let answer = Answer::new("pending", data);
    if items.is_empty() {
        return Ok(answer.line("nothing waits for you"));
    }
    let lines = Item::table(&items, now()).lines();
    let answer = answer.exit(if args.exit_code { Exit::Pending } else { Exit::Ok });
    Ok(answer.lines(lines).line("").line("answer with `plexus approve ID` or `plexus deny ID`"))
}

/// What waits now, each item as the gateway tells it and as lines for a person, under a head.
pub(super) async fn waiting(client: &Client) -> Result<Vec<Waiting>, Failure> {
    let mut data: Value = client.get("pending").await?;
    let Value::Array(items) = data["pending"].take() else { return Ok(Vec::new()) };
    let each = items.into_iter().map(|raw| Ok(Waiting { item: read(&raw)?, raw }));
    each.collect()
}

/// One item that waits.
pub(super) struct Waiting {
    /// As it is understood.
    pub(super) item: Item,
    /// For a program.
    pub(super) raw: Value,
}
