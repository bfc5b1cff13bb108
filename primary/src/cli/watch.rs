//! `plexus pending --watch`: what begins to wait for the owner, as it does.
//!
//! 1. The gateway is listened to before it is asked what waits, so that nothing falls between the two.
//! 2. An event only says that it is worth asking again; what is shown is always the gateway's own list.

use std::collections::HashSet;
use std::io;

use super::Exit;
use super::client::{Client, ClientError};
use super::item::Item;
use super::output::{Answer, Failure, Format, Layout, say, say_json};
use super::pending::{Waiting, waiting};
use super::stop::Stop;
use super::units::now;

/// Shows what waits, then what comes, until told to stop or no one reads any more.
pub(super) async fn pending(format: Format) -> Result<Answer, Failure> {
    Stop::or(watch(format)).await
}

async fn watch(format: Format) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let mut events = client.listen().await?;
    let mut shown = HashSet::new();
    let mut ask = true;
    loop {
        if ask && show_new(&client, format, &mut shown).await?.is_err() {
            return Ok(Answer::said());
        }
        let Some(line) = events.next().await.map_err(ClientError::from)? else {
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
    let ids = items.iter().map(|waits| waits.item.pending_id.clone()).collect();
    let fresh = items.into_iter().filter(|waits| !shown.contains(&waits.item.pending_id));
    let said = fresh.into_iter().try_for_each(|waits| show(waits, format));
    *shown = ids;
    Ok(said)
}

fn show(waits: Waiting, format: Format) -> io::Result<()> {
    match format {
        Format::Text => {
            Item::table(&[waits.item], now()).lines().iter().try_for_each(|line| say(line))
        }
        Format::Json => {
            say_json("pending.item", &serde_json::json!({"item": waits.raw}), Layout::Line)
        }
    }
}
