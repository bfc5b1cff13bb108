//! `plexus settings`, `network`, `key`, `panic`, `resume`: the gateway itself.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::output::{Answer, Failure, word};
use crate::config::CONNECTION_KEY;

/// `plexus settings`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus settings
  plexus settings set tokenLifetimeMs=600000 policy=confirm-all
  plexus settings set rateLimits.concurrentCalls=16

A change is in force at once. `plexus settings set KEY=` gives a setting its default back.")]
pub(super) struct SettingsArgs {
    #[command(subcommand)]
    command: Option<SettingsCommand>,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// Show what is in force.
    #[command(after_help = "Example:\n  plexus settings show")]
    Show,
    /// Change some; the others stay as they are.
    #[command(after_help = "\
Examples:
  plexus settings set maxTrustWindowMs=86400000
  plexus settings set policy=")]
    Set {
        /// What to what: policy=confirm-all
        #[arg(value_name = "KEY=VALUE", required = true)]
        pairs: Vec<String>,
    },
}

/// `plexus network`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus network
  plexus network set listen=192.168.1.5:7443 allowedHosts=gateway.home:7443
  plexus network set listen=

A change holds from the next start. Loopback is always open; every other address speaks TLS.")]
pub(super) struct NetworkArgs {
    #[command(subcommand)]
    command: Option<NetworkCommand>,
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Show where the gateway can be reached now, and what the next start opens.
    #[command(after_help = "Example:\n  plexus network show")]
    Show,
    /// Change what the next start opens; the other lists stay as they are.
    #[command(after_help = "\
Examples:
  plexus network set listen=0.0.0.0:7443 allowedHosts=192.168.1.5:7443,gateway.home:7443
  plexus network set allowedOrigins=https://console.home")]
    Set {
        /// Which list has what in it: listen=192.168.1.5:7443
        #[arg(value_name = "LIST=A,B", required = true)]
        pairs: Vec<String>,
    },
}

/// `plexus key …`
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a new key and end the old one, with every session it opened. No agent is touched.
    #[command(after_help = "\
Examples:
  plexus key rotate
  plexus key rotate --show

The new key is kept in the state folder, where every command finds it; --show prints it, once, for other \
clients of yours.")]
    Rotate {
        /// Print the new key.
        #[arg(long)]
        show: bool,
    },
}

/// Runs `plexus settings …`.
pub(super) async fn run(args: SettingsArgs) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let data: Value = client.get("settings").await?;
    let Some(SettingsCommand::Set { pairs }) = args.command else {
        let lines = told("", &data["settings"]);
        return Ok(Answer::new("settings", data).lines(lines));
    };
    let mut settings = data["settings"].clone();
    for pair in &pairs {
        let (key, value) = split(pair, "settings")?;
        set(&mut settings, key, value);
    }
    let data: Value = client.put("settings", &settings).await?;
    let lines = told("", &data["settings"]);
    Ok(Answer::new("settings", data).lines(lines))
}

/// Runs `plexus network …`.
pub(super) async fn network(args: NetworkArgs) -> Result<Answer, Failure> {
    let client = Client::find()?;
    let data: Value = client.get("network").await?;
    let Some(NetworkCommand::Set { pairs }) = args.command else {
        let urls = data["reach"]["urls"].as_array().into_iter().flatten();
        let urls: Vec<_> = urls.filter_map(Value::as_str).collect();
        let now = format!("reached now at {}", urls.join(", "));
        let lines = told("", &data["network"]);
        let title = "the next start opens, beside loopback:".to_owned();
        return Ok(Answer::new("network", data).line(now).line(title).lines(indented(&lines)));
    };
    let mut network = data["network"].clone();
    for pair in &pairs {
        let (list, items) = split(pair, "network")?;
        let items: Vec<_> = items.split(',').filter(|item| !item.is_empty()).collect();
        network[list] = json!(items);
    }
    let data: Value = client.post("network", &network).await?;
    let lines = told("", &data["network"]);
    let answer = Answer::new("network", data).line("the next start opens, beside loopback:");
    Ok(answer.lines(indented(&lines)).note("restart the gateway for it to take effect"))
}

fn indented(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| format!("  {line}")).collect()
}

fn split<'a>(pair: &'a str, command: &str) -> Result<(&'a str, &'a str), Failure> {
    pair.split_once('=').ok_or_else(|| {
        Failure::usage(format!("{pair:?} is not KEY=VALUE; `plexus {command}` lists the keys"))
    })
}

/// Sets `key` (`a.b`) in `settings`; the gateway judges both. Without a value it has its default.
fn set(settings: &mut Value, key: &str, value: &str) {
    let (outer, inner) = key.split_once('.').map_or((key, None), |(a, b)| (a, Some(b)));
    let target = match inner {
        None => settings,
        Some(_) => &mut settings[outer],
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    let name = inner.unwrap_or(outer).to_owned();
    match value {
        "" => members.shift_remove(&name),
        // A number where it is one, and a word otherwise.
        value => {
            members.insert(name, value.parse::<u64>().map_or_else(|_| json!(value), Value::from))
        }
    };
}

fn told(prefix: &str, settings: &Value) -> Vec<String> {
    let members = settings.as_object().into_iter().flatten();
    let lines = members.flat_map(|(name, value)| match value {
        Value::Object(_) => told(&format!("{prefix}{name}."), value),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(word).collect();
            vec![format!("{prefix}{name}={}", items.join(","))]
        }
        Value::String(word) => vec![format!("{prefix}{name}={word}")],
        value => vec![format!("{prefix}{name}={value}")],
    });
    lines.collect()
}

/// Runs `plexus key …`.
pub(super) async fn key(command: KeyCommand) -> Result<Answer, Failure> {
    let KeyCommand::Rotate { show } = command;
    let mut data: Value = Client::find()?.post("key/rotate", &json!({})).await?;
    let key = data["connectionKey"].as_str().unwrap_or_default().to_owned();
    let line = format!("a new key is in force, and in {CONNECTION_KEY} of the state folder");
    if show {
        return Ok(Answer::new("key.rotate", data).line(line).line(format!("  {key}")));
    }
    if let Some(members) = data.as_object_mut() {
        members.remove("connectionKey");
    }
    Ok(Answer::new("key.rotate", data).line(line))
}

/// Runs `plexus panic`.
pub(super) async fn panic() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("panic", &json!({})).await?;
    let ended = &data["ended"];
    let line = format!(
        "frozen: every agent is refused. Sessions ended: {}, tokens: {}, requests denied: {}",
        ended["sessionsEnded"], ended["tokensRevoked"], ended["pendingDenied"]
    );
    Ok(Answer::new("panic", data).line(line).line("let agents in again with `plexus resume`"))
}

/// Runs `plexus resume`.
pub(super) async fn resume() -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("resume", &json!({})).await?;
    Ok(Answer::new("resume", data).line("agents are let in again; each handshakes anew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_changes_what_it_names_and_nothing_else() {
        let mut settings = json!({"policy": "confirm-risky", "rateLimits": {"burst": 1}});
        set(&mut settings, "policy", "confirm-all");
        set(&mut settings, "rateLimits.concurrentCalls", "4");
        set(&mut settings, "rateLimits.burst", "");
        set(&mut settings, "no.such", "x");
        let expected = json!({
            "policy": "confirm-all",
            "rateLimits": {"concurrentCalls": 4},
            "no": {"such": "x"},
        });
        assert_eq!(settings, expected);
    }
}
