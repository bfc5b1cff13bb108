//! `plexus pending --watch`: what begins to wait for the owner, as it does.
//!
//! 1. The gateway is listened to before it is asked what waits, so that nothing falls between the two.
//! 2. An event only says that it is worth asking again; what is shown is always the gateway's own list.

use std::collections::HashSet;
use std::io;

use super::Exit;
use super::client::{Client, ClientError};
use super::output::{Answer, Failure, Format, Layout, say, say_json};
use super::pending::{Waiting, waiting};

/// Shows what waits, then what comes, until interrupted or no one reads any more.
pub(super) async fn pending(format: Format) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let mut events = client.listen().await?;
    let mut shown = HashSet::new();
    let mut ask = true;
    loop {
        if ask && show_new(&client, format, &mut shown).await?.is_err() {
            return Ok(Answer::said());
        }
        let line = tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Answer::said()),
            line = events.next() => line.map_err(ClientError::from)?,
        };
        let Some(line) = line else {
            let message = "the gateway has stopped; start it with `plexus serve`";
            return Err(Failure::new(Exit::Unreachable, "unreachable", message));
        };
        ask = is_news(&line);
    }
}

/// Whether a line of the stream says that something may wait which did not before. The manifest's word
/// counts: it comes first when events were lost.
fn is_news(line: &str) -> bool {
    matches!(line, "event: pending_added" | "event: manifest_changed")
}

/// Shows what waits and was not shown; what waits no more is forgotten. The inner error is that no one
/// reads.
async fn show_new(
    client: &Client,
    format: Format,
    shown: &mut HashSet<String>,
) -> Result<io::Result<()>, Failure> {
    let items = waiting(client).await?;
    let fresh = items.iter().filter(|item| !shown.contains(&item.id));
    let said = fresh.into_iter().try_for_each(|item| show(item, format));
    *shown = items.into_iter().map(|item| item.id).collect();
    Ok(said)
}

fn show(item: &Waiting, format: Format) -> io::Result<()> {
    match format {
        Format::Text => item.lines.iter().try_for_each(|line| say(line)),
        Format::Json => {
            say_json("pending.item", &serde_json::json!({"item": item.raw}), Layout::Line)
        }
    }
}
