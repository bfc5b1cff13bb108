//! `plexus exposure`, `expose`, `hide`: what the owner lets agents see.

use plexus_shared::model::exposure::{ExposureRule, ExposureRules};
use plexus_shared::model::health::Health;
use plexus_shared::model::trust::{Provenance, Sensitivity};
use plexus_shared::model::verb::VerbSet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::output::{Answer, Failure, Table, count, or_dash, word};

/// `plexus expose`, `plexus hide`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus expose 'local/nas/*'
  plexus hide notes.file.write

A rule outlives what it matches: it also speaks of capabilities that come later. Of the rules that \
match, the newest wins.")]
pub(super) struct PatternArgs {
    /// One id, or a pattern over ids: * is any run of characters, ? any one character.
    pattern: String,
}

/// Which word the owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Agents may see it.
    Expose,
    /// They may not.
    Hide,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    grants: VerbSet,
    provenance: Provenance,
    sensitivity: Sensitivity,
    exposed: bool,
    health: Health,
}

/// Runs `plexus exposure`.
pub(super) async fn list() -> Result<Answer, Failure> {
    let client = Client::find()?;
    let (entries, mut data) = client.list("capabilities", "entries").await?;
    let (rules, told) = client.list::<ExposureRule>("exposure", "rules").await?;
    data["rules"] = told["rules"].clone();
    let none = "no capabilities; add some with `plexus sources add` or `plexus mesh invite`";
    let answer = Answer::new("exposure", data).table(table(&entries), none);
    if rules.is_empty() {
        let silent =
            "no rules: what is on this machine is shown, what joins from elsewhere is hidden";
        return Ok(answer.line("").line(silent));
    }
    let shown = |rule: &ExposureRule| {
        format!("  {}  {}", if rule.enabled { "shown " } else { "hidden" }, rule.pattern)
    };
    Ok(answer.line("").line("rules, the last that matches wins:").lines(rules.iter().map(shown)))
}

fn table(entries: &[Entry]) -> Table<6> {
    let mut table = Table::new(["", "CAPABILITY", "VERBS", "CLASS", "SENSITIVITY", "HEALTH"]);
    for entry in entries {
        let health = match &entry.health.detail {
            Some(detail) => format!("{}: {detail}", word(entry.health.status)),
            None => word(entry.health.status),
        };
        table.row([
            if entry.exposed { "shown" } else { "hidden" }.to_owned(),
            entry.id.clone(),
            or_dash(entry.grants),
            word(entry.provenance),
            word(entry.sensitivity),
            health,
        ]);
    }
    table
}

/// Runs `plexus expose` and `plexus hide`.
pub(super) async fn set(args: PatternArgs, said: Word) -> Result<Answer, Failure> {
    let pattern = args.pattern;
    if pattern.is_empty() {
        return Err(Failure::usage(
            "a pattern has at least one character; `plexus exposure` lists ids",
        ));
    }
    let client = Client::find()?;
    let enabled = said == Word::Expose;
    let body = json!({ "enabled": enabled });
    let mut data: Value = client.post(&format!("exposure/{}", segment(&pattern)), &body).await?;
    let (entries, _) = client.list::<Entry>("capabilities", "entries").await?;
    let matching = matching(&pattern, &entries);
    data["matched"] = json!(matching);
    let (schema, done) = match said {
        Word::Expose => ("expose", "shown"),
        Word::Hide => ("hide", "hidden"),
    };
    let answer = Answer::new(schema, data);
    if matching.is_empty() {
        return Ok(answer.line(format!("rule kept: {pattern} is {done}")).note(format!(
            "no capability matches {pattern:?} now; the rule waits for one. `plexus exposure` lists ids"
        )));
    }
    let title = format!("{done}: {}", count(matching.len(), "capability", "capabilities"));
    Ok(answer.line(title).lines(matching.iter().map(|id| format!("  {id}"))))
}

fn matching<'a>(pattern: &str, entries: &'a [Entry]) -> Vec<&'a str> {
    let rule = ExposureRule { pattern: pattern.to_owned(), enabled: true };
    let rules = ExposureRules::new(vec![rule]);
    entries.iter().map(|entry| entry.id.as_str()).filter(|id| rules.exposed(id, false)).collect()
}
