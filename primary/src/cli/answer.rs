//! `plexus approve`, `plexus deny`: the owner's answer.
//!
//! What an attacker would try: make an item look like another one. An id may be shortened, but never so
//! far that a newer item could stand in for the one that was read.

use plexus_shared::ids::PendingId;
use plexus_shared::model::plain;
use plexus_shared::model::trust::TrustWindow;
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::allow::Narrowing;
use super::client::{Client, read, segment};
use super::item::{Item, narrowed};
use super::output::{Answer, Failure};

const PREFIX: &str = "pend_";
/// The fewest characters of an id's end, which is random: 20 bits.
const SHORTEST_END: usize = 4;
/// The fewest characters of an id's beginning, which is the time: to the second.
const SHORTEST_START: usize = 8;

/// `plexus approve`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus approve pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z
  plexus approve 4Y5Z --for 1d
  plexus approve 4Y5Z --constraint '{\"pathPrefix\": {\"field\": \"path\", \"allow\": [\"drafts/\"]}}'
  plexus approve 4Y5Z --constraint @narrow.json

A plain yes to a call is for the input that `plexus pending` shows, once. A longer window admits other \
inputs too, until it ends; a constraint says which.")]
pub(super) struct ApproveArgs {
    /// The item's id, the last 4 or more of its characters, or the first 8 or more.
    #[arg(value_name = "ID")]
    id: String,
    /// How long it stands: once, 30m, 1h, 1d, 7d or until-revoked. By default what `plexus pending`
    /// shows. What executes, itself or in a workflow's run, is always approved once.
    #[arg(long = "for", value_name = "WINDOW")]
    window: Option<TrustWindow>,
    /// Only for inputs within this: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    constraint: Option<Narrowing>,
}

/// `plexus deny`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus deny 4Y5Z
  plexus deny pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z --reason 'not this folder'")]
pub(super) struct DenyArgs {
    /// The item's id, the last 4 or more of its characters, or the first 8 or more.
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// What a yes gave.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    agent_id: String,
    capability_id: String,
    verbs: VerbSet,
    trust_window: TrustWindow,
    #[serde(default, deserialize_with = "plain::maybe")]
    constraint: Option<Value>,
}

impl Given {
    fn line(&self) -> String {
        let stands = match self.trust_window {
            TrustWindow::Once => "once".to_owned(),
            TrustWindow::UntilRevoked => "until you revoke it".to_owned(),
            window => format!("for {window}"),
        };
        let within = self.constraint.as_ref().map(|c| format!(", {}", narrowed(c)));
        let (agent, verbs, id) = (&self.agent_id, self.verbs, &self.capability_id);
        format!("  {agent} may {verbs} {id} {stands}{}", within.unwrap_or_default())
    }
}

/// Runs `plexus approve`.
pub(super) async fn approve(args: ApproveArgs) -> Result<Answer, Failure> {
    let body = json!({
        "action": "approve",
        "trustWindow": args.window,
        "constraint": args.constraint.as_ref().map(Narrowing::value),
    });
    let Answered { id, item, data } = send(&args.id, &body).await?;
    let given: Option<Vec<Given>> = read(&data["granted"])?;
    let given = given.unwrap_or_default();
    let lasts = given.iter().any(|given| given.trust_window != TrustWindow::Once);
    let lines = match given.is_empty() {
        true => told(item.as_ref(), "may"),
        false => given.iter().map(Given::line).collect(),
    };
    let call = item.map(|item| item.call()).unwrap_or_default();
    let answer = Answer::new("approve", data).line(format!("approved {id}")).lines(lines);
    let answer = match lasts {
        false => answer.lines(call.iter().map(|line| format!("  {line}"))),
        true if call.is_empty() => answer,
        true => answer.note("this admits other inputs than the one that was shown, until it ends"),
    };
    let shorter = given.iter().filter(|given| args.window.is_some_and(|w| w != given.trust_window));
    Ok(shorter.fold(answer, |answer, given| {
        answer.note(format!("{} stands no longer than {}", given.capability_id, given.trust_window))
    }))
}

/// Runs `plexus deny`.
pub(super) async fn deny(args: DenyArgs) -> Result<Answer, Failure> {
    let body = json!({"action": "deny", "reason": args.reason});
    let Answered { id, item, data } = send(&args.id, &body).await?;
    let lines = told(item.as_ref(), "may not");
    Ok(Answer::new("deny", data).line(format!("denied {id}")).lines(lines))
}

