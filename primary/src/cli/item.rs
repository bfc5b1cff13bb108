//! One thing that waits for the owner, as it is shown: what is really asked, and what a yes gives.
//!
//! What an attacker would try: ask for one thing and have another one read. So the input of a call, a
//! constraint and whatever a source would reach are shown as they were sent, with every character that
//! hides or moves others spelled out; what an agent says of itself is marked as its words, and can not
//! close the quotation it stands in. What a yes gives is the gateway's word: nothing is worked out here.

use plexus_shared::clock::Timestamp;
use plexus_shared::model::plain;
use plexus_shared::model::trust::{Sensitivity, TrustWindow};
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::Value;

use super::extensions::Brought;
use super::output::{Table, clip, visible, word};
use super::units::relative;

/// The most lines of an input that are shown, and the most characters of one.
const MAX_LINES: usize = 60;
const MAX_LINE: usize = 400;

/// An item of `GET pending`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    /// Its id.
    pub(super) pending_id: String,
    /// Who asks.
    pub(super) agent_id: String,
    created_at: Timestamp,
    #[serde(default)]
    scopes: Vec<Scope>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    pending_narration: Vec<Told>,
    #[serde(default)]
    preview: Preview,
    #[serde(default)]
    agent_purpose: Option<String>,
    #[serde(default, deserialize_with = "plain::present")]
    input: Option<Value>,
    #[serde(default)]
    input_digest: Option<String>,
    #[serde(default)]
    bundle: Option<Bundle>,
    #[serde(default)]
    register: Option<Brought>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope {
    #[serde(default)]
    agent_purpose: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    id: String,
    sensitivity: Sensitivity,
}

#[derive(Deserialize)]
struct Bundle {
    name: String,
}

#[derive(Default, Deserialize)]
struct Preview {
    #[serde(default)]
    grants: Vec<Yes>,
}

/// What a yes to one asked capability gives.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Yes {
    id: String,
    verbs: VerbSet,
    #[serde(default)]
    trust_window: Option<TrustWindow>,
    #[serde(default)]
    longest: Option<TrustWindow>,
    #[serde(default, deserialize_with = "plain::maybe")]
    constraint: Option<Value>,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    id: String,
    verbs: VerbSet,
}

impl Yes {
    /// How long a plain yes stands.
    fn stands(&self) -> String {
        match (self.trust_window, self.longest) {
            (Some(_), Some(TrustWindow::Once)) => "once only".to_owned(),
            (Some(window), _) => window.to_string(),
            (None, _) => "-".to_owned(),
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.trust_window.is_none() {
            let changed = "has changed or gone since it was asked for, so a yes is refused";
            remarks.push(format!("{} {changed}", self.id));
        }
        if let Some(constraint) = &self.constraint {
            remarks.push(narrowed(constraint));
        }
        if !self.members.is_empty() {
            let members = self.members.iter().map(|m| format!("{} [{}]", m.id, m.verbs));
            remarks.push(format!("its run calls {}", members.collect::<Vec<_>>().join(", ")));
        }
        remarks
    }
}

/// A constraint, as it is.
pub(super) fn narrowed(constraint: &Value) -> String {
    format!("only for inputs within {}", clip(&visible(&constraint.to_string()), 10 * MAX_LINE))
}

/// The agent's own words, in a quotation they can not leave.
fn quoted(words: &str) -> String {
    let words = visible(words).replace('«', "‹").replace('»', "›");
    format!("«the agent says: {}»", clip(&words, MAX_LINE))
}

impl Item {
    /// The table of `items`.
    pub(super) fn table(items: &[Self], now: Timestamp) -> Table<7> {
        let head = ["ID", "ASKED", "AGENT", "WHAT", "SENSITIVITY", "FOR", "WHY IT WAITS"];
        let mut table = Table::new(head);
        items.iter().for_each(|item| item.rows(&mut table, now));
        table
    }

    fn rows(&self, table: &mut Table<7>, now: Timestamp) {
        let first = |n: usize, text: &str| (if n == 0 { text } else { "" }).to_owned();
        let asked = relative(self.created_at, now);
        for (n, yes) in self.preview.grants.iter().enumerate() {
            let told = self.pending_narration.iter().find(|told| told.id == yes.id);
            table.row([
                first(n, &self.pending_id),
                first(n, &asked),
                first(n, &self.agent_id),
                format!("{} {}", yes.verbs, yes.id),
                told.map_or_else(|| "-".to_owned(), |told| word(told.sensitivity)),
                yes.stands(),
                self.reasons.get(n).cloned().unwrap_or_default(),
            ]);
            yes.remarks().into_iter().for_each(|remark| table.remark(remark));
            // What all of them say alike is said once, below.
            let own = self.scopes.get(n).and_then(|scope| scope.agent_purpose.as_deref());
            if let (Some(words), None) = (own, &self.agent_purpose) {
                table.remark(quoted(words));
            }
        }
        if let Some(brought) = &self.register {
            let what = format!("add the source {}", brought.source());
            let why = self.reasons.first().cloned().unwrap_or_default();
            let [id, agent] = [&self.pending_id, &self.agent_id].map(Clone::clone);
            table.row([id, asked, agent, what, "-".into(), "-".into(), why]);
            brought.lines().into_iter().for_each(|line| table.remark(line));
        }
        self.remarks().into_iter().for_each(|remark| table.remark(remark));
    }

    fn remarks(&self) -> Vec<String> {
        let bundle = self.bundle.as_ref().map(|bundle| quoted(&format!("for {}", bundle.name)));
        let purpose = self.agent_purpose.as_deref().map(quoted);
        bundle.into_iter().chain(purpose).chain(self.call()).collect()
    }

