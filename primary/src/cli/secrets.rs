//! `plexus secret`: what a source is handed at a call, by name. A value goes in and never comes out.

use std::ffi::OsString;

use clap::Subcommand;
use plexus_shared::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, segment};
use super::output::{Answer, Failure, Table};
use super::prompt;
use super::units::{now, relative};

/// `plexus secret …`
#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Keep a value under a name; you are asked for it, or it comes from standard input.
    #[command(after_help = "\
Examples:
  plexus secret put github-token
  plexus secret put github-token < token.txt

A manifest says which secrets its source is handed. The value is never an argument: those are seen by \
others.")]
    Put {
        /// Its name: letters, digits, '-', '_' and '.'.
        name: String,
        /// So that a value given by mistake is not repeated on the screen.
        #[arg(hide = true)]
        value: Vec<OsString>,
    },
    /// List the names, and when each was set; never a value.
    #[command(after_help = "Example:\n  plexus secret list")]
    List,
    /// Forget a value.
    #[command(after_help = "Example:\n  plexus secret delete github-token")]
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Serialize)]
struct Put<'a> {
    value: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretLine {
    name: String,
    updated_at: Timestamp,
}

/// Runs `plexus secret …`.
pub(super) async fn run(command: SecretCommand) -> Result<Answer, Failure> {
    match command {
        SecretCommand::Put { name, value } => put(&name, &value).await,
        SecretCommand::List => list().await,
        SecretCommand::Delete { name } => {
            let data: Value = Client::find()?.delete(&path(&name)).await?;
            Ok(Answer::new("secret.delete", data).line(format!("deleted {name}")))
        }
    }
}

fn path(name: &str) -> String {
    format!("secrets/{}", segment(name))
}

async fn put(name: &str, given: &[OsString]) -> Result<Answer, Failure> {
    if !given.is_empty() {
        return Err(Failure::usage(format!(
            "a value is never an argument, where others can read it; take it for known and choose another, \
             then run `plexus secret put {name}` and type it, or `plexus secret put {name} < FILE`"
        )));
    }
    let client = Client::find()?;
    let value = prompt::secret(&format!("value of {name} (not shown): ")).await?;
    let data: Value = client.post(&path(name), &Put { value: &value }).await?;
    Ok(Answer::new("secret.put", data).line(format!("kept {name}")))
}

async fn list() -> Result<Answer, Failure> {
    let (secrets, data) = Client::find()?.list::<SecretLine>("secrets", "secrets").await?;
    let now = now();
    let mut table = Table::new(["NAME", "SET"]);
    for secret in secrets {
        table.row([secret.name, relative(secret.updated_at, now)]);
    }
    let none = "no secrets; keep one with `plexus secret put NAME`";
    Ok(Answer::new("secret.list", data).table(table, none))
}
