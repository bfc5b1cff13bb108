//! `plexus audit export`: lines of the log, taken along.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::Exit;
use super::super::client::Client;
use super::super::output::{Answer, Failure, count};
use super::filters::Filters;

/// Events asked for at a time.
const PAGE: usize = 500;

/// `plexus audit export`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus audit export --out june.jsonl --since 2026-06-01T00:00:00Z --until 2026-07-01T00:00:00Z
  plexus audit export --out - --agent claude | jq .capabilityId")]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    filters: Filters,
    /// The file to make, one event a line; - is standard output.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<u64>,
}

/// Runs `plexus audit export`.
pub(super) async fn run(args: &ExportArgs) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let to_stdout = args.out == Path::new("-");
    let failed = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::AlreadyExists => "it is there already; name another".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("{} can't be written: {why}", args.out.display());
        Failure::new(Exit::Failed, "failed", message)
    };
    let mut out: Box<dyn Write + Send> = match to_stdout {
        true => Box::new(io::stdout()),
        false => Box::new(BufWriter::new(make(&args.out).map_err(failed)?)),
    };
    let (mut events, mut after) = (0, 0);
    loop {
        let page: Page = client.get_as(&args.filters.path(PAGE, Some(("after", after)))).await?;
        events += page.events.len();
        for event in &page.events {
            match writeln!(out, "{}", event.get()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(Answer::said());
                }
                written => written.map_err(failed)?,
            }
        }
        match page.next_cursor {
            Some(next) => after = next,
            None => break,
        }
    }
    out.flush().map_err(failed)?;
    if to_stdout {
        return Ok(Answer::said());
    }
    let file = args.out.display().to_string();
    let said = format!("{} in {file}", count(events, "event", "events"));
    Ok(Answer::new("audit.export", json!({"events": events, "file": file})).line(said))
}

/// Makes the file, for its owner alone: what was done is no one else's to read.
fn make(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
