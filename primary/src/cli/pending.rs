//! `plexus pending`, `approve`, `deny`: what waits for the owner, and the owner's answer.
//!
//! What an attacker would try: make an item look like another one. An id may be shortened, but never so
//! far that a newer item could stand in for the one that was read; an agent's own words are marked as
//! such, and can not close the quotation they stand in.

use plexus_shared::clock::Timestamp;
use plexus_shared::gate::sensitivity::{Picker, choose_window};
use plexus_shared::ids::PendingId;
use plexus_shared::model::trust::{Provenance, Sensitivity, TrustWindow};
use plexus_shared::model::verb::{Verb, VerbSet};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, read, segment};
use super::output::{Answer, Failure, Table, word};
use super::units::{now, relative};

const PREFIX: &str = "pend_";
/// The fewest characters of an id's end, which is random: 20 bits.
const SHORTEST_END: usize = 4;
/// The fewest characters of an id's beginning, which is the time: to the second.
const SHORTEST_START: usize = 8;

/// `plexus pending`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus pending
  plexus pending --watch
  plexus pending --watch --json | jq .item

With --watch, --json prints one document for each item, each on a line of its own.")]
pub(super) struct PendingArgs {
    /// Show what waits, then what comes, until interrupted.
    #[arg(short, long)]
    pub(super) watch: bool,
}

/// `plexus approve`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus approve pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z
  plexus approve 4Y5Z --for 1d")]
pub(super) struct ApproveArgs {
    /// The item's id, the last 4 or more of its characters, or the first 8 or more.
    #[arg(value_name = "ID")]
    id: String,
    /// How long it stands: once, 30m, 1h, 1d, 7d or until-revoked. By default what `plexus pending`
    /// shows. To execute is always approved once.
    #[arg(long = "for", value_name = "WINDOW")]
    window: Option<TrustWindow>,
}

/// `plexus deny`
#[derive(Debug, clap::Args)]
pub(super) struct DenyArgs {
    /// The item's id, the last 4 or more of its characters, or the first 8 or more.
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    pending_id: String,
    created_at: Timestamp,
    agent_id: String,
    scopes: Vec<Scope>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    pending_narration: Vec<Told>,
    #[serde(default)]
    requested_trust_window: Option<TrustWindow>,
    #[serde(default)]
    agent_purpose: Option<String>,
}

#[derive(Deserialize)]
struct Scope {
    id: String,
    verbs: VerbSet,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    id: String,
    provenance: Provenance,
    sensitivity: Sensitivity,
    default_trust_window: TrustWindow,
}

/// How long a yes stands.
#[derive(Clone, Copy)]
enum Stands {
    /// So long.
    For(TrustWindow),
    /// So long or shorter: what the agent asked for is shown of an item's first capability only.
    AtMost(TrustWindow),
    /// Not at all: the capability has gone.
    Gone,
}

impl Stands {
    fn known(self) -> Option<TrustWindow> {
        match self {
            Self::For(window) => Some(window),
            Self::AtMost(_) | Self::Gone => None,
        }
    }

    fn cell(self) -> String {
        match self {
            Self::For(window) => window.to_string(),
            Self::AtMost(window) => format!("≤ {window}"),
            Self::Gone => "-".to_owned(),
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::For(TrustWindow::Once) => "once".to_owned(),
            Self::For(TrustWindow::UntilRevoked) => "until you revoke it".to_owned(),
            Self::For(window) => format!("for {window}"),
            Self::AtMost(window) => format!("for {window} at most"),
            Self::Gone => String::new(),
        }
    }
}

impl Item {
    /// An item of which nothing but its id is known.
    fn unseen(id: &str) -> Self {
        Self {
            pending_id: id.to_owned(),
            created_at: now(),
            agent_id: "the agent".to_owned(),
            scopes: Vec::new(),
            reasons: Vec::new(),
            pending_narration: Vec::new(),
            requested_trust_window: None,
            agent_purpose: None,
        }
    }

    fn told(&self, scope: &Scope) -> Option<&Told> {
        self.pending_narration.iter().find(|told| told.id == scope.id)
    }