    /// The exact input of the call it came from.
    pub(super) fn call(&self) -> Vec<String> {
        let Some(input) = &self.input else { return Vec::new() };
        let digest = self.input_digest.as_deref().unwrap_or("unknown");
        let title = format!("for this very input, and no other (SHA-256 {digest}):");
        let text = serde_json::to_string_pretty(input).unwrap_or_default();
        let lines = text.lines().take(MAX_LINES).map(|line| clip(&visible(line), MAX_LINE));
        let mut lines: Vec<_> = lines.map(|line| format!("  {line}")).collect();
        let left = text.lines().count().saturating_sub(MAX_LINES);
        if left > 0 {
            lines.push(format!("  … and {left} more lines; `plexus pending --json` has them all"));
        }
        std::iter::once(title).chain(lines).collect()
    }

    /// What it asks for, each in a few words.
    pub(super) fn wants(&self) -> Vec<String> {
        let scopes = self.preview.grants.iter().map(|yes| format!("{} {}", yes.verbs, yes.id));
        let source =
            self.register.as_ref().map(|brought| format!("add the source {}", brought.source()));
        scopes.chain(source).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::super::client::read;
    use super::*;

    const ID: &str = "pend_01K5XY2M7Q8R9S0T1V2W3X4Y5Z";

    fn shown(more: &Value) -> Vec<String> {
        let mut item = json!({
            "pendingId": ID, "createdAt": "2026-06-23T11:00:00Z", "agentId": "claude",
            "kind": "grant",
        });
        let members = more.as_object().unwrap().clone();
        item.as_object_mut().unwrap().extend(members);
        let item: Item = read(&item).unwrap();
        let now = item.created_at.plus(std::time::Duration::from_secs(60));
        Item::table(&[item], now).lines()
    }

    #[test]
    fn an_agents_words_stay_in_their_quotation() {
        assert_eq!(quoted("a» yes «b"), "«the agent says: a› yes ‹b»");
        assert_eq!(quoted("a\u{202e}b\u{1b}[2J"), "«the agent says: a\\u202eb\\u001b[2J»");
    }

    #[test]
    fn an_item_shows_each_thing_it_asks_for_what_a_yes_gives_and_then_the_agents_words() {
        let lines = shown(&json!({
            "scopes": [{"id": "notes.file.write", "verbs": ["write"]}, {"id": "a.b.c", "verbs": ["read"]},
                {"id": "d.e.f", "verbs": ["read"]}],
            "reasons": ["it changes something", "it is new", "it runs something"],
            "pendingNarration": [{"id": "notes.file.write", "sensitivity": "elevated"}],
            "agentPurpose": "to\u{1b}[2Jtidy",
            "preview": {"grants": [
                {"id": "notes.file.write", "verbs": ["write"], "trustWindow": {"kind": "1h"},
                    "longest": {"kind": "7d"}, "constraint": {"match": [{"field": "a\u{202e}b"}]}},
                {"id": "a.b.c", "verbs": ["read"]},
                {"id": "d.e.f", "verbs": ["read"], "trustWindow": {"kind": "once"},
                    "longest": {"kind": "once"}, "members": [{"id": "g.h.i", "verbs": ["execute"]}]},
            ]},
        }));
        assert!(lines[1].starts_with(&format!("{ID}  1m ago  claude  write notes.file.write")));
        assert!(lines[1].ends_with("elevated     1h         it changes something"), "{}", lines[1]);
        let constraint = r#"    only for inputs within {"match":[{"field":"a\u202eb"}]}"#;
        assert_eq!(lines[2], constraint);
        assert!(lines[3].trim_start().starts_with("read a.b.c "), "{}", lines[3]);
        assert!(lines[4].contains("a yes is refused"), "{}", lines[4]);
        assert!(lines[5].contains("once only"), "{}", lines[5]);
        assert_eq!(lines[6], "    its run calls g.h.i [execute]");
        assert_eq!(lines[7], "    «the agent says: to\\u001b[2Jtidy»");
    }

    #[test]
    fn the_input_of_a_call_is_shown_as_it_was_sent_and_bounded() {
        let yes = json!({"id": "a.b.c", "verbs": ["write"], "trustWindow": {"kind": "once"}});
        let content = "rm\u{202e}txt.\u{200b}\u{7f}\n";
        let lines = shown(&json!({
            "preview": {"grants": [yes]}, "inputDigest": "ab",
            "input": {"content": content, "long": "x".repeat(5000), "many": vec![0; 100]},
        }));
        assert_eq!(lines[2], "    for this very input, and no other (SHA-256 ab):");
        assert_eq!(lines[4], r#"        "content": "rm\u202etxt.\u200b\u007f\n","#);
        assert!(lines[5].chars().count() < 500 && lines[5].ends_with("more characters"));
        assert!(lines.len() < 70, "{}", lines.len());
        assert!(lines.last().unwrap().contains("more lines; `plexus pending --json`"));
    }

    #[test]
    fn a_source_that_asks_to_be_added_shows_what_it_would_reach() {
        let lines = shown(&json!({
            "kind": "register", "reasons": ["an agent brings it"], "agentPurpose": "to see issues",
            "register": {
                "source": "issues", "label": "Issues",
                "reach": {"hosts": ["api.github.com"], "binaries": ["gh"], "secrets": ["gh-token as GH_TOKEN"]},
                "entries": [{"id": "issues.issue.list", "kind": "capability", "label": "List",
                    "grants": ["read"], "transport": "cli"}],
            },
        }));
        assert!(lines[1].contains("claude  add the source issues"), "{}", lines[1]);
        let text = lines.join("\n");
        for told in ["api.github.com", "gh-token as GH_TOKEN", "issues.issue.list", "to see issues"]
        {
            assert!(text.contains(told), "{told} in {text}");
        }
    }
}
