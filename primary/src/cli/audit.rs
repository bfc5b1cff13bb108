//! `plexus audit`: the record of everything that happened.

mod export;
mod filters;

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use plexus_mesh_proto::identity::{NodeKey, PublicKey};
use plexus_shared::audit::{Event, VerifyReport, verify_by};
use plexus_shared::ids::AgentId;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::export::ExportArgs;
use self::filters::Filters;
use super::Exit;
use super::client::{Client, read};
use super::output::{Answer, Failure, Format, Layout, count, say, say_json};
use super::stop::Stop;
use super::units::clock;
use crate::app::NODE_IDENTITY;
use crate::config::{CONNECTION_KEY, home};

/// Events asked for at a time.
const PAGE: usize = 100;
/// How often the log is looked at when it is followed.
const POLL: Duration = Duration::from_secs(1);
/// The longest detail on a line, in characters.
const MAX_DETAIL: usize = 100;

/// `plexus audit …`
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Show the newest events, oldest of them first.
    Tail(TailArgs),
    /// Show the events that match, the newest first.
    #[command(visible_alias = "search")]
    Query(QueryArgs),
    /// Write the events that match to a file, oldest first, each the very line of the log.
    Export(ExportArgs),
    /// Walk the whole log and check that no line was changed, moved or cut out.
    Verify(VerifyArgs),
}

/// `plexus audit tail`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus audit tail -n 50 --agent claude --outcome denied
  plexus audit tail --type invoke --follow
  plexus audit tail --follow --json | jq .event

With --follow, --json prints one document for each event, each on a line of its own.")]
pub(super) struct TailArgs {
    /// How many events.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    lines: usize,
    #[command(flatten)]
    filters: Filters,
    /// Go on and show what happens, until interrupted.
    #[arg(short, long)]
    follow: bool,
}

/// `plexus audit query`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus audit query --agent claude --outcome denied --since 2026-06-01T00:00:00Z
  plexus audit query --text 'notes.file.write budget' --limit 100 --json")]
pub(super) struct QueryArgs {
    #[command(flatten)]
    filters: Filters,
    /// How many events, at most 500.
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Only those before this one: the number that the page before ended with.
    #[arg(long, value_name = "NUMBER")]
    cursor: Option<u64>,
}

/// `plexus audit verify`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus audit verify
  plexus audit verify --online --json")]
pub(super) struct VerifyArgs {
    /// Read the files of the state folder here, whether or not a gateway runs. This is the default.
    #[arg(long, conflicts_with = "online")]
    offline: bool,
    /// Ask the running gateway to walk its log.
    #[arg(long)]
    online: bool,
}

/// Runs `plexus audit …`.
pub(super) async fn run(command: AuditCommand, format: Format) -> Result<Answer, Failure> {
    match command {
        AuditCommand::Tail(args) if args.follow => follow(&args, format).await,
        AuditCommand::Tail(args) => tail(&args).await,
        AuditCommand::Query(args) => query(&args).await,
        AuditCommand::Export(args) => export::run(&args).await,
        AuditCommand::Verify(args) if args.online => verify_online().await,
        AuditCommand::Verify(VerifyArgs { offline: _, online: _ }) => verify_offline(),
    }
}

async fn tail(args: &TailArgs) -> Result<Answer, Failure> {
    let rows = newest(&Client::find()?, args).await?;
    let lines: Vec<_> = rows.iter().map(|row| line(&row.event)).collect();
    let raw: Vec<_> = rows.into_iter().map(|row| row.raw).collect();
    let answer = Answer::new("audit.tail", json!({ "events": raw })).lines(lines);
    Ok(if raw.is_empty() { answer.note("there are no such events yet") } else { answer })
}

async fn query(args: &QueryArgs) -> Result<Answer, Failure> {
    let cursor = args.cursor.map(|cursor| ("cursor", cursor));
    let path = args.filters.path(usize::from(args.limit), cursor);
    let (rows, next) = page(&Client::find()?, &path).await?;
    let lines: Vec<_> = rows.iter().map(|row| line(&row.event)).collect();
    let raw: Vec<_> = rows.into_iter().map(|row| row.raw).collect();
    let mut data = json!({ "events": raw });
    if let Some(next) = next {
        data["nextCursor"] = json!(next);
    }
    let answer = Answer::new("audit.query", data).lines(lines);
    Ok(match next {
        _ if raw.is_empty() => answer.note("there are no such events"),
        Some(next) => answer.note(format!("there may be more: --cursor {next}")),
        None => answer,
    })
}