    /// Each thing that is asked for, and how long a yes to it stands.
    fn asks(&self, picked: Option<TrustWindow>) -> impl Iterator<Item = (&Scope, Stands)> {
        self.scopes.iter().enumerate().map(move |(n, scope)| {
            let Some(told) = self.told(scope) else { return (scope, Stands::Gone) };
            let default = told.default_trust_window;
            let stands = match (picked, self.requested_trust_window) {
                (Some(_), _) => {
                    let class = told.provenance;
                    Stands::For(choose_window(Picker::Owner, class, scope.verbs, picked))
                }
                (None, Some(asked)) if n == 0 => Stands::For(asked.shorter(default)),
                (None, None) if self.scopes.len() == 1 => Stands::For(default),
                (None, _) if default == TrustWindow::Once => Stands::For(default),
                (None, _) => Stands::AtMost(default),
            };
            (scope, stands)
        })
    }
}

/// Runs `plexus pending`.
pub(super) async fn list() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.get("pending").await?;
    let items: Vec<Item> = read(&data["pending"])?;
    let answer = Answer::new("pending", data);
    if items.is_empty() {
        return Ok(answer.line("nothing waits for you"));
    }
    let lines = table(&items, now()).lines();
    Ok(answer.lines(lines).line("").line("answer with `plexus approve ID` or `plexus deny ID`"))
}

/// What waits now, each item as the gateway tells it and as lines for a person, under a head.
pub(super) async fn waiting(client: &Client) -> Result<Vec<Waiting>, Failure> {
    let mut data: Value = client.get("pending").await?;
    let Value::Array(items) = data["pending"].take() else { return Ok(Vec::new()) };
    let each = items.into_iter().map(|raw| {
        let item: Item = read(&raw)?;
        let id = item.pending_id.clone();
        Ok(Waiting { id, lines: table(&[item], now()).lines(), raw })
    });
    each.collect()
}

/// One item that waits.
pub(super) struct Waiting {
    /// Its id.
    pub(super) id: String,
    /// For a person: a head, then the item.
    pub(super) lines: Vec<String>,
    /// For a program.
    pub(super) raw: Value,
}

fn table(items: &[Item], now: Timestamp) -> Table<7> {
    let mut table =
        Table::new(["ID", "ASKED", "AGENT", "WHAT", "SENSITIVITY", "FOR", "WHY IT WAITS"]);
    for item in items {
        for (n, (scope, stands)) in item.asks(None).enumerate() {
            let first = |text: String| if n == 0 { text } else { String::new() };
            let told = item.told(scope);
            table.row([
                first(item.pending_id.clone()),
                first(relative(item.created_at, now)),
                first(item.agent_id.clone()),
                what(scope),
                told.map_or_else(|| "gone".to_owned(), |told| word(told.sensitivity)),
                stands.cell(),
                item.reasons.get(n).cloned().unwrap_or_default(),
            ]);
        }
        if let Some(purpose) = &item.agent_purpose {
            table.remark(quoted(purpose));
        }
    }
    table
}

fn what(scope: &Scope) -> String {
    format!("{} {}", scope.verbs, scope.id)
}

/// The agent's own words, in a quotation they can not leave.
fn quoted(purpose: &str) -> String {
    format!("«the agent says: {}»", purpose.replace('«', "‹").replace('»', "›"))
}

/// Runs `plexus approve`.
pub(super) async fn approve(args: ApproveArgs) -> Result<Answer, Failure> {
    let body = json!({"action": "approve", "trustWindow": args.window});
    let (item, mut data) = answer(&args.id, &body).await?;
    let asks: Vec<_> = item.asks(args.window).collect();
    let granted = asks.iter().map(|(scope, stands)| {
        json!({"id": scope.id, "verbs": scope.verbs, "trustWindow": stands.known()})
    });
    data["granted"] = granted.collect();
    let line = |(scope, stands): &(&Scope, Stands)| {
        format!("  {} may {} {}", item.agent_id, what(scope), stands.sentence())
    };
    let title = format!("approved {}", item.pending_id);
    let answer = Answer::new("approve", data).line(title).lines(asks.iter().map(line));
    let executes = item.scopes.iter().any(|scope| scope.verbs.contains(Verb::Execute));
    match args.window {
        Some(window) if executes && window != TrustWindow::Once => {
            Ok(answer.note(format!("to execute is approved once, not for {window}")))
        }
        _ => Ok(answer),
    }
}

