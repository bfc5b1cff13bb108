//! `plexus-proxy join`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use plexus_mesh_proto::limits;
use plexus_mesh_proto::ticket::Ticket;
use serde_json::json;
use zeroize::Zeroizing;

use super::exit::Failure;
use super::output::Output;
use super::{JoinArgs, block_on};
use crate::catalog::Sources;
use crate::config::Config;
use crate::join::{self, Outcome};
use crate::state::State;

pub(super) fn join(output: &Output, args: JoinArgs) -> Result<(), Failure> {
    let JoinArgs { ticket_file, ticket, config, state } = args;
    if let Some(file) = config {
        Sources::open(&Config::load(&file)?, &state)?;
    }
    let text = match (ticket_file, ticket) {
        (Some(file), _) => read_ticket(&file)?,
        (None, Some(ticket)) => {
            output.note(
                "warning: a ticket on the command line can be seen by other users of this machine; \
                 use --ticket-file",
            );
            Zeroizing::new(ticket)
        }
        (None, None) => return Err(Failure::usage("there is no ticket; use --ticket-file")),
    };
    let ticket = Ticket::parse(&text)
        .map_err(|error| Failure::usage(format!("this is no join ticket: it {error}")))?;
    let state = State::open(&state)?;
    let Outcome { joined, known_before } = block_on(join::join(&state, &ticket))??;
    let said = match known_before {
        false => "joined; run `plexus-proxy run` to offer this machine's sources",
        true => "this node had joined before, so the ticket was not used; run `plexus-proxy run`",
    };
    output.result(
        said,
        &json!({
            "ok": true,
            "knownBefore": known_before,
            "primaryKey": joined.primary_key.to_string(),
            "fingerprint": joined.primary_key.fingerprint(),
            "addresses": joined.addresses,
        }),
    );
    Ok(())
}

fn read_ticket(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(format!("{}: the ticket cannot be read: {error}", file.display()))
    };
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    // Space around the ticket is forgiven; more than that is no ticket.
    let most = 2 * limits::TICKET_TEXT;
    let mut text = Zeroizing::new(String::with_capacity(most));
    reader.take(most as u64).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