/// An event, and the very document the gateway showed of it.
struct Row {
    event: Event,
    raw: Value,
}

/// A page of events, and where the next one begins.
async fn page(client: &Client, path: &str) -> Result<(Vec<Row>, Option<u64>), Failure> {
    let page: Value = client.get(path).await?;
    let events = page["events"].as_array().into_iter().flatten();
    let row = |raw: &Value| Ok(Row { event: read(raw)?, raw: raw.clone() });
    let rows = events.map(row).collect::<Result<_, Failure>>()?;
    Ok((rows, page["nextCursor"].as_u64()))
}

/// The newest events that `args` asks for, oldest first.
async fn newest(client: &Client, args: &TailArgs) -> Result<Vec<Row>, Failure> {
    let (mut rows, mut cursor) = (Vec::new(), None);
    while rows.len() < args.lines {
        let path = args.filters.path((args.lines - rows.len()).min(PAGE), cursor);
        let (more, next) = page(client, &path).await?;
        rows.extend(more);
        cursor = next.map(|next| ("cursor", next));
        if cursor.is_none() {
            break;
        }
    }
    rows.reverse();
    Ok(rows)
}

/// The events after number `seen`, in their order.
async fn since(client: &Client, args: &TailArgs, seen: u64) -> Result<Vec<Row>, Failure> {
    let (rows, _) = page(client, &args.filters.path(PAGE, Some(("after", seen)))).await?;
    Ok(rows)
}

/// Shows what is there, then what comes, until interrupted or no one reads any more.
async fn follow(args: &TailArgs, format: Format) -> Result<Answer, Failure> {
    Stop::or(go_on(args, format)).await
}

async fn go_on(args: &TailArgs, format: Format) -> Result<Answer, Failure> {
    let client = Client::find()?;
    // Whatever it is, the newest event says where to go on.
    let (newest_of_all, _) = page(&client, &Filters::default().path(1, None)).await?;
    let mut rows = newest(&client, args).await?;
    let last = |rows: &[Row]| rows.last().map(|row| row.event.seq);
    let mut seen = last(&rows).max(last(&newest_of_all)).unwrap_or(0);
    let mut polls = tokio::time::interval(POLL);
    loop {
        if rows.iter().try_for_each(|row| show(row, format)).is_err() {
            return Ok(Answer::said());
        }
        if rows.len() < PAGE {
            polls.tick().await;
        }
        rows = since(&client, args, seen).await?;
        seen = last(&rows).unwrap_or(seen);
    }
}

fn show(row: &Row, format: Format) -> io::Result<()> {
    match format {
        Format::Text => say(&line(&row.event)),
        Format::Json => say_json("audit.event", &json!({"event": row.raw}), Layout::Line),
    }
}

/// An event on one line: number, time, node, type, outcome, agent, what it was about.
fn line(event: &Event) -> String {
    let node = event.workload.as_deref().unwrap_or("-");
    let outcome = event.outcome.map_or("-", |outcome| outcome.as_str());
    let agent = event.agent_id.as_ref().map_or("-", AgentId::as_str);
    let verbs = event.verbs.map(|verbs| verbs.to_string());
    let detail = event
        .detail
        .as_ref()
        .map(|detail| crate::trust::narration::plain(&detail.to_string(), MAX_DETAIL));
    let about = [verbs, event.capability_id.clone(), detail];
    let about: Vec<_> = about.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    format!(
        "{:>6}  {}  {node:<10}  {:<15}  {outcome:<6}  {agent:<14}  {}",
        event.seq,
        clock(event.at),
        event.event_type.as_str(),
        about.join(" "),
    )
    .trim_end()
    .to_owned()
}

#[derive(Deserialize)]
struct Bad {
    file: String,
    line: u64,
    reason: String,
}

async fn verify_online() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.get("audit/verify").await?;
    let (files, events): (usize, u64) = (read(&data["files"])?, read(&data["events"])?);
    let bad: Option<Bad> = read(&data["firstBad"])?;
    let bad = bad.map(|bad| format!("{}:{}: {}", bad.file, bad.line, bad.reason));
    let signed = data["signedThrough"].as_u64();
    Ok(tell(data, files, events, bad, signed))
}