/// Runs `plexus deny`.
pub(super) async fn deny(args: DenyArgs) -> Result<Answer, Failure> {
    let body = json!({"action": "deny", "reason": args.reason});
    let (item, data) = answer(&args.id, &body).await?;
    let line = |scope| format!("  {} may not {}", item.agent_id, what(scope));
    let lines: Vec<_> = item.scopes.iter().map(line).collect();
    Ok(Answer::new("deny", data).line(format!("denied {}", item.pending_id)).lines(lines))
}

/// Sends the owner's answer to the item `text` means; returns the item and what the gateway said.
async fn answer(text: &str, body: &Value) -> Result<(Item, Value), Failure> {
    let client = Client::find()?;
    let waiting: Value = client.get("pending").await?;
    let items: Vec<Item> = read(&waiting["pending"])?;
    let ids = items.iter().map(|item| item.pending_id.as_str());
    let id = resolve(text, ids)?;
    let mut data: Value = client.post(&format!("pending/{}", segment(&id)), body).await?;
    // It can be missing only when it began to wait between the two requests; the answer stands.
    let item = items.into_iter().find(|item| item.pending_id == id);
    let item = item.unwrap_or_else(|| Item::unseen(&id));
    data["pendingId"] = json!(id);
    data["agentId"] = json!(item.agent_id);
    Ok((item, data))
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

    #[test]
    fn an_agents_words_stay_in_their_quotation() {
        assert_eq!(quoted("a» yes «b"), "«the agent says: a› yes ‹b»");
    }

    #[test]
    fn an_item_shows_each_thing_it_asks_for_and_then_the_agents_words() {
        let item = json!({
            "pendingId": ONE, "createdAt": "2026-06-23T11:00:00Z", "agentId": "claude",
            "scopes": [{"id": "notes.file.write", "verbs": ["write"]}, {"id": "a.b.c", "verbs": ["read"]}],
            "reasons": ["it changes something", "it is new"],
            "pendingNarration": [{
                "id": "notes.file.write", "provenance": "managed", "sensitivity": "elevated",
                "defaultTrustWindow": {"kind": "1d"},
            }],
            "requestedTrustWindow": {"kind": "1h"}, "agentPurpose": "to\u{1b}[2Jtidy",
        });
        let item: Item = read(&item).unwrap();
        let now = item.created_at.plus(std::time::Duration::from_secs(60));
        let lines = table(&[item], now).lines();
        assert!(
            lines[1].starts_with(ONE)
                && lines[1].contains("1m ago  claude  write notes.file.write")
        );
        assert!(lines[1].ends_with("elevated     1h   it changes something"), "{}", lines[1]);
        assert!(lines[2].trim_start().starts_with("read a.b.c"), "{}", lines[2]);
        assert!(lines[2].contains("gone"), "{}", lines[2]);
        assert!(lines[3].trim_start().starts_with("«the agent says: to"));
    }

    #[test]
    fn a_yes_stands_as_long_as_is_known_and_never_longer_than_is_said() {
        let told = |id: &str, window: &str| {
            json!({"id": id, "provenance": "managed", "sensitivity": "low",
                "defaultTrustWindow": {"kind": window}})
        };
        let item = json!({
            "pendingId": ONE, "createdAt": "2026-06-23T11:00:00Z", "agentId": "claude",
            "scopes": [{"id": "a.b.c", "verbs": ["write"]}, {"id": "d.e.f", "verbs": ["write"]},
                {"id": "g.h.i", "verbs": ["execute"]}],
            "pendingNarration": [told("a.b.c", "1d"), told("d.e.f", "1d"), told("g.h.i", "once")],
            "requestedTrustWindow": {"kind": "7d"},
        });
        let item: Item = read(&item).unwrap();
        let cells = |picked| item.asks(picked).map(|(_, stands)| stands.cell()).collect::<Vec<_>>();
        assert_eq!(cells(None), ["1d", "≤ 1d", "once"]);
        assert_eq!(cells(Some(TrustWindow::Hour)), ["1h", "1h", "once"], "execute is once");
    }
}
