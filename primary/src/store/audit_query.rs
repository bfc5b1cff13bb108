//! What an owner asks of the log, and its SQL.

use std::collections::BTreeSet;

use plexus_shared::audit::{Event, Place, RecordOutcome, Tier};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::AgentId;
use rusqlite::Connection;
use rusqlite::types::ToSql;
use serde_json::Value;

/// Where an event says which capabilities it is about, beside `capabilityId`.
const LISTS: [&str; 4] = ["granted", "asks", "scopes", "skipped"];

/// About the most bytes of the lines of one page: each may be hundreds of kilobytes, and an agent has
/// a say in that.
const PAGE_BYTES: usize = 4 << 20;

/// A line of the log that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Its text.
    pub text: String,
}

/// What was found, up to a number of lines and [`PAGE_BYTES`].
#[derive(Debug, Default)]
pub struct Page {
    /// The lines, in the order they were asked for.
    pub lines: Vec<Found>,
    bytes: usize,
}

impl Page {
    /// Adds a line.
    pub fn add(&mut self, seq: u64, text: String) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.lines.push(Found { seq, text });
    }

    /// Whether it holds as much as a page of `limit` lines may: then there may be more.
    pub fn is_full(&self, limit: usize) -> bool {
        self.lines.len() >= limit || self.bytes >= PAGE_BYTES
    }
}

/// Which events are asked for, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of this agent.
    pub agent: Option<String>,
    /// Those that name this capability.
    pub capability: Option<String>,
    /// Those of this type.
    pub event_type: Option<String>,
    /// Those that ended so.
    pub outcome: Option<String>,
    /// Those of this kind of node.
    pub tier: Option<String>,
    /// Those of this workload.
    pub workload: Option<String>,
    /// Those of one call.
    pub correlation: Option<String>,
    /// Those from this moment on.
    pub since: Option<Timestamp>,
    /// Those before this moment.
    pub until: Option<Timestamp>,
    /// Those in which all of these words stand.
    pub text: Option<String>,
    /// Those before this number.
    pub before: Option<u64>,
    /// Those after this number, oldest first.
    pub after: Option<u64>,
}

impl Filter {
    /// Whether `event`, whose line is `line`, is asked for.
    pub fn accepts(&self, event: &Event, line: &str) -> bool {
        let is = |asked: &Option<String>, found: Option<&str>| {
            asked.as_deref().is_none_or(|asked| found == Some(asked))
        };
        let capability = |asked: &String| capabilities(event).contains(asked);
        is(&self.agent, event.agent_id.as_ref().map(AgentId::as_str))
            && self.capability.as_ref().is_none_or(capability)
            && is(&self.event_type, Some(event.event_type.as_str()))
            && is(&self.outcome, event.outcome.map(RecordOutcome::as_str))
            && is(&self.tier, event.tier.map(Tier::as_str))
            && is(&self.workload, event.workload.as_deref())
            && is(&self.correlation, event.correlation_id.as_ref().map(|id| id.as_str()))
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
            && self.before.is_none_or(|before| event.seq < before)
            && self.after.is_none_or(|after| event.seq > after)
            && self.text.as_deref().is_none_or(|text| has_words(line, text))
    }

    /// Where the first `limit` lines that are asked for stand.
    pub(super) fn places(
        &self,
        connection: &Connection,
        limit: usize,
    ) -> rusqlite::Result<Vec<(u64, Place)>> {
        let (sql, values) = self.sql(limit);
        let mut statement = connection.prepare(&sql)?;
        let values = values.iter().map(|value| &**value);
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
            let file: String = row.get(1)?;
            Ok((row.get(0)?, Place { file: file.into(), offset: row.get(2)? }))
        })?;
        rows.collect()
    }

    fn sql(&self, limit: usize) -> (String, Vec<Box<dyn ToSql>>) {
        let mut sql = "SELECT seq, file, offset FROM event WHERE TRUE".to_owned();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut ask = |condition: &str, value: Option<Box<dyn ToSql>>| {
            if let Some(value) = value {
                values.push(value);
                sql.push_str(&condition.replace('?', &format!("?{}", values.len())));
            }
        };
        let text = |value: &Option<String>| value.clone().map(|v| Box::new(v) as Box<dyn ToSql>);
        let time =
            |value: Option<Timestamp>| value.map(|v| Box::new(v.as_millis()) as Box<dyn ToSql>);
        let number = |value: Option<u64>| {
            value.map(|v| Box::new(i64::try_from(v).unwrap_or(i64::MAX)) as Box<dyn ToSql>)
        };
        ask(" AND agent = ?", text(&self.agent));
        ask(
            " AND seq IN (SELECT seq FROM event_capability WHERE capability = ?)",
            text(&self.capability),
        );
        ask(" AND type = ?", text(&self.event_type));
        ask(" AND outcome = ?", text(&self.outcome));
        ask(" AND tier = ?", text(&self.tier));
        ask(" AND workload = ?", text(&self.workload));
        ask(" AND correlation = ?", text(&self.correlation));
        ask(" AND at >= ?", time(self.since));
        ask(" AND at < ?", time(self.until));
        ask(" AND seq < ?", number(self.before));
        ask(" AND seq > ?", number(self.after));
        let words = self.text.as_deref().map(phrases).filter(|words| !words.is_empty());
        ask(" AND seq IN (SELECT rowid FROM event_text WHERE event_text MATCH ?)", text(&words));
        let order = if self.after.is_some() { "ASC" } else { "DESC" };
        sql.push_str(&format!(" ORDER BY seq {order} LIMIT {limit}"));
        (sql, values)
    }
}

/// The words of `text`, each as a phrase that begins so: nothing in it is an operator.
fn phrases(text: &str) -> String {
    let searchable = |word: &&str| word.chars().any(char::is_alphanumeric);
    // SQLite takes a NUL for the end of the whole search.
    let words = text.split(|c: char| c.is_whitespace() || c == '\0').filter(searchable);
    let quoted: Vec<_> = words.map(|word| format!("\"{}\" *", word.replace('"', "\"\""))).collect();
    quoted.join(" ")
}

/// As the index does, nearly: without it, words are found inside others too.
fn has_words(line: &str, text: &str) -> bool {
    let line = line.to_lowercase();
    text.split_whitespace().all(|word| line.contains(&word.to_lowercase()))
}

/// The capabilities `event` is about.
pub(super) fn capabilities(event: &Event) -> BTreeSet<String> {
    let listed = LISTS.iter().filter_map(|list| event.detail.as_ref()?.get(list)?.as_array());
    let named = listed.flatten().filter_map(|item| {
        let name = ["id", "capability", "capabilityId"].iter().find_map(|key| item.get(key));
        name.unwrap_or(&Value::Null).as_str()
    });
    event.capability_id.as_deref().into_iter().chain(named).map(str::to_owned).collect()
}