/// What `item` asks for, each on a line, as the owner answered it.
fn told(item: Option<&Item>, word: &str) -> Vec<String> {
    let line = |item: &Item, want| format!("  {} {word} {want}", item.agent_id);
    item.iter().flat_map(|item| item.wants().into_iter().map(|want| line(item, want))).collect()
}

/// An answer that was taken.
struct Answered {
    id: String,
    /// What it was about; missing when it began to wait only just before.
    item: Option<Item>,
    data: Value,
}

/// Sends the owner's answer to the item that `text` means.
async fn send(text: &str, body: &Value) -> Result<Answered, Failure> {
    let client = Client::find()?;
    let (items, _) = client.list::<Item>("pending", "pending").await?;
    let ids = items.iter().map(|item| item.pending_id.as_str());
    let id = resolve(text, ids)?;
    let mut data: Value = client.post(&format!("pending/{}", segment(&id)), body).await?;
    let item = items.into_iter().find(|item| item.pending_id == id);
    data["pendingId"] = json!(id);
    data["agentId"] = json!(item.as_ref().map(|item| &item.agent_id));
    Ok(Answered { id, item, data })
}

/// The one of `waiting` that `text` means. A whole id need not be waiting: the gateway says best why it
/// does not.
fn resolve<'a>(text: &str, waiting: impl Iterator<Item = &'a str>) -> Result<String, Failure> {
    let wanted = text.to_ascii_uppercase();
    let (wanted, is_start) = match wanted.strip_prefix("PEND_") {
        Some(rest) => (rest, true),
        None => (wanted.as_str(), false),
    };
    let whole = format!("{PREFIX}{wanted}");
    if whole.parse::<PendingId>().is_ok() {
        return Ok(whole);
    }
    let long_enough = wanted.len() >= if is_start { SHORTEST_START } else { SHORTEST_END };
    if !long_enough {
        return Err(Failure::usage(format!(
            "{text:?} is too short to be sure what it means; give the last {SHORTEST_END} characters \
             of an id, or the first {SHORTEST_START} after {PREFIX}"
        )));
    }
    let means = |id: &&str| {
        let rest = id.strip_prefix(PREFIX).unwrap_or(id);
        let starts = wanted.len() >= SHORTEST_START && rest.starts_with(wanted);
        starts || (!is_start && rest.ends_with(wanted))
    };
    let found: Vec<_> = waiting.filter(means).collect();
    match found.as_slice() {
        [] => Err(Failure::usage(format!(
            "nothing with the id {text:?} waits for an answer; see `plexus pending`"
        ))),
        [id] => Ok((*id).to_owned()),
        many => Err(Failure::usage(format!(
            "{text:?} can mean {}; give more of the id",
            many.join(" or ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ONE: &str = "pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z";
    const TWO: &str = "pend_01K5XY2M7QAAAAAAAAAAAAAA5Z";
    const OLD: &str = "pend_01K5XW000000000000000000ZZ";

    fn resolved(text: &str) -> Result<String, String> {
        resolve(text, [ONE, TWO, OLD].into_iter()).map_err(|failure| {
            assert_eq!(failure.ends_with(), super::super::Exit::Usage);
            failure.to_string()
        })
    }

    #[test]
    fn an_id_may_be_shortened_as_long_as_it_means_one_item() {
        assert_eq!(resolved("4Y5Z").unwrap(), ONE);
        assert_eq!(resolved("aa5z").unwrap(), TWO);
        assert_eq!(resolved("pend_01K5XW000").unwrap(), OLD);
        assert_eq!(resolved("01K5XW000").unwrap(), OLD);
        assert_eq!(resolved(&ONE.to_lowercase()).unwrap(), ONE);
        let both = resolved("pend_01K5XY2M").unwrap_err();
        assert!(both.contains(ONE) && both.contains(TWO) && !both.contains(OLD), "{both}");
    }

    #[test]
    fn an_id_is_never_so_short_that_another_item_could_stand_in() {
        for text in ["", "Z", "5Z", "pend_", "pend_01K5XW"] {
            assert!(resolved(text).unwrap_err().contains("too short"), "{text}");
        }
        assert!(resolved("01K5XW").unwrap_err().contains("nothing with the id"));
        assert!(resolved("pend_4Y5Z").unwrap_err().contains("too short"));
    }

    #[test]
    fn a_whole_id_goes_to_the_gateway_even_when_it_does_not_wait() {
        let gone = "pend_01K5XV000000000000000000ZZ";
        assert_eq!(resolved(gone).unwrap(), gone);
        assert!(resolved("ABCD").unwrap_err().contains("nothing with the id"));
    }
}