fn verify_offline() -> Result<Answer, Failure> {
    let home = home().ok_or(super::client::ClientError::NoHome)?;
    let report = walk_in(&home)?;
    let folder = home.join("audit");
    let bad = report
        .first_bad
        .as_ref()
        .map(|bad| format!("{}:{}: {}", folder.join(&bad.file).display(), bad.line, bad.reason));
    let mut data = json!(report);
    data["ok"] = json!(bad.is_none());
    data["folder"] = json!(folder.display().to_string());
    let answer = tell(data, report.files, report.events, bad, report.signed_through);
    Ok(match report.incomplete_bytes {
        0 => answer,
        n => answer.note(format!(
            "{n} bytes after the last line are no whole line: one is being written, or a power loss cut \
             it; the next start moves it aside"
        )),
    })
}

/// Walks the log of the state folder `home`. Where a gateway has lived, a log that is gone is a fault.
fn walk_in(home: &Path) -> Result<VerifyReport, Failure> {
    let folder = home.join("audit");
    if folder.is_dir() {
        return verify_by(&folder, own_key(home)?).map_err(|error| {
            let message = format!("cannot read the audit log in {}: {error}", folder.display());
            Failure::new(Exit::Failed, "failed", message)
        });
    }
    let folder = folder.display();
    if home.join(CONNECTION_KEY).exists() {
        let message =
            format!("{folder} is gone, and a gateway has run here; restore it from a backup");
        return Err(Failure::new(Exit::Integrity, "integrity", message));
    }
    Err(Failure::usage(format!(
        "there is no audit log in {folder}; set PLEXUS_HOME to the folder a gateway has run in"
    )))
}

/// The key that signs here, when there is one yet.
fn own_key(home: &Path) -> Result<Option<PublicKey>, Failure> {
    let path = home.join(NODE_IDENTITY);
    let unusable = |why: &dyn std::fmt::Display| {
        let message = format!("{} can't be used: {why}", path.display());
        Failure::new(Exit::Integrity, "integrity", message)
    };
    match std::fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => {
            let key = NodeKey::from_seed_hex(text.trim_end()).map_err(|error| unusable(&error))?;
            Ok(Some(key.public()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&error)),
    }
}

fn tell(
    data: Value,
    files: usize,
    events: u64,
    bad: Option<String>,
    signed: Option<u64>,
) -> Answer {
    let signed = match signed {
        Some(through) => format!("signed up to event {through}"),
        None => "not signed yet".to_owned(),
    };
    let answer = Answer::new("audit.verify", data);
    let events = count(usize::try_from(events).unwrap_or(usize::MAX), "event", "events");
    let files = count(files, "file", "files");
    match bad {
        None => answer.line(format!(
            "the log is whole: {events} in {files}, each follows the one before; {signed}"
        )),
        Some(bad) => answer
            .line(format!("the log is NOT whole; good up to there: {events}"))
            .note(format!("{bad}; keep the file as it is and compare it with a backup"))
            .exit(Exit::Integrity),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_event_is_one_line_without_trailing_blanks() {
        let event = json!({
            "id": "evt_01K5XY2M7Q8R9S0T1V2W3X4Y5Z", "at": "2026-06-23T11:00:05Z", "type": "invoke",
            "agentId": "claude", "capabilityId": "notes.file.read", "verbs": ["read"],
            "outcome": "ok", "tier": "proxy", "workload": "nas", "seq": 42, "prev": "", "hash": "",
        });
        let event: Event = read(&event).unwrap();
        assert_eq!(
            line(&event),
            "    42  2026-06-23 11:00:05Z  nas         invoke           ok      claude          \
             read notes.file.read"
        );
    }

    #[test]
    fn a_log_that_is_gone_is_a_fault_only_where_a_gateway_has_lived() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(walk_in(home.path()).unwrap_err().ends_with(), Exit::Usage);
        std::fs::write(home.path().join(CONNECTION_KEY), "x").unwrap();
        assert_eq!(walk_in(home.path()).unwrap_err().ends_with(), Exit::Integrity);
        std::fs::create_dir(home.path().join("audit")).unwrap();
        assert_eq!(walk_in(home.path()).unwrap().events, 0);
    }
}
